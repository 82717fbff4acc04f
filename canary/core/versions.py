"""What is known of a target's versions: those that were taken back, and the last good one.

Enter: a policy's status and its runs. Leaves: the status that remembers them, where it outlives the runs. A version is
good that was there at adoption, that a run promoted, or that people accepted; whatever else comes to serve is not, so
it is known as somebody's who went round the hold. Pure; `intake.py` asks at every look.
"""

from collections.abc import Sequence
from datetime import datetime

from canary.api.policy import MAX_REJECTED, CanaryPolicyStatus, RejectedRevision, Revision
from canary.api.reasons import Phase
from canary.core.decision import Run
from canary.core.evidence import Workload

TAKEN_BACK = frozenset({Phase.ROLLED_BACK, Phase.ABORTED, Phase.REJECTED})


def remembered(status: CanaryPolicyStatus, runs: Sequence[Run], now: datetime) -> CanaryPolicyStatus:
    """Copy the outcome of finished runs into the policy; `retry` needs the count."""
    rejected = {item.run: item for item in status.rejected}
    for run in runs:
        if run.status.phase in TAKEN_BACK and run.name not in rejected:
            rejected[run.name] = _rejection(run, now)
    newest: dict[str, RejectedRevision] = {}
    for item in sorted(rejected.values(), key=lambda item: item.at):
        newest[item.template_hash] = item
    finished = [run for run in runs if run.status.phase.final and run.status.finished_at is not None]
    last = max(finished, key=lambda run: run.status.finished_at or now, default=None)
    promoted = let_through(finished)
    kept = [item for item in newest.values() if item.template_hash not in promoted][-MAX_REJECTED:]
    update: dict[str, object] = {"rejected": kept}
    if last is not None:
        update |= {"last_run": last.name, "last_outcome": last.status.phase.value}
    return status.model_copy(update=update)


def let_through(runs: Sequence[Run]) -> set[str]:
    """Return the templates that runs promoted, or that a person accepted in one."""
    promoted = {run.spec.revision.template_hash for run in runs if run.status.phase is Phase.PROMOTED}
    return promoted | {run.status.accepted for run in runs if run.status.accepted is not None}


def with_good(
    status: CanaryPolicyStatus, workload: Workload, serving: Revision | None, runs: Sequence[Run]
) -> CanaryPolicyStatus:
    """Return the status that knows the last good version: the one that serves, where it has a right to."""
    if serving is None or not status.adopted or status.target_uid != workload.uid:
        return status
    known = {status.good.template_hash, *let_through(runs)} if status.good is not None else None
    if known is not None and serving.template_hash not in known:
        return status
    return status.model_copy(update={"good": serving, "good_pods": workload.replicas})


def _rejection(run: Run, now: datetime) -> RejectedRevision:
    cause = run.status.timeline[-1].reason if run.status.timeline else run.status.phase.value
    return RejectedRevision(
        template_hash=run.spec.revision.template_hash,
        run=run.name,
        outcome=run.status.phase.value,
        reason=cause,
        at=run.status.finished_at or now,
        attempts=run.spec.attempt,
    )
