"""The rules about what all else rests on: namespaces and CRDs (G11), configuration (G9), and canary itself (G12).

Who belongs to a platform group may change canary; what is guarded holds for them, too, until they take off its label.
"""

from canary.api.marks import Mark
from canary.api.reasons import GROUP
from canary.guard.policy import (
    CLUSTER,
    CREATE,
    DELETE,
    GUARDED,
    IS_DELETE,
    IS_GUARDED,
    UPDATE,
    Json,
    Policy,
    Requests,
    Rule,
    Settings,
    same,
)

WRITES = (CREATE, UPDATE, DELETE)
NAMESPACE = Policy(
    "namespaces",
    (Requests("", "v1", ("namespaces",), (UPDATE, DELETE)),),
    (
        Rule(
            f"!({IS_DELETE}) || variables.bypass",
            "canary guards this namespace: deleting it would end its pods at once, whatever else is refused; a "
            "platform group takes off the label first",
        ),
        Rule(
            f"{IS_DELETE} || variables.platform || variables.bypass || object{IS_GUARDED}",
            f"canary guards this namespace: only a platform group takes off the label {Mark.GUARDED}",
        ),
    ),
    objects=GUARDED,
)
CRD = Policy(
    "crds",
    (
        Requests(
            "apiextensions.k8s.io",
            "v1",
            ("customresourcedefinitions",),
            (UPDATE, DELETE),
        ),
    ),
    (
        Rule(
            f"oldObject.spec.group != '{GROUP}' || variables.platform || (!({IS_DELETE}) && {same('spec')})",
            "the kinds of canary hold its policies, its records and its rules: only a platform group changes them",
        ),
    ),
)


def _config(kind: str, *fields: str) -> Policy:
    return Policy(
        kind,
        (Requests("", "v1", (kind,), (UPDATE, DELETE)),),
        (
            Rule(
                f"!({IS_DELETE}) || variables.collector || variables.bypass",
                "canary guards this configuration: it cannot be deleted; write a new one under another name",
            ),
            Rule(
                f"{IS_DELETE} || variables.bypass || ({same(*(f'?{each}' for each in fields))})",
                "canary guards this configuration: pods would take it up at once, past every slice; write a new one "
                "under another name, and let the Deployment name that",
            ),
            Rule(
                f"{IS_DELETE} || variables.platform || variables.bypass || object{IS_GUARDED}",
                f"canary guards this configuration: only a platform group takes off the label {Mark.GUARDED}",
            ),
        ),
        objects=GUARDED,
    )


CONFIG = (_config("configmaps", "data", "binaryData"), _config("secrets", "data"))


WORKLOADS = (
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "daemonsets",
)
HOLDINGS = ("pods", "configmaps", "secrets", "serviceaccounts", "services")


def own(settings: Settings) -> tuple[Policy, ...]:
    """Return the rules about the namespace in which canary runs. There is no glass to break for Leases and tokens."""
    here: Json = {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}}
    itself = Rule(
        f"variables.platform || {CLUSTER}",
        "canary runs in this namespace: only a platform group (--platform-group) changes what is here",
    )
    held = Rule(
        "variables.controller || variables.collector", "canary's own Leases are written by its controller"
    )
    issued = Rule(
        "request.userInfo.username.startsWith('system:node:')",
        "tokens of canary's accounts are issued to its pods alone: by a node, for a pod that runs there",
    )
    things = (
        Requests("apps", "v1", WORKLOADS, WRITES),
        Requests("", "v1", HOLDINGS, WRITES),
        Requests("", "v1", ("namespaces",), (UPDATE, DELETE)),
        Requests("rbac.authorization.k8s.io", "v1", ("roles", "rolebindings"), WRITES),
    )
    leases = Requests("coordination.k8s.io", "v1", ("leases",), WRITES)
    tokens = Requests("", "v1", ("serviceaccounts/token",), (CREATE,))
    return (
        Policy("own", things, (itself,), namespaces=here),
        Policy("leases", (leases,), (held,), namespaces=here),
        Policy("tokens", (tokens,), (issued,), namespaces=here),
    )
