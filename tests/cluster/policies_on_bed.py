"""Admission policies for tests of what the API server can enforce by itself: written down, installed, and awaited.

`installed(bed, policy)` lays a policy and its binding down for the namespaces that carry its name as a label, waits
until the server type-checked it without a warning, and takes both away at the end, so that no test meets the rules
of another.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster_bed import USERS, Bed

from canary.kube.client import Intent
from canary.kube.resources import Resource

ADMISSION = "admissionregistration.k8s.io"
VALIDATING = Resource(
    ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
VALIDATING_BINDINGS = Resource(
    ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
MUTATING = Resource(ADMISSION, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False)
MUTATING_BINDINGS = Resource(
    ADMISSION, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", namespaced=False
)
BINDINGS = {VALIDATING: VALIDATING_BINDINGS, MUTATING: MUTATING_BINDINGS}
OURS = f"request.userInfo.username == '{USERS['controller'][0]}'"
NOT_OURS = {"name": "not-ours", "expression": f"!({OURS})"}
SCOPE = "policy-under-test"  # the label of namespaces that a policy holds in; its value is the policy's name
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy and its binding, less their names."""

    name: str
    spec: Object
    resource: Resource = VALIDATING
    binding: Object = field(default_factory=dict[str, Any])

    def labels(self) -> dict[str, str]:
        """Return the labels of a namespace in which it holds."""
        return {SCOPE: self.name}


def rules(group: str, version: str, resources: list[str], *operations: str) -> Object:
    """Return matchConstraints for one group."""
    rule = {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": list(operations),
        "resources": resources,
    }
    return {"resourceRules": [rule]}


def denies(expression: str, message: str) -> Object:
    """Return a validation: what must hold, and what is said where it does not."""
    return {"expression": expression, "message": message, "reason": "Forbidden"}


@contextmanager
def installed(bed: Bed, policy: Policy, in_force: Callable[[], bool]) -> Generator[None]:
    """Hold namespaces with the policy's label to it, from the moment when `in_force` says that it works."""
    bindings = BINDINGS[policy.resource]
    bed.make(policy.resource, policy.name, spec={"failurePolicy": "Fail", **policy.spec})
    actions = {"validationActions": ["Deny"]} if policy.resource is VALIDATING else {}
    scope = {"matchResources": {"namespaceSelector": {"matchLabels": policy.labels()}}}
    bed.make(bindings, policy.name, spec={"policyName": policy.name, **actions, **scope, **policy.binding})
    try:
        if policy.resource is VALIDATING:
            bed.until(lambda: type_checking(bed, policy) is not None, f"{policy.name} is type-checked")
            assert type_checking(bed, policy) == {}
        bed.until(in_force, f"policy {policy.name} is in force")
        yield
    finally:
        for resource in (bindings, policy.resource):
            ref = resource.at("", policy.name)
            stored = bed.admin.get(ref)
            if stored is not None:
                bed.admin.delete(ref, uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL)


def type_checking(bed: Bed, policy: Policy) -> Object | None:
    """Return what the server says of the policy's types: {} is no warning, None is not looked at yet."""
    return ((bed.admin.get(policy.resource.at("", policy.name)) or {}).get("status") or {}).get(
        "typeChecking"
    )
