"""When to look again: the evidence asks for it, and never for a later look than the policy's pace."""

from itertools import pairwise
from math import inf
from random import Random

import pytest

from canary.core.detect import pace
from canary.core.detect.counters import Counts, Sample
from canary.core.detect.family import Settings, judge, start, update

SETTLED = {"step_seconds": 600.0, "gained": 0.0, "evidence_log": -7.0, "orders_expected": 3000.0}


def test_a_healthy_run_is_looked_at_at_the_pace_of_its_policy() -> None:
    assert pace.next_look(5.0, **SETTLED) == 5.0


@pytest.mark.parametrize("change", [{"gained": 1.0}, {"evidence_log": -2.0}])
def test_a_suspicion_asks_for_the_next_look_at_once(change: dict[str, float]) -> None:
    assert pace.next_look(5.0, **{**SETTLED, **change}) == pace.EARLY_SECONDS


def test_a_suspicion_waits_until_an_order_may_have_come() -> None:
    """A shop of one order in three minutes is not looked at four times a second for an hour."""
    slow = {**SETTLED, "evidence_log": -2.0, "orders_expected": 3.0}
    assert pace.next_look(60.0, **slow) == 50.0
    assert pace.next_look(60.0, **{**slow, "orders_expected": 0.0}) == 60.0


def test_after_a_raise_looks_come_quickly_and_ever_more_rarely() -> None:
    at, moments = 0.0, list[float]()
    while at < 60.0:
        at += pace.next_look(5.0, **{**SETTLED, "step_seconds": at})
        moments.append(at)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert moments[:3] == [0.25, 0.5, 0.75]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 5.0
    assert len([moment for moment in moments if moment <= 10.0]) < 12


def test_no_look_is_asked_for_later_than_the_pace_or_sooner_than_a_quarter_second() -> None:
    rng = Random(5)
    for _ in range(1000):
        every = rng.choice([1.0, 5.0, 15.0, inf])
        seconds = pace.next_look(
            every,
            step_seconds=rng.uniform(0.0, 100.0),
            gained=rng.uniform(-9.0, 9.0),
            evidence_log=rng.choice([-inf, rng.uniform(-9.0, 9.0)]),
            orders_expected=rng.choice([0.0, rng.uniform(0.0, 1e4)]),
        )
        assert pace.EARLY_SECONDS <= seconds <= every


def collapsed(next_look_at: bool) -> float:
    """Return seconds from a collapse after 20 min to the rollback: 1,000 orders a second, 10 %."""
    settings, t, dt = Settings(), 0.0, 5.0
    state = start(settings)
    while True:
        t += dt
        lost = 1.0 if t > 1200.0 else 0.0
        orders, visits = 100.0 * dt, 5000.0 * dt
        canary = Counts(orders * (1.0 - lost), visits, visits * 0.001, visits * 0.01)
        baseline = Counts(orders * 9.0, visits * 9.0, visits * 0.009, visits * 0.09)
        state = update(settings, state, Sample(t, 100_000, canary, baseline))
        said = judge(settings, state, None)
        if said.verdict == "RollBack":
            return t - 1200.0
        if next_look_at:
            dt = pace.next_look(
                5.0,
                step_seconds=t,
                gained=said.gained,
                evidence_log=said.evidence_log,
                orders_expected=said.orders.expected,
            )


def test_early_looks_find_a_collapse_in_half_the_time() -> None:
    assert collapsed(next_look_at=True) < 0.5 * collapsed(next_look_at=False)
