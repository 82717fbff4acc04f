"""Puts what runs decide on record: before a raise touches the route, after a rollback did.

`Scribe` owns the book on a thread of its own, so that a store that hangs costs a look two seconds once, and then
nothing for a while. `Auditor` is asked in every look: it writes what is due and says whether it could. What to do where
it could not is the loop body's business: a raise is decided anew against a closed gate, everything else goes on.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass, replace
from typing import Any

from canary.api.audit import AuditStatus
from canary.api.reasons import Reason
from canary.api.run import MAX_TIMELINE, TimelineEntry
from canary.audit.chain import Head
from canary.audit.entries import MAX_CHANGES, due, entry_of, recorded
from canary.audit.store import Book
from canary.clock import Clock
from canary.core.decision import Run, change
from canary.core.rules.templates import differences
from canary.errors import CanaryError, UnavailableError
from canary.kube.workload import Observed

logger = logging.getLogger(__name__)
WAIT_SECONDS = 2.0  # a look waits no longer for the store
REST_SECONDS = 5.0  # and after a failure nobody asks it for so long
Tell = Callable[[bool], None]


def _untold(written: bool) -> None:
    """Nobody counts."""


class Scribe:
    """Writes on one book, in order, from any thread."""

    def __init__(
        self, book: Book, clock: Clock, *, wait_seconds: float = WAIT_SECONDS, tell: Tell = _untold
    ) -> None:
        self._book = book
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scribe")
        self._lock = threading.Lock()
        self._trouble, self._trouble_ends = "", 0.0
        self._late: Future[Head] | None = None

    def write(self, entries: Sequence[Mapping[str, Any]]) -> Head:
        """Return the newest head when all entries are durable. Raise UnavailableError, soon, where they are not."""
        head = self._done(lambda: [self._book.append(entry) for entry in entries][-1])
        self._tell(True)
        return head

    def head(self) -> Head:
        """Return the head of the chain as the store has it. Raise UnavailableError, soon, where it does not say."""
        return self._done(self._book.refreshed)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _done(self, work: Callable[[], Head]) -> Head:
        self._refuse_while_resting()
        future = self._thread.submit(work)
        try:
            return future.result(self._wait_seconds)
        except TimeoutError:
            self._late = future
            raise self._rest(f"the audit store did not answer within {self._wait_seconds:g} s") from None
        except CanaryError as error:
            raise self._rest(str(error)) from error

    def _refuse_while_resting(self) -> None:
        with self._lock:
            busy = self._late is not None and not self._late.done()
            if busy or self._clock.monotonic() < self._trouble_ends:
                raise UnavailableError(self._trouble)

    def _rest(self, trouble: str) -> UnavailableError:
        with self._lock:
            self._trouble, self._trouble_ends = trouble, self._clock.monotonic() + REST_SECONDS
        self._tell(False)
        return UnavailableError(trouble)


@dataclass(frozen=True, slots=True)
class Written:
    """A run with what is on record of it, and why something is not."""

    run: Run
    trouble: str = ""


class Auditor:
    """Writes the records of runs. Without a scribe there is no audit, and nothing is ever due."""

    def __init__(self, scribe: Scribe | None, clock: Clock) -> None:
        self._scribe = scribe
        self._clock = clock

    def owes(self, run: Run) -> bool:
        """Tell whether something of the run is not on record yet."""
        return self._scribe is not None and bool(due(run.status))

    def write(self, run: Run, seen: Observed | None) -> Written:
        """Put on record what is due; `seen` is the Deployment with its held change."""
        found = due(run.status)
        if self._scribe is None or not found:
            return Written(run)
        changes = () if run.status.audit.entries else _changes(seen)
        try:
            head = self._scribe.write([entry_of(run, each, changes) for each in found])
        except UnavailableError as error:
            return Written(run, f"the audit cannot be written: {error}")
        newest = AuditStatus(sequence=head.sequence, hash=head.hash, at=self._clock.now())
        return Written(replace(run, status=recorded(run.status, found, newest)))

    def noted(self, run: Run, trouble: str) -> Run:
        """Return the run with the trouble in its timeline, once for as long as it lasts: that is what pages.

        It stands before what could not be recorded, so that the newest entry stays the cause of what follows.
        """
        found, timeline = due(run.status), run.status.timeline
        if any(each.entry.reason == Reason.AUDIT_WRITE_FAILED for each in found):
            return run
        logger.error("run %s: %s", run.name, trouble)
        place = len(timeline) - len(found)
        before = timeline[place - 1] if place else None
        note = TimelineEntry(
            at=self._clock.now(),
            phase=before.phase if before else run.status.phase,
            reason=Reason.AUDIT_WRITE_FAILED.value,
            message=f"{trouble}; nothing is raised until it can be"[:1024],
            weight_ppm=before.weight_ppm if before else 0,
        )
        kept = [*timeline[:place], note, *timeline[place:]]
        kept = kept if len(kept) <= MAX_TIMELINE else [kept[0], *kept[2:]]
        return replace(run, status=change(run.status, timeline=kept))


def _changes(seen: Observed | None) -> Sequence[str]:
    if seen is None or seen.stable is None:
        return ()
    return differences(seen.stable["spec"]["template"], seen.deployment["spec"]["template"])[:MAX_CHANGES]
