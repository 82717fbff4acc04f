"""A shop without a router of its own: its Service is split by an EndpointSlice, and given back, on simulated time.

The shop's route names the Service alone and is nobody's but the shop's: it stays as it is, whatever a run does.
"""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest
from dying_roads import PROCESSES, ROADS, first_of_each, to_its_end, trouble_of
from sim_faults import Dying, Moment
from sim_street import COLLAPSE, Street, bare, everything_is_back, short_policy

from canary.api.marks import Mark
from canary.api.reasons import Phase, Reason, Verb
from canary.cli.brakes import grip_of_run
from canary.core.telling.explain import Scene, standing
from canary.core.telling.stored import StoredRun
from canary.kube.client import Client, FieldManager, Intent
from canary.kube.lease import HEARTBEAT_LEASE, Heartbeat
from canary.kube.resources import DEPLOYMENTS, ENDPOINTSLICES, LEASES, NAMESPACES
from canary.kube.transport import Response, Stream, Transport
from canary.lab import manifests
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.history import Event
from canary.sentinel import LOOK_SECONDS, NeverOpen, Sentinel
from canary.traffic.brake import Cut, kill, places_on
from canary.traffic.route_hands import ClientHands

SIDE, SYSTEM = f"{manifests.NAME}-canary", "canary-system"
STEPS = [{"weight": "20%"}, {"weight": "50%"}]
PLACE = (manifests.NAMESPACE, manifests.NAME)


class SliceStreet(Street):
    """A street whose policy splits by pods: 4 of the old version, so 1 of 5 is the least."""

    def __init__(self, **fields: Any) -> None:
        policy = short_policy(
            **{"route": {"kind": "EndpointSlice"}, "tier": 2, "steps": STEPS, **fields.pop("policy", {})}
        )
        self.top = 0.0
        super().__init__(policy=policy, **fields)

    def named(self) -> list[str]:
        return [
            each["targetRef"]["name"] for each in self.stored("EndpointSlice", SIDE).get("endpoints") or []
        ]

    def serving(self) -> int:
        """Return the ready addresses of the Service that are not ours."""
        store = self.cluster.store
        slices = store.select(store.kinds.named("EndpointSlice"), manifests.NAMESPACE)
        own = [each for each in slices if each["metadata"]["name"] != SIDE]
        own = [
            each for each in own if each["metadata"]["labels"]["kubernetes.io/service-name"] == manifests.NAME
        ]
        return sum(each["conditions"]["ready"] for piece in own for each in piece["endpoints"])

    def route_ppm(self) -> int:
        named, serving = len(self.named()), self.serving()
        return round(1e6 * named / (named + serving)) if named else 0

    def _witness_roll(self, event: Event) -> None:
        """The roll has customers on it here, and says so."""

    def sliced(self) -> "SliceStreet":
        assert self.run_until(lambda: self.route_ppm() > 0, 60), self.told()
        return self


def all_is_back(street: SliceStreet, serving: str) -> None:
    everything_is_back(street, serving)
    assert street.stored("EndpointSlice", SIDE) == {}, "the slice was left behind"
    assert bare(street.stored("HTTPRoute")) == bare(street.route_before)


def test_a_healthy_change_gets_one_pod_of_five_then_half_and_then_everything():
    street = SliceStreet()
    seen: list[tuple[Phase, int]] = []
    street.push()
    assert street.run_until(
        lambda: bool(seen.append((street.phase, street.route_ppm()))) or street.phase.final, 300
    )
    shares = [ppm for phase, ppm in seen if phase is Phase.PROGRESSING]
    assert street.phase is Phase.PROMOTED, street.told()
    assert sorted({*shares}) in ([0, 200_000, 333_333, 428_571, 500_000], [0, 200_000, 500_000]), {*shares}
    assert [step.weight for step in street.run.spec.steps] == [200_000, 500_000]
    street.tidied()
    all_is_back(street, manifests.NEW)


def test_a_collapse_is_rolled_back_by_one_write_and_nobody_meets_it_again():
    street = SliceStreet()
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "5"})
    street.sliced().until(Phase.ROLLED_BACK).tidied()
    assert street.run.status.traffic.epoch > 0
    assert "orders" in street.run.status.message, street.told()
    all_is_back(street, manifests.OLD)


def test_an_abort_empties_the_slice_at_once():
    street = SliceStreet()
    street.push()
    street.sliced()
    street.ask(Verb.ABORT)
    assert street.run_until(lambda: street.named() == [], 5), street.told()
    street.until(Phase.ABORTED).tidied()
    all_is_back(street, manifests.OLD)


def play(road: str, dying: Dying, at: int = 0) -> SliceStreet:
    street = SliceStreet(wire=dying.wire, policy={"steps": STEPS[1:]})
    dying.count(at, Moment.AFTER, lambda: street.phase)
    return to_its_end(street, road, limit=300)


@pytest.mark.parametrize("road", ROADS)
def test_a_controller_that_dies_after_any_kind_of_write_of_the_slice_ends_in_the_right_place(road: str):
    """The other writes are those of a run with a route, and died after in `test_crashes.py`."""
    dying = Dying()
    play(road, dying)
    first = [number for number in first_of_each(dying) if "endpointslices" in dying.writes[number - 1]]
    assert len(first) > 2
    with ProcessPoolExecutor(PROCESSES) as pool:
        for said in pool.map(partial(survive, road), first):
            assert not said, said


def survive(road: str, number: int) -> str:
    """Play a road with a death after one write; return what is wrong in the end, or nothing."""
    said = trouble_of(road, lambda: play(road, Dying(), number), all_is_back)
    return f"died after write {number}: {said}" if said else ""


def scale(street: Street, pods: int) -> None:
    street.admin.merge_patch(DEPLOYMENTS.at(*PLACE), {"spec": {"replicas": pods}}, intent=Intent.NEUTRAL)


def test_a_stable_pod_that_goes_takes_the_slice_down_first_and_gives_it_back_with_the_pod():
    """1 of 4 would be 25 %, which nobody asked for."""
    street = SliceStreet(policy={"bake": {"duration": "1000s"}, "steps": STEPS[:1]})
    street.push()
    street.sliced()
    above: list[int] = []
    street.run_for(5)
    scale(street, 3)
    assert street.run_until(lambda: bool(above.append(street.route_ppm())) or street.named() == [], 10), (
        street.told()
    )
    assert not street.run.status.phase.final
    scale(street, 4)
    assert street.run_until(lambda: street.route_ppm() == 200_000, 60), street.told()


def test_more_stable_pods_make_the_slice_smaller_and_never_larger_than_asked():
    street = SliceStreet(policy={"bake": {"duration": "1000s"}, "steps": STEPS[:1]})
    street.push()
    street.sliced()
    scale(street, 6)
    street.run_for(60)
    assert street.route_ppm() == round(1e6 / 7), street.told()
    assert street.run.status.traffic.observed_ppm == -(-1_000_000 // 7)
    street.until(Phase.BAKING)


def test_a_side_pod_that_is_not_ready_leaves_the_slice_for_one_that_is():
    street = SliceStreet(policy={"bake": {"duration": "1000s"}, "steps": STEPS[:1]})
    street.push()
    street.sliced()
    (before,) = street.named()
    kind = street.cluster.store.kinds.named("Pod")
    street.cluster.store.delete(kind, (manifests.NAMESPACE, before))
    assert street.run_until(lambda: street.named() not in ([], [before]), 20), street.told()
    assert not street.run.status.phase.final


def test_a_change_of_ai_that_would_begin_below_one_pod_is_held_and_the_sentence_says_what_to_do():
    street = SliceStreet(policy={"steps": [{"weight": "1%"}, {"weight": "50%"}]})
    street.push()
    street.run_for(30)
    assert street.runs == []
    (ready,) = [
        each for each in street.stored("CanaryPolicy")["status"]["conditions"] if each["type"] == "Ready"
    ]
    assert (
        "origin ai begins at 1 %, and 4 pods beside one of the new version give it 20 %" in ready["message"]
    )
    assert "scale the Deployment up" in ready["message"]


def test_a_slice_that_somebody_fills_is_emptied_and_the_run_waits_for_a_person():
    street = SliceStreet(policy={"bake": {"duration": "1000s"}, "steps": STEPS[:1]})
    street.push()
    street.sliced()
    stranger = [{"op": "add", "path": "/endpoints/-", "value": {"addresses": ["10.9.9.9"]}}]
    street.admin.json_patch(ENDPOINTSLICES.at(manifests.NAMESPACE, SIDE), stranger, intent=Intent.NEUTRAL)
    street.until(Phase.PAUSED)
    assert (street.run.status.reason, street.named()) == (Reason.WEIGHT_DRIFT, []), street.told()
    assert "names 10.9.9.9, which was not written" in street.run.status.message


def test_a_slice_that_no_run_looks_after_is_emptied_and_goes():
    street = SliceStreet(policy={"bake": {"duration": "1000s"}})
    street.push()
    street.sliced()
    street.lose_our_objects()
    street.run_for(100)
    all_is_back(street, manifests.OLD)


def test_the_commit_says_before_it_that_customers_are_on_the_roll():
    street = SliceStreet()
    street.push()
    street.until(Phase.COMMITTING, limit=300)
    assert "with customers on the roll" in street.run.status.message
    assert street.stored("EndpointSlice", SIDE)["metadata"]["annotations"][Mark.WEIGHT] == "500000"


def test_a_commit_that_is_taken_back_is_half_a_way_back_and_says_so_until_the_old_manifest_is_applied():
    street = SliceStreet()
    street.push()
    street.until(Phase.COMMITTING, limit=300)
    street.run_for(2)
    street.ask(Verb.ABORT)
    street.until(Phase.ABORTED)
    assert street.stored("Deployment")["spec"]["paused"] is True
    assert len(street.named()) == 4
    assert {name.startswith(f"{manifests.NAME}-lastgood") for name in street.named()} == {True}
    line = standing(StoredRun(street._newest()), Scene(street.clock.now())).text
    assert line.startswith("ACTION NEEDED"), line
    assert f"checkout's pods still serve {manifests.NEW}" in line
    old = manifests.change(manifests.OLD, 8080, {})
    old["spec"]["template"]["spec"] = street.deployment_before["spec"]["template"]["spec"]
    street.admin.merge_patch(DEPLOYMENTS.at(*PLACE), old, intent=Intent.NEUTRAL)
    street.tidied()
    all_is_back(street, manifests.OLD)


def test_the_sentinel_empties_the_slice_of_a_dead_controller_within_thirty_seconds():
    street = SliceStreet(policy={"bake": {"duration": "1000s"}})
    street.admin.create(NAMESPACES, manifests.namespace(SYSTEM), intent=Intent.NEUTRAL)
    heartbeat = LEASES.at(SYSTEM, HEARTBEAT_LEASE)
    Heartbeat(street.admin, heartbeat, "controller", clock=street.clock).beat()
    transport = street.cluster.transport(User("system:serviceaccount:canary-system:canary-sentinel"))
    client = Client(transport, fence=NeverOpen(), manager=FieldManager.SENTINEL, clock=street.clock)
    sentinel = Sentinel(client, heartbeat, street.clock)
    street.push()
    street.sliced()
    Heartbeat(street.admin, heartbeat, "controller", clock=street.clock).beat()
    began = street.clock.monotonic()
    while street.named() and street.clock.monotonic() < began + 60:
        street.cluster.controllers.step()
        street.clock.run_for(LOOK_SECONDS)
        sentinel.look()
    assert street.named() == []
    assert street.clock.monotonic() - began <= 30.0
    street.restart()
    street.run_for(10)
    assert not street.breaches, street.told()


def test_a_person_empties_the_slice_by_what_the_run_or_the_slice_itself_keeps():
    """As `canary abort --now` does it: with the controller gone, and with every record of the run gone, too."""
    for from_run in (True, False):
        street = SliceStreet(policy={"bake": {"duration": "1000s"}})
        street.push()
        street.sliced()
        stored = street.stored("EndpointSlice", SIDE)
        grip = grip_of_run(StoredRun(street._newest()))
        assert grip is not None
        places = grip.places if from_run else places_on("endpointslices", stored)
        cut = Cut(manifests.NAMESPACE, manifests.NAME, SIDE, "cli-1")
        receipt = kill(ClientHands(street.admin), cut, places)
        assert len(receipt.written) == 1
        assert street.named() == []


def test_where_the_deployment_is_deleted_the_last_good_version_gets_everything():
    street = SliceStreet(policy={"bake": {"duration": "1000s"}})
    street.push()
    street.sliced()
    street.cluster.store.delete(street.cluster.store.kinds.named("Deployment"), PLACE)
    street.until(Phase.SUPERSEDED)
    street.run_for(5)
    assert len(street.named()) == 4
    assert all(name.startswith(f"{manifests.NAME}-lastgood") for name in street.named())
    assert street.serving() == 0
    assert standing(StoredRun(street._newest()), Scene(street.clock.now())).text.startswith("CUSTOMERS SAFE")
    again = manifests.deployment(4, 8080)
    street.admin.create(DEPLOYMENTS, again, intent=Intent.NEUTRAL)
    assert street.run_until(lambda: street.named() == [] and street.serving() == 4, 120), street.told()


class WithoutTheRight:
    """A way to an API server that lets nobody make an EndpointSlice."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        if method == "POST" and path.endswith("/endpointslices"):
            said = "endpointslices.discovery.k8s.io is forbidden"
            return Response(403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": said}, {})
        return self._inner.request(method, path, query=query, body=body, content_type=content_type)

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        return self._inner.stream(path, query)


def test_where_the_right_to_slices_was_not_given_the_policy_says_which_value_gives_it():
    street = SliceStreet(wire=WithoutTheRight)
    street.push()
    street.run_for(20)
    status = street.stored("CanaryPolicy")["status"]
    assert not status.get("adopted")
    assert "install it with endpointSlices: true" in status["refusals"][0]
    assert not street.stored("Deployment")["spec"].get("paused")
