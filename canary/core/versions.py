"""What is known of a target's versions: those that were taken back, and the last good one.

Enter: a policy's status and its runs. Leaves: the status that remembers them, where it outlives the runs. A version is
good that was there at adoption, that a run promoted, or that people accepted; whatever else comes to serve is not, so
it is known as somebody's who went round the hold. Pure; `intake.py` asks at every look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from canary.api.policy import MAX_REJECTED, CanaryPolicyStatus, RejectedRevision, Revision, WentRound
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


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves a target now; `accepted` is the template that enough people reviewed, empty: none."""

    workload: Workload
    revision: Revision | None
    at: datetime
    accepted: str = ""


def with_good(status: CanaryPolicyStatus, now: Serving, runs: Sequence[Run]) -> CanaryPolicyStatus:
    """Return the status that knows the last good version, or who went round the hold: what serves decides."""
    workload, serving = now.workload, now.revision
    if serving is None or not status.adopted or status.target_uid != workload.uid:
        return status
    known = {status.good.template_hash if status.good else serving.template_hash, now.accepted}
    same = workload.stable_set != "" and workload.stable_set == status.good_set
    if same or serving.template_hash in known | let_through(runs):
        good = {"good": serving, "good_pods": workload.replicas, "good_set": workload.stable_set}
        return status.model_copy(update={**good, "went_round": None})
    if any(run.status.tidied_at is None for run in runs):
        return status  # its own roll, or what it looks after
    before = status.went_round
    if before is not None and before.revision.template_hash == serving.template_hash:
        return status
    return status.model_copy(update={"went_round": WentRound(revision=serving, since=now.at)})


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
