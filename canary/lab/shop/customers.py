"""The customers: open-loop HTTP load with a daily curve, who know whether they meant to order and whether they could.

In go commands (`run` with an address, a rate and a seed); out comes an event a second with all totals so far, by the
version that answered. Arrivals do not wait for answers, as people do not; visits at a time are bounded, and whoever
would be one more stays away. Runs as a child process (`child.py`).
"""

import asyncio
import random
import time
from dataclasses import asdict, dataclass
from typing import Any

from canary.lab.shop.child import Tell, run_child
from canary.lab.shop.demand import LEVEL_MEMORY_SECONDS, LEVEL_SPREAD, Wander, daily_curve, poisson
from canary.lab.shop.wire import Message, Pool, WireError

TICK_SECONDS = 0.005
REPORT_SECONDS = 1.0
LEAVE_SECONDS = 5.0
PATIENCE_SECONDS = 15.0  # longer than the gateway waits for a pod
MAX_VISITS = 256
_VERSION = b"\r\nx-shop-version: "


@dataclass(slots=True)
class Sales:
    """What customers met, in all."""

    requests: int = 0
    wanted: int = 0  # customers who meant to order
    placed: int = 0  # who got an order number
    failed: int = 0  # answers of 500 and above
    broken: int = 0  # connections that ended without an answer
    # Unix seconds: when the first who meant to order was answered and could not, and when the last answer came.
    first_lost_at: float | None = None
    last_at: float | None = None


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
        self._pool = Pool(shopping.host, shopping.port, PATIENCE_SECONDS)
        self._visits: set[asyncio.Task[None]] = set()
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
        if self._visits:
            await asyncio.wait(self._visits, timeout=LEAVE_SECONDS)

    def close(self) -> None:
        """Close every connection."""
        for visit in self._visits:
            visit.cancel()
        self._pool.close()

    def _expected(self, age: float, seconds: float) -> float:
        if self._shopping.steady:
            return self._shopping.rate * seconds
        return self._shopping.rate * seconds * daily_curve(age) * self._wander.advance(seconds)

    def _arrive(self) -> None:
        buys = self._random.random() < self._shopping.conversion
        if len(self._visits) < MAX_VISITS:
            visit = asyncio.create_task(self._visit(buys))
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)

    async def _visit(self, buys: bool) -> None:
        try:
            answer = await self._pool.ask(self._requests[buys])
        except (OSError, WireError):
            self.total.requests += 1
            self.total.wanted += buys
            self.total.broken += 1
            return
        for sales in (self.total, self.by_version.setdefault(version_of(answer), Sales())):
            sales.requests += 1
            sales.wanted += buys
            sales.placed += (placed := b'"order"' in answer.body)
            sales.failed += answer.start[1].startswith("5")
            sales.last_at = time.time()
            if buys and not placed and sales.first_lost_at is None:
                sales.first_lost_at = sales.last_at


def version_of(answer: Message) -> str:
    """Return the version that answered; a gateway may write the names of headers as it likes."""
    at = answer.head.lower().find(_VERSION)
    return answer.head[at + len(_VERSION) :].partition(b"\r\n")[0].decode() if at >= 0 else ""


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
        self.commands = {"run": self._run, "finish": self._finish}

    async def _run(self, **shopping: Any) -> None:
        self.close()
        self._customers = Customers(Shopping(**shopping))
        self._tasks = [asyncio.create_task(each) for each in (self._customers.shop(), self._report())]

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
