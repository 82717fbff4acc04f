"""The real wire: `kube.transport.Transport` over HTTP, with credentials from a kubeconfig or a service account.

The kubernetes package supplies configuration, credentials and connections, and no more: here every call has
a time limit and a size limit, nothing is repeated, no redirect is followed. Credentials and certificates
that change on disk are noticed within a minute and lead to a new connection pool; a 401 leads to one fresh
look at them.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlparse

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import incluster_config, kube_config
from kubernetes.config.config_exception import ConfigException

from canary import __version__
from canary.errors import RefusedError, UnavailableError
from canary.kube.transport import (
    JSON,
    MAX_BODY_BYTES,
    MAX_LINE_BYTES,
    EndedStream,
    Json,
    Response,
    Stream,
    read_event,
    read_response,
)

CHUNK_BYTES = 64 * 1024
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WIRE_ERRORS = (urllib3.exceptions.HTTPError, ApiException, OSError)
# What a kubeconfig that is missing, half written or of an odd shape makes the package raise.
LOAD_ERRORS = (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every call. The elector's are shorter: a third of its renew deadline in all."""

    connect_seconds: float = 3.0
    read_seconds: float = 10.0  # from the request to the last byte of the answer
    stream_grace_seconds: float = 15.0  # a watch may be silent for its timeoutSeconds and this
    connections: int = 32  # kept open: one a watch, one a worker, two to spare
    files_seconds: float = 60.0  # how often credentials and certificates are looked at on disk


Load = Callable[[], Configuration]
Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Call:
    """One request as it goes over the wire."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object | None
    content_type: str
    read_seconds: float

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def connect(kubeconfig: str, context: str, limits: Limits | None = None) -> "HttpTransport":
    """Connect as this pod's own account, unless a kubeconfig is named or this is no pod."""
    if not kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ:
        return in_cluster(limits)
    return from_kubeconfig(kubeconfig or None, context or None, limits)


def from_kubeconfig(
    path: str | None = None, context: str | None = None, limits: Limits | None = None
) -> "HttpTransport":
    """Connect as a kubeconfig says; None means $KUBECONFIG or ~/.kube/config, and its current context."""

    def load() -> Configuration:
        configuration = Configuration()
        config.load_kube_config(path, context, configuration, persist_config=False)
        return configuration

    named = path or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    files = [os.path.expanduser(file) for file in named.split(kube_config.ENV_KUBECONFIG_PATH_SEPARATOR)]
    return HttpTransport(load, files, limits or Limits())


def in_cluster(limits: Limits | None = None) -> "HttpTransport":
    """Connect as the service account of this pod."""

    def load() -> Configuration:
        configuration = Configuration()
        config.load_incluster_config(configuration)
        return configuration

    files = [incluster_config.SERVICE_TOKEN_FILENAME, incluster_config.SERVICE_CERT_FILENAME]
    return HttpTransport(load, files, limits or Limits())


class HttpTransport:
    """An API server over HTTP. Thread-safe."""

    def __init__(self, load: Load, files: Sequence[str], limits: Limits) -> None:
        self._load = load
        self._files = files
        self._limits = limits
        self._lock = threading.Lock()
        try:
            self._api = self._build()
        except LOAD_ERRORS as error:
            raise RefusedError(f"cannot read the credentials for the API server: {error}") from error
        self._seen = self._fingerprint()
        self._looked_at = time.monotonic()

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        """Ask once. Only after a 401, and only if our credentials on disk are new, ask once more."""
        call = _Call(method, path, query, body, content_type, self._limits.read_seconds)
        deadline = time.monotonic() + call.read_seconds
        return _whole(call, self._open(call), deadline)

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        silent_seconds = float(query.get("timeoutSeconds", "0")) + self._limits.stream_grace_seconds
        call = _Call("GET", path, query, None, JSON, silent_seconds)
        raw = self._open(call)
        if raw.status == 200:
            return LineStream(raw)
        return EndedStream(_status_of(_whole(call, raw, time.monotonic() + self._limits.read_seconds)))

    def close(self) -> None:
        """Close the idle connections."""
        self._api.close()

    def _open(self, call: _Call) -> urllib3.BaseHTTPResponse:
        """Send the request and return the answer with its body unread."""
        self._look_at_files()
        api = self._api
        raw = self._send(api, call)
        if raw.status != 401 or not self._renew(api):
            return raw
        raw.close()
        return self._send(self._api, call)

    def _send(self, api: ApiClient, call: _Call) -> urllib3.BaseHTTPResponse:
        url = api.configuration.host + call.path + ("?" + urlencode(call.query) if call.query else "")
        timeout = (self._limits.connect_seconds, call.read_seconds)
        try:
            headers = {**_authorization(api), "Accept": JSON, "Content-Type": call.content_type}
            answer = api.rest_client.request(
                call.method, url, headers=headers, body=call.body, _request_timeout=timeout
            )
        except (*WIRE_ERRORS, *LOAD_ERRORS) as error:
            raise UnavailableError(f"{call}: {error}") from error
        return answer.response

    def _build(self) -> ApiClient:
        configuration = self._load()
        configuration.retries = False
        configuration.client_go_retries = False
        configuration.keep_alive = True
        configuration.connection_pool_maxsize = self._limits.connections
        if urlparse(configuration.host).hostname in LOOPBACK:
            configuration.proxy = None
        api = ApiClient(configuration)
        api.user_agent = f"canary/{__version__}"
        return api

    def _look_at_files(self) -> None:
        """Now and then see whether credentials or certificates changed on disk, and take the new ones."""
        with self._lock:
            if time.monotonic() - self._looked_at < self._limits.files_seconds:
                return
            self._looked_at = time.monotonic()
            seen = self._fingerprint()
            if seen != self._seen and self._replace():
                self._seen = seen

    def _renew(self, refused: ApiClient) -> bool:
        """After a 401: load the credentials anew; tell whether they differ from the refused ones."""
        with self._lock:
            if self._api is not refused:
                return True
            before = _authorization(refused)
            return self._replace() and _authorization(self._api) != before

    def _replace(self) -> bool:
        """Take a client with fresh credentials. What is half written on disk leaves us with the one we have."""
        try:
            api = self._build()
        except LOAD_ERRORS:
            return False
        former, self._api = self._api, api
        former.close()
        return True

    def _fingerprint(self) -> Fingerprint:
        configuration = self._api.configuration
        named = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        return tuple(_stamp(file) for file in (*self._files, *named) if file)


class LineStream:
    """The lines of a watch as they arrive."""

    def __init__(self, raw: urllib3.BaseHTTPResponse) -> None:
        self._raw = raw
        self._reading = False
        self._closed = False

    def __iter__(self) -> Iterator[Json]:
        self._reading = True
        try:
            if not self._closed:
                yield from map(read_event, _lines(self._raw))
        except (*WIRE_ERRORS, UnavailableError) as error:
            if not self._closed:
                raise UnavailableError(f"the watch broke: {error}") from error
        finally:
            self._reading = False
            self._raw.close()

    def close(self) -> None:
        self._closed = True
        if not self._reading:
            self._raw.close()
            return
        # Another thread may be blocked in a read: only the end of the connection wakes it.
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._raw.shutdown()


def _authorization(api: ApiClient) -> dict[str, str]:
    """Return the headers that say who we are; the package renews an expired token on the way."""
    headers: dict[str, str] = {"User-Agent": api.user_agent}
    api.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
    return {name: value.strip() for name, value in headers.items()}


def _whole(call: _Call, raw: urllib3.BaseHTTPResponse, deadline: float) -> Response:
    """Read an answer to its end; what was read so is back in the pool already when it is closed."""
    try:
        return read_response(raw.status, _read_body(raw, deadline), raw.headers)
    except (*WIRE_ERRORS, UnavailableError) as error:
        raise UnavailableError(f"{call}: {error}") from error
    finally:
        raw.close()


def _status_of(response: Response) -> Json:
    """Return the Status of a watch that was refused."""
    status: Json = {"kind": "Status", **response.body, "code": response.status}
    asked = response.headers.get("retry-after", "")
    return {**status, "details": {"retryAfterSeconds": int(asked)}} if asked.isdecimal() else status


def _stamp(file: str) -> tuple[str, int, int]:
    try:
        status = os.stat(file)
    except OSError:
        return file, 0, 0
    return file, status.st_mtime_ns, status.st_ino


def _read_body(raw: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """Read it all, but no more than MAX_BODY_BYTES and not beyond the deadline."""
    chunks: list[bytes] = []
    size = 0
    while chunk := raw.read1(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise UnavailableError(f"the answer is larger than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise UnavailableError("the answer did not end in time")
    return b"".join(chunks)


def _lines(raw: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    while chunk := raw.read1(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
        if len(rest) > MAX_LINE_BYTES:
            raise UnavailableError(f"an event of the watch is longer than {MAX_LINE_BYTES} bytes")
    if rest.strip():
        raise UnavailableError("the watch ended within an event")
