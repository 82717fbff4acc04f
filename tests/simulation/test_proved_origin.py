"""A change is human where a trusted key signed that, for these images, commits and fields; else it is unknown."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sim_street import Street, short_policy

from canary.api.attestation import ChangeOrigin, ImageDigest, SignedCommit, Statement, Subject
from canary.api.change import ChangeAnnotation
from canary.api.policy import STEPS_CAREFUL_PPM, STEPS_HUMAN_PPM
from canary.api.reasons import Origin, Phase
from canary.audit.attest import sign, written
from canary.core.decision import Run
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, SAFETYPOLICIES
from canary.lab import manifests
from canary.lab.rehearsal.scenario import PORT

KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
FIRST, SECOND, THIRD, FOURTH = (digit * 40 for digit in "1234")
VERSION = "metadata.labels[app.kubernetes.io/version]"
DIGEST = "a" * 64
Annotate = Callable[[Street], dict[str, str | None]]


def a_street() -> Street:
    """A shop of tier 2 that serves what was promoted from SECOND, under a policy that trusts KEY."""
    street = Street(policy=short_policy(tier=2, steps=[{"weight": "5%"}]))
    keys = [{"id": "ci-main", "publicKey": written(KEY)}]
    rules = {"appliesTo": {"tiers": [2]}, "approvals": {"count": 0, "senior": 0}, "trustedKeys": keys}
    exposure = {"exposure": {"firstSliceMax": "10%", "maxStepRatio": 20, "unapprovedMax": "100%"}}
    street.admin.create(
        SAFETYPOLICIES,
        SAFETYPOLICIES.at("", "tier-2").manifest(spec={**rules, **exposure}),
        intent=Intent.NEUTRAL,
    )
    street.run_for(2.0)
    push(street, "v2.31.0", {ChangeAnnotation.SOURCE_RANGE.value: f"{FIRST}..{SECOND}"})
    street.until(Phase.PROMOTED).tidied()
    return street


def push(
    street: Street, version: str, annotations: dict[str, str | None], env: dict[str, str] | None = None
) -> None:
    change = manifests.change(version, PORT, env or {}, Origin.UNKNOWN)
    change["spec"]["template"]["spec"]["containers"][0]["image"] = f"registry.example/shop@sha256:{DIGEST}"
    change["metadata"]["annotations"] |= {ChangeAnnotation.CHANGE_ID.value: version, **annotations}
    street.admin.merge_patch(
        DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME), change, intent=Intent.NEUTRAL
    )


def proved(street: Street, **fields: Any) -> dict[str, str | None]:
    """Return the annotations of a change from SECOND to THIRD that is proved human; `fields` alter the statement."""
    base, head = fields.pop("base", SECOND), fields.pop("head", THIRD)
    commit = SignedCommit(sha=head, author="Dana <dana@example.com>", key="SHA256:x")
    origin = ChangeOrigin(
        repo="shop",
        base=base,
        head=head,
        commits=[commit],
        fields=[VERSION],
        expires_at=street.clock.now() + timedelta(hours=1),
    ).model_copy(update=fields)
    subject = Subject(name="shop", digest=ImageDigest(sha256=DIGEST))
    envelope = sign(Statement(subject=[subject], predicate=origin), KEY, "ci-main")
    return {
        ChangeAnnotation.ATTESTATION.value: envelope,
        ChangeAnnotation.SOURCE_RANGE.value: f"{base}..{head}",
    }


def run_of(street: Street, annotations: dict[str, str | None], env: dict[str, str] | None = None) -> Run:
    before = street.run
    push(street, "v2.32.0", annotations, env)
    assert street.run_until(lambda: street.run.uid != before.uid, 60), street.told()
    return street.run


def test_a_change_that_is_proved_human_goes_the_whole_road_as_such() -> None:
    street = a_street()
    assert street.run.spec.origin is Origin.UNKNOWN
    run = run_of(street, proved(street))
    assert run.spec.origin is Origin.HUMAN, run.spec.change.evidence
    street.until(Phase.PROMOTED).tidied()
    assert street.run.uid == run.uid, "the origin is pinned, and the annotations still say the same"
    serving = street.run.spec.change.source_range
    assert serving == f"{SECOND}..{THIRD}"


def test_a_proof_gives_the_shorter_plan_of_its_tier() -> None:
    street = a_street()
    policy = {"spec": {"steps": []}}
    street.admin.merge_patch(
        CANARYPOLICIES.at(manifests.NAMESPACE, manifests.NAME), policy, intent=Intent.NEUTRAL
    )
    assert [step.weight for step in run_of(street, proved(street)).spec.steps] == list(STEPS_HUMAN_PPM)
    assert STEPS_HUMAN_PPM != STEPS_CAREFUL_PPM


GAPS: dict[str, Annotate] = {
    "the commits of another release": lambda street: proved(street, base=FIRST),
    "a range that the record does not name": lambda street: {
        **proved(street),
        ChangeAnnotation.SOURCE_RANGE.value: f"{SECOND}..{FOURTH}",
    },
    "a field that it does not list": lambda street: proved(street, fields=[]),
    "a time that is over": lambda street: proved(street, expires_at=street.clock.now()),
    "a cut envelope": lambda street: {
        **proved(street),
        ChangeAnnotation.ATTESTATION.value: (proved(street)[ChangeAnnotation.ATTESTATION.value] or "")[:-9],
    },
    "evidence that is in doubt": lambda street: {**proved(street), ChangeAnnotation.ORIGIN.value: "robot"},
}


@pytest.mark.parametrize("gap", GAPS)
def test_a_proof_with_a_gap_leaves_the_origin_unknown(gap: str) -> None:
    street = a_street()
    assert run_of(street, GAPS[gap](street)).spec.origin is Origin.UNKNOWN


def test_a_change_of_the_environment_that_nobody_signed_is_unknown() -> None:
    street = a_street()
    run = run_of(street, proved(street), env={"TAX": "1"})
    assert run.spec.origin is Origin.UNKNOWN
    assert "env" in run.spec.change.evidence[0].detail


def test_a_word_of_an_agent_beats_the_proof() -> None:
    street = a_street()
    assert run_of(street, {**proved(street), ChangeAnnotation.AGENTS.value: "kiro"}).spec.origin is Origin.AI


def test_a_statement_of_the_last_release_proves_nothing_of_the_next() -> None:
    street = a_street()
    annotations = proved(street)
    assert run_of(street, annotations).spec.origin is Origin.HUMAN
    street.until(Phase.PROMOTED).tidied()
    push(street, "v2.33.0", annotations)
    before = street.run
    assert street.run_until(lambda: street.run.uid != before.uid, 60), street.told()
    assert street.run.spec.origin is Origin.UNKNOWN


def test_keys_that_are_taken_out_of_the_policy_are_not_believed_any_more() -> None:
    street = a_street()
    keys = [{"id": "ci-main", "publicKey": written(OTHER_KEY)}]
    ref = SAFETYPOLICIES.at("", "tier-2")
    street.admin.merge_patch(ref, {"spec": {"trustedKeys": keys}}, intent=Intent.NEUTRAL)
    street.run_for(2.0)
    assert run_of(street, proved(street)).spec.origin is Origin.UNKNOWN
