"""Where pods run: the seam to whatever starts them, and how what they do gets into their status.

A `Kubelet` starts and stops the process behind a pod, and tells what became of it by `report`; the shop brings one,
and so does the simulated shop. Called by `loop.py`: `start` once for each new pod, `stop` after a deleted one had its
grace.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from canary.lab.apiserver.objects import (
    Condition,
    Object,
    name_of,
    namespace_of,
    timestamp,
    uid_of,
    with_condition,
)
from canary.lab.apiserver.store import STATUS, Store

NODE = "lab"
_CONDITIONS = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


@dataclass(frozen=True, slots=True)
class PodState:
    """What a node says about a pod."""

    ready: bool
    ip: str = ""
    restarts: int = 0
    waiting: str = ""  # why the container does not run: "CrashLoopBackOff", "ImagePullBackOff"


class Kubelet(Protocol):
    """Starts and stops what a pod stands for. Neither call may block for long, nor raise for a sick pod."""

    def start(self, pod: Object) -> None:
        """Start the pod; then `report` whenever its state changes."""
        ...

    def stop(self, pod: Object) -> None:
        """Stop the pod; it is gone from the API when this is called, or will be at once."""
        ...


def report(store: Store, pod: Object, state: PodState) -> None:
    """Write a pod's state into its status; a pod that is gone or was replaced by a namesake is left alone."""
    with store.lock:
        current = store.find(store.kinds.named("Pod"), namespace_of(pod), name_of(pod))
        if current is not None and uid_of(current) == uid_of(pod):
            store.rewrite(pod, lambda obj: _with_state(obj, state, store.clock.now()), STATUS)


def _with_state(pod: Object, state: PodState, now: datetime) -> Object:
    status: Object = dict(pod.get("status") or {})
    status.setdefault("startTime", timestamp(now))
    status["phase"] = "Pending" if state.waiting and not state.ip else "Running"
    status |= {"podIP": state.ip, "podIPs": [{"ip": state.ip}]} if state.ip else {}
    status["containerStatuses"] = [
        _container_status(container, state, status["startTime"]) for container in pod["spec"]["containers"]
    ]
    reported: Object = {**pod, "status": status}
    for kind in _CONDITIONS:
        holds = state.ready or kind in ("PodScheduled", "Initialized")
        reason = "" if holds else "ContainersNotReady"
        reported = with_condition(reported, Condition(kind, "True" if holds else "False", reason), now)
    return reported


def _container_status(container: Object, state: PodState, started: str) -> Object:
    doing = {"waiting": {"reason": state.waiting}} if state.waiting else {"running": {"startedAt": started}}
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "ready": state.ready,
        "started": state.ready,
        "restartCount": state.restarts,
        "state": doing,
    }
