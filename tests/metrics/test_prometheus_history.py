"""Past orders per minute: out of a real Prometheus that was filled with past days, and out of broken answers."""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from conftest import require_program
from metrics_fault_server import serving
from prometheus_server import prometheus

from canary.api.reasons import MissingReason
from canary.clock import WallClock
from canary.core.evidence import Missing
from canary.core.site import Span
from canary.metrics.history import Shop
from canary.metrics.prometheus import PrometheusSettings
from canary.metrics.prometheus_history import PrometheusHistory
from canary.metrics.source import CounterSpec

ORDERS = CounterSpec("orders_completed_total", (("kind", "web|app"),))
CHECKOUT = Shop("shop", ("checkout", "checkout-canary"), ORDERS)
HOUR = Span(1_772_668_800.0, 60)
Values = Sequence[tuple[float, float | str]]


def asked(url: str, span: Span = HOUR, shop: Shop = CHECKOUT) -> Sequence[float] | Missing:
    history = PrometheusHistory(PrometheusSettings(url), WallClock())
    try:
        return history.orders_per_minute(shop, span, within_seconds=5.0)
    finally:
        history.close()


def answered(series: dict[str, Values], **labels: str) -> Sequence[float] | Missing:
    """Ask a server that answers with these series, by pod."""
    rows = [
        {
            "metric": {"pod": pod, "job": "pods", "instance": pod, **labels},
            "values": [list(v) for v in values],
        }
        for pod, values in series.items()
    ]
    return told(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}}))


def told(body: str, status: str = "200 OK") -> Sequence[float] | Missing:
    with serving(lambda handler: handler.send(body.encode(), status)) as server:
        return asked(server.url)


def minutes(values: Sequence[float], begin: int = 0) -> list[tuple[float, str]]:
    return [(HOUR.begin + 60.0 * (begin + at), f"{value:g}") for at, value in enumerate(values)]


def reason(answer: Sequence[float] | Missing) -> MissingReason:
    assert isinstance(answer, Missing), answer
    return answer.reason


# -- answers of every kind -----------------------------------------------------------------------------------------


def test_each_minute_gets_what_the_counters_of_all_pods_gained() -> None:
    steady, late = [10.0 * at for at in range(61)], [500.0 + 2.0 * at for at in range(31)]
    answer = answered({"a": minutes(steady), "b": minutes(late, begin=30)})
    assert answer == [10.0] * 30 + [12.0] * 30


def test_a_restart_counts_from_zero_and_nothing_is_invented() -> None:
    values = [7.0 * at for at in range(31)] + [7.0 * at for at in range(30)]
    answer = answered({"a": minutes(values)})
    assert answer == [7.0] * 30 + [0.0] + [7.0] * 29


def test_orders_of_a_short_gap_come_with_the_next_sample() -> None:
    values = minutes([5.0 * at for at in range(61)])
    answer = answered({"a": values[:20] + values[22:]})
    assert answer == [5.0] * 19 + [0.0, 0.0, 15.0] + [5.0] * 38


def test_a_long_gap_is_no_time_without_orders() -> None:
    values = minutes([5.0 * at for at in range(61)])
    assert reason(answered({"a": values[:20] + values[40:]})) is MissingReason.PARTIAL
    assert reason(answered({})) is MissingReason.PARTIAL


def test_a_pod_that_two_jobs_scrape_is_not_counted_twice() -> None:
    rows = [
        {"metric": {"pod": "a", "job": job, "instance": "a:1"}, "values": minutes([1.0] * 61)}
        for job in ("pods", "services")
    ]
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}})
    assert reason(told(body)) is MissingReason.DUPLICATE_SERIES


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-3"])
def test_senseless_counts_are_refused(value: str) -> None:
    values = minutes([5.0 * at for at in range(61)])
    values[30] = (values[30][0], value)
    assert reason(answered({"a": values})) is MissingReason.NOT_FINITE


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ("<html>", "200 OK", MissingReason.MALFORMED),
        (
            '{"status":"success","data":{"resultType":"matrix","result":[7]}}',
            "200 OK",
            MissingReason.MALFORMED,
        ),
        ("bad query", "400 Bad Request", MissingReason.MALFORMED),
        ("who?", "403 Forbidden", MissingReason.UNAUTHORISED),
        ("later", "503 Service Unavailable", MissingReason.UNAVAILABLE),
    ],
)
def test_an_answer_that_is_none_has_a_name(body: str, status: str, expected: MissingReason) -> None:
    assert reason(told(body, status)) is expected


def test_more_than_a_day_at_once_is_not_asked_for() -> None:
    assert reason(asked("http://127.0.0.1:9", Span(0.0, 1441))) is MissingReason.TOO_LARGE


def test_a_server_that_hangs_is_left_in_time() -> None:
    with serving(lambda handler: handler.hang()) as server:
        history = PrometheusHistory(PrometheusSettings(server.url), WallClock())
        late = history.orders_per_minute(CHECKOUT, HOUR, within_seconds=0.2)
        history.close()
    assert reason(late) is MissingReason.TIMED_OUT


# -- the real thing ------------------------------------------------------------------------------------------------

EVERY = 30  # seconds between two scrapes, each 7 s into its half minute
SCRAPES = 2 * 1440


class Pod:
    """A pod's counter: lives from one scrape to another, and may restart."""

    def __init__(self, name: str, begin: int = 0, end: int = SCRAPES, **labels: str) -> None:
        self.labels = {
            "namespace": "shop",
            "job": "pods",
            "instance": name,
            "kind": "web",
            **labels,
            "pod": name,
        }
        self.begin, self.end = begin, end

    def lines(self, gains: Sequence[int], midnight: float, restart: int) -> list[str]:
        labels, value, lines = ",".join(f'{k}="{v}"' for k, v in self.labels.items()), 1000, list[str]()
        for at in range(self.begin, self.end):
            value = gains[at] if at == restart else value + gains[at]
            lines.append(f"orders_completed_total{{{labels}}} {value} {midnight + EVERY * at + 7:.0f}")
        return lines


def test_a_real_prometheus_gives_the_orders_of_a_past_day_minute_by_minute(tmp_path: Path) -> None:
    program, promtool = require_program("prometheus"), require_program("promtool")
    midnight = time.time() // 86_400.0 * 86_400.0 - 3 * 86_400.0
    rng = Random(8)
    gains = {name: [rng.randrange(9) for _ in range(SCRAPES)] for name in ("old", "new", "canary", "foreign")}
    old, new = Pod("checkout-6f9c4d7b88-x2x4z", end=1600), Pod("checkout-5c5d8f9b7-abcde", begin=1500)
    canary = Pod("checkout-canary-7c9f-q8q8q", kind="app")
    foreign = [Pod("checkout-worker-7c9f-q8q8q"), Pod("checkout-9c9f-q8q8q", kind="test"),
               Pod("checkout-8c9f-q8q8q", namespace="other")]  # fmt: skip
    lines = old.lines(gains["old"], midnight, restart=800) + new.lines(gains["new"], midnight, restart=-1)
    lines += canary.lines(gains["canary"], midnight, restart=-1)
    lines += [line for pod in foreign for line in pod.lines(gains["foreign"], midnight, restart=-1)]
    (tmp_path / "past").write_text("# TYPE orders_completed counter\n" + "\n".join(lines) + "\n# EOF\n")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", tmp_path / "past", tmp_path / "data"]
    subprocess.run(command, check=True, capture_output=True)
    with prometheus(program, tmp_path, {"nobody": "127.0.0.1:9"}) as url:
        answer = asked(url, Span(midnight, 1440))
    expected = [0] * 1440
    for pod, gained in ((old, gains["old"]), (new, gains["new"]), (canary, gains["canary"])):
        for at in range(pod.begin + 2 if pod.begin else 2, pod.end):
            expected[at // 2] += gained[at]
    assert not isinstance(answer, Missing)
    assert list(answer) == expected
