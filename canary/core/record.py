"""The change record and the digests: annotations in, a `ChangeRecord` and hashes out.

Annotations are written by anybody who may edit the Deployment (evidence level E0), so they count only towards *more*
AI: an annotation that says `human` proves nothing, and the origin stays unknown, which is treated as AI.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from canary.api.change import ChangeAnnotation, ChangeRecord, OriginEvidence
from canary.api.policy import CanaryPolicySpec
from canary.api.reasons import Origin

MAX_TEXT, MAX_SHORT, MAX_NAMES = 4096, 256, 16


def record_of(annotations: Mapping[str, str]) -> ChangeRecord:
    """Read the record from a Deployment's annotations; every text is capped, an absent one is empty."""

    def text(key: ChangeAnnotation, longest: int = MAX_SHORT) -> str:
        return annotations.get(key.value, "").strip()[:longest]

    agents = _names(text(ChangeAnnotation.AGENTS))
    evidence = _evidence(text(ChangeAnnotation.ORIGIN), agents)
    return ChangeRecord(
        change_id=text(ChangeAnnotation.CHANGE_ID),
        what=text(ChangeAnnotation.WHAT, MAX_TEXT),
        why=text(ChangeAnnotation.WHY, MAX_TEXT),
        rollback_plan=text(ChangeAnnotation.ROLLBACK_PLAN, MAX_TEXT),
        security_impact=text(ChangeAnnotation.SECURITY_IMPACT, MAX_TEXT),
        origin=origin_of(evidence),
        evidence=evidence,
        agents=agents,
        authors=_names(text(ChangeAnnotation.AUTHORS, MAX_TEXT)),
        source_repo=text(ChangeAnnotation.SOURCE_REPO),
        source_range=text(ChangeAnnotation.SOURCE_RANGE),
        changed_by=text(ChangeAnnotation.CHANGED_BY),
    )


def _names(text: str) -> list[str]:
    return [name.strip()[:MAX_SHORT] for name in text.split(",") if name.strip()][:MAX_NAMES]


def _evidence(origin: str, agents: list[str]) -> list[OriginEvidence]:
    found: list[OriginEvidence] = []
    if origin:
        says = Origin(origin) if origin in set(Origin) else Origin.UNKNOWN
        source = ChangeAnnotation.ORIGIN.value.split("/")[-1]
        found.append(OriginEvidence(level="E0", says=says, source=source, detail=origin[:MAX_SHORT]))
    if agents:
        source = ChangeAnnotation.AGENTS.value.split("/")[-1]
        found.append(OriginEvidence(level="E0", says=Origin.AI, source=source, detail=agents[0]))
    return found


def origin_of(evidence: list[OriginEvidence]) -> Origin:
    """Return the most suspicious thing that any evidence says; only a verified attestation proves a human."""
    if any(item.says is Origin.AI for item in evidence):
        return Origin.AI
    proved = any(item.says is Origin.HUMAN and item.level == "E4" for item in evidence)
    return Origin.HUMAN if proved else Origin.UNKNOWN


def sha256_of(value: Any) -> str:
    """Return "sha256:..." of a JSON value in canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def policy_digest(spec: CanaryPolicySpec) -> str:
    """Return the digest of a policy: of what it says, not of how it was written."""
    return sha256_of(spec.wire())


def change_digest(template_hash: str, policy: CanaryPolicySpec, record: ChangeRecord) -> str:
    """Return what an approval is bound to: template, policy and record. Any one-field change alters it."""
    return sha256_of({"template": template_hash, "policy": policy.wire(), "record": record.wire()})
