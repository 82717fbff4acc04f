"""An API server of one collection on loopback that breaks to order: silence, half lines, 410, 429, garbage.

A `Script` says how each list, watch and write is answered; what is not scripted is answered rightly. Every request is
logged with its time, so that tests count what arrived and not what was meant to be sent.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import yaml

from canary.kube.http_transport import HttpTransport, Limits, from_kubeconfig

LIMITS = Limits(connect_seconds=1.0, read_seconds=1.0, stream_grace_seconds=1.0, files_seconds=0.0)
MAX_STAY_SECONDS = 20.0
HANG_UP = 0  # the status of an answer that never comes: the connection is closed


@dataclass(frozen=True)
class Seen:
    """One request that arrived."""

    at: float
    kind: str  # list, watch or the method of a write
    query: dict[str, str]
    body: object
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What to send: after `wait` seconds the head, then the parts, and then the connection stays for `stay` seconds."""

    status: int = 200
    parts: tuple[bytes, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    pause: float = 0.0  # between the parts
    stay: float = 0.0
    length: int | None = None  # Content-Length where it is not the true one


Script = Callable[[Seen], Answer | None]


def status(code: int, reason: str = "", **details: object) -> Answer:
    body = {
        "kind": "Status",
        "code": code,
        "reason": reason,
        "message": f"scripted {code}",
        "details": details,
    }
    return Answer(code, (json.dumps(body).encode(),))


def event(kind: str, obj: dict) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def a_policy(name: str, version: int = 1, uid: str = "", **spec: object) -> dict:
    metadata = {
        "namespace": "shop",
        "name": name,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
    }
    return {
        "apiVersion": "canary-controller.io/v1alpha1",
        "kind": "CanaryPolicy",
        "metadata": metadata,
        "spec": spec,
    }


class FaultServer:
    """Listens until `stop`; `kill` and `revive` close and open the port."""

    def __init__(self, script: Script | None = None) -> None:
        self.script: Script = script or (lambda seen: None)
        self.objects: list[dict] = []
        self.version = 10
        self.seen: list[Seen] = []
        self.connections = 0
        self.ending = threading.Event()
        self._port = 0
        self._sockets: set[socket.socket] = set()
        self.revive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def revive(self) -> None:
        self.ending.clear()
        self._listener = _Listener(("127.0.0.1", self._port), _Handler)
        self._listener.owner = self
        self._port = self._listener.server_address[1]
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))
        self._thread.start()

    def kill(self) -> None:
        self.ending.set()
        self._listener.shutdown()
        for connection in tuple(self._sockets):
            with suppress(OSError):  # closed by its client in this moment
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.server_close()
        self._thread.join(5)

    stop = kill

    def count(self, kind: str) -> int:
        return sum(seen.kind == kind for seen in self.seen)

    def list_body(self) -> bytes:
        body = {"kind": "List", "metadata": {"resourceVersion": str(self.version)}, "items": self.objects}
        return json.dumps(body).encode()

    def kubeconfig(self, path, token: str = "secret"):
        cluster = {"name": "c", "cluster": {"server": self.url}}
        config = {
            "clusters": [cluster],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config))
        return path


class _Listener(ThreadingHTTPServer):
    owner: FaultServer
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = 64

    def get_request(self):
        connection, address = super().get_request()
        self.owner.connections += 1
        self.owner._sockets.add(connection)
        return connection, address

    def shutdown_request(self, request) -> None:
        self.owner._sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = MAX_STAY_SECONDS

    def log_message(self, format, *args) -> None:
        pass

    def do_GET(self) -> None:
        owner = self.server.owner
        query = dict(parse_qsl(urlsplit(self.path).query))
        kind = "watch" if "watch" in query else "list"
        kind = kind if self.command == "GET" else self.command
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        seen = Seen(time.monotonic(), kind, query, body, dict(self.headers))
        owner.seen.append(seen)
        self.send(owner.script(seen) or self.usual(kind))

    do_POST = do_PATCH = do_DELETE = do_GET

    def usual(self, kind: str) -> Answer:
        if kind == "watch":
            return Answer(stay=MAX_STAY_SECONDS)
        return Answer(parts=(self.server.owner.list_body(),))

    def send(self, answer: Answer) -> None:
        ending = self.server.owner.ending
        ending.wait(answer.wait)
        if answer.status == HANG_UP:
            self.close_connection = True
            return
        endless = answer.stay > 0 or len(answer.parts) != 1
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if endless:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(answer.length or len(answer.parts[0])))
        self.end_headers()
        for part in answer.parts:
            self.wfile.write(part)
            self.wfile.flush()
            ending.wait(answer.pause)
        ending.wait(answer.stay)
        if answer.length is not None:
            self.close_connection = True


@contextmanager
def serving(script: Script | None = None) -> Iterator[FaultServer]:
    server = FaultServer(script)
    try:
        yield server
    finally:
        server.stop()


def connected(server: FaultServer, tmp_path, limits: Limits = LIMITS) -> HttpTransport:
    """Return a transport to the server, by way of a kubeconfig."""
    return from_kubeconfig(str(server.kubeconfig(tmp_path / "kubeconfig")), None, limits)


def until(true: Callable[[], bool], seconds: float = 8.0) -> bool:
    """Wait for something to come true; return whether it did."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
