"""Many runs on one real Prometheus: it is asked as often as for one, and samples are as young as its pace lets them be.

Prometheus itself counts the queries. Every run has two pods in a namespace that it shares with a few others, and eight
workers look at the runs in turn, as the controller's do.
"""

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from conftest import require_program
from metrics_fault_server import FaultHandler, serving, text
from prometheus_client.parser import text_string_to_metric_families
from prometheus_server import prometheus

from canary.api.policy import CanaryPolicySpec
from canary.api.reasons import MissingReason
from canary.clock import WallClock
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.metrics.prometheus import SHARE_INTERVALS, PrometheusSettings, PrometheusSource
from canary.metrics.scrape import ScrapeSource
from canary.metrics.source import CounterSpec, PodTarget
from canary.operator.run import PolicySources

RUNS, NAMESPACES, WORKERS, PASSES, EVERY = 60, 12, 8, 3, 5.0
SPECS = {
    "orders": CounterSpec("orders_completed_total"),
    "requests": CounterSpec("http_requests_total"),
    "errors": CounterSpec("http_requests_total", (("code", "5.."),)),
}
FAMILIES = 2  # orders and requests; errors are among the requests
SHOWN = """# TYPE orders_completed_total counter
orders_completed_total 30
# TYPE http_requests_total counter
http_requests_total{code="200"} 100
http_requests_total{code="500"} 4
"""


def queries(url: str) -> int:
    """Return how many queries Prometheus has answered."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5.0) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = (each for family in families for each in family.samples)
    named = (each for each in samples if each.name == "prometheus_http_requests_total")
    return round(sum(each.value for each in named if each.labels["handler"] == "/api/v1/query"))


def targets(run: int) -> list[PodTarget]:
    home = f"team-{run % NAMESPACES}"
    names = [f"app-{run}-{pod}" for pod in ("old", "new")]
    return [PodTarget(f"{home}/{name}", name, home, "", 0, "", "new" in name, 0.0) for name in names]


def test_sixty_runs_cost_prometheus_as_much_as_one(tmp_path: Path) -> None:
    program = require_program("prometheus")
    pods = [each for run in range(RUNS) for each in targets(run)]
    with serving(text(SHOWN)) as shown:
        addresses = {each.uid: f"127.0.0.1:{shown.port}" for each in pods}
        with prometheus(program, tmp_path, addresses) as url, ThreadPoolExecutor(WORKERS) as workers:
            source = PrometheusSource(PrometheusSettings(url, every_seconds=EVERY), WallClock())

            def look(run: int) -> list[object]:
                read = source.read(targets(run), SPECS, within_seconds=EVERY / 2)
                return [each.counts if isinstance(each, Reading) else each for each in read.values()]

            asked: list[int] = []
            for _ in range(PASSES):
                before = queries(url)
                answers = [each for found in workers.map(look, range(RUNS)) for each in found]
                assert answers == [{"orders": 30.0, "requests": 104.0, "errors": 4.0}] * 2 * RUNS
                asked.append(queries(url) - before)
                time.sleep(SHARE_INTERVALS * EVERY)
            source.close()
    first, *later = asked
    assert first <= FAMILIES * NAMESPACES, "a namespace that nobody asked for yet is asked for when it comes"
    assert later == [FAMILIES] * (PASSES - 1)


def test_a_sample_may_be_as_old_as_the_pace_of_the_policy_lets_it_be() -> None:
    """A Prometheus that scrapes every 15 seconds has nothing younger to say at most looks."""

    def answer(handler: FaultHandler) -> None:
        now = float(parse_qs(urlsplit(handler.server.requests[-1]).query)["time"][0])
        row = {"metric": {"namespace": "shop", "pod": "p"}, "values": [[now - 29.0, "1"], [now - 14.0, "2"]]}
        data = {"resultType": "matrix", "result": [row]}
        handler.send(json.dumps({"status": "success", "data": data}).encode())

    with serving(answer) as server:
        sources = PolicySources(ScrapeSource(WallClock()), (server.url,), WallClock())
        read = {every: _read_once(sources, server.url, every) for every in ("5s", "15s")}
        sources.close()
    early, paced = read["5s"], read["15s"]
    assert isinstance(early, Missing)
    assert early.reason is MissingReason.STALE
    assert isinstance(paced, Reading)
    assert paced.counts == {"orders": 2.0}


def _read_once(sources: PolicySources, url: str, every: str) -> Reading | Missing:
    analysis = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}
    source = {"prometheus": {"address": url, "every": every}}
    target = {"kind": "Deployment", "name": "checkout"}
    spec = {"target": target, "analysis": analysis, "source": source}
    one = PodTarget("uid", "p", "shop", "", 0, "", True, 0.0)
    asked = {"orders": CounterSpec("orders_total")}
    return sources.of(CanaryPolicySpec.model_validate(spec)).read([one], asked, within_seconds=5.0)["uid"]
