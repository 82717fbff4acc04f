"""One monitor: a mixture, over fault sizes and start times, of likelihood ratios; large only if the null is wrong.

Enters: a grid of suspected ratios, and per look one trial (counts of two arms, or a count against an expectation).
Leaves: `log_s`, the natural logarithm of a value S with P(S ever reaches 1/alpha) <= alpha under the null, however
often one looks: what has started (S) and what has not (`rem` + `pending`) is together a non-negative supermartingale
from 1 (Ville 1939). It is a Shiryaev-Roberts sum (Shin, Ramdas, Rinaldo, arXiv 2203.03532) whose improper start is
replaced by the proper density H/(t+H)^2, so the promise holds per run and the test never falls asleep.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import exp, floor, inf, log, log1p, log2
from typing import NamedTuple

START_KICK = 0.2  # prior mass on "broken from the start"
STEP_KICK = 0.1  # of what is left, at each change of weight
HORIZON_SECONDS = 3600.0  # median of the prior on the start
MAX_HELD = 15.0  # nats of one look that may wait for the next
_EXP_LIMIT = 700.0  # e to more than this is no float


class Direction(Enum):
    DROP = "drop"  # suspected: ratio below the null edge
    RISE = "rise"  # suspected: ratio above it


class Cap(NamedTuple):
    """The most that one look may add, so that one wrong sample never convicts from rest."""

    nats: float = 6.0
    second_look: bool = True  # what was held back of one look counts if the next one says the same


@dataclass(frozen=True, slots=True)
class Grid:
    """What one monitor suspects: ratios with prior weights (sum 1), against the edge `null`; logs are kept ready."""

    direction: Direction
    ratios: tuple[float, ...]
    prior: tuple[float, ...]
    null: float
    cap: Cap = Cap()
    log_ratios: tuple[float, ...] = field(init=False, repr=False)  # ln(ratio/null)
    log_prior: tuple[float, ...] = field(init=False, repr=False)
    gaps: tuple[float, ...] = field(init=False, repr=False)  # 1 - ratio
    burst_factors: tuple[float, ...] = field(init=False, repr=False)  # multiplies phi where phi > 1

    def __post_init__(self) -> None:
        derived = {
            "log_ratios": tuple(log(ratio / self.null) for ratio in self.ratios),
            "log_prior": tuple(log(share) for share in self.prior),
            "gaps": tuple(1.0 - ratio for ratio in self.ratios),
            "burst_factors": tuple(self._burst_factor(ratio / self.null) for ratio in self.ratios),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _burst_factor(self, x: float) -> float:
        """Return what a suspected rise by x multiplies phi with: geometric clusters convict under plain phi."""
        if self.direction is Direction.DROP:
            return 1.0
        return (x - 1.0) * log(x) / (2.0 * (x - 1.0 - log(x)))


class TwoArm(NamedTuple):
    """Of `total` events, `canary` fell to the canary, which had `share` of the exposure."""

    canary: float
    total: float
    share: float


class OneArm(NamedTuple):
    """`seen` events where `expected` are tolerated."""

    seen: float
    expected: float


Trial = TwoArm | OneArm


class Mix(NamedTuple):
    """State of one monitor: started evidence per ratio, mass not started, mass waiting for the next look, time.

    `held`: whole nats per ratio that the cap held back of the last look, where it held any back. A named tuple, as the
    trials are: dozens are built in every look, and a frozen dataclass costs four times as much.
    """

    log_r: tuple[float, ...]
    rem: float
    pending: float
    t: float
    held: tuple[float, ...] = ()


def start(grid: Grid) -> Mix:
    """Return the state before any look, with the start kick given."""
    return kick(Mix((-inf,) * len(grid.ratios), 1.0, 0.0, 0.0), START_KICK)


def kick(mix: Mix, fraction: float) -> Mix:
    """Let `fraction` of the mass not yet started start with the next look."""
    moved = fraction * mix.rem
    return Mix(mix.log_r, mix.rem - moved, mix.pending + moved, mix.t, mix.held)


def share_factor(share: float) -> float:
    """Return what multiplies phi > 1 in a two-arm drop test: above one half the plain phi does not hold for bursts."""
    return log2(1.0 / (1.0 - share)) if share > 0.5 else 1.0


def effective_phi(grid: Grid, trial: Trial, phi: float) -> tuple[float, ...]:
    """Return the divisor of the evidence for each ratio, for orders that come in bursts of dispersion `phi`."""
    if phi <= 1.0:
        return (1.0,) * len(grid.ratios)
    if isinstance(trial, TwoArm) and grid.direction is Direction.DROP:
        phi *= share_factor(trial.share)
    return tuple([phi * factor for factor in grid.burst_factors])


def increments(grid: Grid, trial: Trial, phi: float) -> Sequence[float]:
    """Return the evidence of one look per ratio in nats, divided by the burst factor and not yet capped."""
    if isinstance(trial, TwoArm):
        if not 0.0 < trial.share < 1.0:
            return (0.0,) * len(grid.ratios)
        raw = _two_arm(grid, trial)
    else:
        raw = _one_arm(grid, trial)
    if phi > 1.0:
        raw = [value / divisor for value, divisor in zip(raw, effective_phi(grid, trial, phi), strict=True)]
    return raw


def _two_arm(grid: Grid, trial: TwoArm) -> list[float]:
    """Given that an event happened, it was the canary's with chance p; a ratio multiplies the odds. Demand cancels."""
    canary, total, share = trial.canary, trial.total, trial.share
    at_null = log(1.0 - share * (1.0 - grid.null))
    return [
        canary * log_ratio - total * (log(1.0 - share * gap) - at_null)
        for log_ratio, gap in zip(grid.log_ratios, grid.gaps, strict=True)
    ]


def _one_arm(grid: Grid, trial: OneArm) -> list[float]:
    seen, expected, null = trial.seen, trial.expected, grid.null
    return [
        seen * log_ratio - expected * (ratio - null)
        for log_ratio, ratio in zip(grid.log_ratios, grid.ratios, strict=True)
    ]


def log_starting_mass(mix: Mix, dt: float) -> float:
    """Return the logarithm of the mass that starts with a look of dt > 0 seconds: known before the look is taken."""
    mass = mix.pending + mix.rem * dt / (mix.t + dt + HORIZON_SECONDS)
    return log(mass) if mass > 0.0 else -inf


def confirmed(grid: Grid, mix: Mix, evidence: Sequence[float]) -> Mix:
    """Return the state with what the cap held back of the last look, as far as this look passes half a cap.

    It goes to the mass that had started by then, to which the last look belongs: no start is ever credited with more
    than the sum of its looks, so the promise holds. A wrong look that the next one does not repeat stays at its cap.
    """
    if not mix.held:
        return mix
    enough = grid.cap.nats / 2.0
    log_r = [
        old + min(held, gain - enough) if gain > enough else old
        for old, held, gain in zip(mix.log_r, mix.held, evidence, strict=True)
    ]
    return Mix(tuple(log_r), mix.rem, mix.pending, mix.t)


def advance(grid: Grid, mix: Mix, evidence: Sequence[float], dt: float) -> Mix:
    """Fold one look of dt > 0 seconds into the state that `confirmed` gave; `evidence` as `increments` gives it."""
    cap = grid.cap.nats
    log_mass = log_starting_mass(mix, dt)
    rem = mix.rem * (mix.t + HORIZON_SECONDS) / (mix.t + dt + HORIZON_SECONDS)
    log_r: list[float] = []
    for old, log_q, gain in zip(mix.log_r, grid.log_prior, evidence, strict=True):
        new = log_mass + log_q
        if old > new:
            old, new = new, old
        log_r.append(new + log1p(exp(old - new)) + (gain if gain < cap else cap))
    held = _held(evidence, cap) if grid.cap.second_look and max(evidence) >= cap + 1.0 else ()
    return Mix(tuple(log_r), rem, 0.0, mix.t + dt, held)


def _held(evidence: Sequence[float], cap: float) -> tuple[float, ...]:
    """Return whole nats, rounded down: that is valid, and short in the stored state."""
    return tuple([float(floor(min(MAX_HELD, max(0.0, gain - cap)))) for gain in evidence])


def carried(grid: Grid, mix: Mix, dt: float) -> list[float]:
    """Return per ratio the posterior chance that the fault, if it is one of that size, began before this look."""
    log_mass = log_starting_mass(mix, dt)
    return [_carried(old, log_mass + log_q) for old, log_q in zip(mix.log_r, grid.log_prior, strict=True)]


def _carried(old: float, new: float) -> float:
    return 1.0 / (1.0 + exp(new - old)) if new - old < _EXP_LIMIT else 0.0


def log_s(mix: Mix) -> float:
    """Return ln S; minus infinity before the first look."""
    return log_sum_exp(mix.log_r)


def log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    if top == -inf:
        return -inf
    return top + log(sum([exp(value - top) for value in values]))
