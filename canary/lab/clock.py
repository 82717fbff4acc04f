"""Simulated time: six hours of shopping in seconds, and the same history for the same seed.

`SimClock` is a `canary.clock.Clock` that never waits: `sleep` and `run_*` jump to the next due timer and run
it. Equal due moments run in the order in which they were asked for. `Timers` is the one seam that the
cluster's controllers and the simulated shop need; `cluster.RealTimeLoop` is its implementation on the wall clock.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
# Of one run: a timer that re-arms itself at once must end as an error, not as a hang.
MAX_CALLBACKS = 50_000_000


@dataclass(slots=True, order=True)
class Timer:
    """A callback that waits for its moment; equal moments keep the order of their making."""

    due: float
    number: int
    callback: Callable[[], None] = field(compare=False)


class Timers(Protocol):
    """Whoever can call back later."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run `callback` once, `seconds` from now (0: as soon as the caller has returned)."""
        ...


class SimClock:
    """A clock that is moved by its owner. Single-threaded; not to be shared between threads."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = start
        self._shift = timedelta(0)
        self._elapsed = 0.0
        self._timers: list[Timer] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed) + self._shift

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Run everything that falls due within `seconds`, and be that much later."""
        if seconds > 0:
            self.run_until(self._elapsed + seconds)

    def jump_wall(self, seconds: float) -> None:
        """Put the wall clock forward or back, as an administrator would; intervals do not notice."""
        self._shift += timedelta(seconds=seconds)

    def call_at(self, due: float, callback: Callable[[], None]) -> None:
        """Run `callback` once when `monotonic()` reaches `due`; a past moment means next."""
        heapq.heappush(self._timers, Timer(max(due, self._elapsed), next(self._numbers), callback))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.call_at(self._elapsed + seconds, callback)

    def next_due(self) -> float | None:
        """Return the moment of the next timer on the monotonic scale, or None if none waits."""
        return self._timers[0].due if self._timers else None

    def run_until(self, moment: float) -> None:
        """Run every timer due up to `moment` of the monotonic scale, in order, then stand at that moment."""
        for _ in range(MAX_CALLBACKS):
            due = self.next_due()
            if due is None or due > moment:
                self._elapsed = max(self._elapsed, moment)
                return
            self._elapsed = max(self._elapsed, due)
            heapq.heappop(self._timers).callback()
        raise RuntimeError(
            f"more than {MAX_CALLBACKS} callbacks before {moment}: a timer re-arms itself at once"
        )

    def run_for(self, seconds: float) -> None:
        self.run_until(self._elapsed + seconds)
