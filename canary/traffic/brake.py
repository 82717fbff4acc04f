"""The brake: one JSON patch per route that takes every request from the side, and needs nothing to do so.

Stored coordinates and the names of two Services go in; written routes come out. Nothing is read first, and no version,
weight, health, status or lease is asked for. Only where a route was rearranged under us, so that a name test fails, is
it read once and the patch computed anew. The controller, the sentinel and `canary abort --now` pull the same brake
with different `Hands`, so this module imports neither pydantic nor kubernetes, and shares nothing with the raising of
a weight.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from canary.api.marks import Mark, side_name
from canary.api.reasons import PPM
from canary.errors import CanaryError, ConflictError, UnavailableError

ATTEMPTS = 5  # after a refused first write, at once; the caller goes on every second
MAX_RULES = 64  # coordinates of one run; a route has at most 16 rules

SLICES = "endpointslices"

Object = Mapping[str, Any]
Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one rule of one route names both versions; the numbers are indexes."""

    resource: str  # plural of the route's kind
    name: str
    rule: int
    canary: int
    stable: int

    @classmethod
    def of_status(cls, raw: Object) -> "Place":
        """Read one entry of a run's `status.traffic.coordinates` as stored."""
        resource = str(raw.get("resource", "httproutes"))
        return cls(resource, str(raw["name"]), int(raw["rule"]), int(raw["canary"]), int(raw["stable"]))


@dataclass(frozen=True, slots=True)
class Cut:
    """What to take, and how it is marked. `epoch` is a text that no write before had: an identical write would be
    dropped by the API server, and a raise on its way would then still find the version that it saw."""

    namespace: str
    stable: str
    side: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Written:
    """One route as stored after our write."""

    resource: str
    name: str
    version: str
    generation: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write did. `gone` are routes that no longer exist: nothing is exposed there."""

    weight_ppm: int
    written: tuple[Written, ...]
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend reference. `service` is empty for anything but a Service of the route's own namespace."""

    service: str
    weight: int


class Hands(Protocol):
    """The only two things that the brake asks of an API server."""

    def read(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return the route as stored, or None where there is none."""
        ...

    def patch(
        self, resource: str, namespace: str, name: str, operations: Sequence[Operation]
    ) -> Object | None:
        """Apply a JSON patch; return the stored route, or None where there is none.

        Raise ConflictError where a `test` or a path no longer fits.
        """
        ...


def kill(hands: Hands, cut: Cut, places: Iterable[Place]) -> Receipt:
    """Set the side to 0 and stable to all in every rule of every place; idempotent for a new `cut.epoch`."""
    known: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        known.setdefault((place.resource, place.name), []).append(place)
    return _write(hands, cut, {key: operations_by_place(group, cut) for key, group in known.items()})


def sweep(hands: Hands, cut: Cut, resource: str, routes: Iterable[Object]) -> Receipt:
    """Do the same to routes that were read: those whose places are not known. Without a reference it is the epoch."""
    found = {(resource, str(route["metadata"]["name"])): operations_by_route(route, cut) for route in routes}
    return _write(hands, cut, found)


def _write(hands: Hands, cut: Cut, patches: Mapping[tuple[str, str], list[Operation]]) -> Receipt:
    """Write every route before the first error is raised: one out of reach never keeps another one exposed."""
    written: list[Written] = []
    gone: list[str] = []
    errors: list[CanaryError] = []
    for (resource, name), operations in patches.items():
        try:
            stored = _write_route(hands, cut, (resource, name), operations)
        except CanaryError as error:
            errors.append(error)
            continue
        if stored is None:
            gone.append(name)
        else:
            written.append(written_of(resource, stored))
    if errors:
        raise errors[0]
    return Receipt(0, tuple(written), tuple(gone))


def written_of(resource: str, stored: Object) -> Written:
    """Return what a receipt says of one stored route."""
    metadata = stored["metadata"]
    return Written(
        resource, metadata["name"], metadata["resourceVersion"], int(metadata.get("generation", 0))
    )


def _write_route(
    hands: Hands, cut: Cut, route: tuple[str, str], operations: list[Operation]
) -> Object | None:
    """Write one route; first by what is known, then, up to five times, by what is read."""
    resource, name = route
    for _ in range(1 + ATTEMPTS):
        try:
            stored = hands.patch(resource, cut.namespace, name, operations)
        except ConflictError:
            stored = hands.read(resource, cut.namespace, name)
        else:
            if stored is None or not exposes(stored, cut.side):
                return stored
        if stored is None:
            return None
        operations = operations_by_route(stored, cut)
    raise UnavailableError(
        f"{resource} {cut.namespace}/{name} was changed by others at each of {1 + ATTEMPTS} attempts; {cut.side} "
        "may still have traffic"
    )


def operations_by_place(places: Sequence[Place], cut: Cut) -> list[Operation]:
    """Return the patch by stored coordinates: it fits only while the names stand where they stood."""
    operations = [set_mark(Mark.EPOCH, cut.epoch), set_mark(Mark.WEIGHT, "0")]
    if any(place.resource == SLICES for place in places):
        return [*operations, *EMPTY]
    for place in places:
        canary = f"/spec/rules/{place.rule}/backendRefs/{place.canary}"
        stable = f"/spec/rules/{place.rule}/backendRefs/{place.stable}"
        operations += [is_named(canary, cut.side), is_named(stable, cut.stable)]
        operations += [set_weight(canary, 0), set_weight(stable, PPM)]
    return operations


def operations_by_route(route: Object, cut: Cut) -> list[Operation]:
    """Return the patch by what a route says now; with no reference left it only writes the epoch.

    Where a rule names the side alone, stable takes the place: a lone reference at weight 0 would be an outage.
    """
    operations: list[Operation] = []
    if not route["metadata"].get("annotations"):
        operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    operations += [set_mark(Mark.EPOCH, cut.epoch), set_mark(Mark.WEIGHT, "0")]
    if is_slice(route):
        return [*operations, *EMPTY]
    for index, refs in enumerate(backends(route)):
        at = f"/spec/rules/{index}/backendRefs"
        sides, stables = positions(refs, cut.side), positions(refs, cut.stable)
        if not sides:
            continue
        operations += [is_named(f"{at}/{side}", cut.side) for side in sides]
        if not stables:
            stables, sides = sides[:1], sides[1:]
            operations.append({"op": "replace", "path": f"{at}/{stables[0]}/name", "value": cut.stable})
        operations += [is_named(f"{at}/{stables[0]}", cut.stable), set_weight(f"{at}/{stables[0]}", PPM)]
        operations += [set_weight(f"{at}/{side}", 0) for side in sides]
    return operations


def places_on(resource: str, route: Object) -> tuple[Place, ...]:
    """Return the coordinates that are kept on the route itself; none: the brake is not to be pulled.

    The write that makes the point of no return drops them, since stable is then no longer the old version.
    """
    text = (route["metadata"].get("annotations") or {}).get(Mark.KILL, "")
    if not text:
        return ()
    try:
        entries = [(int(rule), int(canary), int(stable)) for rule, canary, stable in json.loads(text)]
    except (TypeError, ValueError):  # somebody rewrote our annotation; the rules say it, too
        stable = stable_of(route)
        return places_in(resource, route, Cut("", stable, side_name(stable), ""))
    name = route["metadata"]["name"]
    return tuple(Place(resource, name, *entry) for entry in entries[:MAX_RULES])


def places_in(resource: str, route: Object, cut: Cut) -> tuple[Place, ...]:
    """Return where the rules of a route name both Services now."""
    name = route["metadata"]["name"]
    if is_slice(route):
        return (slice_place(name),)
    return tuple(
        Place(resource, name, index, positions(refs, cut.side)[0], positions(refs, cut.stable)[0])
        for index, refs in enumerate(backends(route))
        if positions(refs, cut.side) and positions(refs, cut.stable)
    )


def stable_of(route: Object) -> str:
    """Return the Service that the route's side stands beside, as we marked it; empty: the route is not attached."""
    return str((route["metadata"].get("annotations") or {}).get(Mark.STABLE, ""))


def backends(route: Object) -> list[list[Backend]]:
    """Return the backend references of each rule."""
    home = route["metadata"].get("namespace", "")
    rules: list[Object] = (route.get("spec") or {}).get("rules") or []
    return [[_backend(ref, home) for ref in rule.get("backendRefs") or []] for rule in rules]


def positions(refs: Sequence[Backend], service: str) -> list[int]:
    """Return where a rule names a Service."""
    return [index for index, ref in enumerate(refs) if ref.service == service]


def exposes(route: Object, side: str) -> bool:
    """Tell whether any rule gives the side a weight, or a slice of ours names any pod."""
    if is_slice(route):
        return bool(route.get("endpoints"))
    return any(ref.weight > 0 for refs in backends(route) for ref in refs if ref.service == side)


def is_slice(route: Object) -> bool:
    """Tell whether this is no route, but a slice of the Service's addresses."""
    return "addressType" in route


def slice_place(name: str) -> Place:
    """Return the place of a slice: all of it, there are no rules."""
    return Place(SLICES, name, 0, 0, 0)


def mark_path(mark: Mark) -> str:
    """Return the JSON pointer of one of our annotations."""
    return "/metadata/annotations/" + mark.replace("~", "~0").replace("/", "~1")


def set_mark(mark: Mark, value: str) -> Operation:
    return {"op": "add", "path": mark_path(mark), "value": value}


def is_named(path: str, name: str) -> Operation:
    return {"op": "test", "path": f"{path}/name", "value": name}


def set_weight(path: str, weight: int) -> Operation:
    return {"op": "add", "path": f"{path}/weight", "value": weight}


EMPTY = (set_mark(Mark.ADDRESSES, ""), {"op": "add", "path": "/endpoints", "value": []})
"""What takes every address out of a slice."""


def _backend(ref: Object, home: str) -> Backend:
    """Read one reference; the API's default kind is Service, its default weight is 1."""
    ours = ref.get("kind", "Service") == "Service" and ref.get("group", "") in ("", "core")
    here = ref.get("namespace", home) == home
    return Backend(str(ref["name"]) if ours and here else "", int(ref.get("weight", 1)))
