"""Estimates for people: exact limits of counts, the likely start of a fault, and what it cost."""

from math import exp, lgamma, log, log2
from random import Random

import pytest
from simulated_shop import Shop, run

from canary.api.reasons import Verdict
from canary.core.detect import onset, ratio
from canary.core.detect.family import Settings
from canary.core.detect.startmix import TwoArm


def chance_of_at_most(count: int, mean: float) -> float:
    return sum(exp(k * log(mean) - mean - lgamma(k + 1)) for k in range(count + 1))


@pytest.mark.parametrize("count", [0, 1, 2, 5, 17, 100, 700, 2000])
def test_the_limits_of_a_count_are_exact(count: int) -> None:
    low, high = onset.poisson_limits(float(count))
    assert chance_of_at_most(count, high) == pytest.approx(0.025, abs=1e-6)
    if count:
        assert 1.0 - chance_of_at_most(count - 1, low) == pytest.approx(0.025, abs=1e-6)


def test_the_limits_of_large_counts_go_on_where_the_exact_ones_end() -> None:
    exact, approximate = onset.poisson_limits(2000.0), onset.poisson_limits(2000.5)
    assert approximate == pytest.approx((exact[0] + 0.5, exact[1] + 0.5), rel=1e-4)


@pytest.mark.parametrize("power", [-320, -200, -100, -20, -3, -2, -1, 0, 1, 2, 3])
def test_the_limits_of_an_averaged_count_hold_it_however_small_it_is(power: int) -> None:
    """The likely start is an average over possible ones: what was seen since then can be next to nothing."""
    count = 10.0**power
    low, high = onset.poisson_limits(count)
    assert 0.0 <= low < count < high < 4.0 + 3.0 * count
    assert onset.effect(count, 1.0, 1.0).point == count


def test_a_noisier_count_has_wider_limits() -> None:
    quiet, noisy = onset.effect(50.0, 100.0, 1.0), onset.effect(50.0, 100.0, 4.0)
    assert quiet.point == noisy.point == 0.5
    assert noisy.low < quiet.low < 0.5
    assert (noisy.high or 0.0) > (quiet.high or 0.0) > 0.5


def test_nothing_expected_gives_no_estimate() -> None:
    assert onset.effect(0.0, 0.0, 1.0) == onset.Interval(None, 0.0, None)


@pytest.mark.parametrize(("order_ratio", "seconds"), [(0.01, 900.0), (0.5, 900.0)])
def test_after_a_rollback_start_and_loss_are_told_about_right(order_ratio: float, seconds: float) -> None:
    """Faults after 5 minutes; the interval must hold the true loss in nearly all runs."""
    settings = Settings(weights_ppm=(50_000,))
    shop = Shop(order_ratio=order_ratio, fault_at=300.0)
    held, start_errors, runs = 0, [], 20
    for seed in range(runs):
        outcome = run(shop, settings, seconds, Random(f"onset {seed}"))
        judgement = outcome.judgement
        assert judgement.verdict is Verdict.ROLL_BACK
        assert judgement.likely_start is not None
        start_errors.append(abs(judgement.likely_start - 300.0))
        held += judgement.lost.low <= outcome.lost <= (judgement.lost.high or 0.0)
    assert held >= 17
    assert sorted(start_errors)[runs // 2] <= 10.0


def test_a_look_without_exposure_moves_the_time_and_nothing_else() -> None:
    before = onset.fold(onset.start(1), [0.0], TwoArm(5.0, 100.0, 0.05), 5.0)
    after = onset.fold(before, [1.0], TwoArm(0.0, 95.0, 0.0), 5.0)
    assert after == onset.Onset((10.0,), before.expected, before.seen, before.odds)


def test_above_half_of_the_traffic_bursts_weigh_more_in_the_interval() -> None:
    plain = ratio.add(ratio.RatioCS(), TwoArm(90.0, 100.0, 0.9), 1.0)
    bursty = ratio.add(ratio.RatioCS(), TwoArm(90.0, 100.0, 0.9), 3.0)
    assert bursty.canary == pytest.approx(plain.canary / (3.0 * log2(10.0)))
