"""A safety policy looked after: its end, its coverage, the brake, and what people are told of each, once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canary.api.notice import Notice
from canary.api.reasons import Opening, Reason, Verb
from canary.api.safety import SafetyPolicySpec, SafetyPolicyStatus
from canary.core.evidence import Directive, Neighbour, Safety
from canary.core.rules.effective import STRICTEST, Standing, standing
from canary.core.rules.oversight import Watched, oversee

END = datetime(2026, 6, 8, tzinfo=UTC)
SPEC = SafetyPolicySpec.model_validate(
    {
        "appliesTo": {"tiers": [1], "expected": 335},
        "approvals": {"count": 0, "senior": 0},
        "expiresAt": END,
        "onExpiry": {"fallback": "tier-1"},
    }
)
FOLLOWER = SafetyPolicySpec.model_validate({"approvals": {"count": 0, "senior": 0}})


def watched(status: SafetyPolicyStatus | None = None, **fields: Any) -> Watched:
    known: dict[str, Any] = {
        "name": "reset",
        "uid": "uid",
        "generation": 3,
        "spec": SPEC,
        "status": status or SafetyPolicyStatus(covered=335),
        "standing": Standing.IN_FORCE,
        "covered": 335,
        "unheld": (),
        "safety": Safety(("reset",), fields.get("spec") or STRICTEST, ""),
    }
    return Watched(**{**known, **fields})


def told(policy: Watched, now: datetime) -> list[Notice]:
    return oversee(policy, now).status.notices


def days_before(days: float) -> datetime:
    return END - timedelta(days=days)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (days_before(15), None),
        (days_before(13.9), "it ends in 334 h, 2026-06-08 00:00 UTC; then tier-1 rules"),
        (days_before(6.9), "it ends in 166 h"),
        (days_before(0.5), "it ends in 12 h"),
    ],
)
def test_t_p1_an_end_is_told_at_14_7_and_1_days_and_each_once(now: datetime, says: str | None) -> None:
    first = oversee(watched(), now).status
    assert [says in notice.title for notice in first.notices if says] == ([True] if says else [])
    assert bool(first.notices) is bool(says)
    again = oversee(watched(first), now + timedelta(minutes=5)).status
    assert again.notices == first.notices
    assert all(notice.opening == Opening.DECISION_NEEDED for notice in first.notices)


def test_three_warnings_are_three_notices() -> None:
    status = SafetyPolicyStatus(covered=335)
    for days in (20, 13, 10, 6, 3, 0.9, 0.1):
        status = oversee(watched(status), days_before(days)).status
    assert [notice.id for notice in status.notices] == [
        f"uid/PolicyExpiring/{days}/20260608" for days in (14, 7, 1)
    ]


def test_t_p2_an_end_without_a_follower_stays_in_force_and_pages_daily() -> None:
    status = SafetyPolicyStatus(covered=335)
    for hour in range(0, 72, 6):
        now = END + timedelta(hours=hour)
        stands = standing("reset", {"reset": SPEC}, now)
        status = oversee(watched(status, standing=stands), now).status
        assert status.in_force
    assert [notice.id for notice in status.notices] == [
        f"uid/PolicyOverdue/{day}" for day in ("20260608", "20260609", "20260610")
    ]
    assert all(notice.opening == Opening.ACTION_NEEDED for notice in status.notices)
    assert "tier-1, which should follow, is not there" in status.notices[0].title
    stalled = next(each for each in status.conditions if each.type == "Stalled")
    assert (stalled.status, stalled.reason) == ("True", Reason.POLICY_OVERDUE)


def test_an_end_with_a_follower_is_quiet() -> None:
    policies = {"reset": SPEC, "tier-1": FOLLOWER}
    status = oversee(watched(standing=standing("reset", policies, END)), END).status
    assert (status.in_force, status.notices) == (False, [])
    assert status.conditions[0].message == "it ended; tier-1 rules in its place"


def test_t_p4_a_falling_count_pages_once_with_who_is_not_held_and_a_rising_one_does_not() -> None:
    now = days_before(60)
    assert told(watched(SafetyPolicyStatus(covered=330), covered=335), now) == []
    fell = oversee(watched(covered=333, unheld=("shop/checkout",)), now).status
    (page,) = fell.notices
    assert page.opening == Opening.ACTION_NEEDED
    assert page.title == (
        "ACTION NEEDED - safety policy reset: 2 fewer than before: 333 of 335 tier-1 workloads are held; "
        "not held are shop/checkout"
    )
    assert "do this: canary safety status reset" in page.body
    assert oversee(watched(fell, covered=333), now + timedelta(hours=1)).status.notices == [page]
    assert len(oversee(watched(fell, covered=300), now + timedelta(hours=2)).status.notices) == 2


def rollbacks(*minutes: int, now: datetime) -> Safety:
    others = tuple(Neighbour(f"a/{n}", False, now - timedelta(minutes=n), 7.0, now) for n in minutes)
    return Safety(("reset",), SPEC, "", neighbours=others)


def resume(**fields: Any) -> Directive:
    return Directive("u", "ask", Verb.RESUME, "priya", reason="read all three", **fields)


def test_the_brake_stays_on_until_a_person_lets_it_go_and_then_old_rollbacks_count_no_more() -> None:
    now = days_before(60)
    braked = oversee(watched(safety=rollbacks(5, 20, 59, now=now)), now).status
    assert braked.brake is not None
    assert [notice.opening for notice in braked.notices] == [Opening.DECISION_NEEDED]
    later = now + timedelta(hours=5)
    still = oversee(watched(braked), later).status
    assert still.brake == braked.brake
    assert still.notices == braked.notices

    machine = oversee(watched(still, directives=[resume(machine=True)]), later)
    assert (machine.answers[0].done, machine.status.brake) == (False, braked.brake)
    let_go = oversee(watched(braked, directives=[resume()], safety=rollbacks(6, 21, 58, now=now)), now)
    assert let_go.answers[0].done
    assert let_go.status.brake is None
    assert let_go.status.brake_released_at == now


def test_only_resume_is_asked_of_a_safety_policy_and_only_while_it_brakes() -> None:
    asked = [resume(), replace(resume(), verb=Verb.PROMOTE)]
    answers = oversee(watched(directives=asked), days_before(60)).answers
    assert [answer.done for answer in answers] == [False, False]
    assert answers[0].message == "the brake is off; nothing to resume"


def test_an_unreadable_policy_pages_and_says_that_it_counts_as_the_strictest() -> None:
    now = days_before(60)
    broken = watched(spec=None, trouble="exposure.firstSliceMax is 0%", covered=0)
    status = oversee(broken, now).status
    (page,) = status.notices
    assert page.opening == Opening.ACTION_NEEDED
    assert "nothing rises in any tier until it can be read: exposure.firstSliceMax is 0%" in page.title
    assert oversee(replace(broken, status=status), now).status.notices == status.notices


def test_orders_lost_today_stand_in_the_status() -> None:
    now = days_before(60)
    status = oversee(watched(safety=rollbacks(5, 20, now=now)), now).status
    assert [(each.target, each.lost) for each in status.budgets] == [("a/5", "7.0"), ("a/20", "7.0")]
