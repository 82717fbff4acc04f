"""The confidence sequence of the order ratio: how much better or worse the canary sells, valid at every moment.

Enters: orders of both arms and the canary's share of requests, look after look, fresh at each step. Leaves: an
interval that covers the true ratio at all times jointly with 95 % (a mixture against each point is an e-process:
Howard, Ramdas, McAuliffe, Sekhon 2021), and what speaks against one given loss. That question is narrower than the
interval's, so its answer comes sooner, and a step passes by it; `verdict` asks.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from operator import add as add_floats

from canary.core.detect.startmix import TwoArm, log_sum_exp, share_factor

LEVEL = 0.05
AS_GOOD = 0.9  # of the alternatives to a loss: that the canary is exactly as good
_COARSE_LOW = (
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.4,
    0.5,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.84,
    0.87,
)
_FINE = tuple(round(0.89 + 0.01 * step, 2) for step in range(23))
_COARSE_HIGH = (1.15, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0)
RATIOS = _COARSE_LOW + _FINE + _COARSE_HIGH
_ONE = RATIOS.index(1.0)
_LOG_RATIOS = tuple(log(ratio) for ratio in RATIOS)
_GAPS = tuple(1.0 - ratio for ratio in RATIOS)


def _log_prior() -> tuple[float, ...]:
    """Thirty percent spread evenly, seventy percent near 1, where healthy canaries are."""
    near = [exp(-0.5 * (log_ratio / 0.03) ** 2) for log_ratio in _LOG_RATIOS]
    return tuple(log(0.3 / len(RATIOS) + 0.7 * value / sum(near)) for value in near)


_LOG_PRIOR = _log_prior()


@dataclass(frozen=True, slots=True)
class Interval:
    """A point with its limits; `high` None means that the data give no upper limit, `point` None no estimate."""

    point: float | None
    low: float
    high: float | None


@dataclass(frozen=True, slots=True)
class RatioCS:
    """State: canary orders, and what they were weighed against, per ratio of the grid; both divided by phi."""

    canary: float = 0.0
    against: tuple[float, ...] = (0.0,) * len(RATIOS)


def add(state: RatioCS, trial: TwoArm, phi: float) -> RatioCS:
    """Fold one look into the state; a look in which one arm had no exposure says nothing."""
    share = trial.share
    if not 0.0 < share < 1.0:
        return state
    divisor = phi * share_factor(share) if phi > 1.0 else 1.0
    total = trial.total / divisor
    against = [old + total * log(1.0 - share * gap) for old, gap in zip(state.against, _GAPS, strict=True)]
    return RatioCS(state.canary + trial.canary / divisor, tuple(against))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the state says of each ratio of the grid: log-likelihoods, and their mixture under the prior."""

    likelihoods: Sequence[float]
    mixture: float


def read(state: RatioCS) -> Reading:
    """Work out what both questions below need: once a look."""
    canary = state.canary
    likelihoods = [
        canary * log_ratio - old for log_ratio, old in zip(_LOG_RATIOS, state.against, strict=True)
    ]
    return Reading(likelihoods, log_sum_exp([*map(add_floats, likelihoods, _LOG_PRIOR)]))


def limits(reading: Reading, level: float = LEVEL) -> tuple[float, float | None]:
    """Return (low, high) of the true ratio; low 0 and high None where the grid's end was not excluded."""
    likelihoods, threshold = reading.likelihoods, reading.mixture + log(level)
    kept = [index for index, value in enumerate(likelihoods) if value > threshold]
    first, last = kept[0], kept[-1]
    low = 0.0 if first == 0 else _crossing(likelihoods, threshold, first - 1)
    high = None if last == len(RATIOS) - 1 else _crossing(likelihoods, threshold, last)
    return low, high


def _crossing(likelihoods: Sequence[float], threshold: float, left: int) -> float:
    """Return the ratio between grid points `left` and `left` + 1 at which the likelihood meets the threshold."""
    before, after = likelihoods[left], likelihoods[left + 1]
    part = (threshold - before) / (after - before)
    return exp(_LOG_RATIOS[left] + part * (_LOG_RATIOS[left + 1] - _LOG_RATIOS[left]))


def against_loss(reading: Reading, margin: float) -> float:
    """Return ln of the evidence against a loss of `margin` or more. Where there is one, it ever reaches 20 with 5 %.

    It is the likelihood ratio of "as good", and a little of all that is above the margin, against the least such ratio
    of the grid: an e-process there (Wald 1945), and under every greater loss, too, where orders are fewer still.
    """
    at = _floor(margin)
    above = [
        value + share
        for value, share in zip(reading.likelihoods[at + 1 :], _LOG_PRIOR[at + 1 :], strict=True)
    ]
    alternatives = [log(1.0 - AS_GOOD) + log_sum_exp(above), log(AS_GOOD) + reading.likelihoods[_ONE]]
    return log_sum_exp(alternatives) - reading.likelihoods[at]


def _floor(margin: float) -> int:
    """Return the index of the least ratio of the grid that is not below 1 - margin."""
    return bisect_left(RATIOS, 1.0 - margin - 1e-12)


def more_orders(reading: Reading, margin: float, share: float, phi: float) -> float | None:
    """Return about how many further canary orders of a healthy version exclude a loss of `margin`.

    None where there is no exposure on both sides. A tenth is added, for a forecast should rather be late than early.
    """
    if not 0.0 < share < 1.0:
        return None
    least = RATIOS[_floor(margin)]
    divisor = phi * share_factor(share) if phi > 1.0 else 1.0
    per_order = (-log(least) + log(1.0 - share * (1.0 - least)) / share) / divisor
    return 1.1 * max(0.0, (log(1.0 / LEVEL) - against_loss(reading, margin)) / per_order)
