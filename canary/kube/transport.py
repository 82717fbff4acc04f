"""The seam to an API server: one request in, one answer out, and a stream of watch events.

`kube.http_transport` implements it over the wire and the embedded API server in process, so that every line
above it runs the same in both. A HTTP status is a value here; `kube.client` turns it into an error or an
absence. Only what never became an answer (refused, timed out, half a body, broken TLS) is raised, as
UnavailableError.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from canary.errors import UnavailableError

Json = dict[str, Any]

MAX_BODY_BYTES = 64 * 1024 * 1024  # a page of 500 objects of 100 kB
MAX_LINE_BYTES = 4 * 1024 * 1024  # one watch event; etcd stores at most 1.5 MB
MAX_MESSAGE = 300  # of an answer that is no JSON, in an error
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. Header names are lower case; `body` is a Kubernetes object or a Status."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Stream(Protocol):
    """Watch events as they arrive, `{"type": ..., "object": {...}}`. Any thread may `close` it."""

    def __iter__(self) -> Iterator[Json]: ...

    def close(self) -> None:
        """End the iteration soon, also when another thread is blocked in it. Idempotent."""
        ...


class Transport(Protocol):
    """An API server as seen by the client."""

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        """Ask once, without any repetition. Raise UnavailableError where no whole answer came."""
        ...

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        """Open a watch. An HTTP error is one event of type ERROR whose object is the Status."""
        ...


class EndedStream:
    """A watch that the server refused: one event with the reason."""

    def __init__(self, status: Json) -> None:
        self._status = status

    def __iter__(self) -> Iterator[Json]:
        yield {"type": "ERROR", "object": self._status}

    def close(self) -> None:
        """There is nothing to close."""


def read_response(status: int, data: bytes, headers: Mapping[str, str]) -> Response:
    """Read the body as JSON. A failure may come from a proxy in other words; a success may not."""
    body = _json(data)
    if body is None:
        if status < 400:
            raise UnavailableError(f"HTTP {status}, and the body is no JSON object: this is no API server")
        body = {"message": data[:MAX_MESSAGE].decode(errors="replace")}
    return Response(status, body, {name.lower(): value for name, value in headers.items()})


def read_event(line: bytes) -> Json:
    """Read one line of a watch."""
    event = _json(line)
    if event is None:
        raise UnavailableError("an event of the watch is no JSON object")
    return event


def _json(data: bytes) -> Json | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
