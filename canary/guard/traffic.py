"""The rules about the roads to customers: routes (G4) and how far the controller itself may go (G5).

What a write to a route leads to is judged, not what it changes: lists of bad edits have holes (a doubled reference, a
narrower match, a mirror). In a guarded namespace the names that end in -canary and -lastgood are canary's.
"""

from canary.api.marks import SIDE_SUFFIX, TRUE, WAY_BACK_SUFFIX, Mark
from canary.api.reasons import PPM
from canary.guard.policy import (
    CREATE,
    DELETE,
    GUARDED,
    IS_DELETE,
    IS_GUARDED,
    UPDATE,
    Policy,
    Requests,
    Rule,
    Settings,
    named_controller,
    same,
)
from canary.kube.resources import CANARYRUNS, ENDPOINTSLICES, HTTPROUTES

ROUTES = ("httproutes", "grpcroutes")
ATTACHED = f".metadata.?labels[?'{Mark.ATTACHED}'].orValue('') == '{TRUE}'"
WEIGHT = "b.?weight.orValue(1)"


def _of_side(ref: str) -> str:
    return f"({ref}.name.endsWith('{SIDE_SUFFIX}') || {ref}.name.endsWith('{WAY_BACK_SUFFIX}'))"


def _mirrored(filters: str) -> str:
    return (
        f"{filters}.orValue([]).exists(f, has(f.requestMirror) && {_of_side('f.requestMirror.backendRef')})"
    )


def _rules(obj: str) -> str:
    return f"{obj}.?spec.?rules.orValue([])"


def _names_side(obj: str) -> str:
    return f"{_rules(obj)}.exists(r, r.?backendRefs.orValue([]).exists(b, {_of_side('b')}))"


EXPOSED = (
    f"{_rules('object')}.exists(r, {_mirrored('r.?filters')} || r.?backendRefs.orValue([])"
    f".exists(b, ({_of_side('b')} && {WEIGHT} > 0) || {_mirrored('b.?filters')}))"
)
"""Something reaches a side, by weight or by mirror."""
SERVED = (
    f"{_rules('object')}.all(r, size(r.?backendRefs.orValue([])) == 0"
    f" || r.?backendRefs.orValue([]).exists(b, {WEIGHT} > 0))"
)
"""No rule is left without a backend."""

ROUTE = Policy(
    "routes",
    (Requests(HTTPROUTES.group, "v1", ROUTES, (CREATE, UPDATE, DELETE)),),
    (
        Rule(
            f"!({IS_DELETE}) || variables.collector || variables.bypass"
            f" || !(oldObject{ATTACHED} || oldObject{IS_GUARDED})",
            "canary guards this route: it cannot be deleted while it leads to a side; `canary abort` ends the run",
        ),
        Rule(
            "variables.free || variables.unchanged || !variables.exposed",
            "canary guards the routes here: only its controller gives a side traffic (names that end in -canary or "
            "-lastgood); leave the side out or at weight 0, or `canary promote`",
        ),
        Rule(
            "variables.free || variables.unchanged || !variables.concerned || variables.served",
            "canary guards this route: a rule would be left without a backend; give the stable Service a weight",
        ),
        Rule(
            f"variables.free || request.operation == '{CREATE}' || !(oldObject{ATTACHED}) || object{ATTACHED}"
            " || !variables.namesSide",
            f"canary guards this route: the label {Mark.ATTACHED} stays as long as a side is named",
        ),
    ),
    {
        "free": f"{IS_DELETE} || variables.controller || variables.bypass",
        "unchanged": f"request.operation == '{UPDATE}' && {same('spec')}",
        "namesSide": _names_side("object"),
        "concerned": f"variables.namesSide || (request.operation == '{UPDATE}' && {_names_side('oldObject')})",
        "exposed": EXPOSED,
        "served": SERVED,
    },
    namespaces=GUARDED,
)


ACTIVE = "!params.?status.?tidiedAt.hasValue()"
ALLOWED = "params.?status.?allowedWeightPpm.orValue(0)"


def ceiling(settings: Settings) -> Policy:
    """Return the rule that caps the controller's own writes by what the runs' status allows.

    The share of each rule counts, as requests are split by it. A run that gave everything back caps no other one.
    """
    side = f"params.spec.service + '{SIDE_SUFFIX}'"
    return Policy(
        "ceiling",
        (Requests(HTTPROUTES.group, "v1", ROUTES, (CREATE, UPDATE)),),
        (
            Rule(
                f"!variables.active || {_rules('object')}.all(r, {_weight(f'b.name == {side}')} * {PPM}"
                f" <= variables.allowed * {_weight('true')})",
                "canary's controller may give a side no more than status.allowedWeightPpm of its run",
            ),
        ),
        {"active": ACTIVE, "allowed": ALLOWED},
        objects={"matchLabels": {Mark.ATTACHED.value: TRUE}},
        only=named_controller(settings),
        parameter=CANARYRUNS,
    )


def slice_ceiling(settings: Settings) -> Policy:
    """Return the rule that keeps the controller's own slices empty until a run's status allows the side anything.

    How much of the traffic a pod gets is known to nobody here: the number of them is the controller's to keep.
    """
    return Policy(
        "slice-ceiling",
        (Requests(ENDPOINTSLICES.group, "v1", (ENDPOINTSLICES.plural,), (CREATE, UPDATE)),),
        (
            Rule(
                f"!variables.active || {ALLOWED} > 0 || variables.wayBack || !variables.mine"
                " || size(object.?endpoints.orValue([])) == 0",
                "canary's controller may name no pod in its slice while status.allowedWeightPpm of its run is 0",
            ),
        ),
        {
            "active": ACTIVE,
            "wayBack": "params.?status.?traffic.?wayBackPpm.orValue(0) > 0",
            "mine": f"object.metadata.?name.orValue('') == params.spec.service + '{SIDE_SUFFIX}'",
        },
        objects={"matchLabels": {Mark.ATTACHED.value: TRUE}},
        only=named_controller(settings),
        parameter=CANARYRUNS,
    )


def _weight(which: str) -> str:
    """Return the sum of weights in a rule, of the references that `which` holds for."""
    return f"r.?backendRefs.orValue([]).filter(b, {which}).map(b, {WEIGHT}).sum()"
