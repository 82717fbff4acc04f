"""The metrics of runs: the last view of each workload's run, turned into series when somebody scrapes.

A view is replaced whole, so that no series of an earlier phase or step is left over, and dropped an hour
after its run ended. Series carry `workload_namespace` and `workload`; the run's own name stands only on
`canary_run_info`, or every run would leave a set of series behind for ever. Telemetry owns the one
collector of a process.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from canary.api.reasons import PPM, Origin, Phase
from canary.clock import Clock

MAX_RUNS_SHOWN = 1_000
SHOWN_AFTER_END_SECONDS = 3_600.0
WORKLOAD = ("workload_namespace", "workload")


class Workload(NamedTuple):
    """The user's Deployment, as every series names it."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class MetricView:
    """One metric of the analysis as last judged. An absent number is a series that is not shown."""

    values: Mapping[str, float] = field(default_factory=dict[str, float])  # canary, baseline, expected
    effect: Mapping[str, float] = field(default_factory=dict[str, float])  # point, low, high; as a ratio
    evidence_log10: float | None = None
    limits_log10: Mapping[str, float] = field(default_factory=dict[str, float])  # by side
    staleness_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as its last look left it."""

    workload: Workload
    run: str
    policy: str
    revision: str
    baseline: str
    origin: Origin
    tier: int
    phase: Phase
    step: int
    asked_ppm: int
    observed_ppm: int | None
    started_at: float  # seconds since 1970
    metrics: Mapping[str, MetricView] = field(default_factory=dict[str, MetricView])


class RunSeries:
    """A collector of prometheus_client over the runs that were shown."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._shown: dict[Workload, tuple[float, RunView]] = {}

    def show(self, view: RunView) -> None:
        with self._lock:
            since = self._since(view)
            self._shown.pop(view.workload, None)
            self._shown[view.workload] = (since, view)
            if len(self._shown) > MAX_RUNS_SHOWN:
                del self._shown[next(iter(self._shown))]

    def collect(self) -> Iterable[Metric]:
        views = self._current()
        return [*_run_families(views), *_analysis_families(views)]

    def describe(self) -> Iterable[Metric]:
        """Name the families without asking for values; the registry checks them for doubles."""
        return [*_run_families([]), *_analysis_families([])]

    def _since(self, view: RunView) -> float:
        """Return when this run was first seen in the phase that it is in."""
        known = self._shown.get(view.workload)
        same = known is not None and known[1].run == view.run and known[1].phase is view.phase
        return known[0] if known is not None and same else self._clock.monotonic()

    def _current(self) -> list[RunView]:
        with self._lock:
            latest = self._clock.monotonic() - SHOWN_AFTER_END_SECONDS
            over = [key for key, (since, view) in self._shown.items() if view.phase.final and since < latest]
            for key in over:
                del self._shown[key]
            return [view for _, view in self._shown.values()]


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"canary_{name}", text, labels=[*WORKLOAD, *labels])


def _run_families(views: Iterable[RunView]) -> Iterator[Metric]:
    identity = ("run", "policy", "revision", "baseline", "origin", "tier")
    info = _gauge("run_info", "The run of this workload; 1.", *identity)
    phase = _gauge("run_phase", "1 for the phase in which the run is.", "phase")
    weight = _gauge("run_weight_ratio", "Share of the traffic on the new version.", "kind")
    step = _gauge("run_step", "Number of the step, from 0.")
    started = _gauge("run_started_timestamp_seconds", "When the run started.")
    for view in views:
        whose = list(view.workload)
        named = [view.run, view.policy, view.revision, view.baseline, str(view.origin), str(view.tier)]
        info.add_metric([*whose, *named], 1)
        phase.add_metric([*whose, str(view.phase)], 1)
        weight.add_metric([*whose, "asked"], view.asked_ppm / PPM)
        if view.observed_ppm is not None:
            weight.add_metric([*whose, "observed"], view.observed_ppm / PPM)
        step.add_metric(whose, view.step)
        started.add_metric(whose, view.started_at)
    yield from (info, phase, weight, step, started)


def _analysis_families(views: Iterable[RunView]) -> Iterator[Metric]:
    value = _gauge("metric_value", "What the judge last saw, per request.", "metric", "group")
    effect = _gauge("metric_effect_ratio", "New version over old, with its interval.", "metric", "bound")
    evidence = _gauge("evidence_log10", "Evidence against the new version.", "metric")
    limit = _gauge("evidence_limit_log10", "Evidence at which the judge decides.", "metric", "side")
    stale = _gauge("metric_staleness_seconds", "Age of the newest sample.", "metric")
    judged = [(view.workload, *item) for view in views for item in view.metrics.items()]
    for workload, name, metric in judged:
        whose = [*workload, name]
        _add_all(value, whose, metric.values)
        _add_all(effect, whose, metric.effect)
        _add_all(limit, whose, metric.limits_log10)
        _add_all(evidence, whose, {} if metric.evidence_log10 is None else {"": metric.evidence_log10})
        _add_all(stale, whose, {} if metric.staleness_seconds is None else {"": metric.staleness_seconds})
    yield from (value, effect, evidence, limit, stale)


def _add_all(family: GaugeMetricFamily, whose: list[str], numbers: Mapping[str, float]) -> None:
    """Add one series for each number; the key "" stands for a family that has no further label."""
    for label, number in numbers.items():
        family.add_metric([*whose, label] if label else whose, number)
