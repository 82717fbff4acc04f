"""The change record and the digest of a change: every part alters it, and nothing of a record is lost unsaid."""

from collections.abc import Iterator
from typing import Any

import pytest

from canary.api.change import MAX_AUTHORS, ChangeAnnotation, ChangeRecord, OriginEvidence
from canary.api.policy import CanaryPolicySpec
from canary.api.reasons import Origin
from canary.api.run import SafetyTerms
from canary.core.record import change_digest, changed_fields, record_of
from canary.core.rules.origin import carried, write_evidence
from canary.kube.digest import template_hash

PROOF = OriginEvidence(level="E4", says=Origin.HUMAN, source="attestation", detail="3 commits")
POLICY: dict[str, Any] = {
    "target": {"name": "shop"},
    "tier": 2,
    "steps": [{"weight": "1%", "minOrders": 5}, {"weight": "50%", "approval": True}],
    "analysis": {
        "orders": {"counter": "orders"},
        "requests": {"counter": "requests"},
        "errors": {"counter": "requests", "where": {"code": "5.."}},
        "extra": [{"name": "late", "counter": "late", "direction": "rise", "floor": "1%"}],
    },
    "source": {"scrape": {"port": "http", "path": "/metrics"}},
    "onCall": {"sinks": ["pager"]},
}
RECORD: dict[str, Any] = {
    **dict.fromkeys(("changeId", "what", "why", "rollbackPlan", "securityImpact", "sourceRepo"), "text"),
    **{"origin": "ai", "agents": ["kiro"], "authors": ["dana"], "sourceRange": "a..b", "changedBy": "argocd"},
    "evidence": [{"level": "E1", "says": "ai", "source": "kiro", "detail": "in the message"}],
}
SAFETY: dict[str, Any] = {
    "unapprovedMaxPpm": 10,
    "approvals": 2,
    "seniors": 1,
    "policies": ["tier-1"],
    "reviewWithin": "4h",
    "digest": f"sha256:{'a' * 64}",
}
REFERENCES: list[dict[str, Any]] = [
    {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "shop-1", "key": "a"}}}]},
    {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "shop-1", "key": "a"}}}]},
    {"envFrom": [{"configMapRef": {"name": "shop-1"}}]},
    {"envFrom": [{"secretRef": {"name": "shop-1"}}]},
]
VOLUMES: list[dict[str, Any]] = [
    {"name": "v", "configMap": {"name": "shop-1"}},
    {"name": "v", "secret": {"secretName": "shop-1"}},
    {"name": "v", "projected": {"sources": [{"secret": {"name": "shop-1"}}]}},
]
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "shop"}, "annotations": {"note": "1"}},
    "spec": {
        "containers": [
            {"name": "shop", "image": "shop@sha256:1", "ports": [{"containerPort": 80}], **each}
            for each in REFERENCES
        ],
        "volumes": VOLUMES,
        "serviceAccountName": "shop",
        "terminationGracePeriodSeconds": 30,
    },
}


def digest(template: Any = TEMPLATE, policy: Any = POLICY, record: Any = RECORD, safety: Any = SAFETY) -> str:
    """Return the digest of a change as the API server would store its parts."""
    return change_digest(
        template_hash(template),
        CanaryPolicySpec.model_validate(policy),
        ChangeRecord.model_validate(record),
        SafetyTerms.model_validate(safety),
    )


def flipped(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the value once for each of its leaves, with that leaf another one of its kind."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((f".{key}{path}", {**value, key: other}) for path, other in flipped(inner))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from (
                (f"[{index}]{path}", [*value[:index], other, *value[index + 1 :]])
                for path, other in flipped(inner)
            )
    else:
        yield "", OTHER.get(value) or other_leaf(value)


OTHER: dict[Any, Any] = {
    **{
        "ai": "unknown",
        "E1": "E3",
        "rise": "drop",
        "/metrics": "/other",
        "1%": "2%",
        "50%": "60%",
        "5..": "4..",
        "4h": "5h",
    },
    SAFETY["digest"]: f"sha256:{'b' * 64}",
}


def other_leaf(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else f"{value}x"


PARTS = {"template": TEMPLATE, "policy": POLICY, "record": RECORD, "safety": SAFETY}
FLIPS = [(part, path, other) for part, value in PARTS.items() for path, other in flipped(value)]


def test_the_flips_reach_every_part_and_every_field_of_the_record() -> None:
    assert len(FLIPS) > 60
    assert {part for part, _, _ in FLIPS} == PARTS.keys()
    named = {path.split(".")[1].split("[")[0] for part, path, _ in FLIPS if part == "record"}
    assert named == {field.alias for field in ChangeRecord.model_fields.values()}
    terms = {path.split(".")[1].split("[")[0] for part, path, _ in FLIPS if part == "safety"}
    assert terms == {field.alias for field in SafetyTerms.model_fields.values()}


@pytest.mark.parametrize(("part", "path", "other"), FLIPS, ids=[f"{part}{path}" for part, path, _ in FLIPS])
def test_every_part_alters_the_digest_of_a_change(part: str, path: str, other: Any) -> None:
    assert digest(**{part: other}) != digest()


def test_the_same_parts_have_the_same_digest() -> None:
    assert digest() == digest(policy=dict(reversed(POLICY.items())))


def annotations(**texts: str) -> dict[str, str]:
    return {ChangeAnnotation[name.upper()].value: text for name, text in texts.items()}


def test_an_annotation_that_says_human_proves_nothing_and_a_statement_does() -> None:
    said = annotations(origin="human", origin_evidence=write_evidence([PROOF]))
    assert record_of(said).origin is Origin.UNKNOWN
    assert record_of(said, [PROOF]).origin is Origin.HUMAN
    assert record_of({**said, **annotations(agents="kiro")}, [PROOF]).origin is Origin.AI


def test_agents_that_evidence_names_are_in_the_record() -> None:
    found = OriginEvidence(level="E1", says=Origin.AI, source="devin", detail="in the message")
    assert record_of(annotations(agents="kiro", origin_evidence=write_evidence([found]))).agents == [
        "kiro",
        "devin",
    ]


def test_authors_who_do_not_fit_are_said_so_that_no_approval_can_count() -> None:
    everybody = [f"person-{number}@example.com" for number in range(MAX_AUTHORS + 10)]
    assert (
        record_of(annotations(authors=",".join(everybody[:MAX_AUTHORS]))).authors == everybody[:MAX_AUTHORS]
    )
    authors = record_of(annotations(authors=",".join(everybody))).authors
    assert len(authors) == MAX_AUTHORS
    assert authors[-1] == "and 11 more than fit: split the change"


def test_a_record_that_stays_as_it_was_pinned_has_no_changes() -> None:
    said = annotations(what="a", why="b", agents="kiro", authors="dana", changed_by="argocd", origin="ai")
    for kept in ([], [PROOF], carried(record_of(said).evidence, "shop-1")):
        assert not changed_fields(record_of(said, kept), said)
    odd = annotations(origin="robot", origin_evidence='[{"level":"E4","says":"ai","source":"earlier-run"}]')
    assert not changed_fields(record_of(odd), odd)


@pytest.mark.parametrize("key", list(ChangeAnnotation))
def test_each_annotation_that_is_altered_later_is_noticed_by_its_field(key: ChangeAnnotation) -> None:
    said = annotations(what="a", why="b")
    changes = changed_fields(record_of(said), {**said, key.value: "copilot-swe-agent[bot]"})
    if key is ChangeAnnotation.ATTESTATION:
        assert not changes  # what the first one proved is pinned
    else:
        assert key.name.lower().removeprefix("origin_") in [
            *changes,
            *(["origin"] if "evidence" in changes else []),
        ]
