"""The command line's wire: the same contract as the controller's, and the odd servers, proxies and credentials."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cli_bed import Bed

from canary.cli.kubeconfig import Access, Connection, Identity, Trust, read_connection
from canary.cli.transport import LightTransport, connect
from canary.errors import RefusedError, UnavailableError
from canary.kube.transport import JSON
from canary.lab.contracts.api import API_CHECKS, Api, Check

pytest_plugins = ["cli_fixtures"]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def get(transport, path="/version"):
    return transport.request("GET", path, query={}, body=None, content_type=JSON)


@pytest.fixture(scope="module")
def api(whole_bed: Bed) -> Iterator[Api]:
    whole_bed.namespace("light")
    transport = LightTransport(read_connection(Access(kubeconfig=whole_bed.configs["dana"])))
    yield Api(transport, "light")
    transport.close()


@pytest.mark.parametrize("check", API_CHECKS, ids=lambda check: check.__name__)
def test_the_light_transport_keeps_the_contract_of_every_transport(check: Check, api: Api):
    check(api)


class Scripted:
    """A plain HTTP server that sends prepared bytes, one a connection, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self._answers = answers
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.asked.append(connection.recv(65_536).decode())
                connection.sendall(answer)

    def stop(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass  # close() alone does not wake accept()
        self._listener.close()
        self._thread.join(10)


@contextmanager
def scripted(*answers: bytes) -> Iterator[Scripted]:
    server = Scripted(*answers)
    try:
        yield server
    finally:
        server.stop()


def plain(server: Scripted, **fields) -> Connection:
    given = {"identity": Identity(token="t"), **fields}
    return Connection(f"http://127.0.0.1:{server.port}/k8s/c1", "plain", "shop", Trust(), **given)


def test_a_plain_server_under_a_path_gets_the_token():
    with scripted(OK) as server:
        assert get(LightTransport(plain(server))).status == 200
    assert server.asked[0].startswith("GET /k8s/c1/version HTTP/1.1")
    assert "Authorization: Bearer t" in server.asked[0]


def test_impersonated_groups_are_separate_headers():
    groups = (("Impersonate-User", "dana"), ("Impersonate-Group", "devs"), ("Impersonate-Group", "seniors"))
    with scripted(OK) as server:
        get(LightTransport(plain(server, identity=Identity(impersonate=groups))))
    assert server.asked[0].count("Impersonate-Group: ") == 2


def test_a_connection_that_stood_idle_and_was_closed_is_opened_anew_for_a_read_only():
    with scripted(OK, OK) as server:
        transport = LightTransport(plain(server))
        assert [get(transport).status for _ in range(2)] == [200, 200]
        with pytest.raises(UnavailableError):
            transport.request("POST", "/x", query={}, body={}, content_type=JSON)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"no http at all\r\n\r\n",
    ],
    ids=["text", "cut-off", "a-list", "noise"],
)
def test_what_is_no_answer_of_an_api_server_is_unavailable(answer):
    with scripted(answer) as server, pytest.raises(UnavailableError, match="cannot reach the cluster"):
        get(LightTransport(plain(server)))


def test_a_failure_in_the_words_of_a_proxy_is_still_an_answer():
    with scripted(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops") as server:
        response = get(LightTransport(plain(server)))
    assert (response.status, response.body) == (502, {"message": "oops"})


def test_a_plain_proxy_is_asked_to_open_a_tunnel():
    with scripted(b"HTTP/1.1 403 No\r\n\r\n") as proxy:
        connection = Connection(
            "https://api.example.org",
            "far",
            "shop",
            Trust(),
            Identity(),
            f"http://me:pass@127.0.0.1:{proxy.port}",
        )
        with pytest.raises(UnavailableError, match="403"):
            get(LightTransport(connection))
    assert proxy.asked[0].startswith("CONNECT api.example.org:443")
    assert "Proxy-Authorization: Basic bWU6cGFzcw==" in proxy.asked[0]


def test_a_proxy_that_we_cannot_use_is_refused_by_name():
    connection = Connection("https://h", "far", "shop", Trust(), Identity(), "socks5://p:1")
    with pytest.raises(RefusedError, match="socks5://p is not a http proxy"):
        get(LightTransport(connection))


def test_a_certificate_that_is_not_trusted_is_said(whole_bed: Bed):
    connection = read_connection(Access(kubeconfig=whole_bed.configs["dana"]))
    with pytest.raises(UnavailableError, match="its certificate is not trusted"):
        get(LightTransport(replace(connection, trust=Trust())))
    assert get(LightTransport(replace(connection, trust=Trust(skip=True)))).status == 200


def test_the_name_on_the_certificate_may_differ_from_the_address(whole_bed: Bed):
    connection = read_connection(Access(kubeconfig=whole_bed.configs["dana"]))
    wrong = replace(connection, trust=replace(connection.trust, server_name="elsewhere.example.org"))
    with pytest.raises(UnavailableError, match="not trusted"):
        get(LightTransport(wrong))


def test_a_token_file_is_read_again_for_every_request(whole_bed: Bed, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("stale")
    connection = read_connection(Access(kubeconfig=whole_bed.configs["dana"]))
    transport = LightTransport(replace(connection, identity=Identity(token_file=str(token))))
    assert get(transport).status == 401
    token.write_text("dana\n")
    assert get(transport).status == 200


def test_a_plugin_is_asked_again_when_its_token_is_refused(whole_bed: Bed, tmp_path: Path):
    count = tmp_path / "count"
    script = tmp_path / "plugin.py"
    script.write_text(
        "import json, pathlib\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "asked = len(count.read_text()) if count.exists() else 0\n"
        "count.write_text('x' * (asked + 1))\n"
        "print(json.dumps({'status': {'token': 'dana' if asked else 'expired'}}))\n"
    )
    plugin = {"command": sys.executable, "args": [str(script)]}
    connection = read_connection(Access(kubeconfig=whole_bed.configs["dana"]))
    transport = LightTransport(replace(connection, identity=Identity(plugin=plugin)))
    assert [get(transport).status for _ in range(2)] == [200, 200]
    assert count.read_text() == "xx"


def test_authentication_that_is_not_known_is_left_to_the_kubernetes_package(whole_bed: Bed, tmp_path: Path):
    raw = yaml.safe_load(Path(whole_bed.configs["dana"]).read_text())
    raw["users"][0]["user"] = {"auth-provider": {"name": "none"}, "token": "dana"}
    path = tmp_path / "config"
    path.write_text(json.dumps(raw))
    access, notes = Access(kubeconfig=str(path)), []
    transport = connect(read_connection(access), access, notes.append)
    assert not isinstance(transport, LightTransport)
    assert "left to the kubernetes package" in notes[0]
    assert get(transport).status == 200
