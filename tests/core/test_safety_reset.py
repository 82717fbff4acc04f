"""The ninety days that ship as an example: they begin, freeze, end on time, and never leave a gap."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import yaml
from checkout import ROOT

from canary.api.read import parse_safety, problems
from canary.api.safety import SafetyPolicySpec
from canary.core.rules.effective import Standing, effective, standing, weaker_fields
from canary.core.rules.limits import freeze_on

EXAMPLE = ROOT / "deploy/examples/safety-reset.yaml"
WRITTEN = list(yaml.safe_load_all(EXAMPLE.read_text()))
POLICIES: dict[str, SafetyPolicySpec] = {each["metadata"]["name"]: parse_safety(each) for each in WRITTEN}
RESET, AFTER = POLICIES["safety-reset-2026"], POLICIES["tier-1"]
START, END = datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 6, 8, tzinfo=UTC)
ZONES = {"America/New_York": ZoneInfo("America/New_York")}


def test_the_example_is_accepted_as_it_stands() -> None:
    assert [problems(each) for each in WRITTEN] == [(), ()]
    assert START + timedelta(days=90) == END


@pytest.mark.parametrize(
    ("now", "rules"),
    [
        (START - timedelta(seconds=1), ("tier-1",)),
        (START, ("safety-reset-2026", "tier-1")),
        (END - timedelta(seconds=1), ("safety-reset-2026", "tier-1")),
        (END, ("tier-1",)),
    ],
)
def test_it_rules_for_ninety_days_and_tier_1_before_and_after(now: datetime, rules: tuple[str, ...]) -> None:
    ruling = effective(POLICIES, 1, now)
    assert ruling is not None
    assert ruling.names == rules
    assert effective(POLICIES, 2, now) is None


def test_while_both_rule_the_reset_counts_in_every_field() -> None:
    ruling = effective(POLICIES, 1, START)
    assert ruling is not None
    assert weaker_fields(RESET, ruling.spec) == []
    assert ruling.spec.approvals.count == 2
    assert ruling.spec.approvals.presence == "Required"
    assert ruling.spec.exposure.unapproved_max == 0


def test_without_its_follower_it_goes_on_and_no_day_is_without_a_rule() -> None:
    alone = {"safety-reset-2026": RESET}
    assert standing("safety-reset-2026", alone, END) is Standing.OVERDUE
    for day in range(200):
        now = START + timedelta(days=day)
        assert effective(alone, 1, now) is not None
        assert effective(POLICIES, 1, now) is not None


def test_the_peak_is_frozen_by_the_clocks_of_new_york() -> None:
    def frozen(text: str) -> bool:
        now = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return bool(freeze_on(RESET.freezes, 1, now, ZONES))

    assert not frozen("2026-03-27T03:59:59")
    assert frozen("2026-03-27T04:00:00")
    assert frozen("2026-03-30T09:59:59")
    assert not frozen("2026-03-30T10:00:00")
