"""Many shops at once: what a canary and its baseline count, look after look, in worlds that mislead a judge.

A `Cell` is a shop (orders a second, the canary's share), a `World` (`lab/shop/worlds.py`) how healthy traffic behaves
and is counted (its rate and conversion apart), a `Fault` what the new version does wrong. `Streams` draws one look of
all runs at a time; the looks of one run need not be as long as those of another. Orders are Poisson around a daily wave
with slow noise that both arms share.
"""

import sys
from dataclasses import dataclass, field, replace
from math import pi, sin
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from canary.core.detect.noise import Block
from canary.lab.shop.demand import CURVE_PHASE, CURVE_SWING, DAY_SECONDS
from canary.lab.shop.worlds import World

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "detect"))
from dispersion import dispersion

Floats = NDArray[np.float64]
CONVERSION = 0.02  # orders per request
ERROR_RATE = 0.001
SLOW_RATE = 0.01
PHI_HOURS = 4.0
PHI_LOOKS = (1, 12, 60)  # one look, a minute, five minutes
LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Cell:
    """`rate` orders a second on the whole site, `share` of them the canary's."""

    rate: float
    share: float

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s, {100 * self.share:g} %"


@dataclass(frozen=True)
class Fault:
    """From `at` seconds on the canary takes `ratio` of its orders, gets `traffic` of its requests, and fails `errors`
    of them more. `spread`: the true moment is later by up to this, so that it does not fall on a look."""

    name: str
    at: float
    ratio: float = 1.0
    errors: float = 0.0
    spread: float = LOOK_SECONDS
    traffic: float = 1.0


HEALTHY = Fault("healthy", 1e12)


def demand(world: World, t: Floats) -> Floats:
    """Return orders a second as a factor of the rate at the start, before the wandering level: `World.demand`."""
    phase = 2.0 * pi * CURVE_PHASE
    wave = 1.0 + CURVE_SWING * np.sin(2.0 * pi * t / DAY_SECONDS + phase)
    factor = wave / (1.0 + CURVE_SWING * sin(phase)) if world.curve else np.ones_like(t)
    for surge in world.surges:
        factor = np.where((t >= surge.begin) & (t < surge.end), factor * surge.factor, factor)
    return factor


@dataclass
class Arm:
    """Counts of one arm in one look, one entry a run."""

    orders: Floats
    requests: Floats
    errors: Floats
    slow: Floats

    def times(self, factor: Floats) -> "Arm":
        """Return the counts as far as they survived a restart: rounded, all by the same factor."""
        return Arm(
            *(np.rint(count * factor) for count in (self.orders, self.requests, self.errors, self.slow))
        )

    def plus(self, other: "Arm", where: NDArray[np.bool_]) -> "Arm":
        return Arm(
            *(np.where(where, mine + its, mine) for mine, its in zip(self.counts, other.counts, strict=True))
        )

    @property
    def counts(self) -> tuple[Floats, Floats, Floats, Floats]:
        return self.orders, self.requests, self.errors, self.slow


@dataclass
class Look:
    """One look of every run, `dt` seconds long; `lost` is the truth, unknown to any rule."""

    dt: Floats
    canary: Arm
    baseline: Arm
    complete: NDArray[np.bool_]
    reset: NDArray[np.bool_]
    lost: Floats


@dataclass
class Streams:
    """`runs` shops of one cell in one world with one fault. `look` moves each of them on by its own dt."""

    cell: Cell
    world: World
    fault: Fault
    runs: int
    rng: np.random.Generator
    t: Floats = field(init=False)
    level: Floats = field(init=False)
    arm: Floats = field(init=False)
    fault_at: Floats = field(init=False)
    held: Arm = field(init=False)  # canary counts that will show at the next look
    late: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.t = np.zeros(self.runs)
        self.level = self.rng.normal(0.0, self.world.level_spread, self.runs)
        self.arm = self.rng.normal(0.0, self.world.pod_spread, self.runs)
        spread = self.fault.spread if self.fault.at > 0.0 else 0.0
        self.fault_at = self.fault.at + self.rng.uniform(0.0, spread, self.runs)
        self.held = Arm(*(np.zeros(self.runs) for _ in range(4)))
        self.late = np.zeros(self.runs)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Go on with these runs only."""
        for name in ("t", "level", "arm", "fault_at", "late"):
            setattr(self, name, getattr(self, name)[rows])
        self.held = Arm(*(count[rows] for count in self.held.counts))
        self.runs = int(rows.sum())

    def look(self, dt: Floats) -> Look:
        """Draw what each run counts in the next dt[run] seconds."""
        world, fault, cell = self.world, self.fault, self.cell
        orders = cell.rate * demand(world, self.t) * dt * np.exp(self.level)
        broken = np.clip((self.t + dt - self.fault_at) / dt, 0.0, 1.0)
        traffic = 1.0 - broken * (1.0 - fault.traffic)
        ratio = world.canary_ratio * (1.0 - broken * (1.0 - fault.ratio))
        due = orders * cell.share * world.canary_share
        canary = self.arm_counts(due * traffic, ratio * np.exp(self.arm), ERROR_RATE + broken * fault.errors)
        baseline = self.arm_counts(
            orders * (1.0 - cell.share), np.ones(self.runs), np.full(self.runs, ERROR_RATE)
        )
        canary, complete, reset = self._counted(canary)
        self.t = self.t + dt
        self.level = self._wander(self.level, dt, world.level_spread, world.level_memory_seconds)
        self.arm = self._wander(self.arm, dt, world.pod_spread, world.pod_memory_seconds)
        lost = orders * cell.share * broken * (1.0 - fault.ratio * fault.traffic)
        return Look(dt, canary, baseline, complete, reset, lost)

    def _wander(self, value: Floats, dt: Floats, sd: float, memory: float) -> Floats:
        if sd == 0.0:
            return value
        keep = np.exp(-dt / memory)
        return keep * value + np.sqrt(1.0 - keep * keep) * self.rng.normal(0.0, sd, self.runs)

    def arm_counts(self, due: Floats, ratio: Floats, errors: Floats) -> Arm:
        """Orders are a part of the requests; who would have ordered from a broken version still comes."""
        mean = due * ratio
        ordered = self._clustered(mean)
        requests = ordered + self.rng.poisson(np.maximum(0.0, due / CONVERSION - mean))
        return Arm(
            ordered,
            requests,
            self.rng.poisson(requests * np.minimum(1.0, errors)).astype(float),
            self.rng.poisson(requests * SLOW_RATE).astype(float),
        )

    def _clustered(self, mean: Floats) -> Floats:
        size = self.world.cluster_mean
        clusters = self.rng.poisson(mean / size)
        if size == 1.0:
            return clusters.astype(float)
        more = self.rng.negative_binomial(np.maximum(1, clusters), 1.0 / size)
        return np.where(clusters > 0, clusters + more, 0).astype(float)

    def _counted(self, canary: Arm) -> tuple[Arm, NDArray[np.bool_], NDArray[np.bool_]]:
        """Let the look be missed, its orders be late, or its counters restart, as the world has it."""
        world, everything = self.world, np.ones(self.runs, dtype=bool)
        complete, reset = everything, ~everything
        if world.late:
            later = np.where(self.rng.random(self.runs) < world.late, canary.orders, 0.0)
            canary.orders, self.late = canary.orders - later + self.late, later
        if world.reset:
            reset = self.rng.random(self.runs) < world.reset
            canary = canary.times(np.where(reset, self.rng.random(self.runs), 1.0))
        if world.missed:
            complete = self.rng.random(self.runs) >= world.missed
            whole = canary.plus(self.held, everything)
            canary = Arm(*(np.where(complete, count, 0.0) for count in whole.counts))
            self.held = Arm(*(np.where(complete, 0.0, count) for count in whole.counts))
        return canary, complete, reset


def measured_phi(cell: Cell, world: World, seed: int) -> dict[str, float]:
    """Return the noise factors of orders and requests: 4 h of two equal halves of stable, the larger of two seeds."""
    looks = round(PHI_HOURS * 3600.0 / LOOK_SECONDS)
    phi = {"orders": 1.0, "traffic": 1.0}
    for offset in (0, 1):
        rng = np.random.default_rng([seed, offset, 77])
        calm = replace(world, surges=(), canary_share=1.0, canary_ratio=1.0, missed=0.0, late=0.0, reset=0.0)
        halves = Streams(Cell(cell.rate, 0.5), calm, HEALTHY, 1, rng)
        seen = [halves.look(np.full(1, LOOK_SECONDS)) for _ in range(looks)]
        for name, blocks in (("orders", _order_blocks(seen)), ("traffic", _request_blocks(seen))):
            phi[name] = max(phi[name], dispersion(blocks, PHI_LOOKS))
    return phi


def _order_blocks(looks: list[Look]) -> list[Block]:
    return [
        Block(
            float(look.canary.orders[0]),
            float(look.canary.orders[0] + look.baseline.orders[0]),
            float(look.canary.requests[0] / (look.canary.requests[0] + look.baseline.requests[0])),
        )
        for look in looks
        if look.canary.requests[0] + look.baseline.requests[0] > 0
    ]


def _request_blocks(looks: list[Look]) -> list[Block]:
    return [
        Block(
            float(look.canary.requests[0]),
            float(look.canary.requests[0] + look.baseline.requests[0]),
            0.5,
        )
        for look in looks
    ]
