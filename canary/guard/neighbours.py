"""The rules about what stands around a guarded Deployment: its Service (G3), how many pods it has (G2), endpoints (G6).

They hold in guarded namespaces. What they need to know of a Deployment, the controller writes into the status of its
CanaryPolicy (`status.guard`): the Service, the labels of the side's pods, and the least that it may be scaled to.
"""

from canary.api.marks import SIDE_SUFFIX
from canary.guard.policy import (
    CREATE,
    DELETE,
    GUARDED,
    IS_CREATE,
    IS_DELETE,
    IS_UPDATE,
    OWN_SLICE,
    UPDATE,
    Policy,
    Requests,
    Rule,
    accounts,
    same,
)
from canary.kube.resources import CANARYPOLICIES, ENDPOINTSLICES, HPAS

FACTS = "params.?status.?guard"
LEAST = f"{FACTS}.?minReplicas.orValue(1)"
ADOPTED = "params.?status.?adopted.orValue(false)"

SERVICE = Policy(
    "services",
    (Requests("", "v1", ("services",), (CREATE, UPDATE, DELETE)),),
    (
        Rule(
            f"!({IS_DELETE} && variables.mine) || variables.collector || variables.bypass",
            "canary guards this Service: its customers come by it; set mode: Observe first",
        ),
        Rule(
            f"!({IS_UPDATE} && variables.mine) || variables.bypass || ({same('spec.?selector', 'spec.?ports')})",
            "canary guards this Service: selector and ports stay, for they say whom its customers reach",
        ),
        Rule(
            f"{IS_DELETE} || variables.controller || variables.bypass || !variables.selects"
            f" || ({IS_UPDATE} && {same('spec.?selector')})",
            "canary guards the Services here: this selector matches the pods of a side, which get traffic by the route "
            "alone; select by a label that only your pods have",
        ),
    ),
    {
        "name": f"{IS_DELETE} ? oldObject.metadata.name : request.name",  # who deletes a collection names nothing
        "mine": f"{ADOPTED} && {FACTS}.?service.orValue('-') == variables.name",
        "side": f"{FACTS}.?sideLabels.orValue({{}})",
        "selector": f"{IS_DELETE} ? {{}} : object.spec.?selector.orValue({{}})",
        "selects": "size(variables.selector) > 0 && size(variables.side) > 0"
        " && variables.selector.all(k, k in variables.side && variables.side[k] == variables.selector[k])",
    },
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)
SCALE = Policy(
    "scale",
    (Requests("apps", "v1", ("deployments", "deployments/scale"), (UPDATE,)),),
    (
        Rule(
            f"!({ADOPTED} && request.name == params.spec.target.name) || variables.wanted >= {LEAST}"
            " || variables.wanted >= oldObject.spec.?replicas.orValue(0)"
            " || (request.subResource == '' && variables.bypass)",
            "canary guards this Deployment: it keeps the pods that it had when the run began, for all traffic may come "
            "back at any moment; status.guard.minReplicas of its CanaryPolicy says how many",
        ),
    ),
    {"wanted": "object.spec.?replicas.orValue(0)"},
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)
AUTOSCALER = Policy(
    "autoscalers",
    (Requests(HPAS.group, HPAS.version, (HPAS.plural,), (CREATE, UPDATE)),),
    (
        Rule(
            f"!({ADOPTED} && variables.target.kind == 'Deployment'"
            " && variables.target.name == params.spec.target.name)"
            f" || variables.bypass || variables.wanted >= {LEAST} || ({IS_UPDATE}"
            " && variables.wanted >= oldObject.spec.?minReplicas.orValue(1))",
            "canary guards the target of this autoscaler: minReplicas cannot fall below what the Deployment had when "
            "the run began; status.guard.minReplicas of its CanaryPolicy says how many",
        ),
        Rule(
            "!variables.controller || "
            f"({same('spec.scaleTargetRef', 'spec.?minReplicas', 'spec.maxReplicas', 'spec.?metrics')})",
            "canary's controller may write nothing of an autoscaler but its behavior",
        ),
    ),
    {"target": "object.spec.scaleTargetRef", "wanted": "object.spec.?minReplicas.orValue(1)"},
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)


def _ours(obj: str) -> str:
    return f"{obj}{OWN_SLICE} && {obj}.metadata.?name.orValue('').endsWith('{SIDE_SUFFIX}')"


CLUSTER_WRITES = "variables.bypass || " + accounts(
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "generic-garbage-collector",
    "namespace-controller",
)
ENDPOINTS = Policy(
    "endpoints",
    (Requests("", "v1", ("endpoints",), (CREATE, UPDATE, DELETE)),),
    (
        Rule(
            CLUSTER_WRITES,
            "canary guards the addresses behind the Services here: only the cluster's own controllers write them",
        ),
    ),
    namespaces=GUARDED,
)
SLICES = Policy(
    "slices",
    (Requests(ENDPOINTSLICES.group, "v1", (ENDPOINTSLICES.plural,), (CREATE, UPDATE, DELETE)),),
    (
        Rule(
            f"{CLUSTER_WRITES} || (variables.mine && (variables.controller || variables.emptied))",
            "canary guards the addresses behind the Services here: only the cluster's own controllers write them, and "
            "canary's its own slice; that one may be emptied by everybody",
        ),
    ),
    {
        "mine": f"({IS_CREATE} || ({_ours('oldObject')})) && ({IS_DELETE} || ({_ours('object')}))",
        "emptied": f"{IS_UPDATE} && size(object.?endpoints.orValue([])) == 0 && {same('metadata.?labels')}",
    },
    namespaces=GUARDED,
)
