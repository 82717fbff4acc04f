"""What the detector remembers between looks, and its one-line text form in the status of a run.

`start` gives the state before any look, `dump` and `load` carry it through a restart bit by bit: floats are written in
their shortest exact form, minus infinity as null. At most about 3 kB, plus 0.2 kB for each extra monitor. Parameters
are not in it; they are pinned by the run's policy. `family` folds looks into it, `operator` stores it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, NamedTuple

from canary.api.reasons import MissingReason
from canary.core.detect import onset, startmix
from canary.core.detect.counters import Counts
from canary.core.detect.monitors import NO_SUMS, MonitorName, Settings, Sums
from canary.core.detect.onset import Onset
from canary.core.detect.ratio import RATIOS, RatioCS
from canary.core.detect.startmix import Mix, OneArm, Trial, log_sum_exp

VERSION = 1
MAX_TEXT = 16_384  # characters; eight extra monitors need less than a third of it


class StateUnreadable(ValueError):
    """A stored state is not ours, or of another version: hold, for its evidence cannot be counted on."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last look could not be used, or not all of it; `detail` is a clause for people."""

    reason: MissingReason
    detail: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Increments that wait for a complete look. `spoilt`: some of them cannot be compared, all will be dropped."""

    dt: float = 0.0
    sums: Sums = NO_SUMS
    spoilt: bool = False
    reset: bool = False  # spoilt by a counter reset
    resets: int = 0  # batches dropped for a reset, running


@dataclass(frozen=True, slots=True)
class Carried:
    """A look with more orders than requests: its requests are not counted yet, so it joins the next one."""

    dt: float
    canary: Counts
    baseline: Counts
    looks: int


class Tally(NamedTuple):
    """Events of the canary, and how many the baseline lets one expect."""

    seen: float = 0.0
    expected: float = 0.0

    def times(self, factor: float) -> "Tally":
        return Tally(self.seen * factor, self.expected * factor)

    def plus(self, trial: Trial) -> "Tally":
        """Add what one look gave; a look in which one arm had no exposure compares nothing."""
        if isinstance(trial, OneArm):
            return Tally(self.seen + trial.seen, self.expected + trial.expected)
        if not 0.0 < trial.share < 1.0:
            return self
        odds = trial.share / (1.0 - trial.share)
        return Tally(self.seen + trial.canary, self.expected + odds * (trial.total - trial.canary))


@dataclass(frozen=True, slots=True)
class Step:
    """What is known since the last change of weight; until `settled_at` orders may trail their requests."""

    at: float = 0.0
    settled_at: float = 0.0
    ratio: RatioCS = field(default_factory=RatioCS)
    tallies: Mapping[str, Tally] = field(default_factory=dict[str, Tally])
    canary_requests: float = 0.0
    requests: float = 0.0  # of both arms

    @property
    def share(self) -> float:
        """Return the canary's share of requests in this step."""
        return self.canary_requests / self.requests if self.requests > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Requests that the canary should have had since its last one, and when that was."""

    expected: float = 0.0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class SiteHealth:
    """Whether the whole site is above the floor of its forecast: the open block, and for how long it has been."""

    orders: float = 0.0
    floor: float = 0.0
    dt: float = 0.0
    healthy_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the verdict rests on. Times are seconds since the run's start."""

    mixes: Mapping[str, tuple[Mix, ...]]
    phi: Mapping[str, float]
    onset: Onset
    step: Step
    t: float = 0.0  # end of the last look
    used_at: float = 0.0  # end of the last look in which nothing was missing
    weight_ppm: int | None = None  # None: no look yet
    verified: bool = False
    rates: Mapping[str, float] = field(default_factory=dict[str, float])  # baseline events per request
    # As step.tallies, since the likely start.
    since: Mapping[str, Tally] = field(default_factory=dict[str, Tally])
    waiting: Waiting = Waiting()
    carried: Carried | None = None
    silence: Silence = Silence()
    site: SiteHealth = SiteHealth()
    trouble: Trouble | None = None
    log_f: float = -inf
    gained: float = 0.0  # nats by which the last look moved log_f
    log_s: Mapping[str, float] = field(default_factory=dict[str, float])  # derived from mixes


def start(settings: Settings) -> State:
    """Return the state of a run that just begins: the start kick is given, nothing is counted."""
    mixes = {row.name: tuple(startmix.start(grid) for grid in row.grids) for row in settings.table}
    size = len(mixes[MonitorName.ORDERS][0].log_r) if MonitorName.ORDERS in mixes else 0
    return State(
        mixes=mixes,
        phi=dict(settings.phi),
        onset=onset.start(size),
        step=Step(settled_at=settings.settle_seconds),
        log_s=strengths(mixes),
    )


def require_fit(settings: Settings, state: State) -> None:
    """Raise StateUnreadable where the state holds other monitors than the settings: they are fixed for a run."""
    sizes = {name: [len(mix.log_r) for mix in tests] for name, tests in state.mixes.items()}
    if sizes != settings.sizes:
        raise StateUnreadable(
            f"the state has the monitors {', '.join(sizes)}; the policy {', '.join(settings.sizes)}"
        )


def strengths(mixes: Mapping[str, tuple[Mix, ...]]) -> dict[str, float]:
    """Return ln S per monitor: the weaker of its tests, for each alone would do; one that was never fed has no say."""
    return {
        name: log_sum_exp(tests[0].log_r) if len(tests) == 1 else _weaker(tests)
        for name, tests in mixes.items()
    }


def _weaker(tests: tuple[Mix, ...]) -> float:
    return min([log_sum_exp(mix.log_r) for mix in tests if mix.t > 0.0], default=-inf)


def dump(state: State) -> str:
    """Return the state as compact JSON. Loading it again gives an equal state, to the last bit."""
    return json.dumps(_packed(state), separators=(",", ":"), allow_nan=False)


def _packed(state: State) -> dict[str, Any]:
    step, waiting, carried, trouble = state.step, state.waiting, state.carried, state.trouble
    clocks = sorted({(mix.rem, mix.pending, mix.t) for tests in state.mixes.values() for mix in tests})
    return {
        "v": VERSION,
        "clocks": clocks,
        "monitors": {
            name: [
                [_pack_mix(mix, clocks) for mix in tests],
                _pack_tally(step.tallies.get(name)),
                _pack_tally(state.since.get(name)),
            ]
            for name, tests in state.mixes.items()
        },
        "phi": state.phi,
        "onset": [state.onset.since, state.onset.expected, state.onset.seen, state.onset.odds],
        "times": [state.t, state.used_at],
        "weight": [state.weight_ppm, state.verified],
        "step": [step.at, step.settled_at, step.canary_requests, step.requests],
        "cs": None if step.ratio == RatioCS() else [step.ratio.canary, step.ratio.against],
        "rates": state.rates,
        "waiting": None if waiting == Waiting() else _pack_waiting(waiting),
        "carried": carried
        and [carried.dt, _pack_counts(carried.canary), _pack_counts(carried.baseline), carried.looks],
        "silence": [state.silence.expected, state.silence.since],
        "site": [state.site.orders, state.site.floor, state.site.dt, state.site.healthy_seconds],
        "trouble": trouble and [trouble.reason, trouble.detail],
        "f": [None if state.log_f == -inf else state.log_f, state.gained],
    }


def _pack_mix(mix: Mix, clocks: list[tuple[float, float, float]]) -> list[Any]:
    """Most monitors share their clock (rem, pending, t), so each is written once."""
    log_r = [None if value == -inf else value for value in mix.log_r]
    packed: list[Any] = [clocks.index((mix.rem, mix.pending, mix.t)), log_r]
    return [*packed, [int(nats) for nats in mix.held]] if mix.held else packed


def _pack_waiting(waiting: Waiting) -> list[Any]:
    return [waiting.dt, waiting.sums, waiting.spoilt, waiting.reset, waiting.resets]


def _pack_tally(tally: Tally | None) -> list[float] | None:
    return None if tally is None else [tally.seen, tally.expected]


def _pack_counts(counts: Counts) -> list[Any]:
    return [counts.orders, counts.requests, counts.errors, counts.slow, dict(counts.extra)]


def load(text: str) -> State:
    """Read what `dump` wrote. Raise StateUnreadable on anything else: another version, another shape, no number."""
    if len(text) > MAX_TEXT:
        raise StateUnreadable(f"the stored state has {len(text)} characters; at most {MAX_TEXT} can be ours")
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        if data["v"] != VERSION:
            raise StateUnreadable(
                f"the stored state has version {data['v']!r}; this controller reads {VERSION}"
            )
        return _unpacked(data)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, StateUnreadable):
            raise
        raise StateUnreadable(f"the stored state cannot be read: {error!r}") from error


def _refuse_constant(name: str) -> float:
    raise StateUnreadable(f"the stored state contains {name}")


def _unpacked(data: dict[str, Any]) -> State:
    clocks = [_numbers(clock, 3) for clock in data["clocks"]]
    monitors = {name: (tests, tally, since) for name, (tests, tally, since) in data["monitors"].items()}
    mixes = {name: tuple(_unpack_mix(mix, clocks) for mix in row[0]) for name, row in monitors.items()}
    since, expected, seen, odds = data["onset"]
    t, used_at = _numbers(data["times"], 2)
    weight_ppm, verified = data["weight"]
    log_f, gained = data["f"]
    return State(
        mixes=mixes,
        phi={name: _number(value) for name, value in data["phi"].items()},
        onset=Onset(_numbers(since), _numbers(expected), _numbers(seen), _number(odds)),
        step=_unpack_step(data, {name: row[1] for name, row in monitors.items()}),
        t=t,
        used_at=used_at,
        weight_ppm=None if weight_ppm is None else int(weight_ppm),
        verified=bool(verified),
        rates={name: _number(value) for name, value in data["rates"].items()},
        since=_unpack_tallies({name: row[2] for name, row in monitors.items()}),
        waiting=Waiting() if data["waiting"] is None else _unpack_waiting(data["waiting"]),
        carried=None if data["carried"] is None else _unpack_carried(data["carried"]),
        silence=Silence(*_numbers(data["silence"], 2)),
        site=SiteHealth(*_numbers(data["site"], 4)),
        trouble=None
        if data["trouble"] is None
        else Trouble(MissingReason(data["trouble"][0]), data["trouble"][1]),
        log_f=-inf if log_f is None else _number(log_f),
        gained=_number(gained),
        log_s=strengths(mixes),
    )


def _unpack_mix(packed: list[Any], clocks: list[tuple[float, ...]]) -> Mix:
    clock, log_r, *held = packed
    rem, pending, t = clocks[clock]
    size = len(log_r)
    evidence = tuple(-inf if value is None else _number(value) for value in log_r)
    return Mix(evidence, rem, pending, t, _numbers(held[0], size) if held else ())


def _unpack_step(data: dict[str, Any], tallies: dict[str, Any]) -> Step:
    at, settled_at, canary_requests, requests = _numbers(data["step"], 4)
    cs = data["cs"]
    ratio = RatioCS() if cs is None else RatioCS(_number(cs[0]), _numbers(cs[1], len(RATIOS)))
    return Step(at, settled_at, ratio, _unpack_tallies(tallies), canary_requests, requests)


def _unpack_tallies(packed: dict[str, Any]) -> dict[str, Tally]:
    return {name: Tally(*_numbers(value, 2)) for name, value in packed.items() if value is not None}


def _unpack_waiting(packed: list[Any]) -> Waiting:
    dt, sums, spoilt, reset, resets = packed
    return Waiting(_number(dt), Sums(*map(_optional, sums)), bool(spoilt), bool(reset), int(resets))


def _unpack_carried(packed: list[Any]) -> Carried:
    dt, canary, baseline, looks = packed
    return Carried(_number(dt), _unpack_counts(canary), _unpack_counts(baseline), int(looks))


def _unpack_counts(packed: list[Any]) -> Counts:
    orders, requests, errors, slow, extra = packed
    return Counts(
        _optional(orders),
        _optional(requests),
        _optional(errors),
        _optional(slow),
        {name: _number(value) for name, value in extra.items()},
    )


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)


def _numbers(values: list[Any], size: int | None = None) -> tuple[float, ...]:
    if size is not None and len(values) != size:
        raise ValueError(f"{len(values)} numbers where {size} belong")
    return tuple(_number(value) for value in values)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)
