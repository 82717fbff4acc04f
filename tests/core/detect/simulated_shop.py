"""A seeded shop for tests of the detector: Poisson orders, a daily wave with slow noise on it, faults to order.

Every look comes from one process that both arms share, so demand moves them alike. A run is driven as in production:
the weight is raised along the plan whenever the judge says Advance, and the run ends with RollBack or Drain.
"""

from dataclasses import dataclass
from math import exp, floor, lgamma, log, pi, sin, sqrt
from random import Random

from canary.api.reasons import PPM, Verdict
from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import Judgement, Settings, judge, start, update
from canary.core.judge import next_weight

CONVERSION = 0.02  # orders per request
ERROR_RATE = 0.001
SLOW_RATE = 0.01
NOISE_SD = 0.10
NOISE_MEMORY_SECONDS = 60.0


@dataclass(frozen=True)
class Shop:
    """Orders per second, seconds a look, and what the new version does from `fault_at` on."""

    rate: float = 100.0
    look_seconds: float = 5.0
    order_ratio: float = 1.0
    traffic_ratio: float = 1.0
    error_rate: float = 0.0
    fault_at: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its last judgement, its looks, and the orders that were truly lost."""

    judgement: Judgement
    seconds: float
    lost: float
    weight_ppm: int
    held: int


def run(shop: Shop, settings: Settings, seconds: float, rng: Random) -> Outcome:
    """Let one change run for at most `seconds`; a plan of one weight stays at it."""
    state, weight, lost, held = start(settings), settings.weights_ppm[0], 0.0, 0
    dt = shop.look_seconds
    keep = exp(-dt / NOISE_MEMORY_SECONDS)
    noise = rng.gauss(0.0, NOISE_SD)
    judgement = judge(settings, state, None)
    looks = round(seconds / dt)
    t = 0.0
    for _ in range(looks):
        demand = shop.rate * dt * day(t) * exp(noise)
        noise = keep * noise + sqrt(1.0 - keep * keep) * rng.gauss(0.0, NOISE_SD)
        t += dt
        broken = t > shop.fault_at
        sample = look(shop, (t, weight, demand, broken), rng)
        lost += demand * weight / PPM * (1.0 - shop.order_ratio * shop.traffic_ratio) if broken else 0.0
        state = update(settings, state, sample)
        judgement = judge(settings, state, next_weight(settings, weight))
        held += judgement.verdict is Verdict.HOLD
        if judgement.verdict in (Verdict.ROLL_BACK, Verdict.DRAIN):
            break
        if judgement.verdict is Verdict.ADVANCE and weight < settings.weights_ppm[-1]:
            weight = next_weight(settings, weight)
    return Outcome(judgement, t, lost, weight, held)


def day(t: float) -> float:
    return (1.0 + 0.3 * sin(2.0 * pi * (t / 86_400.0 + 0.2))) / (1.0 + 0.3 * sin(0.4 * pi))


def look(shop: Shop, now: tuple[float, int, float, bool], rng: Random) -> Sample:
    t, weight, demand, broken = now
    share = weight / PPM
    traffic = shop.traffic_ratio if broken else 1.0
    ratio = shop.order_ratio if broken else 1.0
    errors = ERROR_RATE + (shop.error_rate if broken else 0.0)
    canary = _arm(rng, demand * share * traffic, ratio, errors)
    baseline = _arm(rng, demand * (1.0 - share), 1.0, ERROR_RATE)
    expected = shop.rate * shop.look_seconds * day(t)
    return Sample(
        t, weight, canary, baseline, SiteCounts(canary.orders + baseline.orders, expected, expected)
    )


def _arm(rng: Random, orders: float, ratio: float, errors: float) -> Counts:
    """Orders are a part of the requests; visitors who would have ordered from a broken version still come."""
    ordered = poisson(rng, orders * ratio)
    requests = ordered + poisson(rng, orders * (1.0 / CONVERSION - ratio))
    failed = min(requests, poisson(rng, requests * errors))
    return Counts(ordered, requests, failed, min(requests, poisson(rng, requests * SLOW_RATE)))


def poisson(rng: Random, mean: float) -> float:
    """Draw exactly: by counting arrivals where few are due, else by transformed rejection (PTRS, Hoermann 1993)."""
    if mean < 10.0:
        limit, product, count = exp(-mean), rng.random(), 0
        while product > limit:
            product *= rng.random()
            count += 1
        return float(count)
    b = 0.931 + 2.53 * sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    accepted = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, v = rng.random() - 0.5, rng.random()
        us = 0.5 - abs(u)
        k = floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= accepted:
            return float(k)
        if k < 0 or (us < 0.013 and v > us):
            continue
        if log(v * inverse_alpha / (a / (us * us) + b)) <= k * log(mean) - mean - lgamma(k + 1.0):
            return float(k)
