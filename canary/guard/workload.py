"""The rules about the user's Deployment and the side beside it (G1, G8).

A guarded Deployment is one with the guard's label, which the controller sets when it adopts and takes off when it
gives back. What may still be done to it: everything of its manifest, while it stays paused.
"""

from canary.api.marks import Mark
from canary.api.reasons import FINAL_PHASES, GROUP
from canary.guard.policy import (
    CREATE,
    DELETE,
    GUARDED,
    IS_DELETE,
    IS_GUARDED,
    OWN_SLICE,
    UPDATE,
    Policy,
    Requests,
    Rule,
    Settings,
    named_controller,
    same,
)

BUT_PAUSED = (
    "minReadySeconds",
    "progressDeadlineSeconds",
    "replicas",
    "revisionHistoryLimit",
    "selector",
    "strategy",
    "template",
)
"""Every field of a Deployment's spec but the one that is the controller's."""
RELEASED = "set its CanaryPolicy to mode: Observe, and canary gives it back"

HOLD = Policy(
    "workload",
    (Requests("apps", "v1", ("deployments",), (UPDATE, DELETE)),),
    (
        Rule(
            f"!({IS_DELETE}) || variables.bypass",
            f"canary guards this Deployment: it cannot be deleted; {RELEASED}",
        ),
        Rule(
            f"{IS_DELETE} || variables.controller || object{IS_GUARDED}",
            f"canary guards this Deployment: the label {Mark.GUARDED} stays; {RELEASED}",
        ),
        Rule(
            f"{IS_DELETE} || variables.controller || variables.bypass || !variables.wasHeld || variables.isHeld",
            "canary guards this Deployment: spec.paused: true stays, for it holds the change; `canary status` says "
            "what is waited for",
        ),
        Rule(
            f"{IS_DELETE} || variables.bypass || variables.isHeld || {same('spec.template')}",
            "canary guards this Deployment: a changed template has to be paused; add spec.paused: true, or wait until "
            "the roll under way has ended",
        ),
        Rule(
            f"{IS_DELETE} || variables.bypass || object.spec.?revisionHistoryLimit.orValue(10) >= 1",
            "canary guards this Deployment: with revisionHistoryLimit: 0 the serving ReplicaSet could be cleaned away; "
            "write 1 or more",
        ),
        Rule(
            f"{IS_DELETE} || !variables.controller || ({same(*(f'spec.?{each}' for each in BUT_PAUSED))})",
            "canary guards this Deployment: its own controller may write nothing of the spec but paused",
        ),
    ),
    {
        "wasHeld": "oldObject.spec.?paused.orValue(false)",
        "isHeld": f"!({IS_DELETE}) && object.spec.?paused.orValue(false)",
    },
    objects=GUARDED,
)

SIDE = Policy(
    "side",
    (
        Requests("apps", "v1", ("deployments", "controllerrevisions"), (CREATE, UPDATE, DELETE)),
        Requests("", "v1", ("services",), (CREATE, UPDATE, DELETE)),
        Requests("policy", "v1", ("poddisruptionbudgets",), (CREATE, UPDATE, DELETE)),
    ),
    (
        Rule(
            "variables.controller || variables.collector || variables.bypass",
            "this is the side of a canary run, or has its labels: only canary writes it; `canary abort` ends the run, "
            "and `kubectl scale --replicas=0` is free",
        ),
    ),
    objects={"matchExpressions": [{"key": Mark.TARGET.value, "operator": "Exists"}]},
)


def deletions(settings: Settings) -> Policy:
    """Return what the controller may delete: what is its own, and runs that have ended."""
    finals = sorted(phase.value for phase in FINAL_PHASES)
    return Policy(
        "deletions",
        (Requests("*", "*", ("*",), (DELETE,)),),
        (
            Rule(
                f"request.resource.resource == 'canaryruns' && request.resource.group == '{GROUP}'"
                f" ? oldObject.?status.?phase.orValue('') in {finals}"
                f" : oldObject.metadata.?labels[?'{Mark.TARGET}'].hasValue()"
                f" || oldObject{OWN_SLICE}",
                "canary's controller deletes the sides and slices that it made and runs that have ended, nothing else",
            ),
        ),
        only=named_controller(settings),
    )
