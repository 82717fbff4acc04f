"""What of a run goes on record: each entry of its timeline becomes one record, with what was known when it was decided.

`due` names the entries that are not on record yet, `entry_of` makes one. The id of an entry is the run, its place in
the timeline and what it is: a decision that is taken again, because whoever took it died before acting, is the same
entry. Texts are what people wrote of the change; of templates only paths and images are kept, never a value. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from canary.api.audit import AuditStatus
from canary.api.policy import Revision
from canary.api.reasons import Phase, Reason
from canary.api.run import AnalysisStatus, CanaryRunStatus, TimelineEntry
from canary.api.types import format_timestamp
from canary.core.decision import Run
from canary.core.record import sha256_of

MAX_CHANGES = 64


class RecordKind(StrEnum):
    """What a record is about."""

    START = "Start"  # a change was held, or its pods are started
    RAISE = "Raise"  # the side gets more traffic
    LOWER = "Lower"  # it gets less, or none
    COMMIT = "Commit"  # the tested template rolls out
    PROMOTE = "Promote"
    ROLL_BACK = "RollBack"
    ABORT = "Abort"  # a person's word, a newer change or a rejection ended it
    NOTE = "Note"  # what people asked, and what was noticed
    # not by a run: `revisions.py`
    INITIAL = "Initial"  # it served before canary came
    ROLLED = "Rolled"  # a revision that a run let through
    UNPOLICED = "Unpoliced"  # no policy guards this workload
    BYPASS = "Bypass"  # somebody broke the glass of a run, or went round it
    GAP = "Gap"  # a revision came and went, and nobody saw it
    # the roads and the rules as others wrote them: `edits.py`
    ROUTE = "Route"
    SERVICE = "Service"
    POLICY = "Policy"


@dataclass(frozen=True, slots=True)
class Due:
    """An entry of the timeline that is not on record, its place among all of them, and the weight before it."""

    place: int
    entry: TimelineEntry
    from_ppm: int


def due(status: CanaryRunStatus) -> list[Due]:
    """Return what is not on record, oldest first; by place and not by time, for a clock may be put back."""
    timeline, known = status.timeline, status.audit
    done = max((at for at, each in enumerate(timeline) if each.at == known.through), default=-1)
    before = [0, *(each.weight_ppm for each in timeline)]
    places = range(done + 1, len(timeline))
    return [Due(known.entries + n, timeline[at], before[at]) for n, at in enumerate(places)]


def kind_of(what: Due) -> RecordKind:
    """Return what an entry of a timeline is on record."""
    entry = what.entry
    if entry.reason in _OF_REASON:
        return _OF_REASON[entry.reason]
    if entry.phase.final:
        return _OF_END[entry.phase]
    if entry.weight_ppm == what.from_ppm:
        return RecordKind.NOTE
    return RecordKind.RAISE if entry.weight_ppm > what.from_ppm else RecordKind.LOWER


_OF_REASON: dict[str, RecordKind] = {
    Reason.RUN_STARTED: RecordKind.START,
    Reason.COMMIT_STARTED: RecordKind.COMMIT,
    Reason.BYPASS_USED: RecordKind.BYPASS,
    Reason.AUDIT_WRITE_FAILED: RecordKind.NOTE,
}
_OF_END = {
    Phase.PROMOTED: RecordKind.PROMOTE,
    Phase.ROLLED_BACK: RecordKind.ROLL_BACK,
    Phase.ABORTED: RecordKind.ABORT,
    Phase.SUPERSEDED: RecordKind.ABORT,
    Phase.REJECTED: RecordKind.ABORT,
}


def rises(before: CanaryRunStatus, after: CanaryRunStatus) -> bool:
    """Tell whether a decision is one that needs a durable record first: a start, a step, a commit."""
    if after.traffic.weight_ppm > before.traffic.weight_ppm:
        return True
    return after.phase is not before.phase and after.phase in (Phase.PREPARING, Phase.COMMITTING)


def entry_of(run: Run, what: Due, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Return the entry of one decision: who, what, why, on what evidence, from which weight to which."""
    spec, status, entry = run.spec, run.status, what.entry
    kind = kind_of(what)
    return {
        "id": f"{run.uid}/{what.place}/{entry.phase.value}/{entry.reason}",
        "at": format_timestamp(entry.at),
        "kind": kind.value,
        "namespace": run.namespace,
        "workload": spec.target.name,
        "targetUid": spec.target.uid,
        "run": run.name,
        "phase": entry.phase.value,
        "reason": entry.reason,
        "message": entry.message,
        "by": entry.by,
        "fromPpm": what.from_ppm,
        "toPpm": entry.weight_ppm,
        "version": _version(spec.revision),
        "baseline": _version(spec.baseline),
        "tier": spec.policy.tier,
        "attempt": spec.attempt,
        "digest": spec.digest,
        "policy": {"name": spec.policy_ref.name, "digest": spec.policy_digest, "safety": spec.safety.wire()},
        "change": spec.change.wire(),
        "findings": [each.id for each in spec.findings],
        "approvals": [each.wire() for each in status.approvals],
        **({"bypass": status.bypass.wire()} if status.bypass is not None else {}),
        "evidence": _evidence(status.analysis),
        "told": {each.reason: sorted(each.delivered) for each in status.notices if each.delivered},
        **({"changes": list(changes)} if kind is RecordKind.START and changes else {}),
    }


def _version(revision: Revision) -> dict[str, Any]:
    return {"version": revision.version, "template": revision.template_hash, "images": revision.images}


def _evidence(analysis: AnalysisStatus) -> dict[str, Any]:
    """Return the verdict with its numbers, and the hash of the samples that it was worked out from."""
    return {
        "verdict": analysis.verdict.value if analysis.verdict else "",
        "message": analysis.message,
        "log10": analysis.evidence_log10,
        "limitLog10": analysis.limit_log10,
        "effects": [each.wire() for each in analysis.effects],
        "lost": [analysis.lost, analysis.lost_low, analysis.lost_high],
        "samples": sha256_of([analysis.state, analysis.counters]),
    }


def recorded(status: CanaryRunStatus, done: Sequence[Due], written: AuditStatus) -> CanaryRunStatus:
    """Return the status with its newest record, and all of `done` on record."""
    audit = written.model_copy(
        update={"entries": status.audit.entries + len(done), "through": done[-1].entry.at}
    )
    return status.model_copy(update={"audit": audit})
