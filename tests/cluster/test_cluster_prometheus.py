"""The main job with a real Prometheus and a real Alertmanager.

A change loses orders; the controller reads both versions from Prometheus alone, takes the change back, and on-call
finds the run in Alertmanager. Debian's Prometheus cannot ask a Kubernetes API server for pods, so `Discovery` writes
them into a file for it.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster_bed import HOST, Bed
from conftest import require_program
from servers import Server
from shop_on_bed import COLLAPSE, POD_PORT, Shop, shop_open

from canary.api.reasons import Phase
from canary.errors import CanaryError
from canary.kube.resources import PODS
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
NAMESPACE = "prometheus"
RATE = 40.0  # orders a second
PROMETHEUS_URL, ALERTMANAGER_URL = f"http://{HOST}:29090", f"http://{HOST}:29093"
START_SECONDS = 60.0
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
POLICY = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "drain": "5s",
    "analysis": ANALYSIS,
    "source": {"prometheus": {"address": PROMETHEUS_URL, "every": "1s"}},
}
CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- {job_name: pods, file_sd_configs: [{files: ['%s']}]}
"""
DISCOVERY_SECONDS = 0.5


class Discovery:
    """Keeps a file of the pods that have an address, for Prometheus, from its making until `close`."""

    def __init__(self, bed: Bed, path: Path) -> None:
        self._client = bed.client("admin")
        self._path = path
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="discovery", daemon=True)
        self._write([])
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._closing.wait(DISCOVERY_SECONDS):
            with suppress(CanaryError):
                self._write(self._client.list(PODS, NAMESPACE))

    def _write(self, pods: list[Object]) -> None:
        targets = [
            {
                "targets": [f"{pod['status']['podIP']}:{POD_PORT}"],
                "labels": {"namespace": NAMESPACE, "pod": pod["metadata"]["name"]},
            }
            for pod in pods
            if (pod.get("status") or {}).get("podIP")
        ]
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(targets))
        draft.rename(self._path)


@dataclass(frozen=True, slots=True)
class Told:
    """What stood in the world when the run had ended."""

    run: Object
    weights: list[int]
    lost: int
    alerts: list[Object]
    log: str


def answer(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5.0) as found:
        return json.load(found)


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2.0) as found:
            return found.status == 200
    except OSError:
        return False


def start(bed: Bed, ending: ExitStack, name: str, *flags: str) -> Server:
    server = Server(
        name, [require_program(name), *flags], bed.folder / f"{name}.log", {"HOME": str(bed.folder)}
    )
    ending.callback(server.stop)
    return server


def scraped_pods() -> int:
    found = answer(f"{PROMETHEUS_URL}/api/v1/query?query=count(count_over_time(up[10s])>=2)")["data"][
        "result"
    ]
    return int(found[0]["value"][1]) if found else 0


@pytest.fixture(scope="module")
def told(bed: Bed) -> Iterator[Told]:
    with ExitStack() as ending:
        (bed.folder / "alertmanager.yml").write_text(
            "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
        )
        alertmanager = start(
            bed,
            ending,
            "prometheus-alertmanager",
            f"--config.file={bed.folder / 'alertmanager.yml'}",
            f"--storage.path={bed.folder / 'alertmanager'}",
            f"--web.listen-address={ALERTMANAGER_URL.removeprefix('http://')}",
            "--cluster.listen-address=",
        )
        targets = bed.folder / "targets.json"
        ending.callback(Discovery(bed, targets).close)
        (bed.folder / "prometheus.yml").write_text(CONFIG % targets)
        prometheus = start(
            bed,
            ending,
            "prometheus",
            f"--config.file={bed.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={bed.folder / 'prometheus'}",
            f"--web.listen-address={PROMETHEUS_URL.removeprefix('http://')}",
        )
        alertmanager.wait_until(lambda: ready(ALERTMANAGER_URL), START_SECONDS)
        prometheus.wait_until(lambda: ready(PROMETHEUS_URL), START_SECONDS)
        yield play(ending.enter_context(shop_open(bed, NAMESPACE, RATE)))


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
