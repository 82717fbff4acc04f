"""The last writes of a store, for watches: one event a version, the oldest forgotten when there are too many.

A watch says from which version on and gets what came after, or a 410 when that was forgotten. A selector is
obeyed as the real server does: an object that begins to match is ADDED, one that ceases to is DELETED. Used
by `store.py` (writes) and `protocol.py` (reads).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.objects import Object, namespace_of
from canary.lab.apiserver.resources import Kind
from canary.lab.apiserver.selectors import Predicate


class EventType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Event:
    """One write: what the object is now (for DELETED: was at last), and what stood there before."""

    version: int
    kind: Kind
    type: EventType
    obj: Object
    old: Object | None


class History:
    """A list of events whose index is their version; shares the lock of its store."""

    def __init__(self, lock: threading.RLock, limit: int) -> None:  # pyright: ignore[reportGeneralTypeIssues]
        self._events: list[Event] = []
        self._forgotten = 0
        self._limit = limit
        self._appended = threading.Condition(lock)
        self.closed = False

    @property
    def version(self) -> int:
        return self._forgotten + len(self._events)

    def append(self, event: Event) -> None:
        self._events.append(event)
        if len(self._events) > 2 * self._limit:
            self.forget(self.version - self._limit)
        self._appended.notify_all()

    def forget(self, version: int) -> None:
        """Compact: drop every event up to `version`."""
        with self._appended:
            count = min(max(version - self._forgotten, 0), len(self._events))
            del self._events[:count]
            self._forgotten += count

    def after(self, version: int) -> list[Event]:
        """Return the events after `version`; raise a 410 if some of them were forgotten."""
        with self._appended:
            if version < self._forgotten:
                message = f"too old resource version: {version} ({self._forgotten})"
                raise ApiError(StatusReason.EXPIRED, message)
            return self._events[version - self._forgotten :]

    def wait(self, version: int, seconds: float, ended: Callable[[], bool]) -> bool:
        """Wait for an event after `version`, or for the end; tell whether there is an event."""
        with self._appended:
            self._appended.wait_for(lambda: ended() or self.version > version, max(seconds, 0.0))
            return self.version > version

    def wake(self) -> None:
        """Let every waiter ask again whether it has ended."""
        with self._appended:
            self._appended.notify_all()

    def close(self) -> None:
        """End every watch, now and from now on: the server shuts down."""
        self.closed = True
        self.wake()


def seen_through(event: Event, kind: Kind, namespace: str, predicate: Predicate) -> EventType | None:
    """Return what a watch of this kind, namespace and selector sees of an event; None: nothing."""
    if event.kind.key != kind.key or (namespace and namespace_of(event.obj) != namespace):
        return None
    before = event.old is not None and predicate(event.old)
    after = event.type is not EventType.DELETED and predicate(event.obj)
    if after:
        return EventType.MODIFIED if before else EventType.ADDED
    return EventType.DELETED if before else None
