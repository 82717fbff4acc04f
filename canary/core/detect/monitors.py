"""The table of monitors: what each suspects, what it weighs in the family, and what one look gives it to judge.

Enters: the pinned `Settings` of a run, and per look the prepared counts (`Look`). Leaves: per monitor one or two
trials; a monitor with two (errors, site) says as much as the weaker of them. The weighted mean of all monitors is valid
under any dependence between them (Vovk and Wang 2021, arXiv 1912.06116). `family` calls this.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite, log
from typing import NamedTuple

from canary.api.reasons import PPM
from canary.core.detect.counters import Counts
from canary.core.detect.startmix import Cap, Direction, Grid, OneArm, Trial, TwoArm
from canary.errors import RefusedError

MAX_EXTRA = 8
MAX_FALSE_ROLLBACK = 0.05
TRAFFIC_PHI = 20.0  # the least noise that the split of requests is credited with
ERROR_FLOOR = 0.002  # errors per request that are tolerated whatever the baseline does
EXTRA_WEIGHT = 0.1
EXTRA_RISE_NULL = 1.2


class MonitorName(StrEnum):
    ORDERS = "orders"
    ORDERS_BY_WEIGHT = "orders_by_weight"
    ERRORS = "errors"
    SLOW = "slow"
    TRAFFIC = "traffic"
    SITE = "site"


BASE_WEIGHTS = {
    MonitorName.ORDERS: 0.45,
    MonitorName.ORDERS_BY_WEIGHT: 0.10,
    MonitorName.ERRORS: 0.20,
    MonitorName.SLOW: 0.10,
    MonitorName.TRAFFIC: 0.05,
    MonitorName.SITE: 0.10,
}
PHI_OF = {MonitorName.ORDERS_BY_WEIGHT.value: "orders", MonitorName.SITE.value: "orders"}


@dataclass(frozen=True, slots=True)
class ExtraMonitor:
    """A count of the user's that must not rise (or fall) per request; up to `floor` per request a rise is tolerated."""

    name: str
    rise: bool
    floor: float | None = None


class Sums(NamedTuple):
    """What the monitors that compare with a weight or a clock count; None: missing in a part of the sum."""

    canary_orders: float | None
    baseline_orders: float | None
    canary_requests: float | None
    baseline_requests: float | None
    site_orders: float | None
    expected: float | None
    recent: float | None


NO_SUMS = Sums(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Looks up to one in which every pod was read, at one verified weight (a share of 1)."""

    dt: float
    weight: float
    sums: Sums


@dataclass(frozen=True, slots=True)
class Look:
    """One look, prepared: `share` is the canary's share of requests (None: unknown), `clipped` bounded baselines."""

    dt: float
    share: float | None
    canary: Counts
    baseline: Counts
    settled: bool
    clipped: Mapping[str, float]
    batch: Batch | None


Trials = tuple[Trial | None, ...]


@dataclass(frozen=True, slots=True)
class Monitor:
    """One row of the table. `phi_name` says whose noise factor it uses, `by_batch` that it waits for complete looks."""

    name: str
    weight: float
    log_weight: float
    grids: tuple[Grid, ...]
    trials: Callable[[Look], Trials] = field(repr=False)
    phi_name: str
    least_phi: float = 1.0
    by_batch: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What the run's policy pins down. `phi` holds the noise factors at the start; an absent one is 1."""

    false_rollback: float = 0.001
    settle_seconds: float = 0.0
    min_watch_seconds: float = 1800.0
    min_step_seconds: float = 60.0
    monitors: frozenset[MonitorName] = frozenset(MonitorName)
    extra: tuple[ExtraMonitor, ...] = ()
    weights_ppm: tuple[int, ...] = (5_000, 10_000, 50_000, 100_000, 250_000, 500_000, PPM)
    phi: Mapping[str, float] = field(default_factory=dict[str, float])
    drop_null: float = 0.98
    theta_hist: float = 0.5
    theta_recent: float = 0.5
    # True: no second look, and a step passes by its interval, as the golden vectors have it.
    reference: bool = False
    table: tuple[Monitor, ...] = field(init=False, repr=False, compare=False)
    sizes: Mapping[str, list[int]] = field(init=False, repr=False, compare=False)  # ratios of each test

    def __post_init__(self) -> None:
        """Refuse what would break the promise, then build the table once."""
        _check_ranges(self)
        _check_extra(self)
        check_phi(self.phi, [extra.name for extra in self.extra])
        object.__setattr__(self, "table", _table(self))
        sizes = {row.name: [len(grid.ratios) for grid in row.grids] for row in self.table}
        object.__setattr__(self, "sizes", sizes)

    @property
    def limit_log(self) -> float:
        return -log(self.false_rollback)


def _check_ranges(settings: Settings) -> None:
    ranges = {
        "false_rollback": (settings.false_rollback, 1e-9, MAX_FALSE_ROLLBACK),
        "drop_null": (settings.drop_null, 0.96, 1.0),
        "theta_hist": (settings.theta_hist, 0.05, 1.0),
        "theta_recent": (settings.theta_recent, 0.05, 1.0),
    }
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise RefusedError(f"{name} is {value}; give one from {least} to {most}")


def _check_extra(settings: Settings) -> None:
    if not settings.monitors and not settings.extra:
        raise RefusedError("no monitor is configured; give at least one of " + ", ".join(MonitorName))
    if len(settings.extra) > MAX_EXTRA:
        raise RefusedError(f"{len(settings.extra)} extra monitors; give at most {MAX_EXTRA}")
    names = [extra.name for extra in settings.extra]
    if len({*names, *MonitorName}) < len(names) + len(MonitorName):
        raise RefusedError(
            "the name of an extra monitor is taken; give each its own, none of " + ", ".join(MonitorName)
        )


def check_phi(phi: Mapping[str, float], extra: list[str]) -> None:
    """Refuse a noise factor that belongs to no monitor, or is not a number of at least 1."""
    known = [MonitorName.ORDERS, MonitorName.ERRORS, MonitorName.SLOW, MonitorName.TRAFFIC, *extra]
    for name, value in phi.items():
        if name not in known:
            raise RefusedError(f"phi.{name}: no monitor has this noise factor; known are {', '.join(known)}")
        if not isfinite(value) or value < 1.0:
            raise RefusedError(f"phi.{name} is {value}; give a finite number of at least 1")


def _table(settings: Settings) -> tuple[Monitor, ...]:
    cap = Cap(min(6.0, settings.limit_log - 0.9), second_look=not settings.reference)
    rows: list[tuple[str, float, tuple[Grid, ...], Callable[[Look], Trials]]] = [
        (name, BASE_WEIGHTS[name], _grids(name, settings, cap), _TRIALS[name])
        for name in MonitorName
        if name in settings.monitors
    ]
    rows += [
        (extra.name, EXTRA_WEIGHT, _extra_grids(extra, settings, cap), _extra_trials(extra))
        for extra in settings.extra
    ]
    whole = sum(weight for _, weight, _, _ in rows)
    return tuple(
        Monitor(
            name,
            weight / whole,
            log(weight / whole),
            grids,
            trials,
            phi_name=PHI_OF.get(name, name),
            least_phi=TRAFFIC_PHI if name == MonitorName.TRAFFIC else 1.0,
            by_batch=name in (MonitorName.ORDERS_BY_WEIGHT, MonitorName.TRAFFIC, MonitorName.SITE),
        )
        for name, weight, grids, trials in rows
    )


def _grids(name: MonitorName, settings: Settings, cap: Cap) -> tuple[Grid, ...]:
    match name:
        case MonitorName.ORDERS:
            return (_drop(settings, cap),)
        case MonitorName.ORDERS_BY_WEIGHT:
            return (Grid(Direction.DROP, (0.01, 0.1, 0.25), (0.6, 0.2, 0.2), 0.45, cap),)
        case MonitorName.ERRORS:
            return (_rise(1.1, cap), _floor(cap))
        case MonitorName.SLOW:
            return (_rise(1.2, cap),)
        case MonitorName.TRAFFIC:
            return (Grid(Direction.DROP, (0.01, 0.25), (0.6, 0.4), 0.45, cap),)
        case MonitorName.SITE:
            return _site(settings.theta_hist, cap), _site(settings.theta_recent, cap)


def _extra_grids(extra: ExtraMonitor, settings: Settings, cap: Cap) -> tuple[Grid, ...]:
    if not extra.rise:
        return (_drop(settings, cap),)
    rise = _rise(EXTRA_RISE_NULL, cap)
    return (rise,) if extra.floor is None else (rise, _floor(cap))


def _drop(settings: Settings, cap: Cap) -> Grid:
    ratios = (0.01, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95)
    return Grid(Direction.DROP, ratios, (0.30, 0.20, 0.15, 0.10, 0.10, 0.10, 0.05), settings.drop_null, cap)


def _rise(null: float, cap: Cap) -> Grid:
    return Grid(Direction.RISE, (1.5, 2.0, 4.0, 16.0, 128.0), (0.2,) * 5, null, cap)


def _floor(cap: Cap) -> Grid:
    return Grid(Direction.RISE, (2.0, 4.0, 16.0, 64.0, 256.0), (0.2,) * 5, 1.0, cap)


def _site(theta: float, cap: Cap) -> Grid:
    ratios = tuple(theta * part for part in (0.01, 0.1, 0.25, 0.5))
    return Grid(Direction.DROP, ratios, (0.4, 0.2, 0.2, 0.2), theta, cap)


def _two_arm(canary: float | None, baseline: float | None, share: float | None) -> TwoArm | None:
    if canary is None or baseline is None or share is None:
        return None
    return TwoArm(canary, canary + baseline, share)


def _orders_trial(look: Look) -> TwoArm | None:
    """Return what `orders` judges: nothing while orders may still trail the requests of a new share."""
    if not look.settled:
        return None
    return _two_arm(look.canary.orders, look.clipped.get(MonitorName.ORDERS), look.share)


def raw_orders_trial(look: Look) -> TwoArm | None:
    """Return the same with the baseline as it was counted, for the interval."""
    if not look.settled:
        return None
    return _two_arm(look.canary.orders, look.baseline.orders, look.share)


def _orders(look: Look) -> Trials:
    return (_orders_trial(look),)


def _orders_by_weight(look: Look) -> Trials:
    batch = look.batch
    if batch is None:
        return (None,)
    return (_two_arm(batch.sums.canary_orders, batch.sums.baseline_orders, batch.weight),)


def _traffic(look: Look) -> Trials:
    batch = look.batch
    if batch is None:
        return (None,)
    return (_two_arm(batch.sums.canary_requests, batch.sums.baseline_requests, batch.weight),)


def _site_trials(look: Look) -> Trials:
    batch = look.batch
    if batch is None or batch.sums.site_orders is None:
        return None, None
    return tuple(
        None if expected is None else OneArm(batch.sums.site_orders, expected)
        for expected in (batch.sums.expected, batch.sums.recent)
    )


def _tolerated(count: float | None, floor: float, requests: float | None) -> OneArm | None:
    return None if count is None or requests is None else OneArm(count, floor * requests)


def _errors(look: Look) -> Trials:
    canary = look.canary
    return (
        _two_arm(canary.errors, look.baseline.errors, look.share),
        _tolerated(canary.errors, ERROR_FLOOR, canary.requests),
    )


def _slow(look: Look) -> Trials:
    return (_two_arm(look.canary.slow, look.baseline.slow, look.share),)


def _extra_trials(extra: ExtraMonitor) -> Callable[[Look], Trials]:
    def drop(look: Look) -> Trials:
        return (_two_arm(look.canary.extra.get(extra.name), look.clipped.get(extra.name), look.share),)

    def rise(look: Look) -> Trials:
        count = look.canary.extra.get(extra.name)
        two_arm = _two_arm(count, look.baseline.extra.get(extra.name), look.share)
        if extra.floor is None:
            return (two_arm,)
        return two_arm, _tolerated(count, extra.floor, look.canary.requests)

    return rise if extra.rise else drop


_TRIALS: Mapping[MonitorName, Callable[[Look], Trials]] = {
    MonitorName.ORDERS: _orders,
    MonitorName.ORDERS_BY_WEIGHT: _orders_by_weight,
    MonitorName.ERRORS: _errors,
    MonitorName.SLOW: _slow,
    MonitorName.TRAFFIC: _traffic,
    MonitorName.SITE: _site_trials,
}
