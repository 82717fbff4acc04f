"""The shop on simulated time: pods that sell by drawing from a `World`, six hours in seconds.

It is the node of a simulated cluster (`Kubelet`), follows the gateway's table, and answers looks (`Source`) as the
shop over real HTTP would; `truths` holds what really happened. Counts are drawn exactly and only when somebody looks
or the split changes, so that the same seed gives the same history. `scenario.py` makes one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from canary.api.marks import ROLE_CANARY, Mark
from canary.api.reasons import MissingReason
from canary.core.detect.counters import EXTRA_PREFIX, Reading
from canary.core.evidence import Missing
from canary.errors import RefusedError
from canary.lab.apiserver.objects import Object, labels_of, uid_of
from canary.lab.apiserver.store import Store
from canary.lab.clock import Timers
from canary.lab.controllers.pods import PodState, report
from canary.lab.controllers.routes import RouteController, Snapshot
from canary.lab.controllers.routing import Endpoint, Table
from canary.lab.shop.demand import Wander, clustered, poisson
from canary.lab.shop.faults import CRASH_SECONDS, HEALTHY_ERRORS, Effect, Fault, fault_of
from canary.lab.shop.kubelet import FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, version_of
from canary.lab.shop.server import Truth
from canary.lab.shop.worlds import World
from canary.metrics.source import PodTarget, Specs
from canary.settings import FaultKind

READY_SECONDS = 2.0
SLICE_SECONDS = 1.0  # the longest time over which demand and a bug are taken as constant
PATH = "/checkout"
_ADDRESSES_A_BLOCK = 250
Number = TypeVar("Number", int, float)
_COUNTS = ("orders", "requests", "errors", "slow", "late")


Lens = Callable[[Reading], Reading | Missing]


def honest(reading: Reading) -> Reading:
    return reading


@dataclass(slots=True)
class _Pod:
    """One life of a pod."""

    obj: Object
    ip: str
    canary: bool
    fault: Fault
    truth: Truth
    wander: Wander
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))  # at the last look
    down: bool = False
    restarts: int = 0

    def count(self, met: "_Met[int]", now: float) -> None:
        """Count what customers met, as the version does and as it really was."""
        requests = met.orders + met.missing + met.failed + met.slow + met.fine
        for name, count in zip(
            _COUNTS, (met.orders, requests, met.refused + met.failed, met.slow, met.late), strict=True
        ):
            self.counts[name] += count
        if requests:
            self.truth.meet(now, requests)
            self.truth.sell(now, met.orders, met.missing, met.late)


class SimShop:
    """A `Kubelet` and a `Source` on simulated time."""

    def __init__(self, store: Store, timers: Timers, world: World, *, seed: int = 1) -> None:
        self._store = store
        self._timers = timers
        self._world = world
        self._random = Random(seed)
        self._level = Wander(self._random, world.level_spread, world.level_memory_seconds)
        self._pods: dict[str, _Pod] = {}
        self._by_ip: dict[str, _Pod] = {}
        self._shares: dict[str, float] = {}
        self._table = Table()
        self._begun = self._sold_until = store.clock.monotonic()
        self._addresses = _addresses()
        self._site_orders = 0
        self._by_minute: dict[int, int] = {}
        self.begun_at = store.clock.now().timestamp()
        self._lens: Lens = honest
        self._truths: dict[str, Truth] = {}
        self._gateway = RouteController(store, timers, self._split)

    # the node

    def start(self, pod: Object) -> None:
        """Start a pod; it is ready a moment later."""
        try:
            fault = fault_of(pod)
        except RefusedError:
            report(self._store, pod, PodState(ready=False, waiting="CreateContainerConfigError"))
            return
        uid = uid_of(pod)
        truth = self._truths.setdefault(uid, Truth(uid, version_of(pod)))
        wander = Wander(self._random, self._world.pod_spread, self._world.pod_memory_seconds)
        canary = labels_of(pod).get(Mark.ROLE) == ROLE_CANARY
        self._pods[uid] = _Pod(pod, next(self._addresses), canary, fault, truth, wander)
        self._timers.call_later(READY_SECONDS, lambda: self._ready(uid))

    def stop(self, pod: Object) -> None:
        """Stop a pod."""
        self._sell()
        gone = self._pods.pop(uid_of(pod), None)
        if gone is not None:
            self._by_ip.pop(gone.ip, None)

    def _ready(self, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            return
        self._sell()
        pod.down = False
        pod.counts = dict.fromkeys(_COUNTS, 0)
        self._by_ip[pod.ip] = pod
        report(self._store, pod.obj, PodState(ready=True, ip=pod.ip, restarts=pod.restarts))
        if pod.fault.kind is FaultKind.CRASH_LOOP:
            self._timers.call_later(pod.fault.after_seconds + CRASH_SECONDS, lambda: self._crash(uid))

    def _crash(self, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            return
        self._sell()
        pod.down = True
        pod.restarts += 1
        state = PodState(ready=False, ip=pod.ip, restarts=pod.restarts, waiting="CrashLoopBackOff")
        report(self._store, pod.obj, state)
        wait = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (pod.restarts - 1))
        self._timers.call_later(wait, lambda: self._ready(uid))

    # the customers

    @property
    def truths(self) -> list[Truth]:
        """Return what really happened at every pod that ever ran, up to now."""
        self._sell()
        return list(self._truths.values())

    @property
    def site_orders(self) -> int:
        """Return the orders of the whole shop so far, as its order system knows them."""
        self._sell()
        return self._site_orders

    def sold_by_minute(self) -> Mapping[int, int]:
        """Return the orders of the whole shop in each minute that it was open, by minutes of Unix time."""
        self._sell()
        return self._by_minute

    def _split(self, seen: Snapshot) -> None:
        """Sell up to now by the old split, and from now on by the new."""
        self._sell()
        self._table = seen.table()
        self._shares = {}
        for endpoint, share in self._table.shares(PATH).items():
            self._share_out(endpoint, share)

    def _share_out(self, endpoint: Endpoint, share: float) -> None:
        pod = self._by_ip.get(endpoint[0])
        if pod is not None and share > 0:
            self._shares[uid_of(pod.obj)] = share

    def _sell(self) -> None:
        """Draw what customers did since the last time, in slices."""
        now = self._store.clock.monotonic()
        while self._sold_until < now:
            seconds = min(SLICE_SECONDS, now - self._sold_until)
            middle = self._sold_until + seconds / 2
            wanted = self._world.demand(middle - self._begun) * seconds * self._level.advance(seconds)
            self._sold_until += seconds
            back = now - self._sold_until
            for pod, share in self._serving():
                self._serve(pod, wanted * share, seconds, back)

    def _serving(self) -> list[tuple[_Pod, float]]:
        serving = [(self._pods[uid], share) for uid, share in self._shares.items() if uid in self._pods]
        if self._world.canary_share == 1.0:
            return serving
        canary = sum(share for pod, share in serving if pod.canary)
        stable = sum(share for pod, share in serving if not pod.canary)
        if canary == 0 or stable == 0:
            return serving
        rest = (stable + canary * (1 - self._world.canary_share)) / stable
        return [(pod, share * (self._world.canary_share if pod.canary else rest)) for pod, share in serving]

    def _serve(self, pod: _Pod, wanted: float, seconds: float, back: float) -> None:
        """Draw what one pod's customers met in a slice of time, and count it."""
        if pod.down:
            return
        now = self._store.clock.now().timestamp() - back
        effect = pod.fault.effect(now - self._first_request_at(pod, now))
        buyers = wanted * (pod.wander.advance(seconds) if self._world.pod_spread else 1.0)
        ratio = self._world.canary_ratio if pod.canary else 1.0
        met = self._draw(_means(buyers, wanted * (1 / self._world.conversion - 1), ratio, effect))
        pod.count(met, now)
        self._site_orders += met.orders
        minute = int(now // 60)
        self._by_minute[minute] = self._by_minute.get(minute, 0) + met.orders

    def _first_request_at(self, pod: _Pod, now: float) -> float:
        """Return when the pod's version met its first customer: its bug begins in all of its pods at once."""
        version = pod.truth.version
        met = (each.truth.first_request_at for each in self._pods.values() if each.truth.version == version)
        return min((moment for moment in met if moment is not None), default=now)

    def _draw(self, means: "_Met[float]") -> "_Met[int]":
        draw, size = self._random, self._world.cluster_mean
        return _Met(
            prompt=clustered(draw, means.prompt, size),
            late=poisson(draw, means.late),
            silent=clustered(draw, means.silent, size),
            refused=poisson(draw, means.refused),
            failed=poisson(draw, means.failed),
            slow=poisson(draw, means.slow),
            fine=poisson(draw, means.fine),
        )

    # what a look sees

    def read(
        self, targets: Sequence[PodTarget], specs: Specs, *, within_seconds: float
    ) -> Mapping[str, Reading | Missing]:
        """Answer a look; see `Source.read`. Counts are known by the names that the judge uses."""
        self._sell()
        at = self._store.clock.now().timestamp()
        return {target.uid: self._look(target, specs, at) for target in targets}

    def show_through(self, lens: Lens = honest) -> None:
        """Let looks see what `lens` makes of what is there; customers do not notice."""
        self._lens = lens

    def close(self) -> None:
        """There is nothing to release."""

    def _look(self, target: PodTarget, specs: Specs, at: float) -> Reading | Missing:
        pod = self._pods.get(target.uid)
        if pod is None or pod.down:
            return Missing(MissingReason.UNAVAILABLE, "the pod does not answer")
        shown = dict(pod.counts)
        if target.canary:
            chance, world = self._random.random, self._world
            if world.missed and chance() < world.missed:
                return Missing(MissingReason.TIMED_OUT, "no whole answer in time")
            if world.reset and chance() < world.reset:
                kept = chance()
                pod.counts = {name: round(kept * (shown[name] - pod.seen[name])) for name in shown}
                shown = dict(pod.counts)
            if world.late and chance() < world.late:
                shown["orders"] = min(shown["orders"], pod.seen["orders"])
        pod.seen = shown
        return self._lens(target.reading(at, {name: float(shown[_column(name)]) for name in specs}))


@dataclass(frozen=True, slots=True)
class _Met(Generic[Number]):
    """Customers by what they met: people who meant to order first, then those who looked around."""

    prompt: Number  # an order, promised in time
    late: Number  # an order, promised for later than ten days
    silent: Number  # HTTP 200 and no order
    refused: Number  # HTTP 500 and no order
    failed: Number
    slow: Number
    fine: Number

    @property
    def orders(self) -> Number:
        return self.prompt + self.late

    @property
    def missing(self) -> Number:
        return self.silent + self.refused


def _means(buyers: float, browsers: float, ratio: float, effect: Effect) -> _Met[float]:
    """Split expected customers by what they meet. Thinned Poisson counts are independent: every part is exact."""
    # The few errors of a healthy version hit people who look around: what is missing, a bug took.
    refused = effect.errors if effect.errors > HEALTHY_ERRORS else 0.0
    served = buyers * (1 - refused)
    sold = min(served, served * ratio * effect.orders_kept)
    answered = browsers * (1 - effect.errors)
    return _Met(
        prompt=sold * (1 - effect.late),
        late=sold * effect.late,
        silent=served - sold,
        refused=buyers * refused,
        failed=browsers * effect.errors,
        slow=answered * effect.slow,
        fine=answered * (1 - effect.slow),
    )


def _column(name: str) -> str:
    """Return the count that stands for a name of the judge; every extra monitor watches late promises."""
    return "late" if name.startswith(EXTRA_PREFIX) else name


def _addresses() -> Iterator[str]:
    """Yield pod addresses; none is used twice."""
    for block in range(_ADDRESSES_A_BLOCK * _ADDRESSES_A_BLOCK):
        for last in range(1, _ADDRESSES_A_BLOCK):
            yield f"10.{77 + block // _ADDRESSES_A_BLOCK}.{block % _ADDRESSES_A_BLOCK}.{last}"
