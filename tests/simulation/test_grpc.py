"""A shop that speaks gRPC: its route is split, taken back and tidied like any other."""

import pytest
from sim_street import COLLAPSE, PLACE, Street, everything_is_back, short_policy

from canary.api.reasons import Phase
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, GRPCROUTES, HTTPROUTES
from canary.lab import manifests


class GrpcStreet(Street):
    """A street with a GRPCRoute in the place of the HTTPRoute."""

    route_kind = "GRPCRoute"

    def _set_up(self) -> None:
        for resource, obj in manifests.shop(self.setting.replicas, 8080):
            if resource != HTTPROUTES:
                self.admin.create(resource, obj, intent=Intent.NEUTRAL)
        route = GRPCROUTES.at(*PLACE).manifest(spec=manifests.route()["spec"])
        route["spec"]["rules"] = [{"backendRefs": route["spec"]["rules"][0]["backendRefs"]}]
        self.admin.create(GRPCROUTES, route, intent=Intent.NEUTRAL)
        self.run_for(5)
        self.admin.create(CANARYPOLICIES, manifests.policy(self.setting.policy), intent=Intent.NEUTRAL)
        self.run_for(5)


@pytest.mark.parametrize(
    ("bug", "end", "version"),
    [({}, Phase.PROMOTED, manifests.NEW), (COLLAPSE, Phase.ROLLED_BACK, manifests.OLD)],
    ids=["healthy", "collapse"],
)
def test_a_grpc_route_is_split_and_given_back(bug: dict[str, str], end: Phase, version: str):
    street = GrpcStreet(policy=short_policy(route={"kind": "GRPCRoute"}))
    street.push(bug)
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    street.until(end).tidied()
    everything_is_back(street, version)


def test_a_grpc_route_that_no_run_looks_after_goes_back_to_stable():
    street = GrpcStreet(policy=short_policy(route={"kind": "GRPCRoute"}))
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    street.lose_our_objects()
    street.run_for(100)
    everything_is_back(street, manifests.OLD)
