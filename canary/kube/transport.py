"""The seam to an API server: one request in, one answer out, and a stream of watch events.

`kube.http_transport` implements it over the wire and the embedded API server in process, so that every line
above it runs the same in both. A HTTP status is a value here; `kube.client` turns it into an error or an
absence. Only what never became an answer (refused, timed out, half a body, broken TLS) is raised, as
UnavailableError.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = dict[str, Any]

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
