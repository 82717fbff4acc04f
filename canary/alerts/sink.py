"""The seam to whoever is told: a `Page` goes in, and a sink acknowledges it, refuses it, or is not there.

A sink has one verb and a name. `deliver` turns what happens into an `Outcome`, which the outbox records; `Couriers`
gives each sink a thread of its own, so that one that hangs delays no other, and never a rollback.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Protocol

from canary.api.notice import Notice
from canary.api.reasons import Opening, Reason
from canary.errors import RefusedError, UnavailableError

MAX_WAITING = 64  # pages handed over to one sink and not answered yet; the others stay due


ENDS_WELL = frozenset({Reason.PROMOTED, Reason.SUPERSEDED, Reason.REJECTED, Reason.ABORTED})


def ends_incident(opening: Opening, reason: str) -> bool:
    """Tell whether a notice ends what earlier ones of its run began."""
    return opening is Opening.NONE and reason in ENDS_WELL


@dataclass(frozen=True, slots=True)
class Incident:
    """What a page is about: one attempt of one change of one workload."""

    cluster: str
    namespace: str
    workload: str
    run: str
    run_uid: str

    @property
    def key(self) -> str:
        """Return what a sink tells incidents apart by: one incident a run, updated in place."""
        return f"canary:{self.cluster}:{self.namespace}/{self.workload}:{self.run_uid}"


@dataclass(frozen=True, slots=True)
class Page:
    """One thing to tell. The same `id` sent twice is the same page."""

    id: str
    incident: Incident
    opening: Opening
    reason: str
    title: str
    body: str
    at: datetime
    links: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def resolved(self) -> bool:
        """Tell whether nobody has to know any more: the run ended well, or as it was asked to."""
        return ends_incident(self.opening, self.reason)


class Sink(Protocol):
    """Something that tells people. Sending the same page again must not make a second incident."""

    @property
    def name(self) -> str:
        """What the policies call it."""
        ...

    def send(self, page: Page) -> None:
        """Return when it is acknowledged, within bounded time.

        Raise UnavailableError (ask again, not before `retry_after_seconds`) or RefusedError (it will never take it).
        """
        ...

    @property
    def repeat_seconds(self) -> float:
        """How often it must hear of what still holds; 0: once is enough."""
        ...


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """One sink of the controller's settings. Secrets are files, mounted; addresses come from nowhere else."""

    name: str
    kind: str
    """A built-in one (`sinks.BUILT_IN`) or an entry point of the group `canary.sinks`."""
    urls: tuple[str, ...]
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one delivery. No error: acknowledged."""

    error: str = ""
    refused: bool = False
    retry_after_seconds: float = 0.0

    @property
    def acknowledged(self) -> bool:
        return not self.error


def opening_of(notice: Notice) -> Opening:
    """Return a notice's opening; one of a newer version is taken for the loudest."""
    return Opening(notice.opening) if notice.opening in set(Opening) else Opening.ACTION_NEEDED


def page_of(notice: Notice, incident: Incident) -> Page:
    """Return a stored notice as a page."""
    return Page(
        id=notice.id,
        incident=incident,
        opening=opening_of(notice),
        reason=notice.reason,
        title=notice.title,
        body=notice.body,
        at=notice.created_at,
        links=notice.links,
        facts=notice.facts,
    )


def deliver(sink: Sink, page: Page) -> Outcome:
    """Send one page and say what became of it."""
    try:
        sink.send(page)
    except RefusedError as error:
        return Outcome(str(error) or "refused", refused=True)
    except UnavailableError as error:
        return Outcome(str(error) or "unavailable", retry_after_seconds=error.retry_after_seconds)
    return Outcome()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery that is over."""

    sink: str
    page: Page
    outcome: Outcome


class Couriers:
    """One thread a sink. Hand pages over, collect receipts later; nothing here ever waits for a sink."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix=f"courier-{name}") for name in sinks}
        self._lock = Lock()  # of what is under way: every worker hands over and collects
        self._under_way: dict[tuple[str, str], tuple[Page, Future[Outcome]]] = {}

    def hand_over(self, sink: str, page: Page) -> bool:
        """Start a delivery; False where this one is under way, or the sink has too many waiting."""
        with self._lock:
            waiting = sum(name == sink for name, _ in self._under_way)
            if (sink, page.id) in self._under_way or waiting >= MAX_WAITING:
                return False
            self._under_way[sink, page.id] = page, self._started(sink, page)
        return True

    def _started(self, sink: str, page: Page) -> Future[Outcome]:
        if sink in self._sinks:
            return self._threads[sink].submit(deliver, self._sinks[sink], page)
        unknown: Future[Outcome] = Future()
        unknown.set_result(Outcome(f"no sink called {sink} is configured", refused=True))
        return unknown

    def collect(self, incident: Incident | None = None) -> list[Receipt]:
        """Return what is over, of one incident or of all; each receipt once."""
        with self._lock:
            over = [
                (key, page, future)
                for key, (page, future) in self._under_way.items()
                if future.done() and incident in (None, page.incident)
            ]
            for key, _, _ in over:
                del self._under_way[key]
        return [Receipt(key[0], page, _outcome(future)) for key, page, future in over]

    def close(self) -> None:
        """Start nothing more; what is being sent ends within its own time limits."""
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)


def _outcome(future: Future[Outcome]) -> Outcome:
    """A sink that breaks its contract counts as one that is not there: it is asked again, and shown as failing."""
    if future.cancelled():
        return Outcome("cancelled")
    broken = future.exception()
    return (
        future.result()
        if broken is None
        else Outcome(f"defect of the sink: {type(broken).__name__}: {broken}")
    )
