"""Steady looks at a shop of 100 orders/s, 5 s each, for tests of single rules: what is asked for, no chance in it."""

from dataclasses import replace

from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import (
    ExtraMonitor,
    Judgement,
    MonitorName,
    Settings,
    State,
    judge,
    start,
    update,
)

NO_WAIT = {"min_step_seconds": 0.0, "min_watch_seconds": 0.0}
SHOP = Settings()
ORDERS_ONLY = Settings(monitors=frozenset({MonitorName.ORDERS}))
LATE = ExtraMonitor("late-promises", rise=True)
BASKETS = ExtraMonitor("baskets", rise=False)


def arm(orders: float, requests: float, **extra: float) -> Counts:
    named = {name.replace("_", "-"): count for name, count in extra.items()}
    return Counts(orders, requests, requests * 0.001, requests * 0.01, named)


def look(t: float, ratio: float = 1.0, *, weight_ppm: int = 50_000, **fields: object) -> Sample:
    """Return a healthy look of 5 s at 100 orders/s, but for the canary's order ratio."""
    share = weight_ppm / 1_000_000
    canary, baseline = arm(500 * share * ratio, 25_000 * share), arm(500 * (1 - share), 25_000 * (1 - share))
    site = SiteCounts((canary.orders or 0.0) + (baseline.orders or 0.0), 500.0, 500.0)
    return replace(Sample(t, weight_ppm, canary, baseline, site), **fields)


def fed(settings: Settings, *samples: Sample, state: State | None = None) -> State:
    state = start(settings) if state is None else state
    for sample in samples:
        state = update(settings, state, sample)
    return state


def healthy(settings: Settings = SHOP, seconds: float = 600.0) -> State:
    return fed(settings, *(look(5.0 * at) for at in range(1, round(seconds / 5.0) + 1)))


def verdict(settings: Settings, state: State, next_weight_ppm: int | None = 100_000) -> Judgement:
    return judge(settings, state, next_weight_ppm)
