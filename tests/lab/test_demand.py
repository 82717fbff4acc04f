"""Demand: the draws are exact, and the curve is the curve."""

import math
import random

import pytest

from canary.lab.shop.demand import Wander, clustered, daily_curve, poisson

SEED = 20260305


@pytest.mark.parametrize("mean", [0.05, 0.7, 3.0, 9.9, 10.0, 30.0, 250.0])
def test_poisson_counts_follow_their_law(mean: float) -> None:
    draw, runs = random.Random(SEED), 40_000
    seen: dict[int, int] = {}
    for _ in range(runs):
        count = poisson(draw, mean)
        seen[count] = seen.get(count, 0) + 1
    # Pearson's chi-square over cells with at least 10 expected, the tails pooled; 5 sigma of its own law.
    cells, chi, pooled_seen, pooled = 0, 0.0, runs, float(runs)
    for count in range(int(mean + 12 * math.sqrt(mean) + 12)):
        expected = runs * math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
        if expected >= 10:
            chi += (seen.get(count, 0) - expected) ** 2 / expected
            pooled_seen -= seen.get(count, 0)
            pooled -= expected
            cells += 1
    chi += (pooled_seen - pooled) ** 2 / max(pooled, 10.0)
    assert chi < cells + 5 * math.sqrt(2 * cells), f"seed {SEED}"


def test_no_demand_draws_nothing() -> None:
    draw = random.Random(SEED)
    assert {poisson(draw, mean) for mean in (0.0, -1.0)} == {0}


@pytest.mark.parametrize(("cluster", "noise"), [(2.0, 3.0), (5.0, 9.0)])
def test_clusters_keep_the_mean_and_give_their_noise(cluster: float, noise: float) -> None:
    draw = random.Random(SEED)
    counts = [clustered(draw, 50.0, cluster) for _ in range(20_000)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert mean == pytest.approx(50.0, rel=0.01)
    assert variance / mean == pytest.approx(noise, rel=0.06), f"seed {SEED}"


def test_the_curve_is_one_at_the_start_and_repeats_every_day() -> None:
    assert daily_curve(0) == 1
    assert daily_curve(86_400) == pytest.approx(1)
    heights = [daily_curve(hour * 3600) for hour in range(24)]
    assert min(heights) == pytest.approx(0.7 / (1 + 0.3 * math.sin(0.4 * math.pi)), rel=0.02)


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_the_level_wanders_by_its_spread_and_remembers_for_its_memory(seconds: float) -> None:
    wander = Wander(random.Random(SEED), 0.1, 60.0)
    levels = [math.log(wander.advance(seconds)) for _ in range(60_000)]
    spread = math.sqrt(sum(level * level for level in levels) / len(levels))
    lag = int(60 / seconds)
    pairs = list(zip(levels, levels[lag:], strict=False))
    kept = sum(now * later for now, later in pairs) / len(pairs) / spread**2
    assert spread == pytest.approx(0.1, rel=0.15)
    assert kept == pytest.approx(math.exp(-1), abs=0.1)
