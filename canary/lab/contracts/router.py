"""What every router and its brake must do, as named checks that need no test runner.

A check takes a fresh `Bed`: an API server, a router, its brake, and a namespace of its own. It uses the router alone,
reads the stored routes back, and raises AssertionError with a sentence where a promise is broken. The embedded API
server runs them in the test suite; a third party's router, or a real cluster, runs the same list.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from canary.api.marks import side_name
from canary.api.policy import RouteRef
from canary.api.reasons import PPM
from canary.core.evidence import Acceptance, Drift
from canary.errors import ConflictError, RefusedError
from canary.kube.client import Client, Intent
from canary.kube.resources import HTTPROUTES, Resource
from canary.lab.contracts.contract import checks_of, expect
from canary.traffic.brake import Receipt, backends, places_on
from canary.traffic.router import DETACHED, Brake, Outcome, Router, Seen, Target, Wanted, WayBack

HALF = PPM // 2
SHARES = (1, 5_000, 10_000, 333_333, 500_000, PPM - 1, PPM)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bed:
    """Where a check runs. `client` is the world's hand: a person, git, or a gateway."""

    client: Client
    router: Router
    brake: Brake
    namespace: str = "shop"
    service: str = "checkout"
    resource: Resource = HTTPROUTES

    @property
    def target(self) -> Target:
        route = RouteRef.model_validate({"kind": self.resource.kind})
        return Target(self.namespace, self.service, side_name(self.service), route)

    def make_route(self, name: str = "web", rules: list[Json] | None = None) -> Json:
        """Create a route; without rules one that sends /pay and the rest to the Service, as two rules."""
        to_service = {"name": self.service, "port": 80}
        spec = {
            "parentRefs": [{"name": "gateway"}],
            "rules": rules
            or [
                {"matches": [self._pays()], "backendRefs": [to_service | {"weight": 3}]},
                {"backendRefs": [to_service]},
            ],
        }
        route = self.resource.at(self.namespace, name).manifest(spec=spec)
        return self.client.create(self.resource, route, intent=Intent.NEUTRAL)

    def _pays(self) -> Json:
        http = self.resource == HTTPROUTES
        return {"path": {"value": "/pay"}} if http else {"method": {"service": "shop.Pay", "method": "Order"}}

    def stored(self, name: str = "web") -> Json:
        route = self.client.get(self.resource.at(self.namespace, name))
        expect(route is not None, f"route {name} is gone")
        return route or {}

    def edit(self, operations: list[Json], name: str = "web") -> None:
        """Change a route as somebody else would."""
        self.client.json_patch(self.resource.at(self.namespace, name), operations, intent=Intent.NEUTRAL)

    def delete(self, name: str = "web") -> None:
        uid = self.stored(name)["metadata"]["uid"]
        self.client.delete(self.resource.at(self.namespace, name), uid=uid, intent=Intent.NEUTRAL)

    def answer(self, name: str = "web", *, accepted: bool = True) -> None:
        """Speak as the gateway's controller of what is stored now."""
        route = self.stored(name)
        about = {
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": "2026-03-05T09:00:00Z",
            "message": "",
        }
        conditions = [
            {"type": "Accepted", "status": "True", "reason": "Accepted", **about},
            {"type": "ResolvedRefs", "status": str(accepted), "reason": "BackendNotFound", **about},
        ]
        parent = {"parentRef": {"name": "gateway"}, "controllerName": "lab/gateway", "conditions": conditions}
        status = {
            "metadata": {"resourceVersion": route["metadata"]["resourceVersion"]},
            "status": {"parents": [parent]},
        }
        ref = self.resource.at(self.namespace, name)
        self.client.merge_patch(ref, status, subresource="status", intent=Intent.NEUTRAL)

    def attach(self) -> Seen:
        """Attach every route that names the Service, and look."""
        self.give(0)
        return self.look()

    def look(self) -> Seen:
        return self.router.read(self.target)

    def give(self, wanted: Wanted) -> Receipt:
        """Write what is wanted of the routes as they are now."""
        return self.router.write(self.target, wanted, self.look())

    def kill(self, seen: Seen, epoch: str) -> Receipt:
        return self.brake.kill(self.target, seen.route.coordinates, epoch)

    def weights(self, name: str = "web") -> list[dict[str, int]]:
        """Return the stored weights of each rule, by Service."""
        return [{ref.service: ref.weight for ref in refs} for refs in backends(self.stored(name))]


Check = Callable[[Bed], None]


def expect_refusal(error: type[Exception], act: Callable[[], object], sentence: str) -> None:
    """Run `act` and expect it to raise `error`."""
    try:
        act()
    except error:
        return
    raise AssertionError(sentence)


def attaching_names_the_side_in_every_rule_of_every_route_and_gives_it_nothing(bed: Bed) -> None:
    bed.make_route("web")
    bed.make_route("app")
    seen = bed.attach()
    expect(seen.route.attached and seen.route.weight_ppm == 0, f"not attached without traffic: {seen.route}")
    expect(len(seen.route.coordinates) == 4, f"4 rules, but {len(seen.route.coordinates)} coordinates")
    for name in ("web", "app"):
        for weights in bed.weights(name):
            expect(weights == {bed.service: PPM, side_name(bed.service): 0}, f"{name} has {weights}")


def a_share_is_exact_and_the_rest_is_stable_s(bed: Bed) -> None:
    bed.make_route()
    bed.attach()
    for ppm in SHARES:
        bed.give(ppm)
        for weights in bed.weights():
            expect(weights == {bed.service: PPM - ppm, side_name(bed.service): ppm}, f"{ppm}: {weights}")
        seen = bed.look()
        expect((seen.route.weight_ppm, seen.lowest_ppm) == (ppm, ppm), f"wrote {ppm}, read {seen.route}")
        expect(seen.route.drift is None, f"our own write of {ppm} looks foreign: {seen.route.detail}")


def a_share_rises_only_on_the_version_that_was_seen(bed: Bed) -> None:
    bed.make_route()
    old = bed.attach()
    bed.edit([{"op": "add", "path": "/metadata/annotations/note", "value": "hello"}])
    before = bed.weights()
    expect_refusal(
        ConflictError, lambda: bed.router.write(bed.target, HALF, old), "a stale view raised the weight"
    )
    expect(bed.weights() == before, "a refused raise left something behind")


def a_kill_at_weight_zero_still_stops_a_raise_on_its_way(bed: Bed) -> None:
    bed.make_route()
    old = bed.attach()
    bed.kill(old, "1")
    expect_refusal(ConflictError, lambda: bed.router.write(bed.target, HALF, old), "a raise overtook a kill")
    fresh = bed.look()
    bed.kill(fresh, "2")
    expect_refusal(
        ConflictError, lambda: bed.router.write(bed.target, HALF, fresh), "a second kill made no new version"
    )


def a_kill_takes_everything_from_the_side_whatever_was_written_since(bed: Bed) -> None:
    bed.make_route()
    seen = bed.attach()
    bed.give(HALF)
    bed.edit([{"op": "add", "path": "/metadata/annotations/note", "value": "hello"}])
    bed.answer(accepted=False)
    receipt = bed.kill(seen, "1")
    expect(len(receipt.written) == 1 and not receipt.gone, f"{receipt}")
    for weights in bed.weights():
        expect(
            weights[bed.service] > 0 and weights[side_name(bed.service)] == 0, f"after the kill: {weights}"
        )
    expect(bed.look().route.weight_ppm == 0, "still exposed after the kill")
    expect(bed.look().route.drift is None, "our own kill looks foreign")


def a_kill_finds_references_that_were_moved(bed: Bed) -> None:
    bed.make_route()
    seen = bed.attach()
    bed.give(500_000)
    refs = bed.stored()["spec"]["rules"][0]["backendRefs"]
    bed.edit([{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": refs[::-1]}])
    bed.kill(seen, "1")
    expect(bed.look().route.weight_ppm == 0, f"still exposed: {bed.weights()}")
    expect(all(weights[bed.service] == PPM for weights in bed.weights()), f"{bed.weights()}")


def a_kill_leaves_no_rule_without_a_backend_that_has_weight(bed: Bed) -> None:
    bed.make_route()
    seen = bed.attach()
    bed.give(500_000)
    bed.edit([{"op": "remove", "path": "/spec/rules/0/backendRefs/0"}])  # the side stands alone
    bed.kill(seen, "1")
    for weights in bed.weights():
        expect(weights.get(bed.service) == PPM, f"stable does not get all: {weights}")
        expect(weights.get(side_name(bed.service), 0) == 0, f"the side still gets traffic: {weights}")


def a_kill_of_a_route_that_git_reset_still_makes_a_new_version(bed: Bed) -> None:
    original = bed.make_route()
    bed.attach()
    bed.edit([{"op": "replace", "path": "/spec", "value": original["spec"]}])
    bed.edit([{"op": "remove", "path": "/metadata/annotations"}])
    reset = bed.look()
    expect(reset.route.coordinates == (), "coordinates of a route that names no side")
    bed.kill(reset, "1")
    expect(bed.stored()["spec"] == original["spec"], "the kill changed a route that names no side")
    expect(bed.look().route.epoch == 1, "the epoch was not written, or cannot be read back")
    expect_refusal(
        ConflictError, lambda: bed.router.write(bed.target, 5_000, reset), "a raise overtook the kill"
    )
    bed.give(DETACHED)
    expect("annotations" not in bed.stored()["metadata"], "the epoch was left behind")


def a_kill_reaches_a_route_that_is_new(bed: Bed) -> None:
    bed.make_route()
    seen = bed.attach()
    bed.give(10_000)
    both = [{"name": name, "port": 80, "weight": 1} for name in bed.target.services[:2]]
    bed.make_route("backdoor", [{"backendRefs": both}])
    bed.kill(seen, "1")
    after = bed.look().route
    expect((after.weight_ppm, after.epoch) == (0, 1), f"{after}")


def a_kill_of_a_route_that_is_gone_is_done(bed: Bed) -> None:
    bed.make_route("app")
    bed.make_route("web")
    seen = bed.attach()
    bed.give(10_000)
    bed.delete("app")
    receipt = bed.kill(seen, "1")
    expect(receipt.gone == ("app",), f"{receipt}")
    expect(bed.look().route.weight_ppm == 0, "the other route is still exposed")
    bed.delete("web")
    bed.kill(seen, "2")
    left = bed.look().route
    expect(left.epoch >= 2 and left.weight_ppm == 0, f"without a route nothing is left to be written: {left}")


def drift_is_told_apart_by_what_somebody_did(bed: Bed) -> None:
    original = bed.make_route()
    bed.attach()
    bed.give(100_000)
    side = f"/spec/rules/0/backendRefs/{bed.look().route.coordinates[0].canary}/weight"
    for operation, drift in (
        ({"op": "replace", "path": side, "value": 200_000}, Drift.RAISED),
        ({"op": "replace", "path": side, "value": 10}, Drift.LOWERED),
        ({"op": "replace", "path": "/spec", "value": original["spec"]}, Drift.REFS_MISSING),
    ):
        bed.edit([operation])
        seen = bed.look().route
        expect(seen.drift is drift, f"{operation}: {seen.drift}, {seen.detail}")
        expect(seen.detail != "", "drift without a word about it")


def a_new_route_to_the_service_is_unknown(bed: Bed) -> None:
    bed.make_route()
    bed.attach()
    bed.make_route("backdoor")
    seen = bed.look().route
    expect(seen.drift is Drift.UNKNOWN_ROUTE and "backdoor" in seen.detail, f"{seen}")
    expect(not seen.attached, "a route without the side counts as attached")


def a_write_is_verified_when_every_parent_has_spoken_of_it(bed: Bed) -> None:
    bed.make_route()
    bed.attach()
    receipt = bed.give(10_000)
    expect(bed.router.verify(bed.target, receipt) is Outcome.PENDING, "accepted before anybody spoke")
    expect(bed.look().route.acceptance is Acceptance.PENDING, "accepted before anybody spoke")
    bed.answer()
    expect(bed.router.verify(bed.target, receipt) is Outcome.ACCEPTED, "not accepted")
    expect(bed.look().route.acceptance is Acceptance.ACCEPTED, "not accepted")
    later = bed.give(20_000)
    expect(
        bed.router.verify(bed.target, later) is Outcome.PENDING, "an old acceptance counted for a new write"
    )
    bed.answer(accepted=False)
    expect(bed.router.verify(bed.target, later) is Outcome.REFUSED, "a refusal was not seen")
    bed.kill(bed.look(), "1")
    expect(
        bed.router.verify(bed.target, later) is Outcome.DRIFTED, "the write is gone, and that was not seen"
    )


def detaching_restores_every_route_byte_for_byte(bed: Bed) -> None:
    originals = [bed.make_route("web"), bed.make_route("app")]
    bed.attach()
    bed.give(10_000)
    bed.kill(bed.look(), "1")
    bed.give(DETACHED)
    for original in originals:
        stored = bed.stored(original["metadata"]["name"])
        expect(_bytes(stored["spec"]) == _bytes(original["spec"]), f"{stored['spec']}")
        left = {key: stored["metadata"].get(key) for key in ("labels", "annotations")}
        expect(left == {"labels": None, "annotations": None}, f"we left {left}")
    version = bed.stored()["metadata"]["resourceVersion"]
    bed.give(DETACHED)
    expect(bed.stored()["metadata"]["resourceVersion"] == version, "a second detach wrote something")


def a_side_with_traffic_is_not_taken_out(bed: Bed) -> None:
    bed.make_route()
    bed.attach()
    bed.give(HALF)
    seen = bed.look()
    expect_refusal(
        RefusedError, lambda: bed.router.write(bed.target, DETACHED, seen), "detached while exposed"
    )


def a_lost_reference_is_put_back_with_its_share_in_one_write(bed: Bed) -> None:
    original = bed.make_route()
    bed.attach()
    bed.give(PPM)
    bed.edit([{"op": "replace", "path": "/spec", "value": original["spec"]}])
    bed.give(PPM)
    for weights in bed.weights():
        expect(weights == {bed.service: 0, side_name(bed.service): PPM}, f"{weights}")


def the_way_back_takes_everything_and_gives_it_back(bed: Bed) -> None:
    original = bed.make_route()
    bed.attach()
    bed.give(500_000)
    bed.give(WayBack("7"))
    seen = bed.look().route
    expect((seen.way_back_ppm, seen.weight_ppm, seen.epoch) == (PPM, 0, 7), f"{seen}")
    expect(seen.drift is None, f"our own way back looks foreign: {seen.detail}")
    expect(places_on("httproutes", bed.stored()) == (), "the brake would still give all to stable")
    expect_refusal(
        RefusedError, lambda: bed.give(DETACHED), "detached while the way back carries the traffic"
    )
    bed.router.write(replace(bed.target, armed=False), 0, bed.look())
    seen = bed.look().route
    expect((seen.way_back_ppm, seen.weight_ppm) == (0, 0), f"{seen}")
    bed.give(DETACHED)
    expect(_bytes(bed.stored()["spec"]) == _bytes(original["spec"]), f"{bed.stored()['spec']}")


def the_coordinates_on_the_route_last_until_they_are_disarmed(bed: Bed) -> None:
    bed.make_route()
    seen = bed.attach()
    bed.give(HALF)
    kind = bed.resource.plural
    kept = [(place.rule, place.canary, place.stable) for place in places_on(kind, bed.stored())]
    known = [(each.rule, each.canary, each.stable) for each in seen.route.coordinates]
    expect(kept == known, f"on the route {kept}, seen {known}")
    expect(bed.look().armed, "armed, but not seen to be")
    bed.router.write(replace(bed.target, armed=False), HALF, bed.look())
    expect(places_on(kind, bed.stored()) == (), "the brake could still be pulled by the route alone")
    disarmed = bed.look()
    expect(not disarmed.armed and disarmed.route.weight_ppm == HALF, "disarming moved traffic")


def a_plan_says_what_would_be_written_and_writes_nothing(bed: Bed) -> None:
    original = bed.make_route()
    plan = bed.router.plan(bed.target)
    expect(not plan.refusals and len(plan.writes) == 2, f"{plan}")
    expect(bed.stored() == original, "a dry run wrote")


def _bytes(value: object) -> str:
    return json.dumps(value)


ROUTER_CHECKS = checks_of(__name__, Bed)
OF_EVERY_ROUTER: tuple[Check, ...] = (
    a_share_rises_only_on_the_version_that_was_seen,
    a_kill_at_weight_zero_still_stops_a_raise_on_its_way,
    a_kill_takes_everything_from_the_side_whatever_was_written_since,
    a_side_with_traffic_is_not_taken_out,
    the_coordinates_on_the_route_last_until_they_are_disarmed,
)
"""Those that speak of no rules and no references, so that a router without any keeps them, too."""
