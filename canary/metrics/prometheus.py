"""Read raw counters from a Prometheus (or Thanos, Mimir, VictoriaMetrics) through prometheus-api-client.

In go pod targets; out comes for each pod a `Reading` with the time of its newest whole scrape, or `Missing`. One
grouped query for each metric name serves all runs that ask at about the same time, told apart here by namespace and
pod; a namespace that is too large for one answer costs its own runs alone. Raw samples are read by a range selector
with their own times; `rate()`, which extrapolates, is never used. An old sample, a series that vanished or came twice
is `Missing`, never a number. Called by `operator/look.py`.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from canary.api.reasons import MissingReason
from canary.clock import Clock
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.metrics.prometheus_session import connect
from canary.metrics.source import NoCountsError, PodTarget, Series, Specs, counts

WINDOW_INTERVALS = 4  # how far back samples are read
STALE_INTERVALS = 2  # a sample older than this says nothing about now
SHARE_INTERVALS = 0.25  # answers younger than this serve every run that asks
INTEREST_SECONDS = 60.0  # a namespace that nobody asked for in this time leaves the grouped query
MAX_QUERY_BYTES = 4_000
MIN_TIMEOUT_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """Where the server is, and how often its targets are scraped."""

    address: str
    every_seconds: float = 5.0
    token_file: str = ""
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class _Track:
    """One series over the window: its labels, its scrape target, and its values by time."""

    labels: Mapping[str, str]
    target: tuple[str, str]
    values: Mapping[float, float]


_ByPod = dict[str, list[_Track]]  # pod -> the series of one family


@dataclass(slots=True)
class _Round:
    """What was asked at one instant; an error is remembered too, so that a thousand runs ask a dead server once."""

    at: float
    begun: float
    answers: "dict[tuple[str, str], _ByPod | Missing]" = field(default_factory=dict)
    """By family and namespace."""


class PrometheusSource:
    """A `Source` that asks a Prometheus."""

    def __init__(self, settings: PrometheusSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        # One question at a time, and whoever waits finds the answer there: hence one connection is enough.
        self._client = connect(settings.address, settings.ca_file, settings.token_file)
        self._asking = threading.Lock()
        self._interest: dict[str, float] = {}
        self._too_large: set[tuple[str, str]] = set()  # families of namespaces that are asked for alone
        self._round = _Round(0.0, float("-inf"))

    def read(
        self, targets: Sequence[PodTarget], specs: Specs, *, within_seconds: float
    ) -> Mapping[str, Reading | Missing]:
        """Read the newest whole scrape of every target; see `Source.read`.

        Raise QueryInvalidError, a RefusedError, when the server refuses the query.
        """
        deadline = self._clock.monotonic() + within_seconds
        for target in targets:  # before the turn comes: whoever asks then asks for all who wait
            self._interest[target.namespace] = deadline - within_seconds
        if not self._asking.acquire(timeout=max(0.0, within_seconds)):
            late = Missing(MissingReason.TIMED_OUT, "other queries to Prometheus have not ended")
            return {target.uid: late for target in targets}
        try:
            current = self._current_round()
            wanted = {target.namespace for target in targets}
            for name in sorted({spec.family for spec in specs.values()}):
                if any((name, namespace) not in current.answers for namespace in wanted):
                    self._ask_all(name, {*wanted, *self._interest.copy()}, current, deadline)
        finally:
            self._asking.release()
        return {target.uid: self._pod(target, specs, current) for target in targets}

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._client.close()

    def _current_round(self) -> _Round:
        now = self._clock.monotonic()
        for namespace, at in self._interest.copy().items():
            if now - at > INTEREST_SECONDS:
                self._interest.pop(namespace, None)
        if now - self._round.begun >= SHARE_INTERVALS * self._settings.every_seconds:
            self._round = _Round(self._clock.now().timestamp(), now)
        return self._round

    def _ask_all(self, name: str, namespaces: set[str], current: _Round, deadline: float) -> None:
        """Ask for a family of those namespaces that this round has no answer of."""
        unknown = sorted(each for each in namespaces if (name, each) not in current.answers)
        together = [each for each in unknown if (name, each) not in self._too_large]
        alone = [[each] for each in unknown if (name, each) in self._too_large]
        for shard in (*_shards(together, MAX_QUERY_BYTES - len(name) - 100), *alone):
            self._ask_shard(name, shard, current, deadline)

    def _ask_shard(self, name: str, shard: Sequence[str], current: _Round, deadline: float) -> None:
        answer = self._ask(name, shard, current, deadline)
        too_large = isinstance(answer, Missing) and answer.reason is MissingReason.TOO_LARGE
        if too_large and len(shard) > 1:
            middle = len(shard) // 2
            self._ask_shard(name, shard[:middle], current, deadline)
            self._ask_shard(name, shard[middle:], current, deadline)
            return
        if too_large:
            self._too_large.add((name, shard[0]))
        for namespace in shard:
            of_it = answer if isinstance(answer, Missing) else answer.get(namespace, {})
            current.answers[name, namespace] = of_it

    def _ask(
        self, name: str, namespaces: Sequence[str], current: _Round, deadline: float
    ) -> dict[str, _ByPod] | Missing:
        found: dict[str, _ByPod] = {}
        left = max(MIN_TIMEOUT_SECONDS, deadline - self._clock.monotonic())
        params = {"time": f"{current.at:.3f}", "timeout": f"{round(left * 1000)}ms"}
        try:
            for row in self._client.custom_query(self._query(name, namespaces), params=params, timeout=left):  # pyright: ignore[reportArgumentType]
                self._sort_in(row, found)
        except NoCountsError as error:
            return Missing(error.reason, str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return Missing(MissingReason.MALFORMED, f"a series of {name} cannot be read: {error!r}")
        return found

    def _query(self, name: str, namespaces: Sequence[str]) -> str:
        window = f"{max(1, round(WINDOW_INTERVALS * self._settings.every_seconds * 1000))}ms"
        escaped = "|".join(_escaped(namespace) for namespace in namespaces)
        return f'{name}{{namespace=~"{escaped}"}}[{window}]'

    def _sort_in(self, row: Any, found: dict[str, _ByPod]) -> None:
        labels: dict[str, str] = row["metric"]
        of_namespace = found.setdefault(labels.get("namespace", ""), {})
        values = {float(at): float(value) for at, value in row["values"]}
        track = _Track(labels, (labels.get("job", ""), labels.get("instance", "")), values)
        of_namespace.setdefault(labels.get("pod", ""), []).append(track)

    def _pod(self, target: PodTarget, specs: Specs, current: _Round) -> Reading | Missing:
        families: dict[str, list[_Track]] = {}
        for name in {spec.family for spec in specs.values()}:
            answer = current.answers[name, target.namespace]
            if isinstance(answer, Missing):
                return answer
            families[name] = answer.get(target.name, [])
            if not families[name]:
                return Missing(MissingReason.ABSENT, f"Prometheus has no {name} of this pod")
        if len({track.target for tracks in families.values() for track in tracks}) > 1:
            return Missing(
                MissingReason.DUPLICATE_SERIES, "the pod is scraped by more than one job or instance"
            )
        times = _whole_scrapes(families, target.started)
        if not times or current.at - times[0] > STALE_INTERVALS * self._settings.every_seconds:
            return Missing(MissingReason.STALE, f"no whole scrape in {STALE_INTERVALS} intervals")
        if len(times) > 1 and any(
            times[1] in track.values and times[0] not in track.values
            for tracks in families.values()
            for track in tracks
        ):
            # A sum over fewer series would look like a restart, and everything would be counted again.
            return Missing(MissingReason.PARTIAL, "a series vanished between two scrapes")
        taken = counts(specs, {name: _series_at(tracks, times[0]) for name, tracks in families.items()})
        return taken if isinstance(taken, Missing) else target.reading(times[0], taken)


def _shards(namespaces: Sequence[str], most_bytes: int) -> Iterator[list[str]]:
    """Yield the namespaces in groups whose query a server, and every proxy before it, will take."""
    shard: list[str] = []
    size = 0
    for namespace in namespaces:
        more = len(_escaped(namespace)) + 1
        if shard and size + more > most_bytes:
            yield shard
            shard, size = [], 0
        shard.append(namespace)
        size += more
    if shard:
        yield shard


def _escaped(namespace: str) -> str:
    return re.escape(namespace).replace("\\-", "-")


def _whole_scrapes(families: Mapping[str, Sequence[_Track]], started: float) -> list[float]:
    """Return the times, newest first, at which every family has a sample: all counts of one scrape."""
    shared: set[float] | None = None
    for tracks in families.values():
        times = {at for track in tracks for at in track.values if at >= started}
        shared = times if shared is None else shared & times
    return sorted(shared or (), reverse=True)


def _series_at(tracks: Sequence[_Track], at: float) -> list[Series]:
    return [Series(track.labels, track.values[at]) for track in tracks if at in track.values]
