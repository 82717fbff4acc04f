"""The rules about what runs (G7): the pods behind a guarded Service, their ReplicaSets, and who reaches into them.

A pod with the labels that the Service selects is one of the Deployment's own: its ReplicaSet is named after the
Deployment and the pod's template hash, the ReplicaSet controller makes it, and its images and labels stay. Other pods
of the namespace are nobody's business here. `status.guard` of the CanaryPolicy says which labels these are, and which
ReplicaSet serves.
"""

from canary.api.marks import SIDE_SUFFIX, WAY_BACK_SUFFIX, Mark
from canary.guard.neighbours import ADOPTED, FACTS
from canary.guard.policy import (
    CLUSTER,
    CONNECT,
    CREATE,
    DELETE,
    GUARDED,
    IS_CREATE,
    IS_DELETE,
    IS_UPDATE,
    UPDATE,
    Policy,
    Requests,
    Rule,
    accounts,
)
from canary.kube.resources import CANARYPOLICIES

TARGET = "params.spec.target.name"
SIDES = f"[{TARGET} + '{SIDE_SUFFIX}', {TARGET} + '{WAY_BACK_SUFFIX}']"
LAX = "params.spec.?tier.orValue(1) > 1"
ITS_SIDE = f"variables.labels[?'{Mark.SIDE}'].orValue('')"
HASH = "variables.labels[?'pod-template-hash'].orValue('')"  # which the Deployment controller adds


def _serve(labels: str) -> str:
    """Return the expression: the Service's customers come to pods of these labels."""
    return (
        f"({ADOPTED} && size(variables.selector) > 0"
        f" && variables.selector.all(k, k in {labels} && {labels}[k] == variables.selector[k]))"
    )


def _of_side(labels: str) -> str:
    return f"({ADOPTED} && {labels}[?'{Mark.SIDE}'].orValue('') in {SIDES})"


def _owned_by(deployment: str) -> str:
    """Return the expression: a ReplicaSet of this Deployment, and of the pod's own template, controls the pod."""
    return (
        "object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false) && o.kind == 'ReplicaSet'"
        f" && o.name == {deployment} + '-' + {HASH})"
    )


def _images(obj: str) -> str:
    containers = f"{obj}.spec.?containers.orValue([]).map(c, c.image)"
    return f"({containers} + {obj}.spec.?initContainers.orValue([]).map(c, c.?image.orValue('')))"


SELECTOR = f"{FACTS}.?servingSelector.orValue({{}})"
PODS = Policy(
    "pods",
    (Requests("", "v1", ("pods",), (CREATE, UPDATE, DELETE)),),
    (
        Rule(
            f"{IS_DELETE} || variables.bypass || !(variables.serves || variables.beside) || (variables.owned"
            f" && (!({IS_CREATE}) || {accounts('replicaset-controller')}))",
            "canary guards the Service or the side that these labels lead to: only pods of its own Deployment's "
            "ReplicaSets may have them; give other pods other labels",
        ),
        Rule(
            f"!({IS_UPDATE}) || variables.bypass || !variables.served || (variables.serves || variables.beside)",
            "canary guards this pod: the labels by which customers reach it stay; change the Deployment's template",
        ),
        Rule(
            f"!({IS_UPDATE}) || variables.bypass || !variables.served || {_images('object')} =="
            f" {_images('oldObject')}",
            "canary guards this pod: its images stay, for nobody would judge others; change the Deployment's template",
        ),
        Rule(
            f"!({IS_DELETE}) || variables.bypass || !variables.servedStable || {LAX} || {CLUSTER}",
            "canary guards this pod: on tier 1 pods leave by eviction, which minds the disruption budget; "
            "kubectl drain evicts, and so does a POST to its eviction subresource",
        ),
    ),
    {
        "selector": SELECTOR,
        "labels": f"{IS_DELETE} ? {{}} : object.metadata.?labels.orValue({{}})",
        "before": f"{IS_CREATE} ? {{}} : oldObject.metadata.?labels.orValue({{}})",
        "serves": _serve("variables.labels"),
        "beside": _of_side("variables.labels"),
        "servedStable": _serve("variables.before"),
        "served": f"variables.servedStable || {_of_side('variables.before')}",
        "owned": f"(!variables.serves || {_owned_by(TARGET)})"
        f" && (!variables.beside || {_owned_by(ITS_SIDE)})",
    },
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)
SETS = Policy(
    "replicasets",
    (Requests("apps", "v1", ("replicasets",), (CREATE, UPDATE, DELETE)),),
    (
        Rule(
            "variables.bypass || !variables.serving || "
            + accounts("deployment-controller", "generic-garbage-collector", "namespace-controller"),
            "canary guards the pods of this ReplicaSet: only the Deployment controller writes it; change the "
            "Deployment, or take away pods that no run let through with kubectl scale --replicas=0",
        ),
    ),
    {
        "selector": SELECTOR,
        "labels": f"{IS_DELETE} ? {{}} : object.spec.?template.?metadata.?labels.orValue({{}})",
        "before": f"{IS_CREATE} ? {{}} : oldObject.spec.?template.?metadata.?labels.orValue({{}})",
        "serving": " || ".join(
            each(labels) for each in (_serve, _of_side) for labels in ("variables.labels", "variables.before")
        ),
    },
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)
SET_SCALE = Policy(
    "replicasets-scale",
    (Requests("apps", "v1", ("replicasets/scale",), (UPDATE,)),),
    (
        Rule(
            f"!({ADOPTED} && request.name.startsWith({TARGET} + '-')"
            f" && !request.name.substring(size({TARGET}) + 1).contains('-')) || variables.wanted == variables.before"
            f" || (variables.wanted < variables.before && request.name != {FACTS}.?replicaSet.orValue(request.name))",
            "canary guards the Deployment of this ReplicaSet: the one that serves keeps its pods, and others may only "
            "lose theirs; scale the Deployment",
        ),
    ),
    {
        "wanted": "object.spec.?replicas.orValue(0)",
        "before": "oldObject.spec.?replicas.orValue(0)",
    },
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)
ENTERED = Policy(
    "entered",
    (
        Requests("", "v1", ("pods/exec", "pods/attach"), (CONNECT,)),
        Requests("", "v1", ("pods/ephemeralcontainers",), (UPDATE,)),
    ),
    (
        Rule(
            f"variables.person || {LAX} || !({ADOPTED} && request.name.startsWith({TARGET} + '-'))",
            "canary guards this pod: on tier 1 machines run nothing in it (exec, attach, ephemeral containers); a "
            "person has to",
        ),
    ),
    namespaces=GUARDED,
    parameter=CANARYPOLICIES,
)
