"""judge, explain --recompute, demo, rehearse and run: the same judgement offline, and flags that become options."""

import io
import json
import random

import pytest
import yaml
from cli_bed import Bed
from run_story import POLICY_SPEC, exposed

from canary.api.policy import CanaryPolicySpec, Step
from canary.cli.controller import run_options
from canary.cli.lab import demo_options, rehearse_options
from canary.cli.main import load, main, parser_of
from canary.core.detect.counters import Counts, Sample
from canary.core.detect.family import Settings, dump, judge, start, update
from canary.core.plan import settings_of
from canary.errors import RefusedError
from canary.settings import FaultKind, SinkAddress, Story

pytest_plugins = ["cli_fixtures"]
LN10 = 2.302585092994046


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.yaml"
    manifest = {
        "apiVersion": "canary-controller.io/v1alpha1",
        "kind": "CanaryPolicy",
        "metadata": {"name": "checkout"},
    }
    path.write_text(yaml.safe_dump({**manifest, "spec": POLICY_SPEC}))
    return path


def samples(seconds: int, seed: int = 1, broken: bool = True) -> list[str]:
    """A slice of 1 % of 300 orders a second; a broken one has none."""
    chance = random.Random(seed)
    lines = []
    for t in range(1, seconds + 1):
        orders = sum(chance.random() < 0.25 for _ in range(12))
        canary = {"orders": 0 if broken else orders, "requests": 12}
        baseline = {"orders": 297 + chance.randrange(-15, 15), "requests": 1188}
        lines.append(json.dumps({"t": t, "weight_ppm": 10_000, "canary": canary, "baseline": baseline}))
    return lines


def told(capsys, *words: str) -> list[dict]:
    assert main(["judge", *map(str, words)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_collapse_is_rolled_back_and_the_same_lines_give_the_same_bytes(policy, tmp_path, capsys):
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(samples(20)) + "\n")
    first = told(capsys, policy, path)
    assert [entry["t"] for entry in first] == list(range(1, 21))
    assert first[-1]["verdict"] == "RollBack"
    assert first[-1]["evidence_log"] >= first[-1]["limit_log"]
    assert told(capsys, policy, path) == first


def test_stdin_is_read_where_no_file_is_named(policy, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(samples(5, broken=False))))
    assert [entry["verdict"] for entry in told(capsys, policy)][-1] != "RollBack"


def test_no_sample_at_all_is_no_verdict(policy, capsys, monkeypatch):
    for closed_or_empty in (None, io.StringIO("")):
        monkeypatch.setattr("sys.stdin", closed_or_empty)
        assert main(["judge", str(policy)]) == 2
        assert "CAN-2005 there is no sample" in capsys.readouterr().err


def test_a_bad_line_is_named_with_its_number(policy, tmp_path, capsys):
    path = tmp_path / "samples.jsonl"
    path.write_text(samples(1)[0] + '\n{"t": 2, "wieght_ppm": 5}\n')
    assert main(["judge", str(policy), str(path)]) == 2
    assert "line 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: Pod", "holds 0 objects of the kind CanaryPolicy"),
        ("{", "is not YAML"),
        ("kind: CanaryPolicy\nspec: {analisys: {}}", "did you mean 'analysis'"),
    ],
)
def test_a_policy_that_is_none_says_what_is_wrong(tmp_path, capsys, text, says):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    assert main(["judge", str(path), "/dev/null"]) == 2
    assert says in capsys.readouterr().err


def test_files_that_are_not_there_are_named(policy, capsys):
    assert main(["judge", "absent.yaml"]) == 2
    assert main(["judge", str(policy), "absent.jsonl"]) == 2
    assert capsys.readouterr().err.count("No such file") == 2


def judged_run(cli: Bed, lines: list[str]):
    """Store a run whose record holds the memory of a detector that saw these lines."""
    run = exposed()
    spec = cli.put(run)["spec"]
    policy = CanaryPolicySpec.model_validate(spec["policy"])
    settings = settings_of(policy, [Step.model_validate(step) for step in spec["steps"]])
    state, judgement = folded(settings, lines)
    run["status"]["analysis"] = {
        **run["status"]["analysis"],
        "state": dump(state),
        "verdict": judgement.verdict.value,
        "evidenceLog10": f"{judgement.evidence_log / LN10:.6g}",
        "limitLog10": f"{judgement.limit_log / LN10:.6g}",
    }
    cli.put(run)
    return run


def folded(settings: Settings, lines: list[str]):
    state = start(settings)
    for line in lines:
        entry = json.loads(line)
        arms = [Counts(arm["orders"], arm["requests"]) for arm in (entry["canary"], entry["baseline"])]
        state = update(settings, state, Sample(float(entry["t"]), entry["weight_ppm"], *arms))
    return state, judge(settings, state, 50_000)


def test_a_verdict_is_recomputed_from_the_record_and_equal(cli: Bed):
    judged_run(cli, samples(20))
    said = cli.canary("explain", "--recompute", "-o", "json")
    assert said.code == 0, said.out + said.err
    recomputed = json.loads(said.out)["recomputed"]
    assert recomputed["equal"] is True
    assert recomputed["computed"]["verdict"] == "RollBack"


def test_a_record_that_was_tampered_with_is_not_equal(cli: Bed):
    run = judged_run(cli, samples(20))
    run["status"]["analysis"]["verdict"] = "Advance"
    cli.put(run)
    said = cli.canary("explain", "--recompute")
    assert said.code == 1
    assert "NOT EQUAL" in said.out


def test_from_the_samples_everything_is_computed_again(cli: Bed, tmp_path):
    judged_run(cli, samples(20))
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(samples(20)))
    assert cli.canary("explain", "--samples", str(path)).code == 0
    early = cli.canary("explain", "--samples", str(path), "--at", "2")
    assert early.code == 1
    assert "Recorded   RollBack" in early.out
    assert "Recomputed Continue" in early.out or "Recomputed Hold" in early.out


def test_a_record_without_memory_says_so(cli: Bed):
    cli.put(exposed())
    said = cli.canary("explain", "--recompute")
    assert said.code == 2
    assert "CAN-5006 the record holds no detector memory" in said.err


def options(verb: str, make, *words: str):
    return make(parser_of(verb, load(verb)).parse_args(list(words)))


def test_flags_of_the_demo_become_its_options():
    given = options(
        "demo", demo_options, "--story", "march-2", "--headless", "--seed", "7", "--rate", "50",
        "--break-after", "60", "--drop", "20%", "-o", "json",
    )  # fmt: skip
    assert (given.story, given.headless, given.json, given.seed) == (Story.MARCH_2, True, True, 7)
    assert (given.orders_per_second, given.break_after_seconds, given.drop, given.speed) == (
        50.0,
        60.0,
        0.2,
        None,
    )


def test_flags_of_a_rehearsal_become_its_options():
    given = options(
        "rehearse", rehearse_options, "p.yaml", "--fault", "slow", "--at", "20m", "--for", "2h", "--runs", "5"
    )
    assert (given.fault, given.at_seconds, given.for_seconds) == (FaultKind.SLOW, 1200.0, 7200.0)
    assert (given.runs, given.healthy_runs, given.drop) == (5, 1, 0.99)


def test_a_rehearsal_needs_one_policy(tmp_path, capsys):
    assert main(["rehearse", str(tmp_path / "none.yaml")]) == 2
    assert "CAN-2005 cannot read" in capsys.readouterr().err
    path = tmp_path / "service.yaml"
    path.write_text("kind: Service\n")
    assert main(["rehearse", str(path)]) == 2
    assert "CAN-4202" in (said := capsys.readouterr().err)
    assert "0 objects of the kind CanaryPolicy" in said


def test_a_controller_takes_one_namespace_or_all():
    with pytest.raises(RefusedError, match="one namespace or all, not shop, pay"):
        options("run", run_options, "-n", "shop", "-n", "pay")
    assert options("run", run_options).namespace == ""


def test_flags_of_the_controller_become_its_options():
    given = options(
        "run", run_options, "-n", "shop", "--webhook", "pager=https://example.org/hook",
        "--prometheus", "http://prometheus:9090/",
    )  # fmt: skip
    assert given.namespace == "shop"
    assert given.webhooks == (SinkAddress("pager", "https://example.org/hook"),)
    assert given.prometheus == ("http://prometheus:9090",)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--webhook", "https://example.org"),
        ("run", "--prometheus", "ftp://x"),
        ("demo", "--drop", "2"),
        ("demo", "--seed", "0"),
        ("rehearse", "p.yaml", "--at", "soon"),
        ("promote", "--to", "25"),
        ("wait", "--timeout", "-1s"),
    ],
)
def test_a_flag_with_nonsense_is_refused_with_an_example(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    assert "error: argument" in capsys.readouterr().err
