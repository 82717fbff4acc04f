"""The reflector against a server that dies, refuses, breaks off, falls silent or forgets: few attempts, no event lost.

Waits are a tenth of the product's. The counts are upper bounds that follow from the least possible waits, so a slow
machine cannot break them.
"""

import time
from contextlib import contextmanager
from random import Random

import pytest
from fault_server import Answer, a_policy, connected, event, serving, status, until

from canary.clock import WallClock
from canary.errors import UnavailableError
from canary.kube.cache import What
from canary.kube.client import Client, Intent
from canary.kube.http_transport import Limits, from_kubeconfig
from canary.kube.resources import CANARYPOLICIES, CRDS, Key, Resource, Selection
from canary.kube.watch import Options, Pace, Reflector
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.serving import HttpServer
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock

PACE = Pace(watch_seconds=5, healthy_seconds=0.5, first_wait_seconds=0.05, longest_wait_seconds=3.0)
TENTH = 0.1  # of a second of the product


@contextmanager
def reflecting(server, tmp_path, pace=PACE, limits=None):
    """Run a reflector against the server; what it tells is in `reflector.told`."""
    told = []
    client = Client(connected(server, tmp_path, limits or Limits(stream_grace_seconds=15)))
    options = Options(pace=pace, random=Random(7))
    selection = Selection(CANARYPOLICIES)
    reflector = Reflector(client, selection, told.append, clock=WallClock(), options=options)
    reflector.told = told
    reflector.start()
    try:
        yield reflector
    finally:
        reflector.stop()


def names(reflector):
    return [obj["metadata"]["name"] for obj in reflector.list()]


def test_a_dead_server_leaves_the_cache_as_it_was_and_it_catches_up_when_it_is_back(tmp_path):
    with serving() as server:
        server.objects = [a_policy("checkout")]
        with reflecting(server, tmp_path) as reflector:
            assert until(lambda: server.count("watch") == 1)
            server.kill()
            assert until(lambda: "refused" in reflector.trouble)
            assert names(reflector) == ["checkout"]
            news = Answer(parts=(event("MODIFIED", a_policy("checkout", 20)),), stay=9)
            server.script = lambda seen: news if seen.kind == "watch" else None
            server.revive()
            assert until(
                lambda: reflector.get(Key("shop", "checkout"))["metadata"]["resourceVersion"] == "20"
            )
        assert [change.what for change in reflector.told] == [What.ADDED, What.CHANGED]
        assert server.seen[-1].query["resourceVersion"] == "10"


class Attempts:
    """A transport in front of a dead address that counts what is tried."""

    def __init__(self):
        self.count = 0

    def request(self, method, path, *, query, body, content_type):
        self.count += 1
        raise UnavailableError("connection refused")

    def stream(self, path, query):
        raise AssertionError("nothing was listed")


def test_attempts_at_a_dead_server_grow_apart():
    attempts = Attempts()
    options = Options(pace=PACE, random=Random(7))
    reflector = Reflector(
        Client(attempts), Selection(CANARYPOLICIES), print, clock=WallClock(), options=options
    )
    reflector.start()
    time.sleep(8 * TENTH)
    reflector.stop()
    assert 2 <= attempts.count <= 6
    assert reflector.last_contact_age() == float("inf")
    assert not reflector.synced


@pytest.mark.parametrize("code", [500, 403])
def test_a_refused_watch_is_retried_seldom(tmp_path, code):
    with serving(lambda seen: status(code) if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path):
            time.sleep(4 * TENTH)
        assert 2 <= server.count("watch") <= 5


def test_a_watch_that_closes_at_once_is_opened_seldom(tmp_path):
    with serving(lambda seen: Answer(parts=()) if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path):
            time.sleep(4 * TENTH)
        assert 2 <= server.count("watch") <= 5
        assert server.count("list") == 1


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


@pytest.mark.parametrize(
    "gone", [Answer(parts=(event("ERROR", GONE),) * 2), status(410, "Expired")], ids=["in-stream", "http"]
)
def test_a_forgotten_version_is_listed_anew_and_tells_nothing_twice(tmp_path, gone):
    with serving(lambda seen: gone if seen.kind == "watch" else None) as server:
        server.objects = [a_policy("a"), a_policy("b"), a_policy("c")]
        with reflecting(server, tmp_path) as reflector:
            time.sleep(4 * TENTH)
            stopped = time.monotonic()
            reflector.stop()
            assert time.monotonic() - stopped < 2
        assert 2 <= server.count("watch") <= 5
        assert 2 <= server.count("list") <= 5
        assert [change.what for change in reflector.told] == [What.ADDED] * 3


def test_half_a_line_ends_the_watch_and_the_next_one_goes_on_from_the_last_whole_event(tmp_path):
    whole, half = event("ADDED", a_policy("checkout", 11)), b'{"type": "ADDED", "obj'
    with serving(lambda seen: Answer(parts=(whole, half)) if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path) as reflector:
            time.sleep(3 * TENTH)
        watches = [seen.query["resourceVersion"] for seen in server.seen if seen.kind == "watch"]
        assert watches[0] == "10"
        assert set(watches[1:]) == {"11"}
        assert 2 <= len(watches) <= 5
        assert len(reflector.told) == 1


def test_an_unreadable_event_is_counted_and_the_next_one_is_delivered_by_the_same_watch(tmp_path):
    parts = (
        event("ADDED", {"kind": "CanaryPolicy", "metadata": {"resourceVersion": "11"}}),
        event("ADDED", a_policy("odd", 12, colour="red")),
        event("SOMETHING", a_policy("new-kind-of-event", 13)),
        event("ADDED", a_policy("good", 14)),
    )

    with serving(lambda seen: Answer(parts=parts, stay=9) if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path) as reflector:
            assert until(lambda: len(reflector.told) == 2)
        assert names(reflector) == ["good", "odd"]
        assert reflector.unreadable_total == 1
        assert server.count("watch") == 1


def test_an_unreadable_object_of_a_list_is_counted_and_the_others_are_kept(tmp_path):
    with serving() as server:
        server.objects = [{}, {"metadata": None}, {"metadata": "x"}, a_policy("good")]
        with reflecting(server, tmp_path) as reflector:
            assert reflector.wait_synced(8)
        assert names(reflector) == ["good"]
        assert reflector.unreadable_total == 3


def test_a_silent_connection_is_given_up_after_its_limit(tmp_path):
    pace = Pace(watch_seconds=1, healthy_seconds=0.1, first_wait_seconds=0.05)
    limits = Limits(stream_grace_seconds=-0.5)  # silent for half a second: shorter than any real limit
    with serving() as server, reflecting(server, tmp_path, pace, limits):
        assert until(lambda: server.count("watch") >= 3)


def test_a_server_that_asks_for_patience_gets_it(tmp_path):
    busy = Answer(429, (b'{"kind": "Status", "code": 429}',), {"Retry-After": "1"})
    with serving(lambda seen: busy if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path):
            assert until(lambda: server.count("watch") == 2)
        first, second = (seen.at for seen in server.seen if seen.kind == "watch")
        assert second - first >= 1.0


def test_a_list_that_is_told_to_wait_waits(tmp_path):
    busy = status(429, "TooManyRequests", retryAfterSeconds=1)
    with serving(lambda seen: busy if len(server.seen) == 1 else None) as server:
        with reflecting(server, tmp_path) as reflector:
            assert reflector.wait_synced(8)
        assert server.seen[1].at - server.seen[0].at >= 1.0


def test_an_object_made_again_while_the_watch_was_down_is_deleted_and_added(tmp_path):
    def script(seen):
        if seen.kind == "list":
            server.objects = [a_policy("checkout", 5 + server.count("list"), f"uid-{server.count('list')}")]
        return status(410) if seen.kind == "watch" and server.count("watch") == 1 else None

    with serving(script) as server, reflecting(server, tmp_path) as reflector:
        assert until(lambda: len(reflector.told) == 3)
        told = [(change.what, change.uid) for change in reflector.told]
    assert told == [(What.ADDED, "uid-1"), (What.DELETED, "uid-1"), (What.ADDED, "uid-2")]


def test_a_stop_ends_a_silent_watch_and_a_long_wait_at_once(tmp_path):
    for script in (None, lambda seen: status(500)):
        with serving(script) as server:
            with reflecting(server, tmp_path, Pace(first_wait_seconds=30)) as reflector:
                assert until(lambda: server.seen != [])
                time.sleep(0.05)
                started = time.monotonic()
                reflector.stop()
                assert time.monotonic() - started < 2
            assert not reflector._thread.is_alive()


def test_bookmarks_move_the_version_from_which_a_watch_goes_on(tmp_path):
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "77"}})
    with serving(lambda seen: Answer(parts=(bookmark,) * 2) if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path) as reflector:
            assert until(lambda: server.count("watch") == 2)
        assert server.seen[-1].query["resourceVersion"] == "77"
        assert server.seen[-1].query["allowWatchBookmarks"] == "true"
        assert reflector.told == []
        assert reflector.last_contact_age() < 60


def test_a_version_that_keeps_failing_is_given_up_for_a_list(tmp_path):
    pace = Pace(first_wait_seconds=0.01, longest_wait_seconds=0.02)
    with serving(lambda seen: status(504) if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path, pace):
            assert until(lambda: server.count("list") == 3)
        kinds = [seen.kind for seen in server.seen]
        assert kinds[:13] == ["list", *["watch"] * 5, "list", *["watch"] * 5, "list"]


def test_an_event_out_of_order_does_not_move_the_watch_back(tmp_path):
    parts = (event("ADDED", a_policy("b", 20)), event("ADDED", a_policy("a", 15)))
    with serving(lambda seen: Answer(parts=parts) if seen.kind == "watch" else None) as server:
        with reflecting(server, tmp_path) as reflector:
            assert until(lambda: server.count("watch") == 2)
        assert server.seen[-1].query["resourceVersion"] == "20"
        assert names(reflector) == ["a", "b"]


def test_an_event_lost_by_the_server_is_found_by_the_next_list(tmp_path):
    pace = Pace(healthy_seconds=0.0, first_wait_seconds=0.02, relist_seconds=0.1)
    script = lambda seen: Answer(parts=()) if seen.kind == "watch" else None  # noqa: E731
    with serving(script) as server, reflecting(server, tmp_path, pace) as reflector:
        assert reflector.wait_synced(8)
        server.objects = [a_policy("checkout", 20)]
        assert until(lambda: names(reflector) == ["checkout"])


WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
ADMIN = User("admin")


@pytest.fixture
def embedded():
    """Return an embedded API server that serves a custom kind."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "kind": "Widget", "singular": "widget"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    server = ApiServer(Store(WallClock()))
    client = Client(InProcessTransport(server, ADMIN))
    client.create(CRDS, {"metadata": {"name": "widgets.example.com"}, "spec": spec}, intent=Intent.NEUTRAL)
    return server


def change_randomly(client, random, count):
    """Create, patch and delete widgets."""
    for number in range(count):
        ref = WIDGETS.at("default", random.choice("abcdef"))
        known = client.get(ref)
        if known is None:
            obj = {"metadata": {"namespace": ref.namespace, "name": ref.name}, "spec": {"n": number}}
            client.create(WIDGETS, obj, intent=Intent.NEUTRAL)
        elif random.random() < 0.3:
            client.delete(ref, uid=known["metadata"]["uid"], intent=Intent.NEUTRAL)
        else:
            client.merge_patch(ref, {"spec": {"n": number}}, intent=Intent.NEUTRAL)


def test_custom_resources_are_listed_and_watched_over_https(embedded, tmp_path):
    http = HttpServer(embedded, {"secret": ADMIN})
    writer = Client(InProcessTransport(embedded, ADMIN))
    change_randomly(writer, Random(1), 20)
    transport = from_kubeconfig(str(http.kubeconfig(tmp_path / "kubeconfig", "secret")))
    told = []
    reflector = Reflector(Client(transport), Selection(WIDGETS), told.append, clock=WallClock())
    reflector.start()
    try:
        assert reflector.wait_synced(8)
        change_randomly(writer, Random(2), 100)
        assert until(lambda: list(reflector.list()) == writer.list(WIDGETS))
        assert reflector.relists_total == 1
        assert {change.resource for change in told} == {WIDGETS}
    finally:
        reflector.stop()
        http.stop()


def test_on_simulated_time_a_poll_takes_what_happened_since(embedded):
    transport = InProcessTransport(embedded, ADMIN, follow=False)
    clock, random = SimClock(), Random(3)
    told = []
    reflector = Reflector(Client(transport, clock=clock), Selection(WIDGETS), told.append, clock=clock)
    for _ in range(20):
        change_randomly(reflector._client, random, 7)
        assert reflector.poll()
        assert list(reflector.list()) == reflector._client.list(WIDGETS)
        clock.sleep(1)
    assert reflector.relists_total == 1
    before = len(told)
    assert reflector.poll()
    assert len(told) == before


def test_a_poll_after_a_forgotten_version_lists_anew(embedded):
    transport = InProcessTransport(embedded, ADMIN, follow=False)
    reflector = Reflector(Client(transport), Selection(WIDGETS), lambda change: None, clock=WallClock())
    assert reflector.poll()
    change_randomly(reflector._client, Random(4), 50)
    embedded.store.history.forget(embedded.store.version)
    assert reflector.poll()
    assert list(reflector.list()) == reflector._client.list(WIDGETS)
    assert reflector.relists_total == 2


def test_objects_of_a_kind_that_was_deleted_are_told_as_deleted(embedded):
    told = []
    transport = InProcessTransport(embedded, ADMIN, follow=False)
    reflector = Reflector(Client(transport), Selection(WIDGETS), told.append, clock=WallClock())
    change_randomly(reflector._client, Random(4), 50)
    assert reflector.poll()
    known = {obj["metadata"]["name"] for obj in reflector.list()}
    assert known
    kind = embedded.store.kinds.named("CustomResourceDefinition")
    embedded.store.delete(kind, ("", f"{WIDGETS.plural}.{WIDGETS.group}"))
    assert not reflector.poll()
    assert list(reflector.list()) == []
    assert {change.key.name for change in told if change.what is What.DELETED} == known


def test_without_the_api_server_a_poll_says_so_and_the_cache_stays():
    clock = SimClock()
    reflector = Reflector(Client(Attempts()), Selection(WIDGETS), lambda change: None, clock=clock)
    assert not reflector.poll()
    assert "refused" in reflector.trouble
    assert not reflector.synced
