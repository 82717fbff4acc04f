"""What the signed statement in a held change's record proves of its origin.

Enter: what was read of the Deployment, the runs of its policy, and the safety policies' rules. Leaves: evidence for the
judge. `cryptography` is imported when the first statement comes, not when the controller starts.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from canary.api.change import ChangeAnnotation, OriginEvidence
from canary.api.reasons import Phase
from canary.core.decision import Run
from canary.core.evidence import Missing
from canary.core.rules.effective import Effective
from canary.core.rules.proof import Release, changed_paths, head_of, images_of
from canary.kube.adoption import Facts
from canary.kube.workload import annotations_of

LONG_AGO = datetime.min.replace(tzinfo=UTC)


def proof_of(
    facts: Facts, runs: Sequence[Run], ruling: Effective | Missing | None, now: datetime
) -> tuple[OriginEvidence, ...]:
    """Return what the statement proves; nothing where there is none, or no change is held."""
    annotations, workload, stable = annotations_of(facts.deployment), facts.seen.workload, facts.seen.stable
    envelope = annotations.get(ChangeAnnotation.ATTESTATION, "")
    if not envelope or stable is None or workload.template_hash == workload.stable_hash:
        return ()
    from canary.audit.attest import judge

    release = Release(
        images=images_of(facts.template),
        fields=changed_paths(stable["spec"]["template"], facts.template),
        base=_released(workload.stable_hash, runs),
        range=annotations.get(ChangeAnnotation.SOURCE_RANGE, "").strip(),
        now=now,
    )
    return (judge(envelope, ruling.spec.trusted_keys if isinstance(ruling, Effective) else (), release),)


def _released(serving: str, runs: Sequence[Run]) -> str:
    """Return the commit of the serving version, as the newest run that promoted it has on record."""
    promoted = [
        run
        for run in runs
        if run.status.phase is Phase.PROMOTED and run.spec.revision.template_hash == serving
    ]
    newest = max(promoted, key=lambda run: run.status.finished_at or LONG_AGO, default=None)
    return head_of(newest.spec.change.source_range) if newest is not None else ""
