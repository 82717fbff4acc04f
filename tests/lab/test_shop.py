"""The shop over real HTTP: customers, pods and gateway agree on what happened, and bugs do what they are named for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop_street import Street, samples, street

import canary
from canary.clock import WallClock
from canary.core.detect.counters import CountersState, Reading, fold
from canary.lab.shop.customers import version_of
from canary.lab.shop.wire import Message
from canary.metrics.scrape import ScrapeSource
from canary.metrics.source import CounterSpec, PodTarget


@pytest.mark.parametrize("name", ["X-Shop-Version", "x-shop-version"])
def test_customers_know_who_answered_however_a_gateway_writes_the_header(name: str) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{name}: v2.31.0-RC\r\nserver: envoy\r\n\r\n"
    assert version_of(Message(head.encode(), b"")) == "v2.31.0-RC"
    assert version_of(Message(b"HTTP/1.1 503 Gone\r\n\r\n", b"")) == ""


@pytest.fixture
def shop() -> Iterator[Street]:
    with street() as opened:
        yield opened


def scrape(shop: Street, uid: str) -> dict[str, float]:
    specs = {
        "orders": CounterSpec("orders_completed_total"),
        "requests": CounterSpec("http_requests_total"),
        "errors": CounterSpec("http_requests_total", (("code", "5.."),)),
        "slow": CounterSpec("http_request_duration_seconds", (), 0.5),
        "late": CounterSpec("delivery_promise_days_over_10_total"),
    }
    target = PodTarget(uid, uid, "shop", shop.ips[uid], shop.port, "/metrics", True, 0.0)
    source = ScrapeSource(WallClock())
    try:
        reading = source.read([target], specs, within_seconds=5)[uid]
    finally:
        source.close()
    assert isinstance(reading, Reading), reading
    return dict(reading.counts)


def test_customers_and_pods_agree_on_every_request_of_a_collapse(shop: Street) -> None:
    shop.pod("stable-1", "v1")
    shop.pod("stable-2", "v1")
    shop.pod("canary-1", "v2", "order-collapse")
    shop.route(200_000, [shop.ips["stable-1"], shop.ips["stable-2"]], [shop.ips["canary-1"]])
    met, truth = shop.shop(1.0), shop.truth()
    by_version, canary = met["by_version"], truth["canary-1"]
    # Whatever the machine could carry, both books agree to the request.
    assert met["total"]["broken"] == 0
    assert by_version["v2"]["requests"] == canary["requests"] > 50
    assert by_version["v1"]["requests"] == sum(truth[uid]["requests"] for uid in ("stable-1", "stable-2"))
    assert by_version["v2"]["wanted"] - by_version["v2"]["placed"] == canary["missing"] > 0
    assert by_version["v1"]["wanted"] == by_version["v1"]["placed"]
    # And the bug is silent: as many orders as it left, and not an error more.
    assert scrape(shop, "canary-1")["orders"] == canary["orders"] < 0.1 * canary["wanted"]
    assert by_version["v2"]["failed"] <= 3
    assert canary["first_request_at"] <= canary["first_lost_at"] <= canary["last_lost_at"]


def test_the_split_is_the_weight_for_any_number_of_customers(shop: Street) -> None:
    shop.pod("stable-1", "v1")
    shop.pod("canary-1", "v2")
    shop.route(50_000, [shop.ips["stable-1"]], [shop.ips["canary-1"]])
    by_version = shop.shop(0.8, rate=1500)["by_version"]
    total = sum(met["requests"] for met in by_version.values())
    sigma = (total * 0.05 * 0.95) ** 0.5
    assert total > 100
    assert abs(by_version["v2"]["requests"] - 0.05 * total) < 5 * sigma


@pytest.mark.parametrize(
    ("fault", "count", "least", "most"),
    [("error-burst", "errors", 0.1, 0.3), ("slow", "slow", 0.3, 0.7), ("none", "slow", 0.0, 0.05)],
)
def test_a_bug_shows_in_the_count_that_it_is_named_for(
    shop: Street, fault: str, count: str, least: float, most: float
) -> None:
    shop.pod("canary-1", "v2", fault)
    shop.route(1_000_000, [], [shop.ips["canary-1"]])
    shop.shop(0.4, rate=500)
    counts = scrape(shop, "canary-1")
    assert least <= counts[count] / counts["requests"] <= most


def test_late_promises_are_orders_all_the_same(shop: Street) -> None:
    shop.pod("canary-1", "v2", "late-promises")
    shop.route(1_000_000, [], [shop.ips["canary-1"]])
    met = shop.shop(0.4, rate=600)
    counts = scrape(shop, "canary-1")
    assert counts["orders"] == met["total"]["placed"] == met["total"]["wanted"]
    assert counts["late"] / counts["orders"] == pytest.approx(0.9, abs=0.15)


def test_a_crash_loop_ends_the_listener_and_says_so(shop: Street) -> None:
    shop.pod("canary-1", "v2", "crash-loop")
    assert shop.get("/healthz", shop.port, shop.ips["canary-1"]) == (200, b"{}")
    assert shop.box.wait("crashed")["uid"] == "canary-1"
    with pytest.raises(OSError):
        shop.get("/healthz", shop.port, shop.ips["canary-1"])


def test_a_stopped_pod_serves_on_for_its_grace_and_is_not_ready(shop: Street) -> None:
    ip = shop.pod("stable-1", "v1")
    assert shop.get("/readyz", shop.port, ip)[0] == 200
    shop.children["server"].send({"do": "stop", "uid": "stable-1", "grace": 0.5})
    deadline = time.monotonic() + 5
    while shop.get("/readyz", shop.port, ip)[0] == 200:
        assert time.monotonic() < deadline
    shop.box.wait("stopped")
    with pytest.raises(OSError):
        shop.get("/healthz", shop.port, ip)


def test_a_taken_address_is_passed_over(shop: Street) -> None:
    first, second = shop.pod("a", "v1"), shop.pod("b", "v1")
    assert first != second
    shop.children["server"].send(
        {"do": "start", "uid": "c", "version": "v1", "ip": first, "ports": [shop.port], "seed": 1}
        | {"fault": "none", "drop": None, "after": 0}
    )
    assert shop.box.wait("failed")["uid"] == "c"


def test_metrics_are_those_of_any_instrumented_shop(shop: Street) -> None:
    ip = shop.pod("stable-1", "v1")
    text = shop.get("/metrics", shop.port, ip)[1].decode()
    assert samples(text, "http_requests_total", "code") == {"200": 0, "500": 0}
    assert samples(text, "orders_completed_total", "") == {"": 0}
    assert abs(samples(text, "process_start_time_seconds", "")[""] - time.time()) < 60


def test_no_child_outlives_a_parent_that_was_killed() -> None:
    program = (
        "import sys, time; from canary.lab.shop.child import Child\n"
        "children = [Child(f'canary.lab.shop.{name}', print) for name in ('server', 'gateway', 'customers')]\n"
        "print(*(child.pid for child in children), flush=True); time.sleep(60)"
    )
    root = str(Path(canary.__file__).parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline, [pid for pid in pids if running(pid)]
        time.sleep(0.05)


def running(pid: int) -> bool:
    """Tell whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_looks_through_restarts_count_no_order_twice_and_invent_none(shop: Street) -> None:
    specs = {
        "orders": CounterSpec("orders_completed_total"),
        "requests": CounterSpec("http_requests_total"),
    }
    ip = shop.pod("canary-1", "v2")
    shop.route(1_000_000, [], [ip])
    shop.start_shopping(rate=400)
    target = PodTarget("canary-1", "canary-1", "shop", ip, shop.port, "/metrics", True, 0.0)
    source = ScrapeSource(WallClock())
    state, orders, requests, resets = CountersState(), 0.0, 0.0, 0
    for look in range(30):
        time.sleep(0.05)
        if look in (9, 18):
            shop.children["server"].send({"do": "stop", "uid": "canary-1", "grace": 0.0})
            shop.start_pod("canary-1", "v2", ip=ip)
        result = source.read([target], specs, within_seconds=0.25)["canary-1"]
        folded = fold(state, [result] if isinstance(result, Reading) else [], {target.key: True})
        state, resets = folded.state, resets + folded.reset
        orders += folded.canary.orders or 0
        requests += folded.canary.requests or 0
    source.close()
    met, truth = shop.finish(), shop.truth()["canary-1"]
    assert resets == 2
    assert 0.5 * truth["orders"] < orders <= truth["orders"]
    assert met["total"]["placed"] <= truth["orders"]
    assert 0.5 * truth["requests"] < requests <= truth["requests"]
