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

OUR_ANNOTATIONS = (
    Mark.EPOCH,
    Mark.WEIGHT,
    Mark.WAY_BACK,
    Mark.STABLE,
    Mark.FORMER,
    Mark.KILL,
    Mark.RUN,
)
_LABEL = mark_path(Mark.ATTACHED).replace("/annotations/", "/labels/")


def annotations_of(route: Object) -> dict[str, str]:
    return route["metadata"].get("annotations") or {}


def share_ppm(refs: Sequence[Backend], service: str) -> int:
    """Return a Service's share of one rule, rounded up: what counts is that it is exposed at all."""
    total = sum(ref.weight for ref in refs)
    given = sum(ref.weight for ref in refs if ref.service == service)
    return -(-given * PPM // total) if total else 0


def split_operations(route: Object, target: Target, ppm: int) -> list[Operation]:
    """Give the side `ppm` of every rule that names either version, and the rest to stable.

    Where the side is not named yet it is added: a copy of the stable reference, filters included, of which only name
    and weight differ.
    """
    former, kill = former_weights(route), list[tuple[int, int, int]]()
    operations: list[Operation] = []
    for index, refs in enumerate(backends(route)):
        stables, sides = positions(refs, target.service), positions(refs, target.side_service)
        if not stables:
            continue
        at, raw = f"/spec/rules/{index}/backendRefs", _raw(route, index, stables[0])
        former.setdefault(index, raw.get("weight"))
        operations += [set_weight(f"{at}/{back}", 0) for back in positions(refs, target.way_back_service)]
        operations.append(set_weight(f"{at}/{stables[0]}", PPM - ppm))
        if sides:
            operations.append(set_weight(f"{at}/{sides[0]}", ppm))
        elif not positions(refs, target.way_back_service):
            operations.append(_append(at, {**raw, "name": target.side_service, "weight": ppm}))
        kill.append((index, sides[0] if sides else len(refs), stables[0]))
    marks = {
        Mark.STABLE: target.service,
        Mark.WEIGHT: str(ppm),
        Mark.FORMER: compact(former),
        **({Mark.RUN: target.run} if target.run else {}),
        **({Mark.KILL: compact(kill)} if target.armed else {}),
    }
    return [*at_version(route), *_set_marks(route, marks), *_unset(route, target.armed), *operations]


def way_back_operations(route: Object, target: Target, epoch: str) -> list[Operation]:
    """Give everything to the last good version's own pods; only names are tested, no version."""
    former, operations = former_weights(route), list[Operation]()
    for index, refs in enumerate(backends(route)):
        named = [
            place for service in (target.service, target.side_service) for place in positions(refs, service)
        ]
        backs = positions(refs, target.way_back_service)
        if not named:
            continue
        at, raw = f"/spec/rules/{index}/backendRefs", _raw(route, index, named[0])
        if refs[named[0]].service == target.service:
            former.setdefault(index, raw.get("weight"))
        operations += [is_named(f"{at}/{place}", refs[place].service) for place in (*named, *backs)]
        operations += [set_weight(f"{at}/{place}", 0) for place in named]
        operations += [set_weight(f"{at}/{back}", PPM) for back in backs[:1]]
        if not backs:
            operations.append(_append(at, {**raw, "name": target.way_back_service, "weight": PPM}))
    marks = {
        Mark.EPOCH: epoch,
        Mark.STABLE: target.service,
        Mark.WEIGHT: "0",
        Mark.WAY_BACK: str(PPM),
        Mark.FORMER: compact(former),
        **({Mark.RUN: target.run} if target.run else {}),
    }
    return [*_set_marks(route, marks), *removed_marks(route, (Mark.KILL,)), *operations]


def detach_operations(route: Object, target: Target) -> list[Operation]:
    """Take what is ours out of every rule, give stable its former weight, and drop our marks."""
    former = former_weights(route)
    operations: list[Operation] = []
    for index, refs in enumerate(backends(route)):
        at, stables = f"/spec/rules/{index}/backendRefs", positions(refs, target.service)
        ours = sorted(positions(refs, target.side_service) + positions(refs, target.way_back_service))
        if (
            ours and not stables
        ):  # somebody took stable out: it takes our place, or the rule had no backend left
            stables, ours = ours[:1], ours[1:]
            operations.append({"op": "replace", "path": f"{at}/{stables[0]}/name", "value": target.service})
            operations += _restore(f"{at}/{stables[0]}", former.get(index, 1))
        elif stables and (ours or (index in former and refs[stables[0]].weight == PPM)):
            operations += _restore(f"{at}/{stables[0]}", former.get(index, 1))
        operations += [{"op": "remove", "path": f"{at}/{place}"} for place in reversed(ours)]
    return [*at_version(route), *operations, *_without_marks(route)]


def former_weights(route: Object) -> dict[int, int | None]:
    """Return the stable weights from before us, by rule; None: there was no weight. Unreadable: none are known."""
    try:
        stored = json.loads(annotations_of(route).get(Mark.FORMER, "{}"))
        return {int(rule): None if weight is None else int(weight) for rule, weight in stored.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def at_version(route: Object) -> list[Operation]:
    """Return what makes a patch a compare-and-set on what was read."""
    version = route["metadata"]["resourceVersion"]
    return [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}]


def _set_marks(route: Object, marks: dict[Mark, str]) -> list[Operation]:
    metadata = route["metadata"]
    operations: list[Operation] = []
    if not metadata.get("annotations"):
        operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    if not metadata.get("labels"):
        operations.append({"op": "add", "path": "/metadata/labels", "value": {}})
    operations.append({"op": "add", "path": _LABEL, "value": TRUE})
    return [*operations, *(set_mark(mark, value) for mark, value in marks.items())]


def _unset(route: Object, armed: bool) -> list[Operation]:
    """Drop the marks that do not hold for a share: the way back, and the brake's coordinates where it is not armed."""
    return removed_marks(route, (Mark.WAY_BACK,) if armed else (Mark.WAY_BACK, Mark.KILL))


def removed_marks(route: Object, marks: Sequence[Mark]) -> list[Operation]:
    """Drop those of our annotations that are there."""
    present = [mark for mark in marks if mark in annotations_of(route)]
    return [{"op": "remove", "path": mark_path(mark)} for mark in present]


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


def _raw(route: Object, rule: int, place: int) -> dict[str, Any]:
    return route["spec"]["rules"][rule]["backendRefs"][place]


def _append(at: str, entry: dict[str, Any]) -> Operation:
    return {"op": "add", "path": f"{at}/-", "value": entry}


def compact(value: object) -> str:
    """Write a value as an annotation keeps it."""
    return json.dumps(value, separators=(",", ":"))
