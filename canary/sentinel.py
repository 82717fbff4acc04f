"""The dead man's switch: a process of its own that takes the slice away when nobody judges it any more.

It reads the controller's heartbeat, the routes that name a side, and the record of each run whose side has traffic. It
writes zero, with the same brake as everybody, and can write nothing else: its fence is never open. A record is dead
when it was seen unchanged for too long, by our own clock, in looks that followed each other without a gap. So no two
clocks are ever compared, and neither an API server that was away nor our own sleep is taken for a death.
"""

import faulthandler
import logging
import secrets
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from canary.api.marks import TRUE, Mark, side_name
from canary.clock import Clock, WallClock
from canary.errors import CanaryError, RefusedError
from canary.kube import http_transport
from canary.kube.client import Client, FieldManager
from canary.kube.lease import HEARTBEAT_LEASE, HEARTBEAT_SECONDS
from canary.kube.resources import CANARYRUNS, LEASES, Key, Ref, key_of
from canary.traffic.brake import Cut, Object, exposes, places_on, stable_of, sweep
from canary.traffic.route_hands import BRAKED, ClientHands

logger = logging.getLogger(__name__)
LOOK_SECONDS = 2.0
LOOKS_A_CHECKPOINT = 5  # the records of runs are read less often: there may be hundreds
HUNG_SECONDS = 60.0  # a look that takes longer ends the process, and whoever runs it starts it anew
LIMITS = http_transport.Limits(connect_seconds=2.0, read_seconds=5.0)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a record may stand still, after how long an unbroken sight of it, and what gap breaks the sight."""

    stale_seconds: float
    sight_seconds: float
    gap_seconds: float


# 25 s is more than a new leader (12 s), a beat (5 s) and a look; 15 s of sight is more than a controller needs to lead
# (4 s) and to beat (5 s) again after an API server that was away.
BEATS = Patience(HEARTBEAT_SECONDS, 15.0, 6.0)
CHECKPOINTS = Patience(90.0, 30.0, 25.0)  # a run with traffic writes one every 10 s at least


class Pulse:
    """One record that has to change now and then, as we see it."""

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self._record: object = None
        self._changed_at = self._sight_since = self._seen_at = now

    def see(self, record: object, now: float) -> None:
        if now - self._seen_at > self._patience.gap_seconds:
            self._sight_since = now
        if record != self._record:
            self._record, self._changed_at = record, now
        self._seen_at = now

    @property
    def is_dead(self) -> bool:
        still, seen = self._seen_at - self._changed_at, self._seen_at - self._sight_since
        return still >= self._patience.stale_seconds and seen >= self._patience.sight_seconds


class NeverOpen:
    """The fence of somebody who does not lead: only what lowers passes."""

    def leads(self) -> bool:
        return False

    def may_raise(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Armed:
    """A route whose brake may be pulled, and the run that it belongs to."""

    resource: str
    route: Object
    run: Key

    @property
    def cut(self) -> Cut:
        stable = stable_of(self.route)
        return Cut(self.run.namespace, stable, side_name(stable), f"sentinel-{secrets.token_hex(8)}")

    @property
    def exposed(self) -> bool:
        return exposes(self.route, side_name(stable_of(self.route)))

    @property
    def uid(self) -> str:
        return str(self.route["metadata"]["uid"])

    def __str__(self) -> str:
        return f"{self.resource} {self.run.namespace}/{self.route['metadata']['name']}"


class Sentinel:
    """Looks again and again, at the routes of one namespace, or of all."""

    def __init__(self, client: Client, heartbeat: Ref, clock: Clock, namespace: str | None = None) -> None:
        self._client = client
        self._hands = ClientHands(client)
        self._heartbeat = heartbeat
        self._namespace = namespace
        self._clock = clock
        self._controller = Pulse(BEATS, clock.monotonic())
        self._runs: dict[Key, Pulse] = {}
        self._zeroed: set[str] = set()  # uids of routes that got our epoch since their pulse stopped
        self._troubles: dict[str, str] = {}
        self._looks = 0

    def look(self) -> None:
        """Look once, and take the slice from every route whose controller or whose run is dead. Never raises."""
        self._see(self._controller, self._heartbeat, _beat_of)
        armed = list(self._armed())
        self._see_runs({each.run for each in armed if each.exposed})
        dead = [each for each in armed if self._controller.is_dead or self._run_is_dead(each.run)]
        self._zeroed &= {each.uid for each in dead}
        for each in dead:
            if each.exposed or each.uid not in self._zeroed:
                self._zero(each)

    def _run_is_dead(self, run: Key) -> bool:
        return run in self._runs and self._runs[run].is_dead

    def _armed(self) -> Iterator[Armed]:
        for resource in BRAKED.values():
            try:
                routes = self._client.list(resource, self._namespace, selector=f"{Mark.ATTACHED}={TRUE}")
            except CanaryError as error:
                self._note(resource.plural, str(error))
                continue
            self._note(resource.plural, "")
            for route in routes:
                if places_on(resource.plural, route):
                    yield Armed(resource.plural, route, Key(key_of(route).namespace, _run_of(route)))

    def _see_runs(self, exposed: set[Key]) -> None:
        """Take the pulse of every run whose side has traffic; a run that was never seen has none."""
        fresh = exposed - self._runs.keys()
        self._runs = {
            key: self._runs.get(key) or Pulse(CHECKPOINTS, self._clock.monotonic()) for key in exposed
        }
        self._looks += 1
        for key in exposed if self._looks % LOOKS_A_CHECKPOINT == 0 else fresh:
            self._see(self._runs[key], CANARYRUNS.at(key.namespace, key.name), _checkpoint_of)

    def _see(self, pulse: Pulse, ref: Ref, record_of: Callable[[Mapping[str, Any]], object]) -> None:
        """Look at a record. One that is gone, or that we may not read, is seen not to change."""
        try:
            record = record_of(self._client.get(ref) or {})
        except RefusedError as error:
            self._note(str(ref), str(error))
            record = None
        except CanaryError as error:
            self._note(str(ref), str(error))
            return
        else:
            self._note(str(ref), "")
        pulse.see(record, self._clock.monotonic())

    def _zero(self, armed: Armed) -> None:
        why = "no controller beats" if self._controller.is_dead else f"run {armed.run.name} is not looked at"
        try:
            sweep(self._hands, armed.cut, armed.resource, [armed.route])
        except CanaryError as error:
            self._note(str(armed), f"{why}, and the slice could not be taken away: {error}")
            return
        self._zeroed.add(armed.uid)
        logger.warning("%s: %s; all its traffic goes to %s", armed, why, armed.cut.stable)
        self._note(str(armed), "")

    def _note(self, where: str, trouble: str) -> None:
        """Log a trouble when it comes and when it goes, not at every look in between."""
        before = self._troubles.pop(where, "")
        if trouble:
            self._troubles[where] = trouble
        if trouble != before:
            logger.warning("%s: %s", where, trouble or "well again")


def _beat_of(lease: Mapping[str, Any]) -> object:
    return lease.get("spec")


def _checkpoint_of(run: Mapping[str, Any]) -> object:
    return (run.get("status") or {}).get("checkedAt")


def _run_of(route: Object) -> str:
    return str((route["metadata"].get("annotations") or {}).get(Mark.RUN) or "unknown")


def main(words: Sequence[str] | None = None) -> int:
    """Watch until SIGTERM or SIGINT; return the exit code of the process."""
    given = _options(words)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        transport = http_transport.connect(given.kubeconfig, given.context, LIMITS)
    except RefusedError as error:
        logger.error("%s", error)
        return 2
    clock = WallClock()
    with closing(transport):
        client = Client(transport, fence=NeverOpen(), manager=FieldManager.SENTINEL, clock=clock)
        heartbeat = LEASES.at(given.controller_namespace, HEARTBEAT_LEASE)
        sentinel = Sentinel(client, heartbeat, clock, given.namespace or None)
        logger.info("watching %s", heartbeat)
        while not stopping.wait(LOOK_SECONDS):
            faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
            sentinel.look()
            faulthandler.cancel_dump_traceback_later()
    return 0


def _options(words: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        prog="canary-sentinel", description="Take the slice away when no controller beats."
    )
    parser.add_argument("--kubeconfig", default="", metavar="FILE", help="absent: the pod's own account")
    parser.add_argument("--context", default="", metavar="NAME")
    parser.add_argument("-n", "--namespace", default="", metavar="NAME", help="absent: all")
    parser.add_argument(
        "--controller-namespace", default="canary-system", metavar="NAME", help="where the heartbeat is"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
