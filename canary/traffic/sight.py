"""One look at the routes of a target: stored objects in, one `Seen` out. Pure.

It answers what the side's share is, whether every rule names both versions, who wrote otherwise than we did (drift,
the most dangerous kind first), and whether every parent accepted what is stored (L1). A route is ours by our marks,
never by the name of its writer: that is only a text which a client chose.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from canary.api.marks import Mark
from canary.api.run import Coordinate
from canary.core.evidence import Acceptance, Drift, Route
from canary.core.telling.wording import share
from canary.traffic.brake import Object, backends, positions, stable_of
from canary.traffic.router import Seen, Target
from canary.traffic.rules import OUR_ANNOTATIONS, annotations_of, share_ppm

NO_ROUTE_EPOCH = 2**31 - 1  # where there is no route, none lacks a rollback write
MAX_DIGITS = 9
REQUIRED_CONDITIONS = ("Accepted", "ResolvedRefs")
Verdicts = list[tuple[Acceptance, str]]


def see(target: Target, resource: str, routes: Iterable[dict[str, Any]]) -> Seen:
    """Return what the namespace's routes say of the target; those that do not name it are left out."""
    ours = sorted((route for route in routes if names(route, target)), key=name_of)
    shares = [ppm for route in ours for ppm in shares_of(route, target, target.side_service)]
    back = [ppm for route in ours for ppm in shares_of(route, target, target.way_back_service)]
    whole = [_is_whole(route, target) for route in ours]
    drift, odd = drift_of(ours, target)
    acceptance, refusal = acceptance_of(ours)
    route = Route(
        attached=bool(ours) and all(whole),
        weight_ppm=max(shares, default=0),
        version=",".join(f"{name_of(route)}={route['metadata']['resourceVersion']}" for route in ours),
        acceptance=acceptance,
        drift=drift,
        detail=odd or refusal,
        last_writer=last_writer(ours),
        partial=not all(whole) and any(_has_ours(route, target) for route in ours),
        epoch=min(map(_epoch, ours), default=NO_ROUTE_EPOCH),
        last_epoch=max(map(_epoch, ours), default=0),
        way_back_ppm=min(back, default=0),
        coordinates=tuple(place for route in ours for place in coordinates(route, target, resource)),
    )
    armed = any(Mark.KILL in annotations_of(each) for each in ours)
    return Seen(route, min(shares, default=0), armed, tuple(ours))


def names(route: Object, target: Target) -> bool:
    """Tell whether any rule names one of the target's Services, or did when we last wrote."""
    named = any(ref.service in target.services for refs in backends(route) for ref in refs)
    return named or stable_of(route) == target.service


def name_of(route: Object) -> str:
    return route["metadata"]["name"]


def shares_of(route: Object, target: Target, service: str) -> list[int]:
    """Return a Service's share of each rule that names any of the target's."""
    return [
        share_ppm(refs, service)
        for refs in backends(route)
        if any(ref.service in target.services for ref in refs)
    ]


def coordinates(route: Object, target: Target, resource: str) -> list[Coordinate]:
    """Return where the rules name both versions now."""
    found: list[Coordinate] = []
    for index, refs in enumerate(backends(route)):
        sides, stables = positions(refs, target.side_service), positions(refs, target.service)
        if sides and stables:
            place = {"rule": index, "canary": sides[0], "stable": stables[0]}
            found.append(Coordinate(resource=resource, name=name_of(route), **place))
    return found


def drift_of(routes: Sequence[Object], target: Target) -> tuple[Drift | None, str]:
    """Return the most dangerous difference from what we last wrote, and a clause about it."""
    findings = [finding for route in routes if (finding := _drift_of_route(route, target)) is not None]
    attached = any(stable_of(route) == target.service for route in routes)
    findings += [
        (Drift.UNKNOWN_ROUTE, f"route {name_of(route)} names {target.service} and is not one that we split")
        for route in routes
        if attached and stable_of(route) != target.service
    ]
    for worst in (Drift.RAISED, Drift.UNKNOWN_ROUTE, Drift.REFS_MISSING, Drift.LOWERED):
        for drift, detail in findings:
            if drift is worst:
                return drift, detail
    return None, ""


def acceptance_of(routes: Sequence[Object]) -> tuple[Acceptance, str]:
    """Tell whether every parent of every route accepted the stored generation, and if not, why."""
    if not routes:
        return Acceptance.PENDING, "no route names the Service"
    verdicts = [verdict for route in routes for verdict in _verdicts(route)]
    for answer in (Acceptance.REFUSED, Acceptance.PENDING):
        for verdict, detail in verdicts:
            if verdict is answer:
                return answer, detail
    return Acceptance.ACCEPTED, ""


def last_writer(routes: Sequence[Object]) -> str:
    """Return the name that the newest writer of any of these routes gave itself; empty: not recorded."""
    entries = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for route in routes
        for entry in route["metadata"].get("managedFields") or []
        if not entry.get("subresource")
    ]
    return max(entries, default=("", ""))[1]


def _has_ours(route: Object, target: Target) -> bool:
    ours = target.services[1:]
    marked = any(mark in annotations_of(route) for mark in OUR_ANNOTATIONS)
    return marked or any(ref.service in ours for refs in backends(route) for ref in refs)


def _is_whole(route: Object, target: Target) -> bool:
    """Tell whether the route carries our marks and each rule that names one version names both."""
    pairs = [
        (positions(refs, target.service), positions(refs, target.side_service)) for refs in backends(route)
    ]
    return stable_of(route) == target.service and all(bool(stable) == bool(side) for stable, side in pairs)


def _drift_of_route(route: Object, target: Target) -> tuple[Drift, str] | None:
    """Compare one route with what we last wrote to it. Unmarked, we wrote nothing: no share is ours."""
    name, wrote = name_of(route), _written_ppm(route)
    for index, refs in enumerate(backends(route)):
        sides, stables = positions(refs, target.side_service), positions(refs, target.service)
        if not sides and not stables:
            continue
        gives = share_ppm(refs, target.side_service)
        where = f"route {name}, rule {index}"
        if gives > wrote:
            return Drift.RAISED, f"{where} gives {share(gives)}, {share(wrote)} was written"
        if sides and not any(ref.weight for ref in refs):
            return Drift.RAISED, f"{where} gives no backend any weight: its requests fail"
        if stable_of(route) != target.service:
            continue
        if not sides:
            return Drift.REFS_MISSING, f"{where} no longer names {target.side_service}"
        if gives < wrote:
            return Drift.LOWERED, f"{where} gives {share(gives)}, {share(wrote)} was written"
    return None


def _written_ppm(route: Object) -> int:
    return number_on(route, Mark.WEIGHT)


def _epoch(route: Object) -> int:
    """Return the newest rollback write of the controller; a person's or the sentinel's has no number."""
    return number_on(route, Mark.EPOCH)


def number_on(route: Object, mark: Mark) -> int:
    """Read what we wrote. Whoever may annotate a route may write anything there: that is no number of ours."""
    text = annotations_of(route).get(mark, "")
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


def _verdicts(route: Object) -> Verdicts:
    """Return what each parent of one route says of the stored generation."""
    parents: list[Object] = (route.get("spec") or {}).get("parentRefs") or []
    spoken: list[Object] = (route.get("status") or {}).get("parents") or []
    generation, home = int(route["metadata"].get("generation", 0)), route["metadata"].get("namespace", "")
    if not parents:
        return [(Acceptance.PENDING, f"route {name_of(route)} has no parent")]
    verdicts: Verdicts = []
    for parent in parents:
        of_parent = [entry for entry in spoken if _same_parent(entry.get("parentRef") or {}, parent, home)]
        who = f"{parent.get('name', '')} of route {name_of(route)}"
        if not of_parent:
            verdicts.append((Acceptance.PENDING, f"parent {who} has not spoken yet"))
        verdicts += [_verdict(entry, generation, who) for entry in of_parent]
    return verdicts


def _verdict(entry: Object, generation: int, who: str) -> tuple[Acceptance, str]:
    conditions = {condition.get("type"): condition for condition in entry.get("conditions") or []}
    for kind in REQUIRED_CONDITIONS:
        condition = conditions.get(kind)
        if condition is None or int(condition.get("observedGeneration", 0)) < generation:
            return Acceptance.PENDING, f"parent {who} has not looked at generation {generation} yet"
        if condition.get("status") != "True":
            why = condition.get("message") or condition.get("reason") or condition.get("status")
            return Acceptance.REFUSED, f"parent {who} says {kind} is not true: {why}"
    return Acceptance.ACCEPTED, ""


def _same_parent(one: Object, other: Object, home: str) -> bool:
    defaults = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": home,
        "name": "",
        "sectionName": "",
        "port": 0,
    }
    return all((one.get(key) or default) == (other.get(key) or default) for key, default in defaults.items())
