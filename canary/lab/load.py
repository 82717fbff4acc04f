"""The customers: open-loop HTTP load with a daily curve, who know whether they meant to order and whether they could.

In go commands (`run` with an address, a rate and a seed); out comes an event a second with all totals so far, by the
version that answered. Arrivals do not wait for answers, as people do not; connections are bounded, and a customer
for whom none is free is counted as turned away. Runs as a child process (`child.py`).
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from canary.lab.child import Tell, run_child
from canary.lab.demand import LEVEL_MEMORY_SECONDS, LEVEL_SPREAD, Wander, daily_curve, poisson
from canary.lab.wire import WireError, frame

TICK_SECONDS = 0.005
REPORT_SECONDS = 1.0
LEAVE_SECONDS = 5.0
MAX_CONNECTIONS = 256
_VERSION = b"\r\nX-Shop-Version: "


@dataclass(slots=True)
class Sales:
    """What customers met, in all."""

    requests: int = 0
    wanted: int = 0  # customers who meant to order
    placed: int = 0  # who got an order number
    failed: int = 0  # answers of 500 and above
    broken: int = 0  # connections that ended without an answer


@dataclass(frozen=True, slots=True)
class Shopping:
    """What to do: `rate` is requests per second at the start of the curve, `conversion` the share that buys."""

    host: str
    port: int
    rate: float
    conversion: float
    seed: int
    steady: bool = False  # neither curve nor wandering level


class Customers:
    """Everybody who shops, on one event loop."""

    def __init__(self, shopping: Shopping) -> None:
        self._shopping = shopping
        self._random = random.Random(shopping.seed)
        self._wander = Wander(self._random, LEVEL_SPREAD, LEVEL_MEMORY_SECONDS)
        self._requests = {buys: _request(shopping, buys) for buys in (True, False)}
        self._idle: deque[_Connection] = deque()
        self._connections: set[_Connection] = set()
        self.total = Sales()
        self.by_version: dict[str, Sales] = {}

    async def shop(self) -> None:
        """Send requests until cancelled."""
        loop = asyncio.get_running_loop()
        begun = last = loop.time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = loop.time()
            for _ in range(poisson(self._random, self._expected(now - begun, now - last))):
                self._arrive()
            last = now

    async def leave(self) -> None:
        """Wait until everybody who came was answered, within a bound."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LEAVE_SECONDS
        while len(self._idle) < len(self._connections) and loop.time() < deadline:
            await asyncio.sleep(TICK_SECONDS)

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._connections):
            connection.close()

    def _expected(self, age: float, seconds: float) -> float:
        if self._shopping.steady:
            return self._shopping.rate * seconds
        return self._shopping.rate * seconds * daily_curve(age) * self._wander.advance(seconds)

    def _arrive(self) -> None:
        buys = self._random.random() < self._shopping.conversion
        if self._idle:
            self._idle.pop().ask(self._requests[buys], buys)
        elif len(self._connections) < MAX_CONNECTIONS:
            connection = _Connection(self)
            self._connections.add(connection)
            connection.opening = asyncio.ensure_future(self._open(connection, buys))

    async def _open(self, connection: "_Connection", buys: bool) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: connection, self._shopping.host, self._shopping.port)
        except OSError:
            self.lost(connection, buys)
            return
        connection.ask(self._requests[buys], buys)

    def answered(self, connection: "_Connection", answer: bytes, buys: bool) -> None:
        """Count one answer; its connection is free again."""
        self._idle.append(connection)
        at = answer.find(_VERSION)
        version = answer[at + len(_VERSION) : answer.index(b"\r\n", at + 2)].decode() if at >= 0 else ""
        failed = answer[9:10] == b"5"
        placed = b'"order"' in answer
        for sales in (self.total, self.by_version.setdefault(version, Sales())):
            sales.requests += 1
            sales.wanted += buys
            sales.placed += placed
            sales.failed += failed

    def lost(self, connection: "_Connection", buys: bool | None) -> None:
        """Forget a connection that ended; with `buys` given a customer was waiting on it."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if buys is not None:
            self.total.requests += 1
            self.total.wanted += buys
            self.total.broken += 1


class _Connection(asyncio.Protocol):
    """A customer's side of a connection: one request at a time."""

    def __init__(self, customers: Customers) -> None:
        self._customers = customers
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._buys: bool | None = None
        self.opening: asyncio.Future[None] | None = None  # kept: a task that nobody holds may be collected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._customers.lost(self, self._buys)

    def ask(self, request: bytes, buys: bool) -> None:
        """Send a request."""
        self._buys = buys
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        try:
            found = frame(self._buffer)
        except WireError:
            self.close()
            return
        if found is None or self._buys is None:
            return
        answer, self._buffer = self._buffer[: found.size], self._buffer[found.size :]
        buys, self._buys = self._buys, None
        self._customers.answered(self, answer, buys)


def _request(shopping: Shopping, buys: bool) -> bytes:
    body = b'{"buy": true}' if buys else b'{"buy": false}'
    head = (
        f"POST /checkout HTTP/1.1\r\nHost: {shopping.host}:{shopping.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class LoadProcess:
    """Customers as a child process: `run` starts shopping, `finish` ends it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._customers: Customers | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def obey(self, command: Mapping[str, Any]) -> None:
        """Do one command."""
        match command["do"]:
            case "run":
                self.close()
                fields = {name: value for name, value in command.items() if name != "do"}
                self._customers = Customers(Shopping(**fields))
                self._tasks = [
                    asyncio.create_task(self._customers.shop()),
                    asyncio.create_task(self._report()),
                ]
            case "finish":
                await self._finish()
            case unknown:
                self._tell({"event": "refused", "detail": f"no command {unknown!r}"})

    async def _finish(self) -> None:
        """Let nobody else in, wait for the last answers, and tell the final totals."""
        for task in self._tasks:
            task.cancel()
        if self._customers is not None:
            await self._customers.leave()
            self._tell_sales("finished")
        self.close()

    def close(self) -> None:
        """Send no more."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        if self._customers is not None:
            self._customers.close()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._tell_sales()

    def _tell_sales(self, event: str = "sales") -> None:
        if self._customers is not None:
            by_version = {version: asdict(sales) for version, sales in self._customers.by_version.items()}
            total = asdict(self._customers.total)
            self._tell({"event": event, "at": time.time(), "total": total, "by_version": by_version})


def main() -> None:
    """Shop until standard input ends."""
    run_child(LoadProcess)


if __name__ == "__main__":
    main()
