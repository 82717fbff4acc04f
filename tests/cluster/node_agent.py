"""The node: it runs every pod of the cluster as a real process on an address of its own, in the kubelet's place.

In go pods as the API server tells them; out come bindings, statuses and, in the end, deletions. The container of every
image of `registry.example` is the lab's shop; any other image cannot be pulled. Readiness and liveness probes, preStop
sleeps, grace, restarts with back-off are as a kubelet has them, only sooner. `crash`, `hang`, `wake` and `slow` are for
tests. What a pod's own process says of itself is heard, but a pod is ready by its probe alone.
"""

import http.client
import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pod_process import Message, PodProcess

from canary.errors import CanaryError
from canary.kube.resources import PODS, Resource
from canary.kube.transport import JSON, MERGE_PATCH, Json, Transport
from canary.lab.shop.faults import fault_of

NODE, NODE_ADDRESS = "node-1", "10.77.0.3"
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
REGISTRY = "registry.example/"
VERSION_LABEL = "app.kubernetes.io/version"  # what the shop calls itself
START_SECONDS = 20.0
PROBE_SECONDS = 1.0  # while ready; ten times as often before
PROBE_TIMEOUT_SECONDS = 1.0
FAILURES = 3
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 30.0
WATCH_SECONDS = 300
CLOSE_SECONDS = 5.0
BEAT_SECONDS = 0.1  # of a slowed pod: stopped for a share of each
CROWD = "crowd"  # label of pods that run nowhere; see crowd.py


class NodeAgent:
    """All pods of the cluster, from its making until `close`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pods: dict[str, RunningPod] = {}
        self._lock = threading.Lock()
        self._addresses = pod_addresses()
        self._closing = threading.Event()
        self._stream_closers: list[Any] = []
        self._pushes: Counter[str] = Counter()
        self._register()
        self._watcher = threading.Thread(target=self._follow, name="node-agent", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Kill every pod, and watch no more; idempotent."""
        self._closing.set()
        for stream in tuple(self._stream_closers):
            stream.close()
        self._watcher.join(CLOSE_SECONDS)
        with self._lock:
            pods = list(self._pods.values())
        for pod in pods:
            pod.abandon()
        for pod in pods:
            pod.join()

    # -- for tests -------------------------------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """Kill the process of a pod; it is restarted with back-off."""
        self._of(name).signal(signal.SIGKILL)

    def hang(self, name: str) -> None:
        """Stop the process of a pod: its port is open, and nobody answers."""
        self._of(name).signal(signal.SIGSTOP)

    def wake(self, name: str) -> None:
        """Let a hung pod go on."""
        self._of(name).signal(signal.SIGCONT)

    def slow(self, name: str, share: float, seconds: float) -> None:
        """Stop the process of a pod for a share of every tenth of a second, for so long."""
        pod, end = self._of(name), time.monotonic() + seconds

        def beat() -> None:
            while time.monotonic() < end and not self._closing.is_set():
                pod.signal(signal.SIGSTOP)
                time.sleep(BEAT_SECONDS * share)
                pod.signal(signal.SIGCONT)
                time.sleep(BEAT_SECONDS * (1 - share))

        threading.Thread(target=beat, name=f"slow-{name}", daemon=True).start()

    def push_again(self, image: str) -> None:
        """Put other bytes under a tag: pods that start from now on run them."""
        self._pushes[image] += 1

    def bytes_of(self, image: str) -> str:
        """Return what a runtime resolves an image to now."""
        return f"{image}@push-{self._pushes[image]}"

    def process_ids(self) -> dict[str, int]:
        """Return pod name -> process id of every pod that has a process."""
        with self._lock:
            pods = list(self._pods.values())
        return {pod.name: pod.pid for pod in pods if pod.pid}

    def _of(self, name: str) -> "RunningPod":
        with self._lock:
            return next(pod for pod in self._pods.values() if pod.name == name)

    # -- following the API server ------------------------------------------------------------------------------------

    def _register(self) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": {}}
        self.call("POST", NODES.collection(None), node)
        ready = {"type": "Ready", "status": "True", "reason": "AgentReady", "lastTransitionTime": now()}
        addresses = [{"type": "InternalIP", "address": NODE_ADDRESS}]
        status = {"conditions": [ready], "addresses": addresses}
        self.call("PATCH", f"{NODES.collection(None)}/{NODE}/status", {"status": status})

    def call(self, method: str, path: str, body: Json) -> tuple[int, Json]:
        media = MERGE_PATCH if method == "PATCH" else JSON
        answer = self._transport.request(method, path, query={}, body=body, content_type=media)
        return answer.status, answer.body

    def _follow(self) -> None:
        while not self._closing.is_set():
            with suppress(CanaryError):
                self._watch(self._list())
            self._closing.wait(0.1)

    def _list(self) -> str:
        answer = self._transport.request("GET", PODS.collection(None), query={}, body=None, content_type=JSON)
        items = answer.body.get("items") or []
        for pod in items:
            self._see(pod)
        listed = {pod["metadata"]["uid"] for pod in items}
        with self._lock:
            gone = [uid for uid in self._pods if uid not in listed]
        for uid in gone:
            self._forget(uid)
        return answer.body["metadata"]["resourceVersion"]

    def _watch(self, version: str) -> None:
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        stream = self._transport.stream(PODS.collection(None), query)
        self._stream_closers = [stream]
        if self._closing.is_set():
            stream.close()
        for event in stream:
            if event["type"] == "ERROR":
                return  # list again
            if event["type"] == "DELETED":
                self._forget(event["object"]["metadata"]["uid"])
            else:
                self._see(event["object"])

    def _see(self, pod: Json) -> None:
        if CROWD in (pod["metadata"].get("labels") or {}):
            return
        uid = pod["metadata"]["uid"]
        with self._lock:
            running = self._pods.get(uid)
            if running is None and not self._closing.is_set():
                running = self._pods[uid] = RunningPod(self, pod, next(self._addresses))
        if running is not None and "deletionTimestamp" in pod["metadata"]:
            running.end(float(pod["metadata"].get("deletionGracePeriodSeconds", 0)))

    def _forget(self, uid: str) -> None:
        with self._lock:
            running = self._pods.pop(uid, None)
        if running is not None:
            running.abandon()


class RunningPod:
    """One pod: a thread that starts its process, probes it and tells the API server, until it is gone."""

    def __init__(self, node: NodeAgent, pod: Json, ip: str) -> None:
        self._node = node
        self._pod = pod
        self._ip = ip
        self._wake = threading.Event()
        self._started = threading.Event()
        self._broken = threading.Event()
        self._grace: float | None = None
        self._gone = False
        self._child: PodProcess | None = None
        self._restarts = 0
        self._ready_since: str | None = None
        self._start_time = now()
        self._image_ids = [node.bytes_of(each["image"]) for each in pod["spec"]["containers"]]
        self._thread = threading.Thread(target=self._live, name=f"pod-{self.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._pod["metadata"]["name"]

    @property
    def pid(self) -> int:
        child = self._child
        return child.pid if child is not None and child.alive else 0

    def end(self, grace_seconds: float) -> None:
        """The pod was deleted: let it end within the grace."""
        self._grace = grace_seconds
        self._wake.set()

    def abandon(self) -> None:
        """The pod is gone at the API server, or the node closes: kill it."""
        self._gone = True
        self._wake.set()

    def join(self) -> None:
        self._thread.join(CLOSE_SECONDS)

    def signal(self, number: int) -> None:
        if self._child is not None:
            self._child.signal(number)

    # -- its life --------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        with suppress(CanaryError):
            self._bind()
        try:
            if not self._pod["spec"]["containers"][0]["image"].startswith(REGISTRY):
                self._tell(waiting="ErrImagePull")
                self._wake.wait()
            while not self._wake.is_set():
                self._run()
            self._end()
        finally:
            self._kill()

    def _bind(self) -> None:
        if self._pod["spec"].get("nodeName"):
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.name}, "target": target}
        self._node.call("POST", f"{self._path()}/binding", body)

    def _run(self) -> None:
        """Run the container once, until it ends or is to end."""
        self._started.clear()
        self._broken.clear()
        self._child = PodProcess(self._command(), self._hear)
        end = time.monotonic() + START_SECONDS
        while not self._started.wait(0.02) and self._runs() and time.monotonic() < end:
            pass
        if self._started.is_set():
            running_since = now()
            self._tell(running_since)
            self._probe(running_since)
        if self._wake.is_set():
            return
        self._kill()
        self._restarts += 1
        self._ready_since = None
        self._tell(waiting="CrashLoopBackOff")
        self._wake.wait(min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (self._restarts - 1)))

    def _runs(self) -> bool:
        return bool(self.pid) and not self._broken.is_set() and not self._wake.is_set()

    def _command(self) -> Message:
        fault = fault_of(self._pod)
        ports = [
            port["containerPort"]
            for each in self._pod["spec"]["containers"]
            for port in each.get("ports") or ()
        ]
        metadata = self._pod["metadata"]
        named = {
            "uid": metadata["uid"],
            "version": metadata["labels"][VERSION_LABEL],
            "ip": self._ip,
            "ports": ports,
        }
        bug = {"fault": fault.kind, "drop": fault.drop, "after": fault.after_seconds}
        return {"do": "start", **named, **bug, "seed": 1}

    def _hear(self, event: Message) -> None:
        if event["event"] == "started":
            self._started.set()
        elif event["event"] in ("failed", "crashed"):
            self._broken.set()

    def _probe(self, running_since: str) -> None:
        """Probe until the process ends or is to end; return then. A liveness probe that fails ends it."""
        misses = {"readinessProbe": 0, "livenessProbe": 0}
        while self._runs():
            for kind in misses:
                misses[kind] = 0 if self._answers(kind) else misses[kind] + 1
            if misses["livenessProbe"] >= FAILURES:
                return
            ready = misses["readinessProbe"] == 0 or (
                self._ready_since is not None and misses["readinessProbe"] < FAILURES
            )
            if ready != (self._ready_since is not None):
                self._ready_since = now() if ready else None
                self._tell(running_since)
            self._wake.wait(PROBE_SECONDS if ready else PROBE_SECONDS / 10)

    def _answers(self, kind: str) -> bool:
        container = self._pod["spec"]["containers"][0]
        probe = (container.get(kind) or {}).get("httpGet")
        if probe is None:
            return True
        ports = {port.get("name"): port["containerPort"] for port in container.get("ports") or ()}
        connection = http.client.HTTPConnection(
            self._ip, ports.get(probe["port"], probe["port"]), timeout=PROBE_TIMEOUT_SECONDS
        )
        try:
            connection.request("GET", probe.get("path", "/"))
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _end(self) -> None:
        """Serve on through the preStop sleep, end within the grace, then remove the pod by its uid."""
        if self._gone:
            return
        lifecycle = self._pod["spec"]["containers"][0].get("lifecycle") or {}
        sleep = float(((lifecycle.get("preStop") or {}).get("sleep") or {}).get("seconds", 0))
        end = time.monotonic() + min(self._grace or 0.0, sleep)
        while not self._gone and time.monotonic() < end:
            time.sleep(0.05)
        self._kill()
        if self._gone:
            return
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        body = {**options, "preconditions": {"uid": self._pod["metadata"]["uid"]}}
        with suppress(CanaryError):
            self._node.call("DELETE", self._path(), body)

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    # -- telling -----------------------------------------------------------------------------------------------------

    def _path(self) -> str:
        return PODS.at(self._pod["metadata"]["namespace"], self.name).path()

    def _tell(self, running_since: str | None = None, waiting: str = "") -> None:
        ready = self._ready_since is not None
        since = self._ready_since or now()
        named = {
            "PodScheduled": True,
            "Initialized": True,
            "ContainersReady": ready,
            "Ready": ready,
        }
        conditions = [
            {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": since}
            for kind, holds in named.items()
        ]
        state = (
            {"running": {"startedAt": running_since}} if running_since else {"waiting": {"reason": waiting}}
        )
        containers = [
            {
                "name": each["name"],
                "image": each["image"],
                "imageID": image_id,
                "ready": ready,
                "started": running_since is not None,
                "restartCount": self._restarts,
                "state": state,
            }
            for each, image_id in zip(self._pod["spec"]["containers"], self._image_ids, strict=True)
        ]
        status = {
            "phase": "Running" if running_since or self._restarts else "Pending",
            "conditions": conditions,
            "containerStatuses": containers,
            "startTime": self._start_time,
            "hostIP": NODE_ADDRESS,
            "podIP": self._ip,
            "podIPs": [{"ip": self._ip}],
        }
        body = {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": status}
        with suppress(CanaryError):
            self._node.call("PATCH", f"{self._path()}/status", body)


def pod_addresses() -> Iterator[str]:
    """Yield addresses for pods; none comes twice, for a gateway may still send to the pod that had it before."""
    for third, last in itertools.product(range(16, 256), range(1, 255)):
        yield f"10.77.{third}.{last}"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
