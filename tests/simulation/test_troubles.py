"""Runs in a bad world: a busy API server, a bad network, two controllers at once, a clock that jumps.

Every run must end where it ends in a good one, with everything given back, and the route never above the intent.
CANARY_SIMULATIONS=N plays N seeds of each instead of the few that every test run plays.
"""

import os
from collections.abc import Callable, Mapping
from random import Random

import pytest
from sim_faults import Odds, Troubled, asked
from sim_street import COLLAPSE, PLACE, Street, everything_is_back

from canary.api.marks import Mark
from canary.api.reasons import Phase, Reason, Verb
from canary.kube.client import Intent
from canary.kube.resources import HTTPROUTES, PODS
from canary.kube.transport import Response, Transport
from canary.lab import manifests
from canary.lab.rehearsal.scenario import build_controller
from canary.operator.controller import Controller

GIVEN = os.environ.get("CANARY_SIMULATIONS", "")
SEEDS = int(GIVEN) if GIVEN.isdecimal() else 0
BAD = Odds(refused=0.06, unsent=0.04, unheard=0.05, lost=0.2)
MILD = Odds(refused=0.01, unsent=0.01, unheard=0.01, lost=0.2)
HOUR = 3600.0


def seeds(few: int) -> range:
    return range(1, 1 + (SEEDS or few))


# -- a bad network -----------------------------------------------------------------------------------------------------


def on_a_bad_network(seed: int, bug: Mapping[str, str], end: Phase, odds: Odds = BAD) -> Street:
    """Play a road over a bad network; a run that was paused for blindness is resumed, as a person would."""
    troubled = Troubled(seed, odds)
    troubled.calm = True
    street = Street(seed=seed, wire=troubled.wire)
    troubled.calm = False
    street.push(bug)
    for _ in range(20):
        street.until(end, Phase.PAUSED, limit=3000)
        if street.phase is end:
            break
        assert street.run.status.pause is not None
        assert street.run.status.pause.reason == Reason.BLIND, street.told()
        assert street.run_until(lambda: street.route_ppm() == 0, 10), street.told()
        street.ask(Verb.RESUME)
        street.run_for(5)
    troubled.calm = True
    street.tidied(limit=900)
    assert troubled.troubles > 0
    assert not street.run.status.held_by, street.told()
    return street


@pytest.mark.parametrize("seed", seeds(14))
def test_a_collapse_is_rolled_back_over_a_bad_network(seed: int):
    after = Random(seed).choice([0, 0, 7, 20])
    street = on_a_bad_network(seed, {**COLLAPSE, "SHOP_BUG_AFTER": f"{after}"}, Phase.ROLLED_BACK)
    everything_is_back(street, manifests.OLD)


@pytest.mark.parametrize("seed", seeds(2))
def test_a_healthy_version_is_promoted_over_a_bad_network(seed: int):
    everything_is_back(on_a_bad_network(seed, {}, Phase.PROMOTED, MILD), manifests.NEW)


# -- two controllers ---------------------------------------------------------------------------------------------------


class Pair(Street):
    """Two controllers that both believe that they lead; seeded turns, each with what it last saw."""

    def begin(self, seed: int) -> None:
        self.turns = Random(seed)
        self.both = [
            self.controller,
            build_controller(self.cluster, self.clock, self.shop, self.setting),
        ]
        self.controller = self.both[0]

    def next_turn(self) -> None:
        """Let one of the two act for a moment that ends within a few calls' time."""
        self.controller = self.turns.choice(self.both)
        self.run_for(self.turns.choice([0.05, 0.3, 1.0, 3.1]))


@pytest.mark.parametrize("seed", seeds(12))
def test_two_controllers_at_once_never_give_more_than_the_intent(seed: int):
    street = Pair(seed=seed)
    street.begin(seed)
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": f"{street.turns.choice([0, 5])}"})
    for _ in range(400):
        street.next_turn()
        if street.phase.final and street.run.status.tidied_at:
            break
    street.run_for(2)
    assert street.phase is Phase.ROLLED_BACK, street.told()
    everything_is_back(street, manifests.OLD)


@pytest.mark.parametrize("seed", seeds(12))
def test_a_controller_that_comes_back_from_a_long_pause_in_the_middle_of_a_look_raises_nothing(seed: int):
    """The first controller stands still before one of its calls while the second one decides; then it goes on."""
    turns = Random(seed)
    stalled = Stalled(turns.randrange(1, 30))
    street = Street(seed=seed, wire=stalled.wire)
    second = build_controller(street.cluster, street.clock, street.shop, street.setting)
    stalled.meanwhile = lambda: lead(street, second, turns.choice([1.0, 4.0, 9.0]))
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "2"})
    stalled.armed = True
    street.until(Phase.ROLLED_BACK, limit=200).tidied()
    assert stalled.happened
    without_the_mark_of_a_late_rollback(street)
    everything_is_back(street, manifests.OLD)


@pytest.mark.parametrize("seconds", [4.0, 9.0])
def test_a_rollback_write_that_comes_when_all_was_given_back_is_taken_away_by_the_next_run(seconds: float):
    """It needs nothing and asks nobody, so nothing keeps it from a route that is no longer ours."""
    stalled = Stalled(0)
    street = Street(wire=stalled.wire)
    second = build_controller(street.cluster, street.clock, street.shop, street.setting)
    stalled.meanwhile = lambda: lead(street, second, seconds)
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "2"})
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    stalled.kills = True
    street.until(Phase.ROLLED_BACK, limit=200).tidied()
    assert stalled.happened
    left = int(street.stored("HTTPRoute")["metadata"]["annotations"][Mark.EPOCH])
    street.push(version="v2.32.0")
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    assert int(street.stored("HTTPRoute")["metadata"]["annotations"][Mark.EPOCH]) > left, (
        "no brake was tested"
    )
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, "v2.32.0")


def without_the_mark_of_a_late_rollback(street: Street) -> None:
    marks = street.stored("HTTPRoute")["metadata"].get("annotations") or {}
    if marks and marks.keys() <= {Mark.EPOCH, Mark.WEIGHT} and marks[Mark.WEIGHT] == "0":
        gone = {"metadata": {"annotations": None}}
        street.admin.merge_patch(HTTPROUTES.at(*PLACE), gone, intent=Intent.NEUTRAL)


def lead(street: Street, second: Controller, seconds: float) -> None:
    """Let the second controller lead for a while; then the first one goes on where it stood."""
    first, street.controller = street.controller, second
    street.run_for(seconds)
    street.controller = first


class Stalled:
    """A process that is stopped before its n-th write, and does not notice."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.armed = False
        self.kills = False
        """Stop before the next write of a route instead."""
        self.happened = False
        self.meanwhile: Callable[[], None] = lambda: None

    def wire(self, transport: Transport) -> Transport:
        return asked(transport, self._ask)

    def _ask(self, method: str, path: str, send: Callable[[], Response]) -> Response:
        if self.kills and method == "PATCH" and "/httproutes/" in path:
            self.happened, self.kills = True, False
            self.meanwhile()
        if self.armed and method != "GET":
            self._left -= 1
            if self._left == 0:
                self.happened, self.armed = True, False
                self.meanwhile()
        return send()


# -- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_while_exposed_costs_no_more_than_a_blind_time(hours: int):
    """Either looks go on to be used after the jump, or the run is paused for blindness."""
    street = Street()
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.run_for(15)
    street.clock.jump_wall(hours * HOUR)
    street.run_for(40)
    exposed = street.route_ppm() > 0
    sampled = street.run.status.analysis.sampled_at
    fresh = sampled is not None and abs((street.clock.now() - sampled).total_seconds()) < 15
    assert not exposed or fresh, f"exposed and judged by nothing: {street.told()}"
    assert street.phase is not Phase.ROLLED_BACK, "a clock is no evidence against a version"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_collapse_after_a_jump_of_the_clock_is_stopped(hours: int):
    street = Street()
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "20"})
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.run_for(12)
    street.clock.jump_wall(hours * HOUR)
    assert street.run_until(lambda: street.route_ppm() == 0, 40), street.told()
    lost = sum(truth.missing for truth in street.shop.truths)
    assert lost < 250 * 15, street.told()


@pytest.mark.parametrize(
    "phase", [Phase.PREPARING, Phase.BAKING, Phase.COMMITTING, Phase.RETURNING, Phase.PROMOTED]
)
def test_a_clock_that_is_put_forward_ends_no_run_in_the_wrong_place(phase: Phase):
    street = Street()
    street.push()
    street.until(phase)
    street.clock.jump_wall(HOUR)
    street.until(Phase.PROMOTED, Phase.ROLLED_BACK, limit=300).tidied()
    if street.phase is Phase.PROMOTED:
        everything_is_back(street, manifests.NEW)
        return
    assert phase is Phase.PREPARING, street.told()  # an hour is longer than a preparation may take
    everything_is_back(street, manifests.OLD)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING])
def test_after_a_clock_was_put_back_an_abort_still_takes_all_traffic_away(phase: Phase):
    street = Street()
    street.push()
    street.until(phase)
    street.clock.jump_wall(-HOUR)
    street.run_for(20)
    street.ask(Verb.ABORT)
    street.until(Phase.ROLLING_BACK, Phase.ABORTED, limit=5)
    assert street.route_ppm() == 0
    street.until(Phase.ABORTED, limit=15).tidied(limit=30)
    everything_is_back(street, manifests.OLD)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_rollback_is_verified_though_the_clock_was_put_back_in_the_middle_of_it(restarts: bool):
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    street.run_for(20)
    street.ask(Verb.ABORT)
    street.until(Phase.ROLLING_BACK, limit=5)
    street.clock.jump_wall(-HOUR)
    if restarts:
        street.restart()
    street.until(Phase.ABORTED, limit=15).tidied(limit=30)
    assert street.run.status.traffic.zero_verified_at is not None
    everything_is_back(street, manifests.OLD)


@pytest.mark.parametrize("phase", [Phase.BAKING, Phase.COMMITTING, Phase.RETURNING, Phase.PROMOTED])
def test_a_clock_that_is_put_back_makes_nobody_wait_for_it(phase: Phase):
    street = Street()
    street.push()
    street.until(phase)
    street.clock.jump_wall(-HOUR)
    street.until(Phase.PROMOTED, Phase.PAUSED, limit=60)
    if street.phase is Phase.PAUSED:
        assert phase is Phase.BAKING, street.told()  # blind, and without traffic
        street.ask(Verb.ABORT)
        street.until(Phase.ABORTED, limit=15)
    street.tidied(limit=30)
    everything_is_back(street, manifests.OLD if street.phase is Phase.ABORTED else manifests.NEW)


# -- pods of others ----------------------------------------------------------------------------------------------------


def test_pods_of_others_that_have_the_service_s_labels_are_named_until_they_are_gone():
    street = Street()
    labels = {"labels": {"app": manifests.NAME}}
    pod = PODS.at(manifests.NAMESPACE, "stranger").manifest(
        labels, spec={"containers": [{"name": "x", "image": "x:1"}]}
    )
    made = street.admin.create(PODS, pod, intent=Intent.NEUTRAL)

    def named() -> object:
        return street.stored("CanaryPolicy")["status"].get("strangers")

    assert street.run_until(lambda: named() == ["stranger"], 600.0), street.told()
    ready = next(c for c in street.stored("CanaryPolicy")["status"]["conditions"] if c["type"] == "Ready")
    assert "customers also reach stranger" in ready["message"]
    street.admin.delete(
        PODS.at(manifests.NAMESPACE, "stranger"), uid=made["metadata"]["uid"], intent=Intent.NEUTRAL
    )
    assert street.run_until(lambda: not named(), 600.0), street.told()
