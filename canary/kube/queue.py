"""The work queue: which key is looked at next, and when.

Watches, timers and workers `add` keys; workers `take` one, look at it, and say `done` or `failed`. A key
waits in one place only and is never with two workers; what is added while a worker has it makes it run once
more. Two lanes: the quick one has workers of its own and takes what is exposed to customers, so that a
thousand idle objects cannot delay one rollback. Retries live here and nowhere else. `Agenda` is the
structure, without clock and lock; `WorkQueue` adds both.
"""

import heapq
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from canary.clock import Clock
from canary.kube.resources import Key

FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 300.0
LONGEST_QUICK_BACKOFF_SECONDS = 1.0
STALE_ENTRIES_KEPT = 64  # the heap may hold as many outdated entries as live ones, and these


class Lane(StrEnum):
    """Which workers take a key."""

    QUICK = "quick"
    SLOW = "slow"


class Urgency(IntEnum):
    """Why a key is looked at; the smaller goes first."""

    LOWERING = 0  # exposure is to fall
    EXPOSED = 1  # customers see the new version
    REST = 2

    @property
    def lane(self) -> Lane:
        return Lane.SLOW if self is Urgency.REST else Lane.QUICK


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that waits. `number` tells a live entry of the heap from one that was replaced."""

    due: float
    urgency: Urgency
    number: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A key that a worker has, and for how long it waited after it was due."""

    key: Key
    urgency: Urgency
    waited_seconds: float


class Agenda:
    """Keys by the moment at which they are due. Every method is told the time; no clock, no lock."""

    def __init__(self) -> None:
        self._waiting: dict[Key, Entry] = {}
        self._heaps: dict[Urgency, list[tuple[float, int, Key]]] = {urgency: [] for urgency in Urgency}
        self._running: dict[Key, Entry] = {}
        self._again: dict[Key, Entry] = {}
        self._failures: dict[Key, int] = {}
        self._floors: dict[Key, float] = {}
        self._numbers = itertools.count()

    def add(self, key: Key, due: float, urgency: Urgency = Urgency.REST) -> None:
        """Have `key` looked at. Of several adds the earliest moment and the highest urgency hold."""
        if urgency is not Urgency.LOWERING:
            due = max(due, self._floors.get(key, due))
        if key in self._running:
            self._again[key] = self._merged(self._again.get(key), due, urgency)
            return
        known = self._waiting.get(key)
        entry = self._merged(known, due, urgency)
        if entry is not known:
            self._enlist(key, entry)

    def pop_due(self, now: float, lanes: Sequence[Lane] = tuple(Lane)) -> Taken | None:
        """Hand out the most urgent key that is due, or None; the caller owes `done` or `failed`."""
        for urgency in Urgency:
            due = self._head(urgency) if urgency.lane in lanes else None
            if due is not None and due <= now:
                key = heapq.heappop(self._heaps[urgency])[2]
                self._running[key] = self._waiting.pop(key)
                return Taken(key, urgency, now - due)
        return None

    def done(self, key: Key) -> None:
        """The look is over; whatever was added meanwhile waits now."""
        self._failures.pop(key, None)
        self._floors.pop(key, None)
        self._finish(key)

    def failed(self, key: Key, now: float, floor_seconds: float = 0.0) -> float:
        """The look failed: try again later, and later each time. Return for how many seconds the key waits.

        A wake cuts the wait short, for there is something new to see. Only a server that asked for patience
        (`floor_seconds`) gets it from every look but a lowering.
        """
        urgency = self._running[key].urgency
        count = self._failures[key] = self._failures.get(key, 0) + 1
        self._floors[key] = now + floor_seconds
        longest = LONGEST_BACKOFF_SECONDS if urgency is Urgency.REST else LONGEST_QUICK_BACKOFF_SECONDS
        self._finish(key)
        self.add(key, now + min(FIRST_BACKOFF_SECONDS * 2.0 ** min(count - 1, 32), longest), urgency)
        return max(0.0, self._waiting[key].due - now)

    def forget(self, key: Key) -> None:
        """Drop a key whose object is gone. A worker that has it is not disturbed."""
        for memory in (self._waiting, self._again, self._failures, self._floors):
            memory.pop(key, None)

    def next_due(self, lanes: Sequence[Lane] = tuple(Lane)) -> float | None:
        """Return when the next key of these lanes is due, or was. None: nothing waits."""
        heads = (self._head(urgency) for urgency in Urgency if urgency.lane in lanes)
        return min((head for head in heads if head is not None), default=None)

    def depth(self, lane: Lane, now: float) -> int:
        """Return how many keys of the lane are due and wait for a worker."""
        waiting = self._waiting.values()
        return sum(entry.due <= now and entry.urgency.lane is lane for entry in waiting)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def _merged(self, known: Entry | None, due: float, urgency: Urgency) -> Entry:
        if known is None:
            return Entry(due, urgency, next(self._numbers))
        if known.due <= due and known.urgency <= urgency:
            return known
        return Entry(min(known.due, due), min(known.urgency, urgency), next(self._numbers))

    def _enlist(self, key: Key, entry: Entry) -> None:
        """Put the entry where it waits. What it replaces stays in its heap and is skipped by its number."""
        self._waiting[key] = entry
        heap = self._heaps[entry.urgency]
        heapq.heappush(heap, (entry.due, entry.number, key))
        if len(heap) > 2 * len(self._waiting) + STALE_ENTRIES_KEPT:
            heap[:] = filter(self._is_live, heap)
            heapq.heapify(heap)

    def _is_live(self, item: tuple[float, int, Key]) -> bool:
        entry = self._waiting.get(item[2])
        return entry is not None and entry.number == item[1]

    def _head(self, urgency: Urgency) -> float | None:
        heap = self._heaps[urgency]
        while heap and not self._is_live(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _finish(self, key: Key) -> None:
        del self._running[key]
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again.due, again.urgency)


class WorkQueue:
    """An `Agenda` on a clock, shared by threads. `take` waits; `take_due` does not, for simulated time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._agenda = Agenda()
        self._changed = threading.Condition()
        self._stopped = False

    def add(self, key: Key, urgency: Urgency = Urgency.REST, delay_seconds: float = 0.0) -> None:
        with self._changed:
            self._agenda.add(key, self._clock.monotonic() + delay_seconds, urgency)
            self._changed.notify_all()

    def take_due(self, lanes: Sequence[Lane] = tuple(Lane)) -> Taken | None:
        """Return a key that is due, or None; never wait."""
        with self._changed:
            return self._agenda.pop_due(self._clock.monotonic(), lanes)

    def take(self, lanes: Sequence[Lane], timeout_seconds: float) -> Taken | None:
        """Wait for a key of these lanes. None after the time-out, and at once when the queue is stopped."""
        end = self._clock.monotonic() + timeout_seconds
        with self._changed:
            while not self._stopped:
                now = self._clock.monotonic()
                taken = self._agenda.pop_due(now, lanes)
                if taken is not None or now >= end:
                    return taken
                due = self._agenda.next_due(lanes)
                self._changed.wait(min(end, due if due is not None else end) - now)
        return None

    def done(self, key: Key) -> None:
        with self._changed:
            self._agenda.done(key)
            self._changed.notify_all()

    def failed(self, key: Key, floor_seconds: float = 0.0) -> float:
        """The look failed; return for how many seconds the key waits."""
        with self._changed:
            wait = self._agenda.failed(key, self._clock.monotonic(), floor_seconds)
            self._changed.notify_all()
            return wait

    def forget(self, key: Key) -> None:
        with self._changed:
            self._agenda.forget(key)

    def next_due(self, lanes: Sequence[Lane] = tuple(Lane)) -> float | None:
        """Return when, on the monotonic clock, something of these lanes is due; None when nothing waits."""
        with self._changed:
            return self._agenda.next_due(lanes)

    def depth(self, lane: Lane) -> int:
        with self._changed:
            return self._agenda.depth(lane, self._clock.monotonic())

    def stop(self) -> None:
        """Let every waiting worker go; what waits is dropped, for a start looks at everything again."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
