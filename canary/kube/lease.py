"""Who leads: one Lease, held by the process whose writes count.

The elector is the client's fence: `leads` and `may_raise` are asked before every write that does not lower.
A renewal counts from before its request was sent, on a clock that also counts suspension, so a process that
was stopped for ten minutes finds itself without the lease before it can send a byte. Nobody compares wall
clocks: a candidate takes over when it has itself seen the record unchanged for a whole lease. `try_once` is
one attempt, for simulated time; `start` repeats it in a thread of its own, over a transport of its own.
"""

import secrets
import threading
from dataclasses import dataclass
from random import Random
from typing import Any

from canary.api.types import format_timestamp
from canary.clock import Clock
from canary.errors import CanaryError, RefusedError, UnavailableError
from canary.kube.client import AlreadyExistsError, Client, Intent
from canary.kube.resources import LEASES, Ref
from canary.kube.transport import Json

ELECTION_LEASE = "canary-controller"
HEARTBEAT_LEASE = "canary-controller-heartbeat"
HEARTBEAT_SECONDS = 25  # how old a heartbeat may grow before the sentinel acts
UNKNOWN_HOLDER = "?"  # of a record that we cannot read, and of one that keeps the place of a deleted one
JITTER = (0.8, 1.2)
STOP_JOIN_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Term:
    """The times of an election. A request of the elector may take a third of `renew_seconds`, no more."""

    lease_seconds: float = 10.0
    renew_seconds: float = 7.0
    retry_seconds: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < 2 * self.retry_seconds < self.renew_seconds < self.lease_seconds:
            raise RefusedError(f"{self}: need twice the retry < renew deadline < lease")


def new_identity(name: str) -> str:
    """Return a holder name that no other process has, nor this one after a restart."""
    return f"{name}_{secrets.token_hex(4)}"


class Elector:
    """Holds the Lease or waits for it. `leads` and `may_raise` may be asked from any thread at any time."""

    def __init__(
        self, client: Client, ref: Ref, identity: str, *, clock: Clock, term: Term | None = None
    ) -> None:
        self._client = client
        self._ref = ref
        self._identity = identity
        self._clock = clock
        self._term = term or Term()
        self._random = Random(identity)
        self._renewed_at: float | None = None
        self._has_looked = False
        self._record: tuple[Any, Json] | None = None  # uid and spec, as last seen
        self._record_since = 0.0
        self._floor_seconds = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble = ""  # why the last attempt failed; empty where it did not

    def leads(self) -> bool:
        return self._age() < self._term.renew_seconds

    def may_raise(self) -> bool:
        return self._age() < self._term.renew_seconds / 2

    def try_once(self) -> bool:
        """Renew, or take what is free; tell whether we lead. What went wrong is in `trouble`."""
        started = self._clock.monotonic()
        self.trouble, self._floor_seconds = "", 0.0
        try:
            held = self._hold()
            self._renewed_at = started if held else None
        except UnavailableError as error:
            self.trouble, self._floor_seconds = str(error), error.retry_after_seconds
        except CanaryError as error:
            self.trouble = str(error)
        return self.leads()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="elector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop leading, then give the Lease back so that a successor need not wait for it to run out."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_JOIN_SECONDS)
        self.release()

    def release(self) -> None:
        """Give the Lease back if it is ours; from before the request on, we do not lead."""
        self._renewed_at = None
        try:
            lease = self._client.get(self._ref)
            if lease is not None and _holder(lease) == self._identity:
                self._write(
                    lease, {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._now()}
                )
        except CanaryError as error:
            self.trouble = str(error)

    def _age(self) -> float:
        renewed = self._renewed_at
        if renewed is None or self._stopping.is_set():
            return float("inf")
        return self._clock.monotonic() - renewed

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.try_once()
            wait = self._term.retry_seconds * self._random.uniform(*JITTER)
            self._stopping.wait(max(wait, min(self._floor_seconds, self._term.lease_seconds)))

    def _hold(self) -> bool:
        """Try to be the holder; tell whether the API server agreed."""
        lease = self._client.get(self._ref)
        first_look, self._has_looked = not self._has_looked, True
        if lease is None:
            return self._create(first_look or self.leads())
        unchanged_seconds = self._observe(lease)
        if _holder(lease) == self._identity:
            return self._write(lease, self._renewal())
        if _holder(lease) == "" or unchanged_seconds >= self._term.lease_seconds:
            return self._write(lease, self._takeover(lease))
        return False

    def _observe(self, lease: Json) -> float:
        """Return for how many seconds we have seen the record as it is."""
        now = self._clock.monotonic()
        record = (lease["metadata"].get("uid"), _spec(lease))
        if record != self._record:
            self._record, self._record_since = record, now
        return now - self._record_since

    def _renewal(self) -> Json:
        seconds = max(1, round(self._term.lease_seconds))
        return {"holderIdentity": self._identity, "leaseDurationSeconds": seconds, "renewTime": self._now()}

    def _takeover(self, lease: Json) -> Json:
        former = _spec(lease).get("leaseTransitions")
        transitions = former + 1 if isinstance(former, int) else 1
        return {**self._renewal(), "acquireTime": self._now(), "leaseTransitions": transitions}

    def _create(self, ours: bool) -> bool:
        """Make the Lease that is not there: ours if it was, or if there never was one that we know of.

        Otherwise somebody deleted the Lease of a leader that may not know it yet. An absence has no version by which
        to tell that nothing happened meanwhile, so a record of nobody's is made and waited for like any other.
        """
        holder = self._identity if ours else UNKNOWN_HOLDER
        times = {"acquireTime": self._now(), "leaseTransitions": 0}
        spec = {**self._renewal(), **times, "holderIdentity": holder}
        self._client.create(LEASES, self._ref.manifest(spec=spec), intent=Intent.NEUTRAL)
        return ours

    def _write(self, lease: Json, spec: Json) -> bool:
        patch = {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": spec}
        return self._client.merge_patch(self._ref, patch, intent=Intent.NEUTRAL) is not None

    def _now(self) -> str:
        return format_timestamp(self._clock.now())


class Heartbeat:
    """The sign of life that the sentinel watches: renewed only by a leader whose lanes get their work done."""

    def __init__(self, client: Client, ref: Ref, identity: str, *, clock: Clock) -> None:
        self._client = client
        self._ref = ref
        self._identity = identity
        self._clock = clock

    def beat(self) -> None:
        """Write the heartbeat. Raise ConflictError where we do not lead."""
        now = format_timestamp(self._clock.now())
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": HEARTBEAT_SECONDS, "renewTime": now}
        if self._client.merge_patch(self._ref, {"spec": spec}, intent=Intent.NEUTRAL) is not None:
            return
        try:
            self._client.create(LEASES, self._ref.manifest(spec=spec), intent=Intent.NEUTRAL)
        except AlreadyExistsError:
            return  # another leader's first beat came between; the next one of ours patches it


def _holder(lease: Json) -> str:
    """Return who holds the Lease; empty is nobody, and only a plain empty string says so."""
    holder = _spec(lease).get("holderIdentity")
    return holder if isinstance(holder, str) else UNKNOWN_HOLDER


def _spec(lease: Json) -> Json:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}
