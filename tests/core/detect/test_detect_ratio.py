"""What lets a step pass: a loss that matters is excluded, wrongly with at most 5 %, and sooner than by the interval."""

from math import comb, exp, log
from random import Random
from statistics import median

import pytest

from canary.core.detect import ratio
from canary.core.detect.startmix import TwoArm

SHARE = 0.1
LIMIT = log(1.0 / ratio.LEVEL)


def look(true_ratio: float, orders: float, rng: Random) -> TwoArm:
    """Draw the orders of one look at a slice of a tenth, of which `orders` are the canary's where it is healthy."""
    canary = _poisson(orders * true_ratio, rng)
    return TwoArm(canary, canary + _poisson(orders * (1.0 - SHARE) / SHARE, rng), SHARE)


def _poisson(mean: float, rng: Random) -> float:
    return float(max(0, round(rng.gauss(mean, mean**0.5))))  # means of 50 and more


def looks_to_pass(true_ratio: float, margin: float, rng: Random, most: int) -> tuple[int, int]:
    """Return after how many looks the loss was excluded, and the interval's lower end was high enough."""
    state, passed, by_interval = ratio.RatioCS(), most, most
    for count in range(1, most):
        state = ratio.add(state, look(true_ratio, 50.0, rng), 1.0)
        reading = ratio.read(state)
        if ratio.against_loss(reading, margin) >= LIMIT:
            passed = min(passed, count)
        if ratio.limits(reading)[0] >= 1.0 - margin:
            by_interval = min(by_interval, count)
        if passed < most and by_interval < most:
            break
    return passed, by_interval


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("share", [0.005, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("worse", [0.0, 0.02, 0.1])
def test_under_any_loss_of_the_margin_or_more_the_evidence_is_worth_at_most_one(
    margin: float, share: float, worse: float
) -> None:
    """Exactly, over every outcome of a look of thirty orders: so it stays below 20 with 95 % (Ville)."""
    truth = 1.0 - margin - worse
    chance = share * truth / (share * truth + 1.0 - share)
    worth = 0.0
    for canary in range(31):
        state = ratio.add(ratio.RatioCS(), TwoArm(canary, 30.0, share), 1.0)
        probability = comb(30, canary) * chance**canary * (1.0 - chance) ** (30 - canary)
        worth += probability * exp(ratio.against_loss(ratio.read(state), margin))
    assert worth <= 1.0 + 1e-9


def test_a_loss_of_the_margin_passes_in_at_most_one_run_of_twenty() -> None:
    rng = Random("loss of the margin")
    passed = sum(looks_to_pass(0.9, 0.1, rng, 150)[0] < 150 for _ in range(200))
    assert passed <= 10


def test_a_healthy_version_passes_sooner_than_by_the_interval() -> None:
    rng = Random("healthy")
    runs = [looks_to_pass(1.0, 0.05, rng, 600) for _ in range(30)]
    passed, by_interval = (median(each[which] for each in runs) for which in (0, 1))
    assert passed < 0.95 * by_interval


def test_a_margin_between_two_ratios_of_the_grid_asks_for_the_stricter_one() -> None:
    rng, state = Random("between"), ratio.RatioCS()
    for _ in range(10):
        state = ratio.add(state, look(1.0, 50.0, rng), 1.0)
    reading = ratio.read(state)
    assert ratio.against_loss(reading, 0.065) == ratio.against_loss(reading, 0.06)
