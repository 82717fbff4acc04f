"""What the API server writes by itself, from Kubernetes 1.36 on: the hold (M1), and who asks or pushes (M2).

With these a `kubectl replace` that forgets `paused` keeps the hold instead of being refused, and nobody has to fill in
who he is. A field that is written so belongs to no manager, so no pipeline comes to own it.
"""

import re
from dataclasses import dataclass
from typing import Any

from canary.api.change import ChangeAnnotation
from canary.api.reasons import GROUP, VERSION
from canary.guard.policy import (
    ADMISSION,
    CREATE,
    GUARDED,
    UPDATE,
    Json,
    Requests,
    Settings,
    constraints,
    identities,
)
from canary.kube.resources import CANARYREQUESTS, DEPLOYMENTS, Resource

SINCE = (1, 36)  # MutatingAdmissionPolicy is admissionregistration.k8s.io/v1 from here
MUTATING = Resource(ADMISSION, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False)
MUTATING_BINDINGS = Resource(
    ADMISSION, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", namespaced=False
)
_TEMPLATE_CHANGED = "object.spec.template != oldObject.spec.template"


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is written into which requests; each of `only` must hold, by the names of `identities`."""

    name: str
    requests: Requests
    only: tuple[str, ...]
    patch: Json
    objects: Json

    @property
    def full_name(self) -> str:
        return f"canary-guard-{self.name}"


def _applied(expression: str) -> Json:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


_PUSHES = Requests(DEPLOYMENTS.group, DEPLOYMENTS.version, (DEPLOYMENTS.plural,), (UPDATE,))
HOLD = Mutation(
    "hold",
    _PUSHES,
    (
        f"{_TEMPLATE_CHANGED} || oldObject.spec.?paused.orValue(false)",
        "!(variables.controller)",
        "!(variables.bypass)",
    ),
    _applied("Object{spec: Object.spec{paused: true}}"),
    GUARDED,
)
WRITER = Mutation(
    "writer",
    _PUSHES,
    (_TEMPLATE_CHANGED,),
    _applied(
        "Object{metadata: Object.metadata{annotations: "
        f"{{'{ChangeAnnotation.CHANGED_BY}': request.userInfo.username}}}}}}"
    ),
    GUARDED,
)
REQUESTER = Mutation(
    "requester",
    Requests(GROUP, VERSION, (CANARYREQUESTS.plural,), (CREATE,)),
    (),
    {
        "patchType": "JSONPatch",
        "jsonPatch": {
            "expression": "[JSONPatch{op: 'add', path: '/spec/requester', value: request.userInfo.username},"
            " JSONPatch{op: 'add', path: '/spec/groups', value: request.userInfo.?groups.orValue([])}]"
        },
    },
    {},
)
MUTATIONS = (HOLD, WRITER, REQUESTER)


def manifests(mutation: Mutation, settings: Settings) -> tuple[Json, Json]:
    """Return the policy and its binding as they are stored."""
    conditions = [
        {"name": f"only-{number}", "expression": _written_out(each, settings)}
        for number, each in enumerate(mutation.only, start=1)
    ]
    spec: Json = {
        "failurePolicy": "Fail",
        "matchConstraints": constraints((mutation.requests,), mutation.objects, {}),
        **({"matchConditions": conditions} if conditions else {}),
        "mutations": [mutation.patch],
        "reinvocationPolicy": "Never",
    }
    binding: dict[str, Any] = {"policyName": mutation.full_name}
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
