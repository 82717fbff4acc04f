"""Every road on which a person or a pipeline leads a run, on simulated time: where it ends, and what is given back."""

import pytest
from sim_street import (
    COLLAPSE,
    PLACE,
    Street,
    everything_is_back,
    patch,
    reapply_the_old_manifest,
    short_policy,
    side_weights,
)

from canary.api.reasons import PPM, Phase, Reason, Verb
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, HTTPROUTES
from canary.lab import manifests
from canary.lab.apiserver.admission import User

# -- aborted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING])
def test_an_abort_before_the_commit_gives_everything_back(phase: Phase):
    street = Street(policy=short_policy(bake={"duration": "20s"}))
    street.push()
    street.until(phase)
    street.run_for(2.0)
    name = street.ask(Verb.ABORT)
    street.until(Phase.ABORTED).tidied()
    everything_is_back(street, manifests.OLD)
    assert street.stored("CanaryRequest", name)["status"]["outcome"] == "Done"
    assert street.run.status.actor == "dana"


def test_an_abort_of_a_paused_run_gives_everything_back():
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    street.run_for(5)
    patch(street, {"rules": street.route_before["spec"]["rules"]}, HTTPROUTES)
    street.until(Phase.PAUSED)
    street.ask(Verb.ABORT)
    street.until(Phase.ABORTED).tidied()
    everything_is_back(street, manifests.OLD)


@pytest.mark.parametrize("phase", [Phase.COMMITTING, Phase.RETURNING])
def test_after_the_commit_the_last_good_version_gets_pods_of_its_own(phase: Phase):
    street = Street()
    street.push()
    street.until(phase)
    street.ask(Verb.ABORT)
    street.until(Phase.ABORTED)
    street.run_for(30)
    assert side_weights(street.stored("HTTPRoute")).get("checkout-lastgood") == PPM, street.told()
    before = served(street)
    street.run_for(5)
    assert served(street)[manifests.NEW] == before[manifests.NEW], "the aborted version serves on"
    assert served(street)[manifests.OLD] > before[manifests.OLD]
    reapply_the_old_manifest(street)
    street.tidied()
    everything_is_back(street, manifests.OLD)


def served(street: Street) -> dict[str, int]:
    totals = {manifests.OLD: 0, manifests.NEW: 0}
    for truth in street.shop.truths:
        totals[truth.version] += truth.requests
    return totals


# -- superseded ------------------------------------------------------------------------------------------------------


def test_a_newer_change_starts_from_zero():
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    street.run_for(10)
    street.push(version="v2.32.0")
    first = street.run
    assert street.run_until(lambda: street.run.uid != first.uid, 60), street.told()
    assert street.phase_of(first) is Phase.SUPERSEDED
    assert street.run.spec.revision.version == "v2.32.0"
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, "v2.32.0")


@pytest.mark.parametrize(("phase", "waits"), [(Phase.PREPARING, False), (Phase.PROGRESSING, True)])
def test_a_newer_change_waits_for_the_drain_of_a_run_that_had_traffic(phase: Phase, waits: bool):
    street = Street(policy=short_policy(drain="60s"))
    street.push()
    street.until(phase)
    street.run_for(5 if waits else 2)
    assert (street.route_ppm() > 0) is waits, street.told()
    assert "checkout-canary" in side_weights(street.stored("HTTPRoute")), street.told()
    first = street.run
    street.push(version="v2.32.0")
    assert street.run_until(lambda: street.run.uid != first.uid, 20) is not waits, street.told()
    assert street.phase_of(first) is Phase.SUPERSEDED
    assert street.run_until(lambda: street.run.uid != first.uid, 60), street.told()


def test_a_change_that_is_taken_back_ends_its_run():
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    street.run_for(10)
    reapply_the_old_manifest(street)
    street.until(Phase.SUPERSEDED).tidied()
    everything_is_back(street, manifests.OLD)
    assert len(street.runs) == 1


def test_an_edited_policy_starts_a_run_of_its_own():
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    street.run_for(10)
    patch(street, {"steps": [{"weight": "10%"}, {"weight": "100%", "approval": True}]})
    first = street.run
    assert street.run_until(lambda: street.run.uid != first.uid, 60), street.told()
    assert street.phase_of(first) is Phase.SUPERSEDED
    assert street.run.spec.steps[0].weight == 100_000
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, manifests.NEW)


def test_a_policy_that_goes_gives_everything_back_and_keeps_the_hold():
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    street.run_for(10)
    uid = street.stored("CanaryPolicy")["metadata"]["uid"]
    street.admin.delete(CANARYPOLICIES.at(*PLACE), uid=uid, intent=Intent.NEUTRAL)
    street.until(Phase.ABORTED).tidied()
    everything_is_back(street, manifests.OLD)
    assert street.stored("Deployment")["spec"]["paused"] is True


def test_a_policy_that_only_observes_lets_go():
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    street.run_for(10)
    patch(street, {"mode": "Observe"})
    street.until(Phase.ABORTED).tidied()
    everything_is_back(street, manifests.OLD)


# -- rejected, held, resumed -----------------------------------------------------------------------------------------


def test_a_rejected_change_never_gets_traffic():
    street = Street()
    street.push()
    street.until(Phase.PREPARING)
    street.ask(Verb.REJECT, digest=street.run.spec.digest)
    street.until(Phase.REJECTED).tidied()
    everything_is_back(street, manifests.OLD)
    assert street.run.status.exposed_at is None


def test_a_hold_keeps_the_weight_until_somebody_resumes():
    steps = [{"weight": "5%"}, {"weight": "20%"}, {"weight": "100%", "approval": True}]
    street = Street(policy=short_policy(steps=steps))
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.ask(Verb.HOLD)
    street.run_for(150)
    assert street.route_ppm() == 50_000, street.told()
    assert street.run.status.held_by == "dana"
    street.ask(Verb.RESUME)
    assert street.run_until(lambda: street.route_ppm() == 200_000, 60), street.told()


def test_a_hold_does_not_hold_a_rollback():
    street = Street()
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "20"})
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.ask(Verb.HOLD)
    street.until(Phase.ROLLED_BACK)


def test_a_held_change_of_a_machine_is_resumed_by_a_person():
    agent = User("system:serviceaccount:ci:kiro")
    street = Street()
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.ask(Verb.HOLD, user=agent)
    street.run_for(5)
    assert street.run.status.held_by == agent.name
    street.ask(Verb.RESUME)
    street.until(Phase.PROMOTED)


# -- again -----------------------------------------------------------------------------------------------------------


def test_a_version_that_was_taken_back_starts_nothing_by_itself():
    street = Street()
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    reapply_the_old_manifest(street)
    street.run_for(20)
    street.push(COLLAPSE)
    street.run_for(60)
    assert len(street.runs) == 1, "the rejected version was tried again"
    assert street.route_ppm() == 0
    ready = next(c for c in street.stored("CanaryPolicy")["status"]["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == Reason.REJECTED_BEFORE


def test_a_retry_tries_again_once_and_then_asks_for_a_fix():
    street = Street()
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    first = street.ask(Verb.RETRY)
    assert street.run_until(lambda: street.run.spec.attempt == 2, 30), street.told()
    street.until(
        Phase.ROLLED_BACK, limit=20
    ).tidied()  # the first run, whose page is still owed, leaves it alone
    second = street.ask(Verb.RETRY)
    street.run_for(60)
    assert len(street.runs) == 2
    assert street.stored("CanaryRequest", first)["status"]["outcome"] == "Done"
    assert street.stored("CanaryRequest", second)["status"]["outcome"] == "Refused"
    everything_is_back(street, manifests.OLD)


def test_a_retry_that_starts_nothing_now_starts_nothing_later():
    street = Street()
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    reapply_the_old_manifest(street)
    street.run_for(20)
    request = street.ask(Verb.RETRY)
    street.run_for(20)
    assert street.stored("CanaryRequest", request)["status"]["outcome"] == "Refused"
    street.push(COLLAPSE)
    street.run_for(30)
    assert len(street.runs) == 1
