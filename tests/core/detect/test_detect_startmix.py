"""The promise of one monitor: mass is conserved, no look is worth more than it may be, bursts do not convict."""

from math import exp, expm1, inf, lgamma, log, log1p
from random import Random

import pytest

from canary.core.detect import startmix
from canary.core.detect.monitors import Settings
from canary.core.detect.startmix import Direction, Grid, Mix, OneArm, TwoArm

SETTINGS = Settings()
GRIDS = {f"{row.name}-{at}": grid for row in SETTINGS.table for at, grid in enumerate(row.grids)}
STRICT = {f"strict-{name}": grid for name, grid in [("orders", Settings(drop_null=0.99).table[0].grids[0])]}
ALL_GRIDS = GRIDS | STRICT
CLUSTER_MEANS = (1.0, 1.01, 1.1, 1.5, 2.0, 5.0, 20.0, 200.0)
SHARES = tuple(
    at / 1000 for at in (1, 2, 5, 10, 50, 100, 200, 300, 400, 499, 500, 501, 600, 700, 800, 900, 990, 999)
)


def cluster_growth(s: float, mean: float) -> float:
    """Return M(s) - 1 for a geometric cluster of this mean; infinite where it does not exist."""
    q = 1.0 - 1.0 / mean
    rest = 1.0 - q * exp(s)
    return expm1(s) / rest if rest > 0.0 else inf


def drift_two_arm(grid: Grid, index: int, share: float, mean: float) -> float:
    """Return the growth rate of E[exp(evidence)] per cluster at the null edge; a supermartingale has none above 0."""
    divisor = startmix.effective_phi(grid, TwoArm(0.0, 0.0, share), 2.0 * mean - 1.0)[index]
    ratio, null = grid.ratios[index], grid.null
    s = log(ratio / null) / divisor
    v = -(log1p(-share * (1.0 - ratio)) - log1p(-share * (1.0 - null))) / divisor
    return share * null * cluster_growth(s + v, mean) + (1.0 - share) * cluster_growth(v, mean)


def drift_one_arm(grid: Grid, index: int, mean: float) -> float:
    divisor = startmix.effective_phi(grid, OneArm(0.0, 0.0), 2.0 * mean - 1.0)[index]
    ratio, null = grid.ratios[index], grid.null
    return null * cluster_growth(log(ratio / null) / divisor, mean) / mean - (ratio - null) / divisor


@pytest.mark.parametrize("name", ALL_GRIDS)
def test_orders_in_bursts_do_not_convict_a_healthy_canary_at_any_share(name: str) -> None:
    grid = ALL_GRIDS[name]
    worst = max(
        drift_two_arm(grid, index, share, mean)
        for index in range(len(grid.ratios))
        for share in SHARES
        for mean in CLUSTER_MEANS
    )
    assert worst <= 1e-12


@pytest.mark.parametrize("name", ALL_GRIDS)
def test_bursts_against_an_expectation_do_not_convict_either(name: str) -> None:
    grid = ALL_GRIDS[name]
    worst = max(
        drift_one_arm(grid, index, mean) for index in range(len(grid.ratios)) for mean in CLUSTER_MEANS
    )
    assert worst <= 1e-12


def test_the_exact_check_is_sharp_enough_to_see_a_plain_burst_factor_fail() -> None:
    drop, rise = GRIDS["orders-0"], GRIDS["errors-0"]
    share, mean, phi = 0.9, 5.0, 9.0
    s, null = log(drop.ratios[0] / drop.null) / phi, drop.null
    v = -(log1p(-share * drop.gaps[0]) - log1p(-share * (1.0 - null))) / phi
    assert share * null * cluster_growth(s + v, mean) + (1.0 - share) * cluster_growth(v, mean) > 1e-3
    s = log(rise.ratios[2] / rise.null) / phi
    assert rise.null * cluster_growth(s, mean) / mean - (rise.ratios[2] - rise.null) / phi > 1e-3


@pytest.mark.parametrize("name", GRIDS)
def test_without_evidence_what_started_and_what_waits_add_up_to_one(name: str) -> None:
    grid, rng = GRIDS[name], Random(11)
    mix = startmix.start(grid)
    for look in range(200):
        if look % 40 == 39:
            mix = startmix.kick(mix, startmix.STEP_KICK)
        mix = startmix.advance(grid, mix, (0.0,) * len(grid.ratios), rng.uniform(0.2, 30.0))
        assert exp(startmix.log_s(mix)) + mix.rem + mix.pending == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_at_the_null_edge_the_expected_evidence_of_a_look_never_exceeds_one(name: str) -> None:
    """Sum over every possible outcome of a look with 40 orders: the conditional test, exactly."""
    grid, total, share = GRIDS[name], 40, 0.2
    at_edge = share * grid.null / (1.0 - share * (1.0 - grid.null))
    chances = [log_binomial(total, count, at_edge) for count in range(total + 1)]
    for index in range(len(grid.ratios)):
        expected = sum(
            exp(chance + startmix.increments(grid, TwoArm(count, total, share), 1.0)[index])
            for count, chance in enumerate(chances)
        )
        assert expected <= 1.0 + 1e-9


def log_binomial(total: int, count: int, chance: float) -> float:

    ways = lgamma(total + 1) - lgamma(count + 1) - lgamma(total - count + 1)
    return ways + count * log(chance) + (total - count) * log1p(-chance)


def test_one_enormous_look_adds_no_more_than_the_cap() -> None:
    grid = GRIDS["orders-0"]
    before, evidence = startmix.start(grid), startmix.increments(grid, TwoArm(0.0, 1e9, 0.5), 1.0)
    after = startmix.advance(grid, before, evidence, 5.0)
    assert startmix.log_s(after) == pytest.approx(startmix.log_starting_mass(before, 5.0) + grid.cap.nats)
    assert set(after.held) == {startmix.MAX_HELD}


@pytest.mark.parametrize(
    "second", [TwoArm(0.0, 1e9, 0.5), TwoArm(40.0, 1000.0, 0.05), TwoArm(50.0, 1000.0, 0.05)]
)
@pytest.mark.parametrize("name", GRIDS)
def test_what_the_cap_held_back_counts_as_far_as_the_next_look_says_the_same(
    name: str, second: TwoArm
) -> None:
    grid = GRIDS[name]
    wild = startmix.increments(grid, TwoArm(0.0, 1e9, 0.5), 1.0)
    if grid.direction is Direction.RISE:
        wild = startmix.increments(grid, TwoArm(1e9, 1e9, 0.5), 1.0)
    held = startmix.advance(grid, startmix.start(grid), wild, 5.0)
    evidence = startmix.increments(grid, second, 1.0)
    gained = [
        new - old for old, new in zip(held.log_r, startmix.confirmed(grid, held, evidence).log_r, strict=True)
    ]
    assert gained == pytest.approx(
        [min(one, max(0.0, gain - grid.cap.nats / 2)) for one, gain in zip(held.held, evidence, strict=True)]
    )


def test_no_start_is_credited_with_more_than_the_sum_of_its_looks() -> None:
    """The reason why the promise holds: one start, followed through random looks, never passes the plain sum."""
    grid, rng = GRIDS["orders-0"], Random(7)
    for _ in range(300):
        mix = Mix((-inf,) * len(grid.ratios), 0.0, 1.0, 0.0)
        plain = [0.0] * len(grid.ratios)
        for _ in range(12):
            total = float(rng.choice((20, 200, 2000)))
            count = float(round(0.05 * total * rng.choice((0.0, 0.0, 0.5, 1.0, 2.0))))
            evidence = startmix.increments(grid, TwoArm(count, total, 0.05), 1.0)
            mix = startmix.advance(grid, startmix.confirmed(grid, mix, evidence), evidence, 5.0)
            plain = [sum(pair) for pair in zip(plain, evidence, strict=True)]
            log_prior = grid.log_prior
            assert all(
                log_r - log_q <= whole + 1e-9
                for log_r, log_q, whole in zip(mix.log_r, log_prior, plain, strict=True)
            )


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_exposure_of_one_arm_time_passes_and_nothing_else(share: float) -> None:
    grid = GRIDS["orders-0"]
    assert set(startmix.increments(grid, TwoArm(5.0, 9.0, share), 1.0)) == {0.0}


def test_a_monitor_that_saw_nothing_remembers_no_earlier_start() -> None:
    grid = GRIDS["orders-0"]
    assert startmix.carried(grid, startmix.start(grid), 5.0) == [0.0] * 7


def test_a_collapse_is_remembered_from_its_first_look_on() -> None:
    grid = GRIDS["orders-0"]
    before = startmix.start(grid)
    for _ in range(3):
        evidence = startmix.increments(grid, TwoArm(0.0, 100.0, 0.05), 1.0)
        before = startmix.advance(grid, before, evidence, 5.0)
    assert startmix.carried(grid, before, 5.0)[0] > 0.99
