"""The embedded API server on a real port, so that kubectl and the CLI work against the lab as against a
cluster.

HTTPS/1.1 with keep-alive on 127.0.0.1, one thread a connection. A bearer token is turned into a user; an
unknown one is a 401. Everything else is `ApiServer.handle` and `watch`. `kubeconfig` writes the file that
clients need.
"""

import base64
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from canary.lab.apiserver.admission import User
from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.certificates import server_context
from canary.lab.apiserver.objects import Object
from canary.lab.apiserver.protocol import ApiServer, Request

MAX_BODY = 3 * 1024 * 1024  # as the real server's request limit
HOST = "127.0.0.1"
STOP_SECONDS = 5.0
DRAIN_SECONDS = 1.0  # for answers that are under way when the server stops
POLL_SECONDS = 0.01
BACKLOG = 128


class HttpServer:
    """The listener: made running, stopped once."""

    def __init__(self, server: ApiServer, tokens: Mapping[str, User]) -> None:
        self._api = server
        context, self._certificate = server_context(HOST)
        self._listener = _Listener((HOST, 0), _Connection)
        self._listener.context = context
        self._listener.api = server
        self._listener.tokens = dict(tokens)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.05,), name="lab-apiserver", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._listener.server_address[1]}"

    def stop(self) -> None:
        """Close the port, every watch of the store and every connection, and wait for their threads. Idempotent."""
        self._listener.shutdown()
        self._listener.end_connections()
        self._listener.server_close()
        self._thread.join(STOP_SECONDS)

    def kubeconfig(self, path: Path, token: str, *, namespace: str = "default") -> Path:
        """Write a kubeconfig that speaks to this server with `token`; readable by its owner only."""
        trust = base64.b64encode(self._certificate).decode()
        cluster = {"server": self.url, "certificate-authority-data": trust}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [
                {"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": namespace}}
            ],
            "current-context": "lab",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path


class _Listener(ThreadingHTTPServer):
    api: ApiServer
    tokens: dict[str, User]
    context: ssl.SSLContext
    request_queue_size = BACKLOG
    daemon_threads = True  # a program that crashes must not hang on a connection

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._serving: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        # the handshake happens with the first read, on the connection's own thread
        return self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Know of a connection and its thread while it is served, so that both can be ended."""
        self._serving[request] = threading.current_thread()
        super().process_request_thread(request, client_address)
        del self._serving[request]

    def end_connections(self) -> None:
        """End watches, and idle keep-alive connections, whose threads would wait for the next request for ever."""
        self.api.store.history.close()
        self._shut(socket.SHUT_RD)  # who is still writing may finish
        end = time.monotonic() + DRAIN_SECONDS
        while self._serving and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        self._shut(socket.SHUT_RDWR)
        for thread in tuple(self._serving.values()):
            thread.join(STOP_SECONDS)

    def _shut(self, how: int) -> None:
        for connection in tuple(self._serving):
            with suppress(OSError):  # its own thread was quicker
                socket.socket.shutdown(connection, how)  # the socket below TLS: readers see its end

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet about clients that go away, and about nothing else."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Listener  # pyright: ignore[reportIncompatibleVariableOverride]  made by no other

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the lab's terminal belongs to the demo."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _answer(self) -> None:
        try:
            request = self._request()
            if request.is_watch:
                self._stream(request)
                return
            reply = self.server.api.handle(request)
            self._send(reply.status, reply.body)
        except ApiError as error:
            self._send(error.code, error.status())

    def _request(self) -> Request:
        body = self._body()
        url = urlsplit(self.path)
        return Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            body=body,
            content_type=self.headers.get("Content-Type", "application/json"),
            accept=self.headers.get("Accept", ""),
            user=self._user(),
        )

    def _user(self) -> User:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        user = self.server.tokens.get(token) if scheme == "Bearer" else None
        if user is None:
            raise ApiError(StatusReason.UNAUTHORIZED, "Unauthorized")
        return user

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            raise ApiError(StatusReason.TOO_LARGE, f"limit is {MAX_BODY} bytes")
        if not length:
            return None
        raw = self.rfile.read(length)
        media = self.headers.get("Content-Type", "application/json").partition(";")[0]
        if not media.endswith("json"):
            raise ApiError(StatusReason.UNSUPPORTED_MEDIA_TYPE, f"the lab reads JSON, not {media}")
        try:
            return json.loads(raw)
        except ValueError as error:
            raise ApiError(StatusReason.BAD_REQUEST, f"the body is not JSON: {error}") from error

    def _send(self, status: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _stream(self, request: Request) -> None:
        watch = self.server.api.watch(request)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for line in watch:
            shown = self.server.api.as_table(request, line) if request.wants_table else line
            data = json.dumps(shown).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
