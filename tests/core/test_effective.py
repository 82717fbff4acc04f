"""Which safety policy rules when, and that several together are never weaker than any of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.api.safety import SafetyPolicySpec
from canary.core.rules.effective import (
    STRICTEST,
    Standing,
    effective,
    normal,
    standing,
    stricter,
    terms_of,
    weaker_fields,
)

START = datetime(2026, 3, 10, tzinfo=UTC)
END = START + timedelta(days=90)
AFTER, LATER = END + timedelta(seconds=1), END + timedelta(days=1)
APPROVALS = {"count": 2, "senior": 1, "approverGroups": ["devs"], "seniorGroups": ["seniors"]}
NAMES = ["a", "b", "c"]


def safety(**fields: Any) -> SafetyPolicySpec:
    wire = {"approvals": APPROVALS, **fields}
    return SafetyPolicySpec.model_validate(wire)


def ending(fallback: str, **fields: Any) -> SafetyPolicySpec:
    return safety(expiresAt=END, onExpiry={"fallback": fallback}, **fields)


def groups(least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(NAMES), min_size=least, max_size=3, unique=True)


@st.composite
def specs(draw: st.DrawFn) -> SafetyPolicySpec:
    count = draw(st.integers(0, 4))
    hours = st.integers(1, 48).map(lambda hours: f"{hours}h")
    pattern = st.fixed_dictionaries(
        {
            "id": st.sampled_from(["A-1", "A-2"]),
            "path": st.just("replicas"),
            "when": st.just("lowered"),
            "strength": st.sampled_from(["refuse", "note"]),
            "says": st.just("no"),
        }
    )
    freeze = st.fixed_dictionaries(
        {
            "name": st.sampled_from(NAMES),
            "from": st.just("2026-03-27T00:00"),
            "to": st.just("2026-03-30T06:00"),
        }
    )
    key = st.sampled_from([{"id": name, "publicKey": "ed25519:AAAA"} for name in NAMES])
    distinct = {"unique_by": lambda each: each.get("id") or each.get("name"), "max_size": 2}  # type: ignore
    return safety(
        appliesTo={"tiers": draw(st.lists(st.integers(1, 4), min_size=1, unique=True))},
        record={
            "require": draw(st.lists(st.sampled_from(["what", "why"]), max_size=3)),
            "unknown": draw(st.sampled_from(["asAI", "block"])),
        },
        approvals={
            "count": count,
            "senior": draw(st.integers(0, count)),
            "approverGroups": draw(groups()),
            "seniorGroups": draw(groups()),
            "deniedGroups": draw(groups(0)),
            "presence": draw(st.sampled_from(["None", "Required"])),
            "expireAfter": draw(hours),
            "reviewWithin": draw(hours),
        },
        patterns={
            "refuse": draw(st.lists(st.sampled_from(["KP-1", "KP-2"]), max_size=3)),
            "own": draw(st.lists(pattern, **distinct)),
        },
        exposure={
            "unapprovedMax": draw(st.integers(0, 1_000_000)),
            "firstSliceMax": draw(st.integers(1, 1_000_000)),
            "maxStepRatio": draw(st.integers(2, 20)),
        },
        limits={
            "perCluster": draw(st.integers(0, 9)),
            "cooldown": draw(hours),
            "attempts": draw(st.integers(1, 9)),
            "orderBudget": {"least": draw(st.integers(0, 99))},
            "brake": {"rollbacks": draw(st.integers(1, 9)), "within": draw(hours)},
        },
        freezes=draw(st.lists(freeze, **distinct)),
        groups=[{"name": name, "targets": ["shop/x"]} for name in draw(groups(0))],
        trustedKeys=draw(st.lists(key, **distinct)),
    )


@given(specs(), specs(), specs())
def test_it_does_not_matter_in_which_order_policies_are_merged(
    a: SafetyPolicySpec, b: SafetyPolicySpec, c: SafetyPolicySpec
) -> None:
    assert stricter(a, b) == stricter(b, a)
    assert stricter(stricter(a, b), c) == stricter(a, stricter(b, c))
    assert normal(stricter(a, b)) == stricter(a, b)


@given(specs(), specs())
def test_two_policies_together_are_nowhere_weaker_than_either(
    a: SafetyPolicySpec, b: SafetyPolicySpec
) -> None:
    both = stricter(a, b)
    for one in (a, b):
        assert both.approvals.count >= one.approvals.count
        assert both.approvals.senior >= one.approvals.senior
        assert not one.approvals.count or set(both.approvals.approver_groups) <= set(
            one.approvals.approver_groups
        )
        assert not one.approvals.senior or set(both.approvals.senior_groups) <= set(
            one.approvals.senior_groups
        )
        assert set(both.approvals.denied_groups) >= set(one.approvals.denied_groups)
        assert one.approvals.presence in ("None", both.approvals.presence)
        assert both.approvals.expire_after <= one.approvals.expire_after
        assert set(both.record.require) >= set(one.record.require)
        assert one.record.unknown in ("asAI", both.record.unknown)
        assert set(both.patterns.refuse) >= set(one.patterns.refuse)
        assert all(own in both.patterns.own for own in one.patterns.own)
        assert both.exposure.unapproved_max <= one.exposure.unapproved_max
        assert both.exposure.first_slice_max <= one.exposure.first_slice_max
        assert both.exposure.max_step_ratio <= one.exposure.max_step_ratio
        assert both.limits.per_cluster <= one.limits.per_cluster
        assert both.limits.cooldown >= one.limits.cooldown
        assert both.limits.attempts <= one.limits.attempts
        assert both.limits.order_budget.least <= one.limits.order_budget.least
        assert both.limits.brake.rollbacks <= one.limits.brake.rollbacks
        assert both.limits.brake.within >= one.limits.brake.within
        assert all(freeze in both.freezes for freeze in one.freezes)
        assert all(group in both.groups for group in one.groups)
        assert all(key in one.trusted_keys for key in both.trusted_keys)
        assert weaker_fields(one, both) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"approvals": {**APPROVALS, "count": 1}}, "approvals.count"),
        ({"approvals": {**APPROVALS, "senior": 0}}, "approvals.senior"),
        ({"approvals": {**APPROVALS, "approverGroups": ["devs", "ops"]}}, "approvals.approverGroups"),
        ({"approvals": {**APPROVALS, "expireAfter": "48h"}}, "approvals.expireAfter"),
        ({"exposure": {"unapprovedMax": "2%"}}, "exposure.unapprovedMax"),
        ({"limits": {"cooldown": "1h"}}, "limits.cooldown"),
        ({"limits": {"brake": {"rollbacks": 9}}}, "limits.brake"),
        ({"record": {"require": ["what"]}}, "record.require"),
        ({"freezes": []}, "freezes"),
        ({"appliesTo": {"tiers": [2]}}, "appliesTo.tiers"),
    ],
)
def test_a_weaker_text_is_named_by_its_field_and_the_way_back_is_none(
    change: dict[str, Any], named: str
) -> None:
    old = safety(freezes=[{"name": "peak", "from": "2026-03-27T00:00", "to": "2026-03-30T06:00"}])
    new = SafetyPolicySpec.model_validate({**old.wire(), **change})
    assert named in weaker_fields(old, new)
    if named != "appliesTo.tiers":
        assert named not in weaker_fields(new, stricter(old, new))
    assert weaker_fields(old, old) == []


def test_two_policies_that_share_no_approvers_let_nobody_approve() -> None:
    other = safety(approvals={**APPROVALS, "approverGroups": ["ops"]})
    assert stricter(safety(), other).approvals.approver_groups == []


def test_a_policy_that_asks_for_no_approval_takes_no_approver_from_another() -> None:
    quiet = safety(approvals={"count": 0, "senior": 0})
    assert stricter(quiet, safety()).approvals.approver_groups == ["devs"]


def test_nothing_is_stricter_than_what_an_unreadable_policy_counts_as() -> None:
    assert weaker_fields(safety(), stricter(safety(), STRICTEST)) == []
    assert stricter(safety(), STRICTEST).exposure.unapproved_max == 0
    assert stricter(safety(), STRICTEST).approvals.approver_groups == []


@pytest.mark.parametrize(
    ("policies", "stands", "rules"),
    [
        ({"reset": safety(effectiveFrom=LATER)}, Standing.PENDING, ()),
        ({"reset": safety()}, Standing.IN_FORCE, ("reset",)),
        ({"reset": ending("gone")}, Standing.OVERDUE, ("reset",)),
        ({"reset": ending("tier-1"), "tier-1": safety()}, Standing.ENDED, ("tier-1",)),
        ({"reset": ending("tier-1"), "tier-1": safety(appliesTo={"tiers": [2]})}, Standing.OVERDUE, ("reset",)),
        ({"reset": ending("tier-1"), "tier-1": safety(effectiveFrom=LATER)}, Standing.OVERDUE, ("reset",)),
        ({"reset": ending("next"), "next": ending("last"), "last": safety()}, Standing.ENDED, ("last",)),
        ({"reset": ending("next"), "next": ending("gone")}, Standing.ENDED, ("next",)),
        ({"reset": ending("next"), "next": ending("reset")}, Standing.OVERDUE, ("next", "reset")),
        ({"reset": ending("reset")}, Standing.OVERDUE, ("reset",)),
        ({"reset": ending("a"), "a": ending("b"), "b": ending("a")}, Standing.OVERDUE, ("a", "b", "reset")),
    ],
)  # fmt: skip
def test_an_end_never_leaves_a_tier_without_a_rule(
    policies: dict[str, SafetyPolicySpec], stands: Standing, rules: tuple[str, ...]
) -> None:
    assert standing("reset", policies, AFTER) is stands
    ruling = effective(policies, 1, AFTER)
    assert (ruling.names if ruling else ()) == rules


DRAWN = st.tuples(
    st.booleans(), st.sampled_from(["p", "q", "r", "s"]), st.lists(st.integers(1, 2), min_size=1, max_size=2)
)


@given(st.dictionaries(st.sampled_from(["p", "q", "r"]), DRAWN, min_size=1))
def test_whatever_ends_and_whatever_it_names_every_ruled_tier_stays_ruled(
    drawn: dict[str, tuple[bool, str, list[int]]],
) -> None:
    policies = {
        name: ending(follower, appliesTo={"tiers": tiers}) if ends else safety(appliesTo={"tiers": tiers})
        for name, (ends, follower, tiers) in drawn.items()
    }
    for tier in (1, 2):
        before, after = (effective(policies, tier, moment) for moment in (START, AFTER))
        assert (before is None) == (after is None)


def test_before_its_end_a_policy_and_its_follower_rule_together() -> None:
    policies = {"reset": ending("tier-1", exposure={"unapprovedMax": "0%"}), "tier-1": safety()}
    ruling = effective(policies, 1, START)
    assert ruling is not None
    assert ruling.names == ("reset", "tier-1")
    assert ruling.spec.exposure.unapproved_max == 0
    assert effective(policies, 2, START) is None


def test_a_run_pins_what_an_approval_rests_on_and_not_the_calendar() -> None:
    def digest(**fields: Any) -> str | None:
        return terms_of(effective({"reset": safety(**fields)}, 1, START)).digest

    assert terms_of(None).digest is None
    assert digest() == digest(
        freezes=[{"name": "peak", "from": "2026-03-27T00:00", "to": "2026-03-30T06:00"}]
    )
    assert digest() == digest(limits={"perCluster": 1})
    for fields in (
        {"record": {"require": []}},
        {"approvals": {**APPROVALS, "count": 3}},
        {"patterns": {"refuse": ["KP-101"]}},
        {"exposure": {"unapprovedMax": "0%"}},
    ):
        assert digest(**fields) != digest()
