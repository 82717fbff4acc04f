"""Time, as a seam: whoever needs the time is handed a `Clock`, so that the lab can run six hours in seconds.

`WallClock` is the real one. `lab.clock.SimClock` jumps to the next due moment. Nothing in `api` or `core` imports this.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The three questions about time that canary asks."""

    def now(self) -> datetime:
        """Return the wall clock as an aware UTC datetime: for what people and the API server read."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards: for intervals, timeouts and leases."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; 0 or less returns at once."""
        ...


class WallClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return (
            time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
        )

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)
