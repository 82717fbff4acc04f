"""The Prometheus source against a server that answers late, wrongly, in part, too much or not at all."""

import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from certificates import make_certificate
from metrics_fault_server import FaultHandler, FaultServer, serving

from canary.api.reasons import MissingReason
from canary.clock import WallClock
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.errors import RefusedError
from canary.metrics.prometheus import MAX_QUERY_BYTES, PrometheusSettings, PrometheusSource
from canary.metrics.prometheus_session import MAX_BODY_BYTES, QueryInvalidError
from canary.metrics.source import CounterSpec, PodTarget
from canary.operator import run

SPECS = {
    "orders": CounterSpec("orders_completed_total"),
    "requests": CounterSpec("http_requests_total"),
}
EVERY = 1.0
Values = Sequence[tuple[float, str]]
Open = Callable[..., PrometheusSource]


@pytest.fixture
def opened() -> Iterator[Open]:
    sources: list[PrometheusSource] = []

    def make(server: FaultServer, **settings: Any) -> PrometheusSource:
        source = PrometheusSource(
            PrometheusSettings(server.url, every_seconds=EVERY, **settings), WallClock()
        )
        sources.append(source)
        return source

    yield make
    for source in sources:
        source.close()


def target(name: str = "pod-1", namespace: str = "shop", started: float = 0.0) -> PodTarget:
    return PodTarget(f"{namespace}/{name}", name, namespace, "", 0, "", True, started)


def read(source: PrometheusSource, within: float = 2.0, **other: Any) -> Reading | Missing:
    one = target(**other)
    return source.read([one], SPECS, within_seconds=within)[one.uid]


def reason(result: Reading | Missing) -> MissingReason:
    assert isinstance(result, Missing), result
    return result.reason


def row(name: str, values: Values, **labels: str) -> dict[str, Any]:
    metric = {
        "__name__": name,
        "namespace": "shop",
        "pod": "pod-1",
        "job": "pods",
        "instance": "a:1",
        **labels,
    }
    return {"metric": metric, "values": [[at, value] for at, value in values]}


def matrix(rows: Sequence[dict[str, Any]], **more: Any) -> bytes:
    data = {"resultType": "matrix", "result": list(rows)}
    return json.dumps({"status": "success", "data": data, **more}).encode()


def rows_by_metric(rows: Callable[[float], Sequence[dict[str, Any]]]) -> Callable[[FaultHandler], None]:
    """Answer each query with the rows of its metric; `rows` is given the time that the query asks for."""

    def answer(handler: FaultHandler) -> None:
        asked = parse_qs(urlsplit(handler.server.requests[-1]).query)
        name = asked["query"][0].split("{")[0]
        found = [one for one in rows(float(asked["time"][0])) if one["metric"]["__name__"] == name]
        handler.send(matrix(found))

    return answer


def healthy(now: float) -> list[dict[str, Any]]:
    return [
        row("orders_completed_total", [(now - 1.4, "29"), (now - 0.4, "30")]),
        row("http_requests_total", [(now - 1.4, "95"), (now - 0.4, "100")], code="200"),
        row("http_requests_total", [(now - 0.4, "20")], code="500"),
    ]


def test_raw_samples_come_with_their_own_time(opened: Open) -> None:
    with serving(rows_by_metric(healthy)) as server:
        before = time.time()
        result = read(opened(server), started=5.0)
        queries = sorted(parse_qs(urlsplit(path).query)["query"][0] for path in server.requests)
    assert isinstance(result, Reading)
    assert result.counts == {"orders": 30, "requests": 120}
    assert (result.pod, result.started) == ("shop/pod-1/5.000", 5.0)
    assert before - 0.5 <= result.at <= time.time() - 0.3
    assert queries == [
        'http_requests_total{namespace=~"shop"}[4000ms]',
        'orders_completed_total{namespace=~"shop"}[4000ms]',
    ]


def test_all_runs_of_one_moment_share_one_query_for_each_metric(opened: Open) -> None:
    with serving(rows_by_metric(healthy)) as server:
        source = PrometheusSource(PrometheusSettings(server.url, every_seconds=60.0), WallClock())
        for _ in range(20):
            assert isinstance(read(source), Reading)
        threads = [threading.Thread(target=read, args=(source,)) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        source.close()
        assert (server.connections, len(server.requests)) == (1, 2)


def test_twenty_looks_one_after_another_use_one_connection(opened: Open) -> None:
    with serving(rows_by_metric(healthy)) as server:
        source = PrometheusSource(PrometheusSettings(server.url, every_seconds=0.001), WallClock())
        for _ in range(20):
            read(source)
        source.close()
        assert (server.connections, len(server.requests)) == (1, 40)


def test_a_dead_server_is_asked_once_for_all_runs(opened: Open) -> None:
    with serving(lambda handler: handler.send(b"", "503 Service Unavailable")) as server:
        source = PrometheusSource(PrometheusSettings(server.url, every_seconds=60.0), WallClock())
        assert {reason(read(source)) for _ in range(10)} == {MissingReason.UNAVAILABLE}
        source.close()
        assert len(server.requests) == 2


def test_namespaces_are_asked_for_together_and_a_new_one_at_once(opened: Open) -> None:
    def two(now: float) -> list[dict[str, Any]]:
        other = [
            {**one, "metric": {**one["metric"], "namespace": "pay", "pod": "pod-9"}} for one in healthy(now)
        ]
        return [*healthy(now), *other]

    with serving(rows_by_metric(two)) as server:
        source = PrometheusSource(PrometheusSettings(server.url, every_seconds=60.0), WallClock())
        read(source)
        second = read(source, name="pod-9", namespace="pay")
        assert isinstance(second, Reading)
        assert second.counts == {"orders": 30, "requests": 120}
        source.close()
        assert 'namespace=~"pay"' in parse_qs(urlsplit(server.requests[-1]).query)["query"][0]


def test_a_namespace_that_is_too_large_costs_its_own_runs_alone(opened: Open) -> None:
    def answer(handler: FaultHandler) -> None:
        asked = parse_qs(urlsplit(handler.server.requests[-1]).query)
        query, now = asked["query"][0], float(asked["time"][0])
        if "huge" in query:
            return handler.send(b" " * (MAX_BODY_BYTES + 1))
        found = [one for one in healthy(now) if one["metric"]["__name__"] == query.split("{")[0]]
        return handler.send(matrix(found))

    with serving(answer) as server:
        targets = [target(), target(namespace="huge"), *(target(namespace=f"n-{each}") for each in range(6))]
        results = opened(server).read(targets, SPECS, within_seconds=20)
    assert isinstance(results["shop/pod-1"], Reading)
    assert reason(results["huge/pod-1"]) is MissingReason.TOO_LARGE
    assert reason(results["n-3/pod-1"]) is MissingReason.ABSENT


def test_a_query_that_would_be_too_long_is_cut_in_shards(opened: Open) -> None:
    names = [f"namespace-{index:04d}-{'x' * 40}" for index in range(300)]
    with serving(lambda handler: handler.send(matrix([]))) as server:
        source = PrometheusSource(PrometheusSettings(server.url, every_seconds=60.0), WallClock())
        targets = [target(namespace=name) for name in names]
        results = source.read(targets, {"orders": SPECS["orders"]}, within_seconds=5)
        source.close()
        queries = [parse_qs(urlsplit(path).query)["query"][0] for path in server.requests]
    assert len(queries) > 1
    assert all(len(query) <= MAX_QUERY_BYTES for query in queries)
    assert all(any(name in query for query in queries) for name in names)
    assert {reason(result) for result in results.values()} == {MissingReason.ABSENT}


def test_a_slow_server_is_given_up_at_the_limit(opened: Open) -> None:
    with serving(FaultHandler.hang) as server:
        begun = time.monotonic()
        assert reason(read(opened(server), within=0.3)) is MissingReason.TIMED_OUT
        assert time.monotonic() - begun < 2


def test_a_slow_body_is_cut_at_the_deadline(opened: Open) -> None:
    def drip(handler: FaultHandler) -> None:
        body = matrix([])
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        handler.drip(body, 0.1)

    with serving(drip) as server:
        begun = time.monotonic()
        assert reason(read(opened(server), within=0.4)) is MissingReason.TIMED_OUT
        assert time.monotonic() - begun < 2


def test_an_endless_body_is_cut_at_its_bound(opened: Open) -> None:
    def endless(handler: FaultHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(1024):
            handler.wfile.write(b" " * 1048576)

    with serving(endless) as server:
        assert reason(read(opened(server), within=10)) is MissingReason.TOO_LARGE


def test_a_small_body_that_unpacks_to_a_large_one_is_cut_too(opened: Open) -> None:
    bomb = gzip.compress(b" " * 64 * 1048576)
    with serving(lambda handler: handler.send(bomb, Content_Encoding="gzip")) as server:
        assert reason(read(opened(server), within=10)) is MissingReason.TOO_LARGE


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
def test_a_query_that_the_server_refuses_is_the_policys_fault(opened: Open, status: str) -> None:
    body = b'{"status":"error","errorType":"bad_data","error":"unknown function"}'
    with serving(lambda handler: handler.send(body, status)) as server, pytest.raises(RefusedError) as caught:
        read(opened(server))
    assert isinstance(caught.value, QueryInvalidError)
    assert "unknown function" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("401 Unauthorized", MissingReason.UNAUTHORISED),
        ("403 Forbidden", MissingReason.UNAUTHORISED),
        ("429 Too Many Requests", MissingReason.UNAVAILABLE),
        ("500 Internal Server Error", MissingReason.UNAVAILABLE),
        ("503 Service Unavailable", MissingReason.UNAVAILABLE),
        ("404 Not Found", MissingReason.MALFORMED),
        ("204 No Content", MissingReason.MALFORMED),
    ],
)
def test_each_status_has_its_class_and_the_answer_is_quoted(
    opened: Open, status: str, expected: MissingReason
) -> None:
    with serving(lambda handler: handler.send(b"try later", status)) as server:
        result = read(opened(server))
    assert reason(result) is expected
    if expected is MissingReason.UNAVAILABLE:
        assert isinstance(result, Missing)
        assert "try later" in result.detail


MALFORMED = {
    "html": b"<html>login</html>",
    "half": matrix([])[:-10],
    "null": b"null",
    "error": b'{"status":"error","error":"boom"}',
    "data null": b'{"status":"success","data":null}',
    "no result": b'{"status":"success","data":{"resultType":"matrix","result":null}}',
    "scalar": b'{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}',
    "vector": b'{"status":"success","data":{"resultType":"vector","result":[]}}',
    "rows of another kind": b'{"status":"success","data":{"resultType":"matrix","result":[7]}}',
    "no labels": b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[]}]}}',
    "no number": matrix([row("orders_completed_total", [(1.0, "many")])]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_an_answer_of_another_shape_is_malformed(opened: Open, name: str) -> None:
    with serving(lambda handler: handler.send(MALFORMED[name])) as server:
        assert reason(read(opened(server))) is MissingReason.MALFORMED


def test_a_warning_makes_the_answer_partial(opened: Open) -> None:
    body = matrix(healthy(time.time()), warnings=["no StoreAPIs matched"])
    with serving(lambda handler: handler.send(body)) as server:
        result = read(opened(server))
    assert reason(result) is MissingReason.PARTIAL


def changed(
    rows: Callable[[float], list[dict[str, Any]]], now: float, at: int, **change: Any
) -> list[dict[str, Any]]:
    found = rows(now)
    found[at] = {**found[at], **change}
    return found


GAPS: dict[str, tuple[Callable[[float], list[dict[str, Any]]], MissingReason]] = {
    "no series": (lambda now: [], MissingReason.ABSENT),
    "no orders": (lambda now: healthy(now)[1:], MissingReason.ABSENT),
    "not a number": (
        lambda now: changed(healthy, now, 0, values=[[now - 0.4, "NaN"]]),
        MissingReason.NOT_FINITE,
    ),
    "infinite": (
        lambda now: changed(healthy, now, 1, values=[[now - 0.4, "+Inf"]]),
        MissingReason.NOT_FINITE,
    ),
    "negative": (lambda now: changed(healthy, now, 0, values=[[now - 0.4, "-3"]]), MissingReason.NEGATIVE),
    "three intervals old": (lambda now: healthy(now - 3.0), MissingReason.STALE),
    "never in one scrape": (
        lambda now: changed(healthy, now, 0, values=[[now - 0.7, "30"]]),
        MissingReason.STALE,
    ),
    "scraped twice": (
        lambda now: [*healthy(now), row("orders_completed_total", [(now - 0.4, "30")], job="pods-too")],
        MissingReason.DUPLICATE_SERIES,
    ),
    "a series vanished": (
        lambda now: [*healthy(now), row("http_requests_total", [(now - 1.4, "7")], code="404")],
        MissingReason.PARTIAL,
    ),
}


@pytest.mark.parametrize("name", GAPS)
def test_each_gap_has_its_reason(opened: Open, name: str) -> None:
    rows, expected = GAPS[name]
    with serving(rows_by_metric(rows)) as server:
        assert reason(read(opened(server))) is expected


def test_samples_of_a_life_before_this_container_are_not_read(opened: Open) -> None:
    with serving(rows_by_metric(healthy)) as server:
        assert reason(read(opened(server), started=time.time() + 1)) is MissingReason.STALE


def test_a_newest_scrape_that_is_not_whole_yet_gives_way_to_the_one_before(opened: Open) -> None:
    def half(now: float) -> list[dict[str, Any]]:
        return [
            row("orders_completed_total", [(now - 1.4, "29")]),
            row("http_requests_total", [(now - 1.4, "95"), (now - 0.4, "100")]),
        ]

    with serving(rows_by_metric(half)) as server:
        result = read(opened(server))
    assert isinstance(result, Reading)
    assert result.counts == {"orders": 29, "requests": 95}


def test_a_token_is_read_again_for_every_request(opened: Open, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n", encoding="utf-8")
    with serving(rows_by_metric(healthy)) as server:
        source = PrometheusSource(
            PrometheusSettings(server.url, every_seconds=0.001, token_file=str(token)), WallClock()
        )
        read(source)
        token.write_text("second\n", encoding="utf-8")
        read(source)
        source.close()
        assert "Authorization: Bearer first" in server.heads[0]
        assert "Authorization: Bearer second" in server.heads[-1]


def test_a_token_that_cannot_be_read_is_named(opened: Open, tmp_path: Path) -> None:
    with serving(rows_by_metric(healthy)) as server:
        result = read(opened(server, token_file=str(tmp_path / "none")))
        assert server.requests == []
    assert reason(result) is MissingReason.UNAUTHORISED


def test_proxies_and_netrc_are_ignored(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(rows_by_metric(healthy)) as server, serving(rows_by_metric(healthy)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert isinstance(read(opened(server)), Reading)
        assert proxy.requests == []
        assert "Authorization" not in server.heads[0]


def test_a_redirect_is_not_followed_and_carries_no_token_away(opened: Open, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret", encoding="utf-8")
    with serving(rows_by_metric(healthy)) as elsewhere:
        location = f"{elsewhere.url}/api/v1/query"
        with serving(lambda handler: handler.send(b"", "302 Found", Location=location)) as server:
            assert reason(read(opened(server, token_file=str(token)))) is MissingReason.MALFORMED
        assert elsewhere.requests == []


def test_a_server_that_is_not_there_is_unavailable(opened: Open) -> None:
    with serving(rows_by_metric(healthy)) as server:
        pass
    assert reason(read(opened(server))) is MissingReason.UNAVAILABLE


def test_the_server_is_told_how_long_it_may_take(opened: Open) -> None:
    with serving(rows_by_metric(healthy)) as server:
        read(opened(server), within=1.5)
        asked = parse_qs(urlsplit(server.requests[0]).query)
    assert 1000 <= int(asked["timeout"][0].removesuffix("ms")) <= 1500


def test_it_is_asked_with_the_token_and_the_authority_that_were_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PROMETHEUS_SECRET", tmp_path)
    certificate, key = make_certificate(tmp_path, "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    (tmp_path / "token").write_text("a-token\n", encoding="utf-8")
    with serving(rows_by_metric(healthy)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        source = run.open_prometheus(server.url.replace("http:", "https:"), 5.0, WallClock())
        assert isinstance(source, PrometheusSource)
        assert isinstance(read(source), Reading)
        source.close()
        assert "Authorization: Bearer a-token" in server.heads[0]
