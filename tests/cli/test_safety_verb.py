"""`canary safety status` for a director, `resume` for whoever read why the brake is on, and what an approver sees."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_bed import Answering, Bed
from conftest import require_program
from run_story import a_run, exposed, rolled_back

from canary.core.rules.approvals import signed_text
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, SAFETYPOLICIES

pytest_plugins = ["cli_fixtures"]
REASON = "read the plan; the migration is additive"
SPEC: dict[str, Any] = {"approvals": {"count": 0, "senior": 0}, "appliesTo": {"tiers": [1], "expected": 335}}


@pytest.fixture
def ruled(cli: Bed) -> Iterator[Bed]:
    cli.namespace("canary-system")
    yield cli
    for each in cli.controller.list(SAFETYPOLICIES):
        ref = SAFETYPOLICIES.at("", each["metadata"]["name"])
        cli.controller.delete(ref, uid=each["metadata"]["uid"], intent=Intent.NEUTRAL)


def put(bed: Bed, name: str = "reset", status: dict[str, Any] | None = None, **spec: Any) -> None:
    ref = SAFETYPOLICIES.at("", name)
    bed.controller.create(SAFETYPOLICIES, ref.manifest(spec={**SPEC, **spec}), intent=Intent.NEUTRAL)
    said = {
        "type": "Ready",
        "status": "True",
        "reason": "Idle",
        "message": "in force, 333 of 335 tier-1 workloads are held",
        "lastTransitionTime": "2026-03-05T00:00:00Z",
    }
    seen = {"inForce": True, "covered": 333, "conditions": [said], **(status or {})}
    bed.controller.merge_patch(ref, {"status": seen}, intent=Intent.NEUTRAL, subresource="status")


def test_status_shows_coverage_days_left_waits_and_bypasses(ruled: Bed):
    soon = (datetime.now(UTC) + timedelta(days=12, minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    put(ruled, expiresAt=soon, onExpiry={"fallback": "tier-1"})
    run = exposed()
    run["status"] |= {
        "reason": "ApprovalsMissing",
        "message": "5 % waits for approval: has sam, needs 1 senior",
    }
    ruled.put(run)
    spec = {
        "verb": "bypass",
        "subject": {"name": "checkout-7f9c2"},
        "reason": "INC-481 pay hotfix",
    }
    asked = CANARYREQUESTS.at("shop", "went-round")
    dana = Client(ruled.cluster.transport(ruled.people["dana"]))
    dana.create(CANARYREQUESTS, asked.manifest(spec=spec), intent=Intent.NEUTRAL)
    done = {"status": {"outcome": "Done"}}
    ruled.controller.merge_patch(asked, done, intent=Intent.NEUTRAL, subresource="status")

    said = ruled.canary("safety", "status")
    assert said.code == 0
    header, row, *rest = said.out.splitlines()
    assert header.split() == ["POLICY", "IN", "FORCE", "HELD", "ENDS", "THEN", "BRAKE", "SAYS"]
    assert row.split()[:7] == ["reset", "yes", "333/335", "in", "12d", "tier-1", "off"]
    assert rest[1].startswith("waiting for approval: 1, longest ")
    assert "shop/checkout" in rest[2]
    assert "has sam, needs 1 senior" in rest[2]
    assert rest[3] == "bypasses in 7 days: 1"
    assert "INC-481 pay hotfix" in rest[4]

    document = json.loads(ruled.canary("safety", "status", "reset", "-o", "json").out)
    (policy,) = document["policies"]
    assert (policy["held"], policy["expected"], policy["then"]) == (333, 335, "tier-1")
    assert 12 <= policy["secondsLeft"] / 86_400 < 13
    (bypass,) = document["bypasses"]
    assert (bypass["requester"], bypass["reason"]) == ("dana", "INC-481 pay hotfix")


def test_without_a_policy_it_says_that_nothing_is_asked(ruled: Bed):
    said = ruled.canary("safety", "status")
    assert (
        said.out.splitlines()[0]
        == "no safety policy is written: nothing asks for approvals, limits or freezes"
    )


def test_a_name_that_is_not_there_is_refused_with_those_that_are(ruled: Bed):
    put(ruled)
    said = ruled.canary("safety", "status", "rest")
    assert said.code == 2
    assert "there is no safety policy rest; there are: reset" in said.err


WEAKER = {
    "digest": "sha256:" + "7" * 64,
    "since": "2026-03-05T00:00:00Z",
    "fields": ["limits.cooldown", "freezes"],
    "missing": "has none, needs 1 senior",
}


def test_a_weaker_text_that_waits_is_shown_and_its_digest_is_what_is_approved(ruled: Bed):
    put(ruled, status={"weaker": WEAKER})
    said = ruled.canary("safety", "status")
    line = "reset: a weaker text waits (limits.cooldown, freezes); `canary safety approve reset`"
    assert line in said.out.splitlines()
    (policy,) = json.loads(ruled.canary("safety", "status", "-o", "json").out)["policies"]
    assert policy["weaker"] == WEAKER["fields"]
    answer = {"outcome": "Done", "message": "recorded; has dana, needs 1 senior"}
    with Answering(ruled, lambda request: answer, "canary-system"):
        said = ruled.canary("safety", "approve", "reset", "--reason", REASON, "--yes")
    assert (said.code, said.out) == (0, f"approve: {answer['message']}\n")
    assert "weaker in limits.cooldown, freezes" in said.err
    (request,) = ruled.requests("canary-system")
    spec = request["spec"]
    assert (spec["verb"], spec["digest"]) == ("approve", WEAKER["digest"])
    assert spec["subject"]["kind"] == "SafetyPolicy"


def test_a_looser_policy_that_waits_is_shown_and_approved_by_its_digest(ruled: Bed):
    ruled.put_policy()
    place = CANARYPOLICIES.at("shop", "checkout")
    looser = {"status": {"weaker": {**WEAKER, "fields": ["steps", "tier"]}}}
    ruled.controller.merge_patch(place, looser, intent=Intent.NEUTRAL, subresource="status")
    way = "canary approve shop/policy/checkout"
    line = f"  shop/checkout (steps, tier): has none, needs 1 senior; `{way}`"
    assert line in ruled.canary("safety", "status").out.splitlines()
    (shown,) = json.loads(ruled.canary("safety", "status", "-o", "json").out)["looser"]
    assert (shown["policy"], shown["fields"], shown["way"]) == ("shop/checkout", ["steps", "tier"], way)
    assert f"waits for approval (steps, tier): `{way}`" in ruled.canary("status", "checkout").err
    answer = {"outcome": "Done", "message": "recorded; has dana, needs 1 senior"}
    with Answering(ruled, lambda request: answer):
        said = ruled.canary("approve", "shop/policy/checkout", "--reason", REASON, "--yes")
    assert (said.code, said.out) == (0, f"approve: {answer['message']}\n")
    assert "weaker in steps, tier: `kubectl get canarypolicy checkout -o yaml` has the text" in said.err
    assert "effect: with enough approvals the text is in force" in said.err
    (request,) = ruled.requests()
    spec, (owner,) = request["spec"], request["metadata"]["ownerReferences"]
    assert (spec["verb"], spec["digest"]) == ("approve", WEAKER["digest"])
    assert (spec["subject"]["kind"], owner["kind"]) == ("CanaryPolicy", "CanaryPolicy")


def test_an_approval_says_what_was_read_and_is_only_for_what_waits(ruled: Bed):
    put(ruled, "calm")
    said = ruled.canary("safety", "approve", "calm", "--reason", REASON, "--yes")
    assert said.code != 0
    assert "no weaker text of calm waits" in said.err
    put(ruled, status={"weaker": WEAKER})
    said = ruled.canary("safety", "approve", "reset", "--reason", "fine", "--yes")
    assert said.code == 2
    assert "20 characters" in said.err


def test_resume_asks_in_the_controllers_namespace_and_prints_the_answer(ruled: Bed):
    put(ruled, status={"brake": {"since": "2026-03-05T00:00:00Z", "message": "3 rollbacks within 60 min"}})
    answer = {"outcome": "Done", "message": "the brake is off; what waited goes on by its gates"}
    with Answering(ruled, lambda request: answer, "canary-system"):
        said = ruled.canary("safety", "resume", "reset", "--reason", REASON, "--yes")
    assert (said.code, said.out) == (0, f"resume: {answer['message']}\n")
    assert "brake of reset: 3 rollbacks within 60 min" in said.err
    (request,) = ruled.requests("canary-system")
    assert request["spec"]["subject"]["kind"] == "SafetyPolicy"
    assert request["metadata"]["ownerReferences"][0]["kind"] == "SafetyPolicy"
    assert request["spec"]["subject"]["name"] == "reset"
    assert request["spec"]["requester"] == "dana"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["resume"], "name the safety policy"),
        (["resume", "reset"], "say why you resume"),
        (["stop"], "invalid choice"),
    ],
)
def test_a_resume_without_name_or_reason_is_refused(ruled: Bed, words: list[str], says: str):
    put(ruled)
    said = ruled.canary("safety", *words, "--yes")
    assert said.code == 2
    assert says in said.err


def test_an_approver_sees_who_approved_what_was_found_and_what_they_accept(cli: Bed):
    run = a_run()
    run["spec"] |= {
        "safety": {"approvals": 2, "seniors": 1, "unapprovedMaxPpm": 10_000},
        "findings": [
            {"id": "KP-112", "strength": "approve", "message": "db-migrate migrates data"},
            {"id": "KP-115", "strength": "note", "message": "values of the environment changed: TAX"},
        ],
    }
    sam = {
        "request": "r",
        "verb": "approve",
        "requester": "sam@oidc",
        "person": "sam",
        "at": "2026-03-05T00:00:00Z",
    }
    run["status"]["approvals"] = [sam, {**sam, "requester": "zoe", "person": "zoe", "counts": False}]
    cli.put(run)
    refuse = {
        "outcome": "Refused",
        "message": "you wrote this change, so your approval does not count. Now: has sam",
    }
    with Answering(cli, lambda request: refuse):
        said = cli.canary("approve", "checkout", "--reason", REASON, "--accept", "KP-112", "--yes")
    assert said.code == 2
    assert "approvals 1/2 (seniors: 1): sam, and yours" in said.err
    assert "found KP-112 (accepted by you): db-migrate migrates data" in said.err
    assert "found KP-115 (note): values of the environment changed: TAX" in said.err
    assert said.err.splitlines()[-1].startswith("CAN-2104 approve refused: you wrote this change")
    assert cli.requests()[0]["spec"]["accepts"] == ["KP-112"]


def test_an_approval_is_signed_with_the_key_that_is_given(cli: Bed, tmp_path: Path):
    keygen, key = require_program("ssh-keygen"), tmp_path / "id"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    cli.put(a_run())
    with Answering(cli, lambda request: {"outcome": "Done", "message": "recorded"}):
        said = cli.canary("approve", "checkout", "--reason", REASON, "--key", str(key), "--yes")
    assert said.code == 0
    (request,) = cli.requests()
    text = signed_text("approve", "shop/checkout-7f9c2", request["spec"]["digest"], "dana")
    (tmp_path / "allowed").write_text(f"dana {key.with_suffix('.pub').read_text()}")
    (tmp_path / "signature").write_text(request["spec"]["signature"])
    command = [
        keygen,
        "-Y",
        "verify",
        "-f",
        tmp_path / "allowed",
        "-I",
        "dana",
        "-n",
        "canary-controller.io/approval",
    ]
    command += ["-s", tmp_path / "signature"]
    assert subprocess.run(command, input=text, capture_output=True, text=True, check=False).returncode == 0


def test_a_key_that_is_not_there_asks_for_nothing(cli: Bed, tmp_path: Path):
    require_program("ssh-keygen")
    cli.put(a_run())
    said = cli.canary("approve", "checkout", "--reason", REASON, "--key", str(tmp_path / "no"), "--yes")
    assert said.code == 2
    assert "CAN-2105 cannot sign with" in said.err
    assert cli.requests() == []


def test_break_glass_says_what_it_does_and_asks_for_a_reason_and_an_end(cli: Bed):
    cli.put(a_run())
    short = cli.canary("bypass", "checkout", "--reason", "please", "--yes")
    assert (short.code, "30 characters or more" in short.err) == (2, True)
    why = "INC-481: payments are down, verified by hand with Priya"
    with Answering(cli, lambda request: {"outcome": "Done", "message": "for 30 min"}):
        said = cli.canary("bypass", "checkout", "--reason", why, "--for", "30m", "--yes")
    assert (said.code, said.out) == (0, "bypass: for 30 min\n")
    assert "evidence against it still takes it back" in said.err
    ends = datetime.fromisoformat(cli.requests()[0]["spec"]["expiresAt"])
    assert timedelta(minutes=28) < ends - datetime.now(UTC) < timedelta(minutes=31)


def test_a_bypass_that_is_over_can_be_reviewed_and_no_other_run_that_is(cli: Bed):
    run = rolled_back()
    cli.put(run)
    assert cli.canary("approve", "run/checkout-7f9c2", "--reason", REASON, "--yes").code == 2
    used = {"request": "r", "requester": "dana", "reason": "so", "at": "2026-03-05T00:00:00Z"}
    run["status"]["bypass"] = {**used, "expiresAt": "2026-03-05T01:00:00Z"}
    cli.put(run)
    with Answering(cli, lambda request: {"outcome": "Done", "message": "reviewed by 1 of 2 people"}):
        said = cli.canary("approve", "run/checkout-7f9c2", "--reason", REASON, "--yes")
    assert (said.code, said.out) == (0, "approve: reviewed by 1 of 2 people\n")
    assert "effect: none on traffic: two people's review of the bypass" in said.err
