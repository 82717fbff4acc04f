"""What the API server writes by itself, from Kubernetes 1.36 on: the hold (M1), and who asks, pushes or rules (M2).

With these a `kubectl replace` that forgets `paused` keeps the hold instead of being refused, and nobody has to fill in
who he is, nor can: who wrote a template or a policy stays noted until the next one is written. A field that is written
so belongs to no manager, so no pipeline comes to own it.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from canary.api.change import ChangeAnnotation
from canary.api.marks import TRUE, Mark
from canary.api.reasons import GROUP, VERSION
from canary.guard.neighbours import ADOPTED
from canary.guard.policy import (
    ADMISSION,
    CREATE,
    EVERY_PARAMETER,
    GUARDED,
    IS_CREATE,
    PREFIX,
    UPDATE,
    Json,
    Requests,
    Settings,
    constraints,
    identities,
    parameters,
)
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, DEPLOYMENTS, SAFETYPOLICIES, Resource

SINCE = (1, 36)  # MutatingAdmissionPolicy is admissionregistration.k8s.io/v1 from here
MUTATING = Resource(ADMISSION, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False)
MUTATING_BINDINGS = Resource(
    ADMISSION, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", namespaced=False
)
_TEMPLATE_CHANGED = "object.spec.template != oldObject.spec.template"
_TEXT_CHANGED = f"{IS_CREATE} || object.spec != oldObject.spec"


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is written into which requests; each of `only` must hold, by the names of `identities`."""

    name: str
    requests: tuple[Requests, ...]
    only: tuple[str, ...]
    patch: Json
    objects: Json = field(default_factory=dict[str, Any])
    namespaces: Json = field(default_factory=dict[str, Any])
    parameter: Resource | None = None
    """As in `Policy`."""

    @property
    def full_name(self) -> str:
        return f"{PREFIX}{self.name}"


def _applied(expression: str) -> Json:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def _noted(obj: str) -> str:
    return f"{obj}.metadata.?annotations[?'{ChangeAnnotation.CHANGED_BY}'].orValue('')"


def _names_writer(name: str, requests: tuple[Requests, ...], changed: str, objects: Json) -> Mutation:
    """Return what notes who wrote what counts as `changed`, and keeps that note whatever else is written."""
    before = f"({IS_CREATE} ? '' : {_noted('oldObject')})"
    writer = f"{changed} ? request.userInfo.username : {before}"
    note = (
        f"Object{{metadata: Object.metadata{{annotations: {{'{ChangeAnnotation.CHANGED_BY}': {writer}}}}}}}"
    )
    return Mutation(
        name, requests, (f"{changed} || {_noted('object')} != {before}",), _applied(note), objects
    )


def _pushes(*resources: str) -> tuple[Requests, ...]:
    return (Requests(DEPLOYMENTS.group, DEPLOYMENTS.version, resources, (UPDATE,)),)


HOLD = Mutation(
    "hold",
    _pushes(DEPLOYMENTS.plural),
    (
        f"{_TEMPLATE_CHANGED} || oldObject.spec.?paused.orValue(false)",
        "!(variables.controller)",
        "!(variables.bypass)",
    ),
    _applied("Object{spec: Object.spec{paused: true}}"),
    GUARDED,
)
_WITH_STATUS = (
    DEPLOYMENTS.plural,
    f"{DEPLOYMENTS.plural}/status",
)  # a status may be written with annotations
WRITER = _names_writer("writer", _pushes(*_WITH_STATUS), _TEMPLATE_CHANGED, GUARDED)
ANEW = Mutation(
    "anew",
    (Requests(DEPLOYMENTS.group, DEPLOYMENTS.version, (DEPLOYMENTS.plural,), (CREATE,)),),
    (f"{ADOPTED} && params.spec.target.name == object.metadata.?name.orValue('')",),
    _applied(
        f"Object{{metadata: Object.metadata{{labels: {{'{Mark.GUARDED}': '{TRUE}'}}, annotations: "
        f"{{'{ChangeAnnotation.CHANGED_BY}': request.userInfo.username}}}}, spec: Object.spec{{paused: true}}}}"
    ),
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)
"""A Deployment that was held and deleted is held as it is made anew; one that no policy has adopted yet is not."""
AUTHOR = _names_writer(
    "author",
    (Requests(GROUP, VERSION, (CANARYPOLICIES.plural, SAFETYPOLICIES.plural), (CREATE, UPDATE)),),
    _TEXT_CHANGED,
    {},
)
REQUESTER = Mutation(
    "requester",
    (Requests(GROUP, VERSION, (CANARYREQUESTS.plural,), (CREATE,)),),
    (),
    {
        "patchType": "JSONPatch",
        "jsonPatch": {
            "expression": "[JSONPatch{op: 'add', path: '/spec/requester', value: request.userInfo.username},"
            " JSONPatch{op: 'add', path: '/spec/groups', value: request.userInfo.?groups.orValue([])}]"
        },
    },
)
MUTATIONS = (HOLD, ANEW, WRITER, AUTHOR, REQUESTER)


def manifests(mutation: Mutation, settings: Settings) -> tuple[Json, Json]:
    """Return the policy and its binding as they are stored."""
    conditions = [
        {"name": f"only-{number}", "expression": _written_out(each, settings)}
        for number, each in enumerate(mutation.only, start=1)
    ]
    spec: Json = {
        **parameters(mutation.parameter),
        "matchConstraints": constraints(mutation.requests, mutation.objects, mutation.namespaces),
        **({"matchConditions": conditions} if conditions else {}),
        "mutations": [mutation.patch],
        "reinvocationPolicy": "Never",
    }
    binding: Json = {"policyName": mutation.full_name, **(EVERY_PARAMETER if mutation.parameter else {})}
    return (
        MUTATING.at("", mutation.full_name).manifest(spec=spec),
        MUTATING_BINDINGS.at("", mutation.full_name).manifest(spec=binding),
    )


def _written_out(expression: str, settings: Settings) -> str:
    """Put each variable's own expression in its place: a match condition knows no variables."""
    known = identities(settings)
    while named := re.search(r"variables\.(\w+)", expression):
        expression = f"{expression[: named.start()]}({known[named[1]]}){expression[named.end() :]}"
    return expression
