"""Why a Deployment cannot be held and run beside itself: every reason, with its remedy; and what to think about.

`gather` reads what speaks against it, `refusals` and `warnings` decide, purely, and `writes` says what an adoption and
a run do to the user's Deployment. Each refusal stands for an outage that somebody had: a native roll in progress that a
pause would make proportional, the only old ReplicaSet cleaned away, a second controller. The routes have their own
list, in `traffic/adoption.py`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from canary.api.marks import SIDE_SUFFIX, WAY_BACK_SUFFIX, Mark, side_name, way_back_name
from canary.api.policy import GuardFacts
from canary.core.evidence import Missing
from canary.core.intake import said_of_strangers
from canary.errors import RefusedError
from canary.kube.client import Client
from canary.kube.resources import CANARYPOLICIES, CRDS, DEPLOYMENTS, PDBS, PODS, SERVICES, Resource
from canary.kube.selectors import matches, of_map, text_of
from canary.kube.side import Owner, label_overrides, labels_of_template, selectors_of
from canary.kube.workload import Observed, observe

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
MESH_POLICIES = (  # with the field that selects pods
    (Resource("security.istio.io", "v1", "authorizationpolicies", "AuthorizationPolicy"), "selector"),
    (Resource("security.istio.io", "v1", "peerauthentications", "PeerAuthentication"), "selector"),
    (Resource("security.istio.io", "v1", "requestauthentications", "RequestAuthentication"), "selector"),
    (Resource("policy.linkerd.io", "v1beta3", "servers", "Server"), "podSelector"),
)
FOREIGN_CANARIES = (
    (Resource("flagger.app", "v1beta1", "canaries", "Canary"), "targetRef"),
    (Resource("argoproj.io", "v1alpha1", "rollouts", "Rollout"), "workloadRef"),
    (Resource("rollouts.kruise.io", "v1beta1", "rollouts", "Rollout"), "workloadRef"),
)
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_NAME = 63 - max(len(SIDE_SUFFIX), len(WAY_BACK_SUFFIX))
SHARED_MODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a policy asks to adopt; `service` is empty where the policy leaves it to be found."""

    namespace: str
    name: str
    service: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read about it."""

    wish: Wish
    seen: Observed
    services: tuple[Json, ...] = ()
    budgets: tuple[Json, ...] = ()
    taken: tuple[str, ...] = ()
    """Foreign objects that have a name which the side needs."""
    private_claims: tuple[str, ...] = ()
    """Claims of the pods that two versions cannot share."""
    writers: tuple[str, ...] = ()
    """Other controllers' objects, and other policies, that name the Deployment."""
    network_policies: tuple[Json, ...] = ()
    mesh_policies: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Policies of a service mesh, as kind and name, each with its selector of pods."""
    strangers: tuple[str, ...] = ()
    """Pods that the Service selects and that are not the Deployment's own."""

    @property
    def deployment(self) -> Json:
        return self.seen.deployment

    @property
    def template(self) -> Json:
        return self.deployment["spec"]["template"]

    @property
    def pod_labels(self) -> dict[str, str]:
        return labels_of_template(self.template)

    @property
    def candidates(self) -> list[Json]:
        """The user's Services that select the pods."""
        return [
            each
            for each in self.services
            if Mark.SIDE not in (each["metadata"].get("labels") or {})
            and each["spec"].get("selector")
            and matches(of_map(each["spec"]["selector"]), self.pod_labels)
        ]

    @property
    def service(self) -> Json | None:
        named = [each for each in self.candidates if each["metadata"]["name"] == self.wish.service]
        chosen = named if self.wish.service else self.candidates
        return chosen[0] if len(chosen) == 1 else None


def look(client: Client, wish: Wish) -> Facts | Missing:
    """Read what matters of a Deployment that is held already."""
    seen = observe(client, wish.namespace, wish.name)
    if isinstance(seen, Missing):
        return seen
    facts = Facts(wish, seen, services=tuple(client.list(SERVICES, wish.namespace)))
    return replace(facts, strangers=tuple(_strangers(client, facts)))


def gather(client: Client, wish: Wish) -> Facts | Missing:
    """Read everything that an adoption depends on."""
    facts = look(client, wish)
    if isinstance(facts, Missing):
        return facts
    return replace(
        facts,
        budgets=tuple(client.list(PDBS, wish.namespace)),
        taken=tuple(_taken(client, wish)),
        private_claims=tuple(_private_claims(client, facts.deployment)),
        writers=tuple(_writers(client, wish)),
        network_policies=_network_policies(client, wish.namespace),
        mesh_policies=tuple(_mesh_policies(client, wish.namespace)),
    )


def _strangers(client: Client, facts: Facts) -> Iterator[str]:
    """Yield the pods that get the Service's customers beside the Deployment's own, by the rule of the guard."""
    selector = facts.service["spec"]["selector"] if facts.service is not None else {}
    if not selector:
        return
    for pod in client.list(PODS, facts.wish.namespace, selector=text_of(of_map(selector))):
        metadata = pod["metadata"]
        own = f"{facts.wish.name}-{(metadata.get('labels') or {}).get('pod-template-hash', '')}"
        owners: list[Json] = metadata.get("ownerReferences") or []
        if not any(each.get("controller") and each["name"] == own for each in owners):
            yield metadata["name"]


def refusals(facts: Facts) -> tuple[str, ...]:
    """Return everything that speaks against an adoption; pure."""
    return tuple(
        refusal for rule in OF_THE_MOMENT + OF_THE_WORKLOAD + OF_THE_SERVICE for refusal in rule(facts)
    )


def writes(facts: Facts) -> tuple[str, ...]:
    """Return what an adoption writes to the Deployment, and what a run makes beside it."""
    name, service = facts.wish.name, facts.service
    beside = f"Deployment and PodDisruptionBudget {side_name(name)}"
    named = f", Service {side_name(service['metadata']['name'])}" if service is not None else ""
    return (
        f"Deployment {name}: set spec.paused and the label {Mark.GUARDED}",
        f"for each change, and deleted after it: {beside}{named}",
    )


def warnings(facts: Facts) -> tuple[str, ...]:
    """Return what no refusal can know and the team has to; pure."""
    found = ["pods that pull work (queues, timers) are exposed as soon as they start: no route can hold them"]
    for container in facts.template["spec"]["containers"]:
        name, _, digest = container["image"].partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if not digest and tag in ("", "latest"):
            found.append(
                f"image {container['image']} has a tag that moves: the pods of one version may run two; name a digest"
            )
    if facts.strangers:
        found.append(f"{said_of_strangers(facts.strangers)}; nobody judges what they do")
    return tuple(found)


def is_going(facts: Facts) -> Iterator[str]:
    if facts.deployment["metadata"].get("deletionTimestamp"):
        yield "the Deployment is being deleted"


def is_rolling(facts: Facts) -> Iterator[str]:
    with_pods = [each for each in facts.seen.replica_sets if (each.get("status") or {}).get("replicas", 0)]
    if len(with_pods) > 1:
        yield (
            f"{len(with_pods)} ReplicaSets have pods: a pause in mid-roll scales them in proportion; "
            "wait until the roll-out has ended (kubectl rollout status)"
        )


def is_incomplete(facts: Facts) -> Iterator[str]:
    wanted, ready = facts.seen.workload.replicas, facts.seen.workload.stable_ready
    if ready < wanted:
        yield f"{ready} of {wanted} pods are ready; adopt it when all are, so that stable is known to be whole"


def keeps_no_history(facts: Facts) -> Iterator[str]:
    if facts.deployment["spec"].get("revisionHistoryLimit") == 0:
        yield (
            "revisionHistoryLimit is 0: at scale 0 the only old ReplicaSet could be cleaned away; set it to 1 or more"
        )


def manifest_unpauses(facts: Facts) -> Iterator[str]:
    metadata = facts.deployment["metadata"]
    text = (metadata.get("annotations") or {}).get(LAST_APPLIED, "")
    try:
        applied = json.loads(text) if text else {}
    except ValueError:
        applied = {}
    spec = applied.get("spec") if isinstance(applied, dict) else None
    said = isinstance(spec, dict) and spec.get("paused") is False
    open_now = not facts.deployment["spec"].get("paused")
    for entry in metadata.get("managedFields") or []:
        owned = ((entry.get("fieldsV1") or {}).get("f:spec") or {}).keys()
        said = said or (open_now and entry.get("operation") == "Apply" and "f:paused" in owned)
    if said:
        yield "the applied manifest says paused: false and would end the hold at each apply; remove the line"


def cannot_stand_twice(facts: Facts) -> Iterator[str]:
    spec: Mapping[str, Any] = facts.template["spec"]
    if (facts.deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        yield "strategy Recreate says that two versions cannot stand together; use RollingUpdate"
    if facts.private_claims:
        claims = ", ".join(facts.private_claims)
        yield f"two versions cannot share the volume claim {claims}; use ReadWriteMany, or no claim"
    containers = [*spec["containers"], *(spec.get("initContainers") or [])]
    ports = [port for container in containers for port in container.get("ports") or []]
    if spec.get("hostNetwork") or any(port.get("hostPort") for port in ports):
        yield "host ports let only one pod stand on a node; remove hostPort and hostNetwork"


def has_two_writers(facts: Facts) -> Iterator[str]:
    for writer in facts.writers:
        yield f"{writer} controls this Deployment, too; delete one of the two"


def name_is_taken(facts: Facts) -> Iterator[str]:
    name = facts.wish.name
    if len(name) > MAX_NAME:
        yield f"the name has {len(name)} characters; with our suffix it may have {MAX_NAME}"
    for each in facts.taken:
        yield f"{each} is not ours, but has the name that the side needs; rename or delete it"


def service_is_unclear(facts: Facts) -> Iterator[str]:
    if facts.service is not None:
        return
    found = [each["metadata"]["name"] for each in facts.candidates]
    if facts.wish.service:
        yield f"Service {facts.wish.service} does not select the Deployment's pods; correct spec.service"
    elif not found:
        yield "no Service selects the Deployment's pods; create one, traffic is split between Services"
    else:
        yield f"Services {', '.join(found)} select the Deployment's pods; say in spec.service which one is split"


def side_cannot_stand_apart(facts: Facts) -> Iterator[str]:
    if facts.service is not None and _overrides(facts) is None:
        yield (
            "every choice of labels would leave the side in a selector of a Service or disruption budget that counts "
            "stable pods; let those select by a label of this workload alone"
        )


def mesh_policy_would_miss_the_side(facts: Facts) -> Iterator[str]:
    overrides = _overrides(facts) if facts.service is not None else None
    stable, side = facts.pod_labels, {**facts.pod_labels, **(overrides or {})}
    for named, selector in facts.mesh_policies:
        if matches(selector, stable) and not matches(selector, side):
            keys = ", ".join(overrides or {})
            yield f"{named} selects the pods by {keys}, which differs on the side; let it select the side, too"


def network_policy_would_miss_the_side(facts: Facts) -> Iterator[str]:
    overrides = _overrides(facts) if facts.service is not None else None
    if not overrides:
        return
    stable, side = facts.pod_labels, {**facts.pod_labels, **overrides}
    shown = ", ".join(f"{key}={value}" for key, value in overrides.items())
    for policy in facts.network_policies:
        if any(matches(each, stable) and not matches(each, side) for each in _pod_selectors(policy)):
            yield (
                f"NetworkPolicy {policy['metadata']['name']} would not apply to the side, whose pods have {shown}; "
                "let it select those, too"
            )


Rules = tuple[Callable[[Facts], Iterator[str]], ...]
OF_THE_MOMENT: Rules = (is_going, is_rolling, is_incomplete, has_two_writers)
OF_THE_WORKLOAD: Rules = (keeps_no_history, manifest_unpauses, cannot_stand_twice, name_is_taken)
OF_THE_SERVICE: Rules = (
    service_is_unclear,
    side_cannot_stand_apart,
    network_policy_would_miss_the_side,
    mesh_policy_would_miss_the_side,
)


def guard_facts(facts: Facts) -> GuardFacts | None:
    """Return what the guard's rules need to know of the Deployment's surroundings; None where no Service is known."""
    if facts.service is None:
        return None
    marks = {Mark.SIDE.value: side_name(facts.wish.name), Mark.TARGET.value: facts.wish.name}
    stable: Json = facts.seen.stable or {"metadata": {"name": ""}}
    return GuardFacts(
        service=facts.service["metadata"]["name"],
        serving_selector=facts.service["spec"]["selector"],
        side_labels={**facts.pod_labels, **(_overrides(facts) or {}), **marks},
        replica_set=stable["metadata"]["name"],
    )


def _overrides(facts: Facts) -> dict[str, str] | None:
    service = facts.service or {}
    others = (*(each for each in facts.services if each is not service), *facts.budgets)
    selectors = selectors_of(Owner(facts.deployment, service, others))
    return label_overrides(facts.pod_labels, selectors, SIDE_SUFFIX)


def _pod_selectors(policy: Json) -> Iterator[Mapping[str, Any]]:
    """Return the selectors of pods in the policy's own namespace: its subjects and its peers."""
    spec = policy["spec"]
    yield spec.get("podSelector") or {}
    rules = [*(spec.get("ingress") or []), *(spec.get("egress") or [])]
    for rule in rules:
        for peer in [*(rule.get("from") or []), *(rule.get("to") or [])]:
            if "podSelector" in peer:
                yield peer["podSelector"]


def _network_policies(client: Client, namespace: str) -> tuple[Json, ...]:
    """Return the namespace's policies; none where we may not read them: a side cut off by one passes no step."""
    try:
        return tuple(client.list(NETWORK_POLICIES, namespace))
    except RefusedError:
        return ()


def _mesh_policies(client: Client, namespace: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return the mesh's policies that select pods; none of a kind that is not served, or that we may not read."""
    for resource, field in MESH_POLICIES:
        try:
            found = client.list(resource, namespace) if _is_served(client, resource) else []
        except RefusedError:
            continue
        for policy in found:
            selector = (policy.get("spec") or {}).get(field)
            if selector:
                yield f"{resource.kind} {policy['metadata']['name']}", selector


def _taken(client: Client, wish: Wish) -> Iterator[str]:
    names = [side_name(wish.name), way_back_name(wish.name)]
    if wish.service and wish.service != wish.name:
        names += [side_name(wish.service), way_back_name(wish.service)]
    for name in names:
        for resource in (DEPLOYMENTS, SERVICES, PDBS):
            found = client.get(resource.at(wish.namespace, name))
            if found is not None and Mark.SIDE not in (found["metadata"].get("labels") or {}):
                yield f"{resource.kind} {name}"


def _private_claims(client: Client, deployment: Json) -> Iterator[str]:
    """Return the claims that only one node may mount; one that cannot be read may be such a one."""
    for volume in deployment["spec"]["template"]["spec"].get("volumes") or []:
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if name is None:
            continue
        claim = client.get(CLAIMS.at(deployment["metadata"]["namespace"], name)) or {}
        modes: Sequence[str] = (claim.get("spec") or {}).get("accessModes") or ["unknown"]
        if not SHARED_MODES.intersection(modes):
            yield name


def _writers(client: Client, wish: Wish) -> Iterator[str]:
    for policy in client.list(CANARYPOLICIES, wish.namespace) if _is_served(client, CANARYPOLICIES) else ():
        name = policy["metadata"]["name"]
        target = ((policy.get("spec") or {}).get("target") or {}).get("name")
        if wish.policy and name != wish.policy and target == wish.name:
            yield f"CanaryPolicy {name}"
    for resource, field in FOREIGN_CANARIES:
        for foreign in client.list(resource, wish.namespace) if _is_served(client, resource) else ():
            target = ((foreign.get("spec") or {}).get(field) or {}).get("name")
            if target == wish.name:
                yield f"{resource.kind} {foreign['metadata']['name']} of {resource.group}"


def _is_served(client: Client, resource: Resource) -> bool:
    return client.get(CRDS.at("", f"{resource.plural}.{resource.group}")) is not None
