"""The detector for thousands of runs at once: the same table of monitors, the same arithmetic, on arrays.

`Family` folds one `Look` of every run and tells `log_f`. It takes grids, priors, weights and caps from the product's
own `Settings.table`; `test_vectorised.py` holds it against `canary.core.detect` look by look, to a billionth. Evidence
is kept as R itself, not as its logarithm: a run ends at its alarm, so R stays far below what a float can hold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from streams import Arm, Floats, Look

from canary.core.detect import noise, startmix
from canary.core.detect.looks import MAX_RESETS_RUNNING
from canary.core.detect.monitors import ERROR_FLOOR, Monitor, MonitorName, Settings
from canary.core.detect.startmix import Direction, Grid

Mask = NDArray[np.bool_]
LEAST, MOST = 1e-300, 1e250  # evidence below is none, above it is the end of the run long ago


@dataclass
class Trials:
    """What one test sees of each run: two arms (`share` given), or one arm against `expected`."""

    seen: Floats
    total: Floats
    share: Floats | None

    def valid(self) -> Mask:
        return (
            np.ones(len(self.seen), bool) if self.share is None else (self.share > 0.0) & (self.share < 1.0)
        )


class Mixes:
    """One test of every run: `r[run, ratio]`, the mass not started, the mass that waits, its own time."""

    def __init__(self, grid: Grid, runs: int) -> None:
        self.grid = grid
        self.r = np.zeros((runs, len(grid.ratios)))
        self.held = np.zeros_like(self.r)
        self.rem, self.pending, self.t = np.ones(runs), np.zeros(runs), np.zeros(runs)
        self.kick(startmix.START_KICK)
        self._log_ratios = np.array(grid.log_ratios)
        self._gaps = np.array(grid.gaps)
        self._prior = np.array(grid.prior)
        self._ratios = np.array(grid.ratios)
        self._bursts = np.array(grid.burst_factors)

    def kick(self, fraction: float) -> None:
        moved = fraction * self.rem
        self.rem, self.pending = self.rem - moved, self.pending + moved

    def keep(self, rows: Mask) -> None:
        for name in ("r", "held", "rem", "pending", "t"):
            setattr(self, name, getattr(self, name)[rows])

    @property
    def s(self) -> Floats:
        return self.r.sum(axis=1)

    def update(self, trials: Trials, phi: float, dt: Floats, fed: Mask) -> None:
        """Fold one look of dt[run] seconds into the runs that are `fed`; the others stand still."""
        mass = self.pending + self.rem * dt / (self.t + dt + startmix.HORIZON_SECONDS)
        raw = self.increments(trials, phi)
        cap = self.grid.cap
        gain = np.minimum(raw, cap.nats)
        confirmed = self.r * np.exp(np.minimum(self.held, np.maximum(raw - cap.nats / 2.0, 0.0)))
        begun = confirmed + mass[:, None] * self._prior
        with np.errstate(over="ignore"):
            after = np.clip(begun * np.exp(gain), LEAST, MOST)
        self.r = np.where(fed[:, None], after, self.r)
        held = np.floor(np.clip(raw - cap.nats, 0.0, startmix.MAX_HELD)) if cap.second_look else 0.0
        self.held = np.where(fed[:, None], held, self.held)
        rest = self.rem * (self.t + startmix.HORIZON_SECONDS) / (self.t + dt + startmix.HORIZON_SECONDS)
        self.rem = np.where(fed, rest, self.rem)
        self.pending = np.where(fed, 0.0, self.pending)
        self.t = np.where(fed, self.t + dt, self.t)

    def increments(self, trials: Trials, phi: float) -> Floats:
        """Return the evidence of one look, [run, ratio] in nats, divided by the burst factor and not yet capped."""
        seen, total = trials.seen[:, None], trials.total[:, None]
        divisor = self._bursts * phi if phi > 1.0 else np.ones_like(self._bursts)
        if trials.share is None:
            return (seen * self._log_ratios - total * (self._ratios - self.grid.null)) / divisor
        valid = trials.valid()
        share = np.where(valid, trials.share, 0.5)
        if phi > 1.0 and self.grid.direction is Direction.DROP:
            divisor = divisor * np.where(share > 0.5, np.log2(1.0 / (1.0 - share)), 1.0)[:, None]
        at_null = np.log(1.0 - share * (1.0 - self.grid.null))[:, None]
        raw = seen * self._log_ratios - total * (np.log(1.0 - share[:, None] * self._gaps) - at_null)
        return np.where(valid[:, None], raw / divisor, 0.0)


class Batches:
    """Sums up to a complete look, for the monitors that compare with a weight or a clock."""

    def __init__(self, runs: int) -> None:
        self.sums = np.zeros((7, runs))  # dt; orders and requests of canary and baseline; site; expected
        self.spoilt, self.by_reset = np.zeros(runs, bool), np.zeros(runs, bool)
        self.resets = np.zeros(runs)

    def keep(self, rows: Mask) -> None:
        self.sums = self.sums[:, rows]
        self.spoilt, self.by_reset, self.resets = self.spoilt[rows], self.by_reset[rows], self.resets[rows]

    def add(self, look: Look, counts: tuple[Floats, ...]) -> tuple[Floats, Mask]:
        """Return (the sums, which runs may use them now)."""
        reset = look.reset & (self.resets < MAX_RESETS_RUNNING)
        self.sums = self.sums + np.array([look.dt, *counts])
        self.spoilt, self.by_reset = self.spoilt | reset, self.by_reset | reset
        batch, usable = self.sums, look.complete & ~self.spoilt
        self.resets = np.where(look.complete, np.where(self.by_reset, self.resets + 1, 0.0), self.resets)
        self.sums = np.where(look.complete, 0.0, self.sums)
        self.spoilt, self.by_reset = self.spoilt & ~look.complete, self.by_reset & ~look.complete
        return batch, usable


class Family:
    """All monitors of `runs` runs at one weight, from their first look on."""

    def __init__(self, settings: Settings, runs: int, weight: float) -> None:
        self.settings, self.weight, self.runs = settings, weight, runs
        self.rows: list[tuple[Monitor, list[Mixes]]] = [
            (row, [Mixes(grid, runs) for grid in row.grids]) for row in settings.table
        ]
        self.rate = np.zeros(runs)
        self.batches = Batches(runs)
        self.t = np.zeros(runs)
        self.log_f = np.full(runs, -np.inf)
        self.gained = np.zeros(runs)
        self.worst = np.zeros(runs, dtype=int)
        self.expected = np.zeros(runs)  # canary orders, by the baseline

    def keep(self, rows: Mask) -> None:
        """Go on with these runs only."""
        for _, tests in self.rows:
            for test in tests:
                test.keep(rows)
        self.batches.keep(rows)
        for name in ("rate", "t", "log_f", "gained", "worst", "expected"):
            setattr(self, name, getattr(self, name)[rows])
        self.runs = int(rows.sum())

    def update(self, look: Look, site: tuple[Floats, Floats, Floats] | None = None) -> None:
        """Fold one look of every run. `site`: orders of the whole site, and what its two forecasts expect."""
        canary, baseline = look.canary, look.baseline
        both = canary.requests + baseline.requests
        share = np.divide(canary.requests, both, out=np.zeros(self.runs), where=both > 0)
        clipped = self._winsor(look)
        counts = (canary.orders, clipped, canary.requests, baseline.requests)
        whole = (canary.orders + baseline.orders, np.zeros(self.runs)) if site is None else site[:2]
        batch, usable = self.batches.add(look, (*counts, *whole))
        total = np.zeros(self.runs)
        best = np.full(self.runs, -1.0)
        for index, (row, tests) in enumerate(self.rows):
            if row.name == MonitorName.SITE and site is None:
                continue
            trials = self._trials(row, look, (share, clipped, batch), site)
            phi = max(row.least_phi, self.settings.phi.get(row.phi_name, 1.0))
            fed = usable if row.by_batch else np.ones(self.runs, bool)
            dt = batch[0] if row.by_batch else look.dt
            for test, trial in zip(tests, trials, strict=True):
                test.update(trial, phi, np.where(fed, dt, 1.0), fed)
            weighed = row.weight * np.minimum.reduce([test.s for test in tests])
            self.worst = np.where(weighed > best, index, self.worst)
            best = np.maximum(best, weighed)
            total += weighed
        log_f = np.log(np.maximum(total, LEAST))
        self.gained = np.subtract(log_f, self.log_f, out=np.zeros(self.runs), where=np.isfinite(self.log_f))
        odds = share / np.maximum(1.0 - share, 1e-12)
        self.expected = self.expected + np.where((share > 0.0) & (share < 1.0), odds * baseline.orders, 0.0)
        self.log_f, self.t = log_f, self.t + look.dt

    def _winsor(self, look: Look) -> Floats:
        events, exposure = look.baseline.orders, look.baseline.requests
        phi = self.settings.phi.get(MonitorName.ORDERS, 1.0)
        usual = noise.WINSOR_FACTOR * self.rate * exposure
        bound = usual + 4.0 * np.sqrt(usual * phi) + 3.0
        clipped = np.where(self.rate > 0.0, np.minimum(events, bound), events)
        keep = np.where(self.rate > 0.0, np.exp(-look.dt / noise.WINSOR_MEMORY_SECONDS), 0.0)
        learnt = keep * self.rate + (1.0 - keep) * clipped / np.maximum(exposure, 1.0)
        self.rate = np.where(exposure > 0.0, learnt, self.rate)
        return clipped

    def _trials(
        self,
        row: Monitor,
        look: Look,
        prepared: tuple[Floats, Floats, Floats],
        site: tuple[Floats, Floats, Floats] | None,
    ) -> list[Trials]:
        share, clipped, batch = prepared
        canary, baseline, weight = look.canary, look.baseline, np.full(self.runs, self.weight)
        match row.name:
            case MonitorName.ORDERS:
                return [Trials(canary.orders, canary.orders + clipped, share)]
            case MonitorName.ORDERS_BY_WEIGHT:
                return [Trials(batch[1], batch[1] + batch[2], weight)]
            case MonitorName.ERRORS:
                return [
                    Trials(canary.errors, canary.errors + baseline.errors, share),
                    Trials(canary.errors, ERROR_FLOOR * canary.requests, None),
                ]
            case MonitorName.SLOW:
                return [Trials(canary.slow, canary.slow + baseline.slow, share)]
            case MonitorName.TRAFFIC:
                return [Trials(batch[3], batch[3] + batch[4], weight)]
            case MonitorName.SITE:
                assert site is not None
                return [Trials(batch[5], batch[6], None), Trials(batch[5], batch[6] * site[2], None)]
        raise ValueError(row.name)


def sample_counts(arm: Arm, run: int) -> tuple[float, float, float, float]:
    """Return what one run counted, as the product's own `Counts` takes it."""
    return tuple(float(count[run]) for count in arm.counts)  # type: ignore[return-value]
