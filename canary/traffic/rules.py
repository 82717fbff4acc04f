"""What a write does to a Gateway API route: pure functions from a stored route to the JSON patch that changes it.

Only weight entries, the added reference and our own labels and annotations are touched, one by one, so every other
field survives as it is. Each patch replaces the resource version by the one that was seen: a compare-and-set. The
former weights are kept on the route, so that `detach_operations`, or a person with kubectl, can put them back.
"""

import json
from collections.abc import Sequence
from typing import Any

from canary.api.marks import TRUE, Mark
from canary.api.reasons import PPM
from canary.traffic.brake import (
    Backend,
    Object,
    Operation,
    backends,
    is_named,
    mark_path,
    positions,
    set_mark,
    set_weight,
)
from canary.traffic.router import Target

OUR_ANNOTATIONS = (Mark.EPOCH, Mark.WEIGHT, Mark.STABLE, Mark.FORMER, Mark.KILL, Mark.RUN)
OUR_MANAGERS = frozenset({"canary-controller", "canary-sentinel", "canary-cli"})
_LABEL = mark_path(Mark.ATTACHED).replace("/annotations/", "/labels/")


def annotations_of(route: Object) -> dict[str, str]:
    return route["metadata"].get("annotations") or {}


def share_ppm(refs: Sequence[Backend], side: str) -> int:
    """Return the side's share of one rule, rounded up: what counts is that it is exposed at all."""
    total = sum(ref.weight for ref in refs)
    given = sum(ref.weight for ref in refs if ref.service == side)
    return -(-given * PPM // total) if total else 0


def attach_operations(route: Object, target: Target) -> list[Operation]:
    """Name the side at weight 0 in every rule that names the target's Service, which gets all.

    The new reference is a copy of the stable one, filters included: only name and weight differ.
    """
    former = former_weights(route)
    kill: list[tuple[int, int, int]] = []
    operations: list[Operation] = []
    for index, refs in enumerate(backends(route)):
        stables = positions(refs, target.service)
        if not stables:
            continue
        at, stable = f"/spec/rules/{index}/backendRefs", stables[0]
        raw: dict[str, Any] = route["spec"]["rules"][index]["backendRefs"][stable]
        former.setdefault(index, raw.get("weight"))
        sides = positions(refs, target.side_service)
        operations += [set_weight(f"{at}/{side}", 0) for side in sides]
        if not sides:
            entry = {**raw, "name": target.side_service, "weight": 0}
            operations.append({"op": "add", "path": f"{at}/-", "value": entry})
        operations.append(set_weight(f"{at}/{stable}", PPM))
        kill.append((index, sides[0] if sides else len(refs), stable))
    return [*_at_version(route), *_marks(route, target, former, kill), *operations]


def weight_operations(route: Object, target: Target, ppm: int) -> list[Operation]:
    """Give the side `ppm` of every rule that names both, and the rest to stable."""
    operations = [*_at_version(route), set_mark(Mark.WEIGHT, str(ppm))]
    kill: list[tuple[int, int, int]] = []
    for index, refs in enumerate(backends(route)):
        sides, stables = positions(refs, target.side_service), positions(refs, target.service)
        if not sides or not stables:
            continue
        at = f"/spec/rules/{index}/backendRefs"
        operations.append(set_weight(f"{at}/{sides[0]}", ppm))
        operations.append(set_weight(f"{at}/{stables[0]}", PPM - ppm))
        kill.append((index, sides[0], stables[0]))
    if Mark.KILL in annotations_of(route):
        operations.append(set_mark(Mark.KILL, _compact(kill)))
    return operations


def detach_operations(route: Object, target: Target) -> list[Operation]:
    """Take the side out of every rule, give stable its former weight, and drop our marks."""
    former = former_weights(route)
    operations: list[Operation] = []
    for index, refs in enumerate(backends(route)):
        at = f"/spec/rules/{index}/backendRefs"
        sides, stables = positions(refs, target.side_service), positions(refs, target.service)
        if (
            sides and not stables
        ):  # somebody left the side alone in the rule: without it there would be no backend
            stables, sides = sides[:1], sides[1:]
            operations.append({"op": "replace", "path": f"{at}/{stables[0]}/name", "value": target.service})
            operations += _restore(f"{at}/{stables[0]}", former.get(index, 1))
        elif stables and (sides or (index in former and refs[stables[0]].weight == PPM)):
            operations += _restore(f"{at}/{stables[0]}", former.get(index, 1))
        for side in reversed(sides):
            operations += [
                is_named(f"{at}/{side}", target.side_service),
                {"op": "remove", "path": f"{at}/{side}"},
            ]
    return [*_at_version(route), *operations, *_without_marks(route)]


def disarm_operations(route: Object) -> list[Operation]:
    """Drop the coordinates that are kept on the route."""
    return [*_at_version(route), *_remove_if(Mark.KILL in annotations_of(route), mark_path(Mark.KILL))]


def ownership_operations(route: Object) -> list[Operation]:
    """Give up the fields that the API server attributes to us, so that git may edit the list again."""
    entries: list[Object] = route["metadata"].get("managedFields") or []
    operations: list[Operation] = []
    for index, entry in reversed(list(enumerate(entries))):
        if entry.get("manager") in OUR_MANAGERS:
            at = f"/metadata/managedFields/{index}"
            operations.append({"op": "test", "path": f"{at}/manager", "value": entry["manager"]})
            operations.append({"op": "remove", "path": at})
    return operations


def former_weights(route: Object) -> dict[int, int | None]:
    """Return the stable weights from before us, by rule; None: there was no weight. Unreadable: none are known."""
    try:
        stored = json.loads(annotations_of(route).get(Mark.FORMER, "{}"))
        return {int(rule): None if weight is None else int(weight) for rule, weight in stored.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def _at_version(route: Object) -> list[Operation]:
    version = route["metadata"]["resourceVersion"]
    return [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}]


def _marks(
    route: Object, target: Target, former: dict[int, int | None], kill: list[tuple[int, int, int]]
) -> list[Operation]:
    metadata = route["metadata"]
    operations: list[Operation] = []
    if not metadata.get("annotations"):
        operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    if not metadata.get("labels"):
        operations.append({"op": "add", "path": "/metadata/labels", "value": {}})
    operations += [
        {"op": "add", "path": _LABEL, "value": TRUE},
        set_mark(Mark.STABLE, target.service),
        set_mark(Mark.WEIGHT, "0"),
        set_mark(Mark.FORMER, _compact(former)),
        set_mark(Mark.KILL, _compact(kill)),
    ]
    return [*operations, set_mark(Mark.RUN, target.run)] if target.run else operations


def _without_marks(route: Object) -> list[Operation]:
    annotations, labels = annotations_of(route), route["metadata"].get("labels") or {}
    ours = [mark for mark in OUR_ANNOTATIONS if mark in annotations]
    if ours and len(ours) == len(annotations):
        operations: list[Operation] = [{"op": "remove", "path": "/metadata/annotations"}]
    else:
        operations = [{"op": "remove", "path": mark_path(mark)} for mark in ours]
    if set(labels) == {Mark.ATTACHED}:
        return [*operations, {"op": "remove", "path": "/metadata/labels"}]
    return [*operations, *_remove_if(Mark.ATTACHED in labels, _LABEL)]


def _remove_if(present: bool, path: str) -> list[Operation]:
    return [{"op": "remove", "path": path}] if present else []


def _restore(at: str, weight: int | None) -> list[Operation]:
    return [{"op": "remove", "path": f"{at}/weight"}] if weight is None else [set_weight(at, weight)]


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
