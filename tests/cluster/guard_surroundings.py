"""Further roads of the guard: what stands around a guarded Deployment, the configuration, and canary's own namespace.

Tables as in `guard_roads`, of the same world; `surroundings` makes what these need besides.
"""

from typing import Any

from cluster_bed import SYSTEM, Bed
from guard_on_bed import EVERYBODY, PEOPLE, Road, apply, create, delete, delete_named, merge, operations
from guard_roads import (
    DEPLOYMENT,
    EVERYBODY_ELSE,
    GLASS,
    GLASS_BREAKERS,
    GUARDED,
    LABELS,
    PLAIN,
    SHOP,
    SIDE,
    pods_of,
    policy_spec,
    unnamed,
)

from canary.api.change import ChangeAnnotation
from canary.api.kinds import KINDS
from canary.api.marks import TRUE, Mark
from canary.api.reasons import GROUP
from canary.kube.client import Intent
from canary.kube.resources import (
    CANARYPOLICIES,
    CONFIGMAPS,
    CRDS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    HPAS,
    LEASES,
    NAMESPACES,
    PODS,
    SERVICES,
    Ref,
    Resource,
)

Object = dict[str, Any]
OTHERS = (*PEOPLE, "agent")  # everybody but the controller, whom other rules keep from it
SECRETS = Resource("", "v1", "secrets", "Secret")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
TEXT = {"data": {"a": "b"}}

# -- G3 --------------------------------------------------------------------------------------------------------------

SERVICE, OTHER = SERVICES.at(SHOP, "shop").path(), SERVICES.at(SHOP, "other").path()
ALL_SERVICES = SERVICES.collection(SHOP)
PORTS = [{"port": 80}]


def service(name: str, **selector: str) -> Object:
    return SERVICES.at(SHOP, name).manifest(spec={"ports": PORTS, "selector": selector})


SERVICE_ROADS: dict[str, Road] = {
    "deleted": delete("services", SERVICE),
    "all deleted": delete("s", ALL_SERVICES),  # the side's Service is the first to be refused
    "all of its name deleted": delete_named("services", ALL_SERVICES, "shop"),
    "all of another name deleted": delete_named("services", ALL_SERVICES, "other", *OTHERS),
    "another one deleted": delete("services", OTHER, *OTHERS),
    "turned to the side": merge("services", SERVICE, {"spec": {"selector": {"app": "shop-canary"}}}),
    "turned to nobody": merge("services", SERVICE, {"spec": {"selector": {"version": "2"}}}),
    "turned to all": operations("services", SERVICE, [{"op": "remove", "path": "/spec/selector"}]),
    "another port": merge("services", SERVICE, {"spec": {"ports": [{"port": 81}]}}),
    "another target port": merge("services", SERVICE, {"spec": {"ports": [{"port": 80, "targetPort": 9}]}}),
    "by force": apply("services", SERVICE, service("shop", app="shop-canary")),
    "a note": merge("services", SERVICE, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "one for the side": create("services", ALL_SERVICES, service("road", app="shop-canary"), "pod"),
    "one for both": create("services", ALL_SERVICES, service("road", tier="web"), "pod"),
    "one for the side by our label": create(
        "services", ALL_SERVICES, service("road", **{Mark.SIDE.value: "shop-canary"}), "pod"
    ),
    "one by a generated name": create(
        "services",
        ALL_SERVICES,
        unnamed(service("x", app="shop-canary")),
        "pod",
    ),
    "one for stable": create("services", ALL_SERVICES, service("road", app="shop"), *EVERYBODY),
    "one for narrower pods": create(
        "services", ALL_SERVICES, service("road", app="shop-canary", zone="a"), *EVERYBODY
    ),
    "one without a selector": create("services", ALL_SERVICES, service("road"), *EVERYBODY),
    "another one turned to the side": merge(
        "services", OTHER, {"spec": {"selector": {"app": "shop-canary"}}}, "pod"
    ),
    "the glass broken": merge(
        "services", SERVICE, {"metadata": GLASS, "spec": {"selector": {"app": "x"}}}, *GLASS_BREAKERS
    ),
    "in another namespace": merge(
        "services", SERVICES.at(PLAIN, "shop").path(), {"spec": {"selector": {"app": "x"}}}, *EVERYBODY
    ),
}

# -- G2 --------------------------------------------------------------------------------------------------------------

SCALED = DEPLOYMENTS.at(SHOP, "shop").path("scale")
AUTOSCALER = HPAS.at(SHOP, "shop")


def autoscaler(name: str, **spec: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}
    return HPAS.at(SHOP, name).manifest(spec={"scaleTargetRef": target, "maxReplicas": 9, **spec})


UNNUMBERED = {
    "apiVersion": "autoscaling/v1",
    "kind": "Scale",
    "metadata": {"name": "shop", "namespace": SHOP},
}
SCALES: dict[str, Road] = {
    "to nothing": merge("scale", SCALED, {"spec": {"replicas": 0}}),
    "to less": merge("scale", SCALED, {"spec": {"replicas": 1}}),
    "without a number": Road("scale", "PUT", SCALED, UNNUMBERED),
    "to as many": merge("scale", SCALED, {"spec": {"replicas": 2}}, *EVERYBODY),
    "to more": merge("scale", SCALED, {"spec": {"replicas": 5}}, *EVERYBODY),
    "to less, with a reason": merge("scale", SCALED, {"metadata": GLASS, "spec": {"replicas": 1}}),
    "the Deployment to less": merge("scale", DEPLOYMENT, {"spec": {"replicas": 1}}),
    "the Deployment to nothing by force": apply(
        "scale", DEPLOYMENT, DEPLOYMENTS.at(SHOP, "shop").manifest(spec={"replicas": 0})
    ),
    "the Deployment to more": merge("scale", DEPLOYMENT, {"spec": {"replicas": 3}}, *EVERYBODY_ELSE),
    "the Deployment, the glass broken": merge(
        "scale", DEPLOYMENT, {"metadata": GLASS, "spec": {"replicas": 1}}, *GLASS_BREAKERS
    ),
    "the side to nothing": merge("scale", SIDE.path("scale"), {"spec": {"replicas": 0}}, *EVERYBODY),
    "another Deployment": merge(
        "scale", DEPLOYMENTS.at(SHOP, "rolling").path("scale"), {"spec": {"replicas": 0}}, *EVERYBODY
    ),
    "in another namespace": merge(
        "scale", DEPLOYMENTS.at(PLAIN, "shop").path("scale"), {"spec": {"replicas": 0}}, *EVERYBODY
    ),
    "an autoscaler with less": create("autoscalers", HPAS.collection(SHOP), autoscaler("road", minReplicas=1)),
    "an autoscaler without a least": create("autoscalers", HPAS.collection(SHOP), autoscaler("road")),
    "an autoscaler with as many": create(
        "autoscalers", HPAS.collection(SHOP), autoscaler("road", minReplicas=2), *EVERYBODY
    ),
    "an autoscaler lowered": merge("autoscalers", AUTOSCALER.path(), {"spec": {"minReplicas": 1}}),
    "an autoscaler raised": merge("autoscalers", AUTOSCALER.path(), {"spec": {"minReplicas": 4}}, *EVERYBODY_ELSE),
    "an autoscaler's ceiling": merge("autoscalers", AUTOSCALER.path(), {"spec": {"maxReplicas": 5}}, *EVERYBODY_ELSE),
    "an autoscaler frozen": merge(
        "autoscalers",
        AUTOSCALER.path(),
        {"spec": {"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}},
        *EVERYBODY,
    ),
    "an autoscaler by a generated name": create("autoscalers", HPAS.collection(SHOP), unnamed(autoscaler("road"))),
    "an autoscaler by force": apply("autoscalers", AUTOSCALER.path(), autoscaler("shop", minReplicas=1)),
    "an autoscaler by its old version": merge(
        "autoscalers", AUTOSCALER.path().replace("/v2/", "/v1/"), {"spec": {"minReplicas": 1}}
    ),
}  # fmt: skip

# -- G6 --------------------------------------------------------------------------------------------------------------

ADDRESS = {"addresses": ["10.77.9.9"], "conditions": {"ready": True}}


def endpoint_slice(name: str, namespace: str = SHOP) -> Object:
    parts: Object = {"addressType": "IPv4", "endpoints": [ADDRESS], "ports": [{"port": 80}]}
    labels = {"labels": {"kubernetes.io/service-name": "shop"}}
    return ENDPOINTSLICES.at(namespace, name).manifest(labels, **parts)


def own_slice(name: str) -> Object:
    """Return a slice as canary makes one."""
    found = endpoint_slice(name)
    found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = GROUP
    return found


OWN_SLICE = ENDPOINTSLICES.at(SHOP, "own-canary").path()


ENDPOINT_ROADS: dict[str, Road] = {
    "a slice of one's own": create("slices", ENDPOINTSLICES.collection(SHOP), endpoint_slice("road")),
    "a slice by force": apply("slices", ENDPOINTSLICES.at(SHOP, "kept").path(), endpoint_slice("kept")),
    "a slice turned": merge("slices", ENDPOINTSLICES.at(SHOP, "kept").path(), {"endpoints": []}),
    "a slice deleted": delete("slices", ENDPOINTSLICES.at(SHOP, "kept").path()),
    "all slices deleted": delete("slices", ENDPOINTSLICES.collection(SHOP)),
    "canary's slice": create("slices", ENDPOINTSLICES.collection(SHOP), own_slice("road-canary"), "pod"),
    "canary's slice by another name": create("slices", ENDPOINTSLICES.collection(SHOP), own_slice("road")),
    "canary's slice filled": merge("slices", OWN_SLICE, {"endpoints": [ADDRESS, ADDRESS]}, "pod"),
    "canary's slice emptied": merge("slices", OWN_SLICE, {"endpoints": []}, *EVERYBODY),
    "canary's slice emptied and led elsewhere": merge(
        "slices",
        OWN_SLICE,
        {"endpoints": [], "metadata": {"labels": {"kubernetes.io/service-name": "other"}}},
        "pod",
    ),
    "canary's slice disowned": merge(
        "slices", OWN_SLICE, {"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "me"}}}
    ),
    "another slice made canary's": merge(
        "slices",
        ENDPOINTSLICES.at(SHOP, "kept").path(),
        {"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": GROUP}}},
    ),
    "canary's slice deleted": delete("slices", OWN_SLICE, "pod"),
    "a slice by a generated name": create(
        "slices", ENDPOINTSLICES.collection(SHOP), unnamed(endpoint_slice("road"))
    ),
    "endpoints of one's own": create("endpoints", ENDPOINTS.collection(SHOP), ENDPOINTS.at(SHOP, "road").manifest()),
    "endpoints marked": merge("endpoints", ENDPOINTS.at(SHOP, "kept").path(), {"metadata": {"labels": {"a": "b"}}}),
    "endpoints deleted": delete("endpoints", ENDPOINTS.at(SHOP, "kept").path()),
    "endpoints by a generated name": create(
        "endpoints", ENDPOINTS.collection(SHOP), unnamed(ENDPOINTS.at(SHOP, "road").manifest())
    ),
    "endpoints by force": apply("endpoints", ENDPOINTS.at(SHOP, "kept").path(), ENDPOINTS.at(SHOP, "kept").manifest()),
    "all endpoints deleted": delete("endpoints", ENDPOINTS.collection(SHOP)),
    "endpoints in another namespace": create(
        "endpoints", ENDPOINTS.collection(PLAIN), ENDPOINTS.at(PLAIN, "road").manifest(), *EVERYBODY
    ),
    "the glass broken": merge(
        "slices", ENDPOINTSLICES.at(SHOP, "kept").path(), {"metadata": GLASS}, *GLASS_BREAKERS
    ),
    "in another namespace": create(
        "slices", ENDPOINTSLICES.collection(PLAIN), endpoint_slice("road", PLAIN), *EVERYBODY
    ),
}  # fmt: skip

# -- G5, of slices ---------------------------------------------------------------------------------------------------


def named_slice(name: str, *addresses: Object) -> Object:
    """Return a slice of canary's, where no other rule is about slices."""
    return ENDPOINTSLICES.at(PLAIN, name).manifest(
        {"labels": {**own_slice(name)["metadata"]["labels"], Mark.ATTACHED.value: TRUE}},
        addressType="IPv4",
        endpoints=list(addresses),
        ports=[{"port": 80}],
    )


def made_slice(manifest: Object, *open_to: str) -> Road:
    return create("slice-ceiling", ENDPOINTSLICES.collection(PLAIN), manifest, *open_to)


def forced_slice(name: str, *open_to: str) -> Road:
    path = ENDPOINTSLICES.at(PLAIN, name).path()
    return apply("slice-ceiling", path, named_slice(name, ADDRESS), *open_to)


SLICE_CEILING: dict[str, Road] = {
    "a pod, of a run that allows a weight": made_slice(named_slice("shop-canary", ADDRESS), *EVERYBODY),
    "a pod, of a run that allows none": made_slice(named_slice("new-canary", ADDRESS), *OTHERS),
    "no pod, of a run that allows none": made_slice(named_slice("new-canary"), *EVERYBODY),
    "a pod, of a run that gave everything back": made_slice(named_slice("old-canary", ADDRESS), *EVERYBODY),
    "a pod, by a generated name": made_slice(unnamed(named_slice("new-canary", ADDRESS)), *EVERYBODY),
    "a pod by force, of a run that allows none": forced_slice("new-canary", *OTHERS),
    "a pod by force, of a run that allows a weight": forced_slice("shop-canary", *EVERYBODY),
}

# -- G9 --------------------------------------------------------------------------------------------------------------

CONFIG, SECRET = CONFIGMAPS.at(SHOP, "settings").path(), SECRETS.at(SHOP, "settings").path()
BYTES = {"a": "Yg=="}
CONFIG_ROADS: dict[str, Road] = {
    "another value": merge("configmaps", CONFIG, {"data": {"a": "c"}}),
    "one more value": merge("configmaps", CONFIG, {"data": {"z": "c"}}),
    "no values": merge("configmaps", CONFIG, {"data": None}),
    "more bytes": merge("configmaps", CONFIG, {"binaryData": {"z": "Yg=="}}),
    "by force": apply("configmaps", CONFIG, CONFIGMAPS.at(SHOP, "settings").manifest(data={"a": "c"})),
    "deleted": delete("configmaps", CONFIG),
    "its label taken off": merge("configmaps", CONFIG, {"metadata": {"labels": None}}),
    "made immutable": merge("configmaps", CONFIG, {"immutable": True}, *EVERYBODY),
    "a note": merge("configmaps", CONFIG, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "the glass broken": merge("configmaps", CONFIG, {"metadata": GLASS, "data": {"a": "c"}}, *GLASS_BREAKERS),
    "another secret": merge("secrets", SECRET, {"data": {"a": "Yw=="}}),
    "another secret as text": merge("secrets", SECRET, {"stringData": {"a": "c"}}),
    "a secret deleted": delete("secrets", SECRET),
    "a secret's label taken off": merge("secrets", SECRET, {"metadata": {"labels": None}}),
    "a secret by force": apply("secrets", SECRET, SECRETS.at(SHOP, "settings").manifest(data={"a": "Yw=="})),
    "a secret without values": merge("secrets", SECRET, {"data": None}),
    "all secrets deleted": delete("secrets", SECRETS.collection(SHOP)),
    "a secret, the glass broken": merge(
        "secrets", SECRET, {"metadata": GLASS, "data": {"a": "Yw=="}}, *GLASS_BREAKERS
    ),
    "all configuration deleted": delete("configmaps", CONFIGMAPS.collection(SHOP)),
    "a note on a secret": merge("secrets", SECRET, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "configuration that nobody guards": merge(
        "configmaps", CONFIGMAPS.at(SHOP, "free").path(), {"data": {"a": "c"}}, *EVERYBODY
    ),
}

# -- G11 and G12 -----------------------------------------------------------------------------------------------------

NAMESPACE = NAMESPACES.at("", SHOP).path()
OUR_CRDS = [CRDS.at("", f"{kind.plural}.{GROUP}").path() for kind in KINDS]
OUR_CRD = OUR_CRDS[0].rpartition("/")[2]
THEIR_CRD = CRDS.at("", "httproutes.gateway.networking.k8s.io").path()
SCOPE_ROADS: dict[str, Road] = {
    "the namespace deleted": delete("namespaces", NAMESPACE),
    "the namespace deleted by force": delete("namespaces", NAMESPACE, gracePeriodSeconds=0),
    "its label taken off": merge("namespaces", NAMESPACE, {"metadata": {"labels": {Mark.GUARDED.value: None}}}),
    "its label turned": merge("namespaces", NAMESPACE, {"metadata": {"labels": {Mark.GUARDED.value: "no"}}}),
    "its label by force": apply(
        "namespaces", NAMESPACE, NAMESPACES.at("", SHOP).manifest({"labels": {Mark.GUARDED.value: "no"}})
    ),
    "a note on the namespace": merge("namespaces", NAMESPACE, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "the glass broken": merge(
        "namespaces",
        NAMESPACE,
        {"metadata": {**GLASS, "labels": {Mark.GUARDED.value: None}}},
        *GLASS_BREAKERS,
    ),
    "another namespace deleted": delete("namespaces", NAMESPACES.at("", PLAIN).path(), *OTHERS),
    **{f"the CRD {path.rpartition('/')[2]} deleted": delete("crds", path) for path in OUR_CRDS},
    "all CRDs of our name deleted": delete_named("crds", CRDS.collection(None), OUR_CRD),
    "a CRD's rules changed": merge("crds", OUR_CRDS[0], {"spec": {"names": {"shortNames": ["x"]}}}),
    "a CRD's rules changed by force": apply(
        "crds", OUR_CRDS[0], CRDS.at("", OUR_CRD).manifest(spec={"names": {"shortNames": ["x"]}})
    ),
    "a CRD of others annotated": merge("crds", THEIR_CRD, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "a CRD annotated": merge("crds", OUR_CRDS[0], {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
}  # fmt: skip
OUR_LEASE = LEASES.at(SYSTEM, "canary-controller")
OURS = DEPLOYMENTS.at(SYSTEM, "canary-controller")
POD = PODS.at(SYSTEM, "canary-controller-0").path()


def minting(account: str, *open_to: str, namespace: str = SYSTEM, **spec: Any) -> Road:
    """Ask for a token of an account, as `kubectl create token` does."""
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [], **spec},
    }
    return create("tokens", ACCOUNTS.at(namespace, account).path("token"), body, *open_to)


OWN_ROADS: dict[str, Road] = {
    "our Deployment scaled": merge("own", OURS.path("scale"), {"spec": {"replicas": 0}}),
    "our Deployment changed": merge("own", OURS.path(), {"spec": {"minReadySeconds": 5}}),
    "our Deployment deleted": delete("own", OURS.path()),
    "our namespace deleted": delete("own", NAMESPACES.at("", SYSTEM).path()),
    "our namespace relabelled": merge("own", NAMESPACES.at("", SYSTEM).path(), {"metadata": {"labels": {"a": "b"}}}),
    "our pod deleted": delete("own", POD),
    "a pod in our name": create(
        "own",
        PODS.collection(SYSTEM),
        PODS.at(SYSTEM, "canary-controller-9").manifest(spec={"containers": [{"name": "c", "image": "x:1"}]}),
    ),
    "a pod by a generated name": create(
        "own",
        PODS.collection(SYSTEM),
        unnamed(PODS.at(SYSTEM, "x").manifest(spec={"containers": [{"name": "c", "image": "x:1"}]})),
    ),
    "all pods deleted": delete("own", PODS.collection(SYSTEM)),
    "our Deployment by force": apply("own", OURS.path(), OURS.manifest(spec={"minReadySeconds": 5})),
    "a role elsewhere": create("own", ROLES.collection(PLAIN), ROLES.at(PLAIN, "road").manifest(rules=[]), *EVERYBODY),
    "our configuration changed": merge("own", CONFIGMAPS.at(SYSTEM, "people").path(), TEXT),
    "an account deleted": delete("own", ACCOUNTS.at(SYSTEM, "canary-controller").path()),
    "a role of one's own": create("own", ROLES.collection(SYSTEM), ROLES.at(SYSTEM, "road").manifest(rules=[])),
    "a Lease taken": merge("leases", OUR_LEASE.path(), {"spec": {"holderIdentity": "me"}}, "pod"),
    "a Lease deleted": delete("leases", OUR_LEASE.path()),
    "a Lease made": create("leases", LEASES.collection(SYSTEM), LEASES.at(SYSTEM, "road").manifest(spec={}), "pod"),
    "a Lease by a generated name": create(
        "leases",
        LEASES.collection(SYSTEM),
        unnamed(LEASES.at(SYSTEM, "x").manifest(spec={})),
        "pod",
    ),
    "a Lease by force": apply("leases", OUR_LEASE.path(), OUR_LEASE.manifest(spec={"holderIdentity": "me"}), "pod"),
    "a Lease emptied": merge("leases", OUR_LEASE.path(), {"spec": None}, "pod"),
    "a Lease annotated": merge("leases", OUR_LEASE.path(), {"metadata": {"annotations": {"a": "b"}}}, "pod"),
    "all Leases deleted": delete("leases", LEASES.collection(SYSTEM)),
    "a Lease of others": create(
        "leases", LEASES.collection(PLAIN), LEASES.at(PLAIN, "road").manifest(spec={}), *EVERYBODY
    ),
    "a token minted": minting("canary-controller"),
    "a token minted for long": minting("canary-controller", expirationSeconds=86_400),
    "a token minted for an audience": minting("canary-controller", audiences=["https://elsewhere.example"]),
    "a token minted as a pod's": minting(
        "canary-controller", boundObjectRef={"apiVersion": "v1", "kind": "Pod", "name": "canary-controller-0"}
    ),
    "a token minted without an audience": minting("canary-controller", audiences=None),
    "a token minted for the default account": minting("default"),
    "a token minted for another": minting("default", *EVERYBODY, namespace=PLAIN),
}  # fmt: skip


# -- M1 at CREATE: not a rule that refuses, so every road is open ------------------------------------------------------

LOST = CANARYPOLICIES.at(SHOP, "lost")


def made(name: str, namespace: str = SHOP, metadata: Object | None = None, **spec: Any) -> Object:
    manifest = DEPLOYMENTS.at(namespace, name).manifest(spec={**pods_of(name), **spec})
    return {**manifest, "metadata": {**manifest["metadata"], **(metadata or {})}}


def _making(manifest: Object) -> Road:
    return create("anew", DEPLOYMENTS.collection(manifest["metadata"]["namespace"]), manifest, *EVERYBODY)


HELD_ANEW: dict[str, Road] = {
    "what was deleted": _making(made("lost")),
    "let go in the same write": _making(made("lost", paused=False)),
    "not guarded in the same write": _making(
        made("lost", metadata={"labels": {Mark.GUARDED.value: "false"}})
    ),
    "by somebody with a reason": _making(made("lost", metadata=GLASS)),
    "as somebody else's": _making(
        made("lost", metadata={"annotations": {ChangeAnnotation.CHANGED_BY.value: "carol"}})
    ),
    "by force": apply("anew", DEPLOYMENTS.at(SHOP, "lost").path(), made("lost"), *EVERYBODY),
}
NOT_HELD: dict[str, Road] = {
    "one that nobody guards": _making(made("unheard-of")),
    "one whose policy has not adopted it": _making(made("other")),
    "one by a name that the server makes up": _making(unnamed(made("lost"), "lost")),
    "one of the name where nothing is guarded": _making(made("lost", PLAIN)),
}  # fmt: skip


def surroundings(bed: Bed) -> None:
    """Make what these roads need, before anything guards it."""
    _make(bed, LOST, spec=policy_spec(target={"name": "lost"}))
    bed.admin.merge_patch(LOST, {"status": {"adopted": True}}, intent=Intent.NEUTRAL, subresource="status")
    _make(bed, SERVICES.at(SHOP, "other"), spec={"ports": PORTS, "selector": {"app": "other"}})
    bed.admin.create(HPAS, autoscaler("shop", minReplicas=2), intent=Intent.NEUTRAL)
    bed.admin.create(ENDPOINTSLICES, endpoint_slice("kept"), intent=Intent.NEUTRAL)
    bed.admin.create(ENDPOINTSLICES, own_slice("own-canary"), intent=Intent.NEUTRAL)
    _make(bed, ENDPOINTS.at(SHOP, "kept"))
    _make(bed, CONFIGMAPS.at(SHOP, "settings"), {"labels": GUARDED}, **TEXT)
    _make(bed, CONFIGMAPS.at(SHOP, "free"), **TEXT)
    _make(bed, SECRETS.at(SHOP, "settings"), {"labels": GUARDED}, data=BYTES)
    _make(bed, CONFIGMAPS.at(SYSTEM, "people"), **TEXT)
    if bed.admin.get(OUR_LEASE) is None:  # where no controller of another test led
        _make(bed, OUR_LEASE, spec={})
    pods = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "x.invalid/x:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": pods}
    _make(bed, OURS, spec=spec)


def _make(bed: Bed, ref: Ref, metadata: Object | None = None, **parts: Any) -> None:
    bed.make(ref.resource, ref.name, ref.namespace, metadata=metadata or {}, **parts)
