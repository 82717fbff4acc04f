"""The worlds that a judge has to live in: demand, noise, and the ways in which counters mislead.

A `World` is data: what the shop on simulated time (`simulated.py`) draws from. `WORLDS` names those of the benchmark,
all of them healthy: a rollback in any of them is a false alarm. Bugs come from `faults.py`, by the pod.
"""

from collections.abc import Mapping
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


FOREVER = 1e12
WORLDS: Mapping[str, World] = {
    "base": World(),
    "flat": World(curve=False, level_spread=0.0),
    "flash-sale": World(surges=(Surge(10.0, 1200.0, 2400.0),)),
    "flash-sale-end": World(surges=(Surge(10.0, 0.0, 1200.0),)),
    "site-drop": World(surges=(Surge(0.05, 1200.0, FOREVER),)),
    "shared-noise": World(level_spread=0.5),
    "less-than-its-weight": World(canary_share=0.9),
    "half-its-weight": World(canary_share=0.5),
    "bursts-3": World(cluster_mean=2.0),
    "bursts-9": World(cluster_mean=5.0),
    "arm-noise-2": World(pod_spread=0.02),
    "arm-noise-5": World(pod_spread=0.05),
    "missed-scrapes": World(missed=0.10),
    "late-orders": World(late=0.05),
    "counter-resets": World(reset=0.01),
    "edge": World(canary_ratio=0.98),
}
