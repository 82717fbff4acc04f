"""status, list and explain against the embedded API server: what is found, in which form, and how errors read."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_bed import Bed
from run_story import a_run, exposed, rolled_back
from timed_kubelet import TimedKubelet

from canary.cli.schemas import SCHEMAS
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES

pytest_plugins = ["cli_fixtures"]


def conforms(value: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """Check the part of JSON Schema that our schemas use; return what is wrong."""
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    kinds |= {"object": dict, "array": list}
    if "const" in schema or "enum" in schema:
        return [] if value in schema.get("enum", [schema.get("const")]) else [f"{path} is {value!r}"]
    asked = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, kinds[kind]) for kind in asked):
        return [f"{path} is {value!r}, not {asked}"]
    if isinstance(value, list):
        items = schema["items"]
        return [problem for i, each in enumerate(value) for problem in conforms(each, items, f"{path}[{i}]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    wrong = [f"{path}.{name} is missing" for name in schema["required"] if name not in value]
    wrong += [f"{path}.{name} is not in the schema" for name in value if name not in known]
    pairs = [(name, value[name]) for name in value if name in known]
    return wrong + [
        problem for name, each in pairs for problem in conforms(each, known[name], f"{path}.{name}")
    ]


def document(cli: Bed, schema: str, *words: str) -> dict[str, Any]:
    said = cli.canary(*words, "-o", "json")
    assert said.code == 0, said.err
    value = json.loads(said.out)
    assert conforms(value, SCHEMAS[schema]) == []
    return value


def test_status_without_a_target_finds_the_only_run_under_way(cli: Bed):
    cli.put(exposed())
    cli.put(rolled_back(a_run("ledger-1", workload="ledger")))
    said = cli.canary("status")
    assert said.code == 0
    assert "WATCHED: 1 % on v2.31.0" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    "target", ["checkout", "shop/checkout", "deploy/checkout", "run/checkout-7f9c2", "policy/checkout"]
)
def test_a_run_is_found_by_every_name_that_it_has(cli: Bed, target: str):
    cli.put(rolled_back())
    said = cli.canary("status", target)
    assert "run checkout-7f9c2" in said.out


def test_a_name_outside_the_namespace_is_looked_for_everywhere_unless_one_was_given(cli: Bed):
    cli.put(rolled_back(a_run("ledger-1", "pay", workload="ledger")))
    assert "ledger  pay@lab" in cli.canary("status", "ledger").out
    said = cli.canary("status", "ledger", "-n", "shop")
    assert said.code == 2
    assert said.err.startswith("CAN-2002 no policy, Deployment or run is named ledger in shop")


def test_an_ambiguous_name_is_refused_with_the_candidates(cli: Bed):
    cli.put(rolled_back(a_run(namespace="eu")))
    cli.put(rolled_back(a_run(namespace="us")))
    said = cli.canary("status", "checkout")
    assert said.code == 2
    want = 'CAN-2001 "checkout" matches 2 workloads: eu/checkout, us/checkout. Name one: `canary status eu/checkout`\n'
    assert said.err == want


@pytest.mark.parametrize("target", ["a/b/c/d", "/checkout", "shop/", "x/pod/y"])
def test_a_target_that_names_nothing_is_refused(cli: Bed, target: str):
    said = cli.canary("status", target)
    assert said.code == 2
    assert "names no workload" in said.err


def test_a_near_miss_is_answered_with_the_name_that_was_meant(cli: Bed):
    cli.put_policy()
    assert "Did you mean checkout?" in cli.canary("status", "chekout").err


def test_wide_adds_each_condition_and_repeats_no_sentence(cli: Bed):
    run, said_of_all = rolled_back(), "orders -100 % [-100,-81]"
    since = {
        "lastTransitionTime": datetime.now(UTC).isoformat(),
        "reason": "OrdersCollapsed",
        "message": said_of_all,
    }
    truths = {"Ready": "False", "Stalled": "True", "RolledBack": "True"}
    run["status"]["conditions"] = [{"type": kind, "status": truth, **since} for kind, truth in truths.items()]
    cli.put(run)
    narrow, wide = cli.canary("status").out.splitlines(), cli.canary("status", "-o", "wide").out.splitlines()
    added = [line.split()[:2] for line in wide[len(narrow) :]]
    assert added == [["condition", "status"], *([kind, truth] for kind, truth in truths.items())]
    assert all(re.search(r" [0-9]s$", line) for line in wide[len(narrow) + 1 :])


def test_a_workload_without_a_run_says_what_serves(cli: Bed):
    cli.put_policy()
    assert "CUSTOMERS SAFE: v2.30.4 serves 100 %, no change is held" in cli.canary("status", "checkout").out
    assert document(cli, "status", "status", "checkout")["phase"] == "Idle"


def test_a_workload_that_nothing_protects_is_not_called_safe(cli: Bed):
    cli.put_policy()
    refused = {"type": "Stalled", "status": "True", "reason": "AdoptionRefused", "message": "no Service"}
    ready = {"type": "Ready", "status": "False", "reason": "AdoptionRefused", "message": "no Service"}
    conditions = [{**each, "lastTransitionTime": "2026-03-05T03:12:00Z"} for each in (ready, refused)]
    ref = CANARYPOLICIES.at("shop", "checkout")
    patch = {"status": {"conditions": conditions}}
    cli.controller.merge_patch(ref, patch, intent=Intent.NEUTRAL, subresource="status")
    assert cli.canary("status").out.splitlines()[1] == "NOT PROTECTED (adoption refused): no Service"
    assert document(cli, "status", "status", "checkout")["tone"] == "care"
    assert "1 needs you: shop/checkout (adoption refused)" in cli.canary("list").out


def test_a_dead_controller_is_noticed_by_its_heartbeat(cli: Bed):
    cli.put(exposed())
    cli.heartbeat(60)
    assert cli.canary("status").out.splitlines()[1].startswith("NOBODY JUDGES: no controller for 60 s")


def test_with_the_controller_dead_the_routes_themselves_say_whether_customers_are_safe(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    cli.heartbeat(60)
    assert cli.canary("status").out.splitlines()[1].startswith("NOBODY JUDGES")
    assert (
        "1 needs you: shop/checkout (no controller judges it: `canary abort --now`)" in cli.canary("list").out
    )
    assert cli.canary("abort", "--now", "--timeout", "200ms").code == 0
    assert (
        cli.canary("status").out.splitlines()[1].startswith("CUSTOMERS SAFE: the route gives v2.31.0 nothing")
    )


def test_status_json_keeps_to_its_schema(cli: Bed):
    cli.put(rolled_back())
    value = document(cli, "status", "status", "checkout")
    assert value["verdict"]["metric"] == value["metrics"][0]
    assert value["verdict"]["lost"] == {"orders": 22.0, "ci": [13.0, 31.0]}
    assert [action["verb"] for action in value["verdict"]["nextActions"] if action["allowed"]] == ["retry"]


def test_yaml_says_the_same_as_json(cli: Bed):
    cli.put(rolled_back())
    said = cli.canary("status", "checkout", "-o", "yaml")
    assert yaml.safe_load(said.out) == document(cli, "status", "status", "checkout")


def test_a_metric_that_crossed_is_a_failed_case_in_junit(cli: Bed):
    cli.put(rolled_back())
    out = cli.canary("status", "checkout", "-o", "junit").out
    assert 'tests="4" failures="1" skipped="0"' in out
    assert '<testcase classname="canary.shop.checkout" name="orders"><failure' in out


def test_hostile_text_is_inert_in_every_form(cli: Bed):
    run = rolled_back()
    evil = '\x1b[2J\u202e]]><script>"><img onerror=x>@here|`rm`'
    run["spec"]["change"] |= {"authors": [evil], "agents": [evil]}
    run["spec"]["revision"]["version"] = evil
    run["status"] |= {"message": evil, "actor": evil}
    run["status"]["timeline"][0]["message"] = evil
    cli.put(run)
    for form in ("table", "wide", "json", "yaml", "md", "junit"):
        out = cli.canary("status", "checkout", "-o", form).out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert form not in ("md", "junit") or "<script>" not in out
    assert "\x1b" not in cli.canary("explain", "checkout", "--timeline").out
    assert "\x1b" not in cli.canary("list", "-o", "wide").out


def test_ascii_prints_nothing_else(cli: Bed):
    run = rolled_back()
    run["spec"]["change"]["authors"] = ["Zoë"]
    cli.put(run)
    assert cli.canary("status", "checkout", "--ascii").out.isascii()


def test_list_shows_the_newest_change_of_each_workload_and_the_idle_ones(cli: Bed):
    cli.put(rolled_back())
    cli.put(exposed(a_run("ledger-1", "pay", workload="ledger")))
    cli.put_policy("home", "web")
    lines = cli.canary("list", "-A").out.splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["pay", "ledger", "Progressing"],
        ["shop", "checkout", "RolledBack"],
        ["web", "home", "Idle"],
    ]
    assert lines[4] == "nobody is needed"
    assert "ledger" not in cli.canary("list").out


def test_list_is_narrowed_by_phase_and_origin(cli: Bed):
    cli.put(rolled_back())
    cli.put(exposed(a_run("ledger-1", workload="ledger")))
    assert [row["workload"] for row in document(cli, "list", "list", "--phase", "Progressing")["items"]] == [
        "ledger"
    ]
    assert document(cli, "list", "list", "--origin", "human")["items"] == []
    assert cli.canary("list", "-o", "name").out.splitlines() == [
        "canaryrun.canary-controller.io/checkout-7f9c2",
        "canaryrun.canary-controller.io/ledger-1",
    ]


def test_explain_shows_the_arithmetic_and_keeps_to_its_schema(cli: Bed):
    cli.put(rolled_back())
    out = cli.canary("explain", "checkout", "--timeline").out
    assert "0 seen, 20 expected" in out
    assert "StepStarted" in out
    assert document(cli, "explain", "explain", "checkout")["recomputed"] is None


def test_explain_refuses_a_monitor_that_the_run_does_not_have(cli: Bed):
    cli.put(rolled_back())
    said = cli.canary("explain", "checkout", "--metric", "latency")
    assert said.code == 2
    assert "it has: orders, errors, slow, traffic" in said.err


def test_without_the_crds_the_error_says_how_to_get_them(tmp_path, cli: Bed):
    from canary.lab.apiserver.serving import HttpServer
    from canary.lab.cluster import RealTimeCluster

    bare = RealTimeCluster(TimedKubelet)
    server = HttpServer(bare.server, {"dana": cli.people["dana"]})
    try:
        config = server.kubeconfig(tmp_path / "config", "dana")
        said = cli.canary("status", "checkout", "--kubeconfig", str(config))
        assert said.code == 2
        assert (
            said.err
            == "CAN-1101 the CRDs of canary-controller.io are not installed here. `canary crd` prints them\n"
        )
    finally:
        server.stop()
        bare.stop()


def test_a_cluster_out_of_reach_is_said_with_its_name(tmp_path, cli: Bed):
    config = tmp_path / "config"
    config.write_text(Path(cli.configs["dana"]).read_text().replace(cli.server.url, "https://127.0.0.1:1"))
    said = cli.canary("status", "checkout", "--kubeconfig", str(config))
    assert said.code == 1
    assert (
        said.err == "CAN-1001 cannot reach the cluster (lab: connection refused). Check: `kubectl version`\n"
    )


def test_credentials_that_are_not_known_are_not_allowed(tmp_path, cli: Bed):
    config = tmp_path / "config"
    config.write_text(Path(cli.configs["dana"]).read_text().replace("token: dana", "token: nobody"))
    said = cli.canary("status", "--kubeconfig", str(config))
    assert said.code == 4
    assert said.err.startswith("CAN-1202 lab does not accept your credentials")


def test_words_that_are_written_twice_to_stay_quick_are_the_same():
    from canary.api.request import MIN_REVIEW_REASON
    from canary.cli import acting, session
    from canary.kube.lease import HEARTBEAT_LEASE

    assert session.HEARTBEAT == HEARTBEAT_LEASE
    assert acting.MIN_REVIEW_REASON == MIN_REVIEW_REASON
