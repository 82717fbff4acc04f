"""The threads around the ticks: reflectors say what changed, workers look, the schedule makes sure that nothing sleeps.

`start` and `stop` are all that a process needs. On simulated time the controller is not started: `step` takes what
happened and does what is due, on the caller's thread, in an order that depends on nothing but the seed.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from canary.api.reasons import Phase
from canary.core.guards import JUDGED
from canary.errors import CanaryError, ConflictError, InvariantError, UnavailableError
from canary.kube.cache import Change, What, outline
from canary.kube.queue import Lane, Taken, Urgency, WorkQueue
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYREQUESTS,
    CANARYRUNS,
    DEPLOYMENTS,
    SAFETYPOLICIES,
    Key,
    Resource,
    Selection,
)
from canary.kube.watch import Options, Reflector
from canary.operator import orphans
from canary.operator.hands import Hands
from canary.operator.orphans import Orphans
from canary.operator.policies import PolicyTicker
from canary.operator.rulebook import Caches, Rulebook
from canary.operator.safety import SafetyTicker
from canary.operator.schedule import Schedule
from canary.operator.telemetry import Result
from canary.operator.tell import Teller
from canary.operator.tick import RunTicker, Ticked
from canary.operator.whole import Watches

logger = logging.getLogger(__name__)
TAKE_SECONDS, JOIN_SECONDS = 1.0, 10.0
SWEEP_SECONDS = 300.0
LEAST_WAKE_SECONDS = 0.05
FOLLOW_SECONDS = 1.0  # how often a replica that does not lead asks whether it does now
STUCK_SECONDS = 30.0
MAX_STEPS = 10_000
ORPHANS = Key("orphans/", "all")


def work_key(resource: Resource, key: Key) -> Key:
    """Return the queue's key of an object: kind and namespace, then name."""
    return Key(f"{resource.plural}/{key.namespace}", key.name)


def worker_lanes(quick: int, slow: int) -> list[tuple[Lane, ...]]:
    """Return what each worker takes: in each lane some that the other one cannot keep busy."""
    return [(Lane.QUICK,)] * quick + [(Lane.QUICK, Lane.SLOW)] * (slow - 1) + [(Lane.SLOW,)]


class Watcher(Protocol):
    """Told about each look, for telemetry."""

    def looked(self, kind: str, result: Result, seconds: float) -> None: ...

    def waited(self, lane: Lane, seconds: float) -> None: ...

    def moved(self, ticked: Ticked) -> None: ...


class Unwatched:
    """Nobody is told."""

    def looked(self, kind: str, result: Result, seconds: float) -> None: ...

    def waited(self, lane: Lane, seconds: float) -> None: ...

    def moved(self, ticked: Ticked) -> None: ...


class Controller:
    """Everything that runs."""

    def __init__(
        self, hands: Hands, teller: Teller, *, watcher: Watcher | None = None, namespace: str | None = None
    ) -> None:
        self._hands = hands
        self._watcher = watcher or Unwatched()
        self._busy: dict[Key, float] = {}
        self._asked_for: dict[Key, tuple[str, Any]] = {}
        self.queue = WorkQueue(hands.clock)
        self._stopping = threading.Event()
        self._workers: list[threading.Thread] = []
        self.reflectors = [
            Reflector(
                hands.client,
                Selection(resource, namespace),
                self._changed,
                clock=hands.clock,
                options=Options(keep=outline) if resource == DEPLOYMENTS else None,
            )
            for resource in (SAFETYPOLICIES, CANARYPOLICIES, CANARYRUNS, CANARYREQUESTS, DEPLOYMENTS)
        ]
        self._cache = {reflector.resource.plural: reflector for reflector in self.reflectors}
        self._orphans = Orphans(hands, self._cache, namespace)
        self.queue.add(ORPHANS, Urgency.REST, orphans.LOOK_SECONDS)
        caches = Caches(self._cache[SAFETYPOLICIES.plural], self._cache[CANARYRUNS.plural])
        rulebook = Rulebook(hands, caches)
        self._runs = RunTicker(hands, teller, rulebook, Watches(self._cache))
        self._policies = PolicyTicker(hands, rulebook, teller)
        self._safety = SafetyTicker(hands, teller, rulebook, self._cache)

    # -- threads -------------------------------------------------------------------------------------------------

    def start(self, schedule: Schedule, *, quick: int = 4, slow: int = 4) -> None:
        """Start reflectors, workers and the sweep."""
        for reflector in self.reflectors:
            reflector.start()
        for number, taken in enumerate(worker_lanes(quick, slow)):
            name = f"worker-{number}"
            worker = threading.Thread(target=self._work, args=(taken,), name=name, daemon=True)
            worker.start()
            self._workers.append(worker)
        schedule.every(SWEEP_SECONDS, self.sweep, "sweep")

    def stop(self) -> None:
        """Let the looks under way end, then stop everything."""
        self._stopping.set()
        self.queue.stop()
        for reflector in self.reflectors:
            reflector.stop()
        for worker in self._workers:
            worker.join(JOIN_SECONDS)

    @property
    def unfilled(self) -> str:
        """Return which caches have not been filled yet, and why not; empty: all are."""
        empty = (each for each in self.reflectors if not each.synced)
        return "; ".join(f"{each.resource.plural}: {each.trouble or 'not listed yet'}" for each in empty)

    def sweep(self) -> None:
        """Look at everything again, whatever the watches said."""
        for resource in (SAFETYPOLICIES, CANARYPOLICIES, CANARYRUNS):
            for obj in self._cache[resource.plural].list():
                meta = obj["metadata"]
                self.queue.add(work_key(resource, Key(meta.get("namespace", ""), meta["name"])))

    def _work(self, lanes: Sequence[Lane]) -> None:
        while not self._stopping.is_set():
            taken = self.queue.take(lanes, TAKE_SECONDS)
            if taken is not None:
                self._look(taken)

    # -- simulated time --------------------------------------------------------------------------------------------

    def step(self) -> int:
        """Take what happened and do everything that is due; return how many looks that were."""
        for reflector in self.reflectors:
            reflector.poll()
        for looks in range(MAX_STEPS):
            taken = self.queue.take_due()
            if taken is None:
                return looks
            self._look(taken)
        raise InvariantError(f"{MAX_STEPS} looks in one step: something never comes to rest")

    # -- one look --------------------------------------------------------------------------------------------------

    def _look(self, taken: Taken) -> None:
        """Look once, if we lead; whatever comes of it, the key is given back to the queue."""
        if not self._hands.fence.leads():
            self.queue.done(taken.key)
            self.queue.add(taken.key, taken.urgency, FOLLOW_SECONDS)
            return
        began = self._hands.clock.monotonic()
        self._busy[taken.key] = began
        self._watcher.waited(taken.urgency.lane, taken.waited_seconds)
        try:
            result = self._guarded(taken)
        finally:
            self._busy.pop(taken.key, None)
        kind = taken.key.namespace.partition("/")[0]
        self._watcher.looked(kind, result, self._hands.clock.monotonic() - began)

    def stuck(self) -> str:
        """Return what a worker has been busy with for too long; empty: nothing."""
        now = self._hands.clock.monotonic()
        late = [key for key, began in dict(self._busy).items() if now - began > STUCK_SECONDS]
        return f"a look at {late[0].name} has been under way for over {STUCK_SECONDS:.0f} s" if late else ""

    def behind(self) -> str:
        """Return why the runs that have traffic are not looked at; empty: they are."""
        due = self.queue.next_due((Lane.QUICK,))
        late = due is not None and self._hands.clock.monotonic() - due > STUCK_SECONDS
        return f"no worker took a run with traffic for over {STUCK_SECONDS:.0f} s" if late else self.stuck()

    def _guarded(self, taken: Taken) -> Result:
        """Look once. This is the one place where every error ends: a poison object costs only itself."""
        plural, namespace = taken.key.namespace.split("/", 1)
        key = Key(namespace, taken.key.name)
        try:
            delay, urgency = self._tick(plural, key)
        except ConflictError as error:
            logger.debug("look at %s dropped: %s", key, error)
            self.queue.failed(taken.key)
            return Result.CONFLICT
        except UnavailableError as error:
            logger.warning("look at %s: %s", key, error)
            self.queue.failed(taken.key, error.retry_after_seconds)
            return Result.UNAVAILABLE
        except CanaryError as error:
            logger.error("look at %s refused: %s", key, error)
            self.queue.failed(taken.key)
            return Result.REFUSED
        except Exception:
            logger.exception("look at %s failed: a defect of ours", key)
            self.queue.failed(taken.key)
            return Result.DEFECT
        self.queue.done(taken.key)
        if delay is None:
            self.queue.forget(taken.key)
        else:
            self.queue.add(taken.key, urgency, max(LEAST_WAKE_SECONDS, delay))
        return Result.DONE

    def _tick(self, plural: str, key: Key) -> tuple[float | None, Urgency]:
        if plural == "orphans":
            return self._orphans.look(), Urgency.REST
        if plural == SAFETYPOLICIES.plural:
            return self._safety.tick(key.name), Urgency.REST
        if plural == CANARYPOLICIES.plural:
            return self._policies.tick(key), Urgency.REST
        ticked = self._runs.tick(key)
        if ticked is None:
            return None, Urgency.REST
        self._watcher.moved(ticked)
        if ticked.concerns_policy:
            self.queue.add(work_key(CANARYPOLICIES, Key(key.namespace, ticked.after.spec.policy_ref.name)))
        return ticked.wake_seconds, _urgency(ticked)

    # -- what changed ----------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        """Turn a change of an object into a look at the policy or the run that it concerns."""
        key = change.key
        if change.resource in (SAFETYPOLICIES, CANARYPOLICIES, CANARYRUNS):
            if not self._is_our_own_word(change):
                self.queue.add(work_key(change.resource, key))
            if change.what is What.DELETED:
                self.queue.add(ORPHANS, Urgency.LOWERING)
        elif change.resource == CANARYREQUESTS:
            self._asked(key)
        elif change.resource == DEPLOYMENTS:
            self._deployed(key)

    def _is_our_own_word(self, change: Change) -> bool:
        """Tell whether only the status moved, which nobody but us writes: it wakes nobody, or we wake ourselves."""
        key = work_key(change.resource, change.key)
        if change.what is What.DELETED:
            self._asked_for.pop(key, None)
            return False
        stored = self._cache[change.resource.plural].get(change.key) or {"metadata": {}}
        asked_for = (change.uid, stored["metadata"].get("generation"))
        same = self._asked_for.get(key) == asked_for
        self._asked_for[key] = asked_for
        return same

    def _asked(self, key: Key) -> None:
        request = self._cache[CANARYREQUESTS.plural].get(key)
        subject: Mapping[str, Any] = ((request or {}).get("spec") or {}).get("subject") or {}
        kind, name = subject.get("kind", CANARYRUNS.kind), subject.get("name", "")
        if kind == SAFETYPOLICIES.kind and key.namespace == self._hands.system and name:
            self.queue.add(work_key(SAFETYPOLICIES, Key("", name)))
        if kind == CANARYPOLICIES.kind:
            self.queue.add(work_key(CANARYPOLICIES, Key(key.namespace, name)))
        if kind != CANARYRUNS.kind or not name:
            return
        run = Key(key.namespace, name)
        self.queue.add(work_key(CANARYRUNS, run), Urgency.LOWERING)
        stored = self._cache[CANARYRUNS.plural].get(run)
        policy = (((stored or {}).get("spec") or {}).get("policyRef") or {}).get("name")
        if policy:
            self.queue.add(work_key(CANARYPOLICIES, Key(key.namespace, policy)))

    def _deployed(self, key: Key) -> None:
        for obj in self._cache[CANARYPOLICIES.plural].list(key.namespace):
            target = ((obj.get("spec") or {}).get("target") or {}).get("name")
            if target == key.name:
                self.queue.add(work_key(CANARYPOLICIES, Key(key.namespace, obj["metadata"]["name"])))
        for obj in self._cache[CANARYRUNS.plural].list(key.namespace):
            target = ((obj.get("spec") or {}).get("target") or {}).get("name")
            tidied = (obj.get("status") or {}).get("tidiedAt")
            if target == key.name and not tidied:
                self.queue.add(work_key(CANARYRUNS, Key(key.namespace, obj["metadata"]["name"])))


def _urgency(ticked: Ticked) -> Urgency:
    status = ticked.after.status
    if status.phase is Phase.ROLLING_BACK:
        return Urgency.LOWERING
    return Urgency.EXPOSED if status.phase in JUDGED or status.traffic.weight_ppm else Urgency.REST
