"""From looks to metrics: what each look left, as the series of `telemetry.py` and as lines of the log.

The controller calls `Observer` around and after each look; nothing here decides anything.
"""

import contextlib
import logging
from collections.abc import Mapping
from datetime import datetime

from canary.api.reasons import Phase, Reason
from canary.api.run import AnalysisStatus, Effect
from canary.clock import Clock
from canary.core.decision import Run
from canary.kube.queue import Lane
from canary.operator.logs import log_event
from canary.operator.run_series import MetricView, RunView, Workload
from canary.operator.telemetry import Ended, Outcome, Result, Stage, Telemetry
from canary.operator.tell import news
from canary.operator.tick import Ticked

logger = logging.getLogger(__name__)
_OUTCOMES = {
    Phase.PROMOTED: Outcome.PROMOTED,
    Phase.ROLLED_BACK: Outcome.ROLLED_BACK,
    Phase.ABORTED: Outcome.ABORTED,
    Phase.SUPERSEDED: Outcome.SUPERSEDED,
    Phase.REJECTED: Outcome.REJECTED,
}


class Observer:
    """Turns looks into series."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock

    def looked(self, kind: str, result: Result, seconds: float) -> None:
        """Count one look and its time."""
        self._telemetry.reconciled(kind, result, seconds)

    def waited(self, lane: Lane, seconds: float) -> None:
        """Note how long a key waited after it was due."""
        self._telemetry.queue_waited(lane, seconds)

    def moved(self, ticked: Ticked) -> None:
        """Show the run as this look left it; log what happened to it; count it when it ended."""
        before, after = ticked.before, ticked.after
        self._telemetry.runs.show(view_of(after, self._clock.now()))
        for entry in news(before, after):
            log_event(logger, Reason(entry.reason), entry.message, run=after.name, namespace=after.namespace)
        if after.status.phase.final and not before.status.phase.final:
            self._ended(after)

    def _ended(self, run: Run) -> None:
        status, whose = run.status, _workload(run)
        seconds = _seconds(status.started_at, status.finished_at) or 0.0
        reason = Reason(status.timeline[-1].reason) if status.timeline else Reason.BY_PERSON
        outcome, tier = _OUTCOMES[status.phase], run.spec.policy.tier
        self._telemetry.ended(Ended(whose, outcome, reason, run.spec.origin, tier, seconds))
        lost = _number(status.analysis.lost)
        if lost is not None and status.phase is Phase.ROLLED_BACK:
            self._telemetry.lost(whose, "orders", max(0.0, lost))
        stages = {
            Stage.DETECT: _seconds(status.analysis.likely_start_at, status.decided_at),
            Stage.VERIFY: _seconds(status.decided_at, status.traffic.zero_verified_at),
        }
        known = {stage: took for stage, took in stages.items() if took is not None}
        if known and status.phase is not Phase.PROMOTED:
            self._telemetry.rolled_back(whose, known)


def _workload(run: Run) -> Workload:
    return Workload(run.namespace, run.spec.target.name)


def view_of(run: Run, now: datetime) -> RunView:
    """Return a run as the series show it."""
    status, spec = run.status, run.spec
    return RunView(
        workload=_workload(run),
        run=run.name,
        policy=spec.policy_ref.name,
        revision=spec.revision.version,
        baseline=spec.baseline.version,
        origin=spec.origin,
        tier=spec.policy.tier,
        phase=status.phase,
        step=status.step,
        asked_ppm=status.traffic.weight_ppm,
        observed_ppm=status.traffic.observed_ppm if status.traffic.observed_at else None,
        started_at=status.started_at.timestamp() if status.started_at else 0.0,
        metrics=_metrics(status.analysis, now),
    )


def _metrics(analysis: AnalysisStatus, now: datetime) -> Mapping[str, MetricView]:
    staleness = _seconds(analysis.sampled_at, now)
    return {effect.name: _metric(effect, analysis, staleness) for effect in analysis.effects}


def _metric(effect: Effect, analysis: AnalysisStatus, staleness: float | None) -> MetricView:
    numbers = {"canary": _number(effect.seen), "expected": _number(effect.expected)}
    ends = {"point": _number(effect.point), "low": _number(effect.low), "high": _number(effect.high)}
    limit = _number(analysis.limit_log10)
    return MetricView(
        values={name: value for name, value in numbers.items() if value is not None},
        effect={name: value for name, value in ends.items() if value is not None},
        evidence_log10=_number(effect.evidence_log10),
        limits_log10={"rollback": limit} if limit is not None else {},
        staleness_seconds=staleness,
    )


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def _seconds(earlier: datetime | None, later: datetime | None) -> float | None:
    return (later - earlier).total_seconds() if earlier is not None and later is not None else None
