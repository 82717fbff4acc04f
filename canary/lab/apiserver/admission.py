"""Who may change what: the admission rules of the embedded cluster.

A rule is a function of one question (who wants to do what to which object); it denies by raising a 403, may
return another object to be stored, and otherwise returns None. `guard_rules` is the lab's twin of the guard
policies that the chart installs: it keeps a held change held against everybody but the controller. Its refusals
return the sentence that denies, or nothing. Called by `protocol.py` on every write of a client; the cluster's own
controllers write past it, as they do behind a real server.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from canary.api.marks import ROLE_CANARY, TRUE, Mark
from canary.api.reasons import GROUP, MACHINE_VERBS
from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.objects import Object, labels_of, name_of, namespace_of
from canary.lab.apiserver.resources import Kind
from canary.lab.apiserver.selectors import matches
from canary.lab.apiserver.store import Store

CONTROLLER = "system:serviceaccount:canary-system:canary-controller"
_SERVICE_ACCOUNT = "system:serviceaccount:"


class Operation(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class User:
    """Whom the server authenticated."""

    name: str
    groups: tuple[str, ...] = ()

    @property
    def is_machine(self) -> bool:
        return self.name.startswith(_SERVICE_ACCOUNT)

    @property
    def all_groups(self) -> tuple[str, ...]:
        """Return the groups with those that the server itself adds."""
        own = ("system:unauthenticated" if self.name == "system:anonymous" else "system:authenticated",)
        if self.is_machine:
            own = ("system:serviceaccounts", f"system:serviceaccounts:{self.name.split(':')[2]}", *own)
        return tuple(dict.fromkeys((*self.groups, *own)))


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """One question; `old` is None for a creation, `new` for a deletion. Neither is to be written to."""

    operation: Operation
    user: User
    kind: Kind
    subresource: str
    old: Object | None
    new: Object | None
    store: Store

    @property
    def subject(self) -> Object:
        return self.new or self.old or {}

    def is_about(self, name: str, group: str) -> bool:
        return self.kind.name == name and self.kind.group == group

    def denied(self, message: str) -> ApiError:
        """Return the refusal; the message says what to do instead."""
        what = f'{self.kind.resource} "{name_of(self.subject)}"'
        return ApiError(StatusReason.FORBIDDEN, f"{what} is forbidden: {message}")


Rule = Callable[[AdmissionRequest], Object | None]


def guard_rules() -> tuple[Rule, ...]:
    """Return the guard: the stamp first, then the refusals."""
    return (stamp_requester, refuse)


def refuse(request: AdmissionRequest) -> None:
    """Deny what a refusal has a sentence for; of what holds everybody else, the controller is free."""
    of_others = (keep_runs, keep_deployments_held, keep_environment, keep_sides, keep_routes)
    further = (keep_templates,) if request.user.name == CONTROLLER else of_others
    for refusal in (keep_requests, limit_machines, *further):
        if why := refusal(request):
            raise request.denied(why)


def stamp_requester(request: AdmissionRequest) -> Object | None:
    """Write who asks into a new CanaryRequest; what the client claimed is overwritten."""
    if not _is_ours(request, "CanaryRequest") or request.operation is not Operation.CREATE or not request.new:
        return None
    spec = {**(request.new.get("spec") or {}), "requester": request.user.name}
    return {**request.new, "spec": {**spec, "groups": list(request.user.all_groups)}}


def keep_requests(request: AdmissionRequest) -> str:
    """A directive is a record: it is neither changed nor deleted."""
    if not _is_ours(request, "CanaryRequest"):
        return ""
    if request.operation is Operation.DELETE:
        return "a CanaryRequest is a record and stays; `canary reject` or `canary abort` answers it"
    if request.old and request.new and request.old.get("spec") != request.new.get("spec"):
        return "a CanaryRequest cannot be changed; make a new one"
    return ""


def limit_machines(request: AdmissionRequest) -> str:
    """A service account may ask for less exposure, never for more."""
    if not _is_ours(request, "CanaryRequest") or request.operation is not Operation.CREATE:
        return ""
    verb = (request.subject.get("spec") or {}).get("verb")
    if request.user.is_machine and verb not in MACHINE_VERBS:
        return f"machines may abort and hold only; a person has to ask for {verb}"
    return ""


def keep_runs(request: AdmissionRequest) -> str:
    """Runs, and every status of ours, are written by the controller."""
    if _is_ours(request, "CanaryRun"):
        return "only the controller writes runs; use `canary promote`, `abort`, `hold` or `resume`"
    if request.kind.group == GROUP and request.subresource == "status":
        return "only the controller writes a status"
    return ""


def keep_deployments_held(request: AdmissionRequest) -> str:
    """A guarded Deployment is not deleted, un-paused or un-guarded, and its template changes only while paused."""
    old, new = request.old, request.new
    if not request.is_about("Deployment", "apps") or old is None or not _is_guarded(old):
        return ""
    if request.operation is Operation.DELETE or new is None:
        return "it is guarded by canary; set its CanaryPolicy to mode: Observe first"
    if not _is_guarded(new):
        return f"the label {Mark.GUARDED} is canary's; detach the CanaryPolicy to remove it"
    paused = bool(new["spec"].get("paused"))
    if old["spec"].get("paused") and not paused:
        return "the change is held by canary; use `canary promote`, or leave spec.paused: true in place"
    if old["spec"]["template"] != new["spec"]["template"] and not paused:
        return "a changed template is held by canary; set spec.paused: true with it"
    return ""


def keep_templates(request: AdmissionRequest) -> str:
    """The controller itself may move nothing in a guarded Deployment's spec but the pause."""
    old, new = request.old, request.new
    if not request.is_about("Deployment", "apps") or old is None or not _is_guarded(old):
        return ""
    if new is None:
        return "canary never deletes a user's Deployment"
    if {**old["spec"], "paused": None} != {**new["spec"], "paused": None}:
        return "canary writes nothing of a user's Deployment but spec.paused"
    return ""


def keep_environment(request: AdmissionRequest) -> str:
    """What a guarded Deployment needs to serve is not deleted: its namespace, Services and routes."""
    if request.operation is not Operation.DELETE or request.old is None:
        return ""
    obj, what = request.old, request.kind.name
    namespace = name_of(obj) if what == "Namespace" else namespace_of(obj)
    guarded = [_pod_labels(deployment) for deployment in _guarded_deployments(request.store, namespace)]
    concerned = {
        "Namespace": lambda: bool(guarded),
        "Service": lambda: _serves(obj, guarded),
        "HTTPRoute": lambda: any(_serves(service, guarded) for service in _services_of(request.store, obj)),
    }
    if _is_guarded(obj) or (what in concerned and concerned[what]()):
        return "a Deployment guarded by canary needs it; set its CanaryPolicy to mode: Observe first"
    return ""


def keep_sides(request: AdmissionRequest) -> str:
    """The controller takes its own side away."""
    is_side = request.old is not None and labels_of(request.old).get(Mark.ROLE) == ROLE_CANARY
    if request.operation is Operation.DELETE and is_side and request.kind.name != "Pod":
        return "it is the side of a canary run; end the run with `canary abort`"
    return ""


def keep_routes(request: AdmissionRequest) -> str:
    """A route may be written by others if its spec stays, or if the result sends nothing to a side."""
    old, new = request.old, request.new
    if request.kind.name not in ("HTTPRoute", "GRPCRoute") or new is None or request.subresource:
        return ""
    if old is not None and old["spec"] == new["spec"]:
        return ""
    rules: list[Object] = new["spec"].get("rules") or []
    reached = [ref for rule in rules for ref in _side_references(request.store, new, rule)]
    if any(ref.get("weight", 1) > 0 for ref in reached):
        return "only canary gives traffic to a side; use `canary promote`, or leave the side out"
    was_attached = old is not None and any(
        True for rule in old["spec"].get("rules") or () for _ in _side_references(request.store, old, rule)
    )
    if (reached or was_attached) and not all(_keeps_traffic(rule) for rule in rules):
        return "a rule would be left without a backend; give the stable Service the whole weight"
    return ""


def _is_ours(request: AdmissionRequest, kind: str) -> bool:
    return request.is_about(kind, GROUP)


def _is_guarded(obj: Object) -> bool:
    return labels_of(obj).get(Mark.GUARDED) == TRUE


def _guarded_deployments(store: Store, namespace: str) -> list[Object]:
    deployments = store.kinds.named("Deployment")
    return store.select(deployments, namespace, _is_guarded) if namespace else []


def _pod_labels(deployment: Object) -> Mapping[str, str]:
    return deployment["spec"]["template"]["metadata"].get("labels") or {}


def _serves(service: Object, guarded: list[Mapping[str, str]]) -> bool:
    selector = {"matchLabels": service["spec"].get("selector") or {}}
    return any(matches(selector, labels) for labels in guarded)


def _services_of(store: Store, route: Object) -> Iterator[Object]:
    services = store.kinds.named("Service")
    for rule in route["spec"].get("rules") or ():
        for ref in rule.get("backendRefs") or ():
            found = store.find(services, ref.get("namespace") or namespace_of(route), ref["name"])
            if found is not None:
                yield found


def _side_references(store: Store, route: Object, rule: Object) -> Iterator[Object]:
    """Yield the rule's references to sides; a mirror filter counts as traffic."""
    mirrors = [entry["requestMirror"]["backendRef"] for entry in _filters(rule) if "requestMirror" in entry]
    for ref in (*(rule.get("backendRefs") or ()), *mirrors):
        service = store.find(
            store.kinds.named("Service"), ref.get("namespace") or namespace_of(route), ref["name"]
        )
        if service is not None and labels_of(service).get(Mark.ROLE) == ROLE_CANARY:
            yield ref


def _filters(rule: Object) -> Iterator[Any]:
    yield from rule.get("filters") or ()
    for ref in rule.get("backendRefs") or ():
        yield from ref.get("filters") or ()


def _keeps_traffic(rule: Object) -> bool:
    refs: list[Object] = rule.get("backendRefs") or []
    return not refs or any(ref.get("weight", 1) > 0 for ref in refs)
