"""The brake in a person's hand: find the routes that lead to a side, see what they give it, take it out.

Enters: a namespace and a workload, perhaps a run. Leaves: the routes at 0, written with the caller's own rights. Works
without a controller and without our CRDs: the coordinates stand in the run's status and on the route itself.
"""

import time
from contextlib import suppress
from dataclasses import dataclass

from canary.api.marks import Mark, side_name
from canary.cli.session import Session
from canary.core.telling.stored import Raw, StoredRun, entries, under
from canary.core.telling.wording import plain
from canary.errors import CanaryError, RefusedError
from canary.kube.client import UnknownKindError
from canary.kube.resources import ENDPOINTSLICES
from canary.traffic.brake import (
    Cut,
    Object,
    Place,
    Receipt,
    exposes,
    kill,
    places_in,
    places_on,
    stable_of,
)
from canary.traffic.route_hands import BRAKED, ClientHands


@dataclass(frozen=True, slots=True)
class Grip:
    """What the brake acts on: the two Services and where the routes name them."""

    namespace: str
    stable: str
    side: str
    places: tuple[Place, ...]

    @property
    def routes(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys((place.resource, place.name) for place in self.places))


def grip_of_run(run: StoredRun) -> Grip | None:
    """Return the grip that the run's status keeps; None where nothing is attached, or after the commit began."""
    places: list[Place] = []
    for raw in entries(run.raw, "status", "traffic", "coordinates"):
        try:
            places.append(Place.of_status(raw))
        except (KeyError, TypeError, ValueError):
            continue  # not one of ours; the route itself says it, too
    if not places:
        return None
    return Grip(run.namespace, run.service, side_name(run.service), tuple(places))


def grip_of_routes(session: Session, namespace: str, workload: str) -> Grip | None:
    """Find the routes that lead to the side of a workload, where no run can be read."""
    attached = [(kind, route) for kind, route in _routes(session, namespace) if stable_of(route)]
    mine = [(kind, route) for kind, route in attached if _concerns(route, workload)]
    services = {stable_of(route) for _, route in mine}
    if len(services) > 1:
        named = ", ".join(sorted(services))
        raise RefusedError(
            f"{workload} has sides beside several Services: {named}. Name one of them", code="CAN-2001"
        )
    if not services:
        return None
    stable = services.pop()
    cut = Cut(namespace, stable, side_name(stable), "")
    places = [
        place for kind, route in mine for place in places_on(kind, route) or _unmarked(kind, route, cut)
    ]
    return Grip(namespace, stable, side_name(stable), tuple(places))


def _unmarked(kind: str, route: Object, cut: Cut) -> tuple[Place, ...]:
    """Refuse a route without the brake's mark: there the commit has begun, and stable is the old version no more."""
    if not exposes(route, cut.side):
        return places_in(kind, route, cut)
    name = plain(under(route, "metadata", "name"), 63)
    raise RefusedError(
        f"route {name} has passed the point of no return: the old pods are leaving, so all traffic on {cut.stable} "
        f"would be an outage. Put the old version back: re-apply its manifest. See `canary status {cut.stable}`",
        code="CAN-5003",
    )


def _routes(session: Session, namespace: str) -> list[tuple[str, Raw]]:
    """Return the routes with the word for their kind; none of a kind that the cluster does not serve."""
    found: list[tuple[str, Raw]] = []
    for resource in BRAKED.values():
        # Slices ask for a right that routes do not need.
        optional = RefusedError if resource == ENDPOINTSLICES else UnknownKindError
        with suppress(optional):
            found += [(resource.plural, route) for route in session.client.list(resource, namespace)]
    return found


def _concerns(route: Raw, workload: str) -> bool:
    run = plain(under(route, "metadata", "annotations", Mark.RUN.value))
    return (
        not workload or stable_of(route) == workload or run.rpartition("-")[0] == workload or run == workload
    )


def exposing(session: Session, grip: Grip) -> list[bool | None]:
    """Tell of every route whether it still gives the side any weight; a route that is gone says nothing."""
    hands = ClientHands(session.client)
    found = [hands.read(resource, grip.namespace, name) for resource, name in grip.routes]
    return [None if route is None else exposes(route, grip.side) for route in found]


def pull(session: Session, grip: Grip) -> Receipt:
    """Take the side out of every route, now. Raise with the last resort where the API server does not let us."""
    cut = Cut(grip.namespace, grip.stable, grip.side, f"cli-{time.time_ns()}")
    try:
        return kill(ClientHands(session.client), cut, grip.places)
    except CanaryError as error:
        raise RefusedError(
            f"the route could not be written, and {grip.side} may still have traffic: {error}. Last resort, its share "
            f"then gets errors: `kubectl -n {grip.namespace} scale deploy/{grip.side} --replicas=0`",
            code="CAN-3004",
        ) from error
