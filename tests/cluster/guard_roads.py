"""Every road that a rule of the guard closes or leaves open, as tables: rule by rule, request by request.

A name says what is tried. Whoever is not named after the body is refused. `guarded_world` makes what the requests are
about: a held shop under way, with its side, its route and its run.
"""

from typing import Any

from cluster_bed import Bed
from guard_on_bed import (
    CONTROLLERS,
    EVERYBODY,
    PEOPLE,
    STRATEGIC,
    Road,
    apply,
    create,
    delete,
    merge,
    operations,
    stored_without,
)

from canary.api.change import ChangeRecord
from canary.api.marks import TRUE, Mark, side_name
from canary.api.policy import CanaryPolicySpec, Revision
from canary.api.reasons import GROUP, VERSION
from canary.api.run import CanaryRunSpec
from canary.api.types import ObjectRef
from canary.kube.client import Intent
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYREQUESTS,
    CANARYRUNS,
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    GRPCROUTES,
    HTTPROUTES,
    NAMESPACES,
    PDBS,
    PODS,
    SAFETYPOLICIES,
    SERVICES,
    Ref,
)
from canary.kube.transport import JSON

Object = dict[str, Any]
SHOP, PLAIN = "guarded-shop", "plain-shop"  # namespaces: one is guarded, the other is not
GUARDED = {Mark.GUARDED.value: TRUE}
LABELS = {"app": "shop"}
SIDE_LABELS = {Mark.SIDE.value: "shop-canary", Mark.TARGET.value: "shop", Mark.ROLE.value: "canary"}
SIDE_PODS = {"app": "shop-canary", "tier": "web", **SIDE_LABELS}
WHY = "INC-481: the payment provider is down and its hotfix cannot wait for a slice"
GLASS = {"annotations": {Mark.BREAK_GLASS.value: WHY}}
SHORT = {"annotations": {Mark.BREAK_GLASS.value: "in a hurry"}}
EVERYBODY_ELSE = tuple(user for user in EVERYBODY if user != "pod")
GLASS_BREAKERS = ("bob", "admin")  # who hold the right to it

DIGEST = "sha256:" + "e" * 64
KEPT = {"template": {"spec": {"containers": []}}}


def policy_spec(**more: Any) -> Object:
    analysis = {"orders": {"counter": "orders"}, "requests": {"counter": "requests"}}
    return {
        "target": {"name": "shop"},
        "analysis": analysis,
        "source": {"scrape": {"port": "http"}},
        "steps": [{"weight": "5%"}],
        **more,
    }


def unnamed(manifest: Object, prefix: str = "x-") -> Object:
    """Return a manifest whose name the API server is to make up."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "name"}
    return {**manifest, "metadata": {**metadata, "generateName": prefix}}


def run_spec(service: str = "shop") -> Object:
    """Return the spec of a run, as the product writes it."""
    policy = CanaryPolicySpec.model_validate(policy_spec())
    digest = "sha256:{}".format
    return CanaryRunSpec(
        policy_ref=ObjectRef(kind="CanaryPolicy", name="shop", uid="policy"),
        policy=policy,
        policy_digest=digest("d" * 64),
        target=ObjectRef(kind="Deployment", name="shop", uid="target"),
        service=service,
        revision=Revision(template_hash=digest("b" * 64), version="v2"),
        baseline=Revision(template_hash=digest("a" * 64), version="v1"),
        change=ChangeRecord(),
        digest=DIGEST,
        steps=policy.resolved_steps(ChangeRecord().origin),
    ).wire()


# -- G1 --------------------------------------------------------------------------------------------------------------


def template(image: str, labels: Object = LABELS) -> Object:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "shop", "image": image}]}}


NEWER = {"spec": {"containers": [{"name": "shop", "image": "registry.invalid/shop:3"}]}}
DEPLOYMENT = DEPLOYMENTS.at(SHOP, "shop").path()
UNHELD = DEPLOYMENTS.at(SHOP, "rolling").path()
ENDING = DEPLOYMENTS.at(SHOP, "ending").path()
ALL_DEPLOYMENTS = DEPLOYMENTS.collection(SHOP)


def applied(**spec: Any) -> Object:
    return DEPLOYMENTS.at(SHOP, "shop").manifest(spec=spec)


WORKLOAD: dict[str, Road] = {
    "paused: false": merge("workload", DEPLOYMENT, {"spec": {"paused": False}}, "pod"),
    "no paused": merge("workload", DEPLOYMENT, {"spec": {"paused": None}}, "pod"),
    "paused taken out": operations("workload", DEPLOYMENT, [{"op": "remove", "path": "/spec/paused"}], "pod"),
    "paused: false strategically": Road(
        "workload", "PATCH", DEPLOYMENT, {"spec": {"paused": False}}, STRATEGIC, ("pod",)
    ),
    "paused: false by force": apply("workload", DEPLOYMENT, applied(paused=False), "pod"),
    "replaced without paused": Road(
        "workload", "PUT", DEPLOYMENT, stored_without(DEPLOYMENT, "paused"), JSON, ("pod",)
    ),
    "replaced as it is": Road("workload", "PUT", DEPLOYMENT, stored_without(DEPLOYMENT), JSON, EVERYBODY),
    "deleted": delete("workload", DEPLOYMENT),
    "deleted by force": delete("workload", DEPLOYMENT, gracePeriodSeconds=0),
    "deleted, its pods left": delete("workload", DEPLOYMENT, propagationPolicy="Orphan"),
    "all deleted": delete("workload", ALL_DEPLOYMENTS),
    "label taken off": merge("workload", DEPLOYMENT, {"metadata": {"labels": {Mark.GUARDED.value: None}}}, "pod"),
    "label turned": merge("workload", DEPLOYMENT, {"metadata": {"labels": {Mark.GUARDED.value: "false"}}}, "pod"),
    "all labels taken off": merge("workload", DEPLOYMENT, {"metadata": {"labels": None}}, "pod"),
    "a new template, held": merge("workload", DEPLOYMENT, {"spec": {"template": NEWER}}, *EVERYBODY_ELSE),
    "a new template, applied": apply(
        "workload", DEPLOYMENT, applied(template=template("registry.invalid/shop:3")), *EVERYBODY_ELSE
    ),
    "a new template, released": merge("workload", DEPLOYMENT, {"spec": {"template": NEWER, "paused": False}}),
    "a new template in mid-roll": merge("workload", UNHELD, {"spec": {"template": NEWER}}),
    "more pods in mid-roll": merge("workload", UNHELD, {"spec": {"replicas": 4}}, *EVERYBODY_ELSE),
    "a note in mid-roll": merge("workload", UNHELD, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "paused in mid-roll": merge("workload", UNHELD, {"spec": {"paused": True}}, *EVERYBODY),
    "no history": merge("workload", DEPLOYMENT, {"spec": {"revisionHistoryLimit": 0}}),
    "a shorter history": merge("workload", DEPLOYMENT, {"spec": {"revisionHistoryLimit": 1}}, *EVERYBODY_ELSE),
    "more pods": merge("workload", DEPLOYMENT, {"spec": {"replicas": 3}}, *EVERYBODY_ELSE),
    "another strategy": merge(
        "workload", DEPLOYMENT, {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 2}}}}, *EVERYBODY_ELSE
    ),
    "later ready": merge("workload", DEPLOYMENT, {"spec": {"minReadySeconds": 5}}, *EVERYBODY_ELSE),
    "another deadline": merge("workload", DEPLOYMENT, {"spec": {"progressDeadlineSeconds": 9}}, *EVERYBODY_ELSE),
    "a note": merge("workload", DEPLOYMENT, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "the glass broken": merge(
        "workload", DEPLOYMENT, {"metadata": GLASS, "spec": {"paused": False}}, "pod", *GLASS_BREAKERS
    ),
    "the glass broken for a few words": merge(
        "workload", DEPLOYMENT, {"metadata": SHORT, "spec": {"paused": False}}, "pod"
    ),
    "an old reason again": merge("workload", UNHELD, {"metadata": GLASS, "spec": {"template": NEWER}}),
    "deleted after a reason": delete("workload", UNHELD, *GLASS_BREAKERS),
    "released while it ends": merge("workload", ENDING, {"spec": {"paused": False}}, "pod"),
    "let end": merge("workload", ENDING, {"metadata": {"finalizers": None}}, *EVERYBODY),
}  # fmt: skip

# -- G8 --------------------------------------------------------------------------------------------------------------

SIDE = DEPLOYMENTS.at(SHOP, "shop-canary")
SIDE_SERVICE, SIDE_BUDGET = SERVICES.at(SHOP, "shop-canary"), PDBS.at(SHOP, "shop-canary")
LAST_GOOD = CONTROLLERREVISIONS.at(SHOP, "shop-lastgood-1234567890")


def side_deployment(name: str = "shop-canary") -> Object:
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": {Mark.SIDE.value: "shop-canary"}},
        "template": template("registry.invalid/shop:2", SIDE_PODS),
    }
    return DEPLOYMENTS.at(SHOP, name).manifest({"labels": SIDE_LABELS}, spec=spec)


SIDES: dict[str, Road] = {
    "another side": create("side", ALL_DEPLOYMENTS, side_deployment("other-canary"), "pod"),
    "a side by a generated name": create(
        "side",
        ALL_DEPLOYMENTS,
        unnamed(side_deployment()),
        "pod",
    ),
    "another image": merge("side", SIDE.path(), {"spec": {"template": NEWER}}, "pod"),
    "another image by force": apply(
        "side", SIDE.path(), SIDE.manifest(spec={"template": template("x:1", {"app": "shop-canary"})}), "pod"
    ),
    "its labels taken off": merge("side", SIDE.path(), {"metadata": {"labels": None}}, "pod"),
    "deleted": delete("side", SIDE.path(), "pod"),
    "deleted by force": delete("side", SIDE.path(), "pod", gracePeriodSeconds=0),
    "more pods": merge("side", SIDE.path("scale"), {"spec": {"replicas": 5}}, *EVERYBODY),
    "no pods": merge("side", SIDE.path("scale"), {"spec": {"replicas": 0}}, *EVERYBODY),
    "its Service turned": merge("side", SIDE_SERVICE.path(), {"spec": {"selector": {"app": "else"}}}, "pod"),
    "its Service deleted": delete("side", SIDE_SERVICE.path(), "pod"),
    "its budget deleted": delete("side", SIDE_BUDGET.path(), "pod"),
    "its budget loosened": merge("side", SIDE_BUDGET.path(), {"spec": {"maxUnavailable": 9}}, "pod"),
    "all budgets deleted": delete("side", PDBS.collection(SHOP), "pod"),
    "the last good template deleted": delete("side", LAST_GOOD.path(), "pod"),
    "the glass broken": merge("side", SIDE.path(), {"metadata": GLASS}, "pod", *GLASS_BREAKERS),
}
DELETIONS: dict[str, Road] = {
    "a user's Service": delete("deletions", SERVICES.at(PLAIN, "shop").path(), *PEOPLE, "agent"),
    "a user's Deployment": delete("deletions", DEPLOYMENTS.at(PLAIN, "shop").path(), *PEOPLE, "agent"),
    "every Deployment": delete("deletions", DEPLOYMENTS.collection(PLAIN), *PEOPLE, "agent"),
    "a namespace": delete("deletions", NAMESPACES.at("", PLAIN).path(), *PEOPLE, "agent"),
    "a user's route": delete("deletions", HTTPROUTES.at(PLAIN, "shop").path(), *PEOPLE, "agent"),
    "the last good template": delete("deletions", CONTROLLERREVISIONS.at(PLAIN, "kept").path(), *PEOPLE, "agent"),
    "a user's configuration": delete(
        "deletions", CONFIGMAPS.at(PLAIN, "settings").path(), *PEOPLE, "agent"
    ),
    "every pod": delete("deletions", PODS.collection(PLAIN), *PEOPLE, "agent"),
    "a run that has ended": delete("runs", CANARYRUNS.at(PLAIN, "ended").path(), "pod"),
}  # fmt: skip

# -- G4 and G5 -------------------------------------------------------------------------------------------------------

ROUTE, IDLE = HTTPROUTES.at(SHOP, "shop").path(), HTTPROUTES.at(SHOP, "idle").path()
GIT = HTTPROUTES.at(SHOP, "git").path()
STABLE, CANARY = {"name": "shop", "port": 80}, {"name": "shop-canary", "port": 80}
MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": CANARY}}


def weight(place: int, value: int) -> list[Object]:
    return [{"op": "replace", "path": f"/spec/rules/0/backendRefs/{place}/weight", "value": value}]


def route(name: str, *rules: Object, attached: bool = False, namespace: str = SHOP) -> Object:
    labels = {"labels": {Mark.ATTACHED.value: TRUE}} if attached else {}
    spec = {"parentRefs": [{"name": "gateway"}], "rules": list(rules)}
    return HTTPROUTES.at(namespace, name).manifest(labels, spec=spec)


def refs(*backends: Object, **rest: Any) -> Object:
    return {"backendRefs": list(backends), **rest}


def rules(*each: Object) -> Object:
    return {"spec": {"rules": list(each)}}


def grpc_route(*rules: Object) -> Object:
    return GRPCROUTES.at(SHOP, "road").manifest(
        spec={"parentRefs": [{"name": "gateway"}], "rules": list(rules)}
    )


ALL_ROUTES = HTTPROUTES.collection(SHOP)
SPLIT = refs({**STABLE, "weight": 950_000}, {**CANARY, "weight": 50_000})
NARROW = refs(CANARY, matches=[{"path": {"type": "PathPrefix", "value": "/pay"}}])
ROUTES: dict[str, Road] = {
    "a raise": operations("routes", ROUTE, weight(1, 50_001)),
    "a raise back": operations("routes", ROUTE, weight(1, 49_000), "pod"),
    "nothing for stable": operations("routes", ROUTE, weight(0, 0)),
    "a mirror": merge("routes", IDLE, rules(refs(STABLE, filters=[MIRROR])), "pod"),
    "a mirror within a reference": merge("routes", IDLE, rules(refs({**STABLE, "filters": [MIRROR]})), "pod"),
    "a reference without a weight": merge("routes", IDLE, rules(refs(STABLE, CANARY)), "pod"),
    "the side alone": merge("routes", IDLE, rules(refs(CANARY)), "pod"),
    "a doubled reference": merge(
        "routes", IDLE, rules(refs(STABLE, {**CANARY, "weight": 0}, {**CANARY, "weight": 1})), "pod"
    ),
    "a narrower match": merge("routes", IDLE, rules(refs(STABLE), NARROW), "pod"),
    "a route of one's own": create("routes", ALL_ROUTES, route("road", refs(CANARY)), "pod"),
    "one by a generated name": create(
        "routes",
        ALL_ROUTES,
        unnamed(route("x", refs(CANARY))),
        "pod",
    ),
    "one with the side at 0": create(
        "routes", ALL_ROUTES, route("road", refs(STABLE, {**CANARY, "weight": 0})), *EVERYBODY
    ),
    "one with both at 0": create(
        "routes", ALL_ROUTES, route("road", refs({**STABLE, "weight": 0}, {**CANARY, "weight": 0})), "pod"
    ),
    "one without the side": create("routes", ALL_ROUTES, route("road", refs(STABLE)), *EVERYBODY),
    "one without references": create("routes", ALL_ROUTES, route("road", {}), *EVERYBODY),
    "the last good alone": merge("routes", IDLE, rules(refs({"name": "shop-lastgood", "port": 80})), "pod"),
    "a kill": operations("routes", ROUTE, weight(1, 0) + weight(0, 1_000_000), *EVERYBODY),
    "a kill that loses stable": operations("routes", ROUTE, weight(1, 0) + weight(0, 0), "pod"),
    "applied from git": merge("routes", ROUTE, rules(refs(STABLE)), *EVERYBODY),
    "replaced from git": Road("routes", "PUT", ROUTE, stored_without(ROUTE, rules=[refs(STABLE)]), JSON, EVERYBODY),
    "every backend gone": merge("routes", ROUTE, rules(refs({**STABLE, "weight": 0})), "pod"),
    "a redirect instead": merge(
        "routes",
        ROUTE,
        rules({"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "b.example"}}]}),
        *EVERYBODY,
    ),
    "a note": merge("routes", ROUTE, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "the mark taken off": merge("routes", ROUTE, {"metadata": {"labels": None}}, "pod"),
    "by an old version of the kind": merge(
        "routes", IDLE.replace("/v1/", "/v1beta1/"), rules(refs(STABLE, CANARY)), "pod"
    ),
    "by force": apply("routes", IDLE, route("idle", refs(STABLE, CANARY)), "pod"),
    "deleted": delete("routes", ROUTE),
    "all deleted": delete("routes", ALL_ROUTES),
    "deleted when idle": delete("routes", IDLE, *PEOPLE, "agent"),
    "the glass broken": merge("routes", IDLE, {"metadata": GLASS, **rules(refs(CANARY))}, "pod", *GLASS_BREAKERS),
    "in another namespace": merge(
        "routes", HTTPROUTES.at(PLAIN, "shop").path(), rules(refs(STABLE, CANARY)), *EVERYBODY
    ),
    "a gRPC route to the side": create("routes", GRPCROUTES.collection(SHOP), grpc_route(refs(CANARY)), "pod"),
    "a gRPC mirror": create(
        "routes", GRPCROUTES.collection(SHOP), grpc_route(refs(STABLE, filters=[MIRROR])), "pod"
    ),
    "a gRPC route to stable": create("routes", GRPCROUTES.collection(SHOP), grpc_route(refs(STABLE)), *EVERYBODY),
}  # fmt: skip


def attached(*backends: Object) -> Object:
    return {"metadata": {"labels": {Mark.ATTACHED.value: TRUE}}, **rules(refs(*backends))}


def share(stable: int, canary: int) -> Object:
    return attached({**STABLE, "weight": stable}, {**CANARY, "weight": canary})


FREE = HTTPROUTES.at(PLAIN, "shop").path()  # no rule about routes here, so that the ceiling alone is seen
CEILING: dict[str, Road] = {
    "as allowed": merge("ceiling", FREE, share(950_000, 50_000), *EVERYBODY),
    "less": merge("ceiling", FREE, share(999_999, 1), *EVERYBODY),
    "nothing": merge("ceiling", FREE, share(1_000_000, 0), *EVERYBODY),
    "a millionth more": merge("ceiling", FREE, share(949_999, 50_001), *PEOPLE, "agent"),
    "everything": merge("ceiling", FREE, share(0, 1_000_000), *PEOPLE, "agent"),
    "little beside nothing": merge("ceiling", FREE, share(0, 1), *PEOPLE, "agent"),
    "without weights": merge("ceiling", FREE, attached(STABLE, CANARY), *PEOPLE, "agent"),
    "twice": merge(
        "ceiling",
        FREE,
        attached({**STABLE, "weight": 90}, {**CANARY, "weight": 5}, {**CANARY, "weight": 5}),
        *PEOPLE,
        "agent",
    ),
    "in a second rule": merge(
        "ceiling",
        FREE,
        {"metadata": {"labels": {Mark.ATTACHED.value: TRUE}}, **rules(refs(STABLE), refs(CANARY))},
        *PEOPLE,
        "agent",
    ),
    "the last good": merge("ceiling", FREE, attached({"name": "shop-lastgood", "port": 80}), *EVERYBODY),
    "of a run that gave everything back": merge(
        "ceiling", FREE, attached({"name": "old", "port": 80}, {"name": "old-canary", "port": 80}), *EVERYBODY
    ),
    "of a run without a status": merge(
        "ceiling", FREE, attached({"name": "new", "port": 80}, {"name": "new-canary", "port": 80}), *PEOPLE, "agent"
    ),
    "by force": apply(
        "ceiling", FREE, route("shop", SPLIT, namespace=PLAIN, attached=True), *EVERYBODY
    ),
    "too much by force": apply(
        "ceiling", FREE, route("shop", refs(CANARY), namespace=PLAIN, attached=True), *PEOPLE, "agent"
    ),
    "a route by a generated name": create(
        "ceiling",
        HTTPROUTES.collection(PLAIN),
        unnamed(route("x", refs(CANARY), namespace=PLAIN, attached=True)),
        *PEOPLE,
        "agent",
    ),
    "of no run": merge(
        "ceiling", FREE, attached({"name": "no", "port": 80}, {"name": "no-canary", "port": 80}), *EVERYBODY
    ),
}  # fmt: skip

# -- G10 -------------------------------------------------------------------------------------------------------------

RUN = CANARYRUNS.at(SHOP, "shop-1")
POLICY = CANARYPOLICIES.at(SHOP, "shop")
OBSERVING, HOLDING = CANARYPOLICIES.at(SHOP, "observing"), CANARYPOLICIES.at(SHOP, "holding")
SAFETY, ALL_SAFETY = SAFETYPOLICIES.at("", "reset"), SAFETYPOLICIES.collection(None)
ASKED = CANARYREQUESTS.at(SHOP, "asked")
TEXT = "I have read the plan and the numbers of the last step"
NAMES = {
    "alice": ("alice", ["devs"]),
    "bob": ("bob", ["seniors"]),
    "admin": ("admin", ["system:masters"]),
    "agent": ("system:serviceaccount:ci:agent", []),
    "pod": ("system:serviceaccount:canary-system:canary-controller", []),
    "account": ("system:serviceaccount:canary-system:canary-controller", []),
}
OWNED = {
    "ownerReferences": [
        {"apiVersion": f"{GROUP}/{VERSION}", "kind": "CanaryRun", "name": "shop-1", "uid": "u"}
    ]
}


def asking(verb: str, user: str, *, metadata: Object = OWNED, **spec: Any) -> Object:
    """Return a CanaryRequest that says it is by that user."""
    requester, groups = NAMES[user]
    whole = {
        "verb": verb,
        "subject": {"kind": "CanaryRun", "name": "shop-1"},
        "requester": requester,
        "groups": groups,
        "reason": TEXT,
        **({"digest": DIGEST} if verb in ("approve", "reject") else {}),
        **spec,
    }
    return CANARYREQUESTS.at(SHOP, f"asked-{verb}").manifest(metadata, spec=whole)


def asks(verb: str, user: str, *open_to: str, **parts: Any) -> Road:
    return create("requests", CANARYREQUESTS.collection(SHOP), asking(verb, user, **parts), *open_to)


def safety_policy(name: str) -> Object:
    people = {"approverGroups": ["devs"], "seniorGroups": ["seniors"]}
    return SAFETYPOLICIES.at("", name).manifest(spec={"appliesTo": {"tiers": [1]}, "approvals": people})


REQUESTS: dict[str, Road] = {
    **{f"{verb} as {user}": asks(verb, user, user) for verb in ("abort", "hold") for user in ("alice", "bob", "admin")},
    "abort as the agent": asks("abort", "agent", "agent"),
    "abort as the controller": asks("abort", "pod", *CONTROLLERS),
    **{
        f"{verb} as alice, who may not": asks(verb, "alice")
        for verb in ("approve", "promote", "resume", "retry", "bypass", "reject")
    },
    **{
        f"{verb} as bob, who may": asks(verb, "bob", "bob")
        for verb in ("approve", "promote", "resume", "retry", "bypass", "reject")
    },
    "approve as the agent": asks("approve", "agent"),
    "promote as the controller": asks("promote", "pod"),
    "abort by nobody": asks("abort", "alice", requester=""),
    "abort without a requester": create(
        "requests",
        CANARYREQUESTS.collection(SHOP),
        CANARYREQUESTS.at(SHOP, "a").manifest(spec={"verb": "abort", "subject": {"name": "shop-1"}}),
    ),
    "approve in a group of others": asks("approve", "bob", groups=["devs", "platform"]),
    "approve without groups": asks("approve", "bob", "bob", groups=[]),
    "approve without an owner": asks("approve", "bob", metadata={}),
    "approve with another owner": asks(
        "approve", "bob", metadata={"ownerReferences": [{**OWNED["ownerReferences"][0], "name": "shop-2"}]}
    ),
    "abort without an owner": asks("abort", "alice", "alice", metadata={}),
    "abort by a generated name": create(
        "requests",
        CANARYREQUESTS.collection(SHOP),
        unnamed(asking("abort", "alice", metadata={})),
        "alice",
    ),
    "a label by force": apply(
        "requests",
        ASKED.path(),
        {**ASKED.manifest(), "metadata": {"name": ASKED.name, "labels": {"a": "b"}}},
        *EVERYBODY,
    ),
    "a note": merge("requests", ASKED.path(), {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "deleted": delete("requests", ASKED.path()),
    "all deleted": delete("requests", CANARYREQUESTS.collection(SHOP)),
    "answered": merge("statuses", ASKED.path("status"), {"status": {"outcome": "Done"}}, "pod"),
}  # fmt: skip
KINDS: dict[str, Road] = {
    "a run made": create(
        "runs", CANARYRUNS.collection(SHOP), CANARYRUNS.at(SHOP, "made").manifest(spec=run_spec()), "pod"
    ),
    "a run by a generated name": create(
        "runs", CANARYRUNS.collection(SHOP), unnamed(CANARYRUNS.at(SHOP, "x").manifest(spec=run_spec())), "pod"
    ),
    "a run's labels by force": apply(
        "runs", RUN.path(), {**RUN.manifest(), "metadata": {"name": RUN.name, "labels": {"a": "b"}}}, "pod"
    ),
    "a run annotated": merge("runs", RUN.path(), {"metadata": {"annotations": {"a": "b"}}}, "pod"),
    "a run deleted": delete("runs", RUN.path()),
    "all runs deleted": delete("runs", CANARYRUNS.collection(SHOP)),
    "a run's status": merge("statuses", RUN.path("status"), {"status": {"message": "well"}}, "pod"),
    "a run's status by force": apply(
        "statuses", RUN.path("status"), RUN.manifest(status={"allowedWeightPpm": 50_000}), "pod"
    ),
    "a run's ceiling": merge("statuses", RUN.path("status"), {"status": {"allowedWeightPpm": 60_000}}, "pod"),
    "a run's approvals": merge("statuses", RUN.path("status"), {"status": {"approvals": []}}, "pod"),
    "a policy's status": merge("statuses", POLICY.path("status"), {"status": {"adopted": True}}, "pod"),
    "a safety policy's status": merge("statuses", SAFETY.path("status"), {"status": {"inForce": False}}, "pod"),
    "a policy edited": merge("policies", POLICY.path(), {"spec": {"tier": 2}}, *PEOPLE),
    "a policy made": create(
        "policies",
        CANARYPOLICIES.collection(SHOP),
        CANARYPOLICIES.at(SHOP, "another").manifest(spec=policy_spec()),
        *PEOPLE,
    ),
    "a policy by a generated name": create(
        "policies", CANARYPOLICIES.collection(SHOP), unnamed(POLICY.manifest(spec=policy_spec())), *PEOPLE
    ),
    "a policy by force": apply("policies", POLICY.path(), POLICY.manifest(spec={"tier": 2}), *PEOPLE),
    "a policy told to observe": merge("policies", POLICY.path(), {"spec": {"mode": "Observe"}}, *PEOPLE),
    "a policy in force deleted": delete("policies", POLICY.path()),
    "all policies deleted": delete("policies", CANARYPOLICIES.collection(SHOP)),
    "an observing policy deleted": delete("policies", OBSERVING.path(), *PEOPLE),
    "an observing policy deleted before all is given back": delete("policies", HOLDING.path()),
    "a safety policy edited": merge("safety", SAFETY.path(), {"spec": {"appliesTo": {"tiers": [1]}}}, *PEOPLE),
    "a safety policy loosened by force": apply(
        "safety", SAFETY.path(), SAFETY.manifest(spec={"approvals": {"count": 0, "senior": 0}}), *PEOPLE
    ),
    "a safety policy annotated": merge("safety", SAFETY.path(), {"metadata": {"annotations": {"a": "b"}}}, *PEOPLE),
    "a safety policy made": create("safety", ALL_SAFETY, safety_policy("another"), *PEOPLE),
    "a safety policy by a generated name": create("safety", ALL_SAFETY, unnamed(safety_policy("x")), *PEOPLE),
    "all safety policies deleted": delete("safety", ALL_SAFETY),
    "a safety policy in force deleted": delete("safety", SAFETY.path()),
    "an expired one deleted": delete("safety", SAFETYPOLICIES.at("", "expired").path(), *PEOPLE),
}  # fmt: skip


# -- what they are about ---------------------------------------------------------------------------------------------


def guarded_world(bed: Bed) -> None:
    """Make a shop with a run at 5 %, before anything guards it."""
    bed.namespace(SHOP, GUARDED)
    bed.namespace(PLAIN)
    for namespace in (SHOP, PLAIN):
        _make(bed, DEPLOYMENTS.at(namespace, "shop"), {"labels": LABELS}, spec=pods_of())
        _make(bed, SERVICES.at(namespace, "shop"), spec={"selector": LABELS, "ports": [{"port": 80}]})
        _make(bed, CONTROLLERREVISIONS.at(namespace, "kept"), data=KEPT, revision=1)
    _make(bed, CONFIGMAPS.at(PLAIN, "settings"), data={"a": "b"})
    _make(bed, DEPLOYMENTS.at(SHOP, "rolling"), {"labels": GUARDED, **GLASS}, spec=pods_of("rolling"))
    held = {"labels": GUARDED, "finalizers": ["example.com/waits"]}
    _make(bed, DEPLOYMENTS.at(SHOP, "ending"), held, spec={**pods_of("ending"), "paused": True})
    ending = bed.admin.get(DEPLOYMENTS.at(SHOP, "ending")) or {}
    bed.admin.delete(DEPLOYMENTS.at(SHOP, "ending"), uid=ending["metadata"]["uid"], intent=Intent.NEUTRAL)
    patch = {"metadata": {"labels": GUARDED}, "spec": {"paused": True}}
    bed.admin.merge_patch(DEPLOYMENTS.at(SHOP, "shop"), patch, intent=Intent.NEUTRAL)
    _make_side(bed)
    for manifest in (
        route("shop", SPLIT, attached=True),
        route("idle", refs(STABLE)),
        route("shop", refs(STABLE), namespace=PLAIN),
    ):
        bed.admin.create(HTTPROUTES, manifest, intent=Intent.NEUTRAL)
    _make_kinds(bed)


def pods_of(name: str = "shop") -> Object:
    labels = {"app": name}
    pods = template("registry.invalid/shop:1", labels)
    return {"replicas": 2, "selector": {"matchLabels": labels}, "template": pods}


def _make(bed: Bed, ref: Ref, metadata: Object | None = None, **parts: Any) -> None:
    bed.make(ref.resource, ref.name, ref.namespace, metadata=metadata or {}, **parts)


def _make_side(bed: Bed) -> None:
    bed.admin.create(DEPLOYMENTS, side_deployment(), intent=Intent.NEUTRAL)
    labels = {"labels": SIDE_LABELS}
    selector = {Mark.SIDE.value: side_name("shop")}
    _make(bed, SIDE_SERVICE, labels, spec={"selector": selector, "ports": [{"port": 80}]})
    _make(bed, SIDE_BUDGET, labels, spec={"maxUnavailable": 1, "selector": {"matchLabels": selector}})
    _make(bed, LAST_GOOD, {"labels": {Mark.TARGET.value: "shop"}}, data=KEPT, revision=1)


def _make_kinds(bed: Bed) -> None:
    _make(bed, POLICY, spec=policy_spec())
    facts = {
        "minReplicas": 2,
        "service": "shop",
        "servingSelector": LABELS,
        "sideLabels": SIDE_PODS,
        "replicaSet": "shop-kept",
    }
    _say(bed, POLICY, {"adopted": True, "guard": facts})
    for ref, target in {OBSERVING: "other", HOLDING: "given-back-soon"}.items():
        _make(bed, ref, spec=policy_spec(mode="Observe", target={"name": target}))
        _say(bed, ref, {"adopted": ref is HOLDING})
    for name, in_force in {"reset": True, "expired": False}.items():
        bed.admin.create(SAFETYPOLICIES, safety_policy(name), intent=Intent.NEUTRAL)
        _say(bed, SAFETYPOLICIES.at("", name), {"inForce": in_force})
    for namespace in (SHOP, PLAIN):
        runs = {
            "shop-1": ("shop", {"phase": "Progressing", "allowedWeightPpm": 50_000}),
            "ended": (
                "old",
                {"phase": "RolledBack", "tidiedAt": "2026-03-05T00:00:00Z", "allowedWeightPpm": 9},
            ),
            "before": (
                "shop",
                {"phase": "Promoted", "tidiedAt": "2026-03-05T00:00:00Z", "allowedWeightPpm": 9},
            ),
            "fresh": ("new", None),
        }
        for name, (service, status) in runs.items():
            _make(bed, CANARYRUNS.at(namespace, name), spec=run_spec(service))
            if status:
                _say(bed, CANARYRUNS.at(namespace, name), status)
    asked = {**asking("abort", "alice"), "metadata": {"name": "asked", "namespace": SHOP}}
    bed.admin.create(CANARYREQUESTS, asked, intent=Intent.NEUTRAL)


def _say(bed: Bed, ref: Ref, status: Object) -> None:
    bed.admin.merge_patch(ref, {"status": status}, intent=Intent.NEUTRAL, subresource="status")
