"""What the benchmark measures, a function each: streams in, figures out. `detection.py` calls them side by side."""

import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import process_time

import numpy as np
import rules
from sites import SiteStreams, SiteWorld
from streams import HEALTHY, LOOK_SECONDS, Cell, Fault, Floats, Look, Streams, measured_phi
from vectorised import Family
from worlds import WORLDS

from canary.api.reasons import Verdict
from canary.core.detect import pace
from canary.core.detect.family import Settings, dump, judge, start, update
from canary.core.detect.monitors import MonitorName
from canary.core.detect.verdict import HOLD_LOG

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "detect"))
import simulated_shop as shop

HOUR = 3600.0
NULL_RUNS = 10_000
KAYENTA_RUNS = 300
OURS, EARLY = "canary, looks every 5 s", "canary, early looks"
STEPS_PPM = (5_000, 10_000, 50_000, 100_000, 250_000)  # the plan of a policy that names none, up to 25 %


@dataclass
class Result:
    """How a rule did with one fault in one cell: means over the runs; seconds over those that were caught."""

    lost: float
    seconds: float
    caught: float


def result(kept: rules.Record, alarm: np.ndarray) -> Result:
    """Score the runs that had no false alarm before the fault."""
    columns = np.arange(len(alarm))
    fair = (alarm < 0) | (kept.seconds[alarm, columns] > 0.0)
    caught = fair & (alarm >= 0)
    lost = np.where(caught, kept.lost[alarm, columns], kept.lost[-1])[fair]
    seconds = kept.seconds[alarm, columns][caught]
    return Result(
        float(lost.mean()) if fair.any() else 0.0,
        float(seconds.mean()) if caught.any() else 0.0,
        float(caught.sum() / max(1, fair.sum())),
    )


def collapses(
    cell: Cell, faults: list[Fault], runs: int, nulls: int, seed: int
) -> dict[str, dict[str, Result]]:
    """Let every rule meet every fault in one cell, on the same streams; rivals as strict as healthy runs allow."""
    key = [seed, round(cell.rate * 10), round(cell.share * 10_000)]
    healthy, _ = rules.record(cell, WORLDS["base"], HEALTHY, nulls, [*key, 0])
    out: dict[str, dict[str, Result]] = {}
    limits: dict[str, float] = {}
    for number, fault in enumerate(faults, start=1):
        kept, looks = rules.record(cell, WORLDS["base"], fault, runs, [*key, number])
        found = {OURS: result(kept, fixed_looks(cell, looks))}
        found[EARLY] = early_looks(
            Streams(cell, WORLDS["base"], fault, runs, np.random.default_rng([*key, number]))
        )[0]
        for name, rule in rules.CALIBRATED.items():
            if name not in limits or name == "oracle":
                limits[name] = rules.threshold(rule(healthy, fault))
            found[name] = result(kept, rules.first_alarm(rule(kept, fault), limits[name]))
        found["Kayenta-like, stock"] = result(kept, rules.kayenta_stock(kept))
        for name, check in rules.HTTP_STOCK.items():
            found[name] = result(kept, check(kept))
        out[fault.name] = found
    return out


def fixed_looks(cell: Cell, looks: list[Look], phi: dict[str, float] | None = None) -> np.ndarray:
    """Return the look at which the whole family reached its limit, or -1."""
    runs = len(looks[0].dt)
    family, alarm = Family(Settings(phi=phi or {}), runs, cell.share), np.full(runs, -1)
    going = np.arange(runs)
    for at, look in enumerate(looks):
        family.update(look if len(going) == runs else _rows(look, going))
        over = family.log_f >= family.settings.limit_log
        alarm[going[over]] = at
        if over.any():
            family.keep(~over)
            going = going[~over]
        if not len(going):
            break
    return alarm


def _rows(look: Look, rows: np.ndarray) -> Look:
    canary = type(look.canary)(*(count[rows] for count in look.canary.counts))
    baseline = type(look.baseline)(*(count[rows] for count in look.baseline.counts))
    return Look(look.dt[rows], canary, baseline, look.complete[rows], look.reset[rows], look.lost[rows])


@dataclass
class Watched:
    """Runs that were looked at for an hour, or until their alarm."""

    alarms: int
    held: int
    looks: float


def early_looks(
    streams: Streams, phi: dict[str, float] | None = None, *, fixed: bool = False
) -> tuple[Result, Watched]:
    """Let the family ask for its own looks, as `pace` says (or every 5 s), at most 5 s apart."""
    runs, fault = streams.runs, streams.fault
    family = Family(Settings(phi=phi or {}), runs, streams.cell.share)
    lost, held = np.zeros(runs), np.zeros(runs, bool)
    losses, delays, alarms, holds, looks = [], [], 0, 0, 0
    while streams.runs:
        dt = np.full(streams.runs, LOOK_SECONDS) if fixed else _next_looks(family)
        look = streams.look(np.minimum(dt, HOUR - family.t))
        family.update(look)
        looks += streams.runs
        lost += look.lost
        held |= family.log_f >= HOLD_LOG
        over = family.log_f >= family.settings.limit_log
        done = over | (family.t >= HOUR - 1e-6)
        if done.any():
            losses += lost[done].tolist()
            delays += (streams.t - streams.fault_at)[over].tolist()
            alarms, holds = alarms + int(over.sum()), holds + int(held[done].sum())
            streams.keep(~done)
            family.keep(~done)
            lost, held = lost[~done], held[~done]
    seconds = float(np.mean(delays)) if delays and fault is not HEALTHY else 0.0
    return Result(float(np.mean(losses)), seconds, alarms / runs), Watched(alarms, holds, looks / runs)


def _next_looks(family: Family) -> Floats:
    """`pace.next_look` for all runs at once."""
    with np.errstate(divide="ignore", invalid="ignore"):
        an_order = np.where(family.expected > 0.0, pace.ORDERS_A_LOOK * family.t / family.expected, np.inf)
    wait = pace.GROWTH * family.t
    wait = np.where(family.log_f >= pace.SUSPICIOUS_LOG, np.minimum(wait, an_order), wait)
    wait = np.where(family.gained >= pace.SUSPICIOUS_NATS, 0.0, wait)
    return np.clip(wait, pace.EARLY_SECONDS, LOOK_SECONDS)


@dataclass
class Healthy:
    """A healthy world: the noise that was measured, and how often each rule would have rolled back."""

    phi: float
    runs: int
    fixed: Watched
    early: Watched
    rivals: dict[str, float]


def healthy_world(name: str, cell: Cell, runs: int, seed: int, limits: dict[str, float]) -> Healthy:
    """Count false alarms; `limits`: the thresholds of the rivals, found in the base world (none: they are left out)."""
    world = WORLDS[name]
    phi = measured_phi(cell, world, seed)
    key = [seed, list(WORLDS).index(name), round(cell.rate), round(cell.share * 10_000)]
    _, fixed = early_looks(
        Streams(cell, world, HEALTHY, runs, np.random.default_rng([*key, 1])), phi, fixed=True
    )
    _, early = early_looks(Streams(cell, world, HEALTHY, runs, np.random.default_rng([*key, 2])), phi)
    rivals: dict[str, float] = {}
    if limits:
        kept, _ = rules.record(cell, world, HEALTHY, runs, [*key, 3])
        for rule in ("naive ratio", "Argo-like", "Flagger-like 5", "Flagger-like 10", "CUSUM"):
            alarm = rules.first_alarm(rules.CALIBRATED[rule](kept, HEALTHY), limits[rule])
            rivals[rule] = float((alarm >= 0).mean())
        few = rules.Record(
            *(getattr(kept, part)[:, :KAYENTA_RUNS] for part in rules.Record.__dataclass_fields__)
        )
        rivals["Kayenta-like, stock"] = float((rules.kayenta_stock(few) >= 0).mean())
    return Healthy(phi["orders"], runs, fixed, early, rivals)


def rival_limits(cell: Cell, nulls: int, seed: int) -> dict[str, float]:
    """Return the thresholds of the rivals in one cell, from healthy runs of the base world."""
    healthy, _ = rules.record(cell, WORLDS["base"], HEALTHY, nulls, [seed, 0, 0, 9])
    return {
        name: rules.threshold(rule(healthy, HEALTHY))
        for name, rule in rules.CALIBRATED.items()
        if name != "oracle"
    }


@dataclass
class Errors:
    """Seconds to the alarm, median over the runs that were caught, and the share that was."""

    seconds: dict[str, float]
    caught: dict[str, float]


def errors(extra: float, runs: int, seed: int) -> Errors:
    """An extra share of requests fails from 20 min on, at 100 orders (5,000 requests) a second and 5 %."""
    cell, fault = Cell(100.0, 0.05), Fault(f"+{100 * extra:g} % errors", 1200.0, errors=extra)
    kept, looks = rules.record(cell, WORLDS["base"], fault, runs, [seed, 50, round(extra * 1000)])
    alarms = {OURS: fixed_looks(cell, looks)} | {
        name: check(kept) for name, check in rules.HTTP_STOCK.items()
    }
    seconds, caught = {}, {}
    for name, alarm in alarms.items():
        true = (alarm >= 0) & (kept.seconds[alarm, np.arange(runs)] > 0)
        caught[name] = float(true.mean())
        seconds[name] = float(np.median(kept.seconds[alarm, np.arange(runs)][true])) if true.any() else 0.0
    return Errors(seconds, caught)


@dataclass
class Site:
    """Runs of a site world: how many were drained or rolled back before a fault, and seconds to the drain after it."""

    runs: int
    false: int
    drained: float
    seconds: float


def site(
    world: SiteWorld, rate: float, keep_share: float, look: float, shape: tuple[int, int], seed: int
) -> Site:
    """Watch `shape` (histories, runs each) for an hour, or until 20 min after the fault."""
    groups, runs = shape
    cell, false, delays = Cell(rate, 0.05), 0, list[float]()
    until = HOUR if keep_share == 1.0 else 2400.0
    for group in range(groups):
        rng = np.random.default_rng([seed, group, round(rate), round(1000 * keep_share), round(10 * look)])
        streams = SiteStreams(cell, world, keep_share, runs, rng)
        settings = Settings(
            theta_hist=streams.forecast.theta_hist, theta_recent=streams.forecast.theta_recent
        )
        family, alarm = Family(settings, runs, cell.share), np.full(runs, np.inf)
        drains = list(MonitorName).index(MonitorName.SITE)
        drained = np.zeros(runs, bool)
        while streams.t[0] < until - 1e-6:
            seen, whole = streams.look(look)
            family.update(seen, whole)
            over = (family.log_f >= settings.limit_log) & np.isinf(alarm)
            drained |= over & (family.worst == drains)
            alarm = np.where(over, streams.t, alarm)
            if np.isfinite(alarm).all():
                break
        early = alarm < 1200.0 if keep_share < 1.0 else np.isfinite(alarm)
        false += int(early.sum())
        delays += (alarm[drained & ~early] - 1200.0).tolist()
    return Site(groups * runs, false, len(delays) / (groups * runs), median(delays) if delays else 0.0)


@dataclass
class Ramp:
    """One healthy run through the product's own judge: seconds to 25 % (0: not reached), or the false verdict."""

    seconds: float
    verdict: str


def ramp(rate: float, first_ppm: int, hours: float, seed: int) -> Ramp:
    """Let the weight rise from the step `first_ppm` of the plan whenever the judge says Advance."""
    steps = STEPS_PPM[STEPS_PPM.index(first_ppm) :]
    rng, settings = Random(f"ramp {rate} {seed}"), Settings(weights_ppm=steps)
    state, weight, t, noise = start(settings), first_ppm, 0.0, rng.gauss(0.0, shop.NOISE_SD)
    keep = float(np.exp(-LOOK_SECONDS / shop.NOISE_MEMORY_SECONDS))
    world, reached = shop.Shop(rate=rate, look_seconds=LOOK_SECONDS), 0.0
    while t < hours * HOUR:
        demand = rate * LOOK_SECONDS * shop.day(t) * float(np.exp(noise))
        noise = keep * noise + (1.0 - keep * keep) ** 0.5 * rng.gauss(0.0, shop.NOISE_SD)
        t += LOOK_SECONDS
        state = update(settings, state, shop.look(world, (t, weight, demand, False), rng))
        said = judge(settings, state, shop.next_weight(settings, weight))
        if said.verdict in (Verdict.ROLL_BACK, Verdict.DRAIN):
            return Ramp(reached, said.verdict.value)
        if said.verdict is Verdict.ADVANCE and weight < steps[-1]:
            weight = shop.next_weight(settings, weight)
            reached = t if weight == steps[-1] else 0.0
    return Ramp(reached, "")


def cost(looks: int = 4_000) -> dict[str, float]:
    """Return processor microseconds to fold a look and to judge it, and characters of the state; best of five."""
    settings, rng = Settings(weights_ppm=STEPS_PPM), Random(1)
    state, best = start(settings), {"update": np.inf, "judge": np.inf}
    samples = [shop.look(shop.Shop(), (5.0 * (at + 1), 50_000, 500.0, False), rng) for at in range(looks)]
    share = looks // 5
    for part in range(5):
        began = process_time()
        states = [
            state := update(settings, state, sample) for sample in samples[part * share : (part + 1) * share]
        ]
        folded = process_time()
        for one in states:
            judge(settings, one, 100_000)
        judged = process_time()
        best["update"] = min(best["update"], (folded - began) / share)
        best["judge"] = min(best["judge"], (judged - folded) / share)
    return {name: 1e6 * value for name, value in best.items()} | {"characters": len(dump(state))}
