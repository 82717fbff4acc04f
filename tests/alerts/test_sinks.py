"""The built-in sinks keep the contract of sinks, against a receiver on loopback with faults to order."""

import hashlib
import hmac
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
from conftest import require_program

from canary.alerts.alertmanager import Alertmanager, alerts
from canary.alerts.posting import Poster, TimeLimits, retry_after
from canary.alerts.sink import Couriers, Outcome, Page, Sink, SinkConfig, deliver, page_of
from canary.alerts.sinks import open_sinks, subscriptions
from canary.alerts.webhook import Webhook, cloud_event, signature
from canary.api.reasons import Opening
from canary.api.run import Notice
from canary.clock import WallClock
from canary.errors import RefusedError, UnavailableError
from canary.lab.clock import SimClock
from canary.lab.contracts.receiver import Answer, Received, Receiver
from canary.lab.contracts.sink import PAGE, SINK_CHECKS, Bench, Check

NOW = datetime(2026, 3, 5, 3, 13, tzinfo=UTC)
PROMOTED = replace(PAGE, opening=Opening.NONE, reason="Promoted")
QUICK = TimeLimits(connect=0.5, read=0.3, reply=0.5)


def config(kind: str, *urls: str, **changes: Any) -> SinkConfig:
    return SinkConfig(name=kind, kind=kind, urls=urls, **changes)


def webhook(url: str, **changes: Any) -> Webhook:
    return Webhook(config("webhook", url, **changes), SimClock(NOW), Poster(QUICK))


def alertmanager(*urls: str) -> Alertmanager:
    return Alertmanager(config("alertmanager", *urls), SimClock(NOW), Poster(QUICK))


def burning(received: Received) -> dict[str, Any]:
    posted: list[dict[str, Any]] = json.loads(received.body)
    (alert,) = [alert for alert in posted if alert["endsAt"] > "2026-03-05T03:13:00.000000Z"]
    return alert


BENCHES = {
    "webhook": Bench(webhook, lambda received: json.loads(received.body)["data"]["key"]),
    "alertmanager": Bench(alertmanager, lambda received: burning(received)["labels"]["incident"]),
}


@pytest.mark.parametrize("check", SINK_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("bench", BENCHES.values(), ids=BENCHES.keys())
def test_sink_contract(bench: Bench, check: Check) -> None:
    check(bench)


class Careless:
    """A sink that breaks every promise: the contract must find it out."""

    name = "careless"
    repeat_seconds = 0.0

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, page: Page) -> None:
        try:
            reply = urllib3.request("POST", self._url, body=f"{time.monotonic()}", timeout=0.5, retries=False)
        except urllib3.exceptions.HTTPError as error:
            raise RefusedError(f"{self._url}: {error}") from error
        if reply.status == 400:
            raise UnavailableError(f"{self._url}: {reply.data.decode()}")
        if reply.status == 429:
            raise UnavailableError("later")
        if reply.status == 503:
            raise RefusedError("no")


def test_the_contract_finds_a_careless_sink_out() -> None:
    def fails(check: Check, incident_of: Callable[[Received], Hashable]) -> bool:
        try:
            check(Bench(Careless, incident_of))
        except AssertionError:
            return True
        return False

    bodies = [check.__name__ for check in SINK_CHECKS if not fails(check, lambda received: received.body)]
    assert bodies == []


# -- webhook -------------------------------------------------------------------------------------------------------


def test_a_webhook_event_is_a_cloud_event_that_never_changes() -> None:
    event = cloud_event(PAGE)
    assert {"specversion", "id", "source", "type", "subject", "time", "data"} <= event.keys()
    assert event["specversion"] == "1.0"
    assert event["id"] == PAGE.id
    assert event["time"] == "2026-03-05T03:12:21.000000Z"
    assert event["data"]["severity"] == "error"
    assert event == cloud_event(PAGE)
    assert " " not in cloud_event(replace(PAGE, incident=replace(PAGE.incident, cluster="a b/c")))["source"]


def test_a_webhook_signs_time_and_body_and_follows_a_rotated_secret(tmp_path: Path) -> None:
    secret_file = tmp_path / "secret"
    with Receiver() as receiver:
        sink = webhook(receiver.url, secret_file=secret_file)
        for secret in (b"first", b"second"):
            secret_file.write_bytes(secret + b"\n")
            sink.send(PAGE)
            post = receiver.received[-1]
            stamp = post.headers["Canary-Timestamp"]
            assert stamp == str(int(NOW.timestamp()))
            mac = hmac.new(secret, f"{stamp}.".encode() + post.body, hashlib.sha256).hexdigest()
            assert post.headers["Canary-Signature"] == f"v1={mac}"
            assert post.headers["Content-Type"].startswith("application/cloudevents+json")
        assert receiver.received[0].body == receiver.received[1].body
    assert signature(b"k", "1", b"a") != signature(b"k", "2", b"a")


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_a_webhook_without_its_secret_sends_nothing_unsigned(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with Receiver() as receiver:
        outcome = deliver(webhook(receiver.url, secret_file=tmp_path / "secret"), PAGE)
    assert outcome.error
    assert not outcome.refused
    assert receiver.received == []


def test_hostile_words_arrive_as_words() -> None:
    hostile = replace(
        PAGE, title='</script>"><img onerror=x> <!channel> @here ]]> `rm`', body="=cmd|' /C calc'!A0"
    )
    with Receiver() as receiver:
        webhook(receiver.url).send(hostile)
        alertmanager(receiver.url).send(hostile)
    assert json.loads(receiver.received[0].body)["data"]["title"] == hostile.title
    assert burning(receiver.received[1])["annotations"]["description"] == hostile.body


# -- alertmanager --------------------------------------------------------------------------------------------------


def test_one_alert_of_a_run_burns_and_the_others_end() -> None:
    posted = alerts(replace(PAGE, opening=Opening.ACTION_NEEDED), NOW)
    assert [(alert["labels"]["severity"], alert["endsAt"]) for alert in posted] == [
        ("critical", "2026-03-05T03:17:00.000000Z"),
        ("error", "2026-03-05T03:13:00.000000Z"),
        ("warning", "2026-03-05T03:13:00.000000Z"),
    ]
    assert all("22" not in alert["labels"].values() for alert in posted)
    assert posted[0]["annotations"]["lost"] == "22"
    assert {alert["endsAt"] for alert in alerts(replace(PAGE, opening=Opening.NONE), NOW)} == {
        posted[1]["endsAt"]
    }


def test_every_replica_is_told_and_one_that_took_it_is_enough() -> None:
    with Receiver() as first, Receiver(Answer(500)) as second, Receiver(Answer(hang=True)) as third:
        outcome = deliver(alertmanager(second.url, third.url, first.url + "/"), PAGE)
        assert outcome.acknowledged
        assert [len(replica.received) for replica in (first, second, third)] == [1, 1, 1]
        assert first.received[0].path == "/api/v2/alerts"


def test_replicas_that_all_fail_are_asked_again_if_any_may_come_back() -> None:
    with Receiver(Answer(400)) as broken, Receiver(Answer(429, {"Retry-After": "9"})) as busy:
        mixed = deliver(alertmanager(broken.url, busy.url), PAGE)
        hopeless = deliver(alertmanager(broken.url), PAGE)
    assert (mixed.refused, mixed.retry_after_seconds) == (False, 9.0)
    assert hopeless.refused


@pytest.fixture
def real_alertmanager(tmp_path: Path) -> Iterator[str]:
    program = require_program("prometheus-alertmanager")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (tmp_path / "am.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    command = [
        program,
        f"--config.file={tmp_path}/am.yml",
        f"--storage.path={tmp_path}/data",
        "--cluster.listen-address=",
    ]
    process = subprocess.Popen(
        [*command, f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: urllib3.request("GET", f"http://{address}/-/ready", retries=False).status == 200)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        try:
            if holds():
                return
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(0.05)
    pytest.fail("it never came to hold")


def active(url: str) -> list[tuple[str, str]]:
    found = urllib3.request("GET", f"{url}/api/v2/alerts?active=true", retries=False).json()
    return sorted((alert["labels"]["run"], alert["labels"]["severity"]) for alert in found)


def test_a_real_alertmanager_shows_one_alert_a_run_updated_in_place(real_alertmanager: str) -> None:
    sink = Alertmanager(config("alertmanager", real_alertmanager), WallClock(), Poster())
    call = replace(
        PAGE, opening=Opening.ACTION_NEEDED, title="ACTION NEEDED - rollback not verified for 2 min"
    )
    other = replace(PAGE, incident=replace(PAGE.incident, run="ledger-1", run_uid="77aa"))
    for page in (call, call, other):
        sink.send(page)
    assert active(real_alertmanager) == [("checkout-7f9c2", "critical"), ("ledger-1", "error")]
    sink.send(PAGE)
    assert active(real_alertmanager) == [("checkout-7f9c2", "error"), ("ledger-1", "error")]
    shown = urllib3.request("GET", f"{real_alertmanager}/api/v2/alerts", retries=False).json()
    assert {alert["annotations"]["summary"] for alert in shown} == {PAGE.title}
    sink.send(PROMOTED)
    assert active(real_alertmanager) == [("ledger-1", "error")]


# -- opening and carrying ------------------------------------------------------------------------------------------


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy, Receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setitem(os.environ, name, proxy.url)
        assert deliver(webhook(receiver.url), PAGE).acknowledged
        assert (len(receiver.received), len(proxy.received)) == (1, 0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0.0), ("", 0.0), ("120", 120.0), ("-5", 0.0), ("soon", 0.0), ("9" * 400, 999_999_999.0)],
)
def test_a_wait_is_read_as_far_as_it_can_be(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_a_wait_may_be_a_moment() -> None:
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    assert retry_after("Fri, 31 Dec 2100 23:59:59 GMT") > 3600


@pytest.mark.parametrize(
    "url", ["", "slack", "ftp://x/", "http://", "https://x:99999/", "http://[", "file:///etc/passwd"]
)
@pytest.mark.parametrize("kind", ["webhook", "alertmanager"])
def test_an_address_that_cannot_be_posted_to_is_refused_at_the_start(kind: str, url: str) -> None:
    with pytest.raises(RefusedError):
        open_sinks([config(kind, url)], WallClock())


def test_sinks_are_opened_by_kind_and_a_wrong_kind_names_the_known_ones() -> None:
    sinks = open_sinks(
        [config("webhook", "http://h/"), config("alertmanager", "http://a", "http://b")], WallClock()
    )
    assert {name: sink.repeat_seconds for name, sink in sinks.items()} == {
        "webhook": 0.0,
        "alertmanager": 60.0,
    }
    with pytest.raises(RefusedError, match="known are alertmanager, webhook"):
        open_sinks([config("pigeon", "http://h/")], WallClock())
    with pytest.raises(RefusedError, match="two sinks"):
        open_sinks([config("webhook", "http://h/")] * 2, WallClock())


def test_a_policy_names_its_sinks_and_a_typing_error_keeps_nothing_from_people() -> None:
    configs = [config("webhook", "http://h/"), config("alertmanager", "http://a")]
    sinks = open_sinks(configs, WallClock())

    def names(*wanted: str) -> list[str]:
        return [subscription.name for subscription in subscriptions(sinks, wanted)]

    assert names() == ["webhook", "alertmanager"]
    assert names("alertmanager") == ["alertmanager"]
    assert names("webhoook", "alertmanager") == ["webhoook", "alertmanager"]
    assert names("webhoook") == ["webhoook", "webhook", "alertmanager"]


def collected(couriers: Couriers, count: int) -> dict[str, Outcome]:
    receipts: dict[str, Outcome] = {}

    def arrived() -> bool:
        receipts.update({receipt.sink: receipt.outcome for receipt in couriers.collect()})
        return len(receipts) == count

    eventually(arrived)
    return receipts


def test_a_sink_that_hangs_or_breaks_holds_up_no_other() -> None:
    class Broken:
        name, repeat_seconds = "broken", 0.0

        def send(self, page: Page) -> None:
            raise KeyError("forgotten")

    with Receiver(Answer(hang=True)) as hanging, Receiver() as well:
        slow = Webhook(config("webhook", hanging.url), SimClock(NOW), Poster(replace(QUICK, read=30.0)))
        sinks: dict[str, Sink] = {"slow": slow, "broken": Broken(), "well": webhook(well.url)}
        couriers = Couriers(sinks)
        assert [couriers.hand_over(name, PAGE) for name in ("slow", "broken", "well", "nobody")] == [True] * 4
        assert not couriers.hand_over("slow", PAGE)
        receipts = collected(couriers, 3)
        couriers.close()
    assert receipts["well"].acknowledged
    assert "KeyError" in receipts["broken"].error
    assert not receipts["broken"].refused
    assert receipts["nobody"].refused


def test_a_stored_notice_becomes_its_page() -> None:
    stored = Notice(
        id="u/s", opening="CUSTOMERS SAFE", reason="RolledBack", title="t", body="b", created_at=NOW
    )
    page = page_of(stored, PAGE.incident)
    assert (page.opening, page.incident.key) == (Opening.CUSTOMERS_SAFE, "canary:prod-us:shop/checkout:6f0b")
    assert (
        page_of(stored.model_copy(update={"opening": "EVACUATE"}), PAGE.incident).opening
        is Opening.ACTION_NEEDED
    )
