"""As much HTTP/1.1 as the lab's shop, gateway and customers speak: kept-alive connections and bodies of known length.

Bytes go in, framed messages come out. It is our own because the lab carries more than a thousand requests a second
through three processes beside the controller on two cores, which the libraries at hand do not; nothing outside the
lab uses it. `shop.py`, `gateway.py` and `load.py` do.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024 * 1024
_REASONS = {
    200: "OK",
    404: "Not Found",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


class Frame(NamedTuple):
    """One whole message at the start of a buffer: the length of its head, and of all of it."""

    head: int
    size: int


class WireError(Exception):
    """The other side does not speak what the lab speaks."""


def frame(buffer: bytes) -> Frame | None:
    """Return the first whole message of the buffer, or None; raise WireError for what cannot become one."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD_BYTES:
            raise WireError("the head is too long")
        return None
    head = buffer[:end].lower()
    if b"\r\ntransfer-encoding:" in head:
        raise WireError("a body of unknown length")
    length = _content_length(head)
    if length > MAX_BODY_BYTES:
        raise WireError("the body is too long")
    size = end + 4 + length
    return Frame(end + 4, size) if len(buffer) >= size else None


def _content_length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    digits = head[at + 17 :].split(b"\r\n", 1)[0].strip()
    if not digits.isdigit():
        raise WireError("a content-length that is no number")
    return int(digits)


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler is given."""

    method: str
    path: str
    body: bytes
    raw: bytes  # all of it, as it came


def response(status: int, body: bytes, headers: str = "", content_type: str = "application/json") -> bytes:
    """Return a whole answer; `headers` are further lines, each ended by CR LF."""
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


Respond = Callable[[bytes], None]
Handler = Callable[[Request, Respond], None]  # must answer every request once, now or later


class ServerConnection(asyncio.Protocol):
    """The server's side of a connection: one request at a time, answered in order."""

    def __init__(self, handler: Handler, open_connections: "set[ServerConnection]") -> None:
        self._handler = handler
        self._open = open_connections
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._next()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        try:
            found = frame(self._buffer)
        except WireError:
            self.close()
            return
        if found is None:
            return
        raw, self._buffer = self._buffer[: found.size], self._buffer[found.size :]
        line = raw[: raw.index(b"\r\n")].decode("latin-1").split(" ")
        if len(line) != 3:
            self.close()
            return
        self._busy = True
        self._handler(Request(line[0], line[1], raw[found.head :], raw), self._respond)

    def _respond(self, answer: bytes) -> None:
        self._busy = False
        if self._transport is None:
            return
        self._transport.write(answer)
        if self._buffer:
            self._next()
