"""wait: the exit code is the verdict, and the verdict is about your own revision."""

import json
import threading
import time

import pytest
from cli_bed import Bed
from run_story import a_run, at, exposed, rolled_back

from canary.cli.waiting import concerns

pytest_plugins = ["cli_fixtures"]
QUICK = ("--timeout", "300ms", "--start-timeout", "300ms")


def in_phase(phase, **status):
    run = exposed()
    run["status"] |= {"phase": phase, **status}
    return run


@pytest.mark.parametrize(
    ("phase", "code"),
    [("Promoted", 0), ("RolledBack", 3), ("Draining", 3), ("Aborted", 5), ("Rejected", 5), ("Superseded", 6)],
)
def test_each_end_has_its_own_code(cli: Bed, phase: str, code: int):
    cli.put(in_phase(phase))
    assert cli.canary("wait", "checkout", *QUICK).code == code


def test_for_advice_only_the_outcome_is_printed_and_the_code_is_0(cli: Bed):
    cli.put(rolled_back())
    said = cli.canary("wait", "checkout", "--exit-zero", *QUICK)
    assert said.code == 0
    assert "rolled back: orders -100 % [-100,-81], about 22 orders (13..31) lost" in said.out
    assert "exit 3: rolled back or drained by verdict" in said.out


def test_a_run_under_way_at_the_timeout_is_still_running(cli: Bed):
    cli.put(exposed())
    assert cli.canary("wait", "checkout", *QUICK).code == 8


def test_a_run_without_data_at_the_timeout_is_blind(cli: Bed):
    run = exposed()
    run["status"]["analysis"]["blindSince"] = at(5)
    cli.put(run)
    assert cli.canary("wait", "checkout", *QUICK).code == 9


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (in_phase("Paused", reason="StepExpired"), 7),
        (in_phase("Paused", reason="Blind"), 9),
        (in_phase("Progressing", heldBy="sam"), 7),
        (in_phase("Progressing", reason="ApprovalsMissing"), 7),
    ],
    ids=["paused", "blind", "held", "approval"],
)
def test_a_pipeline_that_must_not_wait_for_people_is_told_at_once(cli: Bed, run, code: int):
    cli.put(run)
    assert cli.canary("wait", "checkout", "--fail-on-hold", "--timeout", "30s").code == code


def test_started_is_met_by_the_first_slice_and_verdict_by_the_first_step_passed(cli: Bed):
    cli.put(exposed())
    assert cli.canary("wait", "checkout", "--for", "started", *QUICK).code == 0
    assert cli.canary("wait", "checkout", "--for", "verdict", *QUICK).code == 8
    cli.put(in_phase("Progressing", step=1))
    assert cli.canary("wait", "checkout", "--for", "verdict", *QUICK).code == 0


def test_somebody_elses_run_is_never_taken_for_yours(cli: Bed):
    cli.put(in_phase("Promoted"))
    said = cli.canary("wait", "checkout", "--revision", "0badc0de", *QUICK)
    assert said.code == 1
    assert "CAN-5005 no run of this revision has started" in said.err
    assert cli.canary("wait", "checkout", "--revision", "9f3c1d2", *QUICK).code == 0


def test_where_no_run_began_that_is_what_is_said(cli: Bed):
    cli.put_policy()
    said = cli.canary("wait", "checkout", *QUICK)
    assert said.code == 1
    told = said.out.splitlines()
    assert told[0].endswith("no run of shop/checkout has begun yet")
    assert told[1:] == ["exit 1: no run began"]
    document = json.loads(cli.canary("wait", "checkout", "-o", "json", *QUICK).out)
    assert (document["exit"], document["meaning"], document["verdict"]) == (1, "no run began", None)


def test_a_revision_that_serves_already_needs_no_run(cli: Bed):
    cli.put_policy(serving="v2.31.0")
    said = cli.canary("wait", "checkout", "--revision", "v2.31.0", *QUICK)
    assert (said.code, said.out.splitlines()[-1]) == (0, "exit 0: no run began, it serves already")


@pytest.mark.parametrize(
    ("revision", "meant"),
    [
        ("9f3c1d2", True),
        ("9f3c1d2aa01bbcc", True),
        ("9f3c", False),
        ("4be2f1d", False),
        ("PR-4711", True),
        ("PR-47", False),
        ("v2.31.0", True),
        ("sha256:" + "c" * 64, True),
        ("b" * 64, True),
        ("", True),
    ],
)
def test_a_revision_is_a_commit_a_digest_a_change_a_version_or_a_template(revision: str, meant: bool):
    assert concerns(a_run(), revision) is meant


def test_an_end_that_comes_while_waiting_is_told_in_lines(cli: Bed):
    cli.put(exposed())
    later = threading.Timer(0.3, lambda: cli.put(rolled_back()))
    later.start()
    started = time.monotonic()
    said = cli.canary("wait", "checkout", "--revision", "PR-4711", "--timeout", "30s")
    later.join()
    assert said.code == 3
    assert time.monotonic() - started < 20
    told = [line.split(" ", 1)[1] for line in said.out.splitlines()]
    assert told[0] == "run checkout-7f9c2 for v2.31.0 (AI-assisted (kiro), by dana), slice 1 %"
    assert told[1].startswith("rolled back: orders -100 %")


def test_json_carries_the_verdict_and_the_code(cli: Bed):
    cli.put(rolled_back())
    value = json.loads(cli.canary("wait", "checkout", "-o", "json", *QUICK).out)
    assert (value["schema"], value["exit"]) == ("canary-controller.io/wait/v1", 3)
    assert value["verdict"]["outcome"] == "RolledBack"
