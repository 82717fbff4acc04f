"""The controllers of the embedded cluster: who has to look at what after a write, and the loop that makes
them.

Enters: the store's events. Leaves: writes in the store, pods at the `Kubelet`. Each controller is a
level-triggered function of one key; a key waits once however often it is named. The loop runs wherever its
`Timers` run: in simulated time on the owner's thread, in real time on the loop's. Made by `cluster.py`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from canary.lab.apiserver.api_error import ApiError
from canary.lab.apiserver.history import Event, EventType
from canary.lab.apiserver.objects import (
    Object,
    controller_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owners_of,
    uid_of,
)
from canary.lab.apiserver.selectors import matches
from canary.lab.apiserver.store import Delete, Store
from canary.lab.clock import Timers
from canary.lab.controllers import deployments, endpoints, replicas
from canary.lab.controllers.pods import Kubelet

MAX_LOOKS = 100_000  # of one step: more means that two controllers undo each other's work


class Task(StrEnum):
    DEPLOYMENT = "Deployment"
    REPLICA_SET = "ReplicaSet"
    SERVICE = "Service"
    POD = "Pod"
    GARBAGE = "Garbage"


class Key(NamedTuple):
    """What has to be looked at; for garbage the name is the uid of an owner that may be gone."""

    task: Task
    namespace: str
    name: str


class Controllers:
    """Notes what has to be looked at, and looks."""

    def __init__(self, store: Store, timers: Timers, kubelet: Kubelet, grace_seconds: float) -> None:
        self._store = store
        self._timers = timers
        self._kubelet = kubelet
        self._grace_seconds = grace_seconds
        self._due: dict[Key, None] = {}
        self._due_lock = threading.Lock()
        self._running: dict[tuple[str, str], Object] = {}  # by namespace and name
        self._looks: dict[Task, Callable[[Store, str, str], None]] = {
            Task.DEPLOYMENT: deployments.reconcile,
            Task.REPLICA_SET: replicas.reconcile,
            Task.SERVICE: endpoints.reconcile,
            Task.GARBAGE: collect_garbage,
        }
        store.subscribe(self._note)

    def step(self) -> None:
        """Look until nothing is due any more."""
        for _ in range(MAX_LOOKS):
            key = self._next()
            if key is None:
                return
            self._look(key)
        raise RuntimeError(
            f"the controllers do not settle: {MAX_LOOKS} looks, and still due: {[*self._due][:3]}"
        )

    def stop(self) -> None:
        """Stop every pod that was started."""
        for pod in self._running.values():
            self._kubelet.stop(pod)
        self._running.clear()

    def _next(self) -> Key | None:
        with self._due_lock:
            key = next(iter(self._due), None)
            if key is not None:
                del self._due[key]
            return key

    def _look(self, key: Key) -> None:
        if key.task is Task.POD:
            self._look_at_pod(key)
            return
        with self._store.lock:
            self._looks[key.task](self._store, key.namespace, key.name)

    def _look_at_pod(self, key: Key) -> None:
        """Start a new pod; give a deleted one its grace; stop what is gone. Outside the lock: kubelets may wait."""
        pod = self._store.find(self._store.kinds.named("Pod"), key.namespace, key.name)
        place = (key.namespace, key.name)
        former = self._running.get(place)
        if former is not None and (pod is None or uid_of(pod) != uid_of(former)):
            del self._running[place]
            self._kubelet.stop(former)
        if pod is not None and place not in self._running and not is_deleting(pod):
            self._running[place] = pod
            self._kubelet.start(pod)
        if pod is not None and is_deleting(pod):
            self._timers.call_later(self._grace_seconds, lambda: self._remove(pod))

    def _remove(self, pod: Object) -> None:
        place, how = (namespace_of(pod), name_of(pod)), Delete(uid=uid_of(pod), grace_seconds=0)
        with suppress(ApiError):  # it is gone already, or a namesake stands in its place
            self._store.delete(self._store.kinds.named("Pod"), place, how)

    def _note(self, event: Event) -> None:
        for key in _concerned(self._store, event):
            self._add(key)

    def _add(self, key: Key) -> None:
        with self._due_lock:
            first = not self._due
            self._due[key] = None
        if first:
            self._timers.call_later(0.0, self.step)


def _concerned(store: Store, event: Event) -> Iterator[Key]:
    """Yield what an event makes worth a look."""
    obj, namespace = event.obj, namespace_of(event.obj)
    if event.type is EventType.DELETED:
        yield Key(Task.GARBAGE, "", uid_of(obj))
    if event.type is EventType.ADDED:
        yield from (
            Key(Task.GARBAGE, "", owner["uid"]) for owner in owners_of(obj) if not store.exists(owner["uid"])
        )
    owner = controller_of(obj)
    if owner is not None and owner["kind"] in ("Deployment", "ReplicaSet", "Service"):
        yield Key(Task(owner["kind"]), namespace, owner["name"])
    match event.kind.name:
        case "Deployment" | "ReplicaSet" | "Service":
            yield Key(Task(event.kind.name), namespace, name_of(obj))
        case "Pod":
            yield Key(Task.POD, namespace, name_of(obj))
            yield from _selecting(store, [obj] if event.old is None else [obj, event.old])
        case _:
            return


def _selecting(store: Store, pods: list[Object]) -> Iterator[Key]:
    namespace = namespace_of(pods[0])
    for service in store.select(store.kinds.named("Service"), namespace):
        selector = {"matchLabels": service["spec"].get("selector") or {}}
        if any(matches(selector, labels_of(pod)) for pod in pods):
            yield Key(Task.SERVICE, namespace, name_of(service))


def collect_garbage(store: Store, _namespace: str, uid: str) -> None:
    """Delete what was owned by `uid` alone; uids count, so a namesake of the owner keeps nothing alive."""
    if store.exists(uid):
        return
    for kind, obj in store.owned_by(uid):
        if not any(store.exists(owner["uid"]) for owner in owners_of(obj)) and not is_deleting(obj):
            store.delete(kind, (namespace_of(obj), name_of(obj)))
