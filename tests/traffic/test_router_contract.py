"""The Gateway API router keeps the contract of every router, at the embedded API server."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from canary.api.run import Coordinate
from canary.kube.client import Client, Intent
from canary.kube.resources import GRPCROUTES, HTTPROUTES, NAMESPACES
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock
from canary.lab.contracts.router import (
    ROUTER_CHECKS,
    Bed,
    Check,
    a_kill_at_weight_zero_still_stops_a_raise_on_its_way,
    a_share_rises_only_on_the_version_that_was_seen,
)
from canary.traffic.brake import Receipt
from canary.traffic.httproute import HTTPRouteRouter, RouteBrake
from canary.traffic.router import DETACHED, Seen, Target, Wanted


@pytest.fixture(params=[HTTPROUTES, GRPCROUTES], ids=lambda resource: resource.kind)
def bed(request: pytest.FixtureRequest) -> Bed:
    clock = SimClock()
    client = Client(InProcessTransport(ApiServer(Store(clock)), User("tester")), clock=clock)
    client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
    return Bed(client, HTTPRouteRouter(client), RouteBrake(client), resource=request.param)


@pytest.mark.parametrize("check", ROUTER_CHECKS, ids=lambda check: check.__name__)
def test_the_route_router_keeps_the_contract(bed: Bed, check: Check):
    check(bed)


class LazyBrake(RouteBrake):
    """A brake that always writes the same epoch: a second kill at weight 0 is no new version."""

    def kill(self, target: Target, coordinates: Sequence[Coordinate], epoch: str) -> Receipt:
        return super().kill(target, coordinates, "0")


class HastyRouter(HTTPRouteRouter):
    """A router that looks again before it writes, and so never notices that its decision is old."""

    def write(self, target: Target, wanted: Wanted, seen: Seen) -> Receipt:
        return super().write(target, wanted, self.read(target))


def test_the_contract_catches_a_brake_without_epochs(bed: Bed):
    with pytest.raises(AssertionError):
        a_kill_at_weight_zero_still_stops_a_raise_on_its_way(replace(bed, brake=LazyBrake(bed.client)))


def test_the_contract_catches_a_router_without_compare_and_set(bed: Bed):
    with pytest.raises(AssertionError):
        a_share_rises_only_on_the_version_that_was_seen(replace(bed, router=HastyRouter(bed.client)))


def test_a_route_of_another_namespace_is_seen_by_the_plan(bed: Bed):
    bed.make_route()
    bed.client.create(NAMESPACES, {"metadata": {"name": "infra"}}, intent=Intent.NEUTRAL)
    into = {"name": "checkout", "namespace": "shop", "port": 80}
    replace(bed, namespace="infra").make_route("edge", [{"backendRefs": [into]}])
    (refusal,) = bed.router.plan(bed.target).refusals
    assert "edge in namespace infra" in refusal


def test_a_service_that_routes_of_both_kinds_name_is_refused(bed: Bed):
    bed.make_route()
    (other,) = {HTTPROUTES, GRPCROUTES} - {bed.resource}
    replace(bed, resource=other).make_route("beside")
    (refusal,) = bed.router.plan(bed.target).refusals
    assert f"{other.kind} beside also names Service checkout" in refusal


def test_a_side_that_a_person_took_out_entry_by_entry_leaves_no_weight_of_ours(bed: Bed):
    original = bed.make_route()
    bed.attach()
    for rule in (0, 1):
        bed.edit([{"op": "remove", "path": f"/spec/rules/{rule}/backendRefs/1"}])
    seen = bed.router.read(bed.target)
    assert seen.route.partial
    bed.router.write(bed.target, DETACHED, seen)
    assert bed.stored()["spec"] == original["spec"]


def test_a_route_is_partial_only_where_something_of_ours_is_left_on_it(bed: Bed):
    bed.make_route()
    assert not bed.router.read(bed.target).route.partial
    assert not bed.attach().route.partial
    bed.make_route("backdoor")
    assert bed.router.read(bed.target).route.partial
