"""What the controller serves: the promised names, true values, bounded series, and pages that nobody can block."""

import http.client
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families
from run_story import START, exposed, rolled_back
from run_story import a_run as stored_run

from canary.api.reasons import Phase
from canary.core.decision import Limits, change
from canary.kube.cache import Cache
from canary.kube.client import Call, KubeVerb
from canary.kube.queue import Lane, Urgency, WorkQueue
from canary.kube.resources import CANARYPOLICIES, Key
from canary.lab.clock import SimClock
from canary.operator.objects import run_of
from canary.operator.probes import MAX_CLIENTS, Probes
from canary.operator.schedule import Trouble
from canary.operator.telemetry import OTHER, Result, Telemetry

NAMES = """
    build_info controller_leader controller_heartbeat_timestamp_seconds reconcile_total reconcile_duration_seconds
    queue_depth queue_wait_seconds watch_contact_age_seconds kube_requests_total kube_request_duration_seconds
    job_trouble_total audit_records_total
    run_info run_phase run_weight_ratio run_step run_started_timestamp_seconds runs_total run_duration_seconds
    metric_value metric_effect_ratio evidence_log10 evidence_limit_log10 metric_staleness_seconds
    lost_estimate_total rollback_latency_seconds
"""


@pytest.fixture
def clock():
    return SimClock()


@pytest.fixture
def telemetry(clock):
    return Telemetry(clock, "1.2.3", "abc")


def samples(telemetry):
    """Return every sample as (name, labels) -> value."""
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(telemetry, name, **labels):
    return samples(telemetry)[f"canary_{name}", frozenset(labels.items())]


def a_run(name="checkout-1", workload="checkout", phase=Phase.PROGRESSING):
    """Return the run of the story at its first slice, seen and sampled, in some phase."""
    run = run_of(exposed(stored_run(name, workload=workload)), Limits())
    traffic = run.status.traffic.model_copy(update={"observed_ppm": 5_000, "observed_at": START})
    analysis = run.status.analysis.model_copy(update={"sampled_at": START})
    return replace(run, status=change(run.status, phase=phase, traffic=traffic, analysis=analysis))


def an_end(name="checkout-1", workload="checkout"):
    return run_of(rolled_back(stored_run(name, workload=workload)), Limits())


class QuietCache:
    """A cache that has heard nothing for seven seconds."""

    resource = CANARYPOLICIES

    def last_contact_age(self):
        return 7.0


def use_all(telemetry, clock):
    """Call every method once."""
    telemetry.watch_leader(lambda: True)
    telemetry.watch_queue(WorkQueue(clock))
    cache: Cache = QuietCache()
    telemetry.watch_caches([cache])
    telemetry.heartbeat(datetime(2026, 3, 5, tzinfo=UTC))
    telemetry.looked("CanaryPolicy", Result.DONE, 0.1)
    telemetry.waited(Lane.QUICK, 0.1)
    telemetry.kube_called(Call(KubeVerb.PATCH, "httproutes", "200", 0.1))
    telemetry.job_troubled("sweep", Trouble.FAILED)
    telemetry.recorded(True)
    telemetry.runs.show(a_run())
    telemetry.ended(an_end())


def test_the_names_are_those_that_alerts_and_dashboards_rely_on(telemetry, clock):
    use_all(telemetry, clock)
    text = telemetry.exposition().decode()
    served = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert served == {f"canary_{name}" for name in NAMES.split()}
    with_samples = {
        name.removesuffix("_sum").removesuffix("_count").removesuffix("_bucket")
        for name, _ in samples(telemetry)
    }
    assert with_samples == served


def test_what_was_told_is_what_is_served(telemetry, clock):
    use_all(telemetry, clock)
    whose = {"workload_namespace": "shop", "workload": "checkout"}
    assert value(telemetry, "build_info", version="1.2.3", revision="abc") == 1
    assert value(telemetry, "controller_leader") == 1
    assert value(telemetry, "watch_contact_age_seconds", resource="canarypolicies") == 7
    assert value(telemetry, "kube_requests_total", verb="patch", resource="httproutes", code="200") == 1
    assert value(telemetry, "job_trouble_total", job="sweep", trouble="Failed") == 1
    assert value(telemetry, "lost_estimate_total", unit="orders", **whose) == 22
    assert value(telemetry, "rollback_latency_seconds_sum", stage="detect", **whose) == 7
    assert value(telemetry, "rollback_latency_seconds_sum", stage="verify", **whose) == pytest.approx(2.1)
    assert value(telemetry, "run_duration_seconds_sum", outcome="rolled_back", **whose) == pytest.approx(47.1)
    assert value(telemetry, "run_weight_ratio", kind="asked", **whose) == 0.01
    assert value(telemetry, "run_weight_ratio", kind="observed", **whose) == 0.005
    assert value(telemetry, "run_phase", phase="Progressing", **whose) == 1
    assert value(telemetry, "metric_effect_ratio", metric="orders", bound="high", **whose) == -0.81
    assert value(telemetry, "evidence_log10", metric="orders", **whose) == -0.3
    ended = {"outcome": "rolled_back", "reason": "OrdersCollapsed", "origin": "ai", "tier": "1"}
    assert value(telemetry, "runs_total", **ended, **whose) == 1


def test_leadership_and_queue_depth_are_asked_at_each_scrape(telemetry, clock):
    leading, queue = [False], WorkQueue(clock)
    telemetry.watch_leader(lambda: leading[0])
    telemetry.watch_queue(queue)
    assert (value(telemetry, "controller_leader"), value(telemetry, "queue_depth", lane="quick")) == (0, 0)
    leading[0] = True
    queue.add(Key("shop", "a"), Urgency.LOWERING)
    assert (value(telemetry, "controller_leader"), value(telemetry, "queue_depth", lane="quick")) == (1, 1)


def series_of(telemetry, name):
    return {
        dict(labels).get("phase") or dict(labels).get("run")
        for known, labels in samples(telemetry)
        if known == name
    }


def test_a_new_phase_leaves_no_series_of_the_former_behind(telemetry):
    telemetry.runs.show(a_run())
    held = run_of(stored_run("checkout-1"), Limits())
    telemetry.runs.show(replace(held, status=change(held.status, phase=Phase.ROLLED_BACK)))
    assert series_of(telemetry, "canary_run_phase") == {"RolledBack"}
    assert not [name for name, _ in samples(telemetry) if name == "canary_metric_value"]
    assert not [labels for name, labels in samples(telemetry) if ("kind", "observed") in labels]


def test_the_series_of_a_run_end_an_hour_after_it(telemetry, clock):
    telemetry.runs.show(a_run(phase=Phase.PROGRESSING))
    clock.sleep(10_000)
    assert series_of(telemetry, "canary_run_phase") == {"Progressing"}
    telemetry.runs.show(a_run(phase=Phase.PROMOTED))
    clock.sleep(3000)
    telemetry.runs.show(a_run(phase=Phase.PROMOTED))
    clock.sleep(590)
    assert series_of(telemetry, "canary_run_phase") == {"Promoted"}
    clock.sleep(20)
    assert series_of(telemetry, "canary_run_phase") == set()


def test_the_next_run_of_a_workload_takes_the_place_of_the_last(telemetry):
    telemetry.runs.show(a_run("checkout-1"))
    telemetry.runs.show(a_run("checkout-2"))
    assert series_of(telemetry, "canary_run_info") == {"checkout-2"}


def test_series_are_bounded_however_many_workloads_there_are(telemetry, monkeypatch):
    monkeypatch.setattr("canary.operator.telemetry.MAX_WORKLOADS", 100)
    monkeypatch.setattr("canary.operator.run_series.MAX_RUNS_SHOWN", 100)
    for number in range(150):
        telemetry.ended(an_end(workload=f"w{number}"))
        telemetry.runs.show(a_run(workload=f"w{number}"))
    served = samples(telemetry)
    counted = [labels for name, labels in served if name == "canary_lost_estimate_total"]
    assert len(counted) == 100 + 1
    others = {"workload_namespace": OTHER.namespace, "workload": OTHER.name}
    assert value(telemetry, "lost_estimate_total", unit="orders", **others) == 50 * 22
    assert len([name for name, _ in served if name == "canary_run_step"]) == 100


@pytest.fixture
def trouble():
    return {"/healthz": "", "/readyz": "the caches are not filled"}


@pytest.fixture
def probes(telemetry, trouble):
    checks = {path: (lambda path=path: trouble[path]) for path in trouble}
    probes = Probes(("127.0.0.1", 0), checks, telemetry.exposition)
    probes.start()
    yield probes
    probes.stop()


def ask(probes, path, method="GET"):
    connection = http.client.HTTPConnection(*probes.address, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_check_answers_with_its_reason(probes, trouble):
    assert ask(probes, "/healthz") == (200, "ok\n")
    assert ask(probes, "/readyz?verbose") == (503, "the caches are not filled\n")
    trouble["/readyz"] = ""
    assert ask(probes, "/readyz") == (200, "ok\n")


def test_the_metrics_page_is_prometheus_text(probes):
    status, text = ask(probes, "/metrics")
    assert status == 200
    assert 'canary_build_info{revision="abc",version="1.2.3"} 1.0' in text


def test_other_pages_and_verbs_are_refused(probes):
    assert ask(probes, "/")[0] == 404
    assert ask(probes, "/metrics", "POST")[0] == 501


def test_silent_clients_cannot_hold_more_than_their_share(probes):
    silent = [socket.create_connection(probes.address, timeout=5) for _ in range(MAX_CLIENTS)]
    time.sleep(0.2)
    with pytest.raises(OSError):
        ask(probes, "/healthz")
    for connection in silent:
        connection.close()
    end = time.monotonic() + 5
    answered = None
    while answered is None and time.monotonic() < end:
        try:
            answered = ask(probes, "/healthz")
        except OSError:
            time.sleep(0.02)
    assert answered == (200, "ok\n")


def test_after_the_stop_the_port_is_closed(probes):
    address = probes.address
    probes.stop()
    probes.stop()
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=1)
