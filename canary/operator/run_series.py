"""The metrics of runs: the last look at each workload's run, turned into series when somebody scrapes.

A run is replaced whole, so that no series of an earlier phase or step is left over, and dropped an hour
after it ended. Series carry `workload_namespace` and `workload`; the run's own name stands only on
`canary_run_info`, or every run would leave a set of series behind for ever. Telemetry owns the one
collector of a process.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from canary.api.reasons import PPM
from canary.clock import Clock
from canary.core.decision import Run
from canary.core.telling.wording import number, seconds_between

MAX_RUNS_SHOWN = 1_000
SHOWN_AFTER_END_SECONDS = 3_600.0
WORKLOAD = ("workload_namespace", "workload")


class Workload(NamedTuple):
    """The user's Deployment, as every series names it."""

    namespace: str
    name: str


def workload_of(run: Run) -> Workload:
    return Workload(run.namespace, run.spec.target.name)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A run as its last look left it, and since when (monotonic) it is in its phase."""

    run: Run
    at: datetime
    since: float


class RunSeries:
    """A collector of prometheus_client over the runs that were shown."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._shown: dict[Workload, _Shown] = {}

    def show(self, run: Run) -> None:
        whose, since = workload_of(run), self._clock.monotonic()
        with self._lock:
            known = self._shown.pop(whose, None)
            if known is not None and (known.run.name, known.run.status.phase) == (run.name, run.status.phase):
                since = known.since
            self._shown[whose] = _Shown(run, self._clock.now(), since)
            if len(self._shown) > MAX_RUNS_SHOWN:
                del self._shown[next(iter(self._shown))]

    def collect(self) -> Iterable[Metric]:
        shown = self._current()
        return [*_run_families(shown), *_analysis_families(shown)]

    def describe(self) -> Iterable[Metric]:
        """Name the families without asking for values; the registry checks them for doubles."""
        return [*_run_families([]), *_analysis_families([])]

    def _current(self) -> list[_Shown]:
        with self._lock:
            latest = self._clock.monotonic() - SHOWN_AFTER_END_SECONDS
            over = [
                key
                for key, each in self._shown.items()
                if each.run.status.phase.final and each.since < latest
            ]
            for key in over:
                del self._shown[key]
            return list(self._shown.values())


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"canary_{name}", text, labels=[*WORKLOAD, *labels])


def _run_families(shown: Iterable[_Shown]) -> Iterator[Metric]:
    identity = ("run", "policy", "revision", "baseline", "origin", "tier")
    info = _gauge("run_info", "The run of this workload; 1.", *identity)
    phase = _gauge("run_phase", "1 for the phase in which the run is.", "phase")
    weight = _gauge("run_weight_ratio", "Share of the traffic on the new version.", "kind")
    step = _gauge("run_step", "Number of the step, from 0.")
    started = _gauge("run_started_timestamp_seconds", "When the run started.")
    for run in (each.run for each in shown):
        spec, status, whose = run.spec, run.status, list(workload_of(run))
        named = [run.name, spec.policy_ref.name, spec.revision.version, spec.baseline.version]
        info.add_metric([*whose, *named, spec.origin.value, str(spec.policy.tier)], 1)
        phase.add_metric([*whose, status.phase.value], 1)
        weight.add_metric([*whose, "asked"], status.traffic.weight_ppm / PPM)
        if status.traffic.observed_at is not None:
            weight.add_metric([*whose, "observed"], status.traffic.observed_ppm / PPM)
        step.add_metric(whose, status.step)
        started.add_metric(whose, status.started_at.timestamp() if status.started_at else 0.0)
    yield from (info, phase, weight, step, started)


def _analysis_families(shown: Iterable[_Shown]) -> Iterator[Metric]:
    value = _gauge("metric_value", "What the judge last saw, per request.", "metric", "group")
    ratio = _gauge("metric_effect_ratio", "New version over old, with its interval.", "metric", "bound")
    evidence = _gauge("evidence_log10", "Evidence against the new version.", "metric")
    limit = _gauge("evidence_limit_log10", "Evidence at which the judge decides.", "metric", "side")
    stale = _gauge("metric_staleness_seconds", "Age of the newest sample.", "metric")
    for each in shown:
        analysis = each.run.status.analysis
        for effect in analysis.effects:
            whose = [*workload_of(each.run), effect.name]
            _add_all(value, whose, {"canary": number(effect.seen), "expected": number(effect.expected)})
            ends = {"point": effect.point, "low": effect.low, "high": effect.high}
            _add_all(ratio, whose, {name: number(end) for name, end in ends.items()})
            _add_all(limit, whose, {"rollback": number(analysis.limit_log10)})
            _add_all(evidence, whose, {"": number(effect.evidence_log10)})
            _add_all(stale, whose, {"": seconds_between(analysis.sampled_at, each.at)})
    yield from (value, ratio, evidence, limit, stale)


def _add_all(family: GaugeMetricFamily, whose: list[str], numbers: Mapping[str, float | None]) -> None:
    """Add one series for each number that is known; the key "" stands for a family that has no further label."""
    for label, figure in numbers.items():
        if figure is not None:
            family.add_metric([*whose, label] if label else whose, figure)
