"""Shops whose pods answer real HTTP, each as badly as it is told, under one controller with all its threads.

Every namespace of `Town` is a shop with its own policy. Demand is a formula of time and of the stored route's weight,
so that what customers met is known exactly; what a new version's pods say of it is an `Answer`.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from canary.alerts.sink import Couriers
from canary.api.crd import crds
from canary.api.marks import ROLE_CANARY, Mark, side_name
from canary.api.reasons import Phase
from canary.clock import WallClock
from canary.core.decision import Limits, Run
from canary.core.telling.page_texts import Place
from canary.kube.client import Client, Intent
from canary.kube.queue import Lane
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYRUNS,
    DEPLOYMENTS,
    HTTPROUTES,
    NAMESPACES,
    SERVICES,
)
from canary.lab import manifests
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.apiserver.history import Event
from canary.lab.apiserver.objects import Object, labels_of, namespace_of, uid_of
from canary.lab.apiserver.store import Store
from canary.lab.clock import Timers
from canary.lab.cluster import RealTimeCluster
from canary.lab.controllers.pods import PodState, report
from canary.lab.controllers.routes import RouteController
from canary.lab.rehearsal.scenario import Alone
from canary.lab.shop.kubelet import free_port
from canary.metrics.scrape import ScrapeSource
from canary.operator.controller import Controller
from canary.operator.hands import Hands
from canary.operator.objects import run_of
from canary.operator.run import PolicySources
from canary.operator.schedule import BackgroundSchedule
from canary.operator.telemetry import Result
from canary.operator.tell import Teller
from canary.operator.tick import Ticked
from canary.traffic.httproute import HTTPRouteRouter, RouteBrake

REQUESTS, ORDERS = 400.0, 100.0  # a second, of a whole shop
REPLICAS, SIDE_PODS = 2, 2
BASELINE_SECONDS = 3.0
SLICE = {"steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}]}
COUNTED = {"orders": {"counter": "orders_completed_total"}, "requests": {"counter": "http_requests_total"}}
LIMIT_SECONDS = 40.0
HANG_SECONDS = 5.0
CHUNK, CHUNKS = b"# " + b"x" * 65_533 + b"\n", 1_024


@dataclass(frozen=True, slots=True)
class Counted:
    """What a pod's counters stand at."""

    orders: float
    requests: float

    def text(self) -> bytes:
        lines = (f"http_requests_total {self.requests:.0f}", f"orders_completed_total {self.orders:.0f}")
        return "".join(f"{line}\n" for line in lines).encode()


Answer = Callable[["_Handler", Counted], None]


def honestly(handler: "_Handler", counted: Counted) -> None:
    handler.send(counted.text())


def without_orders(handler: "_Handler", counted: Counted) -> None:
    handler.send(Counted(0, counted.requests).text())


def without_zeros(handler: "_Handler", counted: Counted) -> None:
    """Show a counter only after its first event, as some libraries do."""
    lines = counted.text().splitlines(keepends=True)
    handler.send(b"".join(line for line in lines if not line.endswith(b" 0\n")))


def with_garbage(handler: "_Handler", counted: Counted) -> None:
    noise = random.Random(7).randbytes(4_096)
    handler.send(counted.text() + b"orders_completed_total " + noise + b"\n")


def with_far_too_much(handler: "_Handler", counted: Counted) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CHUNK) * CHUNKS))
    handler.end_headers()
    for _ in range(CHUNKS):
        handler.wfile.write(CHUNK)


def never(handler: "_Handler", counted: Counted) -> None:
    time.sleep(HANG_SECONDS)


def with_nan(handler: "_Handler", counted: Counted) -> None:
    handler.send(counted.text().replace(b"orders_completed_total", b"orders_completed_total NaN\n#"))


def below_zero(handler: "_Handler", counted: Counted) -> None:
    handler.send(counted.text().replace(b"orders_completed_total ", b"orders_completed_total -1"))


@dataclass(slots=True)
class Shop:
    """One namespace: how its new version answers, and what the stored route gave it since when."""

    answer: Answer = honestly
    answer_when_exposed: Answer | None = None
    weights: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Moments and the share of the new version from then on."""

    def exposed_seconds(self, since: float, until: float) -> float:
        """Return for how long the new version had the whole traffic, in effect."""
        ends = [*(at for at, _ in self.weights[1:]), until]
        return sum(
            share * max(0.0, min(end, until) - max(at, since))
            for (at, share), end in zip(self.weights, ends, strict=False)
        )

    @property
    def share(self) -> float:
        return self.weights[-1][1] if self.weights else 0.0

    @property
    def was_exposed(self) -> bool:
        return any(share > 0 for _, share in self.weights)


class _Pod:
    """One pod: a server on an address of its own."""

    def __init__(self, shop: Shop, canary: bool, address: tuple[str, int]) -> None:
        self.shop, self.canary, self.began = shop, canary, time.monotonic()
        self._server = _Server(address, _Handler)
        self._server.pod = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def counted(self) -> Counted:
        now = time.monotonic()
        side = self.shop.exposed_seconds(self.began, now)
        seconds = side / SIDE_PODS if self.canary else (now - self.began - side) / REPLICAS
        return Counted(int(seconds * ORDERS), int(seconds * REQUESTS))

    def answer(self) -> Answer:
        if not self.canary:
            return honestly
        changed = self.shop.answer_when_exposed
        return changed if changed is not None and self.shop.was_exposed else self.shop.answer

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    pod: _Pod
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has enough is what the answers are for."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        pod = self.server.pod
        pod.answer()(self, pod.counted())

    def send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Node:
    """A `Kubelet`: a server for every pod."""

    def __init__(self, store: Store, timers: Timers, shops: Mapping[str, Shop], port: int) -> None:
        self._store, self._timers, self._shops, self._port = store, timers, shops, port
        self._pods: dict[str, _Pod] = {}
        self._started = 0
        self._routes = RouteController(store, timers, lambda _: None)
        store.subscribe(self._note)

    def start(self, pod: Object) -> None:
        self._started += 1
        ip = f"127.78.{self._started // 250}.{self._started % 250 + 1}"
        canary = labels_of(pod).get(Mark.ROLE) == ROLE_CANARY
        self._pods[uid_of(pod)] = _Pod(self._shops[namespace_of(pod)], canary, (ip, self._port))
        self._timers.call_later(0.0, lambda: report(self._store, pod, PodState(ready=True, ip=ip)))

    def stop(self, pod: Object) -> None:
        gone = self._pods.pop(uid_of(pod), None)
        if gone is not None:
            gone.stop()

    def close(self) -> None:
        for pod in self._pods.values():
            pod.stop()

    def _note(self, event: Event) -> None:
        if event.kind.name != "HTTPRoute":
            return
        refs: list[Object] = event.obj["spec"]["rules"][0]["backendRefs"]
        total = sum(ref.get("weight", 1) for ref in refs)
        side = sum(ref.get("weight", 1) for ref in refs if ref["name"] == side_name(manifests.NAME))
        self._shops[namespace_of(event.obj)].weights.append((time.monotonic(), side / total))


class Looks:
    """A `Watcher` that counts how looks ended."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def looked(self, kind: str, result: Result, seconds: float) -> None:
        self.results.append(result)

    def waited(self, lane: Lane, seconds: float) -> None: ...

    def moved(self, ticked: Ticked) -> None: ...


class Town:
    """Shops, cluster and controller, from its making until `close`."""

    def __init__(self, shops: Mapping[str, Shop], seed: int) -> None:
        self.shops, self.looks = shops, Looks()
        self._ending = ExitStack()
        self._port = free_port(seed)
        nodes: list[_Node] = []

        def node(store: Store, timers: Timers) -> _Node:
            nodes.append(_Node(store, timers, shops, self._port))
            return nodes[0]

        self._cluster = RealTimeCluster(node)
        self._ending.callback(nodes[0].close)
        self._ending.callback(self._cluster.stop)
        self._cluster.install(crds())
        self._admin = Client(self._cluster.transport(User("admin", ("system:masters",))))
        for namespace in shops:
            self._build(namespace)
        self._start_controller()
        self.until(lambda: all(self._adopted(name) for name in shops), "every shop is held")

    def _build(self, namespace: str) -> None:
        objects = (
            (NAMESPACES, manifests.namespace()),
            (SERVICES, manifests.service()),
            (DEPLOYMENTS, manifests.deployment(REPLICAS, self._port)),
            (HTTPROUTES, manifests.route()),
            (CANARYPOLICIES, manifests.policy({**SLICE, "analysis": COUNTED})),
        )
        for resource, obj in objects:
            place = {"name": namespace} if resource is NAMESPACES else {"namespace": namespace}
            self._admin.create(
                resource, {**obj, "metadata": {**obj["metadata"], **place}}, intent=Intent.NEUTRAL
            )

    def _start_controller(self) -> None:
        clock, fence = WallClock(), Alone()
        client = Client(self._cluster.transport(User(CONTROLLER)), fence=fence, clock=clock)
        sources = PolicySources(ScrapeSource(clock), (), clock)
        self._ending.callback(sources.close)
        hands = Hands(
            client=client,
            router=HTTPRouteRouter(client),
            brake=RouteBrake(client),
            sources=sources,
            fence=fence,
            clock=clock,
            limits=Limits(baseline_seconds=BASELINE_SECONDS),
        )
        teller = Teller(hands, Couriers({}), lambda _: [], place=Place("lab"))
        controller = Controller(hands, teller, watcher=self.looks)
        schedule = BackgroundSchedule(clock, lambda *_: None)
        self._ending.callback(controller.stop)
        self._ending.callback(schedule.stop)
        controller.start(schedule)
        schedule.start()

    def _adopted(self, namespace: str) -> bool:
        stored = self._admin.get(CANARYPOLICIES.at(namespace, manifests.NAME)) or {}
        return bool((stored.get("status") or {}).get("adopted"))

    def push_everywhere(self) -> None:
        for namespace in self.shops:
            ref = DEPLOYMENTS.at(namespace, manifests.NAME)
            self._admin.merge_patch(
                ref, manifests.change(manifests.NEW, self._port, {}), intent=Intent.NEUTRAL
            )

    def run_in(self, namespace: str) -> Run | None:
        stored: list[dict[str, Any]] = self._admin.list(CANARYRUNS, namespace)
        return run_of(stored[0], Limits()) if stored else None

    def phase_in(self, namespace: str) -> Phase | None:
        run = self.run_in(namespace)
        return run.status.phase if run is not None else None

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_SECONDS
        while not holds():
            assert time.monotonic() < end, f"not within {LIMIT_SECONDS:.0f} s: {what}"
            time.sleep(0.05)

    def close(self) -> None:
        self._ending.close()
