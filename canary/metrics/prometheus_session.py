"""The HTTP session under prometheus-api-client: bounded, and strict about what an answer may be.

In goes a request that the client prepared; out comes an answer whose JSON was parsed once and checked, or a
`NoCountsError` with the reason, or `QueryInvalidError` when asking again cannot help. No proxy variables, no .netrc, no
redirects, no silent retries; a body is cut at its bound and at its deadline. `prometheus.py` and
`prometheus_history.py` each connect once.
"""

import json
import time
from pathlib import Path
from typing import Any

import requests
import urllib3
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from canary.api.reasons import MissingReason
from canary.errors import RefusedError
from canary.metrics.source import NoCountsError

MAX_BODY_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
MAX_SHOWN = 200  # characters of a foreign answer that a message quotes


class QueryInvalidError(RefusedError):
    """The server understood and refused the query: the policy or the settings have to change."""


def connect(address: str, ca_file: str = "", token_file: str = "") -> PrometheusConnect:
    """Return a client with one connection to a server."""
    session = BoundedSession(ca_file, token_file)
    client = PrometheusConnect(address.rstrip("/"), session=session)
    session.mount(address.rstrip("/"), HTTPAdapter(pool_maxsize=1, max_retries=0))  # its own repeats silently
    return client


class TokenFile(AuthBase):
    """A bearer token that is read again for every request, so that a rotated token is used at once."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise NoCountsError(
                MissingReason.UNAUTHORISED, f"the token file cannot be read: {error}"
            ) from error
        r.headers["Authorization"] = f"Bearer {token}"
        return r


class Answer(requests.Response):
    """A checked answer of the query API; `json()` costs nothing."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.status_code = 200
        self._document = document

    def json(self, **kwargs: Any) -> dict[str, Any]:
        return self._document


class BoundedSession(requests.Session):
    """A session whose every answer is either a whole matrix or an error with a reason."""

    def __init__(self, ca_file: str = "", token_file: str = "") -> None:
        super().__init__()
        self.trust_env = False
        self.auth = TokenFile(token_file) if token_file else None
        self.verify = ca_file or True

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send once, read within the deadline and the bound, and check; `timeout` is the whole time in seconds."""
        kwargs.update(stream=True, allow_redirects=False)
        deadline = time.monotonic() + float(kwargs["timeout"])
        try:
            response = super().send(request, **kwargs)
            try:
                body = _body(response, deadline)
            finally:
                response.close()
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise NoCountsError(MissingReason.TIMED_OUT, "Prometheus did not answer in time") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise NoCountsError(
                MissingReason.UNAVAILABLE, f"Prometheus cannot be reached: {error}"
            ) from error
        return Answer(checked(response.status_code, body))


def _body(response: requests.Response, deadline: float) -> bytes:
    """Read the body as it comes: a slow one is cut at the deadline, a large one at the bound."""
    parts: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NoCountsError(MissingReason.TIMED_OUT, "Prometheus did not end its answer in time")
        # The timeout of a socket starts anew with every byte; the deadline does not.
        sock = getattr(response.raw.connection, "sock", None)
        if sock is not None:
            sock.settimeout(left)
        chunk: bytes = response.raw.read1(CHUNK_BYTES, decode_content=True)
        if not chunk:
            return b"".join(parts)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise NoCountsError(MissingReason.TOO_LARGE, f"Prometheus sent more than {MAX_BODY_BYTES} bytes")
        parts.append(chunk)


def checked(status: int, body: bytes) -> dict[str, Any]:
    """Return the document of a successful matrix answer; raise QueryInvalidError or NoCountsError for all else."""
    shown = body[:MAX_SHOWN].decode("utf-8", "replace").strip()
    if status in (400, 422):
        raise QueryInvalidError(f"Prometheus refuses the query (HTTP {status}): {shown}")
    if status in (401, 403):
        raise NoCountsError(MissingReason.UNAUTHORISED, f"Prometheus answered HTTP {status}: {shown}")
    if status == 429 or status >= 500:
        raise NoCountsError(MissingReason.UNAVAILABLE, f"Prometheus answered HTTP {status}: {shown}")
    if status != 200:
        raise NoCountsError(MissingReason.MALFORMED, f"Prometheus answered HTTP {status}: {shown}")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise NoCountsError(MissingReason.MALFORMED, f"the answer is not JSON: {shown}") from error
    return _matrix(document, shown)


def _matrix(document: Any, shown: str) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("status") != "success":
        raise NoCountsError(MissingReason.MALFORMED, f"the answer does not say success: {shown}")
    data = document.get("data")
    if (
        not isinstance(data, dict)
        or data.get("resultType") != "matrix"
        or not isinstance(data.get("result"), list)
    ):
        raise NoCountsError(MissingReason.MALFORMED, f"the answer is not a matrix: {shown}")
    if document.get("warnings"):
        raise NoCountsError(
            MissingReason.PARTIAL, f"Prometheus warns: {str(document['warnings'])[:MAX_SHOWN]}"
        )
    return document
