"""The Gateway API router keeps the contract of every router, at the embedded API server."""

import pytest

from canary.kube.client import Client, Intent
from canary.kube.resources import NAMESPACES
from canary.lab.admission import User
from canary.lab.apiserver import ApiServer, InProcessTransport
from canary.lab.clock import SimClock
from canary.lab.router_contract import ROUTER_CHECKS, Bed, Check
from canary.lab.store import Store
from canary.traffic.httproute import HTTPRouteRouter, RouteBrake


@pytest.fixture
def bed() -> Bed:
    clock = SimClock()
    client = Client(InProcessTransport(ApiServer(Store(clock)), User("tester")), clock=clock)
    client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
    return Bed(client, HTTPRouteRouter(client), RouteBrake(client))


@pytest.mark.parametrize("check", ROUTER_CHECKS, ids=lambda check: check.__name__)
def test_the_route_router_keeps_the_contract(bed: Bed, check: Check):
    check(bed)
