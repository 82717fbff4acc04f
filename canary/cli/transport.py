"""The command line's own wire: `kube.transport.Transport` over http.client, so that `canary status` starts at once.

Enters: a `Connection`. Leaves: answers and watches, as from the controller's transport; both pass one contract suite.
One connection is kept open and used by one thread at a time; each watch has its own. Every wait and every body has a
bound. Where the kubeconfig asks for authentication that is not known here, the controller's transport is used.
"""

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from canary import __version__
from canary.cli.kubeconfig import Access, Connection, Identity, ask_plugin
from canary.errors import RefusedError, UnavailableError
from canary.kube.transport import (
    JSON,
    MAX_BODY_BYTES,
    MAX_LINE_BYTES,
    EndedStream,
    Json,
    Response,
    Stream,
    Transport,
    read_event,
    read_response,
)

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0  # from the request to the last byte
STREAM_GRACE_SECONDS = 15.0
CHUNK_BYTES = 64 * 1024
WIRE_ERRORS = (OSError, http.client.HTTPException)
Headers = Sequence[tuple[str, str]]
IDLE_CLOSED = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


def connect(connection: Connection, access: Access, note: Callable[[str], None]) -> Transport:
    """Return the light transport, or the controller's where only the kubernetes package can authenticate."""
    if not connection.unknown:
        return LightTransport(connection)
    note(f"{connection.unknown} is left to the kubernetes package, which takes longer to start")
    from canary.kube.http_transport import from_kubeconfig

    return from_kubeconfig(access.kubeconfig or None, access.context or None)


class LightTransport:
    """An API server over one kept connection. Thread-safe: one request at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._url = urlsplit(connection.server)
        self._lock = threading.Lock()
        self._identity = connection.identity
        self._kept: _Wire | None = None
        self._asked_plugin = False

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        """Ask once. Only after a 401, and only if our credentials can be renewed, ask once more."""
        target = self._url.path + path + ("?" + urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        with self._lock:
            response = self._ask(method, target, data, content_type)
            if response.status == 401 and self._renew():
                response = self._ask(method, target, data, content_type)
        return response

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        silent_seconds = float(query.get("timeoutSeconds", "0")) + STREAM_GRACE_SECONDS
        wire = self._open()
        try:
            wire.ask("GET", f"{self._url.path}{path}?{urlencode(query)}", None, self._headers(JSON))
            answer = wire.getresponse()
            if answer.status != 200:
                response = _read(answer, time.monotonic() + READ_SECONDS)
                wire.close()
                return EndedStream({"kind": "Status", **response.body, "code": response.status})
        except WIRE_ERRORS as error:
            wire.close()
            raise self._unavailable(error) from error
        if wire.sock is not None:
            wire.sock.settimeout(silent_seconds)
        return _Lines(wire, answer)

    def close(self) -> None:
        """Close the idle connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _ask(self, method: str, target: str, data: bytes | None, content_type: str) -> Response:
        fresh = self._kept is None
        try:
            return self._send(method, target, data, content_type)
        except IDLE_CLOSED as error:
            self.close()
            if fresh or method != "GET":
                raise self._unavailable(error) from error
        except WIRE_ERRORS as error:
            self.close()
            raise self._unavailable(error) from error
        try:  # the server closed a connection that stood idle; a read may be asked again
            return self._send(method, target, data, content_type)
        except WIRE_ERRORS as error:
            self.close()
            raise self._unavailable(error) from error

    def _send(self, method: str, target: str, data: bytes | None, content_type: str) -> Response:
        deadline = time.monotonic() + READ_SECONDS
        wire = self._kept = self._kept or self._open()
        wire.ask(method, target, data, self._headers(content_type))
        answer = wire.getresponse()
        return _read(answer, deadline)

    def _open(self) -> "_Wire":
        """Connect, directly or through the proxy; the socket then waits READ_SECONDS at most."""
        host, port = self._url.hostname or "", self._url.port
        proxy = self._proxy()
        context = _tls(self._connection, self._current()) if self._url.scheme == "https" else None
        near, near_port = (proxy.hostname or "", proxy.port or 3128) if proxy else (host, port)
        wire = _Wire(near, near_port, context, self._connection.trust.server_name)
        if proxy is not None:
            wire.set_tunnel(
                host, port or (443 if context else 80), _proxy_headers(proxy.username, proxy.password)
            )
        try:
            wire.connect()
        except WIRE_ERRORS as error:
            wire.close()
            raise self._unavailable(error) from error
        wire.sock.settimeout(READ_SECONDS)
        return wire

    def _proxy(self) -> SplitResult | None:
        url = self._connection.proxy or _proxy_of_environment(self._url.scheme, self._url.hostname or "")
        if not url:
            return None
        split = urlsplit(url)
        if split.scheme != "http":
            raise RefusedError(
                f"the proxy {split.scheme}://{split.hostname} is not a http proxy", code="CAN-1003"
            )
        return split

    def _current(self) -> Identity:
        """Return who we are, asking the plug-in the first time."""
        identity = self._identity
        if identity.plugin and not self._asked_plugin:
            self._identity = ask_plugin(identity.plugin, self._connection.server)
            self._asked_plugin = True
        return self._identity

    def _renew(self) -> bool:
        """After a 401: take fresh credentials where there can be any."""
        original = self._connection.identity
        if original.plugin:
            self._identity, self._asked_plugin = original, False
            self.close()
            return True
        return bool(original.token_file)

    def _headers(self, content_type: str) -> Headers:
        identity = self._current()
        token = identity.token or _token_of(identity.token_file)
        own = [("Accept", JSON), ("Content-Type", content_type), ("User-Agent", f"canary/{__version__}")]
        return [
            *own,
            *([("Authorization", f"Bearer {token}")] if token else []),
            *self._connection.identity.impersonate,
        ]

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"cannot reach the cluster ({self._connection.cluster}: {_reason(error)}). Check: `kubectl version`",
            code="CAN-1001",
        )


class _Wire(http.client.HTTPConnection):
    """A connection whose TLS may name the server otherwise than its address does."""

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext | None, server_name: str) -> None:
        super().__init__(host, port or (443 if context else 80), timeout=CONNECT_SECONDS)
        self._context = context
        self._server_name = server_name

    def ask(self, method: str, target: str, data: bytes | None, headers: Headers) -> None:
        """Send a request whose headers may repeat, as those of impersonation do."""
        self.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers:
            self.putheader(name, value)
        if data is not None:
            self.putheader("Content-Length", str(len(data)))
        self.endheaders(data)

    def connect(self) -> None:
        super().connect()
        if self._context is not None:
            name = self._server_name or getattr(self, "_tunnel_host", None) or self.host
            self.sock = self._context.wrap_socket(self.sock, server_hostname=name)


class _Lines:
    """The lines of a watch as they arrive."""

    def __init__(self, wire: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        self._wire = wire
        self._answer = answer
        self._closed = False

    def __iter__(self) -> Iterator[Json]:
        try:
            while not self._closed and (line := self._answer.readline(MAX_LINE_BYTES)):
                if line.strip():
                    yield read_event(line)
        except (*WIRE_ERRORS, UnavailableError) as error:
            if not self._closed:
                raise UnavailableError(f"the watch broke: {error}") from error
        finally:
            self._wire.close()

    def close(self) -> None:
        self._closed = True
        wire = self._wire.sock
        if (
            wire is not None
        ):  # another thread may be blocked in a read, and only the end of the connection wakes it
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


def _tls(connection: Connection, identity: Identity) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=connection.trust.ca.decode() or None)
        if connection.trust.skip:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if identity.certificate:
            _load_certificate(context, identity)
    except (ssl.SSLError, ValueError) as error:
        raise RefusedError(
            f"a certificate in the kubeconfig cannot be used: {error}", code="CAN-1002"
        ) from error
    return context


def _load_certificate(context: ssl.SSLContext, identity: Identity) -> None:
    """Hand the client certificate to the ssl module, which reads files only; ours are gone a moment later."""
    with tempfile.TemporaryDirectory(prefix="canary-") as folder:
        path = Path(folder, "client.pem")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(identity.certificate + b"\n" + identity.key)
        context.load_cert_chain(path)


def _proxy_of_environment(scheme: str, host: str) -> str:
    if not {name.lower() for name in os.environ} & {"http_proxy", "https_proxy", "all_proxy"}:
        return ""
    if host in ("localhost", "127.0.0.1", "::1"):
        return ""
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    return "" if proxy_bypass(host, proxies) else proxies.get(scheme, proxies.get("all", ""))


def _proxy_headers(username: str | None, password: str | None) -> dict[str, str]:
    if not username:
        return {}
    pair = f"{unquote(username)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode()}


def _token_of(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise RefusedError(f"cannot read the token file {path}: {error.strerror}", code="CAN-1202") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()


def _read(answer: http.client.HTTPResponse, deadline: float) -> Response:
    try:
        return read_response(answer.status, _body(answer, deadline), dict(answer.getheaders()))
    except UnavailableError as error:
        raise http.client.HTTPException("what answers there is no API server") from error


def _body(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := answer.read(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise http.client.HTTPException(f"the answer is larger than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(chunks)
