"""The seam of every metrics source, and the one way in which a count is taken from series.

In go pod targets and counter specifications (from a policy's analysis by `counter_specs`); out comes a `Reading` or a
`Missing` for each pod. All times are Unix seconds; `operator/look.py` moves them to the run's own scale. A family that
is there without a matching series counts 0; a family that is not there is `Missing`, because a renamed metric must
never look like an outage of orders.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Protocol

from canary.api.policy import Analysis, Counter, Histogram
from canary.api.policy import Source as PolicySource
from canary.api.reasons import MissingReason
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.core.witness import NAMES, Gained
from canary.errors import RefusedError, UnavailableError

NEAR = 0.7  # how alike two names are that somebody may have mixed up


class NoCountsError(UnavailableError):
    """An answer that did not come or cannot be used, and why."""

    def __init__(self, reason: MissingReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PodTarget:
    """One pod to read. `started` is the start of its container, in Unix seconds; `port` serves the metrics."""

    uid: str
    name: str
    namespace: str
    ip: str
    port: int
    path: str
    canary: bool
    started: float

    @property
    def key(self) -> str:
        """Name one life of the pod's container: counters of two lives are never compared."""
        return f"{self.uid}/{self.started:.3f}"

    def reading(self, at: float, counts: Mapping[str, float]) -> Reading:
        """Return what was read of this pod at a time."""
        return Reading(self.key, self.canary, at, self.started, counts)


@dataclass(frozen=True, slots=True)
class CounterSpec:
    """What to count: the sum of a counter's series whose labels match wholly, or a histogram's slow requests."""

    metric: str
    where: tuple[tuple[str, str], ...] = ()
    above_seconds: float | None = None

    @property
    def family(self) -> str:
        """Name the series that are read: a histogram's buckets hold all that is needed."""
        return self.metric if self.above_seconds is None else f"{self.metric}_bucket"


@dataclass(frozen=True, slots=True)
class Series:
    """One series at one time."""

    labels: Mapping[str, str]
    value: float


Families = Mapping[
    str, Sequence[Series]
]  # by name of the series; present and empty: the family has no series yet
Specs = Mapping[str, CounterSpec]  # by the name of the count: orders, requests, errors, slow, extra.<name>


class Source(Protocol):
    """Where counts come from."""

    def read(
        self, targets: Sequence[PodTarget], specs: Specs, *, within_seconds: float
    ) -> Mapping[str, Reading | Missing]:
        """Read every target once and return one entry for each pod uid, within the time given.

        A pod that fails is `Missing` for that pod and delays no other. Raise RefusedError only if the specs
        themselves cannot be read by anybody. Safe to call from several threads.
        """
        ...

    def close(self) -> None:
        """Release connections and threads; idempotent."""
        ...


class Witness(Protocol):
    """Who counts what the new version does, and is not its pods."""

    def gained(self, specs: Specs, since: float, *, within_seconds: float) -> Mapping[str, Gained] | Missing:
        """Return what was counted since a moment, in Unix seconds, each count with the time that it covers.

        A count of which less than two moments are known is left out. Safe to call from several threads.
        """
        ...

    def close(self) -> None:
        """Release connections; idempotent."""
        ...


def witness_specs(source: PolicySource) -> dict[str, CounterSpec]:
    """Turn a policy's witness into what it counts, by the names that the judge uses; none: nothing."""
    given = {name: getattr(source.witness, name, None) for name in NAMES}
    return {name: _spec(each) for name, each in given.items() if each is not None}


def counter_specs(analysis: Analysis) -> dict[str, CounterSpec]:
    """Turn a policy's analysis into what to count, by the names that the judge uses."""
    chosen: dict[str, Counter | Histogram | None] = {
        "orders": analysis.orders,
        "requests": analysis.requests,
        "errors": analysis.errors,
        "slow": analysis.slow,
    }
    specs = {name: _spec(given) for name, given in chosen.items() if given is not None}
    for extra in analysis.extra:
        specs[f"extra.{extra.name}"] = CounterSpec(extra.counter, tuple(sorted(extra.where.items())))
    return specs


def _spec(given: Counter | Histogram) -> CounterSpec:
    where = tuple(sorted(given.where.items()))
    if isinstance(given, Histogram):
        return CounterSpec(given.histogram, where, given.above.total_seconds())
    return CounterSpec(given.counter, where)


def counts(specs: Specs, families: Families, declared: Collection[str] = ()) -> dict[str, float] | Missing:
    """Take every count from one exposition; the first that cannot be taken makes the whole pod `Missing`.

    Counts of one exposition belong together: orders without their requests would bend the ratio. `declared`: names of
    metrics that there are, for the hint where one is not.
    """
    taken: dict[str, float] = {}
    for name, spec in specs.items():
        value = _count(spec, families, declared)
        if isinstance(value, Missing):
            return value
        taken[name] = value
    return taken


def nearest_bound(bounds: Iterable[float], above_seconds: float) -> float | None:
    """Return the least finite bucket bound at or above the threshold, or None."""
    tolerance = 1e-9 * max(1.0, above_seconds)
    return min((bound for bound in bounds if above_seconds - tolerance <= bound < math.inf), default=None)


def _count(spec: CounterSpec, families: Families, declared: Collection[str]) -> float | Missing:
    family = families.get(spec.family)
    if family is None:
        near = get_close_matches(spec.metric, declared, n=1, cutoff=NEAR)
        hint = f"; did you mean {near[0]}?" if near else ""
        return Missing(MissingReason.ABSENT, f"no metric {spec.metric}{hint}")
    patterns = _patterns(spec.where)
    series = [one for one in family if _matches(one.labels, patterns)]
    for one in series:
        if not math.isfinite(one.value):
            return Missing(MissingReason.NOT_FINITE, f"{spec.metric} is {one.value}")
        if one.value < 0:
            return Missing(MissingReason.NEGATIVE, f"{spec.metric} is {one.value:g}, below zero")
    if spec.above_seconds is None:
        return math.fsum(one.value for one in series)
    return _slow(spec, spec.above_seconds, series)


def _slow(spec: CounterSpec, above_seconds: float, buckets: Sequence[Series]) -> float | Missing:
    by_bound: dict[float, float] = {}
    for bucket in buckets:
        bound = _bound(bucket.labels.get("le", ""))
        if bound is None:
            return Missing(MissingReason.MALFORMED, f"{spec.metric} has a bucket without a bound")
        by_bound[bound] = by_bound.get(bound, 0.0) + bucket.value
    if not by_bound:
        return 0.0
    nearest = nearest_bound(by_bound, above_seconds)
    if nearest is None or math.inf not in by_bound:
        shown = ", ".join(f"{bound:g}" for bound in sorted(by_bound))
        return Missing(
            MissingReason.ABSENT,
            f"{spec.metric} has no bucket bound at or above {above_seconds:g} s ({shown})",
        )
    slow = by_bound[math.inf] - by_bound[nearest]
    if slow < 0:
        return Missing(
            MissingReason.MALFORMED, f"{spec.metric} has fewer requests in all than up to {nearest:g} s"
        )
    return slow


def _bound(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _matches(labels: Mapping[str, str], patterns: Sequence[tuple[str, re.Pattern[str]]]) -> bool:
    return all(pattern.fullmatch(labels.get(label, "")) for label, pattern in patterns)


@lru_cache(maxsize=256)
def _patterns(where: tuple[tuple[str, str], ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    compiled: list[tuple[str, re.Pattern[str]]] = []
    for label, expression in where:
        try:
            compiled.append((label, re.compile(expression)))
        except re.error as error:
            raise RefusedError(
                f"where.{label}: {expression!r} is not a regular expression ({error}); correct the policy"
            ) from error
    return tuple(compiled)
