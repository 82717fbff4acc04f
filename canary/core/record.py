"""The change record and the digests: annotations in, a `ChangeRecord` and hashes out.

Annotations are written by anybody who may edit the Deployment (evidence level E0), so they count only towards *more*
AI: an annotation that says `human` proves nothing, and the origin stays unknown, which is treated as AI.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from canary.api.change import (
    MAX_AGENTS,
    MAX_AUTHORS,
    MAX_EVIDENCE,
    ChangeAnnotation,
    ChangeRecord,
    OriginEvidence,
)
from canary.api.policy import CanaryPolicySpec
from canary.api.run import SafetyTerms
from canary.core.rules.origin import EARLIER_RUN, agents_of, evidence_of_annotations, origin_of

MAX_TEXT, MAX_SHORT = 4096, 256


def record_of(annotations: Mapping[str, str], kept: Iterable[OriginEvidence] = ()) -> ChangeRecord:
    """Read the record from a Deployment's annotations; every text is capped, an absent one is empty.

    `kept`: what is known of the origin beyond the annotations, from a verified statement and from earlier runs.
    """

    def text(key: ChangeAnnotation, longest: int = MAX_SHORT) -> str:
        return annotations.get(key.value, "").strip()[:longest]

    evidence = list(dict.fromkeys([*kept, *evidence_of_annotations(annotations)]))[:MAX_EVIDENCE]
    agents = [*_names(annotations, ChangeAnnotation.AGENTS), *agents_of(evidence)]
    return ChangeRecord(
        change_id=text(ChangeAnnotation.CHANGE_ID),
        what=text(ChangeAnnotation.WHAT, MAX_TEXT),
        why=text(ChangeAnnotation.WHY, MAX_TEXT),
        rollback_plan=text(ChangeAnnotation.ROLLBACK_PLAN, MAX_TEXT),
        security_impact=text(ChangeAnnotation.SECURITY_IMPACT, MAX_TEXT),
        origin=origin_of(evidence),
        evidence=evidence,
        agents=list(dict.fromkeys(agents))[:MAX_AGENTS],
        authors=_authors(_names(annotations, ChangeAnnotation.AUTHORS)),
        source_repo=text(ChangeAnnotation.SOURCE_REPO),
        source_range=text(ChangeAnnotation.SOURCE_RANGE),
        changed_by=text(ChangeAnnotation.CHANGED_BY),
    )


def _names(annotations: Mapping[str, str], key: ChangeAnnotation) -> list[str]:
    names = annotations.get(key.value, "").split(",")
    return list(dict.fromkeys(name.strip()[:MAX_SHORT] for name in names if name.strip()))


def _authors(names: list[str]) -> list[str]:
    """Return all of them; where they do not fit, the last one is nobody's name, so that no approval counts."""
    if len(names) <= MAX_AUTHORS:
        return names
    return [*names[: MAX_AUTHORS - 1], f"and {len(names) - MAX_AUTHORS + 1} more than fit: split the change"]


def changed_fields(pinned: ChangeRecord, annotations: Mapping[str, str]) -> list[str]:
    """Return the fields of a run's record that the Deployment's annotations no longer say."""
    kept = [item for item in pinned.evidence if item.level == "E4" or item.source == EARLIER_RUN]
    now = record_of(annotations, kept)
    return [name for name in ChangeRecord.model_fields if getattr(now, name) != getattr(pinned, name)]


def sha256_of(value: Any) -> str:
    """Return "sha256:..." of a JSON value in canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def policy_digest(spec: CanaryPolicySpec) -> str:
    """Return the digest of a policy: of what it says, not of how it was written."""
    return sha256_of(spec.wire())


def change_digest(
    template_hash: str, policy: CanaryPolicySpec, record: ChangeRecord, safety: SafetyTerms
) -> str:
    """Return what an approval is bound to. Any one-field change alters it.

    The template holds the names of the configuration that it refers to, never values; the terms hold the digest of the
    safety policies' rules.
    """
    parts = {"template": template_hash, "policy": policy.wire()}
    return sha256_of({**parts, "record": record.wire(), "safety": safety.wire()})
