"""The demo's stage: an embedded cluster, a shop under real traffic, and the real controller, all on loopback.

`Stage(setting)` starts everything and `close` ends everything, also after Ctrl-C: each part is a child that ends with
its parent. The controller is a process of its own, `canary run`, so that it can be killed like a real one. What
happened is measured at the shop, the customers and the store, never assumed.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from canary.api.crd import crds
from canary.api.marks import side_name, way_back_name
from canary.core.decision import Limits, Run
from canary.errors import UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYPOLICIES, CANARYRUNS, DEPLOYMENTS, HTTPROUTES, NAMESPACES
from canary.lab import manifests
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.apiserver.history import Event
from canary.lab.apiserver.serving import HttpServer
from canary.lab.cluster import RealTimeCluster
from canary.lab.contracts.receiver import Receiver
from canary.lab.controllers.routes import RouteController
from canary.lab.shop.child import Child, Message
from canary.lab.shop.customers import Shopping
from canary.lab.shop.kubelet import ShopKubelet, free_port
from canary.lab.shop.server import Truth
from canary.operator.objects import run_of

READY_SECONDS, STOP_SECONDS = 30.0, 5.0
CONVERSION = 0.25  # orders per request
SYSTEM = "canary-system"
TOKENS = {
    "controller-token": User(CONTROLLER),
    "sentinel-token": User(f"system:serviceaccount:{SYSTEM}:canary-sentinel"),
    "dana-token": User("dana", ("devs",)),
    "admin-token": User("admin", ("system:masters",)),
    "agent-token": User("system:serviceaccount:ci:kiro"),
}


@dataclass(frozen=True, slots=True)
class StageSetting:
    """What stands on the stage."""

    seed: int = 1
    orders_per_second: float = 300.0
    replicas: int = 4
    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the policy's spec that differ from the shop's own."""


@dataclass(frozen=True, slots=True)
class WeightWrite:
    """A write of the route: when it was stored, and what it gives the side."""

    at: float
    weight_ppm: int


class Stage:
    """Everything that runs, from its making until `close`. Times are Unix seconds."""

    def __init__(self, setting: StageSetting) -> None:
        self.setting = setting
        self.weights: list[WeightWrite] = []
        self.sales: list[Message] = []
        self._ending = ExitStack()
        self._controller: subprocess.Popen[bytes] | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    # -- setting up ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        setting = self.setting
        self.folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="canary-stage-")))
        self.port = free_port(setting.seed)
        self.cluster = RealTimeCluster(lambda store, timers: ShopKubelet(store, timers, seed=setting.seed))
        self._ending.callback(self._kubelet.close)
        self._ending.callback(self.cluster.stop)
        self.cluster.store.subscribe(self._note_route)
        self.cluster.install(crds())
        self._server = HttpServer(self.cluster.server, TOKENS)
        self._ending.callback(self._server.stop)
        self.admin = Client(self.cluster.transport(TOKENS["admin-token"]))
        self._install()
        self.pages = Receiver()
        self._ending.callback(self.pages.close)
        self.gateway = self._child("gateway")
        self._listening = self.gateway.ask({"do": "run", "seed": setting.seed}, "listening", READY_SECONDS)
        RouteController(
            self.cluster.store,
            self.cluster.timers,
            lambda seen: self.gateway.send(seen.command()),
            propagation_seconds=0.0,
        )
        self.customers = self._child("customers")

    @property
    def _kubelet(self) -> ShopKubelet:
        kubelet = self.cluster.kubelet
        assert isinstance(kubelet, ShopKubelet)
        return kubelet

    def _install(self) -> None:
        system = (NAMESPACES, manifests.namespace(SYSTEM))
        for resource, obj in (system, *manifests.shop(self.setting.replicas, self.port)):
            self.admin.create(resource, obj, intent=Intent.NEUTRAL)

    def kubeconfig(self, user: str) -> Path:
        """Write the kubeconfig of a user (dana, admin, agent, controller) and return its path."""
        path = self.folder / f"{user}.kubeconfig"
        namespace = SYSTEM if user == "controller" else manifests.NAMESPACE
        return path if path.exists() else self._server.kubeconfig(path, f"{user}-token", namespace=namespace)

    @property
    def audit(self) -> str:
        """Return where the controller puts its decisions on record."""
        return f"file:{self.folder / 'audit.jsonl'}"

    def _child(self, module: str) -> Child:
        child = Child(f"canary.lab.shop.{module}", self._hear)
        self._ending.callback(child.close)
        return child

    def _hear(self, event: Message) -> None:
        if event["event"] in ("sales", "finished"):
            self.sales.append(event)

    def _note_route(self, event: Event) -> None:
        """Measure each write of the route at the moment at which it is stored."""
        if event.kind.name != "HTTPRoute":
            return
        weight = _side_ppm(event.obj)
        if not self.weights or self.weights[-1].weight_ppm != weight:
            self.weights.append(WeightWrite(time.time(), weight))

    # -- acting ----------------------------------------------------------------------------------------------------

    def open_shop(self) -> None:
        """Wait until the shop serves, let the customers in, then start the controller and lay down the policy."""
        self.until(lambda: self._ready_pods() >= self.setting.replicas, "the shop's pods are ready")
        rate, port = self.setting.orders_per_second / CONVERSION, self._listening["port"]
        shopping = Shopping("127.0.0.1", port, rate, CONVERSION, self.setting.seed, steady=True)
        self.customers.send({"do": "run", **asdict(shopping)})
        self.start_controller()
        self.admin.create(CANARYPOLICIES, manifests.policy(self.setting.policy), intent=Intent.NEUTRAL)
        self.until(self._adopted, "the controller holds the shop")

    def start_controller(self) -> None:
        """Start `canary run` as a process of its own."""
        log = (self.folder / "controller.log").open("ab")
        self._ending.callback(log.close)
        command = [
            sys.executable,
            "-m",
            "canary.cli.main",
            "run",
            "--telemetry",
            "127.0.0.1:0",
            "--until-eof",
        ]
        command += ["--kubeconfig", str(self.kubeconfig("controller")), "--cluster", "demo"]
        command += ["--webhook", f"on-call={self.pages.url}/page", "--audit", self.audit]
        self._controller = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )

    @property
    def controller_pid(self) -> int | None:
        """Return the controller's process id; None where none runs."""
        return self._controller.pid if self._controller is not None else None

    def kill_controller(self) -> None:
        """Kill the controller as a failing node would: no signal handler runs."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.kill()
            controller.wait(STOP_SECONDS)

    def stop_controller(self) -> int | None:
        """End the controller as a rollout of it would; return its exit code, None where none runs."""
        controller, self._controller = self._controller, None
        if controller is None:
            return None
        controller.send_signal(signal.SIGTERM)
        try:
            return controller.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            controller.kill()
            return controller.wait(STOP_SECONDS)

    def push(self, env: Mapping[str, str], version: str = manifests.NEW) -> None:
        """Change the Deployment, as dana's CI does."""
        ref = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
        self.admin.merge_patch(ref, manifests.change(version, self.port, env), intent=Intent.NEUTRAL)

    @contextmanager
    def unguarded(self) -> Generator[None]:
        """Take the guard's rules away for a while."""
        rules = self.cluster.server.rules
        kept = [*rules]
        rules.clear()
        try:
            yield
        finally:
            rules.extend(kept)

    def close(self) -> None:
        """End everything; idempotent."""
        self.stop_controller()
        self._ending.close()

    # -- seeing ----------------------------------------------------------------------------------------------------

    def latest_run(self) -> Run | None:
        """Return the newest run."""
        stored = self.admin.list(CANARYRUNS, manifests.NAMESPACE)
        newest = max(stored, key=lambda each: int(each["metadata"]["resourceVersion"]), default=None)
        return run_of(newest, Limits()) if newest is not None else None

    def orders_per_second(self) -> float:
        """Return how many orders a second the customers really wanted, over the whole visit."""
        told = list(self.sales)
        if len(told) < 2:
            return 0.0
        first, last = told[0], told[-1]
        return (last["total"]["wanted"] - first["total"]["wanted"]) / max(1e-9, last["at"] - first["at"])

    def orders_lost(self) -> int:
        """Return how many customers who meant to order got none, as they met it: no answer is no order."""
        total = self.sales[-1]["total"] if self.sales else {"wanted": 0, "placed": 0}
        return total["wanted"] - total["placed"]

    def way_back_ppm(self) -> int:
        """Return the weight of the last good version's own pods in the first rule of the route."""
        route = self.admin.get(HTTPROUTES.at(manifests.NAMESPACE, manifests.NAME)) or {}
        return _ppm_of(route, way_back_name(manifests.NAME))

    def truth(self) -> list[Truth]:
        """Return what really happened to the customers of every pod that ever ran."""
        return self._kubelet.truth()

    def until(self, holds: Callable[[], bool], what: str, limit_seconds: float = READY_SECONDS) -> None:
        """Wait until something holds. Raise UnavailableError, with the controller's last words, where it does not."""
        end = time.monotonic() + limit_seconds
        while not holds():
            if time.monotonic() > end:
                raise UnavailableError(f"not within {limit_seconds:.0f} s: {what}. {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """Return the end of the controller's log."""
        log = self.folder / "controller.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def _ready_pods(self) -> int:
        stored = self.admin.get(DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)) or {}
        return int((stored.get("status") or {}).get("readyReplicas", 0))

    def _adopted(self) -> bool:
        stored = self.admin.get(CANARYPOLICIES.at(manifests.NAMESPACE, manifests.NAME)) or {}
        return bool((stored.get("status") or {}).get("adopted"))


def _side_ppm(route: Mapping[str, Any]) -> int:
    return _ppm_of(route, side_name(manifests.NAME))


def _ppm_of(route: Mapping[str, Any], service: str) -> int:
    """Return a Service's weight in the first rule of a stored route."""
    refs = route["spec"]["rules"][0].get("backendRefs") or []
    return next((int(ref.get("weight", 1)) for ref in refs if ref["name"] == service), 0)
