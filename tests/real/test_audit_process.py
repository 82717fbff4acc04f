"""The audit of the controller's own process: what serves is on record, and an audit that lost its end stops raises."""

import json
from collections.abc import Iterator

import pytest

from canary.api.marks import Mark
from canary.api.reasons import Reason
from canary.audit.chain import readable, verify
from canary.audit.store import open_store
from canary.kube.lease import HEARTBEAT_LEASE
from canary.kube.resources import LEASES
from canary.lab.demo.stage import SYSTEM, Stage, StageSetting

LIMIT_SECONDS = 60.0


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(StageSetting(seed=41, orders_per_second=20.0, replicas=2))
    try:
        stage.open_shop()
        yield stage
    finally:
        stage.close()


def head_on_the_lease(stage: Stage) -> str:
    stored = stage.admin.get(LEASES.at(SYSTEM, HEARTBEAT_LEASE)) or {"metadata": {}}
    return (stored["metadata"].get("annotations") or {}).get(Mark.AUDIT_HEAD.value, "").partition(" ")[0]


def titles(stage: Stage) -> list[str]:
    return [json.loads(page.body)["data"]["title"] for page in list(stage.pages.received)]


def test_the_process_keeps_its_audit_and_raises_nothing_on_one_that_lost_its_end(stage: Stage) -> None:
    store = open_store(stage.audit)
    stage.until(lambda: head_on_the_lease(stage).startswith("4:"), "the head is on the Lease", LIMIT_SECONDS)
    records = list(readable(store.lines()))
    assert records[0]["ready"] == 2
    assert [(each["kind"], each["workload"]) for each in records] == [
        ("Initial", "checkout"),
        ("Route", "httproute/checkout"),
        ("Service", "service/checkout"),
        ("Policy", "canarypolicy/checkout"),
    ]
    assert head_on_the_lease(stage) == str(verify(store.lines()).head)
    stage.until(
        lambda: "the audit has 4 records" in titles(stage), "the head went to the sinks", LIMIT_SECONDS
    )

    stage.kill_controller()
    (stage.folder / "audit.jsonl").unlink()
    stage.start_controller()
    alarm = "ACTION NEEDED - audit and cluster disagree, raises stopped"
    stage.until(lambda: alarm in titles(stage), "people are called", LIMIT_SECONDS)
    stage.push({})

    def waits() -> bool:
        run = stage.latest_run()
        return run is not None and run.status.reason == Reason.AUDIT_WRITE_FAILED

    stage.until(waits, "the change waits for the audit", LIMIT_SECONDS)
    assert [write.weight_ppm for write in stage.weights if write.weight_ppm > 0] == []
