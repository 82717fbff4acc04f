"""A shop over real HTTP, whose every pod is a server on its own loopback address, with bugs to order.

In go customers' requests, POST /checkout with {"buy": true} from those who mean to order; out come answers, and raw
counters on /metrics by prometheus_client. What a bug took from customers is counted apart, in a `Truth`
that no judge reads. `ShopProcess` runs all pods in one event loop; `kubelet.py` starts that as a child process.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from canary.lab.shop.child import run_child
from canary.lab.shop.faults import CRASH_SECONDS, HEALTHY_ERRORS, SLOW_SECONDS, Effect, order
from canary.lab.shop.wire import Message, Server, response
from canary.settings import FaultKind

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LEAST_SERVICE_SECONDS = 0.001
MEAN_SERVICE_SECONDS = 0.005
MAX_ADDRESSES_TRIED = 64


@dataclass(slots=True)
class Truth:
    """What really happened to a pod's customers; times are Unix seconds."""

    uid: str
    version: str
    requests: int = 0
    wanted: int = 0  # requests of customers who meant to order
    orders: int = 0
    missing: int = 0  # orders that a bug took
    late: int = 0  # orders with a promise of more than ten days
    first_request_at: float | None = None
    last_request_at: float | None = None
    first_lost_at: float | None = None
    last_lost_at: float | None = None

    def meet(self, now: float, requests: int = 1) -> None:
        """Note requests that came in."""
        self.requests += requests
        self.first_request_at = self.first_request_at or now
        self.last_request_at = now

    def sell(self, now: float, orders: int, missing: int, late: int) -> None:
        """Note how customers who meant to order fared."""
        self.wanted += orders + missing
        self.orders += orders
        self.late += late
        if missing:
            self.missing += missing
            self.first_lost_at = self.first_lost_at or now
            self.last_lost_at = now


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One pod to run: what it calls itself, where it listens (any address: ""), and what is wrong with it (`order`)."""

    uid: str
    version: str
    ip: str
    ports: Sequence[int]
    fault: str
    drop: float | None
    after: float
    seed: int


class PodMetrics:
    """The pod's counters, as any instrumented shop has them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter("http_requests", "Requests served.", ["code"], registry=self.registry)
        self.by_status = {status: requests.labels(str(status)) for status in (200, 500)}
        self.orders = Counter("orders_completed", "Orders completed.", registry=self.registry)
        self.seconds = Histogram(
            "http_request_duration_seconds", "Time to serve.", buckets=BUCKETS, registry=self.registry
        )
        self.late = Counter(
            "delivery_promise_days_over_10",
            "Orders promised for later than ten days.",
            registry=self.registry,
        )
        Gauge("process_start_time_seconds", "Start of the process.", registry=self.registry).set(time.time())

    def count(self, status: int, ordered: bool, late: bool, seconds: float) -> None:
        """Count one request that was served."""
        self.by_status[status].inc()
        self.seconds.observe(seconds)
        if ordered:
            self.orders.inc()
        if late:
            self.late.inc()

    def text(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self.registry)


class Pod:
    """One running pod: `start` binds its addresses, `stop` lets it go."""

    def __init__(self, spec: PodSpec, truth: Truth, crashed: Callable[[str], None]) -> None:
        self.spec = spec
        self.truth = truth
        self.ready = False
        self._fault = order(spec.fault, spec.drop, spec.after)
        self._crashed = crashed
        self._loop = asyncio.get_running_loop()
        self._metrics = PodMetrics()
        self._random = random.Random(f"{spec.seed}/{spec.uid}")
        self._headers = f"X-Shop-Version: {spec.version}\r\n"
        self._servers: list[Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen; raise OSError if an address is taken."""
        for port in self.spec.ports:
            self._servers.append(Server(self._handle))
            await self._servers[-1].open(self.spec.ip, port)
        self.ready = True
        if self._fault.kind is FaultKind.CRASH_LOOP:
            self._timer = self._loop.call_later(self._fault.after_seconds + CRASH_SECONDS, self._crash)

    def stop(self) -> None:
        """Close at once; a process that ends takes the requests that it was serving with it. Idempotent."""
        self.ready = False
        if self._timer is not None:
            self._timer.cancel()
        for server in self._servers:
            server.close()

    def _crash(self) -> None:
        self.stop()
        self._crashed(self.spec.uid)

    async def _handle(self, request: Message) -> bytes:
        match request.start[:2]:
            case ["POST", "/checkout"]:
                return await self._checkout(request)
            case ["GET", "/metrics"]:
                return response(200, self._metrics.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
            case ["GET", "/healthz"]:
                return response(200, b"{}")
            case ["GET", "/readyz"]:
                return response(200 if self.ready else 503, b"{}")
            case _:
                return response(404, b"{}")

    async def _checkout(self, request: Message) -> bytes:
        now = time.time()
        self.truth.meet(now)
        effect = self._fault.effect(now - (self.truth.first_request_at or now))
        seconds = LEAST_SERVICE_SECONDS + self._random.expovariate(1 / MEAN_SERVICE_SECONDS)
        if self._random.random() < effect.slow:
            seconds += SLOW_SECONDS
        begun = self._loop.time()
        await asyncio.sleep(seconds)
        return self._answer(b"true" in request.body, effect, begun)

    def _answer(self, buys: bool, effect: Effect, begun: float) -> bytes:
        """Complete one customer's request: count it, as the version would, and as it really was."""
        chance = self._random.random
        # The few errors of a healthy version hit people who browse: what is missing then, a bug took.
        failed = chance() < effect.errors and (not buys or effect.errors > HEALTHY_ERRORS)
        ordered = buys and not failed and chance() < effect.orders_kept
        late = ordered and chance() < effect.late
        self._metrics.count(500 if failed else 200, ordered, late, self._loop.time() - begun)
        self.truth.sell(time.time(), int(ordered), int(buys and not ordered), int(late))
        if failed:
            return response(500, b'{"error": "internal"}', self._headers)
        if ordered:
            return response(200, b'{"status": "ok", "order": "%d"}' % self.truth.orders, self._headers)
        return response(200, b'{"status": "ok"}', self._headers)


class ShopProcess:
    """All pods of a shop in one event loop, told by lines of JSON what to do, answering by events."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._pods: dict[str, Pod] = {}
        self._truths: dict[str, Truth] = {}
        self._addresses = _addresses(os.getpid())
        self.commands = {"start": self._start, "stop": self._stop, "truth": self._truth}

    def close(self) -> None:
        """Stop every pod."""
        for pod in self._pods.values():
            pod.stop()
        self._pods.clear()

    async def _start(self, **fields: Any) -> None:
        spec, detail = PodSpec(**fields), ""
        truth = self._truths.setdefault(spec.uid, Truth(spec.uid, spec.version))
        for ip in [spec.ip] if spec.ip else itertools.islice(self._addresses, MAX_ADDRESSES_TRIED):
            pod = Pod(replace(spec, ip=ip), truth, self._crashed)
            try:
                await pod.start()
            except OSError as error:
                pod.stop()
                detail = str(error)
                continue
            self._pods[spec.uid] = pod
            self._tell({"event": "started", "uid": spec.uid, "ip": ip, "at": time.time()})
            return
        self._tell({"event": "failed", "uid": spec.uid, "detail": detail})

    async def _truth(self) -> None:
        self._tell({"event": "truth", "pods": [asdict(truth) for truth in self._truths.values()]})

    async def _stop(self, uid: str, grace: float) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            pod.ready = False
            # It serves on for the grace: the gateway learns of its end a moment later.
            asyncio.get_running_loop().call_later(grace, self._gone, pod)

    def _gone(self, pod: Pod) -> None:
        pod.stop()
        self._tell({"event": "stopped", "uid": pod.spec.uid})

    def _crashed(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self._tell({"event": "crashed", "uid": uid, "ip": pod.spec.ip})


def _addresses(seed: int) -> Iterator[str]:
    """Yield loopback addresses, every one of which Linux lets any process bind; none is used twice."""
    for block in range(256):
        third = (seed + block) % 256
        for last in range(1, 255):
            yield f"127.77.{third}.{last}"


def main() -> None:
    """Run the shop until standard input ends: when the parent goes, however it goes, the shop goes too."""
    run_child(ShopProcess)


if __name__ == "__main__":
    main()
