"""The gateway's view of the API server: three watches, and the status that it writes on routes.

In goes a kubeconfig; out comes a `Snapshot` of HTTPRoutes, Services and EndpointSlices after every
change, within milliseconds, and `status.parents` of each route as a Gateway controller owes it. It imports no client
library, because the gateway is a process that has to start quickly. `gateway.py` uses it.
"""

import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from canary.errors import UnavailableError
from canary.lab.routing import wanted_status

ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"
SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
WATCH_SECONDS = 60
TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = 0.2

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the gateway knows at one moment."""

    routes: tuple[Object, ...] = ()
    services: tuple[Object, ...] = ()
    slices: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    headers: Mapping[str, str]
    trust: ssl.SSLContext | None

    def connect(self, seconds: float) -> HTTPConnection:
        if self.trust is None:
            return HTTPConnection(self.host, self.port, timeout=seconds)
        return HTTPSConnection(self.host, self.port, timeout=seconds, context=self.trust)


def _server(kubeconfig: Path) -> _Server:
    """Read the one cluster and user that the lab writes into a kubeconfig."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    address = urlsplit(cluster["server"])
    trust = None
    if address.scheme == "https":
        trust = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
    headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/merge-patch+json"}
    return _Server(str(address.hostname), address.port or 443, headers, trust)


class Feed:
    """Three watching threads and one that writes statuses. `changed` is called from any of them."""

    def __init__(self, kubeconfig: Path, changed: Callable[[Snapshot], object]) -> None:
        self._server = _server(kubeconfig)
        self._changed = changed
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, Object]] = {ROUTES: {}, SERVICES: {}, SLICES: {}}
        self._seen: set[str] = set()
        self._stopping = threading.Event()
        self._dirty = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._follow, args=(path,), daemon=True) for path in self._objects),
            threading.Thread(target=self._write_statuses, daemon=True),
        ]
        self._open: set[HTTPConnection] = set()

    def start(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._stopping.set()
        self._dirty.set()
        with self._lock:
            for connection in self._open:
                _cut(connection)
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)

    def _follow(self, path: str) -> None:
        """List, then watch, then again: for ever."""
        while not self._stopping.is_set():
            with contextlib.suppress(OSError, HTTPException, ValueError, KeyError, UnavailableError):
                self._watch(path, self._list(path))
            self._stopping.wait(RETRY_SECONDS)

    def _list(self, path: str) -> str:
        with self._request("GET", path, TIMEOUT_SECONDS) as answer:
            document = json.loads(answer.read())
        objects = {_key(thing): thing for thing in document["items"]}
        with self._lock:
            self._objects[path] = objects
            self._seen.add(path)
        self._publish()
        return str(document["metadata"]["resourceVersion"])

    def _watch(self, path: str, version: str) -> None:
        query = f"?watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        with self._request("GET", path + query, WATCH_SECONDS + TIMEOUT_SECONDS) as answer:
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR" or self._stopping.is_set():
                    return
                if event["type"] != "BOOKMARK":
                    self._apply(path, event["type"], event["object"])

    def _apply(self, path: str, kind: str, thing: Object) -> None:
        with self._lock:
            objects = dict(self._objects[path])
            if kind == "DELETED":
                objects.pop(_key(thing), None)
            else:
                objects[_key(thing)] = thing
            self._objects[path] = objects
        self._publish()

    def _publish(self) -> None:
        with self._lock:
            if len(self._seen) < len(self._objects):
                return  # a table of routes without endpoints would fail requests that it could serve
            snapshot = self._snapshot()
        self._changed(snapshot)
        self._dirty.set()

    def _snapshot(self) -> Snapshot:
        routes, services, slices = (
            tuple(self._objects[path].values()) for path in (ROUTES, SERVICES, SLICES)
        )
        return Snapshot(routes, services, slices)

    def _write_statuses(self) -> None:
        while not self._stopping.is_set():
            self._dirty.wait()
            self._dirty.clear()
            with self._lock:
                snapshot = self._snapshot()
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            for route in snapshot.routes:
                status = wanted_status(route, snapshot.services, now)
                if status is not None and not self._stopping.is_set() and not self._write(route, status):
                    self._stopping.wait(RETRY_SECONDS)
                    self._dirty.set()

    def _write(self, route: Mapping[str, Any], status: Object) -> bool:
        meta = route["metadata"]
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{meta['namespace']}/httproutes/{meta['name']}/status"
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status}
        try:
            with self._request("PATCH", path, TIMEOUT_SECONDS, body) as answer:
                answer.read()
        except UnavailableError as error:
            # Gone, or newer than what was seen: the watch brings the next reason to write.
            return "HTTP 409" in str(error) or "HTTP 404" in str(error)
        except (OSError, HTTPException):
            return False
        return True

    @contextlib.contextmanager
    def _request(
        self, method: str, path: str, seconds: float, body: Object | None = None
    ) -> Generator[HTTPResponse]:
        connection = self._server.connect(seconds)
        with self._lock:
            self._open.add(connection)
        try:
            sent = json.dumps(body) if body is not None else None
            connection.request(method, path, sent, dict(self._server.headers))
            answer = connection.getresponse()
            if answer.status != 200:
                raise UnavailableError(f"{method} {path} answered HTTP {answer.status}")
            yield answer
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def _key(thing: Object) -> str:
    return f"{thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def _cut(connection: HTTPConnection) -> None:
    if isinstance(connection.sock, socket.socket):
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
