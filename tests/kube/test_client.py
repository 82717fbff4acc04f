"""The verbs and the fence against the embedded API server, in process and over HTTPS, and each answer's error."""

import json

import pytest
from fault_server import Answer, connected, serving, status

from canary.clock import WallClock
from canary.errors import ConflictError, RefusedError, UnavailableError
from canary.kube.client import AlreadyExistsError, Client, FieldManager, Intent
from canary.kube.http_transport import from_kubeconfig
from canary.kube.resources import (
    CANARYPOLICIES,
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    LEASES,
    NAMESPACES,
    Selection,
)
from canary.lab.apiserver.admission import User, guard_rules
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.serving import HttpServer
from canary.lab.apiserver.store import Store

ALICE = User("alice", ("devs",))
CART = CONFIGMAPS.at("shop", "cart")


class Fence:
    """A fence that a test opens and closes."""

    def __init__(self, leads=True, may_raise=True):
        self.answers = leads, may_raise

    def leads(self):
        return self.answers[0]

    def may_raise(self):
        return self.answers[1]


@pytest.fixture(params=["in process", "over HTTPS"])
def transport(request, tmp_path):
    server = ApiServer(Store(WallClock()), guard_rules())
    if request.param == "in process":
        yield InProcessTransport(server, ALICE)
        return
    http = HttpServer(server, {"secret": ALICE})
    wire = from_kubeconfig(str(http.kubeconfig(tmp_path / "kubeconfig", "secret")))
    yield wire
    wire.close()
    http.stop()


@pytest.fixture
def client(transport):
    client = Client(transport)
    client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
    return client


def put(client, name="cart", **data):
    obj = {"metadata": {"namespace": "shop", "name": name}, "data": data}
    return client.create(CONFIGMAPS, obj, intent=Intent.NEUTRAL)


def test_an_object_is_created_read_patched_and_deleted(client):
    assert client.get(CART) is None
    created = put(client, a="1", b="2")
    assert client.get(CART) == created
    merged = client.merge_patch(CART, {"data": {"b": None, "c": "3"}}, intent=Intent.NEUTRAL)
    assert merged["data"] == {"a": "1", "c": "3"}
    replace = {"op": "replace", "path": "/data/c", "value": "4"}
    assert client.json_patch(CART, [replace], intent=Intent.NEUTRAL)["data"] == {"a": "1", "c": "4"}
    client.delete(CART, uid=created["metadata"]["uid"], intent=Intent.NEUTRAL)
    assert client.get(CART) is None


def test_what_is_gone_is_an_absence_and_no_error(client):
    assert client.merge_patch(CART, {"data": {}}, intent=Intent.NEUTRAL) is None
    assert (
        client.json_patch(CART, [{"op": "add", "path": "/data", "value": {}}], intent=Intent.NEUTRAL) is None
    )
    client.delete(CART, uid="any", intent=Intent.NEUTRAL)


def test_a_name_that_is_taken_is_told_apart(client):
    put(client)
    with pytest.raises(AlreadyExistsError):
        put(client)


def test_a_dry_run_stores_nothing(client):
    obj = {"metadata": {"namespace": "shop", "name": "cart"}}
    answer = client.create(CONFIGMAPS, obj, intent=Intent.NEUTRAL, dry_run=True)
    assert answer["metadata"]["name"] == "cart"
    assert client.get(CART) is None


def test_a_stale_merge_patch_is_a_conflict(client):
    version = put(client)["metadata"]["resourceVersion"]
    client.merge_patch(CART, {"data": {"a": "1"}}, intent=Intent.NEUTRAL)
    patch = {"metadata": {"resourceVersion": version}, "data": {"a": "2"}}
    with pytest.raises(ConflictError):
        client.merge_patch(CART, patch, intent=Intent.NEUTRAL)
    assert client.get(CART)["data"] == {"a": "1"}


def test_a_stale_json_patch_and_a_failed_test_are_conflicts(client):
    version = put(client, a="1")["metadata"]["resourceVersion"]
    client.merge_patch(CART, {"data": {"a": "2"}}, intent=Intent.NEUTRAL)
    for guard in (
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "test", "path": "/data/a", "value": "1"},
    ):
        change = {"op": "replace", "path": "/data/a", "value": "3"}
        with pytest.raises(ConflictError):
            client.json_patch(CART, [guard, change], intent=Intent.NEUTRAL)
    assert client.get(CART)["data"] == {"a": "2"}


def test_a_policy_denial_is_refused_with_the_policys_own_words(client):
    labels = {"canary-controller.io/guarded": "true"}
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x:1"}]}}
    spec = {"paused": True, "selector": {"matchLabels": {"app": "x"}}, "template": template}
    obj = {"metadata": {"namespace": "shop", "name": "x", "labels": labels}, "spec": spec}
    client.create(DEPLOYMENTS, obj, intent=Intent.NEUTRAL)
    resume = [
        {"op": "test", "path": "/spec/paused", "value": True},
        {"op": "replace", "path": "/spec/paused", "value": False},
    ]
    with pytest.raises(RefusedError, match="forbidden"):
        client.json_patch(DEPLOYMENTS.at("shop", "x"), resume, intent=Intent.NEUTRAL)


def test_a_deletion_spares_another_object_of_the_same_name(client):
    put(client)
    with pytest.raises(ConflictError):
        client.delete(CART, uid="another", intent=Intent.NEUTRAL)
    assert client.get(CART) is not None


def test_a_list_comes_whole_in_pages_and_by_label(client):
    for number in range(501):
        labels = {"odd": str(number % 2)}
        obj = {"metadata": {"namespace": "shop", "name": f"c{number}", "labels": labels}}
        client.create(CONFIGMAPS, obj, intent=Intent.NEUTRAL)
    assert len(client.list(CONFIGMAPS)) == len(client.list(CONFIGMAPS, "shop")) == 501
    assert len(client.list(CONFIGMAPS, "shop", selector="odd=1")) == 250
    assert client.list(CONFIGMAPS, "elsewhere") == []
    assert {obj["kind"] for obj in client.list(CONFIGMAPS)} == {"ConfigMap"}


def test_a_watch_tells_what_came_after_a_list(client):
    listing = client.read(Selection(CONFIGMAPS, "shop"))
    put(client)
    stream = client.watch(Selection(CONFIGMAPS, "shop"), listing.version, timeout_seconds=5)
    first = next(iter(stream))
    stream.close()
    assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "cart")


def test_a_watch_of_a_kind_that_is_not_served_is_one_error_event(client):
    stream = client.watch(Selection(CANARYPOLICIES), "1", timeout_seconds=5)
    events = list(stream)
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 404)]


def test_a_kind_that_is_not_served_is_refused_and_not_an_empty_list(client):
    with pytest.raises(RefusedError, match="CRD"):
        client.list(CANARYPOLICIES)
    with pytest.raises(RefusedError):
        client.create(CANARYPOLICIES, {"metadata": {"namespace": "shop", "name": "x"}}, intent=Intent.NEUTRAL)


@pytest.mark.parametrize("manager", FieldManager)
def test_writes_carry_the_name_of_their_writer(tmp_path, manager):
    with serving() as server:
        client = Client(connected(server, tmp_path), manager=manager)
        client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
        client.merge_patch(CART, {}, intent=Intent.NEUTRAL)
        client.json_patch(CART, [], intent=Intent.NEUTRAL)
        assert [seen.query["fieldManager"] for seen in server.seen] == [str(manager)] * 3


def test_without_a_lease_a_lowering_goes_out_and_nothing_else_does(client, transport):
    put(client, weight="50")
    fenced = Client(transport, fence=Fence(False, False))
    for intent in (Intent.NEUTRAL, Intent.RAISING):
        with pytest.raises(ConflictError, match="no lease"):
            fenced.merge_patch(CART, {"data": {"weight": "100"}}, intent=intent)
        with pytest.raises(ConflictError, match="no lease"):
            fenced.delete(CART, uid="any", intent=intent)
    assert client.get(CART)["data"] == {"weight": "50"}
    fenced.json_patch(CART, [{"op": "add", "path": "/data/weight", "value": "0"}], intent=Intent.LOWERING)
    assert client.get(CART)["data"] == {"weight": "0"}


def test_a_raise_asks_for_more_than_any_other_write(client, transport):
    put(client, weight="50")
    fenced = Client(transport, fence=Fence(leads=True, may_raise=False))
    fenced.merge_patch(CART, {"data": {"weight": "40"}}, intent=Intent.NEUTRAL)
    with pytest.raises(ConflictError, match="no lease"):
        fenced.merge_patch(CART, {"data": {"weight": "60"}}, intent=Intent.RAISING)
    assert client.get(CART)["data"] == {"weight": "40"}


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_names_no_object_never_becomes_a_path(client, name):
    with pytest.raises(RefusedError):
        client.get(CONFIGMAPS.at("shop", name))
    with pytest.raises(RefusedError):
        client.list(CONFIGMAPS, name)


def test_a_slash_in_a_name_cannot_reach_another_object():
    assert CONFIGMAPS.at("shop", "a/../b").path() == "/api/v1/namespaces/shop/configmaps/a%2F..%2Fb"


def test_a_group_is_part_of_the_path():
    assert HTTPROUTES.collection(None) == "/apis/gateway.networking.k8s.io/v1/httproutes"
    assert LEASES.at("canary-system", "x").path("status") == (
        "/apis/coordination.k8s.io/v1/namespaces/canary-system/leases/x/status"
    )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, RefusedError),
        (403, RefusedError),
        (413, RefusedError),
        (422, RefusedError),
        (401, UnavailableError),
        (409, ConflictError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_every_answer_becomes_the_error_of_its_reaction(tmp_path, code, error):
    with serving(lambda seen: status(code)) as server:
        client = Client(connected(server, tmp_path))
        with pytest.raises(error, match=f"scripted {code}"):
            client.get(CART)
        with pytest.raises(error):
            client.merge_patch(CART, {}, intent=Intent.LOWERING)


@pytest.mark.parametrize(
    "answer",
    [Answer(429, (b"{}",), {"Retry-After": "7"}), status(503, retryAfterSeconds=7)],
    ids=["header", "body"],
)
def test_the_wait_that_a_server_asks_for_comes_with_the_error(tmp_path, answer):
    with serving(lambda seen: answer) as server:
        client = Client(connected(server, tmp_path))
        with pytest.raises(UnavailableError) as caught:
            client.get(CART)
        assert caught.value.retry_after_seconds == 7.0


def page(names, token=""):
    items = [{"metadata": {"name": name, "uid": name}} for name in names]
    return {"metadata": {"resourceVersion": "9", "continue": token}, "items": items}


def test_a_list_whose_token_expires_in_mid_paging_starts_over_and_loses_no_object(tmp_path):
    def script(seen):
        if "continue" not in seen.query:
            return answer(page(["a", "b"], "next"))
        return status(410, "Expired") if len(server.seen) == 2 else answer(page(["c"]))

    with serving(script) as server:
        items = Client(connected(server, tmp_path)).list(CONFIGMAPS)
    assert [item["metadata"]["name"] for item in items] == ["a", "b", "c"]


def test_a_list_that_expires_for_ever_is_given_up(tmp_path):
    with serving(lambda seen: status(410, "Expired")) as server:
        with pytest.raises(UnavailableError, match="expired"):
            Client(connected(server, tmp_path)).list(CONFIGMAPS)
        assert len(server.seen) == 5


@pytest.mark.parametrize("body", [{}, {"items": [], "metadata": None}, {"items": [1], "metadata": {}}])
def test_what_is_no_list_is_unavailable(tmp_path, body):
    with serving(lambda seen: answer(body)) as server, pytest.raises(UnavailableError, match="not a list"):
        Client(connected(server, tmp_path)).list(CONFIGMAPS)


def answer(body):
    return Answer(parts=(json.dumps(body).encode(),))


def test_every_call_is_counted_with_its_verb_kind_and_code(tmp_path):
    calls = []
    with serving(lambda seen: status(503) if seen.kind == "PATCH" else None) as server:
        client = Client(connected(server, tmp_path), observe=calls.append)
        client.list(CONFIGMAPS)
        with pytest.raises(UnavailableError):
            client.merge_patch(CART, {}, intent=Intent.LOWERING)
    with pytest.raises(UnavailableError):
        client.get(CART)
    counted = [(call.verb, call.resource, call.code) for call in calls]
    assert counted == [
        ("list", "configmaps", "200"),
        ("patch", "configmaps", "503"),
        ("get", "configmaps", "none"),
    ]
