"""One HTTP POST with nothing left open: time limits, no redirect, no proxy from the environment, a capped reply.

The sinks post through here. The answer becomes nothing (acknowledged), `UnavailableError` (ask again) or
`RefusedError` (it will never take it). An error names the host, never the path: an address may be the secret.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import urllib3

from canary.errors import RefusedError, UnavailableError

MAX_REPLY_BYTES = 64 * 1024
MAX_SHOWN = 200  # characters of a reply in an error
_RETRY_STATUS = frozenset({408, 421, 425, 429})


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a post may take, in seconds."""

    connect: float = 3.0
    read: float = 5.0
    """To the first byte, and between bytes."""
    reply: float = 10.0
    """For the whole reply."""


class Poster:
    """Posts JSON to addresses that were checked when it was made. Safe to share between threads."""

    def __init__(self, limits: TimeLimits | None = None) -> None:
        self._limits = limits or TimeLimits()
        timeout = urllib3.Timeout(connect=self._limits.connect, read=self._limits.read)
        # urllib3 itself reads no proxy from the environment; retries are the outbox's.
        self._pool = urllib3.PoolManager(num_pools=8, maxsize=2, timeout=timeout, retries=False)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Post once. Return if the answer is 2xx; raise UnavailableError or RefusedError otherwise."""
        host = urlsplit(url).netloc.rpartition("@")[2]
        headers = {"Content-Type": "application/json", "User-Agent": "canary-controller", **headers}
        try:
            response = self._pool.request(
                "POST", url, body=body, headers=headers, redirect=False, preload_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"{host}: {_plain_cause(error)}") from error
        try:
            self._judge(host, response)
        finally:
            response.close()

    def _judge(self, host: str, response: urllib3.BaseHTTPResponse) -> None:
        status = response.status
        if 200 <= status < 300:
            return
        said = f"{host} answered {status}: {self._reply(response)}".rstrip(": ")
        if status in _RETRY_STATUS or status >= 500:
            raise UnavailableError(said, retry_after_seconds=retry_after(response.headers.get("Retry-After")))
        if 300 <= status < 400:
            raise RefusedError(
                f"{host} answered {status}: redirects are not followed, give the final address"
            )
        raise RefusedError(said)

    def _reply(self, response: urllib3.BaseHTTPResponse) -> str:
        """Return the beginning of the reply; a slow or huge one is cut."""
        ends_at, held = time.monotonic() + self._limits.reply, b""
        try:
            while len(held) < MAX_REPLY_BYTES and time.monotonic() < ends_at:
                piece = response.read1(4096)
                if not piece:
                    break
                held += piece
        except (urllib3.exceptions.HTTPError, OSError):
            pass  # the status says enough
        text = held.decode("utf-8", "replace")
        return "".join(letter if letter.isprintable() else " " for letter in text)[:MAX_SHOWN].strip()


def checked_url(url: str) -> str:
    """Return the address; raise RefusedError where it is none that may be posted to."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise RefusedError(f"the address of a sink is not a URL: {error}", code="CAN-4301") from error
    if not usable or parts.fragment:
        raise RefusedError("the address of a sink is not an http or https URL", code="CAN-4301")
    return url


def retry_after(header: str | None) -> float:
    """Return the seconds that a Retry-After asks for: a number, or a moment; 0 where it says nothing usable."""
    if not header:
        return 0.0
    if header.strip().isascii() and header.strip().isdigit():
        return float(header.strip()[:9])
    try:
        moment = parsedate_to_datetime(header)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _plain_cause(error: Exception) -> str:
    """Name what happened without the address, which urllib3's messages repeat."""
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return "no connection in time"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "connection refused or name not known"
    return f"the connection broke ({type(error).__name__})"
