"""A receiver of pages on loopback, with faults to order: what a sink posts to in the lab, the demo and the contract.

It keeps what it received, in order, and answers as it was last told to: a status, after a delay, with a huge body,
half of one, or nothing at all. Everything is bounded, and `close` leaves no thread behind.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_RECEIVED = 1_000
MAX_BODY = 1024 * 1024
CHUNK = b"x" * 16_384


@dataclass(frozen=True, slots=True)
class Answer:
    """How to answer from now on."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    hang: bool = False
    """Say nothing, until the receiver is told something else or closed."""
    breaks: bool = False
    """Close the connection in the middle of the reply."""
    flood_bytes: int = 0
    """Send this many bytes more than anybody wants."""


@dataclass(frozen=True, slots=True)
class Received:
    """One post."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = 0.0
    """When it had arrived whole, in Unix seconds."""


class Receiver:
    """Listens on a free port of 127.0.0.1 from the moment it is made."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.received: list[Received] = []
        self.flooded_bytes = 0
        self.answer = answer or Answer()
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="receiver")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening, let go of whoever hangs, and wait for every thread."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_to_be_released(self) -> None:
        self._released.wait(30.0)

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    receiver: Receiver
    daemon_threads = False
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what the faults are for."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  made by no other

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal belongs to others."""

    def do_POST(self) -> None:
        receiver, answer = self.server.receiver, self.server.receiver.answer
        body = self.rfile.read(min(MAX_BODY, int(self.headers.get("Content-Length") or 0)))
        if len(receiver.received) < MAX_RECEIVED:
            receiver.received.append(Received(self.path, dict(self.headers.items()), body, time.time()))
        if answer.hang:
            receiver.wait_to_be_released()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header(
            "Content-Length", str(len(answer.body) + answer.flood_bytes + (99 if answer.breaks else 0))
        )
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(answer.body)
            self._flood(answer.flood_bytes)

    def _flood(self, size: int) -> None:
        for _ in range(0, size, len(CHUNK)):
            self.wfile.write(CHUNK)
            self.server.receiver.flooded_bytes += len(CHUNK)
