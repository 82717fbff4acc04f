"""The worlds that a judge has to live in: demand, noise, and the ways in which counters mislead.

A `World` is data: what the shop on simulated time (`simulated.py`) draws from. Every one
is healthy: a rollback in it is a false alarm. Bugs come from `faults.py`, by the pod.
"""

from dataclasses import dataclass

from canary.lab.shop.demand import LEVEL_MEMORY_SECONDS, LEVEL_SPREAD, daily_curve


@dataclass(frozen=True, slots=True)
class Surge:
    """Demand times `factor` between two moments, in seconds since the start of the world."""

    factor: float
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class World:
    """What is true of a shop and of how it is seen; every probability is for one look at one canary pod."""

    rate: float = 100.0  # orders a second, of the whole site, at the start of the curve
    conversion: float = 0.25  # orders per request
    curve: bool = True
    level_spread: float = LEVEL_SPREAD
    level_memory_seconds: float = LEVEL_MEMORY_SECONDS
    surges: tuple[Surge, ...] = ()
    canary_share: float = 1.0  # of the share that the weights promise the canary
    canary_ratio: float = 1.0  # orders per request of the canary, against stable
    cluster_mean: float = 1.0  # orders come in geometric clusters of this mean
    pod_spread: float = 0.0  # each pod's orders wander by this much, by themselves
    pod_memory_seconds: float = 300.0
    missed: float = 0.0  # the scrape fails
    late: float = 0.0  # orders of the look show at the next one
    reset: float = 0.0  # the counters restart within the look

    def demand(self, seconds: float) -> float:
        """Return expected orders a second at a moment, before the wandering level."""
        factor = daily_curve(seconds) if self.curve else 1.0
        for surge in self.surges:
            if surge.begin <= seconds < surge.end:
                factor *= surge.factor
        return self.rate * factor
