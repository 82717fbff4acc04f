"""The three pages that a cluster asks the controller for: /healthz, /readyz and /metrics.

A small server on a thread of its own. Each check is a function that returns why not, or nothing; the answer
is 200 or 503 with that reason. It serves GET only, few clients at once, and none for long: nobody can hold
up the controller through it.
"""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_CLIENTS = 16
CLIENT_SECONDS = 5.0
STOP_POLL_SECONDS = 0.05
STOP_JOIN_SECONDS = 5.0

Check = Callable[[], str]  # returns why not; empty means all is well
Page = Callable[[], tuple[int, bytes]]


class Probes:
    """Serves the pages until it is stopped."""

    def __init__(
        self, address: tuple[str, int], checks: Mapping[str, Check], metrics: Callable[[], bytes]
    ) -> None:
        pages: dict[str, Page] = {path: _checked(check) for path, check in checks.items()}
        pages["/metrics"] = lambda: (200, metrics())
        self._server = _Server(address, pages)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_SECONDS,), name="probes", daemon=True
        )

    @property
    def address(self) -> tuple[str, int]:
        """Return the host and the port, also where port 0 was asked for."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the port and end the thread. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(STOP_JOIN_SECONDS)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """One thread a client, a bounded number of them; a client too many is turned away at once."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CLIENTS)
        super().__init__(address, partial(_Handler, pages))

    def process_request(self, request: object, client_address: object) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)  # type: ignore[arg-type]
        else:
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in mid-answer is no news."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request a connection."""

    timeout = CLIENT_SECONDS

    def __init__(self, pages: Mapping[str, Page], *connection: Any) -> None:
        self._pages = pages
        super().__init__(*connection)  # answers the request, too

    def do_GET(self) -> None:
        page = self._pages.get(self.path.partition("?")[0])
        status, body = page() if page is not None else (404, b"not found\n")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds; they are not worth a line."""


def _checked(check: Check) -> Page:
    def page() -> tuple[int, bytes]:
        trouble = check()
        return (503, f"{trouble}\n".encode()) if trouble else (200, b"ok\n")

    return page
