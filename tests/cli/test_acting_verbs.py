"""promote, hold, resume, approve, reject, retry: one request each, under the caller's identity, and its answer."""

import json
import re

import pytest
from cli_bed import Answering, Bed
from run_story import DIGEST, exposed, rolled_back

from canary.api.reasons import Verb
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES

pytest_plugins = ["cli_fixtures"]
REASON = "read the plan; the migration is additive"


def done(message):
    return lambda request: {"outcome": "Done", "reason": "RequestDone", "message": message}


def test_a_promotion_is_one_request_of_the_one_who_asked(cli: Bed):
    cli.put(exposed())
    with Answering(cli, done("recorded")):
        said = cli.canary("promote", "checkout", "--reason", REASON, "--to", "25%", "--yes")
    assert (said.code, said.out) == (0, "promote: recorded\n")
    (request,) = cli.requests()
    assert request["spec"] == {
        "verb": "promote",
        "subject": {"kind": "CanaryRun", "name": "checkout-7f9c2", "uid": request["spec"]["subject"]["uid"]},
        "requester": "dana",
        "groups": ["devs", "system:authenticated"],
        "reason": REASON,
        "to": "25%",
        "accepts": [],
        "signature": "",
    }


def test_the_effect_on_traffic_is_said_before_anything_is_asked_for(cli: Bed):
    cli.put(exposed())
    said = cli.canary("promote", "checkout", "--reason", REASON, "--dry-run")
    assert said.code == 0
    assert "effect: 1 % now; 5 % of traffic goes to v2.31.0 once its evidence suffices" in said.err
    assert cli.requests() == []


@pytest.mark.parametrize("share", ["20%", "1%", "0.5%"])
def test_a_promotion_to_a_share_that_no_step_to_come_has_is_refused_with_those_there_are(
    cli: Bed, share: str
):
    cli.put(exposed())
    said = cli.canary("promote", "checkout", "--reason", REASON, "--to", share, "--yes")
    assert said.code == 2
    assert said.err.startswith(
        f"CAN-2007 no step to come has {share[:-1]} %; they are 5 %, 10 %, 25 %, 50 %, 100 %"
    )
    assert cli.requests() == []


@pytest.mark.parametrize(
    "verb", [verb.value for verb in Verb if verb not in (Verb.ABORT, Verb.HOLD, Verb.BYPASS)]
)
def test_what_may_raise_exposure_needs_a_reason(cli: Bed, verb: str):
    cli.put(rolled_back() if verb == "retry" else exposed())
    said = cli.canary(verb, "checkout", *([] if verb == "reject" else ["--yes"]))
    assert said.code == 2
    assert "CAN-2102 say" in said.err
    assert cli.requests() == []


def test_where_nobody_can_be_asked_the_missing_flag_is_named(cli: Bed, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    cli.put(exposed())
    said = cli.canary("promote", "checkout", "--reason", REASON)
    assert said.code == 2
    assert "add --yes" in said.err
    assert cli.requests() == []


def test_a_hold_needs_neither_reason_nor_yes(cli: Bed):
    cli.put(exposed())
    with Answering(cli, done("held at 1 %; the evidence is watched on")):
        said = cli.canary("hold")
    assert said.out == "hold: held at 1 %; the evidence is watched on\n"


def test_an_approval_names_the_digest_that_was_read_and_shows_the_change(cli: Bed):
    cli.put(exposed())
    with Answering(cli, done("recorded for 5 %")):
        said = cli.canary("approve", "checkout", "--reason", REASON, "--yes", "-o", "json")
    assert said.code == 0
    assert json.loads(said.out)["outcome"] == "Done"
    assert cli.requests()[0]["spec"]["digest"] == DIGEST
    assert "rollback: re-apply v2.30.4" in said.err


def test_what_went_round_the_hold_is_reviewed_by_its_policy_and_the_hash_that_serves(cli: Bed):
    cli.put_policy()
    passed = {"revision": {"templateHash": DIGEST, "version": "v6.6.6"}, "since": "2026-03-05T00:00:00Z"}
    ref = CANARYPOLICIES.at("shop", "checkout")
    status = {"status": {"wentRound": passed}}
    cli.controller.merge_patch(ref, status, intent=Intent.NEUTRAL, subresource="status")
    with Answering(cli, done("reviewed by 1 of 2 people")):
        said = cli.canary("approve", "checkout", "--reason", REASON, "--yes")
    assert (said.code, said.out) == (0, "approve: reviewed by 1 of 2 people\n")
    assert "v6.6.6 serves shop/checkout, and nobody let it through" in said.err
    spec = cli.requests()[0]["spec"]
    assert (spec["subject"]["kind"], spec["subject"]["name"]) == ("CanaryPolicy", "checkout")
    assert spec["digest"] == DIGEST


def test_a_recreated_workload_may_be_taken_as_it_is_after_its_run_ended(cli: Bed):
    run = exposed()
    run["status"] |= {"phase": "Superseded", "reason": "WorkloadRecreated", "message": "created anew"}
    run["status"]["traffic"] = {"wayBackPpm": 1_000_000}
    cli.put(run)
    why = "INC-481: its selector had to change, read by Sam and Priya"
    with Answering(cli, done("accepted as it is")):
        said = cli.canary("bypass", "checkout", "--reason", why, "--yes")
    assert (said.code, said.out) == (0, "bypass: accepted as it is\n")
    assert "gets its traffic as it stands" in said.err


def test_a_short_review_is_no_review(cli: Bed):
    cli.put(exposed())
    said = cli.canary("approve", "checkout", "--reason", "looks good", "--yes")
    assert said.code == 2
    assert "20 characters or more" in said.err


def test_a_refusal_of_the_controller_is_printed_as_it_stands(cli: Bed):
    cli.put(exposed())
    refuse = {"outcome": "Refused", "message": "promote refused: 61 of about 350 orders of evidence"}
    with Answering(cli, lambda request: refuse):
        said = cli.canary("promote", "checkout", "--reason", REASON, "--yes")
    assert said.code == 2
    assert said.err.splitlines()[-1] == "CAN-2201 promote refused: 61 of about 350 orders of evidence"


def test_a_machine_is_refused_by_the_api_server(cli: Bed):
    cli.put(exposed())
    said = cli.canary("promote", "checkout", "--reason", REASON, "--yes", person="agent")
    assert said.code == 4
    assert "CAN-1203 you may not promote canaryruns in shop" in said.err
    assert "a person has to ask for promote" in said.err
    assert cli.requests() == []


def test_an_unanswered_request_stands_and_the_dead_controller_is_named(cli: Bed):
    cli.put(exposed())
    cli.heartbeat(60)
    said = cli.canary("promote", "checkout", "--reason", REASON, "--yes", "--timeout", "200ms")
    assert said.code == 1
    assert re.search(r"CAN-3001 no controller for 6\d s", said.err)  # the verb itself may take a while
    assert "`canary abort checkout --now` works without it" in said.err
    assert len(cli.requests()) == 1


def test_a_retry_is_for_a_run_that_is_over(cli: Bed):
    cli.put(exposed())
    said = cli.canary("retry", "checkout", "--reason", REASON, "--yes")
    assert said.code == 2
    assert "CAN-5002 the run is Progressing: retry is for one that is over" in said.err


def test_a_retry_past_its_limit_is_refused_before_anything_is_shown(cli: Bed):
    run = rolled_back()
    run["spec"]["attempt"] = 2
    cli.put(run)
    said = cli.canary("retry", "checkout", "--reason", REASON, "--dry-run")
    assert said.code == 2
    assert said.err.startswith("CAN-5002 attempt 2 of 2 was the last of this change: push a fix")
    assert len(said.err.splitlines()) == 1


def test_a_retry_asks_about_the_run_that_was_taken_back(cli: Bed):
    cli.put(rolled_back())
    with Answering(cli, done("attempt 2 of 2 starts without traffic")):
        said = cli.canary("retry", "checkout", "--reason", "the gateway was broken, not the change", "--yes")
    assert said.out == "retry: attempt 2 of 2 starts without traffic\n"
    assert "fresh evidence; approvals are void" in said.err


@pytest.mark.parametrize("verb", ["promote", "hold", "resume", "approve", "reject"])
def test_nothing_is_asked_of_a_run_that_is_over(cli: Bed, verb: str):
    cli.put(rolled_back())
    said = cli.canary(verb, "run/checkout-7f9c2", "--reason", REASON)
    assert said.code == 2
    assert f"the run is RolledBack; nothing to {verb}" in said.err
