"""From raw cumulative counters of pods to the increments of one look, so that nothing is counted twice or invented.

Enters: the expositions (`Reading`) that the sources could read in this look, and which pods live. Leaves: the sum
of the increments per arm, what was refused and why, and a small state for the next look. A difference always
covers the whole time since the pod's last used reading, so a missed scrape loses nothing. All counters of a pod
advance together, for orders and requests of one exposition must be lost or kept together. `operator` calls `fold`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from canary.api.reasons import MissingReason

ORDERS, REQUESTS, ERRORS, SLOW = "orders", "requests", "errors", "slow"
EXTRA_PREFIX = "extra."


@dataclass(frozen=True, slots=True)
class Counts:
    """One arm: increments over one look. None, or an absent extra, is missing: never zero."""

    orders: float | None
    requests: float | None
    errors: float | None = None
    slow: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict[str, float])


NOTHING_READ = Counts(None, None)


@dataclass(frozen=True, slots=True)
class SiteCounts:
    """The whole site over one look: orders, and what its two forecasts expected."""

    orders: float
    expected: float | None  # from the history of this clock time
    recent: float | None  # the same, levelled by the half hour before the run


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at both arms. `t`: seconds since the run's start at the end of the look."""

    t: float
    weight_ppm: int
    canary: Counts
    baseline: Counts
    site: SiteCounts | None = None
    verified: bool = True  # the weight is known to be obeyed
    complete: bool = True  # every live pod of both arms was read
    reset: bool = False  # some counts of this look may be short: a counter restarted or a pod went
    step: bool = False  # the weight changed before this look
    disagree: bool = False  # two sources of one count disagree
    coverage: float = 1.0  # accepted part of the traffic that passes the splitter


@dataclass(frozen=True, slots=True)
class Reading:
    """One exposition of one pod: cumulative counters. Times are seconds since the run's start, negative before it."""

    pod: str  # pod UID, '/', container start: one life of one process
    canary: bool
    at: float
    started: float
    counts: Mapping[str, float]  # 'orders', 'requests', 'errors', 'slow', 'extra.<name>'


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reading that was not used, and why; the next difference covers it."""

    pod: str
    reason: MissingReason
    detail: str


@dataclass(frozen=True, slots=True)
class Last:
    """The last used reading of a pod."""

    at: float
    started: float
    counts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CountersState:
    """Last reading per live pod. A pod counts from zero only if it started after `forgotten`, else from first sight."""

    last: Mapping[str, Last] = field(default_factory=dict[str, Last])
    at: float = 0.0
    forgotten: float = 0.0  # the run's start, or the latest start of a pod whose reading was dropped

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        last = {pod: [was.at, was.started, dict(was.counts)] for pod, was in self.last.items()}
        return {"last": last, "at": self.at, "forgotten": self.forgotten}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> "CountersState":
        """Read what `dump` wrote; raises KeyError, TypeError or ValueError on anything else."""
        last = {
            str(pod): Last(
                float(at), float(started), {str(name): float(value) for name, value in counts.items()}
            )
            for pod, (at, started, counts) in data["last"].items()
        }
        return cls(last, float(data["at"]), float(data["forgotten"]))


@dataclass(frozen=True, slots=True)
class Folded:
    """What one look gave. `at` is the time of its newest reading: looks are timed by readings, not by timers."""

    state: CountersState
    canary: Counts
    baseline: Counts
    complete: bool
    reset: bool
    refusals: tuple[Refusal, ...]
    at: float
    pods: Mapping[str, Mapping[str, float]]  # increments per pod that gave a difference


@dataclass(frozen=True, slots=True)
class _Step:
    """What one used reading adds; `increments` None: it only opens the difference."""

    increments: Mapping[str, float] | None
    reset: bool


def fold(state: CountersState, readings: Sequence[Reading], live: Mapping[str, bool]) -> Folded:
    """Turn the readings of one look into increments. `live`: key of every live pod -> is it a canary pod.

    Give each live pod's reading at most once; what is late, doubled or senseless is refused by name. Two calls with
    the same readings count them once.
    """
    used, refusals = _usable(state, readings, live)
    steps = {reading.pod: _step(state, reading) for reading in used}
    pods = {pod: step.increments for pod, step in steps.items() if step.increments is not None}
    vanished = [was for pod, was in state.last.items() if pod not in live]
    last = {pod: was for pod, was in state.last.items() if pod in live}
    last |= {reading.pod: Last(reading.at, reading.started, dict(reading.counts)) for reading in used}
    at = max([state.at, *(reading.at for reading in used)])
    forgotten = max([state.forgotten, *(was.started for was in vanished)])
    return Folded(
        state=CountersState(last, at, forgotten),
        canary=_sum([counts for pod, counts in pods.items() if live[pod]]),
        baseline=_sum([counts for pod, counts in pods.items() if not live[pod]]),
        complete=set(pods) == set(live),
        reset=bool(vanished) or any(step.reset for step in steps.values()),
        refusals=tuple(refusals),
        at=at,
        pods=pods,
    )


def _usable(
    state: CountersState, readings: Sequence[Reading], live: Mapping[str, bool]
) -> tuple[list[Reading], list[Refusal]]:
    seen: dict[str, int] = {}
    for reading in readings:
        seen[reading.pod] = seen.get(reading.pod, 0) + 1
    used: list[Reading] = []
    refusals: list[Refusal] = []
    for reading in readings:
        if seen[reading.pod] > 1:
            refusal = Refusal(reading.pod, MissingReason.DUPLICATE_SERIES, "read twice in one look")
        else:
            refusal = _refusal(state, reading, live)
        if refusal is None:
            used.append(reading)
        else:
            refusals.append(refusal)
    return used, refusals


def _refusal(state: CountersState, reading: Reading, live: Mapping[str, bool]) -> Refusal | None:
    """Return why this reading may not be used, or None."""
    if reading.pod not in live:
        return Refusal(reading.pod, MissingReason.STALE, "the pod is not among the live pods")
    if not isfinite(reading.at) or not isfinite(reading.started):
        return Refusal(reading.pod, MissingReason.NOT_FINITE, "its time or start time is not a finite number")
    for name, value in reading.counts.items():
        if not isfinite(value):
            return Refusal(reading.pod, MissingReason.NOT_FINITE, f"counter {name} is {value}")
        if value < 0:
            return Refusal(reading.pod, MissingReason.NEGATIVE, f"counter {name} is {value}")
    was = state.last.get(reading.pod)
    if was is None:
        return None
    if reading.at <= was.at:
        return Refusal(
            reading.pod, MissingReason.OUT_OF_ORDER, f"read at {reading.at:g} s, already used {was.at:g} s"
        )
    absent = sorted(was.counts.keys() - reading.counts.keys())
    if absent:
        return Refusal(reading.pod, MissingReason.ABSENT, f"counter {absent[0]} was there before and is gone")
    return None


def _step(state: CountersState, reading: Reading) -> _Step:
    was = state.last.get(reading.pod)
    if was is None:
        return _Step(dict(reading.counts) if reading.started > state.forgotten else None, False)
    restarted = reading.started != was.started or any(
        reading.counts[name] < value for name, value in was.counts.items()
    )
    if restarted:
        return _Step(dict(reading.counts), True)
    return _Step({name: reading.counts[name] - value for name, value in was.counts.items()}, False)


def _sum(pods: Sequence[Mapping[str, float]]) -> Counts:
    """Add up one arm. A count that one of the pods did not give is missing: its requests would stand without it."""
    if not pods:
        return NOTHING_READ
    names = set(pods[0]).intersection(*pods[1:])
    total = {name: sum(pod[name] for pod in pods) for name in names}
    extra = {
        name.removeprefix(EXTRA_PREFIX): total[name]
        for name in sorted(names)
        if name.startswith(EXTRA_PREFIX)
    }
    return Counts(total.get(ORDERS), total.get(REQUESTS), total.get(ERRORS), total.get(SLOW), extra)
