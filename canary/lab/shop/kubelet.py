"""The node of the demo: it runs each pod as a server of the shop process, and reports what became of it.

In go pods from the lab's controllers; out come real listeners on loopback addresses and `report`s of their state,
crash loops with back-off among it. `truth()` gives what really happened to customers, for honest figures at the end;
the controller under test never sees it. `demo/stage.py` makes one and closes it.
"""

import random
import socket
import threading
from dataclasses import asdict

from canary.errors import RefusedError, UnavailableError
from canary.lab.apiserver.objects import Object, uid_of
from canary.lab.apiserver.store import Store
from canary.lab.clock import Timers
from canary.lab.controllers.pods import PodState, report
from canary.lab.shop.child import Child, Message
from canary.lab.shop.faults import fault_of
from canary.lab.shop.server import PodSpec, Truth

TRUTH_SECONDS = 5.0
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 30.0
PORTS = range(20_000, 30_000)  # below those that the system gives to clients
MAX_PORTS_TRIED = 200
VERSION_LABEL = "app.kubernetes.io/version"


def free_port(seed: int) -> int:
    """Return a port that nothing on this machine listens on, so that every pod address has it free."""
    draw = random.Random(seed)
    for _ in range(MAX_PORTS_TRIED):
        port = draw.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise UnavailableError(f"no free port found in {MAX_PORTS_TRIED} tries")


def version_of(pod: Object) -> str:
    """Return what people call a pod's version: its label, or the tag of its image."""
    label = (pod["metadata"].get("labels") or {}).get(VERSION_LABEL)
    return label or pod["spec"]["containers"][0]["image"].rpartition("/")[2].partition(":")[2]


class ShopKubelet:
    """A `Kubelet` whose pods are real."""

    def __init__(self, store: Store, timers: Timers, *, seed: int = 1) -> None:
        self._store = store
        self._timers = timers
        self._seed = seed
        self._lock = threading.Lock()
        self._pods: dict[str, Object] = {}
        self._restarts: dict[str, int] = {}
        self._child = Child("canary.lab.shop.server", self._told)

    def start(self, pod: Object) -> None:
        """Start the pod's server."""
        with self._lock:
            self._pods[uid_of(pod)] = pod
        self._run(pod, "")

    def stop(self, pod: Object) -> None:
        """Stop the pod's server."""
        with self._lock:
            self._pods.pop(uid_of(pod), None)
        self._child.send({"do": "stop", "uid": uid_of(pod), "grace": 0.0})

    def truth(self) -> list[Truth]:
        """Return what really happened to the customers of every pod that ever ran."""
        told = self._child.ask({"do": "truth"}, "truth", TRUTH_SECONDS)
        return [Truth(**pod) for pod in told["pods"]]

    def close(self) -> None:
        """End the shop; idempotent."""
        self._child.close()

    def _run(self, pod: Object, ip: str) -> None:
        try:
            fault = fault_of(pod)
        except RefusedError:
            report(self._store, pod, PodState(ready=False, waiting="CreateContainerConfigError"))
            return
        containers = pod["spec"]["containers"]
        spec = PodSpec(
            uid=uid_of(pod),
            version=version_of(pod),
            ip=ip,
            ports=[port["containerPort"] for entry in containers for port in entry.get("ports") or ()],
            fault=fault.kind,
            drop=fault.drop,
            after=fault.after_seconds,
            seed=self._seed,
        )
        self._child.send({"do": "start", **asdict(spec)})

    def _told(self, event: Message) -> None:
        with self._lock:
            pod = self._pods.get(event.get("uid", ""))
        if pod is None:
            return  # it was stopped meanwhile
        restarts = self._restarts.get(uid_of(pod), 0)
        match event["event"]:
            case "started":
                report(self._store, pod, PodState(ready=True, ip=event["ip"], restarts=restarts))
            case "failed":
                report(self._store, pod, PodState(ready=False, waiting="RunContainerError"))
            case "crashed":
                self._crashed(pod, event["ip"], restarts + 1)
            case _:
                return

    def _crashed(self, pod: Object, ip: str, restarts: int) -> None:
        self._restarts[uid_of(pod)] = restarts
        state = PodState(ready=False, ip=ip, restarts=restarts, waiting="CrashLoopBackOff")
        report(self._store, pod, state)
        wait = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (restarts - 1))
        self._timers.call_later(wait, lambda: self._again(pod, ip))

    def _again(self, pod: Object, ip: str) -> None:
        with self._lock:
            wanted = uid_of(pod) in self._pods
        if wanted:
            self._run(pod, ip)
