"""Prepare one look: what of it can be used, what joins the next look, what waits until every pod was read.

Enters: the state and a `Sample`. Leaves: a named trouble, or the counts that the monitors may see. Missing is never
zero: a sum in which one part is missing is missing. The monitors that compare with a weight or a clock would take a
missed scrape for lost traffic, so they get sums over whole looks. `family.update` is the only caller.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite

from canary.api.reasons import PPM, MissingReason
from canary.core.detect.counters import Counts, Sample
from canary.core.detect.monitors import Batch, Look, MonitorName, Settings, Sums
from canary.core.detect.noise import winsor
from canary.core.detect.state import Carried, Silence, SiteHealth, State, Trouble, Waiting

MAX_CARRIED_LOOKS = 3
MAX_RESETS_RUNNING = 3
MAX_SECONDS = 1e9  # of a run: thirty years; a larger time is none
MAX_COUNT = 1e15  # in one look: beyond it a float no longer counts one by one
SITE_BLOCK_ORDERS = 10.0  # tolerated orders that a block of site health needs before it says anything


def out_of_time(state: State, sample: Sample) -> Trouble | None:
    """Return why the look's time forbids its use: it was counted already, or nobody knows when it was."""
    if not isfinite(sample.t):
        return Trouble(MissingReason.NOT_FINITE, "the look's time is not a finite number")
    if sample.t > MAX_SECONDS:
        return Trouble(MissingReason.MALFORMED, f"a look at {sample.t:g} s of a run is no time")
    if sample.t <= state.t:
        return Trouble(
            MissingReason.OUT_OF_ORDER, f"a look at {sample.t:g} s came after one at {state.t:g} s"
        )
    return None


def senseless(sample: Sample) -> Trouble | None:
    """Return why no count of the look can be trusted, or None."""
    if sample.disagree:
        return Trouble(MissingReason.DISAGREE, "two sources of one count disagree")
    for name, value in _named(sample):
        if value is not None and not 0.0 <= value <= MAX_COUNT:
            return _impossible(name, value)
    if not 0 <= sample.weight_ppm <= PPM or not 0.0 < sample.coverage <= 1.0:
        return Trouble(MissingReason.MALFORMED, "the weight is not a share of the traffic")
    return None


def _named(sample: Sample) -> Iterator[tuple[str, float | None]]:
    for arm, counts in (("canary", sample.canary), ("baseline", sample.baseline)):
        yield f"{arm} orders", counts.orders
        yield f"{arm} requests", counts.requests
        yield f"{arm} errors", counts.errors
        yield f"{arm} slow", counts.slow
        for name, value in counts.extra.items():
            yield f"{arm} {name}", value
    if sample.site is not None:
        yield "site orders", sample.site.orders
        yield "site expected", sample.site.expected
        yield "site recent", sample.site.recent


def _impossible(name: str, value: float) -> Trouble:
    if not isfinite(value):
        return Trouble(MissingReason.NOT_FINITE, f"{name} is {value}")
    if value < 0:
        return Trouble(MissingReason.NEGATIVE, f"{name} is {value:g}")
    return Trouble(MissingReason.TOO_LARGE, f"{name} is {value:g}")


def more_orders_than_requests(counts: Counts) -> bool:
    return counts.orders is not None and counts.requests is not None and counts.orders > counts.requests


def joined(carried: Carried | None, sample: Sample, dt: float) -> Carried:
    """Add what was carried over to this look."""
    if carried is None:
        return Carried(dt, sample.canary, sample.baseline, 1)
    return Carried(
        carried.dt + dt,
        _add_counts(carried.canary, sample.canary),
        _add_counts(carried.baseline, sample.baseline),
        carried.looks + 1,
    )


def _add_counts(left: Counts, right: Counts) -> Counts:
    names = left.extra.keys() & right.extra.keys()
    return Counts(
        _add(left.orders, right.orders),
        _add(left.requests, right.requests),
        _add(left.errors, right.errors),
        _add(left.slow, right.slow),
        {name: left.extra[name] + right.extra[name] for name in sorted(names)},
    )


def _add(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right


def absent(settings: Settings, sample: Sample) -> Trouble | None:
    """Return which count of a configured monitor is missing, or None."""
    wanted = ["requests"]
    if {MonitorName.ORDERS, MonitorName.ORDERS_BY_WEIGHT} & settings.monitors:
        wanted.append("orders")
    wanted += [name for name in (MonitorName.ERRORS, MonitorName.SLOW) if name in settings.monitors]
    missing: list[str] = []
    for arm, counts in (("canary", sample.canary), ("baseline", sample.baseline)):
        missing += [f"{arm} {name}" for name in wanted if getattr(counts, name) is None]
        missing += [f"{arm} {extra.name}" for extra in settings.extra if extra.name not in counts.extra]
    return Trouble(MissingReason.ABSENT, f"no count of {', '.join(missing)}") if missing else None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A look as the monitors may see it, and what is remembered beside it."""

    look: Look
    rates: Mapping[str, float]
    waiting: Waiting


def prepare(settings: Settings, state: State, sample: Sample, dt: float) -> Prepared:
    """Prepare a look of dt seconds whose counts make sense."""
    canary, baseline, site = sample.canary, sample.baseline, sample.site
    clipped, rates = _clipped_baselines(settings, state, baseline, dt)
    settled = sample.t - dt >= state.step.settled_at
    sums = Sums(
        canary.orders if settled else None,
        clipped.get(MonitorName.ORDERS) if settled else None,
        canary.requests,
        baseline.requests,
        *((site.orders, site.expected, site.recent) if site is not None else (None, None, None)),
    )
    batch, waiting = close(wait(state.waiting, sample, sums, dt), sample)
    look = Look(dt, _request_share(canary, baseline), canary, baseline, settled, clipped, batch)
    return Prepared(look, rates, waiting)


def _request_share(canary: Counts, baseline: Counts) -> float | None:
    """Return the canary's share of the requests; 0 where there were none, None where they are unknown."""
    if canary.requests is None or baseline.requests is None:
        return None
    both = canary.requests + baseline.requests
    return canary.requests / both if both > 0 else 0.0


def _clipped_baselines(
    settings: Settings, state: State, baseline: Counts, dt: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Return (bounded baseline counts for drop tests, learnt rates); what is missing is in neither."""
    events: dict[str, float | None] = {MonitorName.ORDERS.value: baseline.orders}
    events |= {extra.name: baseline.extra.get(extra.name) for extra in settings.extra if not extra.rise}
    clipped: dict[str, float] = {}
    rates = dict(state.rates)
    for name, count in events.items():
        if count is None or baseline.requests is None:
            continue
        bounded = winsor(rates.get(name, 0.0), (count, baseline.requests), dt, state.phi.get(name, 1.0))
        clipped[name], rates[name] = bounded.events, bounded.rate
    return clipped, rates


def wait(waiting: Waiting, sample: Sample, sums: Sums, dt: float) -> Waiting:
    """Add one look to what waits."""
    reset = sample.reset and waiting.resets < MAX_RESETS_RUNNING
    if waiting.dt > 0.0:
        sums = Sums(*map(_add, waiting.sums, sums))
    return Waiting(
        waiting.dt + dt,
        sums,
        spoilt=waiting.spoilt or reset or not sample.verified,
        reset=waiting.reset or reset,
        resets=waiting.resets,
    )


def spoil(waiting: Waiting) -> Waiting:
    """Mark that a part of the batch is lost or was taken at another weight."""
    return waiting if waiting.spoilt else replace(waiting, spoilt=True)


def close(waiting: Waiting, sample: Sample) -> tuple[Batch | None, Waiting]:
    """Return (the batch to judge, what waits now): a batch ends with a look in which every pod was read."""
    if not sample.complete:
        return None, waiting
    rest = Waiting(resets=waiting.resets + 1) if waiting.reset else Waiting()
    if waiting.spoilt:
        return None, rest
    return Batch(waiting.dt, sample.weight_ppm / PPM * sample.coverage, waiting.sums), rest


def listen(silence: Silence, sample: Sample) -> Silence:
    """Count the requests that a silent canary should have had; any request of it ends the silence."""
    canary, baseline = sample.canary.requests, sample.baseline.requests
    if canary is not None and canary > 0:
        return Silence(0.0, sample.t)
    if canary is None or baseline is None or not sample.complete or not sample.verified or sample.reset:
        return silence
    return Silence(silence.expected + sample.weight_ppm / PPM * sample.coverage * baseline, silence.since)


def site_health(settings: Settings, health: SiteHealth, sample: Sample, dt: float) -> SiteHealth:
    """Fold the site's orders into the time for which it has been above the floor of its forecasts."""
    site = sample.site
    if site is None:
        return health
    floors = [
        theta * expected
        for theta, expected in ((settings.theta_hist, site.expected), (settings.theta_recent, site.recent))
        if expected is not None
    ]
    if not floors:
        return health
    block = SiteHealth(
        health.orders + site.orders, health.floor + min(floors), health.dt + dt, health.healthy_seconds
    )
    if block.floor < SITE_BLOCK_ORDERS:
        return block
    healthy = block.orders >= block.floor
    return SiteHealth(healthy_seconds=health.healthy_seconds + block.dt if healthy else 0.0)
