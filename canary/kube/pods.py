"""The pods that serve, of both arms: whose endpoints the data plane sends requests to, by address and by version.

A pod belongs to an arm because an EndpointSlice of that arm's Service names it as ready, so users relabel nothing.
`list_pods` is called at every look of an exposed run: one list of slices, and one of pods for each arm where a slice
was written since.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canary.api.marks import Mark
from canary.api.reasons import MissingReason
from canary.core.evidence import Missing
from canary.core.rules.proof import AT_DIGEST
from canary.kube.client import Client
from canary.kube.resources import ENDPOINTSLICES, PODS

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class PodRef:
    """One pod that requests are sent to. Times are Unix seconds."""

    uid: str
    name: str
    ip: str
    port: int
    """Where its metrics are read."""
    started: float
    """Start of the container that has that port: counters begin anew with it."""
    bytes_of_tags: tuple[str, ...] = ()
    """What it runs of each image that is named by a tag: "image=id"."""


@dataclass(frozen=True, slots=True)
class Pods:
    """The serving pods of both arms."""

    stable: tuple[PodRef, ...]
    side: tuple[PodRef, ...]
    slices: frozenset[tuple[str, str]] = frozenset()
    """Uid and version of the EndpointSlices that said so: no pod becomes ready, or unready, without a new one."""

    @property
    def bytes_of_tags(self) -> frozenset[str]:
        return frozenset(each for pod in (*self.stable, *self.side) for each in pod.bytes_of_tags)


@dataclass(frozen=True, slots=True)
class Arms:
    """Which pods to look for: both versions' Services, and the metrics port by name or number."""

    namespace: str
    selector: str
    """Names the target's pods; empty: the target is gone, and has none."""
    service: str
    side: str
    """Name of the side's Deployment."""
    side_service: str
    port: str


def list_pods(client: Client, arms: Arms, known: Pods | None = None) -> Pods | Missing:
    """Return the serving pods; Missing where one of them does not declare the metrics port.

    `known` is believed while its slices are the ones that are stored.
    """
    namespace = arms.namespace
    selector = f"{SERVICE_LABEL} in ({arms.service},{arms.side_service})"
    slices = client.list(ENDPOINTSLICES, namespace, selector=selector)
    versions = frozenset((each["metadata"]["uid"], each["metadata"]["resourceVersion"]) for each in slices)
    if known is not None and known.slices == versions:
        return known
    stable = client.list(PODS, namespace, selector=arms.selector) if arms.selector else []
    side = client.list(PODS, namespace, selector=f"{Mark.SIDE}={arms.side}")
    try:
        return Pods(
            _serving(stable, ready_addresses(slices, arms.service), arms.port),
            _serving(side, ready_addresses(slices, arms.side_service), arms.port),
            versions,
        )
    except LookupError as error:
        return Missing(MissingReason.ABSENT, str(error.args[0]))


def ready_addresses(slices: Sequence[Mapping[str, Any]], service: str) -> dict[str, str]:
    """Return pod uid -> address of the ready endpoints of a Service; one that is not known to be unready is ready."""
    return {
        endpoint["targetRef"]["uid"]: endpoint["addresses"][0]
        for each in slices
        if (each["metadata"].get("labels") or {}).get(SERVICE_LABEL) == service
        for endpoint in each.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        and endpoint.get("addresses")
        and (endpoint.get("targetRef") or {}).get("uid")
    }


def _serving(
    pods: Sequence[Mapping[str, Any]], addresses: Mapping[str, str], port: str
) -> tuple[PodRef, ...]:
    refs = [
        _ref(pod, addresses[pod["metadata"]["uid"]], port)
        for pod in pods
        if pod["metadata"]["uid"] in addresses
    ]
    return tuple(sorted(refs, key=lambda ref: ref.name))


def _ref(pod: Mapping[str, Any], ip: str, port: str) -> PodRef:
    metadata, container, number = pod["metadata"], *_container(pod, port)
    born = metadata["creationTimestamp"]
    return PodRef(
        uid=metadata["uid"],
        name=metadata["name"],
        ip=ip,
        port=number,
        started=_seconds(_started(pod, container) or (pod.get("status") or {}).get("startTime") or born),
        bytes_of_tags=tuple(_bytes_of_tags(pod)),
    )


def _bytes_of_tags(pod: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the runtime resolved each tag to (old ones begin with docker-pullable://); a digest says it itself."""
    resolved = {each["name"]: each.get("imageID") or "" for each in _statuses(pod)}
    for container in pod["spec"]["containers"]:
        found = resolved.get(container["name"], "").rpartition("://")[2]
        if found and AT_DIGEST not in container["image"]:
            yield f"{container['image']}={found}"


def _statuses(pod: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (pod.get("status") or {}).get("containerStatuses") or []


def _container(pod: Mapping[str, Any], port: str) -> tuple[str, int]:
    """Return the container that has the port, and its number; where none is asked for, the first one and 0.

    Raise LookupError where none declares it.
    """
    containers = pod["spec"]["containers"]
    if not port:
        return containers[0]["name"], 0
    for container in containers:
        for declared in container.get("ports") or []:
            if port in (declared.get("name"), str(declared["containerPort"])):
                return container["name"], int(declared["containerPort"])
    if port.isdecimal():
        return containers[0]["name"], int(port)
    raise LookupError(f"pod {pod['metadata']['name']} has no container port named {port}")


def _started(pod: Mapping[str, Any], container: str) -> str | None:
    for status in _statuses(pod):
        if status["name"] == container:
            return ((status.get("state") or {}).get("running") or {}).get("startedAt")
    return None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
