"""The brake against a store that others write at the same time, and its independence of everything heavy."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from canary.api.marks import Mark
from canary.errors import UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.resources import HTTPROUTES, NAMESPACES
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock
from canary.lab.contracts.router import Bed
from canary.traffic.brake import ATTEMPTS, Cut, Place, kill, places_on
from canary.traffic.httproute import HTTPRouteRouter, RouteBrake
from canary.traffic.route_hands import ClientHands

CUT = Cut("shop", "checkout", "checkout-canary", "epoch-1")


@pytest.fixture
def bed() -> Bed:
    clock = SimClock()
    client = Client(InProcessTransport(ApiServer(Store(clock)), User("tester")), clock=clock)
    client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
    return Bed(client, HTTPRouteRouter(client), RouteBrake(client))


class Crowded:
    """Real hands, with somebody else who acts just before each of our patches."""

    def __init__(self, bed: Bed, meddle: Callable[[], None]) -> None:
        self._hands = ClientHands(bed.client)
        self._meddle = meddle
        self.reads = 0

    def read(self, resource: str, namespace: str, name: str) -> Any:
        self.reads += 1
        return self._hands.read(resource, namespace, name)

    def patch(self, resource: str, namespace: str, name: str, operations: Sequence[dict[str, Any]]) -> Any:
        self._meddle()
        return self._hands.patch(resource, namespace, name, operations)


def places(bed: Bed) -> tuple[Place, ...]:
    return places_on("httproutes", bed.stored())


def swap(bed: Bed) -> None:
    refs = bed.stored()["spec"]["rules"][0]["backendRefs"]
    bed.edit([{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": refs[::-1]}])


def exposed(bed: Bed) -> bool:
    return any(weights.get("checkout-canary", 0) > 0 for weights in bed.weights())


def test_a_kill_reads_nothing_where_the_names_stand_where_they_stood(bed: Bed):
    bed.make_route()
    bed.attach()
    bed.give(500_000)
    hands = Crowded(bed, lambda: None)
    receipt = kill(hands, CUT, places(bed))
    assert not exposed(bed)
    assert hands.reads == 0
    assert receipt.written[0].version == bed.stored()["metadata"]["resourceVersion"]
    assert bed.stored()["metadata"]["annotations"][Mark.EPOCH] == "epoch-1"


def test_a_kill_wins_against_somebody_who_rearranges_the_rule_now_and_then(bed: Bed):
    bed.make_route()
    bed.attach()
    bed.give(500_000)
    known, turns = places(bed), iter([swap, swap, swap])
    hands = Crowded(bed, lambda: next(turns, lambda _: None)(bed))
    kill(hands, CUT, known)
    assert not exposed(bed)
    assert bed.weights()[0]["checkout"] == 1_000_000


def test_a_kill_that_is_outrun_every_time_says_so_after_a_bounded_number_of_attempts(bed: Bed):
    bed.make_route()
    bed.attach()
    bed.give(500_000)
    hands = Crowded(bed, lambda: swap(bed))
    with pytest.raises(UnavailableError, match="may still have traffic"):
        kill(hands, CUT, places(bed))
    assert hands.reads == 1 + ATTEMPTS


def test_one_route_out_of_reach_does_not_keep_another_one_exposed(bed: Bed):
    bed.make_route("app")
    bed.make_route("web")
    bed.attach()
    bed.give(500_000)

    class HalfDead(Crowded):
        def patch(
            self, resource: str, namespace: str, name: str, operations: Sequence[dict[str, Any]]
        ) -> Any:
            if name == "app":
                raise UnavailableError("no answer")
            return super().patch(resource, namespace, name, operations)

    all_places = (*places_on("httproutes", bed.stored("app")), *places(bed))
    with pytest.raises(UnavailableError, match="no answer"):
        kill(HalfDead(bed, lambda: None), CUT, all_places)
    assert all(weights["checkout-canary"] == 0 for weights in bed.weights("web"))


def test_a_rule_that_stored_places_do_not_know_is_found_in_the_answer(bed: Bed):
    bed.make_route()
    bed.attach()
    bed.give(500_000)
    known = places(bed)[:1]
    kill(ClientHands(bed.client), CUT, known)
    assert not exposed(bed)


def test_a_route_without_annotations_can_still_be_killed(bed: Bed):
    bed.make_route()
    bed.attach()
    bed.give(500_000)
    known = places(bed)
    bed.edit([{"op": "remove", "path": "/metadata/annotations"}])
    kill(ClientHands(bed.client), CUT, known)
    assert not exposed(bed)
    assert bed.stored()["metadata"]["annotations"][Mark.EPOCH] == "epoch-1"


@pytest.mark.parametrize("broken", ["{", "[[1]]", "7", '[["a", 0, 1]]'])
def test_places_that_somebody_broke_on_the_route_are_read_from_its_rules(bed: Bed, broken: str):
    bed.make_route()
    bed.attach()
    right = places(bed)
    bed.client.merge_patch(
        HTTPROUTES.at("shop", "web"),
        {"metadata": {"annotations": {Mark.KILL.value: broken}}},
        intent=Intent.NEUTRAL,
    )
    assert places(bed) == right


def test_a_coordinate_of_a_run_s_status_is_a_place():
    raw = {"name": "web", "rule": 1, "canary": 2, "stable": 0}
    assert Place.of_status(raw) == Place("httproutes", "web", 1, 2, 0)
    assert Place.of_status({**raw, "resource": "grpcroutes"}).resource == "grpcroutes"


def test_the_brake_loads_nothing_heavy():
    program = (
        "import sys, canary.traffic.brake\n"
        "heavy = {'pydantic', 'kubernetes', 'urllib3', 'yaml', 'rich'} & set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
