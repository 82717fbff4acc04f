"""The direct scrape against pods that answer well, badly, late, too much or not at all."""

import math
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from metrics_fault_server import FaultHandler, FaultServer, serving, text

from canary.api.reasons import MissingReason
from canary.clock import WallClock
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.errors import RefusedError
from canary.metrics.scrape import Limits, ScrapeSource
from canary.metrics.source import CounterSpec, PodTarget

SPECS = {
    "orders": CounterSpec("orders_completed_total"),
    "requests": CounterSpec("http_requests_total"),
}
GOOD = """# TYPE orders_completed_total counter
orders_completed_total 30
# TYPE http_requests_total counter
http_requests_total{code="200"} 100
http_requests_total{code="500"} 20
"""


@pytest.fixture
def source() -> Iterator[ScrapeSource]:
    source = ScrapeSource(WallClock())
    yield source
    source.close()


def target(server: FaultServer, uid: str = "a", path: str = "/metrics") -> PodTarget:
    return PodTarget(uid, f"pod-{uid}", "shop", "127.0.0.1", server.port, path, True, 1000.0)


def read_one(source: ScrapeSource, server: FaultServer, within: float = 2.0) -> Reading | Missing:
    return source.read([target(server)], SPECS, within_seconds=within)["a"]


def reason(result: Reading | Missing) -> MissingReason:
    assert isinstance(result, Missing), result
    return result.reason


def test_counts_are_raw_sums_and_the_time_is_the_start_of_the_request(source: ScrapeSource) -> None:
    def slowly(handler: FaultHandler) -> None:
        time.sleep(0.2)
        handler.send(GOOD.encode())

    with serving(slowly) as server:
        before = time.time()
        result = read_one(source, server)
    assert isinstance(result, Reading)
    assert result.counts == {"orders": 30, "requests": 120}
    assert (result.pod, result.canary, result.started) == ("a/1000.000", True, 1000.0)
    assert before - 0.05 <= result.at <= before + 0.15


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("orders_completed_totl", "no metric orders_completed_totl; did you mean orders_completed_total?"),
        ("http_request_total", "no metric http_request_total; did you mean http_requests_total?"),
        ("jvm_heap", "no metric jvm_heap"),
    ],
)
def test_a_metric_that_is_not_there_is_missing_with_the_nearest_that_is(
    source: ScrapeSource, asked: str, said: str
) -> None:
    with serving(text(GOOD)) as server:
        result = source.read([target(server)], {"orders": CounterSpec(asked)}, within_seconds=2.0)["a"]
    assert result == Missing(MissingReason.ABSENT, said)


def test_one_connection_is_kept_for_many_looks(source: ScrapeSource) -> None:
    with serving(text(GOOD)) as server:
        results = [read_one(source, server) for _ in range(5)]
        assert (server.connections, len(server.requests)) == (1, 5)
    assert all(isinstance(result, Reading) for result in results)


def test_a_connection_that_the_pod_closed_meanwhile_is_opened_anew(source: ScrapeSource) -> None:
    def answer_and_close(handler: FaultHandler) -> None:
        handler.send(GOOD.encode())
        raise OSError("closed without a word")

    with serving(answer_and_close) as server:
        results = [read_one(source, server) for _ in range(3)]
        assert server.connections == 3
    assert all(isinstance(result, Reading) for result in results)


def test_a_hanging_pod_is_missing_and_the_others_are_read_on_time(source: ScrapeSource) -> None:
    with serving(FaultHandler.hang) as bad, serving(text(GOOD)) as good:
        begun = time.monotonic()
        results = source.read([target(bad, "bad"), target(good, "good")], SPECS, within_seconds=0.3)
        assert time.monotonic() - begun < 2
        again = source.read([target(bad, "bad"), target(good, "good")], SPECS, within_seconds=0.3)
    for result in (results, again):
        assert reason(result["bad"]) is MissingReason.TIMED_OUT
        assert isinstance(result["good"], Reading)


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_pod_that_sends_a_byte_now_and_then_is_cut_off(source: ScrapeSource, part: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode()

    def drip(handler: FaultHandler) -> None:
        if part == "head":
            handler.drip(head, 0.05)
        handler.wfile.write(head)
        handler.drip(GOOD.encode(), 0.05)

    with serving(drip) as server:
        begun = time.monotonic()
        assert reason(read_one(source, server, within=0.3)) is MissingReason.TIMED_OUT
        assert time.monotonic() - begun < 2
        assert reason(read_one(source, server, within=0.3)) is MissingReason.TIMED_OUT


def test_hanging_pods_cannot_keep_the_threads_from_the_others() -> None:
    source = ScrapeSource(WallClock(), Limits(concurrency=2))
    with (
        serving(FaultHandler.hang) as bad_1,
        serving(FaultHandler.hang) as bad_2,
        serving(text(GOOD)) as good,
    ):
        targets = [target(bad_1, "1"), target(bad_2, "2"), target(good, "3")]
        source.read(targets, SPECS, within_seconds=0.2)
        results = source.read(targets, SPECS, within_seconds=0.2)
        source.close()
    assert isinstance(results["3"], Reading)


def test_a_refused_connection_is_unavailable(source: ScrapeSource) -> None:
    with serving(text(GOOD)) as server:
        pass
    assert reason(read_one(source, server)) is MissingReason.UNAVAILABLE


BAD_BODIES = {
    "html": ("<html>sorry</html>\n", MissingReason.ABSENT),
    "empty": ("", MissingReason.ABSENT),
    "a renamed metric": (GOOD.replace("orders_completed", "orders_done"), MissingReason.ABSENT),
    "no number": (GOOD.replace(" 30", " many"), MissingReason.MALFORMED),
    "broken labels": (GOOD.replace('code="200"', 'code="200'), MissingReason.MALFORMED),
    "NaN": (GOOD.replace(" 30", " NaN"), MissingReason.NOT_FINITE),
    "infinite": (GOOD.replace(" 30", " +Inf"), MissingReason.NOT_FINITE),
    "negative": (GOOD.replace(" 30", " -1"), MissingReason.NEGATIVE),
    "twice the same series": (GOOD + "orders_completed_total 30\n", MissingReason.DUPLICATE_SERIES),
    "cut in a number": (GOOD[:-2], MissingReason.MALFORMED),
    "not UTF-8": (GOOD.replace('"500"', '"\udcff"'), MissingReason.MALFORMED),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_exposition_is_missing_by_its_reason(source: ScrapeSource, name: str) -> None:
    body, expected = BAD_BODIES[name]
    with serving(lambda handler: handler.send(body.encode("utf-8", "surrogateescape"))) as server:
        assert reason(read_one(source, server)) is expected


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "204 No Content"])
def test_any_answer_but_200_is_unavailable(source: ScrapeSource, status: str) -> None:
    with serving(lambda handler: handler.send(GOOD.encode(), status)) as server:
        assert reason(read_one(source, server)) is MissingReason.UNAVAILABLE


def test_a_redirect_is_not_followed(source: ScrapeSource) -> None:
    with serving(text(GOOD)) as elsewhere:
        redirect = f"{elsewhere.url}/metrics"
        with serving(lambda handler: handler.send(b"", "302 Found", Location=redirect)) as server:
            assert reason(read_one(source, server)) is MissingReason.UNAVAILABLE
        assert elsewhere.requests == []


def test_proxy_variables_are_ignored(source: ScrapeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(text(GOOD)) as server, serving(text(GOOD)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert isinstance(read_one(source, server), Reading)
        assert proxy.requests == []


def endless(handler: FaultHandler, line: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
    block = line * (65536 // len(line))
    for _ in range(67108864 // len(block)):
        handler.wfile.write(block)


def test_a_body_of_64_megabytes_is_cut_at_its_bound(source: ScrapeSource) -> None:
    with serving(lambda handler: endless(handler, b"something_else 1\n")) as server:
        assert reason(read_one(source, server)) is MissingReason.TOO_LARGE


def test_a_line_without_an_end_is_refused(source: ScrapeSource) -> None:
    with serving(lambda handler: endless(handler, b"x")) as server:
        assert reason(read_one(source, server)) is MissingReason.MALFORMED


def test_too_many_series_of_a_wanted_metric_are_refused(source: ScrapeSource) -> None:
    many = "".join(f'http_requests_total{{path="/{index}"}} 1\n' for index in range(3000))
    with serving(text(GOOD + many)) as server:
        assert reason(read_one(source, server)) is MissingReason.TOO_LARGE


def test_a_million_series_of_other_metrics_cost_only_their_bytes(source: ScrapeSource) -> None:
    other = "".join(f'other{{path="/{index}"}} 1\n' for index in range(60_000))
    with serving(text(other + GOOD)) as server:
        assert isinstance(read_one(source, server, within=5.0), Reading)


def test_a_body_shorter_than_announced_is_missing(source: ScrapeSource) -> None:
    def short(handler: FaultHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + GOOD.encode())
        raise OSError("gone")

    with serving(short) as server:
        assert reason(read_one(source, server)) is MissingReason.MALFORMED


def test_an_old_server_that_closes_after_each_answer_is_read(source: ScrapeSource) -> None:
    def old(handler: FaultHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD.encode())
        raise OSError("closed")

    with serving(old) as server:
        results = [read_one(source, server) for _ in range(3)]
    assert all(isinstance(result, Reading) for result in results)


def test_a_chunked_answer_is_read(source: ScrapeSource) -> None:
    def chunked(handler: FaultHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(GOOD), 7):
            part = GOOD[start : start + 7].encode()
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    with serving(chunked) as server:
        results = [read_one(source, server) for _ in range(2)]
        assert server.connections == 1
    assert all(isinstance(result, Reading) and result.counts["requests"] == 120 for result in results)


def test_more_pods_than_the_limit_are_refused_by_name() -> None:
    source = ScrapeSource(WallClock(), Limits(pods=1))
    with serving(text(GOOD)) as server:
        results = source.read([target(server, "1"), target(server, "2")], SPECS, within_seconds=1)
        assert server.requests == []
    source.close()
    assert {reason(result) for result in results.values()} == {MissingReason.TOO_MANY_PODS}


def test_a_pod_has_one_request_in_flight(source: ScrapeSource) -> None:
    with serving(FaultHandler.hang) as server:
        first = threading.Thread(target=read_one, args=(source, server, 0.4))
        first.start()
        while not server.requests:
            time.sleep(0.01)
        second = read_one(source, server, within=0.2)
        assert len(server.requests) == 1
        first.join()
    assert reason(second) is MissingReason.TIMED_OUT


def test_a_wrong_regular_expression_is_refused_with_its_place(source: ScrapeSource) -> None:
    specs = {"errors": CounterSpec("http_requests_total", (("code", "5(.."),))}
    with serving(text(GOOD)) as server, pytest.raises(RefusedError, match=r"where\.code"):
        source.read([target(server)], specs, within_seconds=2)


def test_a_closed_source_leaves_no_thread_behind() -> None:
    source = ScrapeSource(WallClock())
    with serving(text(GOOD)) as server:
        source.read([target(server, str(index)) for index in range(8)], SPECS, within_seconds=1)
        source.close()
        source.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("scrape")] == []


def test_a_wall_clock_that_jumps_does_not_move_the_scale_of_readings() -> None:
    class Jumping(WallClock):
        hours = 0

        def now(self) -> datetime:
            return super().now() + timedelta(hours=self.hours)

    clock = Jumping()
    source = ScrapeSource(clock)
    with serving(text(GOOD)) as server:
        first = read_one(source, server)
        clock.hours = 1
        second = read_one(source, server)
    source.close()
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert 0 < second.at - first.at < 60
    assert math.isfinite(second.at)
