"""How many customers come: a daily curve, a slowly wandering level, and exact Poisson counts.

In goes a seeded `random.Random` and how much time passed; out comes an expected count, or a drawn one. The load over
real HTTP (`customers.py`) and the shop on simulated time (`simulated.py`) both draw from here.
"""

import math
from dataclasses import dataclass, field
from random import Random

DAY_SECONDS = 86_400.0
CURVE_SWING = 0.3
CURVE_PHASE = 0.2  # of a day: the run starts where demand is near its highest
LEVEL_SPREAD = 0.10
LEVEL_MEMORY_SECONDS = 60.0
_SPLIT_MEAN = 10.0  # below it inversion is quicker, from it transformed rejection


def daily_curve(seconds: float) -> float:
    """Return demand at a time as a multiple of the demand at 0: a sine over the day."""

    def height(day: float) -> float:
        return 1 + CURVE_SWING * math.sin(2 * math.pi * day)

    return height(seconds / DAY_SECONDS + CURVE_PHASE) / height(CURVE_PHASE)


@dataclass(slots=True)
class Wander:
    """A stationary AR(1) level, in logarithms: `spread` is its standard deviation, `memory_seconds` its memory."""

    random: Random
    spread: float
    memory_seconds: float
    _level: float | None = field(default=None, init=False)

    def advance(self, seconds: float) -> float:
        """Move on and return the factor by which the level multiplies demand."""
        if self._level is None:
            self._level = self.random.gauss(0.0, self.spread)
        else:
            keep = math.exp(-seconds / self.memory_seconds)
            self._level = keep * self._level + self.random.gauss(
                0.0, self.spread * math.sqrt(1 - keep * keep)
            )
        return math.exp(self._level)


def poisson(random: Random, mean: float) -> int:
    """Draw an exact Poisson count: inversion for small means, Hörmann's PTRS (1993) for large ones."""
    if mean <= 0:
        return 0
    return _by_inversion(random, mean) if mean < _SPLIT_MEAN else _by_rejection(random, mean)


def _by_inversion(random: Random, mean: float) -> int:
    left, count, floor = random.random(), 0, math.exp(-mean)
    while left > floor and floor > 0:
        left -= floor
        count += 1
        floor *= mean / count
    return count


def _by_rejection(random: Random, mean: float) -> int:
    log_mean, draw = math.log(mean), random.random
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    quick = 0.9277 - 3.6224 / (b - 2)
    while True:  # accepts with probability above 0.7 each time
        u, v = draw() - 0.5, draw()
        us = 0.5 - abs(u)
        count = math.floor((2 * a / us + b) * u + mean + 0.43) if us > 0 else -1
        if us >= 0.07 and v <= quick:
            return count
        if count < 0 or (us < 0.013 and v > us):
            continue
        bound = count * log_mean - mean - math.lgamma(count + 1)
        if v > 0 and math.log(v * inverse_alpha / (a / (us * us) + b)) <= bound:
            return count


def clustered(random: Random, mean: float, cluster_mean: float) -> int:
    """Draw a count of events that come in geometric clusters: exact, with this mean and noise 2·cluster_mean − 1."""
    if cluster_mean <= 1:
        return poisson(random, mean)
    clusters = poisson(random, mean / cluster_mean)
    if clusters == 0:
        return 0
    # n geometric sizes are n plus a negative binomial, which is a Poisson of a gamma.
    return clusters + poisson(random, random.gammavariate(clusters, cluster_mean - 1))
