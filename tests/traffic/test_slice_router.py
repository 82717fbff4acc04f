"""The router by EndpointSlices keeps the contract of every router and its own, and refuses what it cannot split."""

from typing import Any

import pytest

from canary.api.policy import RouteRef
from canary.errors import ConflictError
from canary.kube.client import Client, FieldManager, Intent
from canary.kube.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock
from canary.lab.contracts.router import OF_EVERY_ROUTER, Bed
from canary.lab.contracts.slices import SLICE_CHECKS, SliceBed
from canary.sentinel import NeverOpen
from canary.traffic.endpointslice import SliceBrake, SliceRouter
from canary.traffic.kinds import AnyBrake, AnyRouter
from canary.traffic.router import Target


def bed_with(router: Any = AnyRouter, brake: Any = AnyBrake) -> SliceBed:
    clock = SimClock()
    client = Client(InProcessTransport(ApiServer(Store(clock)), User("tester")), clock=clock)
    client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
    return SliceBed(client, router(client), brake(client))


@pytest.mark.parametrize("check", [*OF_EVERY_ROUTER, *SLICE_CHECKS], ids=lambda check: check.__name__)
def test_the_slice_router_keeps_the_contract(check: Any):
    check(bed_with())


class Greedy(SliceRouter):
    """A router that always gives half."""

    def write(self, target: Target, wanted: Any, seen: Any) -> Any:
        return super().write(target, 500_000 if isinstance(wanted, int) and wanted else wanted, seen)


class Forgetful(SliceBrake):
    """A brake that writes one and the same epoch."""

    def kill(self, target: Target, coordinates: Any, epoch: str) -> Any:
        return super().kill(target, coordinates, "0")


def test_the_contract_catches_a_share_above_the_asked_one_and_a_kill_without_an_epoch():
    checks = {check.__name__: check for check in (*OF_EVERY_ROUTER, *SLICE_CHECKS)}
    with pytest.raises(AssertionError):
        checks["a_share_is_the_most_pods_that_are_not_above_it"](bed_with(router=Greedy))
    with pytest.raises(AssertionError):
        checks["a_kill_at_weight_zero_still_stops_a_raise_on_its_way"](bed_with(brake=Forgetful))


def test_who_may_not_raise_still_takes_out_a_pod_that_is_not_ready_and_adds_none():
    bed = bed_with()
    bed.make_route()
    bed.attach()
    bed.give(200_000)
    bed.unready(bed.target.side_service, 0)
    transport = bed.client._transport  # pyright: ignore[reportPrivateUsage]
    router = SliceRouter(Client(transport, fence=NeverOpen(), manager=FieldManager.SENTINEL))
    router.write(bed.target, 200_000, router.read(bed.target))
    assert bed.addresses() == []
    with pytest.raises(ConflictError):
        router.write(bed.target, 200_000, router.read(bed.target))


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"spec": {"clusterIP": "None"}}, "is headless: its clients choose a pod by DNS"),
        ({"spec": {"sessionAffinity": "ClientIP"}}, "keeps sessions, so users would stay on the new version"),
        ({"spec": {"internalTrafficPolicy": "Local"}}, "says internalTrafficPolicy: Local"),
        ({"spec": {"externalTrafficPolicy": "Local"}}, "says externalTrafficPolicy: Local"),
        ({"spec": {"trafficDistribution": "PreferClose"}}, "prefers near pods (trafficDistribution)"),
        ({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}}, "prefers near pods"),
        ({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}, "has two address families"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_service_whose_requests_are_not_split_evenly_is_refused(patch: dict[str, Any], words: str):
    bed = bed_with()
    bed.make_route()
    bed.client.merge_patch(SERVICES.at(bed.namespace, bed.service), patch, intent=Intent.NEUTRAL)
    (refusal,) = bed.router.plan(bed.target).refusals
    assert words in refusal
    assert "; " in refusal, "a refusal without a remedy"


def test_a_slice_that_somebody_else_added_and_a_route_s_name_are_refused():
    bed = bed_with()
    bed.make_route()
    labels = {"kubernetes.io/service-name": bed.service, "endpointslice.kubernetes.io/managed-by": "me"}
    other = ENDPOINTSLICES.at(bed.namespace, "by-hand").manifest(
        {"labels": labels}, addressType="IPv4", endpoints=[]
    )
    bed.client.create(ENDPOINTSLICES, other, intent=Intent.NEUTRAL)
    (refusal,) = bed.router.plan(bed.target).refusals
    assert "slice by-hand adds addresses to Service checkout" in refusal
    named = Target("shop", "checkout", "checkout-canary", RouteRef(kind="EndpointSlice", name="web"))
    assert "there is none; remove it" in bed.router.plan(named).refusals[0]
    assert isinstance(bed, Bed)
