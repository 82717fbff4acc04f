"""Shops whose whole site falls, or only seems to: sales, holidays, slow evenings; and two weeks of history before them.

A `SiteWorld` says what the demand does on the day of the run. Each history is drawn once and shared by a group of
runs; the forecast and its floors come from the product's own `forecast`. Both arms always do alike here.
"""

from dataclasses import dataclass
from math import exp, pi

import numpy as np
from streams import HEALTHY, Arm, Cell, Floats, Look, Streams

from canary.core.detect.forecast import MINUTES, SiteForecast, forecast
from canary.lab.shop.worlds import World

DAYS = 14
DAY_SD, SLOW_SD, SLOW_MEMORY, FAST_SD, FAST_MEMORY = 0.10, 0.08, 1800.0, 0.05, 60.0
FAULT_AT = 1200.0
START_MINUTE = 600


@dataclass(frozen=True)
class SiteWorld:
    """Demand on the day of the run, times what the time of day promises."""

    factor: float = 1.0
    surge: tuple[float, float, float] = (1.0, 0.0, 0.0)  # (factor, from, to), seconds of the run
    slide: float = 0.0  # the share that is gone after an hour, evenly

    def demand(self, t: Floats) -> Floats:
        times, begin, end = self.surge
        surge = np.where((t >= begin) & (t < end), times, 1.0)
        return self.factor * surge * (1.0 - self.slide * np.clip(t / 3600.0, 0.0, 1.0))


SITE_WORLDS = {
    "ordinary day": SiteWorld(),
    "flash sale": SiteWorld(surge=(10.0, 1200.0, 2400.0)),
    "end of a flash sale": SiteWorld(surge=(10.0, -1e9, 1200.0)),
    "holiday": SiteWorld(factor=0.6),
    "double day": SiteWorld(factor=2.0),
    "slide of 30 %": SiteWorld(slide=0.3),
}


def curve(minute: Floats) -> Floats:
    return 1.0 + 0.3 * np.sin(2.0 * pi * (minute / MINUTES + 0.2))


def _wandering(rng: np.random.Generator, sd: float, memory: float, step: float, size: int) -> Floats:
    keep = exp(-step / memory)
    value, out = rng.normal(0.0, sd), np.empty(size)
    noise = rng.normal(0.0, sd * np.sqrt(1.0 - keep * keep), size)
    for at in range(size):
        out[at] = value = keep * value + noise[at]
    return out


def history(rate: float, rng: np.random.Generator) -> list[list[float]]:
    """Draw two weeks of orders per minute."""
    minutes = np.arange(MINUTES, dtype=float)
    days = []
    for _ in range(DAYS):
        level = rng.normal(0.0, DAY_SD) + _wandering(rng, SLOW_SD, SLOW_MEMORY, 60.0, MINUTES)
        level += _wandering(rng, FAST_SD, FAST_MEMORY, 60.0, MINUTES)
        days.append(rng.poisson(60.0 * rate * curve(minutes) * np.exp(level)).astype(float).tolist())
    return days


@dataclass
class SiteStreams:
    """Runs of one site world that share a history. `keep_share`: what the site keeps of its orders after the fault."""

    cell: Cell
    world: SiteWorld
    keep_share: float
    runs: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        made = forecast(history(self.cell.rate, self.rng), [1.0] * 30, START_MINUTE)
        assert made is not None
        assert made.history is not None
        self.forecast: SiteForecast = made
        self.t = np.full(self.runs, -1800.0)
        self.day = self.rng.normal(0.0, DAY_SD, self.runs)
        self.slow = self.rng.normal(0.0, SLOW_SD, self.runs)
        self.fast = self.rng.normal(0.0, FAST_SD, self.runs)
        self.arms = Streams(self.cell, World(), HEALTHY, self.runs, self.rng)
        before = sum(self.rng.poisson(self._due(60.0)) for _ in range(30))
        usual = sum(made.history[(START_MINUTE - back) % MINUTES] for back in range(1, 31))
        self.level = before / usual

    def _due(self, dt: float) -> Floats:
        """Return the orders due on the site in the next dt seconds, and move on."""
        minute = START_MINUTE + self.t / 60.0
        wander = np.exp(self.day + self.slow + self.fast)
        due = self.cell.rate * dt * curve(minute) * self.world.demand(self.t) * wander
        self.slow = self._wandered(self.slow, dt, SLOW_SD, SLOW_MEMORY)
        self.fast = self._wandered(self.fast, dt, FAST_SD, FAST_MEMORY)
        self.t = self.t + dt
        return due

    def _wandered(self, value: Floats, dt: float, sd: float, memory: float) -> Floats:
        keep = exp(-dt / memory)
        return keep * value + np.sqrt(1.0 - keep * keep) * self.rng.normal(0.0, sd, self.runs)

    def look(self, dt: float) -> tuple[Look, tuple[Floats, Floats, Floats]]:
        """Draw one look, and (site orders, orders expected by the clock, level of the half hour before)."""
        start = START_MINUTE + float(self.t[0]) / 60.0
        kept = self.keep_share if self.t[0] >= FAULT_AT else 1.0
        due, share = self._due(dt), self.cell.share
        sold, ok = np.full(self.runs, kept), np.full(self.runs, 0.001)
        canary: Arm = self.arms.arm_counts(due * share, sold, ok)
        baseline: Arm = self.arms.arm_counts(due * (1.0 - share), sold, ok)
        every, none = np.ones(self.runs, bool), np.zeros(self.runs)
        look = Look(np.full(self.runs, dt), canary, baseline, every, ~every, none)
        assert self.forecast.history is not None
        hist = self.forecast.history[int(start) % MINUTES] * dt / 60.0
        return look, (canary.orders + baseline.orders, np.full(self.runs, hist), self.level)
