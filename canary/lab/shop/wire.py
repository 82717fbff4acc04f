"""As much HTTP/1.1 as the lab's shop, gateway and customers speak: kept-alive connections and bodies of known length.

`Server` hands requests to a coroutine and writes its answers in order; `Pool` asks one endpoint over connections that
it keeps. It is our own because the lab carries more than a thousand requests a second through three processes beside
the controller on two cores, which the libraries at hand do not. `server.py`, `gateway.py` and `customers.py` use it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_IDLE = 256  # connections that a pool keeps open
BACKLOG = 512
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class WireError(Exception):
    """The other side does not speak what the lab speaks, or ended in the middle of it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A whole request or answer as it came; the head ends with its empty line."""

    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        return self.head + self.body

    @property
    def start(self) -> list[str]:
        """Return the three words of the first line."""
        return self.head[: self.head.index(b"\r\n")].decode("latin-1").split(" ", 2)


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Return the next message, or None where the connection ended before it; raise WireError for anything else."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        size = _body_size(head.lower())
        return Message(head, await reader.readexactly(size) if size else b"")
    except asyncio.IncompleteReadError as error:
        if error.partial or error.expected:
            raise WireError("the connection ended within a message") from error
        return None
    except (asyncio.LimitOverrunError, OSError) as error:
        raise WireError(str(error)) from error


def _body_size(head: bytes) -> int:
    if b"\r\ntransfer-encoding:" in head:
        raise WireError("a body of unknown length")
    at = head.find(b"\r\ncontent-length:")
    digits = head[at + 17 :].split(b"\r\n", 1)[0].strip() if at >= 0 else b"0"
    if not digits.isdigit() or int(digits) > MAX_BODY_BYTES:
        raise WireError(f"a body of {digits!r} bytes")
    return int(digits)


def response(status: int, body: bytes, headers: str = "", content_type: str = "application/json") -> bytes:
    """Return a whole answer; `headers` are further lines, each ended by CR LF."""
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


Handler = Callable[[Message], Awaitable[bytes]]


class Server:
    """One listener: the requests of a connection are answered one after the other, until `close`."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._listener: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    async def open(self, host: str, port: int = 0) -> int:
        """Listen and return the port; raise OSError if the address is taken."""
        self._listener = await asyncio.start_server(
            self._serve, host, port, backlog=BACKLOG, limit=MAX_HEAD_BYTES
        )
        return int(self._listener.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Let go of the port and of every connection, with the requests that are under way."""
        if self._listener is not None:
            self._listener.close()
        for task in tuple(self._serving):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a coroutine that runs is in a task"
        self._serving.add(task)
        try:
            with suppress(WireError, asyncio.CancelledError):
                while (request := await read_message(reader)) is not None and len(request.start) == 3:
                    writer.write(await self._handle(request))
        finally:
            self._serving.discard(task)
            writer.close()


class Pool:
    """Kept-alive connections to one endpoint, each for one request at a time."""

    def __init__(self, host: str, port: int, wait_seconds: float) -> None:
        self._address = (host, port)
        self._wait_seconds = wait_seconds
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, raw: bytes) -> Message:
        """Send a request and return the whole answer.

        Raise OSError where nobody listens, WireError where no whole answer comes in time.
        """
        reader, writer = self._kept() or await asyncio.open_connection(*self._address, limit=MAX_HEAD_BYTES)
        try:
            writer.write(raw)
            async with asyncio.timeout(self._wait_seconds):
                answer = await read_message(reader)
        except TimeoutError as error:
            writer.close()
            raise WireError("no answer in time") from error
        except BaseException:
            writer.close()
            raise
        if answer is None:
            writer.close()
            raise WireError("the connection ended without an answer")
        if len(self._idle) < MAX_IDLE:
            self._idle.append((reader, writer))
        else:
            writer.close()
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop()[1].close()

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None
