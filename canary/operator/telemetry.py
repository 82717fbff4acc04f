"""What the controller says about itself in Prometheus' words.

One `Telemetry` for a process, on a registry of its own. Workers call its methods; nobody else names a
metric. What concerns one run (phase, weights, evidence) is shown, not counted: `runs` keeps the last view
of each. Every label has a bounded set of values; no user's text becomes one, and beyond a thousand
workloads the rest is counted together.
"""

import logging
from collections.abc import Callable, Sequence
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

from canary.api.reasons import Phase, Reason
from canary.clock import Clock
from canary.core.decision import Run
from canary.core.telling.wording import number, seconds_between
from canary.kube.cache import Cache
from canary.kube.client import Call
from canary.kube.queue import Lane, WorkQueue
from canary.operator.logs import log_event
from canary.operator.run_series import WORKLOAD, RunSeries, Workload, workload_of
from canary.operator.schedule import Trouble
from canary.operator.tell import news
from canary.operator.tick import Ticked

logger = logging.getLogger(__name__)

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

    def looked(self, kind: str, result: Result, seconds: float) -> None:
        """Count one look and its time."""
        self._controller.reconciles.labels(kind, result).inc()
        self._controller.reconcile_seconds.labels(kind).observe(seconds)

    def waited(self, lane: Lane, seconds: float) -> None:
        """Note how long a key waited after it was due."""
        self._controller.queue_waits.labels(lane).observe(seconds)

    def kube_called(self, call: Call) -> None:
        self._controller.kube_requests.labels(call.verb, call.resource, call.code).inc()
        self._controller.kube_seconds.labels(call.verb).observe(call.seconds)

    def recorded(self, written: bool) -> None:
        self._controller.records.labels(Result.DONE if written else Result.UNAVAILABLE).inc()

    def job_troubled(self, job: str, trouble: Trouble) -> None:
        self._controller.job_troubles.labels(job, trouble).inc()

    # What became of runs.

    def moved(self, ticked: Ticked) -> None:
        """Show the run as this look left it; log what happened to it; count it when it ended."""
        before, after = ticked.before, ticked.after
        self.runs.show(after)
        for entry in news(before, after):
            log_event(logger, Reason(entry.reason), entry.message, run=after.name, namespace=after.namespace)
        if after.status.phase.final and not before.status.phase.final:
            self.ended(after)

    def ended(self, run: Run) -> None:
        """Count a run that is over: its end, by its best estimate what it cost, the parts of its way back."""
        status, whose, phase = run.status, self._bounded(workload_of(run)), run.status.phase
        reason = status.timeline[-1].reason if status.timeline else Reason.BY_PERSON.value
        outcome, tier = phase.name.lower(), str(run.spec.policy.tier)
        self._outcome.runs.labels(*whose, outcome, reason, run.spec.origin, tier).inc()
        seconds = seconds_between(status.started_at, status.finished_at) or 0.0
        self._outcome.run_seconds.labels(*whose, outcome).observe(seconds)
        lost = number(status.analysis.lost)
        if lost is not None and phase is Phase.ROLLED_BACK:
            self._outcome.lost.labels(*whose, "orders").inc(max(0.0, lost))
        stages = {
            "detect": seconds_between(status.analysis.likely_start_at, status.decided_at),
            "verify": seconds_between(status.decided_at, status.traffic.zero_verified_at),
        }
        for stage, took in stages.items() if phase is not Phase.PROMOTED else ():
            if took is not None:
                self._outcome.rollback_seconds.labels(*whose, stage).observe(took)

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
