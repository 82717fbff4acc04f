"""Which router splits a target: the one place where `spec.route.kind` is asked.

Enters a `Target` with any kind of route; what leaves is what the Gateway API's router, or the one by pods, answers.
The operator, `canary adopt` and the lab hold these two and know no other.
"""

from collections.abc import Sequence

from canary.api.run import Coordinate
from canary.kube.client import Client
from canary.traffic.brake import Receipt
from canary.traffic.endpointslice import SliceBrake, SliceRouter
from canary.traffic.httproute import HTTPRouteRouter, RouteBrake
from canary.traffic.router import Brake, Outcome, Plan, Router, Seen, Target, Wanted


class AnyRouter:
    """Hands each target to the router of its kind."""

    def __init__(self, client: Client) -> None:
        self._routes: Router = HTTPRouteRouter(client)
        self._slices: Router = SliceRouter(client)

    def plan(self, target: Target) -> Plan:
        return self._of(target).plan(target)

    def read(self, target: Target, known: Seen | None = None) -> Seen:
        return self._of(target).read(target, known)

    def write(self, target: Target, wanted: Wanted, seen: Seen) -> Receipt:
        return self._of(target).write(target, wanted, seen)

    def verify(self, target: Target, receipt: Receipt) -> Outcome:
        return self._of(target).verify(target, receipt)

    def _of(self, target: Target) -> Router:
        return self._slices if target.route.in_pods else self._routes


class AnyBrake:
    """Hands each target to the brake of its kind."""

    def __init__(self, client: Client) -> None:
        self._routes: Brake = RouteBrake(client)
        self._slices: Brake = SliceBrake(client)

    def kill(self, target: Target, coordinates: Sequence[Coordinate], epoch: str) -> Receipt:
        return (self._slices if target.route.in_pods else self._routes).kill(target, coordinates, epoch)
