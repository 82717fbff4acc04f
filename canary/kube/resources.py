"""The kinds that canary reads or writes, and where the API server keeps them: one table, no discovery.

Everybody names an object by `DEPLOYMENTS.at("shop", "checkout")` and a kind by its constant. Names come
from users' policies, so a path is built in one place that refuses what could turn one object into another,
or into a whole list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from canary.api.reasons import GROUP, VERSION
from canary.errors import RefusedError

NO_NAMES = frozenset({"", ".", ".."})


class Key(NamedTuple):
    """What names an object within its kind. A cluster-wide object has the namespace ""."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object, as the API server serves it."""

    group: str  # "" is the core group
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def at(self, namespace: str, name: str) -> "Ref":
        """Name one object; cluster-wide kinds have the namespace ""."""
        return Ref(self, namespace, name)

    def collection(self, namespace: str | None) -> str:
        """Return the path of the list; None means all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace is None or not self.namespaced:
            return f"{root}/{self.plural}"
        return f"{root}/namespaces/{_segment(namespace)}/{self.plural}"


@dataclass(frozen=True, slots=True)
class Ref:
    """One object of a kind."""

    resource: Resource
    namespace: str
    name: str

    def path(self, subresource: str = "") -> str:
        own = f"{self.resource.collection(self.namespace)}/{_segment(self.name)}"
        return f"{own}/{_segment(subresource)}" if subresource else own

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)

    def manifest(self, metadata: Mapping[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
        """Return an object of this kind and name with these parts; `metadata` is what it has besides."""
        place = {"name": self.name} | ({"namespace": self.namespace} if self.resource.namespaced else {})
        typed = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        return {**typed, "metadata": {**place, **(metadata or {})}, **parts}

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Selection:
    """Objects of one kind: in one namespace or everywhere, all or those that a label selector names."""

    resource: Resource
    namespace: str | None = None
    labels: str = ""


def key_of(obj: Mapping[str, Any]) -> Key:
    """Return the key of an object. Raise KeyError where it has no name."""
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def _segment(text: str) -> str:
    if text in NO_NAMES:
        raise RefusedError(f"{text!r} names no object; give its name and namespace")
    return quote(text, safe="")


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
EVENTS = Resource("", "v1", "events", "Event")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
CONTROLLERREVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
HTTPROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GRPCROUTES = Resource("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute")
PDBS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
HPAS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
CANARYPOLICIES = Resource(GROUP, VERSION, "canarypolicies", "CanaryPolicy")
CANARYRUNS = Resource(GROUP, VERSION, "canaryruns", "CanaryRun")
CANARYREQUESTS = Resource(GROUP, VERSION, "canaryrequests", "CanaryRequest")
SUBJECTACCESSREVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
SAFETYPOLICIES = Resource(GROUP, VERSION, "safetypolicies", "SafetyPolicy", namespaced=False)
