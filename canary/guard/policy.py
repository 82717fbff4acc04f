"""One admission policy as a value, and its two manifests; and who is who in the language that the API server speaks.

A `Policy` says which requests it looks at and what must hold for them; `manifests` makes the ValidatingAdmissionPolicy
and its binding, every default written out, so that what is stored can be compared with what was meant. Expressions are
in the Common Expression Language. Any field may be absent, so they read by `.?field.orValue(...)`: a policy denies
where an expression fails. One that reads another object by a parameter lets pass instead: a CRD that is away must
keep nobody from a rollback, nor an autoscaler from more pods.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from canary.api.marks import TRUE, Mark
from canary.api.reasons import GROUP
from canary.kube.resources import Resource

ADMISSION = "admissionregistration.k8s.io"
VALIDATING = Resource(
    ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
VALIDATING_BINDINGS = Resource(
    ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
PREFIX = "canary-guard-"
ACCOUNT = "canary-controller"  # also how the names of the controller's pods begin
MIN_REASON = 30  # characters that somebody who breaks the glass has to write
CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """Whom the guard knows by name."""

    namespace: str = "canary-system"
    """Where the controller runs."""
    platform_groups: tuple[str, ...] = ("system:masters",)
    """Who may change canary itself: its CRDs, its namespace, the label of a guarded namespace."""
    gitops_accounts: tuple[str, ...] = ()
    """Accounts of machines that may write policies, as the API server names them."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests for resources of one group; a subresource is written resource/subresource."""

    group: str
    version: str
    resources: tuple[str, ...]
    operations: tuple[str, ...]

    @property
    def rule(self) -> Json:
        return {
            "apiGroups": [self.group],
            "apiVersions": [self.version],
            "operations": list(self.operations),
            "resources": list(self.resources),
            "scope": "*",
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold, and what is said to whoever breaks it: what, and what to do instead."""

    holds: str
    says: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules over some requests. Selectors look at the object as it was and as it is to be: either is enough."""

    name: str
    requests: tuple[Requests, ...]
    rules: tuple[Rule, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Own names for expressions; those of `identities` are at hand, too."""
    objects: Json = field(default_factory=dict[str, Any])
    namespaces: Json = field(default_factory=dict[str, Any])
    only: str = ""
    """An expression; other requests are not looked at."""
    parameter: Resource | None = None
    """Each object of this kind in the request's namespace is `params` in turn; all of them must agree."""

    @property
    def full_name(self) -> str:
        return f"{PREFIX}{self.name}"

    @property
    def expressions(self) -> tuple[str, ...]:
        return (*(rule.holds for rule in self.rules), *self.variables.values())


def manifests(policy: Policy, settings: Settings) -> tuple[Json, Json]:
    """Return the policy and its binding as they are stored."""
    parameter = policy.parameter
    spec: Json = {
        **parameters(parameter),
        "matchConstraints": constraints(policy.requests, policy.objects, policy.namespaces),
        **({"matchConditions": [{"name": "only", "expression": policy.only}]} if policy.only else {}),
        **_named(variables_of(policy, settings)),
        "validations": [
            {"expression": rule.holds, "message": rule.says, "reason": "Forbidden"} for rule in policy.rules
        ],
        **_audited(policy),
    }
    binding: Json = {"policyName": policy.full_name, "validationActions": ["Deny", "Audit"]}
    binding |= EVERY_PARAMETER if parameter else {}
    return (
        VALIDATING.at("", policy.full_name).manifest(spec=spec),
        VALIDATING_BINDINGS.at("", policy.full_name).manifest(spec=binding),
    )


EVERY_PARAMETER: Json = {"paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"}}


def parameters(parameter: Resource | None) -> Json:
    """Return what a policy's spec says of its parameter, and whether it denies where an expression fails."""
    if parameter is None:
        return {"failurePolicy": "Fail"}
    kind = {"apiVersion": parameter.api_version, "kind": parameter.kind}
    return {"failurePolicy": "Ignore", "paramKind": kind}


def constraints(requests: tuple[Requests, ...], objects: Json, namespaces: Json) -> Json:
    return {
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespaces,
        "objectSelector": objects,
        "resourceRules": [each.rule for each in requests],
    }


def variables_of(policy: Policy, settings: Settings) -> dict[str, str]:
    """Return the policy's variables, after those of `identities` that it names."""
    text = " ".join(policy.expressions)
    shared, used = identities(settings), dict[str, str]()
    for name in reversed(shared):  # a later one may name an earlier one
        if re.search(rf"\bvariables\.{name}\b", text):
            text += f" {shared[name]}"
            used = {name: shared[name], **used}
    return {**used, **policy.variables}


def _named(variables: Mapping[str, str]) -> Json:
    listed = [{"name": name, "expression": expression} for name, expression in variables.items()]
    return {"variables": listed} if listed else {}


def _audited(policy: Policy) -> Json:
    """Breaking the glass is never quiet: the server's audit log gets who and why, of an attempt, too."""
    if not any("variables.bypass" in text for text in policy.expressions):
        return {}
    told = "variables.glass ? request.userInfo.username + ': ' + variables.reason : ''"
    return {"auditAnnotations": [{"key": "break-glass", "valueExpression": told}]}


# -- who is who ------------------------------------------------------------------------------------------------------

POD_NAME = "authentication.kubernetes.io/pod-name"
REASON = f".metadata.?annotations[?'{Mark.BREAK_GLASS}'].orValue('')"


def identities(settings: Settings) -> dict[str, str]:
    """Return the variables that tell who asks; a token that was not issued to a pod of ours is not the controller's."""
    runs = f"authorizer.group('{GROUP}').resource('canaryruns').namespace(request.namespace)"
    return {
        "controller": f"{named_controller(settings)} && request.userInfo.?extra[?'{POD_NAME}'].orValue([])"
        f".exists(p, p.startsWith('{ACCOUNT}-'))",
        "person": "!request.userInfo.username.startsWith('system:')",
        "platform": f"request.userInfo.?groups.orValue([]).exists(g, g in {_list(settings.platform_groups)})",
        "collector": accounts("generic-garbage-collector", "namespace-controller"),
        "reason": f"(request.operation == '{DELETE}' ? oldObject : object){REASON}",
        "glass": f"variables.person && size(variables.reason) >= {MIN_REASON}"
        f" && (request.operation != '{UPDATE}' || oldObject{REASON} != variables.reason)",
        "bypass": f"variables.glass && {runs}.check('bypass').allowed()",
    }


CLUSTER = (
    "(request.userInfo.username.startsWith('system:serviceaccount:kube-system:')"
    " || request.userInfo.username.startsWith('system:node:') || request.userInfo.username in"
    " ['system:kube-controller-manager', 'system:kube-scheduler', 'system:apiserver'])"
)
"""The control plane and the nodes: they make and end pods, endpoints and default objects."""


def named_controller(settings: Settings) -> str:
    return f"request.userInfo.username == 'system:serviceaccount:{settings.namespace}:{ACCOUNT}'"


def accounts(*controllers: str) -> str:
    """Return the expression for the cluster's own controllers, with or without accounts of their own."""
    named = [f"system:serviceaccount:kube-system:{each}" for each in controllers]
    return f"request.userInfo.username in {_list(('system:kube-controller-manager', *named))}"


def _list(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(repr(text) for text in texts)}]"


# -- what is guarded -------------------------------------------------------------------------------------------------

GUARDED: Json = {"matchLabels": {Mark.GUARDED.value: TRUE}}
"""Selects objects, or namespaces, that carry the guard's label."""
IS_GUARDED = f".metadata.?labels[?'{Mark.GUARDED}'].orValue('') == '{TRUE}'"
OWN_SLICE = f".metadata.?labels[?'endpointslice.kubernetes.io/managed-by'].orValue('') == '{GROUP}'"
"""Says of an EndpointSlice that canary made it."""
IS_CREATE, IS_UPDATE, IS_DELETE = (f"request.operation == '{each}'" for each in (CREATE, UPDATE, DELETE))


def same(*fields: str) -> str:
    """Return the expression: these fields, below `object`, are as they were."""
    return " && ".join(f"object.{each} == oldObject.{each}" for each in fields)
