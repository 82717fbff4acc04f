"""The kinds of Kubernetes itself that canary touches, with the defaults and rules that it relies on.

The schemas are partial on purpose: unknown fields pass, known ones are completed as a real API server
completes them, because canary compares *defaulted* templates and reads back what it wrote. Called by
`store.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from canary.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    CRDS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    GRPCROUTES,
    HPAS,
    HTTPROUTES,
    LEASES,
    NAMESPACES,
    PDBS,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from canary.lab.apiserver.objects import Object
from canary.lab.apiserver.printer import COLUMNS, PLAIN_COLUMNS
from canary.lab.apiserver.resources import Kind, Kinds
from canary.lab.apiserver.selectors import matches

MAX_WEIGHT = 1_000_000  # of one backendRef, the Gateway API's own limit
MAX_BACKENDS = 16

_OPEN = "x-kubernetes-preserve-unknown-fields"


def _open(required: str = "", **fields: Any) -> Object:
    """Return an object schema that requires and knows some fields, and lets all others pass."""
    return {"type": "object", _OPEN: True, "required": required.split(), "properties": fields}


def _list(items: Object, least: int = 0, most: int = 10_000) -> Object:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _default(value: Any, **limits: Any) -> Object:
    words = {bool: "boolean", int: "integer", str: "string", dict: "object", list: "array"}
    extra = {_OPEN: True} if isinstance(value, dict) else {}
    return {"type": words[type(value)], "default": value, **extra, **limits}


def _count(default: int) -> Object:
    return _default(default, minimum=0, format="int32")


_NAME = {"type": "string", "minLength": 1}

_PROBE = _open(
    timeoutSeconds=_count(1),
    periodSeconds=_count(10),
    successThreshold=_count(1),
    failureThreshold=_count(3),
    httpGet=_open(path=_default("/"), scheme=_default("HTTP")),
)
_CONTAINER = _open(
    "name image",
    name=_NAME,
    image=_NAME,
    ports=_list(_open("containerPort", protocol=_default("TCP"), containerPort={"type": "integer"})),
    env=_list(_open("name", name=_NAME)),
    resources=_default({}),
    terminationMessagePath=_default("/dev/termination-log"),
    terminationMessagePolicy=_default("File"),
    livenessProbe=_PROBE,
    readinessProbe=_PROBE,
    startupProbe=_PROBE,
)
_POD_SPEC = _open(
    "containers",
    containers=_list(_CONTAINER, least=1) | {"x-kubernetes-list-map-keys": ["name"]},
    initContainers=_list(_CONTAINER),
    restartPolicy=_default("Always"),
    terminationGracePeriodSeconds=_count(30),
    dnsPolicy=_default("ClusterFirst"),
    schedulerName=_default("default-scheduler"),
    securityContext=_default({}),
)
_TEMPLATE = _open("spec", metadata={"type": "object", "nullable": True, _OPEN: True}, spec=_POD_SPEC)
_SELECTOR = _open(matchLabels={"type": "object", "additionalProperties": {"type": "string"}})
_SHARE = {"x-kubernetes-int-or-string": True, "default": "25%"}
_ROLLING = _open(maxUnavailable=_SHARE, maxSurge=_SHARE)
_DEPLOYMENT = _open(
    "spec",
    spec=_open(
        "selector template",
        replicas=_count(1),
        selector=_SELECTOR,
        template=_TEMPLATE,
        paused={"type": "boolean"},
        strategy=_open(
            type=_default("RollingUpdate", enum=["RollingUpdate", "Recreate"]), rollingUpdate=_ROLLING
        )
        | {"default": {}},
        revisionHistoryLimit=_count(10),
        progressDeadlineSeconds=_count(600),
        minReadySeconds={"type": "integer", "minimum": 0},
    ),
)
_REPLICA_SET = _open(
    "spec",
    spec=_open("selector", replicas=_count(1), selector=_SELECTOR, template=_TEMPLATE),
    status=_default({"replicas": 0}),
)
_SERVICE = _open(
    "spec",
    spec=_open(
        type=_default("ClusterIP"),
        sessionAffinity=_default("None"),
        ports=_list(_open("port", port={"type": "integer"}, protocol=_default("TCP"))),
    ),
)
_BACKEND = _open(
    "name",
    group=_default(""),
    kind=_default("Service"),
    name=_NAME,
    weight=_default(1, minimum=0, maximum=MAX_WEIGHT, format="int32"),
)
_MIRROR = _open(backendRef=_open("name", group=_default(""), kind=_default("Service"), name=_NAME))
_MATCH = _open(path=_open(type=_default("PathPrefix"), value=_default("/")) | {"default": {}})
_PARENTS = _list(
    _open("name", group=_default("gateway.networking.k8s.io"), kind=_default("Gateway"), name=_NAME), most=32
)
_BACKENDS = _list(_BACKEND, most=MAX_BACKENDS)
_GRPC_ROUTE = _open(
    "spec", spec=_open(parentRefs=_PARENTS, rules=_list(_open(backendRefs=_BACKENDS), most=16))
)
_HTTP_ROUTE = _open(
    "spec",
    spec=_open(
        parentRefs=_PARENTS,
        rules=_list(
            _open(
                matches=_list(_MATCH, most=64)
                | {"default": [{"path": {"type": "PathPrefix", "value": "/"}}]},
                filters=_list(_open("type", requestMirror=_MIRROR), most=16),
                backendRefs=_BACKENDS,
            ),
            most=16,
        )
        | {"default": [{}]},
    ),
)
_ENDPOINT_SLICE = _open(
    "addressType endpoints",
    addressType={"type": "string", "enum": ["IPv4", "IPv6", "FQDN"]},
    endpoints=_list(_open("addresses", addresses=_list({"type": "string"}, most=100)), most=1000),
    ports=_list(_open(protocol=_default("TCP"), name=_default(""))),
)
_AUTOSCALER = _open(
    "spec",
    spec=_open("scaleTargetRef maxReplicas", scaleTargetRef=_open("kind name", kind=_NAME, name=_NAME)),
)
_DEFINITION_NAMES = _open("kind plural", kind=_NAME, plural=_NAME)
_DEFINITION = _open(
    "spec",
    spec=_open(
        "group names scope versions",
        names=_DEFINITION_NAMES,
        scope={"type": "string", "enum": ["Namespaced", "Cluster"]},
        versions=_list(_open("name served storage schema"), least=1),
    ),
)


def _template_defaults(obj: Object) -> None:
    pod = obj["spec"].get("template") if "template" in obj["spec"] else obj
    spec = (pod or {}).get("spec")
    for container in spec["containers"] if spec else ():
        image: str = container["image"]
        latest = image.endswith(":latest") or not {":", "@"} & set(image.rpartition("/")[2])
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")


def _deployment_defaults(obj: Object) -> None:
    _template_defaults(obj)
    strategy = obj["spec"]["strategy"]
    if strategy.get("type") == "RollingUpdate" and "rollingUpdate" not in strategy:
        strategy["rollingUpdate"] = {"maxUnavailable": "25%", "maxSurge": "25%"}
    if not obj["spec"].get("paused", True):
        del obj["spec"]["paused"]  # a real server leaves false out


def _autoscaler_defaults(obj: Object) -> None:
    """Complete a behavior that says something, as a real server does; one that is not there stays away."""
    behavior = obj["spec"].get("behavior")
    if behavior is not None:
        up = behavior.setdefault("scaleUp", {})
        up.setdefault("selectPolicy", "Max")
        up.setdefault("stabilizationWindowSeconds", 0)
        up.setdefault("policies", [{"type": "Pods", "value": 4, "periodSeconds": 15}])
        down = behavior.setdefault("scaleDown", {})
        down.setdefault("selectPolicy", "Max")
        down.setdefault("policies", [{"type": "Percent", "value": 100, "periodSeconds": 15}])


def _service_defaults(obj: Object) -> None:
    for port in obj["spec"].get("ports") or ():
        port.setdefault("targetPort", port.get("port"))


def _workload_rules(new: Object, old: Object | None) -> Iterator[str]:
    spec = new["spec"]
    selector: Object = spec["selector"]
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not matches(selector, labels):
        yield "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`"
    if old is not None and old["spec"]["selector"] != selector:
        yield "spec.selector: Invalid value: field is immutable"


def _revision_rules(new: Object, old: Object | None) -> Iterator[str]:
    if old is not None and old.get("data") != new.get("data"):
        yield "data: Invalid value: field is immutable"


def _definition_rules(new: Object, _old: Object | None) -> Iterator[str]:
    spec = new["spec"]
    wanted = f"{spec['names']['plural']}.{spec['group']}"
    if new["metadata"]["name"] != wanted:
        yield f'metadata.name: Invalid value: must be spec.names.plural+"."+spec.group, {wanted}'
    if sum(bool(version["storage"]) for version in spec["versions"]) != 1:
        yield "spec.versions: Invalid value: must have exactly one version marked as storage version"


_STATUS = {"subresources": frozenset({"status"})}
_WORKLOAD = {
    "subresources": frozenset({"status", "scale"}),
    "rules": _workload_rules,
    "categories": ("all",),
    "counts_generations": True,
}
_COUNTED = {**_STATUS, "counts_generations": True}
_FACTS: Mapping[Resource, Mapping[str, Any]] = {
    NAMESPACES: {**_STATUS, "short_names": ("ns",)},
    PODS: {
        **_STATUS,
        "short_names": ("po",),
        "schema": _open("spec", spec=_POD_SPEC),
        "defaults": _template_defaults,
        "stops_gracefully": True,
        "categories": ("all",),
    },
    SERVICES: {
        **_STATUS,
        "short_names": ("svc",),
        "schema": _SERVICE,
        "defaults": _service_defaults,
        "categories": ("all",),
    },
    EVENTS: {"short_names": ("ev",)},
    CONFIGMAPS: {"short_names": ("cm",)},
    DEPLOYMENTS: {
        **_WORKLOAD,
        "short_names": ("deploy",),
        "schema": _DEPLOYMENT,
        "defaults": _deployment_defaults,
    },
    REPLICASETS: {
        **_WORKLOAD,
        "short_names": ("rs",),
        "schema": _REPLICA_SET,
        "defaults": _template_defaults,
    },
    STATEFULSETS: _COUNTED,
    DAEMONSETS: _COUNTED,
    CONTROLLERREVISIONS: {"rules": _revision_rules},
    ENDPOINTSLICES: {"schema": _ENDPOINT_SLICE, "counts_generations": True},
    PDBS: {**_COUNTED, "short_names": ("pdb",)},
    LEASES: {},
    HPAS: {**_STATUS, "short_names": ("hpa",), "schema": _AUTOSCALER, "defaults": _autoscaler_defaults},
    HTTPROUTES: {**_COUNTED, "schema": _HTTP_ROUTE},
    GRPCROUTES: {**_COUNTED, "schema": _GRPC_ROUTE},
    CRDS: {**_COUNTED, "short_names": ("crd", "crds"), "schema": _DEFINITION, "rules": _definition_rules},
}


def builtin_kinds() -> Kinds:
    """Return a fresh registry with the kinds of Kubernetes and of the Gateway API."""
    return Kinds(
        tuple(
            Kind(**asdict(resource), columns=COLUMNS.get(resource.kind, PLAIN_COLUMNS), **facts)
            for resource, facts in _FACTS.items()
        )
    )
