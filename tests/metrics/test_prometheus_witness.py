"""What a witness counted of the new version: out of a real Prometheus, and out of broken answers."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from conftest import require_program
from metrics_fault_server import serving
from prometheus_server import prometheus

from canary.api.reasons import MissingReason
from canary.clock import WallClock
from canary.core.evidence import Missing
from canary.core.witness import Gained
from canary.metrics.prometheus import PrometheusSettings
from canary.metrics.prometheus_witness import PrometheusWitness, total_gain
from canary.metrics.source import CounterSpec

STORED = CounterSpec("orders_stored_total", (("service", "checkout-canary"),))


def asked(url: str, since: float, every: float = 5.0) -> Mapping[str, Gained] | Missing:
    witness = PrometheusWitness(PrometheusSettings(url, every), WallClock())
    try:
        return witness.gained({"orders": STORED}, since, within_seconds=5.0)
    finally:
        witness.close()


def told(
    tracks: Sequence[Sequence[tuple[float, object]]], since: float = 0.0
) -> Mapping[str, Gained] | Missing:
    rows = [{"metric": {}, "values": [[at, str(value)] for at, value in track]} for track in tracks]
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}})
    with serving(lambda handler: handler.send(body.encode(), "200 OK")) as server:
        return asked(server.url, since)


def test_series_are_added_up_over_the_time_that_they_cover() -> None:
    one, other = [(10.0, 100.0), (70.0, 160.0)], [(14.0, 7.0), (74.0, 67.0)]
    assert told([one, other]) == {"orders": Gained(12.0, 72.0, 120.0)}


def test_only_samples_since_the_moment_that_is_asked_for_count() -> None:
    assert told([[(10.0, 0.0), (20.0, 50.0), (30.0, 60.0)]], since=15.0) == {
        "orders": Gained(20.0, 30.0, 10.0)
    }
    assert told([[(10.0, 0.0), (20.0, 50.0)]], since=15.0) == {}


def test_a_restart_counts_from_zero_and_so_does_a_series_that_comes_later() -> None:
    assert total_gain([[(0.0, 50.0), (10.0, 5.0), (20.0, 9.0)]], 10.0) == Gained(0.0, 20.0, 9.0)
    assert total_gain([[(0.0, 1.0), (60.0, 1.0)], [(45.0, 3.0), (60.0, 4.0)]], 10.0) == Gained(0.0, 60.0, 4.0)


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [([], MissingReason.ABSENT), ([[(0.0, "x"), (1.0, "y")]], MissingReason.MALFORMED)],
)
def test_an_answer_that_is_none_has_a_name(
    tracks: Sequence[Sequence[tuple[float, object]]], expected: MissingReason
) -> None:
    answer = told(tracks)
    assert isinstance(answer, Missing)
    assert answer.reason is expected


def test_a_real_prometheus_tells_what_one_version_gained(tmp_path: Path) -> None:
    program, start = require_program("prometheus"), time.time()

    def exposition() -> bytes:
        sold = int(100 * (time.time() - start))
        lines = [
            f'orders_stored_total{{service="{name}"}} {sold * n}'
            for n, name in ((1, "checkout-canary"), (9, "checkout"))
        ]
        return ("# TYPE orders_stored_total counter\n" + "\n".join(lines) + "\n").encode()

    with (
        serving(lambda handler: handler.send(exposition(), "200 OK")) as server,
        prometheus(program, tmp_path, {"order-system": server.url.removeprefix("http://")}) as url,
    ):
        time.sleep(4.0)
        answer = asked(url, start, every=1.0)
    assert not isinstance(answer, Missing), answer
    found = answer["orders"]
    assert found.end - found.begin >= 3.0
    assert found.count == pytest.approx(100 * (found.end - found.begin), abs=30)
