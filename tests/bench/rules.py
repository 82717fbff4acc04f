"""The information bound, and what others do with the same counts: rules that score every look of a recorded stream.

A `Record` holds all looks of all runs. A rule turns it into scores, one a look and run, that only matter where they
reach a threshold; `threshold` finds the one that at most 0.1 % of healthy runs ever reach. Peers judge the ratio of
orders per request, which is far kinder to them than what they ship: stock checks of HTTP success never see an order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, log, sqrt

import numpy as np
from streams import LOOK_SECONDS, Cell, Fault, Floats, Look, Streams
from vectorised import Mixes, Trials

from canary.core.detect import noise
from canary.core.detect.monitors import Settings
from canary.core.detect.startmix import Cap, Direction, Grid
from canary.lab.shop.worlds import World

FALSE_ROLLBACK = 0.001
LOOKS = 720
PER_MINUTE = round(60.0 / LOOK_SECONDS)
WINDOW = 5 * PER_MINUTE
ORDERS = Settings().table[0].grids[0]


@dataclass
class Record:
    """Every look of every run, [look, run]; at its end, `seconds` since the fault and canary orders `lost` so far."""

    canary_orders: Floats
    canary_requests: Floats
    canary_errors: Floats
    baseline_orders: Floats
    baseline_requests: Floats
    clipped: Floats  # baseline orders, bounded as the winsor does
    lost: Floats
    seconds: Floats


def record(cell: Cell, world: World, fault: Fault, runs: int, seed: list[int]) -> tuple[Record, list[Look]]:
    """Draw an hour of looks of 5 s; the looks themselves are for the `Family`."""
    streams = Streams(cell, world, fault, runs, np.random.default_rng(seed))
    dt = np.full(runs, LOOK_SECONDS)
    looks = [streams.look(dt) for _ in range(LOOKS)]
    ends = np.arange(1, LOOKS + 1)[:, None] * LOOK_SECONDS
    kept = Record(
        np.array([look.canary.orders for look in looks]),
        np.array([look.canary.requests for look in looks]),
        np.array([look.canary.errors for look in looks]),
        np.array([look.baseline.orders for look in looks]),
        np.array([look.baseline.requests for look in looks]),
        _clipped(looks),
        np.cumsum([look.lost for look in looks], axis=0),
        ends - streams.fault_at,
    )
    return kept, looks


def _clipped(looks: list[Look]) -> Floats:
    rate, out = np.zeros(len(looks[0].dt)), []
    keep = np.exp(-LOOK_SECONDS / noise.WINSOR_MEMORY_SECONDS)
    for look in looks:
        orders, requests = look.baseline.orders, look.baseline.requests
        usual = noise.WINSOR_FACTOR * rate * requests
        clipped = np.where(rate > 0, np.minimum(orders, usual + 4.0 * np.sqrt(usual) + 3.0), orders)
        seen = clipped / np.maximum(requests, 1.0)
        rate = np.where(requests > 0, np.where(rate > 0, keep * rate + (1.0 - keep) * seen, seen), rate)
        out.append(clipped)
    return np.array(out)


def bound(cell: Cell, ratio: float) -> float:
    """Return the canary orders that any test with this promise must lose on average, were start and size known.

    Wald (1945) for the known start; Lorden (1971) and Lai (1998) carry it to late faults.
    """
    share = cell.share
    after = ratio * share / (1.0 - share + ratio * share)
    per_order = after * log(after / share) + (1.0 - after) * log((1.0 - after) / (1.0 - share))
    seconds = -log(FALSE_ROLLBACK) / (cell.rate * (1.0 - share + ratio * share) * per_order)
    return seconds * cell.rate * share * (1.0 - ratio)


def floor(cell: Cell, ratio: float) -> float:
    """Return what lost orders are compared with: the bound, or half a look of 5 s where looks are the limit."""
    return max(bound(cell, ratio), cell.rate * cell.share * (1.0 - ratio) * LOOK_SECONDS / 2.0)


def threshold(scores: Floats) -> float:
    """Return the score that at most 0.1 % of these healthy runs ever exceed."""
    highest = np.sort(scores.max(axis=0))
    return float(highest[ceil(len(highest) * (1.0 - FALSE_ROLLBACK)) - 1])


def first_alarm(scores: Floats, limit: float, *, reached: bool = False) -> np.ndarray:
    """Return the look of the first alarm of each run, or -1. `reached`: a score equal to the limit is one, too."""
    over = scores >= limit if reached else scores > limit
    return np.where(over.any(axis=0), over.argmax(axis=0), -1)


def _windowed(counts: Floats, looks: int) -> Floats:
    """Return sums over the last `looks` looks; shorter at the beginning."""
    total = np.cumsum(counts, axis=0)
    return total - np.concatenate([np.zeros((looks, counts.shape[1])), total[:-looks]])


def order_ratio(kept: Record, looks: int) -> Floats:
    """Return orders per request, canary against baseline, over a window of looks; 1 where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        canary = _windowed(kept.canary_orders, looks) / _windowed(kept.canary_requests, looks)
        baseline = _windowed(kept.baseline_orders, looks) / _windowed(kept.baseline_requests, looks)
        ratio = canary / baseline
    return np.where(np.isfinite(ratio), ratio, 1.0)


def _failed_checks(value: Floats, every: int, failures: int) -> Floats:
    """Score the n-th worst of the checks so far, of one check every so many looks."""
    scores = np.full(value.shape, -inf)
    checks: list[Floats] = []
    for look in range(every - 1, len(value), every):
        checks.append(-value[look])
        if len(checks) >= failures:
            worst = np.partition(np.array(checks), len(checks) - failures, axis=0)
            scores[look:] = worst[len(checks) - failures]
    return scores


def naive(kept: Record, _: Fault) -> Floats:
    scores = -order_ratio(kept, WINDOW)
    scores[: PER_MINUTE - 1] = -inf
    return scores


def argo_like(kept: Record, _: Fault) -> Floats:
    """The 5-min ratio every minute; the fourth failed check (argo-rollouts 9f8d111, analysis/analysis.go)."""
    return _failed_checks(order_ratio(kept, WINDOW), PER_MINUTE, 4)


def flagger_like(failures: int) -> Callable[[Record, Fault], Floats]:
    """The 1-min ratio every minute; failed checks add up for ever (flagger 15bd6ad, pkg/controller/scheduler.go)."""

    def scores(kept: Record, _: Fault) -> Floats:
        return _failed_checks(order_ratio(kept, PER_MINUTE), PER_MINUTE, failures)

    return scores


def _two_arm_increments(kept: Record, grid: Grid) -> list[Floats]:
    """Return per look what a run's counts add for each suspected ratio, capped as the grid says."""
    test = Mixes(grid, kept.canary_orders.shape[1])
    out: list[Floats] = []
    for canary, clipped, visits, others in zip(
        kept.canary_orders, kept.clipped, kept.canary_requests, kept.baseline_requests, strict=True
    ):
        share = visits / np.maximum(1.0, visits + others)
        trials = Trials(canary, canary + clipped, share)
        out.append(np.minimum(test.increments(trials, 1.0), grid.cap.nats))
    return out


def _mixture(kept: Record, grid: Grid) -> Floats:
    test = Mixes(grid, kept.canary_orders.shape[1])
    fed, dt, scores = np.ones(test.r.shape[0], bool), np.full(test.r.shape[0], LOOK_SECONDS), []
    for canary, clipped, visits, others in zip(
        kept.canary_orders, kept.clipped, kept.canary_requests, kept.baseline_requests, strict=True
    ):
        share = visits / np.maximum(1.0, visits + others)
        test.update(Trials(canary, canary + clipped, share), 1.0, dt, fed)
        scores.append(np.log(np.maximum(test.s, 1e-300)))
    return np.array(scores)


def orders_alone(kept: Record, _: Fault) -> Floats:
    return _mixture(kept, ORDERS)


def oracle(kept: Record, fault: Fault) -> Floats:
    """It knows how large the fault would be, and has no cap."""
    return _mixture(
        kept, Grid(Direction.DROP, (min(fault.ratio, 0.99),), (1.0,), 1.0, Cap(200.0, second_look=False))
    )


def cusum(kept: Record, _: Fault) -> Floats:
    """s = max(s, ln q) + increment for each suspected ratio, the same increments as ours."""
    least = np.log(np.array(ORDERS.prior))
    state = np.tile(least, (kept.canary_orders.shape[1], 1))
    scores = []
    for gain in _two_arm_increments(kept, ORDERS):
        state = np.maximum(state, least) + gain
        scores.append(state.max(axis=1))
    return np.array(scores)


def plain(kept: Record, _: Fault) -> Floats:
    """One e-process from the start of the run on."""
    total = np.zeros((kept.canary_orders.shape[1], len(ORDERS.ratios)))
    scores = []
    for gain in _two_arm_increments(kept, ORDERS):
        total += gain
        scores.append(np.logaddexp.reduce(total + np.log(np.array(ORDERS.prior)), axis=1))
    return np.array(scores)


CALIBRATED: dict[str, Callable[[Record, Fault], Floats]] = {
    "orders alone, calibrated": orders_alone,
    "oracle": oracle,
    "CUSUM": cusum,
    "plain e-process": plain,
    "naive ratio": naive,
    "Argo-like": argo_like,
    "Flagger-like 5": flagger_like(5),
    "Flagger-like 10": flagger_like(10),
}


def kayenta_stock(kept: Record) -> np.ndarray:
    """Return the look of the alarm: Mann-Whitney on 1-min points of orders per request, every 10 min.

    spinnaker/kayenta a69573b, NetflixACAJudge.scala and MannWhitneyClassifier.scala, with its stock tolerance of 25 %.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        canary = _by_minute(kept.canary_orders) / _by_minute(kept.canary_requests)
        baseline = _by_minute(kept.baseline_orders) / _by_minute(kept.baseline_requests)
    canary, baseline = np.nan_to_num(canary), np.nan_to_num(baseline)
    alarm = np.full(canary.shape[1], -1)
    for minutes in range(10, len(canary) + 1, 10):
        at = min(minutes**2 - 1, ceil(minutes**2 / 2 + 2.326 * sqrt(minutes**2 * (2 * minutes + 1) / 12)))
        for run in np.flatnonzero(alarm < 0):
            gaps = np.sort((canary[:minutes, run, None] - baseline[None, :minutes, run]).ravel())
            if gaps[at] < -0.25 * abs(gaps[minutes**2 // 2]):
                alarm[run] = minutes * PER_MINUTE - 1
    return alarm


def _by_minute(counts: Floats) -> Floats:
    return counts.reshape(-1, PER_MINUTE, counts.shape[1]).sum(axis=1)


def http_success(minutes: int, least: float, failures: int, every: int = 1) -> Callable[[Record], np.ndarray]:
    """Return a stock check of the share of requests without an error, over so many minutes, every so many."""

    def alarm(kept: Record) -> np.ndarray:
        looks = minutes * PER_MINUTE
        errors, requests = _windowed(kept.canary_errors, looks), _windowed(kept.canary_requests, looks)
        success = 1.0 - errors / np.maximum(1.0, requests)
        return first_alarm(_failed_checks(success, every * PER_MINUTE, failures), -least)

    return alarm


HTTP_STOCK = {
    "Argo stock, every min": http_success(5, 0.95, 4),
    "Argo stock, every 5 min": http_success(5, 0.95, 4, every=5),
    "Flagger stock 5": http_success(1, 0.99, 5),
    "Flagger stock 10": http_success(1, 0.99, 10),
}
