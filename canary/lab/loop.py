"""One thread that runs callbacks when they are due on the wall clock: `Timers` for a cluster in real time.

The demo's controllers live here. `call_later` may be called from any thread and wakes the loop at once, so
that a write in the store is followed by its reconcile within milliseconds. `stop` ends the thread and waits
for it.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from canary.lab.clock import Timer

STOP_SECONDS = 5.0


class RealTimeLoop:
    """Callbacks on one background thread, in the order in which they fall due."""

    def __init__(self) -> None:
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="lab-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the loop after the callback that runs now; idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(STOP_SECONDS)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        with self._changed:
            timer = Timer(time.monotonic() + seconds, next(self._numbers), callback)
            heapq.heappush(self._timers, timer)
            self._changed.notify_all()
        return timer

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            if not timer.cancelled:
                timer.callback()

    def _next(self) -> Timer | None:
        with self._changed:
            while not self._stopping:
                wait = self._timers[0].due - time.monotonic() if self._timers else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._timers)
                self._changed.wait(wait)
        return None
