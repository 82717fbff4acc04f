"""What the controller says about itself in Prometheus' words.

One `Telemetry` for a process, on a registry of its own. Workers call its methods; nobody else names a
metric. What concerns one run (phase, weights, evidence) is shown, not counted: `runs` keeps the last view
of each. Every label has a bounded set of values; no user's text becomes one, and beyond a thousand
workloads the rest is counted together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Protocol, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from canary.api.reasons import Origin, Reason
from canary.clock import Clock
from canary.kube.cache import Cache
from canary.kube.client import Call
from canary.kube.queue import Lane, WorkQueue
from canary.operator.run_series import WORKLOAD, RunSeries, Workload
from canary.operator.schedule import Trouble

MAX_WORKLOADS = 1_000
OTHER = Workload("_other", "_other")
SECONDS_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
RUN_BUCKETS = (60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)


MetricT = TypeVar("MetricT", covariant=True)


class Result(StrEnum):
    """How something ended: a look, a query, a notification, a record."""

    DONE = "done"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    CONFLICT = "conflict"
    DEFECT = "defect"


class Outcome(StrEnum):
    """How a run ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


class Stage(StrEnum):
    """The parts of a rollback's time."""

    DETECT = "detect"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, as it is counted."""

    workload: Workload
    outcome: Outcome
    reason: Reason
    origin: Origin
    tier: int
    seconds: float


class Telemetry:
    """The metrics of one controller. Thread-safe."""

    def __init__(self, clock: Clock, version: str, revision: str) -> None:
        disable_created_metrics()  # a second series for every counter that nobody reads
        self.registry = CollectorRegistry()
        self.runs = RunSeries(clock)
        self.registry.register(self.runs)
        self._workloads: set[Workload] = set()
        self._controller = _Controller(self.registry)
        self._outcome = _Outcome(self.registry)
        build = Gauge(
            "canary_build_info", "Which build this is; 1.", ["version", "revision"], registry=self.registry
        )
        build.labels(version, revision).set(1)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    # What the controller's own parts tell.

    def watch_leader(self, leads: Callable[[], bool]) -> None:
        """Show whether this process leads, asked at each scrape."""
        gauge = Gauge("canary_controller_leader", "1 on the controller that leads.", registry=self.registry)
        gauge.set_function(lambda: float(leads()))

    def watch_queue(self, queue: WorkQueue) -> None:
        """Show how many keys wait in each lane, asked at each scrape."""
        gauge = Gauge("canary_queue_depth", "Keys that are due and wait.", ["lane"], registry=self.registry)
        for lane in Lane:
            gauge.labels(lane).set_function(partial(_depth, queue, lane))

    def watch_caches(self, caches: Sequence[Cache]) -> None:
        """Show for how long each cache has not heard of the API server, asked at each scrape."""
        text = "Seconds since the API server was last heard of."
        gauge = Gauge("canary_watch_contact_age_seconds", text, ["resource"], registry=self.registry)
        for cache in caches:
            gauge.labels(cache.resource.plural).set_function(cache.last_contact_age)

    def heartbeat(self, at: datetime) -> None:
        self._controller.heartbeat.set(at.timestamp())

    def reconciled(self, kind: str, result: Result, seconds: float) -> None:
        self._controller.reconciles.labels(kind, result).inc()
        self._controller.reconcile_seconds.labels(kind).observe(seconds)

    def queue_waited(self, lane: Lane, seconds: float) -> None:
        self._controller.queue_waits.labels(lane).observe(seconds)

    def kube_called(self, call: Call) -> None:
        self._controller.kube_requests.labels(call.verb, call.resource, call.code).inc()
        self._controller.kube_seconds.labels(call.verb).observe(call.seconds)

    def recorded(self, written: bool) -> None:
        self._controller.records.labels(Result.DONE if written else Result.UNAVAILABLE).inc()

    def job_troubled(self, job: str, trouble: Trouble) -> None:
        self._controller.job_troubles.labels(job, trouble).inc()

    # What became of runs.

    def ended(self, run: Ended) -> None:
        whose = self._bounded(run.workload)
        self._outcome.runs.labels(*whose, run.outcome, run.reason, run.origin, str(run.tier)).inc()
        self._outcome.run_seconds.labels(*whose, run.outcome).observe(run.seconds)

    def lost(self, workload: Workload, unit: str, amount: float) -> None:
        """Count what a bad change cost, by its best estimate."""
        self._outcome.lost.labels(*self._bounded(workload), unit).inc(amount)

    def rolled_back(self, workload: Workload, stages: Mapping[Stage, float]) -> None:
        """Take the time of each part of a rollback, in seconds."""
        whose = self._bounded(workload)
        for stage, seconds in stages.items():
            self._outcome.rollback_seconds.labels(*whose, stage).observe(seconds)

    def _bounded(self, workload: Workload) -> Workload:
        """Return the workload's labels, or those of all others when there are too many."""
        if workload not in self._workloads and len(self._workloads) >= MAX_WORKLOADS:
            return OTHER
        self._workloads.add(workload)
        return workload


class _Controller:
    """The metrics of the controller's own work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, histogram = _makers(registry, SECONDS_BUCKETS)
        self.heartbeat = Gauge(
            "canary_controller_heartbeat_timestamp_seconds",
            "When the heartbeat was last written.",
            registry=registry,
        )
        self.reconciles = counter("reconcile_total", "Looks at an object.", "kind", "result")
        self.reconcile_seconds = histogram("reconcile_duration_seconds", "How long a look took.", "kind")
        self.queue_waits = histogram("queue_wait_seconds", "How long a due key waited for a worker.", "lane")
        self.kube_requests = counter(
            "kube_requests_total", "Calls of the API server.", "verb", "resource", "code"
        )
        self.kube_seconds = histogram("kube_request_duration_seconds", "How long a call took.", "verb")
        self.records = counter("audit_records_total", "Writes of the audit.", "result")
        self.job_troubles = counter(
            "job_trouble_total", "Periodic jobs that did not do their work.", "job", "trouble"
        )


class _Outcome:
    """The metrics of what the controller is for. All carry the workload."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, short = _makers(registry, SECONDS_BUCKETS, WORKLOAD)
        _, long = _makers(registry, RUN_BUCKETS, WORKLOAD)
        self.runs = counter("runs_total", "Runs that ended.", "outcome", "reason", "origin", "tier")
        self.run_seconds = long("run_duration_seconds", "How long a run took.", "outcome")
        self.lost = counter("lost_estimate_total", "Estimated loss to bad changes.", "unit")
        self.rollback_seconds = short("rollback_latency_seconds", "The parts of a rollback's time.", "stage")


class _Make(Protocol[MetricT]):
    def __call__(self, name: str, text: str, *labels: str) -> MetricT: ...


def _makers(
    registry: CollectorRegistry, buckets: Sequence[float], common: Sequence[str] = ()
) -> tuple[_Make[Counter], _Make[Histogram]]:
    """Return what makes the counters and histograms of a group: they differ in name, text and labels only."""

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(f"canary_{name}", text, [*common, *labels], registry=registry)

    def histogram(name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"canary_{name}", text, [*common, *labels], registry=registry, buckets=buckets)

    return counter, histogram


def _depth(queue: WorkQueue, lane: Lane) -> float:
    return float(queue.depth(lane))
