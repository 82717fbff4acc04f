"""Who gets past the guard and deletes a held Deployment: the last good version serves until a person has decided."""

from pathlib import Path
from typing import Any

import pytest
from sim_street import PLACE, Street, everything_is_back, reapply_the_old_manifest, short_policy, side_weights
from test_safety import RESET, a_street, ruled

from canary.api.reasons import PPM, Opening, Phase, Reason, Verb
from canary.audit.chain import readable, verify
from canary.audit.store import FileStore
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS
from canary.lab import manifests
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.rehearsal.scenario import PORT

EVIL = "v6.6.6"
LAST_GOOD = f"{manifests.NAME}-lastgood"
REPLICAS = 4
WHY = "INC-481: its selector had to change, the template was read by Sam and Priya"


def delete_the_target(street: Street) -> None:
    uid = street.stored("Deployment")["metadata"]["uid"]
    owner = Client(street.cluster.transport(User(CONTROLLER)), clock=street.clock)
    rules = street.cluster.server.rules
    kept = [*rules]
    rules.clear()  # what the guard refuses can still happen where it is passed by
    owner.delete(DEPLOYMENTS.at(*PLACE), uid=uid, intent=Intent.NEUTRAL)
    rules.extend(kept)


def create_anew(street: Street, version: str = EVIL, **spec: Any) -> None:
    manifest = manifests.deployment(REPLICAS, PORT, version)
    manifest["spec"].update(spec)
    street.admin.create(DEPLOYMENTS, manifest, intent=Intent.NEUTRAL)


def recreate(street: Street, version: str = EVIL, **spec: Any) -> None:
    delete_the_target(street)
    create_anew(street, version, **spec)


def last_good_serves(street: Street) -> bool:
    return side_weights(street.stored("HTTPRoute")).get(LAST_GOOD) == PPM


def sold_in(street: Street, seconds: float) -> dict[str, int]:
    """Return the requests of each version in the time to come."""
    before = requests(street)
    street.run_for(seconds)
    return {version: count - before.get(version, 0) for version, count in requests(street).items()}


def requests(street: Street) -> dict[str, int]:
    totals: dict[str, int] = {}
    for truth in street.shop.truths:
        totals[truth.version] = totals.get(truth.version, 0) + truth.requests
    return totals


def reaches_the_last_good(street: Street, usual: int) -> None:
    """Check that the last good version comes to serve, and from then on every customer."""
    assert street.run_until(lambda: last_good_serves(street), 60), street.told()
    street.run_for(2.0)
    sold = sold_in(street, 10.0)
    assert {version for version, count in sold.items() if count} == {manifests.OLD}, street.told()
    assert sold[manifests.OLD] == pytest.approx(usual, rel=0.02), street.told()


def calls(street: Street) -> list[str]:
    return [each.title for each in street.run.status.notices if each.opening == Opening.ACTION_NEEDED]


def told_last(street: Street) -> str:
    return street.run.status.notices[-1].opening


def test_a_target_that_is_recreated_with_another_template_is_held_and_the_last_good_version_serves():
    street = Street()
    usual = sold_in(street, 10.0)[manifests.OLD]
    recreate(street)
    reaches_the_last_good(street, usual)
    assert street.stored("Deployment")["spec"]["paused"] is True
    assert calls(street) == ["ACTION NEEDED - the workload was deleted and created anew"]
    street.run_for(120)
    assert last_good_serves(street), "nobody but a person decides"
    assert street.phase is Phase.SUPERSEDED, street.told()
    assert told_last(street) == Opening.CUSTOMERS_SAFE, (
        "nothing ends the incident before a person has decided"
    )
    reapply_the_old_manifest(street)
    street.tidied()
    everything_is_back(street, manifests.OLD)
    assert len(street.runs) == 1
    assert told_last(street) == Opening.NONE


def test_a_target_that_was_held_as_it_was_created_has_no_pod_of_the_other_template():
    """From Kubernetes 1.36 on the API server can hold it at its creation; then nothing would serve at all."""
    street = Street()
    usual = sold_in(street, 10.0)[manifests.OLD]
    recreate(street, paused=True)
    reaches_the_last_good(street, usual)
    assert requests(street).get(EVIL, 0) == 0


@pytest.mark.parametrize("paused", [False, True])
def test_a_target_that_is_recreated_as_it_was_is_let_go(paused: bool):
    street = Street()
    recreate(street, manifests.OLD, paused=paused)
    assert street.run_until(lambda: bool(street.runs), 30), street.told()
    street.tidied()
    everything_is_back(street, manifests.OLD)
    assert street.stored("Deployment")["spec"]["paused"] is True
    assert (
        street.stored("CanaryPolicy")["status"]["targetUid"] == street.stored("Deployment")["metadata"]["uid"]
    )
    assert calls(street) == ["ACTION NEEDED - the workload was deleted and created anew"]


def test_a_promoted_version_is_the_last_good_one():
    street = Street(policy=short_policy(steps=[{"weight": "5%"}, {"weight": "100%"}]))
    street.push()
    street.until(Phase.PROMOTED).tidied()
    street.run_for(5)
    recreate(street, manifests.OLD)
    assert street.run_until(lambda: last_good_serves(street), 60), street.told()
    street.run_for(2)
    assert {version for version, sold in sold_in(street, 5.0).items() if sold} == {manifests.NEW}


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING, Phase.COMMITTING])
def test_a_target_that_is_recreated_under_a_run_is_served_from_the_last_good_version(phase: Phase):
    street = Street(policy=short_policy(bake={"duration": "20s"}))
    usual = sold_in(street, 10.0)[manifests.OLD]
    street.push()
    street.until(phase)
    street.run_for(2.0)
    recreate(street)
    reaches_the_last_good(street, usual)
    assert street.stored("Deployment")["spec"]["paused"] is True
    assert calls(street) == ["ACTION NEEDED - the workload was deleted and created anew"]
    reapply_the_old_manifest(street)
    street.tidied()
    everything_is_back(street, manifests.OLD)
    street.run_for(20)
    assert len(street.runs) == 1, "the same loss is told once"


@pytest.mark.parametrize("under_way", [False, True])
def test_a_target_that_is_deleted_and_not_created_anew_is_served_from_the_last_good_version(under_way: bool):
    street = Street()
    usual = sold_in(street, 10.0)[manifests.OLD]
    if under_way:
        street.push()
        assert street.run_until(lambda: street.route_ppm() > 0, 60)
    delete_the_target(street)
    reaches_the_last_good(street, usual)
    assert calls(street) == ["ACTION NEEDED - the workload was deleted"]
    assert street.run.status.timeline[-1].reason == Reason.WORKLOAD_GONE
    create_anew(street)
    street.run_for(30)
    assert last_good_serves(street), "another template is not what served"
    assert street.stored("Deployment")["spec"]["paused"] is True
    reapply_the_old_manifest(street)
    street.tidied()
    everything_is_back(street, manifests.OLD)


def test_a_person_may_take_a_recreated_target_as_it_is_and_two_others_review_it():
    street = Street()
    recreate(street)
    assert street.run_until(lambda: last_good_serves(street), 60), street.told()
    street.run_for(5)
    short = street.ask(Verb.BYPASS, reason="we need it")
    street.run_for(5)
    assert street.stored("CanaryRequest", short)["status"]["outcome"] == "Refused"
    assert last_good_serves(street)
    street.ask(Verb.BYPASS, reason=WHY)
    street.tidied()
    everything_is_back(street, EVIL)
    street.push()
    street.run_for(20)
    assert len(street.runs) == 1
    ready = next(c for c in street.stored("CanaryPolicy")["status"]["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == Reason.BYPASS_USED
    for who in ("sam", "priya"):
        street.ask(Verb.APPROVE, User(who), digest=street.run.spec.digest)
        street.run_for(5)
    assert street.run_until(lambda: len(street.runs) == 2, 60), street.told()


def test_a_controller_that_dies_at_every_moment_still_brings_the_last_good_version():
    street = Street()
    recreate(street)
    for _ in range(40):
        street.run_for(0.5)
        street.restart()
    assert last_good_serves(street), street.told()
    assert len(street.runs) == 1
    reapply_the_old_manifest(street)
    street.tidied()
    everything_is_back(street, manifests.OLD)


def test_who_lets_a_target_go_that_was_deleted_gets_the_last_good_version_taken_away():
    street = Street()
    delete_the_target(street)
    assert street.run_until(lambda: last_good_serves(street), 60), street.told()
    street.admin.merge_patch(CANARYPOLICIES.at(*PLACE), {"spec": {"mode": "Observe"}}, intent=Intent.NEUTRAL)
    street.tidied()
    assert side_weights(street.stored("HTTPRoute")) == {manifests.NAME: 1}
    assert ("Deployment", LAST_GOOD) not in street.names()


def test_what_was_done_is_on_record(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    street = Street(audit=f"file:{path}")
    recreate(street)
    assert street.run_until(lambda: last_good_serves(street), 60), street.told()
    street.run_for(10)
    kept = FileStore(path)
    told = [(each["kind"], each["phase"], each["reason"]) for each in readable(kept.lines())]
    assert ("Abort", "Superseded", "WorkloadRecreated") in told
    assert not verify(kept.lines()).fault


def test_the_last_good_version_needs_nobodys_approval():
    """The API server refuses a weight above the cap without approvals; that is about the new version, not the old."""
    street = a_street()
    ruled(street, exposure={**RESET["exposure"], "unapprovedMax": "0%"})
    recreate(street)
    assert street.run_until(lambda: last_good_serves(street), 60), street.told()
    assert street.run_until(lambda: street.phase is Phase.SUPERSEDED, 20), street.told()
    assert street.run.spec.safety.approvals == 2
