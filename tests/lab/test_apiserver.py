"""The protocol beyond the contract: lists, tables, bad requests, polling watches, and an end without leftovers."""

import base64
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from canary.kube.client import Client, Intent
from canary.kube.resources import CONFIGMAPS, DEPLOYMENTS, LEASES
from canary.lab.apiserver.admission import AdmissionRequest, User
from canary.lab.apiserver.api_error import ApiError
from canary.lab.apiserver.objects import Object, clone
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport, Request
from canary.lab.apiserver.serving import MAX_BODY, HttpServer
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock

ALICE = User("alice")
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def server() -> ApiServer:
    return ApiServer(Store(SimClock()))


def add(server: ApiServer, name: str, **data: str) -> Object:
    body = {"metadata": {"name": name}, "data": data}
    return server.handle(Request("POST", MAPS, body=body)).body


class Wire:
    """A plain HTTPS client that shows what went over the wire."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.http = HttpServer(server, {"secret": ALICE})
        config = yaml.safe_load(self.http.kubeconfig(folder / "config", "secret").read_text(encoding="utf-8"))
        cluster = config["clusters"][0]["cluster"]
        trust = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=trust)

    def send(self, method: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Authorization", "Bearer secret")
        request = urllib.request.Request(self.http.url + path, data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.context) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture
def wire(server: ApiServer, tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(server, tmp_path)
    yield wire
    wire.http.stop()


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/apis/apps/v1beta1/deployments", 404),
        ("GET", "/apis/none.example.com/v1", 404),
        ("GET", MAPS + "/absent", 404),
        ("GET", MAPS + "/absent/log", 404),
        ("PUT", MAPS, 405),
        ("POST", MAPS + "/name", 405),
        ("GET", MAPS + "?labelSelector=a%3D%3D%3Db", 400),
        ("GET", MAPS + "?limit=many", 400),
        ("GET", MAPS + "?continue=garbage", 400),
    ],
)
def test_a_request_that_means_nothing_is_refused(method: str, path: str, code: int, wire: Wire) -> None:
    status, body = wire.send(method, path)
    assert (status, body["kind"], body["code"]) == (code, "Status", code)


@pytest.mark.parametrize(
    ("data", "media", "code"),
    [
        (b"{half", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"text"', "application/json", 400),
        (b'{"metadata": 1}', "application/json", 400),
        (b"{}", "application/json", 422),
        (b'{"kind": "Secret", "metadata": {"name": "a"}}', "application/json", 400),
        (b"k8s\x00", "application/vnd.kubernetes.protobuf", 415),
    ],
)
def test_a_body_that_is_no_object_is_refused(data: bytes, media: str, code: int, wire: Wire) -> None:
    status, body = wire.send("POST", MAPS, data, Content_Type=media)
    assert (status, body["kind"]) == (code, "Status")


def test_a_body_that_is_too_long_is_refused_unread(wire: Wire) -> None:
    status, body = wire.send(
        "POST", MAPS, b"{}", Content_Length=str(MAX_BODY + 1), Content_Type="application/json"
    )
    assert (status, body["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic c2VjcmV0", "secret"])
def test_an_unknown_token_is_401(header: str, wire: Wire) -> None:
    status, body = wire.send("GET", MAPS, Authorization=header)
    assert (status, body["reason"]) == (401, "Unauthorized")


def test_a_patch_of_unknown_type_is_415(server: ApiServer) -> None:
    add(server, "a")
    reply = server.handle(Request("PATCH", f"{MAPS}/a", body={}, content_type="application/apply-patch+yaml"))
    assert reply.status == 415


def test_items_of_built_in_kinds_come_without_their_type(server: ApiServer) -> None:
    add(server, "a")
    listed = server.handle(Request("GET", MAPS)).body
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert "kind" not in listed["items"][0]
    assert server.handle(Request("GET", f"{MAPS}/a")).body["kind"] == "ConfigMap"


def test_a_list_continued_after_compaction_is_410(server: ApiServer) -> None:
    for name in ("a", "b", "c"):
        add(server, name)
    first = server.handle(Request("GET", MAPS, {"limit": "2"})).body
    server.store.history.forget(server.store.version)
    add(server, "d")
    server.store.history.forget(server.store.version)
    reply = server.handle(Request("GET", MAPS, {"limit": "2", "continue": first["metadata"]["continue"]}))
    assert (reply.status, reply.body["reason"]) == (410, "Expired")


def test_the_client_of_the_product_reads_all_pages_and_starts_over_after_a_410(server: ApiServer) -> None:
    for number in range(12):
        add(server, f"m-{number:02}")
    client = Client(InProcessTransport(server, ALICE))
    assert len(client.list(CONFIGMAPS, "default")) == 12


def lines(server: ApiServer, **query: str) -> list[Object]:
    transport = InProcessTransport(server, ALICE, follow=False)
    return list(transport.stream(MAPS, {"watch": "true", **query}))


def test_a_polling_watch_tells_what_there_is_and_ends(server: ApiServer) -> None:
    add(server, "a")
    start = str(server.store.version)
    assert [line["type"] for line in lines(server)] == ["ADDED"]
    assert lines(server, resourceVersion=start) == []
    add(server, "b")
    told = lines(server, resourceVersion=start, allowWatchBookmarks="true")
    assert [line["type"] for line in told] == ["ADDED", "BOOKMARK"]
    assert told[-1]["object"]["metadata"]["resourceVersion"] == str(server.store.version)


def test_a_watch_from_a_forgotten_version_is_one_error_event(server: ApiServer) -> None:
    add(server, "a")
    server.store.history.forget(server.store.version)
    (only,) = lines(server, resourceVersion="1")
    assert (only["type"], only["object"]["code"], only["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_watch_of_an_unknown_kind_is_one_error_event(server: ApiServer) -> None:
    stream = InProcessTransport(server, ALICE).stream("/api/v1/nothings", {"watch": "true"})
    assert [line["object"]["code"] for line in stream] == [404]


def test_a_watch_that_is_closed_from_another_thread_ends(server: ApiServer) -> None:
    stream = InProcessTransport(server, ALICE).stream(MAPS, {"watch": "true", "timeoutSeconds": "600"})
    seen: list[Object] = []
    reader = threading.Thread(target=lambda: seen.extend(stream))
    reader.start()
    add(server, "a")
    stream.close()
    reader.join(10)
    assert not reader.is_alive()


def test_what_a_client_gets_in_process_is_its_own(server: ApiServer) -> None:
    transport = InProcessTransport(server, ALICE)
    add(server, "a", key="one")
    got = transport.request("GET", f"{MAPS}/a", query={}, body=None, content_type="application/json").body
    before = clone(got)
    got["data"]["key"] = "two"
    assert server.handle(Request("GET", f"{MAPS}/a")).body == before


def test_a_table_has_a_row_for_each_object(server: ApiServer) -> None:
    add(server, "a", key="one")
    shown = server.handle(Request("GET", MAPS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")).body
    assert shown["kind"] == "Table"
    assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "Age"]
    assert [row["cells"] for row in shown["rows"]] == [["a", "0s"]]


def test_an_admission_rule_can_refuse_and_can_rewrite(server: ApiServer) -> None:
    def rule(request: AdmissionRequest) -> Object | None:
        if request.new and request.new["metadata"]["name"] == "bad":
            raise request.denied("choose another name")
        return {**request.new, "data": {"by": request.user.name}} if request.new else None

    server.rules.append(rule)
    assert add(server, "good")["data"] == {"by": "system:anonymous"}
    refused = server.handle(Request("POST", MAPS, body={"metadata": {"name": "bad"}}))
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert "choose another name" in refused.body["message"]


def test_a_deployment_is_completed_as_a_real_server_does(server: ApiServer) -> None:
    container = {"name": "shop", "image": "registry.invalid/shop", "ports": [{"containerPort": 80}]}
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    client = Client(InProcessTransport(server, ALICE))
    spec = client.create(DEPLOYMENTS, deployment, intent=Intent.NEUTRAL)["spec"]
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Always", 30)


def test_stop_ends_open_watches_and_idle_connections(server: ApiServer, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    wire = Wire(server, tmp_path)
    url = f"{wire.http.url}{MAPS}?watch=true&timeoutSeconds=600"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer secret"})
    with urllib.request.urlopen(request, timeout=10, context=wire.context) as watch:
        add(server, "a")
        assert json.loads(watch.readline())["type"] == "ADDED"
        wire.http.stop()
        assert watch.read() == b""
    assert set(threading.enumerate()) <= before


def test_a_lease_is_a_compare_and_set(server: ApiServer) -> None:
    client = Client(InProcessTransport(server, ALICE))
    lease = {"metadata": {"name": "lead", "namespace": "default"}, "spec": {"holderIdentity": "one"}}
    seen = client.create(LEASES, lease, intent=Intent.NEUTRAL)["metadata"]["resourceVersion"]
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/lead"
    take = {"metadata": {"resourceVersion": seen}, "spec": {"holderIdentity": "two"}}
    media = "application/merge-patch+json"
    assert server.handle(Request("PATCH", path, body=take, content_type=media)).status == 200
    late = {"metadata": {"resourceVersion": seen}, "spec": {"holderIdentity": "three"}}
    assert server.handle(Request("PATCH", path, body=late, content_type=media)).status == 409
    with pytest.raises(ApiError):
        server.store.update(
            server.store.kinds.named("Lease"), ("default", "lead"), lambda obj: {**obj, **late}
        )
