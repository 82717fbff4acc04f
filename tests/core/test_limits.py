"""What stops a start or a raise: freezes across the change of the clocks, places, cool-downs, the budget, the brake.

And what none of them ever stops: the way back.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from ruled_run import NOW, WIRE, after, given, safety, situation
from run_story import rolled_back

from canary.api.change import ChangeRecord
from canary.api.policy import Step
from canary.api.reasons import Origin, Phase, Reason, Verb, Verdict
from canary.api.safety import Freeze, SafetyPolicySpec
from canary.core.decision import Situation
from canary.core.evidence import Directive, Finding, Neighbour, Safety
from canary.core.rules.effective import Effective, fitted
from canary.core.rules.limits import freeze_on, moments, orders_a_day, seconds_left
from canary.core.telling.stored import StoredRun

BOTH = (given("sam"), given("priya"))
NEW_YORK = ZoneInfo("America/New_York")


def rules(**fields: Any) -> SafetyPolicySpec:
    return SafetyPolicySpec.model_validate({**WIRE, **fields})


def freeze(start: str, end: str, zone: str = "America/New_York", tiers: tuple[int, ...] = (1,)) -> Freeze:
    wire = {"name": "peak", "from": start, "to": end, "timezone": zone, "tiers": list(tiers)}
    return Freeze.model_validate(wire)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# -- freezes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "began", "ended"),
    [
        ("2026-03-01T00:00", "2026-03-02T00:00", "2026-03-01T05:00", "2026-03-02T05:00"),  # winter, -5
        ("2026-07-01T00:00", "2026-07-02T00:00", "2026-07-01T04:00", "2026-07-02T04:00"),  # summer, -4
        ("2026-03-07T12:00", "2026-03-08T12:00", "2026-03-07T17:00", "2026-03-08T16:00"),  # 23 hours
        ("2026-10-31T12:00", "2026-11-01T12:00", "2026-10-31T16:00", "2026-11-01T17:00"),  # 25 hours
        (
            "2026-11-01T01:30",
            "2026-11-01T03:00",
            "2026-11-01T05:30",
            "2026-11-01T08:00",
        ),  # from the first 01:30
        (
            "2026-11-01T00:00",
            "2026-11-01T01:30",
            "2026-11-01T04:00",
            "2026-11-01T06:30",
        ),  # to the second 01:30
        (
            "2026-03-08T02:30",
            "2026-03-08T04:00",
            "2026-03-08T06:30",
            "2026-03-08T08:00",
        ),  # an hour there is not
        ("2026-03-08T00:00", "2026-03-08T02:30", "2026-03-08T05:00", "2026-03-08T07:30"),
    ],
)
def test_a_freeze_begins_and_ends_by_the_clocks_of_its_place(
    start: str, end: str, began: str, ended: str
) -> None:
    wanted = freeze(start, end)
    assert moments(wanted, NEW_YORK) == (at(began), at(ended))
    for moment, frozen in ((at(began), True), (at(began) - timedelta(seconds=1), False), (at(ended), False)):
        assert bool(freeze_on([wanted], 1, moment, {"America/New_York": NEW_YORK})) is frozen


@drawn(st.integers(0, 365 * 24 * 60))
def test_in_no_minute_of_the_year_is_a_local_time_within_the_freeze_free(minute: int) -> None:
    """Whatever the clocks do: where a wall clock in New York shows a frozen time, it is frozen."""
    moment = at("2026-01-01T00:00") + timedelta(minutes=minute)
    wall = moment.astimezone(NEW_YORK).replace(tzinfo=None)
    for start, end in (("2026-03-08T01:00", "2026-03-08T03:30"), ("2026-11-01T00:30", "2026-11-01T01:45")):
        shown = datetime.fromisoformat(start) <= wall < datetime.fromisoformat(end)
        frozen = freeze_on([freeze(start, end)], 1, moment, {"America/New_York": NEW_YORK})
        assert not shown or frozen


@pytest.mark.parametrize("zones", [{}, {"Mars/Phobos": None}])
def test_a_time_zone_without_data_freezes_and_is_named(zones: dict[str, None]) -> None:
    said = freeze_on([freeze("2020-01-01T00:00", "2020-01-02T00:00", "Mars/Phobos")], 1, NOW, zones)
    assert said == "frozen (peak): the time zone Mars/Phobos is not known here"
    assert not freeze_on([freeze("2020-01-01T00:00", "2020-01-02T00:00", "Mars/Phobos")], 2, NOW, zones)


PEAK = {"name": "peak", "from": "2026-03-11T00:00", "to": "2026-03-12T00:00"}
FROZEN = safety(rules(freezes=[PEAK]), zones={"UTC": UTC})
BRAKED = safety(braked="3 rollbacks within 60 min")
COOLING = safety(neighbours=(Neighbour("shop/shop", False, NOW - timedelta(hours=1)),))
SPENT = safety(neighbours=(Neighbour("shop/shop", False, None, 51.0, NOW),))
CLOSED = {"frozen": FROZEN, "braked": BRAKED, "cooling": COOLING, "spent": SPENT}
OLD = [each.model_copy(update={"at": NOW - timedelta(hours=2)}) for each in BOTH]


@pytest.mark.parametrize("name", CLOSED)
def test_what_is_closed_stops_a_start_a_raise_and_a_commit(name: str) -> None:
    ruled = {"safety": CLOSED[name]}
    for start in (
        situation(*OLD, ppm=0, step=-1, phase=Phase.HELD, evidence=ruled),
        situation(*OLD, evidence=ruled),
        situation(*OLD, ppm=1_000_000, step=2, phase=Phase.BAKING, evidence=ruled),
    ):
        status = after(start)
        assert status.phase is start.phase
        assert status.traffic.weight_ppm == start.weight_ppm
        assert status.reason in (Reason.FROZEN, Reason.LIMIT_REACHED)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.BAKING])
def test_t_p7_nothing_that_is_closed_stops_the_way_back(name: str, phase: Phase) -> None:
    bad = {"finding": Finding(Verdict.ROLL_BACK, Reason.ORDERS_COLLAPSED, "orders -100 %")}
    abort = {"directives": (Directive("u", "ask", Verb.ABORT, "lee"),)}
    for why in (bad, abort):
        status = after(
            situation(*OLD, ppm=500_000, step=1, phase=phase, evidence={"safety": CLOSED[name], **why})
        )
        assert status.traffic.weight_ppm == 0
        assert status.phase is Phase.ROLLING_BACK


# -- places ----------------------------------------------------------------------------------------------------------


def held(ruled: Safety, origin: Origin = Origin.AI) -> Situation:
    record = ChangeRecord(authors=["dana"], origin=origin)
    return situation(
        *BOTH, ppm=0, step=-1, phase=Phase.HELD, evidence={"safety": ruled}, spec={"change": record}
    )


GROUP = {"groups": [{"name": "order-path", "targets": ["shop/shop", "pay/ledger"]}]}


@pytest.mark.parametrize(
    ("limits", "neighbours", "says"),
    [
        ({}, [], ""),
        ({}, ["pay/ledger"], ""),
        (GROUP, ["pay/ledger"], "1 of 1 changes that are not proved human are under way in group"),
        ({}, ["shop/cart"], "in namespace shop: shop/cart"),
        ({"limits": {"perNamespace": 2}}, ["shop/cart"], ""),
        ({}, ["a/1", "b/2", "c/3", "d/4"], ""),
        ({}, ["a/1", "b/2", "c/3", "d/4", "e/5"], "5 of 5"),
        ({"limits": {"perCluster": 0}}, [], "0 of 0"),
        ({}, ["shopping/cart"], ""),
    ],
)  # fmt: skip
def test_t_p5_a_change_waits_for_a_free_place(
    limits: dict[str, Any], neighbours: list[str], says: str
) -> None:
    others = tuple(Neighbour(name, True, None) for name in neighbours)
    status = after(held(safety(rules(**limits), neighbours=others)))
    assert status.phase is (Phase.HELD if says else Phase.PREPARING)
    assert says in status.message
    idle = tuple(Neighbour(name, False, None) for name in neighbours)
    if "0 of 0" not in says:
        assert after(held(safety(rules(**limits), neighbours=idle))).phase is Phase.PREPARING
    human = after(held(safety(rules(**limits), neighbours=others), Origin.HUMAN))
    assert human.phase is Phase.PREPARING


@pytest.mark.parametrize(
    ("unknown", "origin", "starts"),
    [
        ("block", Origin.UNKNOWN, False),
        ("block", Origin.AI, True),
        ("block", Origin.HUMAN, True),
        ("asAI", Origin.UNKNOWN, True),
    ],
)
def test_a_change_of_unknown_origin_is_blocked_or_counts_as_ai(
    unknown: str, origin: Origin, starts: bool
) -> None:
    status = after(held(safety(rules(record={"unknown": unknown})), origin))
    assert (status.phase is Phase.PREPARING) is starts


@pytest.mark.parametrize(
    ("origin", "steps", "plan"),
    [
        (Origin.AI, [10_000, 50_000, 250_000, 1_000_000], [10_000, 50_000, 250_000, 1_000_000]),
        (Origin.AI, [50_000, 1_000_000], [10_000, 50_000, 250_000, 1_000_000]),
        (Origin.UNKNOWN, [1_000_000], [10_000, 50_000, 250_000, 1_000_000]),
        (Origin.AI, [1_000, 100_000], [1_000, 5_000, 25_000, 100_000]),
        (Origin.HUMAN, [50_000, 1_000_000], [50_000, 1_000_000]),
    ],
)
def test_a_plan_that_begins_too_high_or_leaps_gets_steps_between(
    origin: Origin, steps: list[int], plan: list[int]
) -> None:
    given_steps = [Step(weight=ppm, approval=True) for ppm in steps]
    found = fitted(given_steps, origin, Effective(("reset",), rules()))
    assert [step.weight for step in found] == plan
    assert [step for step in found if step.approval] == given_steps
    assert fitted(given_steps, origin, None) == given_steps


# -- after a rollback --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ago", "left"),
    [
        ([], 0),
        ([1], 3),
        ([4], 0),
        ([3.5, 20], 4.5),  # twice within a week: 8 h
        ([3.5, 20, 100], 12.5),  # thrice: 16 h
        ([3.5, 24 * 7 + 1], 0.5),  # the other one is too long ago
        ([24 * 7], 0),
    ],
)
def test_a_cool_down_doubles_with_each_repeat_within_a_week(ago: list[float], left: float) -> None:
    ends = [NOW - timedelta(hours=hours) for hours in ago]
    assert max(0.0, seconds_left(ends, timedelta(hours=4), NOW)) == left * 3600


def test_the_group_waits_too_but_shorter() -> None:
    def status(minutes: int) -> str:
        other = Neighbour("pay/ledger", False, NOW - timedelta(minutes=minutes))
        return after(
            situation(*OLD, evidence={"safety": safety(rules(**GROUP), neighbours=(other,))})
        ).message

    assert "group order-path cools down" in status(29)
    assert "cools down" not in status(31)


@pytest.mark.parametrize(
    ("lost", "when", "own", "stops"),
    [
        (50.0, NOW, "", False),
        (51.0, NOW, "", True),
        (51.0, NOW - timedelta(days=1), "", False),
        (30.0, NOW, "21", True),
        (0.0, NOW, "51", True),
        (0.0, NOW, "-5", False),
    ],
)
def test_orders_lost_today_are_counted_against_the_budget_of_app_and_group(
    lost: float, when: datetime, own: str, stops: bool
) -> None:
    for workload in ("shop/shop", "pay/ledger"):
        facts = safety(rules(**GROUP), neighbours=(Neighbour(workload, False, None, lost, when),))
        start = situation(*BOTH, evidence={"safety": facts})
        analysis = start.status.analysis.model_copy(
            update={"lost_low": own if workload == "shop/shop" else ""}
        )
        status = after(start.with_status(start.status.model_copy(update={"analysis": analysis})))
        expected = stops and (workload == "shop/shop" or lost > 50)
        assert (status.traffic.weight_ppm == 10_000) is expected, status.message


def test_a_large_shop_may_lose_its_share_of_the_days_orders() -> None:
    def status(share: str, lost: float) -> Any:
        ruled = rules(limits={"orderBudget": {"share": share}})
        facts = safety(ruled, neighbours=(Neighbour("shop/shop", False, None, lost, NOW, 25_000_000.0),))
        return after(situation(*BOTH, evidence={"safety": facts}))

    assert status("0.01%", 2_500.0).traffic.weight_ppm == 500_000
    assert "more than the budget of 2,500" in status("0.01%", 2_501.0).message
    assert "more than the budget of 50" in status("0%", 51.0).message


def test_the_days_orders_are_taken_from_what_the_last_step_expected() -> None:
    run = rolled_back()
    run["status"]["analysis"]["ordersExpected"] = "44.2"  # in 15 s of 1 %
    assert orders_a_day(StoredRun(run), NOW) == pytest.approx(44.2 * 100 / 15 * 86_400)
    run["status"]["timeline"] = []
    assert orders_a_day(StoredRun(run), NOW) == 0.0
    assert orders_a_day(StoredRun({}), NOW) == 0.0


def test_t_p6_three_rollbacks_in_an_hour_pull_the_brake_until_a_person_lets_it_go() -> None:
    def status(minutes: tuple[int, ...], released: int | None = None, origin: Origin = Origin.AI) -> Any:
        others = tuple(Neighbour(f"a/{n}", False, NOW - timedelta(minutes=n)) for n in minutes)
        since = None if released is None else NOW - timedelta(minutes=released)
        facts = safety(neighbours=others, brake_released_at=since)
        record = ChangeRecord(authors=["dana"], origin=origin)
        return after(situation(*BOTH, evidence={"safety": facts}, spec={"change": record}))

    braked = status((5, 20, 59))
    assert braked.traffic.weight_ppm == 10_000
    assert "the brake is on: 3 rollbacks within 60 min" in braked.message
    assert status((5, 20, 61)).traffic.weight_ppm == 500_000
    assert status((5, 20, 59), released=10).traffic.weight_ppm == 500_000
    assert status((5, 20, 59), released=60).traffic.weight_ppm == 10_000
    assert status((5, 20, 59), origin=Origin.HUMAN).traffic.weight_ppm == 500_000
