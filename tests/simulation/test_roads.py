"""Every road that a run takes by its evidence, on simulated time: where it ends, and that everything is given back."""

from collections.abc import Callable

import pytest
from sim_faults import asked
from sim_street import (
    COLLAPSE,
    PLACE,
    Street,
    everything_is_back,
    only_the_lock_and_the_change_moved,
    patch,
    short_policy,
)

from canary.api.reasons import PPM, MissingReason, Phase, Reason, Verb
from canary.api.run import Effect
from canary.core.decision import Limits
from canary.core.evidence import Missing
from canary.kube.client import Client, Intent
from canary.kube.resources import HTTPROUTES
from canary.kube.transport import Response, Transport
from canary.lab import manifests
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.shop.worlds import World

NO_ANSWER = Missing(MissingReason.UNAVAILABLE, "the pod does not answer")
FAULTS = {
    "order-collapse": (COLLAPSE, Reason.ORDERS_COLLAPSED),
    "late-promises": ({"SHOP_BUG": "late-promises"}, Reason.EXTRA_WORSENED),
    "error-burst": ({"SHOP_BUG": "error-burst", "SHOP_BUG_DROP": "0.05"}, Reason.ERRORS_ROSE),
    "slow": ({"SHOP_BUG": "slow", "SHOP_BUG_DROP": "0.1"}, Reason.SLOW_ROSE),
    "memory-leak": ({"SHOP_BUG": "memory-leak"}, Reason.ORDERS_COLLAPSED),
}


# -- promoted --------------------------------------------------------------------------------------------------------


def test_a_healthy_version_is_promoted_and_nothing_of_ours_is_left():
    street = Street()
    street.push()
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, manifests.NEW)
    only_the_lock_and_the_change_moved(street, manifests.NEW)
    truths = {truth.version: truth for truth in street.shop.truths}
    assert truths[manifests.NEW].missing == 0


def test_a_promoted_run_keeps_the_numbers_that_promoted_it():
    """At 100 % nobody is left to compare with: what counts is what was compared in the step before."""
    street = Street(policy=short_policy(steps=[{"weight": "5%"}, {"weight": "100%"}]))
    street.push()
    assert street.run_until(lambda: street.route_ppm() == PPM, 300), street.told()
    orders = effect_of(street, "orders")
    assert float(orders.expected) > 100, street.told()
    street.until(Phase.PROMOTED).tidied()
    assert effect_of(street, "orders") == orders
    analysis = street.run.status.analysis
    assert (analysis.orders, analysis.orders_expected) == (orders.seen, orders.expected)
    note = next(each for each in street.run.status.notices if each.reason == Reason.PROMOTED)
    assert f"{float(orders.seen):,.0f} orders of {float(orders.expected):,.0f} expected" in note.body


def effect_of(street: Street, name: str) -> Effect:
    """Return what the stored run says of a monitor, less its evidence, which goes on growing."""
    found = next(each for each in street.run.status.analysis.effects if each.name == name)
    return found.model_copy(update={"evidence_log10": ""})


def test_a_step_that_asks_for_a_person_waits_for_one():
    street = Street(policy=short_policy(steps=[{"weight": "5%", "approval": True}]))
    street.push()
    street.run_for(60)
    assert street.run.status.reason == Reason.APPROVALS_MISSING
    assert street.route_ppm() == 0
    street.ask(Verb.PROMOTE)
    assert street.run_until(lambda: street.route_ppm() > 0, 20), street.told()


def test_a_promote_to_a_weight_goes_there_and_no_further():
    steps = [{"weight": "5%"}, {"weight": "20%"}, {"weight": "100%"}]
    street = Street(policy=short_policy(steps=steps))
    street.push()
    assert street.run_until(lambda: street.route_ppm() == 50_000, 60), street.told()
    refused = street.ask(Verb.PROMOTE, to="30%")
    street.run_for(2)
    answer = street.stored("CanaryRequest", refused)["status"]
    assert (answer["outcome"], answer["message"]) == (
        "Refused",
        "no step to come has 30 %; they are 20 %, 100 %",
    )
    street.ask(Verb.PROMOTE, to="20%")
    street.run_for(300)
    assert street.route_ppm() == 200_000, street.told()
    assert street.phase is Phase.PROGRESSING


def test_a_careful_ramp_without_approvals_runs_for_twenty_minutes_without_a_false_rollback():
    policy = {"source": {"scrape": {"port": "http", "path": "/metrics", "every": "5s"}}}
    street = Street(world=World(rate=300.0), policy=policy)
    street.push()
    street.run_for(1200)
    status = street.run.status
    assert status.phase in (Phase.PROGRESSING, Phase.BAKING), street.told()
    assert status.traffic.weight_ppm >= 250_000, street.told()
    assert not street.breaches


@pytest.mark.parametrize(("bug", "phase"), [({}, Phase.PROMOTED), (COLLAPSE, Phase.ROLLED_BACK)])
def test_the_policy_says_how_its_run_ended_as_soon_as_it_has(bug: dict[str, str], phase: Phase):
    street = Street()
    street.push(bug)
    street.until(phase)
    status = street.stored("CanaryPolicy")["status"]
    assert (status.get("lastRun"), status.get("lastOutcome")) == (street.run.name, phase.value)


# -- rolled back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_rolled_back_for_what_it_is(fault: str):
    bug, reason = FAULTS[fault]
    street = Street()
    street.push(bug)
    street.until(Phase.ROLLED_BACK, limit=900).tidied()
    everything_is_back(street, manifests.OLD)
    assert street.run.status.timeline[-1].reason in (reason, Reason.ORDERS_LOST_BY_WEIGHT), street.told()


@pytest.mark.parametrize("seconds", [0.0, 60.0, 1200.0])
def test_a_collapse_costs_few_orders_whenever_it_comes(seconds: float):
    policy = {
        "source": {"scrape": {"port": "http", "path": "/metrics", "every": "1s" if seconds < 100 else "3s"}}
    }
    street = Street(world=World(rate=100.0), policy=policy, limits=Limits())
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": f"{seconds:g}"})
    street.until(Phase.ROLLED_BACK, limit=2000).tidied()
    everything_is_back(street, manifests.OLD)
    lost = sum(truth.missing for truth in street.shop.truths)
    assert 0 < lost <= (40 if seconds < 100 else 200), street.told()


def test_a_crash_loop_loses_its_traffic_and_a_person_decides():
    street = Street()
    street.push({"SHOP_BUG": "crash-loop", "SHOP_BUG_AFTER": "20"})
    street.until(Phase.PAUSED, Phase.ROLLED_BACK, limit=200)
    assert street.route_ppm() == 0
    street.ask(Verb.ABORT)
    street.until(Phase.ABORTED, Phase.ROLLED_BACK).tidied()
    everything_is_back(street, manifests.OLD)


def test_a_version_that_never_becomes_ready_is_rolled_back_without_any_traffic():
    street = Street(policy=short_policy(prepareWithin="30s"))
    street.push({"SHOP_BUG": "no-such-bug"})  # the container cannot start
    street.until(Phase.ROLLED_BACK).tidied()
    assert street.run.status.timeline[-1].reason == Reason.PREPARATION_EXPIRED
    assert street.run.status.exposed_at is None
    everything_is_back(street, manifests.OLD)


# -- paused ----------------------------------------------------------------------------------------------------------


def test_a_pipeline_that_resets_the_route_pauses_the_run_at_no_traffic():
    street = Street()
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    patch(street, {"rules": street.route_before["spec"]["rules"]}, HTTPROUTES)
    street.until(Phase.PAUSED)
    assert street.run.status.pause is not None
    assert street.run.status.pause.reason == Reason.ROUTE_LOST
    assert street.route_ppm() == 0
    street.ask(Verb.RESUME)
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, manifests.NEW)


def test_a_foreign_raise_is_taken_back():
    """The guard refuses it; without the guard it is seen and lowered."""
    street = Street()
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    route = street.stored("HTTPRoute")
    refs = [{**ref, "weight": 500_000} for ref in route["spec"]["rules"][0]["backendRefs"]]
    stranger = Client(street.cluster.transport(User(CONTROLLER)), clock=street.clock)
    rules = [{**route["spec"]["rules"][0], "backendRefs": refs}]
    street.breaches.clear()
    stranger.merge_patch(HTTPROUTES.at(*PLACE), {"spec": {"rules": rules}}, intent=Intent.NEUTRAL)
    assert len(street.breaches) == 1, "the witness saw the foreign raise"
    street.breaches.clear()
    street.run_for(5)
    assert street.phase is Phase.PAUSED, street.told()
    assert street.route_ppm() == 0


def test_a_blind_controller_takes_the_traffic_away():
    street = Street(policy=short_policy(steps=[{"weight": "5%"}, {"weight": "100%", "approval": True}]))
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.run_for(10)
    street.shop.show_through(lambda _: NO_ANSWER)
    street.until(Phase.PAUSED, limit=30)
    assert street.run.status.pause is not None
    assert street.run.status.pause.reason == Reason.BLIND
    assert street.route_ppm() == 0
    street.shop.show_through()
    street.ask(Verb.RESUME)
    street.until(Phase.PROMOTED)


def test_blindness_is_measured_by_its_limit_and_not_by_the_pace_of_the_policy():
    """Eight seconds without an answer are less than the limit, sixteen would be far more: looks come in between."""
    street = Street(policy={"source": {"scrape": {"port": "http", "path": "/metrics", "every": "8s"}}})
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 300), street.told()
    street.run_for(40)
    street.shop.show_through(lambda _: NO_ANSWER)
    assert street.run_until(lambda: street.run.status.analysis.blind_since is not None, 9), street.told()
    assert street.run_until(lambda: street.route_ppm() == 0, 5), street.told()


def test_a_resumed_run_is_blind_only_for_the_time_in_which_it_is_exposed():
    street = Street()
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.run_for(10)
    street.shop.show_through(lambda _: NO_ANSWER)
    street.until(Phase.PAUSED, limit=30)
    street.run_for(60)
    street.shop.show_through()
    street.ask(Verb.RESUME)
    assert street.run_until(lambda: street.route_ppm() > 0, 30), street.told()
    street.shop.show_through(lambda _: NO_ANSWER)
    street.run_for(6)
    street.shop.show_through()
    street.until(Phase.PROMOTED)
    pauses = [entry for entry in street.run.status.timeline if entry.phase is Phase.PAUSED]
    assert len(pauses) == 1, street.told()


# -- what never begins -----------------------------------------------------------------------------------------------
def test_what_a_preparation_left_half_made_is_given_back():
    street = Street(wire=without_deployments, policy=short_policy(prepareWithin="30s"))
    street.push()
    street.until(Phase.ROLLED_BACK, limit=300)
    street.tidied()
    everything_is_back(street, manifests.OLD)


def without_deployments(transport: Transport) -> Transport:
    """Let nobody create a Deployment, as a quota would."""

    def ask(method: str, path: str, send: Callable[[], Response]) -> Response:
        if (method, path.rpartition("/")[2]) == ("POST", "deployments"):
            return Response(403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "quota"})
        return send()

    return asked(transport, ask)


def test_a_counter_that_no_pod_has_is_said_before_anything_starts():
    street = Street()
    hint = "no metric orders_totl; did you mean orders_total?"
    street.shop.show_through(lambda _: Missing(MissingReason.ABSENT, hint))
    patch(street, {"analysis": {"orders": {"counter": "orders_totl"}}})
    street.run_for(20)
    assert_not_ready(street, hint)
    street.push()
    street.run_for(20)
    assert_not_ready(street, hint)
    assert street.runs == []
    street.shop.show_through()
    patch(street, {"analysis": {"orders": {"counter": "orders_total"}}})
    street.until(Phase.PROMOTED).tidied()


def assert_not_ready(street: Street, hint: str) -> None:
    said = {each["type"]: each for each in street.stored("CanaryPolicy")["status"]["conditions"]}
    assert (said["Ready"]["status"], said["Stalled"]["status"]) == ("False", "True")
    assert hint in said["Ready"]["message"]
    assert street.stored("Deployment")["spec"]["paused"] is True
