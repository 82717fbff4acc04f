"""The EndpointSlice controller: which addresses a Service stands for, and which of them are ready.

One slice for each set of resolved ports. Pods that end stay in it, marked terminating and not ready, until
they are gone. Called by `loop.py`.
"""

from collections.abc import Iterator
from typing import Any

from canary.lab.apiserver.objects import (
    Object,
    canonical,
    is_deleting,
    is_true,
    labels_of,
    name_of,
    namespace_of,
    short_hash,
    uid_of,
)
from canary.lab.apiserver.selectors import matches
from canary.lab.apiserver.store import Store
from canary.lab.controllers.deployments import owner_reference
from canary.lab.controllers.pods import NODE

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"


def reconcile(store: Store, namespace: str, name: str) -> None:
    """Bring the slices of a Service to what its selector finds."""
    service = store.find(store.kinds.named("Service"), namespace, name)
    if service is None or not service["spec"].get("selector"):
        return  # slices of a deleted Service go with their owner
    kind = store.kinds.named("EndpointSlice")
    present = {name_of(entry): entry for entry in store.select(kind, namespace) if _is_ours(entry, name)}
    wanted = {name_of(entry): entry for entry in _slices(service, _pods(store, service))}
    for slice_name in present.keys() - wanted.keys():
        store.delete(kind, (namespace, slice_name))
    for slice_name, entry in wanted.items():
        if slice_name in present:
            store.update(kind, (namespace, slice_name), lambda obj, entry=entry: _updated(obj, entry))
        else:
            store.create(kind, entry)


def _is_ours(entry: Object, service: str) -> bool:
    labels = labels_of(entry)
    return labels.get(SERVICE_NAME) == service and labels.get(MANAGED_BY) == MANAGER


def _pods(store: Store, service: Object) -> list[Object]:
    selector = {"matchLabels": service["spec"]["selector"]}
    pods = store.select(store.kinds.named("Pod"), namespace_of(service))
    return [
        pod for pod in pods if matches(selector, labels_of(pod)) and (pod.get("status") or {}).get("podIP")
    ]


def _slices(service: Object, pods: list[Object]) -> Iterator[Object]:
    groups: dict[str, tuple[list[Object], list[Object]]] = {}
    for pod in pods:
        ports = list(_ports(service, pod))
        groups.setdefault(canonical(ports), (ports, []))[1].append(_endpoint(pod))
    if not groups:
        groups[""] = ([], [])
    for ports, endpoints in groups.values():
        labels = {**labels_of(service), SERVICE_NAME: name_of(service), MANAGED_BY: MANAGER}
        yield {
            "metadata": {
                "name": f"{name_of(service)}-{short_hash(ports, 5)}",
                "namespace": namespace_of(service),
                "labels": labels,
                "ownerReferences": [owner_reference(service)],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        }


def _ports(service: Object, pod: Object) -> Iterator[Object]:
    for port in service["spec"].get("ports") or ():
        number = _resolved(port["targetPort"], pod)
        if number is not None:
            yield {"name": port.get("name", ""), "port": number, "protocol": port["protocol"]}


def _resolved(target: int | str, pod: Object) -> int | None:
    if isinstance(target, int):
        return target
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    return next((port["containerPort"] for port in ports if port.get("name") == target), None)


def _endpoint(pod: Object) -> Object:
    serving, ending = is_true(pod, "Ready"), is_deleting(pod)
    target: Any = {"kind": "Pod", "name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)}
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": serving and not ending, "serving": serving, "terminating": ending},
        "nodeName": NODE,
        "targetRef": target,
    }


def _updated(obj: Object, wanted: Object) -> Object:
    obj["metadata"]["labels"] = wanted["metadata"]["labels"]
    return {**obj, "endpoints": wanted["endpoints"], "ports": wanted["ports"]}
