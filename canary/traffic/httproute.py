"""The Gateway API router: one adapter for HTTPRoute and GRPCRoute, and so for every gateway that implements them.

The operator hands in a `Target` and what it saw; routes are read, and changed by the patches of `rules.py`. A raise
goes from route to route and stops at the first conflict, so exposure is the highest of them and the next look goes on.
`RouteBrake` is the other half: it shares only the HTTP client with all this.
"""

from collections.abc import Sequence
from typing import Any

from canary.api.run import Coordinate
from canary.errors import ConflictError, RefusedError
from canary.kube.client import Client, Intent, UnknownKindError
from canary.kube.resources import Ref, Resource
from canary.traffic import brake, rules
from canary.traffic.adoption import plan_routes
from canary.traffic.brake import Object, Operation, Receipt, Written
from canary.traffic.route_hands import ROUTE_RESOURCES, ClientHands, resource_of_kind, route_ref
from canary.traffic.router import Detached, Outcome, Plan, Seen, Target, Wanted, WayBack
from canary.traffic.sight import acceptance_of, drift_of, name_of, names, see, shares_of


class HTTPRouteRouter:
    """Splits traffic by the weights of backend references."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def plan(self, target: Target) -> Plan:
        everywhere = [route for kind in ROUTE_RESOURCES.values() for route in self._of_kind(kind)]
        own = [route for route in everywhere if route["metadata"].get("namespace") == target.namespace]
        foreign = [route for route in everywhere if route["metadata"].get("namespace") != target.namespace]
        return plan_routes(target, own, foreign)

    def _of_kind(self, resource: Resource) -> list[dict[str, Any]]:
        try:
            return self._client.list(resource)
        except UnknownKindError:
            return []

    def read(self, target: Target, known: Seen | None = None) -> Seen:
        routes = [self._client.get(_ref(target, each)) for each in known.routes] if known is not None else []
        found = [route for route in routes if route is not None and names(route, target)]
        if found and len(found) == len(routes):
            return self.see(target, found)
        return self.see(target, self._client.list(resource_of_kind(target.route.kind), target.namespace))

    def see(self, target: Target, routes: Sequence[dict[str, Any]]) -> Seen:
        """Return what given routes of the namespace say, for example a cache's."""
        return see(target, resource_of_kind(target.route.kind).plural, routes)

    def write(self, target: Target, wanted: Wanted, seen: Seen) -> Receipt:
        if isinstance(wanted, Detached):
            return self._detach(target, seen)
        if isinstance(wanted, WayBack):
            return self._go_back(target, wanted, seen)
        written = [
            self._patch(target, route, rules.split_operations(route, target, wanted), Intent.RAISING)
            for route in self._named(target, seen)
        ]
        return Receipt(wanted, tuple(written))

    def verify(self, target: Target, receipt: Receipt) -> Outcome:
        stored = [
            self._client.get(route_ref(each.resource, target.namespace, each.name))
            for each in receipt.written
        ]
        routes = [route for route in stored if route is not None]
        if len(routes) < len(stored) or drift_of(routes, target)[0] is not None:
            return Outcome.DRIFTED
        if any(_differs(route, target, receipt) for route in routes):
            return Outcome.DRIFTED
        return Outcome(acceptance_of(routes)[0].value)

    def _named(self, target: Target, seen: Seen) -> tuple[dict[str, Any], ...]:
        if not seen.routes:
            raise ConflictError(f"no route names Service {target.service} any more")
        return seen.routes

    def _go_back(self, target: Target, wanted: WayBack, seen: Seen) -> Receipt:
        written = [
            self._patch(
                target, route, rules.way_back_operations(route, target, wanted.epoch), Intent.LOWERING
            )
            for route in self._named(target, seen)
        ]
        return Receipt(0, tuple(written))

    def _detach(self, target: Target, seen: Seen) -> Receipt:
        if seen.route.weight_ppm > 0 or seen.route.way_back_ppm > 0:
            raise RefusedError(
                f"{target.side_service} still has traffic; give it to {target.service} before it is taken out"
            )
        written: list[Written] = []
        for route in seen.routes:
            operations = rules.detach_operations(route, target)
            if len(operations) > 1:  # more than the version: there is something of ours
                written.append(self._patch(target, route, operations, Intent.LOWERING))
                self._client.disown(_ref(target, route))
        return Receipt(0, tuple(written))

    def _patch(
        self, target: Target, route: Object, operations: Sequence[Operation], intent: Intent
    ) -> Written:
        ref = _ref(target, route)
        stored = self._client.json_patch(ref, operations, intent=intent)
        if stored is None:
            raise ConflictError(f"{ref} is gone")
        return brake.written_of(ref.resource.plural, stored)


def _ref(target: Target, route: Object) -> Ref:
    return resource_of_kind(target.route.kind).at(target.namespace, name_of(route))


def _differs(route: Object, target: Target, receipt: Receipt) -> bool:
    return any(share != receipt.weight_ppm for share in shares_of(route, target, target.side_service))


class RouteBrake:
    """The brake for Gateway API routes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._hands = ClientHands(client)

    def kill(self, target: Target, coordinates: Sequence[Coordinate], epoch: str) -> Receipt:
        """Write the known places first, blindly; then every other route that names the target gets the epoch, too.

        Such a route was reset by git, or is new: a raise on its way to it must find a new version there as well.
        """
        cut = brake.Cut(target.namespace, target.service, target.side_service, epoch)
        places = [
            brake.Place(each.resource, each.name, each.rule, each.canary, each.stable) for each in coordinates
        ]
        done = brake.kill(self._hands, cut, places)
        handled = {each.name for each in done.written}
        resource = resource_of_kind(target.route.kind)
        routes = self._client.list(resource, target.namespace)
        others = [route for route in routes if names(route, target) and name_of(route) not in handled]
        swept = brake.sweep(self._hands, cut, resource.plural, others)
        return Receipt(0, (*done.written, *swept.written), (*done.gone, *swept.gone))
