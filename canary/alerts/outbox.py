"""Which sink gets which notice now, and what is remembered of it: the pure half of telling, at least once.

Notices live in a run's status, so a crash forgets none. `due` says what to send, `record` writes down what became of
it. A sink has its own order, back-off and memory; none waits for another.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from canary.alerts.sink import Outcome, Receipt, ends_incident, opening_of
from canary.api.notice import Attempts, Notice
from canary.api.reasons import Opening

MAX_SINKS = 8  # of one run
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 300.0
MAX_RETRY_AFTER_SECONDS = 900.0  # what a sink may ask for
STALE_NOTE_SECONDS = 600.0  # a "started" nobody could hear in time is not told any more
GIVE_UP_SECONDS = 24 * 3600.0  # a call for action is tried for ever, and repeated to who took it this long
SAFE_IS_NEWS_SECONDS = 900.0  # how long a repeating sink goes on about something that is over


@dataclass(frozen=True, slots=True)
class Subscription:
    """One sink, as the outbox knows it."""

    name: str
    repeat_seconds: float = 0.0
    """A sink that forgets is told again and again while the notice is open; 0: once is enough."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice for one sink, now."""

    notice: Notice
    sink: str


def due(notices: Sequence[Notice], sinks: Sequence[Subscription], now: datetime) -> list[Delivery]:
    """Return what to send now, at most one notice a sink: the order of a run is kept."""
    return [Delivery(notice, sink) for sink, notice, at in _next(notices, sinks, now) if at <= now]


def next_due_seconds(notices: Sequence[Notice], sinks: Sequence[Subscription], now: datetime) -> float | None:
    """Return how long until something is due, 0 if it is; None if nothing will be by itself."""
    waits = [(at - now).total_seconds() for _, _, at in _next(notices, sinks, now)]
    return max(0.0, min(waits)) if waits else None


def record(notice: Notice, sink: str, outcome: Outcome, now: datetime) -> Notice:
    """Return the notice with what became of one delivery."""
    failing = {name: attempts for name, attempts in notice.failing.items() if name != sink}
    if outcome.acknowledged:
        changes: dict[str, object] = {"delivered": {**notice.delivered, sink: now}, "failing": failing}
    else:
        before = notice.failing.get(sink, Attempts())
        failing[sink] = _failed(notice, sink, before.count + 1, outcome, now)
        error = f"{sink}: {failing[sink].error}"
        changes = {"failing": failing, "attempts": notice.attempts + 1, "last_error": error[:1024]}
    waits = [attempts.retry_at for attempts in failing.values() if attempts.retry_at is not None]
    return notice.model_copy(update={**changes, "retry_at": min(waits, default=None)})


def with_receipt(notices: Sequence[Notice], receipt: Receipt, now: datetime) -> list[Notice]:
    """Return the notices with one receipt recorded; one about a notice that was forgotten changes nothing."""
    return [
        record(notice, receipt.sink, receipt.outcome, now) if notice.id == receipt.page.id else notice
        for notice in notices
    ]


# -- one sink ------------------------------------------------------------------------------------------------------

_Next = tuple[str, Notice, datetime]


def _next(notices: Sequence[Notice], sinks: Sequence[Subscription], now: datetime) -> list[_Next]:
    """Return what each sink hears next, if it hears anything."""
    found = (_next_for(sink, notices, now) for sink in sinks[:MAX_SINKS])
    return [each for each in found if each is not None]


def _next_for(sink: Subscription, notices: Sequence[Notice], now: datetime) -> _Next | None:
    """Return the sink's next notice and when it is due: the oldest that it has not had, else one to repeat."""
    for notice in notices:
        if not _settled(sink.name, notice, notices, now):
            return sink.name, notice, _not_before(sink.name, notice, now)
    open_notice = _still_open(notices, now)
    if sink.repeat_seconds <= 0 or open_notice is None or sink.name not in open_notice.delivered:
        return None
    again = open_notice.delivered[sink.name] + timedelta(seconds=sink.repeat_seconds)
    return sink.name, open_notice, max(again, _not_before(sink.name, open_notice, now))


def _still_open(notices: Sequence[Notice], now: datetime) -> Notice | None:
    """Return what was last said of the run, if it still holds; a note on the way takes nothing back."""
    for notice in reversed(notices):
        opening, age = opening_of(notice), _age(notice, now)
        if ends_incident(opening, notice.reason):
            return None
        if opening is not Opening.NONE:
            news_seconds = SAFE_IS_NEWS_SECONDS if opening is Opening.CUSTOMERS_SAFE else GIVE_UP_SECONDS
            return notice if age < news_seconds else None
    return None


def _settled(sink: str, notice: Notice, notices: Sequence[Notice], now: datetime) -> bool:
    if sink in notice.delivered or _refused(notice, sink) or _outlived(notice, notices):
        return True
    opening, age = opening_of(notice), _age(notice, now)
    if opening is Opening.NONE:
        return age > STALE_NOTE_SECONDS
    return opening is not Opening.ACTION_NEEDED and age > GIVE_UP_SECONDS


def _outlived(notice: Notice, notices: Sequence[Notice]) -> bool:
    """Tell whether something louder happened since; a note is outlived by anything. A call for action never is."""
    later = notices[notices.index(notice) + 1 :]
    if opening_of(notice) is Opening.NONE:
        return bool(later)
    return any(opening_of(other).loudness > opening_of(notice).loudness for other in later)


def _age(notice: Notice, now: datetime) -> float:
    return (now - notice.created_at).total_seconds()


def _refused(notice: Notice, sink: str) -> bool:
    return sink in notice.failing and notice.failing[sink].refused


def _not_before(sink: str, notice: Notice, now: datetime) -> datetime:
    """Return when the next attempt may come; one that is too far away is of a clock that was put back since."""
    attempts = notice.failing.get(sink)
    at = attempts.retry_at if attempts is not None and attempts.retry_at is not None else notice.created_at
    return at if at <= now + timedelta(seconds=MAX_RETRY_AFTER_SECONDS) else now


def _failed(notice: Notice, sink: str, count: int, outcome: Outcome, now: datetime) -> Attempts:
    """A call for action is never given up: a sink that refused it is asked again, at the longest distance."""
    critical = opening_of(notice) is Opening.ACTION_NEEDED
    refused = outcome.refused and not critical
    seconds = MAX_RETRY_SECONDS if outcome.refused else retry_seconds(f"{notice.id}/{sink}", count)
    seconds = max(seconds, min(outcome.retry_after_seconds, MAX_RETRY_AFTER_SECONDS))
    retry_at = None if refused else now + timedelta(seconds=seconds)
    return Attempts(count=count, retry_at=retry_at, refused=refused, error=outcome.error[:256])


def retry_seconds(what: str, attempt: int) -> float:
    """Return the wait after a failed attempt: doubling from 1 s to 5 min, each between half of that and all of it.

    The jitter comes from the name of what is sent, so that the same history gives the same schedule.
    """
    digest = hashlib.sha256(f"{what}/{attempt}".encode()).digest()
    fraction = int.from_bytes(digest[:4], "big") / 2**32
    whole = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempt - 1, 32))
    return whole * (0.5 + 0.5 * fraction)
