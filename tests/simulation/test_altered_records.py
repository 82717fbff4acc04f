"""What people read is what they approve: a record that is altered in a run ends it, without traffic."""

import pytest
from sim_street import Street, short_policy

from canary.api.change import ChangeAnnotation
from canary.api.reasons import Origin, Phase, Reason
from canary.core.decision import Run
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS
from canary.lab import manifests
from canary.lab.rehearsal.scenario import PORT

DEPLOYMENT = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
POLICY = CANARYPOLICIES.at(manifests.NAMESPACE, manifests.NAME)
TEXTS = [key for key in ChangeAnnotation if key is not ChangeAnnotation.ATTESTATION]


def annotate(street: Street, texts: dict[ChangeAnnotation, str | None]) -> None:
    """Alter the record of a change, as anybody may who edits the Deployment."""
    patch = {"metadata": {"annotations": {key.value: text for key, text in texts.items()}}}
    street.admin.merge_patch(DEPLOYMENT, patch, intent=Intent.NEUTRAL)


def next_run(street: Street, before: Run) -> Run:
    assert street.run_until(lambda: street.run.uid != before.uid, 60), street.told()
    return street.run


@pytest.mark.parametrize("key", TEXTS)
def test_an_altered_text_takes_the_slice_away_and_starts_a_run_without_approvals(
    key: ChangeAnnotation,
) -> None:
    street = Street(policy=short_policy(steps=[{"weight": "5%", "approval": True}, {"weight": "100%"}]))
    street.push()
    street.until(Phase.PROGRESSING)
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    first = street.run
    assert first.status.approvals
    annotate(street, {key: "another"})
    second = next_run(street, first)
    assert street.phase_of(first) is Phase.SUPERSEDED
    ended = street.stored("CanaryRun", first.name)["status"]["timeline"]
    assert Reason.RECORD_CHANGED in {entry["reason"] for entry in ended}
    assert second.spec.digest != first.spec.digest
    assert not second.status.approvals
    assert street.route_ppm() == 0
    street.run_for(20)
    assert street.route_ppm() == 0, "the altered change waits for an approval of its own"


def test_a_change_that_was_ai_once_stays_ai_whatever_its_record_says_later() -> None:
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    annotate(street, {ChangeAnnotation.ORIGIN: "human", ChangeAnnotation.AGENTS: None})
    second = next_run(street, street.run)
    assert second.spec.origin is Origin.AI
    annotate(street, {ChangeAnnotation.ORIGIN: None})
    assert street.run_until(lambda: street.phase is Phase.PROGRESSING, 60), street.told()
    assert street.run.spec.origin is Origin.AI


def test_a_record_is_read_once_and_then_stays_what_it_is() -> None:
    street = Street()
    street.push()
    odd = {
        ChangeAnnotation.ORIGIN: "robot",
        ChangeAnnotation.ORIGIN_EVIDENCE: "{",
        ChangeAnnotation.WHY: "  x  ",
    }
    annotate(street, {**odd, ChangeAnnotation.AGENTS: None})
    street.until(Phase.PROMOTED)
    assert street.run.spec.origin is Origin.UNKNOWN
    assert [street.phase_of(street.run)] == [Phase.PROMOTED]


def test_a_record_of_what_serves_may_be_altered_and_starts_nothing() -> None:
    street = Street()
    annotate(street, {ChangeAnnotation.WHAT: "another text"})
    street.run_for(60)
    assert not street.runs


def push(street: Street, version: str) -> None:
    """Change the Deployment as a team that says nothing of its origin."""
    change = manifests.change(version, PORT, {}, Origin.UNKNOWN)
    street.admin.merge_patch(DEPLOYMENT, change, intent=Intent.NEUTRAL)


def test_a_version_that_was_superseded_is_tried_when_it_is_asked_for_again() -> None:
    street = Street()
    push(street, "v2.31.0")
    street.until(Phase.PROGRESSING)
    first = street.run
    push(street, "v2.32.0")
    second = next_run(street, first)
    push(street, "v2.31.0")
    third = next_run(street, second)
    assert third.spec.digest == first.spec.digest
    street.until(Phase.PROMOTED)


def test_a_policy_that_is_edited_and_edited_back_is_tried_under_both() -> None:
    street = Street()
    push(street, "v2.31.0")
    street.until(Phase.PROGRESSING)
    for drain in ("5s", "2s", "5s", "2s"):
        before = street.run
        street.admin.merge_patch(POLICY, {"spec": {"drain": drain}}, intent=Intent.NEUTRAL)
        next_run(street, before)
    street.until(Phase.PROMOTED)
