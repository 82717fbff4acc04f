"""A cache that keeps itself up to date: list once, then watch, for ever.

One reflector a kind, one thread a reflector. It calls `tell` with changes (keys, never contents) and backs
off from a server that is down, forbids, closes at once or answers nonsense: attempts grow apart to half a
minute. `poll` does one round on the caller's thread, for simulated time. Followers reflect too,
so that a new leader starts with warm caches.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from canary.clock import Clock
from canary.errors import CanaryError, UnavailableError
from canary.kube.cache import Change, Keep, ObjectStore, slim
from canary.kube.client import Client, Listing, UnknownKindError, retry_after
from canary.kube.resources import Key, Resource, Selection
from canary.kube.transport import Json, Response, Stream

logger = logging.getLogger(__name__)
EVENT_TYPES = frozenset({"ADDED", "MODIFIED", "DELETED"})
RELIST_AFTER_FAILURES = 5  # whatever is wrong with our version, a list heals it
STOP_JOIN_SECONDS = 5.0
JITTER = (0.75, 1.25)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a reflector waits. The tests shorten these; nothing else changes them."""

    watch_seconds: int = 300  # the server ends a watch after this, give or take a tenth
    healthy_seconds: float = 5.0  # a watch that lived this long clears the back-off
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0
    relist_seconds: float = 1800.0  # bounds how long an event that the server lost stays unknown


@dataclass(frozen=True, slots=True)
class Options:
    """What differs between kinds and in tests."""

    keep: Keep = slim
    pace: Pace = Pace()
    random: Random = field(default_factory=Random)  # jitter


@dataclass(slots=True)
class _Progress:
    """Where the reflector's thread stands."""

    version: str = ""  # empty: the next thing to do is a list
    listed_at: float = 0.0
    failures: int = 0
    floor_seconds: float = 0.0  # the least wait that the server asked for


class Reflector:
    """The cache of one selection of objects (`kube.cache.Cache`)."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        tell: Callable[[Change], None],
        *,
        clock: Clock,
        options: Options | None = None,
    ) -> None:
        options = options or Options()
        self._client = client
        self._selection = selection
        self._tell = tell
        self._clock = clock
        self._pace = options.pace
        self._random = options.random
        self._keep = options.keep
        self._store = ObjectStore(selection.resource, options.keep)
        self._progress = _Progress()
        self._contact_at: float | None = None
        self._synced = threading.Event()
        self._stopping = threading.Event()
        self._stream: Stream | None = None
        self._thread: threading.Thread | None = None
        self.relists_total = 0
        self.trouble = ""  # the last error, empty while all is well

    @property
    def resource(self) -> Resource:
        return self._selection.resource

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    @property
    def unreadable_total(self) -> int:
        """Return how many objects came without a name or a uid."""
        return self._store.unreadable_total

    def wait_synced(self, timeout_seconds: float) -> bool:
        return self._synced.wait(timeout_seconds)

    def get(self, key: Key) -> Json | None:
        return self._store.get(key)

    def list(self, namespace: str | None = None) -> Sequence[Json]:
        return self._store.list(namespace)

    def last_contact_age(self) -> float:
        if self._contact_at is None:
            return float("inf")
        return max(0.0, self._clock.monotonic() - self._contact_at)

    def poll(self) -> bool:
        """Take what happened since the last time, on the caller's thread; tell whether the server answered.

        For a transport whose watches end when they have told what there is, as those of simulated time do.
        """
        self._attempt()
        if not self._progress.version:
            self._attempt()  # the version was forgotten: list
        return not self.trouble

    def start(self) -> None:
        name = f"watch-{self.resource.plural}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, also when it waits for the server. Idempotent."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread is not None:
            self._thread.join(STOP_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = self._clock.monotonic()
            self._attempt()
            self._stopping.wait(self._wait_seconds(self._clock.monotonic() - started))

    def _attempt(self) -> None:
        """List if need be and watch to the end; note what went wrong, and log it when it is something new."""
        before = self.trouble
        try:
            self.trouble = self._list_and_watch()
        except CanaryError as error:
            self.trouble = str(error)
            asked = error.retry_after_seconds if isinstance(error, UnavailableError) else 0.0
            self._progress.floor_seconds = asked
        if self.trouble and self.trouble != before:
            logger.warning("watching %s: %s", self.resource.plural, self.trouble)

    def _wait_seconds(self, lasted: float) -> float:
        progress, pace = self._progress, self._pace
        progress.failures = 0 if lasted >= pace.healthy_seconds else progress.failures + 1
        grown = pace.first_wait_seconds * 2.0 ** min(progress.failures - 1, 16) if progress.failures else 0.0
        wait = min(grown, pace.longest_wait_seconds) * self._random.uniform(*JITTER)
        floor, progress.floor_seconds = progress.floor_seconds, 0.0
        return max(wait, floor)

    def _list_and_watch(self) -> str:
        """Return why the watch ended; empty after a natural end."""
        if self._list_is_due():
            self._list()
        timeout = round(self._pace.watch_seconds * self._random.uniform(0.9, 1.1))
        self._stream = self._client.watch(
            self._selection, self._progress.version, timeout_seconds=max(1, timeout)
        )
        try:
            return self._follow(self._stream)
        finally:
            stream, self._stream = self._stream, None
            stream.close()

    def _list_is_due(self) -> bool:
        progress = self._progress
        age = self._clock.monotonic() - progress.listed_at
        stuck = progress.failures > 0 and progress.failures % RELIST_AFTER_FAILURES == 0
        return not progress.version or stuck or age > self._pace.relist_seconds

    def _list(self) -> None:
        try:
            listing = self._client.read(self._selection, self._keep)
        except UnknownKindError:
            self._pour(self._store.replace(Listing([], "")))
            raise
        self._progress.version = listing.version
        self._progress.listed_at = self._clock.monotonic()
        self.relists_total += 1
        self._heard()
        self._pour(self._store.replace(listing))
        self._synced.set()

    def _follow(self, stream: Stream) -> str:
        if self._stopping.is_set():
            return ""
        for event in stream:
            self._heard()
            if event.get("type") == "ERROR":
                return self._ended_by(event.get("object"))
            self._take(str(event.get("type")), event.get("object"))
        return ""

    def _take(self, kind: str, obj: object) -> None:
        """Pour one event into the store; what cannot be read is counted there, and the watch goes on."""
        if kind in EVENT_TYPES:
            self._pour(self._store.apply(kind, obj))
        self._advance(obj)

    def _advance(self, obj: object) -> None:
        """Remember from where a broken watch goes on; an event out of order does not move it back."""
        metadata = obj.get("metadata") if isinstance(obj, dict) else None
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not isinstance(version, str) or not version:
            return
        known = self._progress.version
        backwards = version.isdecimal() and known.isdecimal() and int(version) < int(known)
        self._progress.version = known if backwards else version

    def _ended_by(self, status: object) -> str:
        """Take the Status that ended the watch: where our version (410) or the kind (404) is unknown, list again."""
        body = status if isinstance(status, dict) else {}
        code = body.get("code")
        response = Response(code if isinstance(code, int) else 500, body)
        if response.status in (404, 410):
            self._progress.version = ""
        self._progress.floor_seconds = retry_after(response)
        return f"HTTP {response.status}: {body.get('message', '')}"

    def _pour(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._tell(change)

    def _heard(self) -> None:
        self._contact_at = self._clock.monotonic()
