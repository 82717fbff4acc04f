"""The product's guard on a bed: installed, in force, and asked by people and machines who hold every ordinary right.

`installed` lays down what `canary guard` prints and takes it away at the end. `USERS_ASKING` are the identities
of every table: `pod` is the controller as it runs, with a token that was issued to its pod; `account` has the same
name and a token that was not. A `Road` is one request, and whom it is open to: everybody else has to be refused by the
policy that it names.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cluster_bed import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    SERVICEACCOUNTS,
    SYSTEM,
    USERS,
    Bed,
)

from canary.api.reasons import GROUP, Verb
from canary.errors import RefusedError, UnavailableError
from canary.guard.fingerprint import KINDS
from canary.guard.policies import policies
from canary.guard.policy import VALIDATING, Settings
from canary.kube.client import Intent
from canary.kube.resources import PODS, SAFETYPOLICIES, Ref
from canary.kube.transport import JSON, JSON_PATCH, MERGE_PATCH

Object = dict[str, Any]
APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
EVERYBODY = ("alice", "bob", "agent", "admin", "account", "pod")
PEOPLE = ("alice", "bob", "admin")
CONTROLLERS = ("account", "pod")
POD = "canary-controller-0"
RBAC = CLUSTERROLES.group
SETTINGS = Settings(platform_groups=("platform",), gitops_accounts=("system:serviceaccount:argocd:sync",))
IN_FORCE_SECONDS = 15.0
ORDINARY = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]


@dataclass(frozen=True, slots=True)
class Road:
    """One request, tried by everybody as a dry run: the policy that closes it, and whom it is open to."""

    policy: str
    method: str
    path: str
    body: object = None
    media: str = JSON
    open_to: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    found: int = 200
    """What is answered where the guard lets pass; what knows no dry run is asked of what is not there: 404."""


def merge(policy: str, path: str, patch: Object, *open_to: str) -> Road:
    return Road(policy, "PATCH", path, patch, MERGE_PATCH, open_to)


def operations(policy: str, path: str, patch: list[Object], *open_to: str) -> Road:
    return Road(policy, "PATCH", path, patch, JSON_PATCH, open_to)


def apply(policy: str, path: str, manifest: Object, *open_to: str) -> Road:
    """By somebody else's server-side apply, with force."""
    query = {"fieldManager": "pipeline", "force": "true"}
    return Road(policy, "PATCH", path, manifest, APPLY, open_to, query)


def create(policy: str, path: str, manifest: Object, *open_to: str) -> Road:
    return Road(policy, "POST", path, manifest, JSON, open_to)


def delete(policy: str, path: str, *open_to: str, **options: Any) -> Road:
    body = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "dryRun": ["All"],
        **options,
    }  # a body hides the query
    return Road(policy, "DELETE", path, body, JSON, open_to)


def delete_named(policy: str, collection: str, name: str, *open_to: str) -> Road:
    """Delete a whole collection that one name narrows: such a request names no object."""
    road = delete(policy, collection, *open_to)
    return replace(road, query={"fieldSelector": f"metadata.name={name}"})


def send(bed: Bed, road: Road, user: str) -> tuple[int, Object]:
    """Try a road as a dry run; return the status and what was answered, perhaps the object as it would be stored."""
    name = "controller" if user == "account" else user
    body = road.body(bed) if callable(road.body) else road.body
    dry = {"dryRun": "All"} if road.found == 200 else {}
    return bed.ask(name, road.method, road.path, body, road.media, **dry, **road.query)


def travel(bed: Bed, road: Road, user: str) -> tuple[int, str]:
    """Try a road as a dry run; return the status and what was said."""
    status, answer = send(bed, road, user)
    return status, str(answer.get("message", ""))


def fate(bed: Bed, road: Road, user: str) -> str:
    """Return what becomes of a request: it passes, the rule refuses it, or something else is said.

    The controller is bound by rules of its own besides, which may be the first to refuse.
    """
    status, said = travel(bed, road, user)
    if status == road.found or (road.found, status) == (200, 201):
        return "passes"
    by = "" if user in CONTROLLERS else road.policy
    return "refused" if status == 403 and f"ValidatingAdmissionPolicy 'canary-guard-{by}" in said else said


def stored_without(path: str, *fields: str, **spec: Any) -> Callable[[Bed], Object]:
    """Return what a `replace` sends: the object as it is stored then, without these fields of its spec."""

    def body(bed: Bed) -> Object:
        _, found = bed.ask("admin", "GET", path)
        found["metadata"].pop("managedFields", None)
        found["spec"] = {**{k: v for k, v in found["spec"].items() if k not in fields}, **spec}
        return found

    return body


@contextmanager
def installed(bed: Bed, manifests: list[Object], not_yet: Callable[[], object]) -> Generator[None]:
    """Hold the cluster to policies, from the moment when `not_yet` finds nothing that does not work."""
    refs = [KINDS[each["kind"]].at("", each["metadata"]["name"]) for each in manifests]
    try:
        for ref, manifest in zip(refs, manifests, strict=True):
            bed.admin.create(ref.resource, manifest, intent=Intent.NEUTRAL)
        try:
            bed.until(lambda: not not_yet(), "the guard is in force", IN_FORCE_SECONDS)
        except UnavailableError as error:
            print(f"{error}: {not_yet()}")  # the tests say the rest
        yield
    finally:
        for ref in reversed(refs):
            found = bed.admin.get(ref)
            if found is not None:
                bed.admin.delete(ref, uid=found["metadata"]["uid"], intent=Intent.NEUTRAL)


def type_warnings(bed: Bed) -> dict[str, object]:
    """Return what the server says against the types of each policy, once it looked at all of them."""
    found: dict[str, object] = {}
    for policy in policies(SETTINGS):
        ref = VALIDATING.at("", policy.full_name)

        def checked(ref: Ref = ref) -> object:
            return ((bed.admin.get(ref) or {}).get("status") or {}).get("typeChecking")

        bed.until(lambda checked=checked: checked() is not None, f"{ref} is type-checked")
        found[policy.full_name] = checked()
    return found


@contextmanager
def rights_given(bed: Bed) -> Generator[None]:
    """Let everybody do what ordinary verbs name, so that only the guard stands in the way; bob may ask for more."""
    asked = [verb.value for verb in Verb]
    roles = {
        "bed-ordinary": {"apiGroups": ["*"], "resources": ["*"], "verbs": ORDINARY},
        "bed-asking": {"apiGroups": [GROUP], "resources": ["canaryruns"], "verbs": asked},
    }
    users = {"bed-ordinary": ("alice", "bob", "agent", "controller"), "bed-asking": ("bob",)}
    for role, rule in roles.items():
        bed.make(CLUSTERROLES, role, rules=[rule])
        subjects = [{"apiGroup": RBAC, "kind": "User", "name": USERS[name][0]} for name in users[role]]
        ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
        bed.make(CLUSTERROLEBINDINGS, role, subjects=subjects, roleRef=ref)
    yield
    for ref in (kind.at("", role) for kind in (CLUSTERROLEBINDINGS, CLUSTERROLES) for role in roles):
        stored = bed.admin.get(ref) or {}
        bed.admin.delete(ref, uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL)


def forget_safety_policies(bed: Bed) -> None:
    """Delete them all, as soon as nothing guards them: they would rule the shops of every other test."""

    def gone() -> bool:
        left = [each["metadata"] for each in bed.admin.list(SAFETYPOLICIES)]
        with suppress(RefusedError):  # the server forgets a policy a moment after it is deleted
            for each in left:
                bed.admin.delete(SAFETYPOLICIES.at("", each["name"]), uid=each["uid"], intent=Intent.NEUTRAL)
        return not left

    bed.until(gone, "the safety policies are gone")


def give_pod(bed: Bed) -> None:
    """Make the controller's account and a pod of its, and know the token that a kubelet would mount there as `pod`."""
    if bed.admin.get(PODS.at(SYSTEM, POD)) is not None:
        return  # another module made it
    bed.make(SERVICEACCOUNTS, "canary-controller", SYSTEM)
    spec = {
        "serviceAccountName": "canary-controller",
        "containers": [{"name": "controller", "image": "registry.invalid/canary:1"}],
    }
    pod = bed.make(PODS, POD, SYSTEM, spec=spec)
    bound = {"apiVersion": "v1", "kind": "Pod", "name": POD, "uid": pod["metadata"]["uid"]}
    asked = {"audiences": [], "expirationSeconds": 7200, "boundObjectRef": bound}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": asked}
    path = SERVICEACCOUNTS.at(SYSTEM, "canary-controller").path("token")
    status, answer = bed.ask("node", "POST", path, body)
    assert status == 201, answer
    bed.welcome("pod", answer["status"]["token"])
