"""What a router that splits by pods must do beside `OF_EVERY_ROUTER`, as named checks that need no test runner.

A check takes a fresh `SliceBed`: a Service with four ready pods, and four more behind each of the side's and the last
good version's Services. Their slices are written by the bed, as the cluster's own controller would.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from canary.api.marks import Mark, way_back_name
from canary.api.reasons import PPM
from canary.core.evidence import Drift
from canary.core.portions import share_ppm
from canary.errors import RefusedError
from canary.kube.client import Intent
from canary.kube.resources import DEPLOYMENTS, ENDPOINTSLICES, SERVICES, Resource
from canary.lab.contracts.contract import checks_of, expect
from canary.lab.contracts.router import HALF, Bed, expect_refusal
from canary.traffic.brake import places_on
from canary.traffic.router import DETACHED, WayBack

PODS = 4
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SliceBed(Bed):
    """A bed whose route is a slice of ours."""

    resource: Resource = ENDPOINTSLICES

    def make_route(self, name: str = "web", rules: list[Json] | None = None) -> Json:
        """Create the three Services with their pods' slices, and the Deployment that will own our slice."""
        for number, service in enumerate(self.target.services):
            self._make_service(service)
            self._make_slice(service, number)
        labels = {"matchLabels": {"app": "side"}}
        template = {
            "metadata": {"labels": {"app": "side"}},
            "spec": {"containers": [{"name": "a", "image": "b"}]},
        }
        side = DEPLOYMENTS.at(self.namespace, self.target.side_service)
        return self._create(DEPLOYMENTS, side.manifest(spec={"selector": labels, "template": template}))

    def _make_service(self, name: str) -> None:
        labels = {"labels": {Mark.SIDE.value: self.target.side_service}} if name != self.service else {}
        spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
        self._create(SERVICES, SERVICES.at(self.namespace, name).manifest(labels, spec=spec))

    def _make_slice(self, service: str, number: int) -> None:
        labels = {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        endpoints = [_endpoint(service, number, pod) for pod in range(PODS)]
        ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
        ref = ENDPOINTSLICES.at(self.namespace, f"{service}-abcde")
        body = ref.manifest({"labels": labels}, addressType="IPv4", endpoints=endpoints, ports=ports)
        self._create(ENDPOINTSLICES, body)

    def _create(self, resource: Resource, body: Json) -> Json:
        return self.client.create(resource, body, intent=Intent.NEUTRAL)

    def stored(self, name: str = "web") -> Json:
        found = self.client.get(ENDPOINTSLICES.at(self.namespace, self.target.side_service))
        expect(found is not None, "our slice is gone")
        return found or {}

    def edit(self, operations: list[Json], name: str = "web") -> None:
        ref = ENDPOINTSLICES.at(self.namespace, self.target.side_service)
        self.client.json_patch(ref, operations, intent=Intent.NEUTRAL)

    def delete(self, name: str = "web") -> None:
        ref = ENDPOINTSLICES.at(self.namespace, self.target.side_service)
        self.client.delete(ref, uid=self.stored()["metadata"]["uid"], intent=Intent.NEUTRAL)

    def answer(self, name: str = "web", *, accepted: bool = True) -> None:
        """Nobody speaks of a slice."""

    def unready(self, service: str, pod: int) -> None:
        """Let a pod of a Service fail its probe, as its own slice then says."""
        path = f"/endpoints/{pod}/conditions/ready"
        ref = ENDPOINTSLICES.at(self.namespace, f"{service}-abcde")
        self.client.json_patch(ref, [{"op": "add", "path": path, "value": False}], intent=Intent.NEUTRAL)

    def weights(self, name: str = "web") -> list[dict[str, int]]:
        named = self.stored().get("endpoints") or []
        return [{self.service: PODS, self.target.side_service: len(named)}]

    def addresses(self) -> list[str]:
        return [each["addresses"][0] for each in self.stored().get("endpoints") or []]


def _endpoint(service: str, number: int, pod: int) -> Json:
    target = {"kind": "Pod", "name": f"{service}-{pod}", "uid": f"{service}-{pod}"}
    conditions = {"ready": True, "serving": True, "terminating": False}
    return {"addresses": [f"10.1.{number}.{pod}"], "conditions": conditions, "targetRef": target}


Check = Callable[[SliceBed], None]


def attaching_makes_an_empty_slice_that_its_side_owns(bed: SliceBed) -> None:
    bed.make_route()
    expect(
        not bed.look().route.attached and not bed.look().route.exists, "attached before anything was written"
    )
    seen = bed.attach()
    expect(seen.route.attached and seen.route.weight_ppm == 0 and bed.addresses() == [], f"{seen.route}")
    (owner,) = bed.stored()["metadata"]["ownerReferences"]
    expect((owner["kind"], owner["name"]) == ("Deployment", bed.target.side_service), f"{owner}")
    expect(
        bed.stored()["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}], "not the side's ports"
    )


def a_share_is_the_most_pods_that_are_not_above_it(bed: SliceBed) -> None:
    bed.make_route()
    bed.attach()
    for asked in (1, 199_999, 200_000, 333_333, 333_334, 499_999, HALF, PPM):
        bed.give(asked)
        seen, pods = bed.look().route, len(bed.addresses())
        expect(
            seen.weight_ppm == share_ppm(pods, PODS) <= min(asked, HALF), f"asked {asked}: {seen.weight_ppm}"
        )
        expect(share_ppm(pods + 1, PODS) > min(asked, HALF), f"asked {asked}: one more pod would do")
        expect(seen.drift is None, f"our own write of {asked} looks foreign: {seen.detail}")


def a_pod_that_is_not_ready_leaves_before_another_takes_its_place(bed: SliceBed) -> None:
    bed.make_route()
    bed.attach()
    bed.give(200_000)
    (before,) = bed.addresses()
    bed.unready(bed.target.side_service, int(before.rpartition(".")[2]))
    seen = bed.look().route
    expect(seen.excess and seen.drift is None, f"a pod that is not ready is still named: {seen}")
    bed.give(200_000)
    expect(bed.addresses() == [], "one write took away and added")
    bed.give(200_000)
    (after,) = bed.addresses()
    expect(after != before and bed.look().route.weight_ppm == 200_000, f"{before} -> {after}")


def a_stable_pod_that_goes_makes_the_share_too_large_until_it_is_written_again(bed: SliceBed) -> None:
    bed.make_route()
    bed.attach()
    bed.give(HALF)
    bed.unready(bed.service, 0)
    seen = bed.look().route
    expect(seen.weight_ppm > HALF and seen.excess and not seen.gives(HALF), f"{seen}")
    bed.give(HALF)
    seen = bed.look().route
    expect(seen.weight_ppm == HALF and not seen.excess, f"{seen}")


def somebody_else_s_hand_is_told_from_a_pod_that_went(bed: SliceBed) -> None:
    bed.make_route()
    bed.attach()
    bed.give(HALF)
    for operation, drift in (
        ({"op": "add", "path": "/endpoints/-", "value": {"addresses": ["10.9.9.9"]}}, Drift.RAISED),
        ({"op": "replace", "path": "/endpoints", "value": []}, Drift.LOWERED),
    ):
        bed.edit([operation])
        seen = bed.look().route
        expect(seen.drift is drift and seen.detail != "", f"{operation}: {seen.drift}, {seen.detail}")
    bed.delete()
    expect(not bed.look().route.attached, "a slice that is gone counts as attached")


def a_kill_of_a_slice_that_is_gone_is_done(bed: SliceBed) -> None:
    bed.make_route()
    seen = bed.attach()
    bed.give(HALF)
    bed.delete()
    expect(bed.kill(seen, "1").gone == (bed.target.side_service,), "not told as gone")
    left = bed.look().route
    expect(left.epoch >= 1 and left.weight_ppm == 0, f"without a slice nothing is left to be written: {left}")


def the_way_back_names_every_pod_of_the_last_good_version_and_no_other(bed: SliceBed) -> None:
    bed.make_route()
    bed.attach()
    bed.give(HALF)
    bed.give(WayBack("7"))
    seen = bed.look().route
    expect((seen.way_back_ppm, seen.weight_ppm, seen.epoch, seen.drift) == (PPM, 0, 7, None), f"{seen}")
    expect(bed.addresses() == [f"10.1.2.{pod}" for pod in range(PODS)], f"{bed.addresses()}")
    expect(
        places_on(bed.resource.plural, bed.stored()) == (),
        "the brake would still take the last good pods out",
    )
    expect_refusal(RefusedError, lambda: bed.give(DETACHED), "detached while the way back carries traffic")
    bed.unready(way_back_name(bed.service), 0)
    expect(bed.look().route.way_back_ppm == 0, "a pod that is not ready counts")
    bed.give(WayBack("8"))
    expect(bed.look().route.way_back_ppm == PPM and len(bed.addresses()) == PODS - 1, f"{bed.addresses()}")
    bed.router.write(replace(bed.target, armed=False), 0, bed.look())
    seen = bed.look().route
    expect((seen.way_back_ppm, seen.weight_ppm, bed.addresses()) == (0, 0, []), f"{seen}")


def detaching_deletes_the_slice_and_nothing_else(bed: SliceBed) -> None:
    bed.make_route()
    others = bed.client.list(ENDPOINTSLICES, bed.namespace)
    bed.attach()
    bed.give(DETACHED)
    bed.give(DETACHED)
    expect(
        bed.client.list(ENDPOINTSLICES, bed.namespace) == others,
        "something is left, or something else is gone",
    )


def a_plan_names_the_least_share_and_writes_nothing(bed: SliceBed) -> None:
    bed.make_route()
    plan = bed.router.plan(bed.target)
    expect(not plan.refusals and len(plan.writes) == 1, f"{plan}")
    expect(
        "beside 4 ready ones the least is 20 %, and 50 % is the most" in plan.warnings[0], f"{plan.warnings}"
    )
    expect(len(bed.client.list(ENDPOINTSLICES, bed.namespace)) == 3, "a dry run wrote")


SLICE_CHECKS = checks_of(__name__, SliceBed)
