"""A watch: what changed after a version, as the lines that an API server streams.

Made by `protocol.py`, iterated by a connection's thread (or by the in-process transport), closed from any
thread. A forgotten version is told as an ERROR event with code 410. A watch that does not follow ends where a
real one would begin to wait: simulated clients poll, because nobody else could move the clock meanwhile.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.history import EventType, seen_through
from canary.lab.apiserver.objects import Object, clone
from canary.lab.apiserver.resources import Kind
from canary.lab.apiserver.selectors import Predicate
from canary.lab.apiserver.store import Store

WATCH_SECONDS = 300.0  # of a watch that names no end
MAX_WATCH_SECONDS = 3_600.0
BOOKMARK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a client asked for; an empty version (or 0) begins with what is there."""

    version: str = ""
    seconds: float = WATCH_SECONDS
    bookmarks: bool = False
    follow: bool = True


class Watch:
    """An iterable of `{"type", "object"}`, the reader's own; `close` ends it soon, also from another thread."""

    def __init__(
        self, store: Store, kind: Kind, namespace: str, predicate: Predicate, options: WatchOptions
    ) -> None:
        self._store = store
        self._kind = kind
        self._namespace = namespace
        self._predicate = predicate
        self._options = options
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._store.history.wake()

    def __iter__(self) -> Iterator[Object]:
        try:
            for seen, obj in self._events():
                yield {"type": seen.value, "object": clone(obj)}
        except ApiError as error:
            yield {"type": EventType.ERROR.value, "object": error.status()}

    def _ended(self) -> bool:
        return self._closed or self._store.history.closed

    def _events(self) -> Iterator[tuple[EventType, Object]]:
        version, present = self._start()
        yield from ((EventType.ADDED, obj) for obj in present)
        history, options = self._store.history, self._options
        end = time.monotonic() + min(options.seconds, MAX_WATCH_SECONDS)
        while not self._ended():
            for event in history.after(version):
                version = event.version
                seen = seen_through(event, self._kind, self._namespace, self._predicate)
                if seen is not None:
                    yield seen, event.obj
            left = end - time.monotonic() if options.follow else 0.0
            moved = left > 0 and history.wait(version, min(left, BOOKMARK_SECONDS), self._ended)
            if not moved and options.bookmarks:
                yield EventType.BOOKMARK, self._bookmark(version)
            if left <= 0:
                return

    def _start(self) -> tuple[int, list[Object]]:
        wanted = self._options.version
        with self._store.lock:
            current = self._store.version
            if wanted in ("", "0"):
                return current, self._store.select(self._kind, self._namespace, self._predicate)
        if not wanted.isdigit():
            raise ApiError(StatusReason.BAD_REQUEST, f"resourceVersion is a number here, not {wanted!r}")
        if int(wanted) > current:
            raise ApiError(StatusReason.TIMEOUT, f"Too large resource version: {wanted}, current: {current}")
        return int(wanted), []

    def _bookmark(self, version: int) -> Object:
        meta = {"resourceVersion": str(version), "creationTimestamp": None}
        return {"apiVersion": self._kind.api_version, "kind": self._kind.name, "metadata": meta}
