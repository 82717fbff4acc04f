"""When it began and what it cost: the posterior mean of the start, and of the orders seen and expected since then.

Enters: the same looks as the `orders` monitor, with its state before each. Leaves: estimates (not promises) of the
likely start, of the orders lost with an interval, and exact Poisson limits for the sentence that people read.
`family` folds it, `verdict` reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, lgamma, log, sqrt

from canary.core.detect.ratio import Interval
from canary.core.detect.startmix import TwoArm

TWO_SIDED_95 = 1.96
_EXACT_UP_TO = 2_000.0  # events; above it the cube-root limits agree to five digits
_LEAST = 0.1  # events; below it the lower limit is zero to sixteen digits, and the approximations overflow
_MAX_TERMS = 1000
_MAX_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Onset:
    """Per suspected ratio: seconds, canary orders expected and seen since the start, averaged over possible starts."""

    since: tuple[float, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]
    odds: float = 0.0  # canary to baseline exposure in the last look


@dataclass(frozen=True, slots=True)
class Since:
    """Posterior means over all suspected ratios."""

    seconds: float
    expected: float
    seen: float


def start(size: int) -> Onset:
    """Return the state before any look, for a grid of `size` ratios."""
    nothing = (0.0,) * size
    return Onset(nothing, nothing, nothing)


def fold(onset: Onset, carried: Sequence[float], trial: TwoArm, dt: float) -> Onset:
    """Fold one look; `carried` from `startmix.carried`, `trial.total` with the clipped baseline."""
    odds, expected, seen = 0.0, 0.0, 0.0
    if 0.0 < trial.share < 1.0:
        odds = trial.share / (1.0 - trial.share)
        expected = odds * (trial.total - trial.canary)
        seen = trial.canary
    return Onset(
        tuple([k * old + dt for k, old in zip(carried, onset.since, strict=True)]),
        tuple([k * old + expected for k, old in zip(carried, onset.expected, strict=True)]),
        tuple([k * old + seen for k, old in zip(carried, onset.seen, strict=True)]),
        odds or onset.odds,
    )


def means(onset: Onset, log_r: Sequence[float]) -> Since:
    """Average over the suspected ratios, weighted by their evidence."""
    top = max(log_r)
    if top == -inf:
        return Since(0.0, 0.0, 0.0)
    weights = [exp(value - top) for value in log_r]
    total = sum(weights)
    seconds, expected, seen = (
        sum([weight * value for weight, value in zip(weights, values, strict=True)]) / total
        for values in (onset.since, onset.expected, onset.seen)
    )
    return Since(seconds, expected, seen)


def lost(onset: Onset, since: Since, phi: float) -> Interval:
    """Return the orders lost since the likely start, with 95 % limits; never below 0."""
    missing = since.expected - since.seen
    spread = TWO_SIDED_95 * sqrt(phi * (1.0 + onset.odds) * since.expected)
    return Interval(max(0.0, missing), max(0.0, missing - spread), max(0.0, missing + spread))


def effect(seen: float, expected: float, phi: float) -> Interval:
    """Return seen/expected with exact 95 % Poisson limits, both counts divided by phi first."""
    if expected <= 0:
        return Interval(None, 0.0, None)
    low, high = poisson_limits(seen / phi)
    return Interval(seen / expected, low * phi / expected, high * phi / expected)


def poisson_limits(count: float, level: float = 0.05) -> tuple[float, float]:
    """Return the exact (Garwood 1936) limits of a Poisson mean, of which `count` events, whole or not, were seen."""
    if count > _EXACT_UP_TO:
        return _cube_root_limit(count, -TWO_SIDED_95), _cube_root_limit(count + 1.0, TWO_SIDED_95)
    low = _gamma_quantile(count, level / 2.0, -TWO_SIDED_95) if count >= _LEAST else 0.0
    return low, _gamma_quantile(count + 1.0, 1.0 - level / 2.0, TWO_SIDED_95)


def _cube_root_limit(shape: float, sigmas: float) -> float:
    """Return a gamma quantile as Wilson and Hilferty (1931) approximate it."""
    return shape * (1.0 - 1.0 / (9.0 * shape) + sigmas / (3.0 * sqrt(shape))) ** 3


def _gamma_quantile(shape: float, chance: float, sigmas: float) -> float:
    """Narrow the quantile down by Newton's steps from near `sigmas`; one that left the bracket is a halving instead."""
    low, high = 0.0, shape + 10.0 * sqrt(shape) + 20.0
    x = near if low < (near := _cube_root_limit(shape, sigmas)) < high else shape
    for _ in range(_MAX_HALVINGS):
        excess = _gamma_below(shape, x) - chance
        low, high = (x, high) if excess < 0 else (low, x)
        slope = exp((shape - 1.0) * log(x) - x - lgamma(shape))
        newton = x - excess / slope if slope > 0 else low
        step = newton if low < newton < high else (low + high) / 2.0
        if abs(step - x) <= 1e-10 * x:
            return step
        x = step
    return x


def _gamma_below(shape: float, x: float) -> float:
    """Return the regularised lower incomplete gamma function, by its power series (every term is positive)."""
    if x <= 0:
        return 0.0
    term = exp(shape * log(x) - x - lgamma(shape + 1.0))
    total = term
    for n in range(1, _MAX_TERMS):
        term *= x / (shape + n)
        total += term
        if term < total * 1e-15:
            break
    return min(1.0, total)
