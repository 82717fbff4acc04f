"""Whose word counts: a table of approvals, each with the change, the people and what the run is told."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from machine_world import SPEC
from ruled_run import DIGEST, GROUPS, NOW, OTHER, PEOPLE, RIGHTS, RULES, WIRE, after, given, safety, situation

from canary.api.change import ChangeRecord
from canary.api.people import People
from canary.api.reasons import PPM, MissingReason, Phase, Reason, Verb, Verdict
from canary.api.run import Approval
from canary.api.safety import Finding as Pattern
from canary.api.safety import SafetyPolicySpec, Strength
from canary.core import invariants, machine
from canary.core.decision import Situation
from canary.core.evidence import (
    Directive,
    Finding,
    Missing,
    Neighbour,
    Safety,
)
from canary.core.rules import quorum
from canary.core.rules.approvals import Electorate, counted, in_time, tally


def by(*authors: str, rules: dict[str, Any] | None = None, **fields: Any) -> Electorate:
    approvals = RULES.approvals
    if rules is not None:
        approvals = type(approvals).model_validate({**WIRE["approvals"], **rules})
    changed_by = fields.pop("changed_by", "")
    record = ChangeRecord(authors=list(authors or ("dana@shop.example",)), changed_by=changed_by)
    return Electorate(record, DIGEST, approvals, **{"people": PEOPLE, **fields})


@dataclass(frozen=True, slots=True)
class Case:
    """One approval of sam's, or of whom it names; `says` is in why it does not count, "" where it does."""

    name: str
    who: Electorate
    approval: Approval
    says: str = ""


MALLORY = "mallory@home.example"
WROTE, UNKNOWN, MACHINE = "you wrote this change", "is not in the identity map", "no person"
CASES = (
    Case("a colleague", by(), given()),
    Case("a colleague of two authors", by("dana <dana@shop.example>", "Priya <x@priya>"), given(), UNKNOWN),
    Case("T-A1 the author, by the same login", by("dana"), given("dana"), WROTE),
    Case("T-A1 the author, by mail", by("dana@shop.example"), given("dana"), WROTE),
    Case("T-A1 the author, as git writes it", by("Dana D. <dana@shop.example>"), given("dana"), WROTE),
    Case("T-A1 the author, in another case", by("DANA@Shop.Example"), given("dana"), WROTE),
    Case("T-A1 the author, in wide letters", by("ｄａｎａ@shop.example"), given("dana"), WROTE),
    Case("T-A2 a co-author", by("priya-gh", "Sam <sam@shop.example>"), given(), WROTE),
    Case("T-A2 the last of many co-authors", by("dana", "lee", "priya", "sam@oidc"), given(), WROTE),
    Case("T-A2 a co-author whose name is another's", by("dana", "dana <sam@shop.example>"), given(), WROTE),
    Case("T-A3 who opened the pull request", by("renovate[bot]", "priya-gh"), given("priya"), WROTE),
    Case("T-A4 who asked the agent for it", by("noreply@opencode.ai", "dana-gh"), given("dana"), WROTE),
    Case("T-A4 a colleague of who asked the agent", by("noreply@opencode.ai", "dana-gh"), given()),
    Case("T-A5 who triggered the pipeline", by("renovate[bot]", "lee"), given("lee"), WROTE),
    Case("who wrote it at the API server", by("dana", changed_by="sam"), given(), WROTE),
    Case("who wrote it there by a second login", by("dana", changed_by="sam@oidc"), given("sam"), WROTE),
    Case("a known pipeline wrote it there", by("dana", changed_by="system:serviceaccount:cd:x"), given()),
    Case("an unknown account wrote it there", by("dana", changed_by="system:serviceaccount:ci:x"), given(), UNKNOWN),
    Case("T-A6 a service account", by(), given("system:serviceaccount:ci:agent"), MACHINE),
    Case("T-A6 one in an approver group", by(), given("system:serviceaccount:x", groups=["devs"]), MACHINE),
    Case("T-A6 a node", by(), given("system:node:one"), MACHINE),
    Case("T-A6 the control plane", by(), given("system:kube-controller-manager"), MACHINE),
    Case("T-A6 by its group", by(), given("sam", groups=["devs", "system:serviceaccounts"]), MACHINE),
    Case("an administrator's key", by(), given("root"), MACHINE),
    Case("nobody at all", by(), given(""), MACHINE),
    Case("T-A7 a bot by OIDC", by(), given("ci-bot@oidc"), MACHINE),
    Case("T-A7 an agent under its own address", by(), given("agent@cursor.com"), MACHINE),
    Case("T-A7 a bot nobody listed", by(), given("review-bot@oidc"), UNKNOWN),
    Case("a member of a denied group", by(), given("robo"), "never approve"),
    Case("denied wins over senior", by(), given("priya", groups=["devs", "automation"]), "never approve"),
    Case("in no approver group", by(), given("guest"), "none of the approver groups: devs"),
    Case("a senior who is no approver", by(), given("priya", groups=["seniors"]), "none of the approver groups"),
    Case("without groups", by(), given("sam", groups=[]), "none of the approver groups"),
    Case("another group approves", by(rules={"approverGroups": ["x"]}), given(), "approver groups: x"),
    Case("T-A8 the author's second login", by("dana@shop.example"), given("dana-admin"), WROTE),
    Case("T-A12 an approver nobody knows", by(), given("zoe"), UNKNOWN),
    Case("T-A12 an author nobody knows", by(MALLORY), given(), f"its author {MALLORY} {UNKNOWN}"),
    Case("T-A12 one unknown author among known ones", by("dana", MALLORY), given(), UNKNOWN),
    Case("T-A12 no identity map", by(people=People()), given(), UNKNOWN),
    Case("T-A12 no author at all", replace(by(), record=ChangeRecord()), given(), "names no author"),
    Case("authors are only bots", by("renovate[bot]"), given()),
    Case("a person calls themselves a bot", by("dana", "sam[bot]"), given(), "its author sam[bot] " + UNKNOWN),
    Case("T-A13 another digest", by(), given(digest=OTHER), "read the change again"),
    Case("T-A13 no digest", by(), given(digest=None), "read the change again"),
    Case("T-A15 a right that is gone", by(may_approve={"sam": False}), given(), "any more"),
    Case("a right that is there", by(may_approve={"sam": True}), given()),
    Case("a right that nobody could ask about", by(may_approve={}), given()),
    Case("T-A16 no presence", by(rules={"presence": "Required"}), given(), "security key"),
    Case("T-A16 presence", by(rules={"presence": "Required"}), given(present=True)),
    Case("T-A18 a group that counts no more", by(rules={"approverGroups": ["leads"]}), given(), "leads"),
    Case("T-A18 a group that was denied since", by(rules={"deniedGroups": ["devs"]}), given(), "never approve"),
    Case("a hostile name", by("mal\x1b[31mlory"), given(), UNKNOWN),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_approval_counts_or_says_why_not(case: Case) -> None:
    (found,) = counted([case.approval], case.who)
    assert found.counts == (not case.says), found.why_not
    assert case.says in found.why_not
    assert "\x1b" not in found.why_not


def test_the_order_of_the_rules_names_the_author_before_a_stranger() -> None:
    (found,) = counted([given("dana")], by("dana", MALLORY))
    assert found.why_not.startswith(WROTE)


def names(approvals: list[Approval]) -> list[str]:
    return [each.requester for each in approvals if each.counts]


def test_two_logins_of_one_person_are_one_voice() -> None:
    found = counted([given("sam"), given("sam@oidc"), given("priya")], by())
    assert names(found) == ["sam", "priya"]
    assert found[1].why_not == "sam approved already, as sam"
    assert tally(found, (2, 1)).suffices
    assert not tally(found, (3, 1)).suffices


def test_a_voice_that_does_not_count_takes_no_place_from_one_that_does() -> None:
    found = counted([given("sam", digest=OTHER), given("sam@oidc")], by())
    assert names(found) == ["sam@oidc"]


def test_t_a21_two_people_without_a_senior_are_not_enough_and_who_is_missing_is_said() -> None:
    found = tally(counted([given("sam"), given("lee")], by("dana")), (2, 1))
    assert not found.suffices
    assert found.missing(by("dana")) == "has sam, lee, needs 1 senior of devs, seniors who is not dana"


def test_what_is_missing_names_both_kinds_and_every_author() -> None:
    who = by("dana", "lee")
    assert tally([], (3, 1)).missing(who) == (
        "has none, needs 1 senior and 2 approvers of devs, seniors who is not dana or lee"
    )
    some = tally(counted([given("priya")], by("dana")), (2, 1))
    assert some.missing(by("dana")).startswith("has priya, needs 1 approver of devs")


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True),
        ({"at": NOW}, True),
        ({"at": NOW - timedelta(hours=23, minutes=59)}, True),
        ({"at": NOW - timedelta(hours=24)}, False),  # T-A9
        ({"expires_at": NOW}, False),
        ({"expires_at": NOW + timedelta(seconds=1)}, True),
        ({"at": NOW - timedelta(hours=25), "expires_at": NOW + timedelta(days=9)}, False),
        ({"at": NOW + timedelta(seconds=1)}, False),  # T-A10
    ],
)
def test_a_raise_rests_on_an_approval_in_its_time_only(fields: dict[str, Any], counts: bool) -> None:
    assert in_time(given(**fields), RULES.approvals, NOW) is counts


# -- at a run ------------------------------------------------------------------------------------------------------


BOTH = (given("sam"), given("priya"))


def test_with_its_quorum_a_run_rises_above_the_cap() -> None:
    assert after(situation(*BOTH)).traffic.weight_ppm == 500_000


@pytest.mark.parametrize(
    ("approvals", "says"),
    [
        ((), "has none, needs 1 senior and 1 approver"),
        ((given("sam"),), "has sam, needs 1 senior"),
        ((given("sam"), given("lee")), "has sam, lee, needs 1 senior"),
        ((given("priya"), given("dana")), "has priya, needs 1 approver"),
        ((given("priya"), given("priya")), "has priya, needs 1 approver"),
        ((given("sam"), given("priya", at=NOW - timedelta(days=2))), "what expired"),
    ],
)
def test_without_its_quorum_it_waits_at_its_weight(approvals: tuple[Approval, ...], says: str) -> None:
    status = after(situation(*approvals))
    assert status.traffic.weight_ppm == 10_000
    assert status.phase is Phase.PROGRESSING
    assert status.reason == Reason.APPROVALS_MISSING
    assert says in status.message


def test_a_right_that_could_not_be_asked_again_stops_a_raise_and_takes_nothing_away() -> None:
    for ppm, step in ((10_000, 0), (500_000, 1)):
        status = after(situation(*BOTH, ppm=ppm, step=step, evidence={"safety": safety(may_approve={})}))
        assert status.traffic.weight_ppm == ppm
        assert all(approval.counts for approval in status.approvals)


@pytest.mark.parametrize(
    "lost",
    [
        {"may_approve": {**RIGHTS, "priya": False}},
        {"people": People(people=[each for each in PEOPLE.people if each.name != "sam"])},
    ],
)
def test_a_lost_right_takes_the_weight_away_and_expiry_does_not(lost: dict[str, Any]) -> None:
    status = after(situation(*BOTH, ppm=500_000, step=1, evidence={"safety": safety(**lost)}))
    assert (status.phase, status.reason) == (Phase.PAUSED, Reason.APPROVALS_MISSING)
    assert status.traffic.weight_ppm == status.allowed_weight_ppm == 0
    old = [each.model_copy(update={"at": NOW - timedelta(days=3)}) for each in BOTH]
    assert after(situation(*old, ppm=500_000, step=1)).traffic.weight_ppm == 500_000


def test_at_or_below_the_cap_nobody_is_asked() -> None:
    status = after(situation(ppm=0, step=-1))
    assert (status.traffic.weight_ppm, status.step) == (10_000, 0)


def test_a_cap_of_none_holds_the_change_before_any_pod() -> None:
    rules = SafetyPolicySpec.model_validate({**WIRE, "exposure": {"unapprovedMax": "0%"}})
    held = situation(ppm=0, step=-1, phase=Phase.HELD, evidence={"safety": safety(rules)})
    status = after(held)
    assert (status.phase, status.reason) == (Phase.HELD, Reason.APPROVALS_MISSING)
    started = situation(*BOTH, ppm=0, step=-1, phase=Phase.HELD, evidence={"safety": safety(rules)})
    assert after(started).phase is Phase.PREPARING


def test_t_a19_a_policy_that_asks_more_ends_the_run_and_its_approvals() -> None:
    stricter = SafetyPolicySpec.model_validate({**WIRE, "approvals": {**WIRE["approvals"], "count": 3}})
    status = after(replace_safety(situation(*BOTH, ppm=500_000, step=1), safety(stricter)))
    assert status.outcome_phase is Phase.SUPERSEDED
    assert status.traffic.weight_ppm == 0


def replace_safety(start: Situation, rules: Safety | Missing | None) -> Situation:
    return replace(start, evidence=replace(start.evidence, safety=rules))


def test_a_policy_that_is_gone_or_new_ends_the_run_and_one_that_cannot_be_read_only_holds_it() -> None:
    gone = after(replace_safety(situation(*BOTH, ppm=500_000, step=1), None))
    assert gone.outcome_phase is Phase.SUPERSEDED
    unreadable = after(replace_safety(situation(*BOTH), Missing(MissingReason.NOT_READ, "no cache")))
    assert (unreadable.traffic.weight_ppm, unreadable.reason) == (10_000, Reason.LIMIT_REACHED)
    assert all(approval.counts for approval in unreadable.approvals)


def asks(verb: Verb, who: str = "sam", **fields: Any) -> Directive:
    groups = tuple(GROUPS.get(who, ["devs"]))
    known = {"reason": "read the plan; additive", "digest": DIGEST, **fields}
    return Directive(f"uid-{who}", "ask", verb, who, groups, **known)


@pytest.mark.parametrize(
    ("directive", "done", "says"),
    [
        (asks(Verb.APPROVE, "sam"), True, "has sam, needs 1 senior of devs, seniors who is not dana"),
        (
            asks(Verb.APPROVE, "dana"),
            False,
            "you wrote this change, so your approval does not count. Now: has none",
        ),
        (asks(Verb.APPROVE, "dana-admin"), False, "you wrote this change (as dana)"),
        (asks(Verb.APPROVE, "zoe"), False, UNKNOWN),
        (asks(Verb.APPROVE, "sam", digest=OTHER), False, "read the change again"),
        (asks(Verb.APPROVE, "sam", digest=""), False, "read the change again"),
        (asks(Verb.APPROVE, "system:serviceaccount:ci:agent", machine=True), False, "is a machine"),
    ],
)
def test_who_approves_is_answered_with_what_is_still_missing(
    directive: Directive, done: bool, says: str
) -> None:
    decision = machine.decide(situation(evidence={"directives": (directive,)}))
    (answer,) = decision.answers
    assert answer.done is done
    assert says in answer.message
    assert len(decision.status.approvals) == (1 if done else 0)


def test_the_last_approval_is_enough_in_the_same_look() -> None:
    decision = machine.decide(
        situation(given("sam"), evidence={"directives": (asks(Verb.APPROVE, "priya"),)})
    )
    assert decision.answers[0].message == "recorded; that is all that was asked"
    assert decision.status.traffic.weight_ppm == 500_000


def test_an_approval_that_ran_out_is_given_again() -> None:
    old = given("sam", at=NOW - timedelta(days=2))
    decision = machine.decide(
        situation(old, given("priya"), evidence={"directives": (asks(Verb.APPROVE, "sam"),)})
    )
    assert decision.answers[0].done
    assert decision.status.traffic.weight_ppm == 500_000
    assert len(decision.status.approvals) == 2


def test_what_does_not_count_pushes_nothing_out_that_does() -> None:
    flood = tuple(replace(asks(Verb.APPROVE, "zoe"), uid=f"u{number}") for number in range(60))
    status = after(situation(*BOTH, evidence={"directives": flood}))
    assert status.traffic.weight_ppm == 500_000


@pytest.mark.parametrize("verb", [Verb.REJECT, Verb.ABORT])
def test_t_a11_and_20_reject_and_abort_win_over_every_approval(verb: Verb) -> None:
    status = after(situation(*BOTH, evidence={"directives": (asks(verb, "lee"), asks(Verb.APPROVE, "sam"))}))
    assert status.outcome_phase is Phase.ABORTED
    assert status.traffic.weight_ppm == 0


def test_promote_is_no_approval_of_the_safety_policy() -> None:
    decision = machine.decide(situation(evidence={"directives": (asks(Verb.PROMOTE, "sam"),)}))
    assert decision.status.traffic.weight_ppm == 10_000


def test_the_api_server_sees_the_same_count_as_the_judge() -> None:
    """What the CRD's rule reads of the status: verb, counts, digest, senior, distinct requesters."""
    status = after(situation(given("sam"), given("sam@oidc"), given("priya"), given("dana")))
    seen = [(each.requester, each.counts, each.senior) for each in status.approvals]
    assert seen == [
        ("sam", True, False),
        ("sam@oidc", False, False),
        ("priya", True, True),
        ("dana", False, False),
    ]


# -- known failure patterns -----------------------------------------------------------------------------------------


def pattern(strength: Strength) -> dict[str, Any]:
    return {"findings": [Pattern(id="KP-112", strength=strength, message="a migration")]}


def test_a_finding_waits_until_a_senior_who_counts_accepts_it_by_its_id() -> None:
    sam, priya = given("sam", accepts=["KP-112"]), given("priya", accepts=["KP-112"])
    held = after(situation(sam, given("priya"), spec=pattern(Strength.APPROVE)))
    assert (held.traffic.weight_ppm, held.reason) == (10_000, Reason.PATTERN_REFUSED)
    assert "canary approve --accept KP-112" in held.message
    assert after(situation(given("sam"), priya, spec=pattern(Strength.APPROVE))).traffic.weight_ppm == 500_000


def test_a_refused_pattern_is_accepted_by_nobody_and_a_note_holds_nothing() -> None:
    senior = (given("sam"), given("priya", accepts=["KP-112"]))
    refused = after(situation(*senior, ppm=0, step=-1, phase=Phase.HELD, spec=pattern(Strength.REFUSE)))
    assert (refused.phase, refused.reason) == (Phase.HELD, Reason.PATTERN_REFUSED)
    assert after(situation(*BOTH, spec=pattern(Strength.NOTE))).traffic.weight_ppm == 500_000


def test_a_cool_down_ends_sooner_by_a_new_set_with_a_senior_and_not_by_an_old_one() -> None:
    ended = NOW - timedelta(minutes=10)
    facts = safety(neighbours=(Neighbour("shop/shop", False, ended),))
    old = [each.model_copy(update={"at": NOW - timedelta(minutes=30)}) for each in BOTH]
    waits = after(situation(*old, evidence={"safety": facts}))
    assert (waits.traffic.weight_ppm, waits.reason) == (10_000, Reason.LIMIT_REACHED)
    assert "this app cools down" in waits.message
    assert after(situation(*BOTH, evidence={"safety": facts})).traffic.weight_ppm == 500_000


def test_without_a_safety_policy_a_step_asks_for_one_person_as_ever() -> None:
    steps = {"steps": SPEC.steps}
    start = situation(spec=steps, evidence={"safety": None})
    assert after(start).reason == Reason.APPROVALS_MISSING
    asked = (asks(Verb.APPROVE, "zoe"),)
    told = machine.decide(situation(spec=steps, evidence={"safety": None, "directives": asked}))
    assert told.answers[0].message == "recorded for 50 %"
    assert told.status.traffic.weight_ppm == 500_000


def test_nothing_asked_of_the_whole_traffic_is_a_cap_of_all() -> None:
    assert quorum.cap_ppm(situation(evidence={"safety": None})) == PPM


def test_s1_a_judge_that_forgets_the_approvals_is_stopped_in_the_same_look() -> None:
    start = situation(given("sam"))
    careless = machine.decide(situation(*BOTH))
    assert careless.status.traffic.weight_ppm == 500_000
    forgot = replace(
        careless, status=careless.status.model_copy(update={"approvals": start.status.approvals})
    )
    assert "500000 ppm without the approvals that it needs" in invariants.broken(start, forgot)
    safe = invariants.enforce(start, forgot)
    assert safe.status.traffic.weight_ppm == 0
    assert invariants.enforce(situation(*BOTH), careless) == careless


# -- break-glass -------------------------------------------------------------------------------------------------------

WHY = "INC-481: payments are down, the hotfix was verified by hand with Priya"


def test_a_bypass_passes_what_the_policy_asks_for_a_time_and_calls_people() -> None:
    waits = {"finding": Finding(Verdict.CONTINUE, Reason.EVIDENCE_GROWING, "61 of 350 orders")}
    decision = machine.decide(
        situation(evidence={"directives": (asks(Verb.BYPASS, "lee", reason=WHY),), **waits})
    )
    assert decision.answers[0].done
    assert decision.status.traffic.weight_ppm == 500_000
    assert decision.status.bypass is not None
    assert decision.status.bypass.expires_at == NOW + timedelta(hours=1)
    assert Reason.BYPASS_USED in {entry.reason for entry in decision.status.timeline}
    assert invariants.broken(situation(), decision) == []


@pytest.mark.parametrize("verdict", [Verdict.ROLL_BACK, Verdict.DRAIN, Verdict.HOLD])
def test_a_bypass_never_overrules_evidence_against_the_change(verdict: Verdict) -> None:
    bad = {"finding": Finding(verdict, Reason.ORDERS_COLLAPSED, "orders -100 %")}
    before = machine.decide(
        situation(evidence={"directives": (asks(Verb.BYPASS, "lee", reason=WHY),), **bad})
    )
    assert before.status.traffic.weight_ppm <= 10_000
    assert (before.status.traffic.weight_ppm == 0) is (verdict is not Verdict.HOLD)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reason": "please"}, "30 characters or more"),
        ({"reason": WHY, "machine": True}, "is a machine"),
        ({"reason": WHY, "expires_at": NOW - timedelta(seconds=1)}, "ended before"),
    ],
)
def test_a_bypass_without_reason_person_or_time_is_refused(fields: dict[str, Any], says: str) -> None:
    decision = machine.decide(situation(evidence={"directives": (asks(Verb.BYPASS, "lee", **fields),)}))
    assert not decision.answers[0].done
    assert says in decision.answers[0].message
    assert decision.status.bypass is None
    assert decision.status.traffic.weight_ppm == 10_000


def test_a_bypass_lasts_four_hours_at_most_and_its_end_takes_away_what_the_rules_do_not_allow() -> None:
    long = asks(Verb.BYPASS, "lee", reason=WHY, expires_at=NOW + timedelta(days=9))
    status = machine.decide(situation(evidence={"directives": (long,)})).status
    assert status.bypass is not None
    assert status.bypass.expires_at == NOW + timedelta(hours=4)
    later = situation().with_status(status)
    assert machine.decide(replace(later, now=NOW + timedelta(hours=3))).status.traffic.weight_ppm > 0
    over = machine.decide(replace(later, now=NOW + timedelta(hours=4))).status
    assert (over.phase, over.traffic.weight_ppm) == (Phase.PAUSED, 0)
