"""The main job with a real Prometheus and a real Alertmanager.

A change loses orders; the controller reads both versions from Prometheus alone, takes the change back, and on-call
finds the run in Alertmanager.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cluster_bed import Bed
from prometheus_on_bed import (
    ALERTMANAGER_URL,
    PROMETHEUS_URL,
    SOURCE,
    START_SECONDS,
    alertmanager_open,
    answer,
    prometheus_open,
    scraped_pods,
)
from shop_on_bed import COLLAPSE, Shop, shop_open

from canary.api.reasons import Phase
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
NAMESPACE = "prometheus"
RATE = 40.0  # orders a second
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
POLICY = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "drain": "5s",
    "analysis": ANALYSIS,
    "source": SOURCE,
}


@dataclass(frozen=True, slots=True)
class Told:
    """What stood in the world when the run had ended."""

    run: Object
    weights: list[int]
    lost: int
    alerts: list[Object]
    log: str


@pytest.fixture(scope="module")
def told(bed: Bed) -> Iterator[Told]:
    with alertmanager_open(bed), prometheus_open(bed, NAMESPACE), shop_open(bed, NAMESPACE, RATE) as shop:
        yield play(shop)


def play(shop: Shop) -> Told:
    shop.until(lambda: scraped_pods() == 3, "Prometheus has found the pods")
    shop.start_controller("--prometheus", PROMETHEUS_URL, "--alertmanager", f"am={ALERTMANAGER_URL}")
    shop.protect(**POLICY)
    shop.push(COLLAPSE)
    shop.reach_slice()
    run = shop.reach(Phase.ROLLED_BACK)
    deadline = time.monotonic() + START_SECONDS
    while not (alerts := answer(f"{ALERTMANAGER_URL}/api/v2/alerts")) and time.monotonic() < deadline:
        time.sleep(0.1)
    total = shop.close_shop()["total"]
    shop.stop_controller()
    weights = [ppm for _, ppm in shop.chronicle.weights()]
    return Told(run, weights, total["wanted"] - total["placed"], alerts, shop.log())


def test_a_collapse_is_seen_through_prometheus_alone(told: Told) -> None:
    assert told.run["status"]["phase"] == "RolledBack"
    assert told.run["status"]["reason"] == "OrdersCollapsed"
    assert told.weights == [0, 50_000, 0]
    assert 0 < told.lost < 120


def test_on_call_finds_the_run_in_alertmanager(told: Told) -> None:
    (labels,) = [alert["labels"] for alert in told.alerts]
    assert labels["run"] == told.run["metadata"]["name"]
    assert labels["workload_namespace"] == NAMESPACE


def test_the_controller_logs_no_defect(told: Told) -> None:
    assert "Traceback" not in told.log
