"""S11: no edit of a safety policy allows more than the approved text, until the people whom that asks for agree."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_effective import END, LATER, safety, specs
from test_oversight import watched

from canary.api.change import ChangeRecord
from canary.api.people import People
from canary.api.read import parse_approved
from canary.api.reasons import ConditionType, Opening, Reason, Verb
from canary.api.run import Approval
from canary.api.safety import SafetyPolicySpec, SafetyPolicyStatus
from canary.core.evidence import Directive
from canary.core.rules.approvals import Electorate
from canary.core.rules.effective import Standing, effective, standing, weaker_fields
from canary.core.rules.oversight import Watched, oversee
from canary.core.rules.weakening import (
    Weakening,
    digest_of,
    record_of_text,
    rules_of_weakening,
    text_in_force,
    weighed,
)

NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)
PEOPLE = People.model_validate(
    {"people": [{"name": name, "usernames": [name]} for name in ("dana", "sam", "priya", "lee")]}
)
STRONG, WEAK = safety(), safety(exposure={"unapprovedMax": "100%"})
TIMES = st.sampled_from([{}, {"effectiveFrom": LATER}, {"expiresAt": END, "onExpiry": {"fallback": "next"}}])


def timed(spec: SafetyPolicySpec, times: dict[str, Any]) -> SafetyPolicySpec:
    return SafetyPolicySpec.model_validate({**spec.wire(), **times})


def approval(who: str, *groups: str, **fields: Any) -> Approval:
    wire = {"request": f"of-{who}", "verb": Verb.APPROVE, "requester": who, "groups": ["devs", *groups]}
    at = NOW - timedelta(minutes=5)
    return Approval.model_validate({**wire, "digest": digest_of(WEAK), "at": at, **fields})


def weakening(*approvals: Approval) -> Weakening:
    record = ChangeRecord(authors=["dana"])
    electorate = Electorate(record, digest_of(WEAK), STRONG.approvals, PEOPLE)
    return Weakening(weaker_fields(STRONG, WEAK), electorate, approvals)


def approved_status() -> SafetyPolicyStatus:
    return weighed(SafetyPolicyStatus(covered=335), STRONG, None, NOW)


def looked_at(*approvals: Approval, directives: tuple[Directive, ...] = ()) -> Watched:
    known = watched(approved_status(), spec=text_in_force(STRONG, WEAK), directives=directives)
    return replace(known, written=WEAK, weakening=weakening(*approvals))


@given(specs(), specs(), TIMES, TIMES)
def test_s11_the_text_in_force_is_nowhere_weaker_than_the_approved_or_the_written_one(
    one: SafetyPolicySpec, other: SafetyPolicySpec, first: dict[str, Any], second: dict[str, Any]
) -> None:
    approved, written = timed(one, first), timed(other, second)
    ruling = text_in_force(approved, written)
    assert weaker_fields(approved, ruling) == []
    assert weaker_fields(written, ruling) == []
    if not weaker_fields(approved, written):
        assert ruling == written
    assert text_in_force(approved, approved) == approved


@given(specs(), st.lists(specs(), max_size=4), st.sampled_from([END, LATER, NOW]))
def test_s11_no_row_of_edits_without_a_word_of_people_weakens_what_rules(
    first: SafetyPolicySpec, edits: list[SafetyPolicySpec], moment: datetime
) -> None:
    if first.approvals.count == 0:
        return  # who asks nobody about a change asks nobody about the rules
    status = weighed(SafetyPolicyStatus(), first, None, NOW)
    for written in edits:
        approved = parse_approved(status.effective)
        fields = weaker_fields(approved, written)
        rules = rules_of_weakening("reset", approved, {}, NOW)
        asked = Electorate(ChangeRecord(authors=["dana"]), digest_of(written), rules, PEOPLE)
        status = weighed(status, written, Weakening(fields, asked) if fields else None, NOW)
        ruling = text_in_force(parse_approved(status.effective), written)
        assert weaker_fields(first, ruling) == []
        assert effective({"reset": ruling}, first.applies_to.tiers[0], moment) is not None


@pytest.mark.parametrize(
    ("times", "named"),
    [
        ({"effectiveFrom": LATER}, "effectiveFrom"),
        ({"expiresAt": END, "onExpiry": {"fallback": "next"}}, "expiresAt"),
    ],
)
def test_a_text_that_rules_for_less_time_is_weaker_and_the_other_goes_on_ruling(
    times: dict[str, Any], named: str
) -> None:
    shorter = timed(STRONG, times)
    assert weaker_fields(STRONG, shorter) == [named]
    assert weaker_fields(shorter, STRONG) == []
    ruling = text_in_force(STRONG, shorter)
    for moment in (NOW, END + timedelta(days=1)):
        assert standing("reset", {"reset": ruling}, moment) is Standing.IN_FORCE


def test_a_weaker_text_waits_and_people_are_asked_once_and_again_when_it_is_overdue() -> None:
    status = oversee(looked_at(), NOW).status
    assert status.weaker is not None
    assert (status.weaker.fields, status.weaker.digest) == (["exposure.unapprovedMax"], digest_of(WEAK))
    assert parse_approved(status.effective) == STRONG
    (notice,) = status.notices
    assert (notice.opening, notice.reason) == (Opening.DECISION_NEEDED, Reason.POLICY_WEAKER)
    assert "exposure.unapprovedMax" in notice.title
    assert "canary safety approve reset" in notice.body
    ready = next(each for each in status.conditions if each.type == ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", Reason.POLICY_WEAKER)
    assert "has none, needs 1 senior and 1 approver of devs, seniors who is not dana" in ready.message
    again = oversee(replace(looked_at(), status=status), NOW + timedelta(hours=1)).status
    assert len(again.notices) == 1
    late = oversee(replace(looked_at(), status=again), NOW + timedelta(hours=5)).status
    assert [each.reason for each in late.notices] == [Reason.POLICY_WEAKER] * 2
    assert late.weaker is not None
    assert late.weaker.since == NOW


@pytest.mark.parametrize(
    "given",
    [
        (approval("sam"),),
        (approval("sam"), approval("sam", request="again")),
        (approval("sam"), approval("lee")),
        (approval("dana", "seniors"), approval("sam")),
        (approval("priya", "seniors"), approval("bot", "seniors")),
        (approval("priya", "seniors"), approval("sam", digest=digest_of(STRONG))),
        (approval("priya", "seniors"), approval("sam", at=NOW - timedelta(days=2))),
    ],
    ids=["one", "one twice", "no senior", "the author", "nobody known", "another text", "too old"],
)
def test_who_does_not_count_does_not_weaken_it(given: tuple[Approval, ...]) -> None:
    assert oversee(looked_at(*given), NOW).status.weaker is not None


def test_two_people_who_count_put_the_weaker_text_in_force() -> None:
    status = oversee(looked_at(approval("priya", "seniors"), approval("sam")), NOW).status
    assert status.weaker is None
    assert text_in_force(parse_approved(status.effective), WEAK) == WEAK


def test_each_who_approves_is_answered_with_what_is_missing() -> None:
    def answer(who: str, *groups: str) -> tuple[bool, str]:
        asked = Directive("u", f"of-{who}", Verb.APPROVE, who, groups=("devs", *groups))
        words = looked_at(approval("sam"), approval(who, *groups), directives=(asked,))
        reply = oversee(words, NOW).answers[0]
        return reply.done, reply.message

    assert answer("sam") == (True, "recorded; has sam, needs 1 senior of devs, seniors who is not dana")
    assert answer("priya", "seniors") == (True, "recorded; that is all: the text is in force")
    done, why = answer("dana", "seniors")
    assert not done
    assert why.startswith("you wrote this change")
    asked = Directive("u", "of-sam", Verb.APPROVE, "sam")
    reply = oversee(watched(directives=(asked,)), NOW).answers[0]
    assert (reply.done, reply.message) == (False, "no weaker text of it waits for approval")


def test_the_quorum_is_that_of_everything_that_rules_the_same_tiers() -> None:
    other = safety(approvals={**STRONG.wire()["approvals"], "count": 3})
    elsewhere = safety(appliesTo={"tiers": [4]}, approvals={**STRONG.wire()["approvals"], "count": 5})
    found = rules_of_weakening("reset", STRONG, {"other": other, "else": elsewhere}, NOW)
    assert found.count == 3


@pytest.mark.parametrize(
    ("annotations", "authors"),
    [
        ({"authors": "dana"}, ["dana"]),
        ({"changed-by": "sam"}, ["sam"]),
        ({"authors": "dana", "changed-by": "sam"}, ["dana", "sam"]),
        ({"authors": "dana", "changed-by": "system:serviceaccount:argocd:sync"}, ["dana"]),
        ({"changed-by": "system:serviceaccount:argocd:sync"}, []),
        ({"changed-by": "nobody knows"}, []),
        ({}, []),
    ],
)
def test_a_person_who_wrote_a_text_at_the_api_server_is_an_author_of_it_and_a_pipeline_is_none(
    annotations: dict[str, str], authors: list[str]
) -> None:
    said = {f"canary-controller.io/{name}": text for name, text in annotations.items()}
    assert record_of_text(said, PEOPLE).authors == authors
