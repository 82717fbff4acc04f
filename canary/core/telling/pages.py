"""What people must be told about a run: a look at its state in, notices out. The opening decides the severity.

Level-based: `with_due_notices` derives from the state what must have been told, and adds what was not yet; a notice's
id is the run's uid and the state, so that nothing is told twice. The operator stores the notices with the status
before anything is sent, `alerts` delivers them. The texts of each state are in `page_texts`.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from canary.api.notice import MAX_NOTICES, Notice
from canary.api.reasons import Opening, Phase, Reason
from canary.core.telling import page_texts as texts
from canary.core.telling.page_texts import Place, Telling
from canary.core.telling.stored import StoredRun
from canary.core.telling.text import block
from canary.core.telling.wording import duration, plain, seconds_between

VERIFY_SECONDS = 120.0  # a weight that is asked to be 0 and is not, for this long, calls people
BLIND_SECONDS = 30.0  # exposed and blind: the weight should long have been taken away
REVIEW_SECONDS = 4 * 3600.0  # an approval or a hold that waits longer is reported
RECENT_SECONDS = 3600.0  # how far back the timeline is read for things that call people

_CALLING = {
    Reason.AUDIT_WRITE_FAILED: "audit cannot be written, raises stopped",
    Reason.BYPASS_USED: "break-glass used",
    Reason.INVARIANT_BROKEN: "a defect of canary's was caught, the run is held",
    Reason.TWO_WRITERS: "somebody else keeps writing the route",
    Reason.UNPAUSED_BY_OTHERS: "somebody released a held change",
    Reason.WORKLOAD_GONE: "the workload was deleted",
    Reason.WORKLOAD_RECREATED: "the workload was deleted and created anew",
}

Fact = Callable[[StoredRun, datetime], Telling | None]


def with_due_notices(run: StoredRun, notices: Sequence[Notice], place: Place, now: datetime) -> list[Notice]:
    """Return the notices and whatever the state calls for besides, oldest first, at most MAX_NOTICES."""
    told = {notice.id for notice in notices}
    due = [telling for telling in tellings(run, now) if _id(run, telling) not in told]
    return _bounded([*notices, *(notice_of(run, telling, place, now) for telling in due)])


def _bounded(notices: list[Notice]) -> list[Notice]:
    """Forget what was told first, calls for action last; the newest always stays."""
    while len(notices) > MAX_NOTICES:
        older = notices[:-1]
        quiet = next((notice for notice in older if notice.opening != Opening.ACTION_NEEDED), older[0])
        notices = [notice for notice in notices if notice is not quiet]
    return notices


def notice_of(run: StoredRun, telling: Telling, place: Place, now: datetime) -> Notice:
    """Return the page for one thing to tell, as it is stored and sent."""
    return Notice(
        id=_id(run, telling),
        opening=telling.opening.value,
        reason=telling.reason.value,
        title=plain(texts.title(telling), 256),
        body=block(texts.body(run, telling, place)),
        created_at=now,
        facts=texts.facts(run),
        links=texts.links(run, place),
    )


def _id(run: StoredRun, telling: Telling) -> str:
    return f"{run.uid}/{telling.state}"[:128]


def tellings(run: StoredRun, now: datetime) -> Iterator[Telling]:
    """Yield what the present state calls for, the loudest last: what was said last is what holds."""
    found = [telling for fact in _FACTS if (telling := fact(run, now)) is not None]
    yield from sorted([*found, *_calls_in_timeline(run, now)], key=lambda telling: telling.opening.loudness)


# -- facts ----------------------------------------------------------------------------------------------------------


def rollback_is_unverified(run: StoredRun, now: datetime) -> Telling | None:
    """Asked 0, and not seen: whatever phase says so."""
    failing = run.phase == Phase.ROLLING_BACK and run.reason in (
        Reason.ROLLBACK_UNVERIFIED,
        Reason.ROLLBACK_FAILED,
    )
    since = run.at("decidedAt") or run.at("phaseStartedAt")
    waited = seconds_between(since, now) or 0.0
    leaking = run.asked_ppm == 0 and run.seen_ppm > 0 and run.phase not in (Phase.RETURNING, Phase.PROMOTED)
    if not failing and not (leaking and (run.final or waited > VERIFY_SECONDS)):
        return None
    reason = Reason.ROLLBACK_FAILED if run.reason == Reason.ROLLBACK_FAILED else Reason.ROLLBACK_UNVERIFIED
    return Telling(Opening.ACTION_NEEDED, reason, f"rollback not verified for {duration(waited)}")


def site_fell(run: StoredRun, now: datetime) -> Telling | None:
    if run.phase != Phase.DRAINING:
        return None
    headline = f"the whole site fell; {run.new} was drained, the cause is open"
    return Telling(Opening.ACTION_NEEDED, Reason.DRAINING, headline, _entered(run))


def guard_is_missing(run: StoredRun, now: datetime) -> Telling | None:
    if run.reason != Reason.GUARD_MISSING or run.final:
        return None
    return Telling(Opening.ACTION_NEEDED, Reason.GUARD_MISSING, "guard broken, raises stopped", _entered(run))


def commit_stalled(run: StoredRun, now: datetime) -> Telling | None:
    if run.phase != Phase.COMMITTING or run.reason != Reason.COMMIT_STALLED:
        return None
    headline = f"the roll of {run.new} does not finish; its other pods serve everything"
    return Telling(Opening.ACTION_NEEDED, Reason.COMMIT_STALLED, headline)


def blind_while_exposed(run: StoredRun, now: datetime) -> Telling | None:
    """No data, and still a weight: the strictest tier calls, the others ask."""
    blind = seconds_between(run.at("analysis", "blindSince"), now)
    if blind is None or blind < BLIND_SECONDS or run.asked_ppm == 0 or run.final:
        return None
    strictest = run.whole("spec", "policy", "tier") <= 1
    opening = Opening.ACTION_NEEDED if strictest else Opening.DECISION_NEEDED
    return Telling(opening, Reason.BLIND, f"no data for {duration(blind)} while exposed", _entered(run))


def taken_back(run: StoredRun, now: datetime) -> Telling | None:
    """Rolled back, or aborted after it had traffic; a final phase means that the traffic was seen to be back."""
    if run.seen_ppm > 0 and run.way_back_ppm == 0:
        return None
    if run.phase == Phase.SUPERSEDED and run.way_back_ppm > 0:
        headline = f"{run.old} serves from pods of its own; decide what becomes of {run.workload}"
        return Telling(Opening.CUSTOMERS_SAFE, Reason.WORKLOAD_RECREATED, headline)
    if run.half_way_back and run.final:
        headline = f"half a way back: {run.workload}'s own pods still serve {run.new}; apply the manifest of {run.old}"
        return Telling(Opening.ACTION_NEEDED, Reason.ROLLED_BACK, headline)
    if run.phase == Phase.ROLLED_BACK:
        return Telling(Opening.CUSTOMERS_SAFE, Reason.ROLLED_BACK, "rolled back, nothing to do")
    if run.phase == Phase.ABORTED and run.top_ppm > 0:
        return Telling(Opening.CUSTOMERS_SAFE, Reason.ABORTED, "aborted, nothing to do")
    return None


def paused_by_itself(run: StoredRun, now: datetime) -> Telling | None:
    """Inconclusive, blind, or the route was touched: at weight 0, until somebody decides."""
    if run.phase != Phase.PAUSED or run.reason in _CALLING:
        return None
    reason = Reason(run.reason) if run.reason in set(Reason) else Reason.HOLD_STARTED
    why = _PAUSES.get(reason, "it waits for a person")
    return Telling(Opening.DECISION_NEEDED, reason, f"paused at 0 %: {why}", _entered(run))


_PAUSES = {
    Reason.BLIND: "no data to judge by",
    Reason.STEP_EXPIRED: "the evidence did not suffice in time",
    Reason.ROUTE_LOST: "the route was reset by somebody",
    Reason.WEIGHT_DRIFT: "somebody else changed its weight",
    Reason.SHARE_ABOVE_WEIGHT: "it got more traffic than it was given",
    Reason.SIDE_NOT_READY: "it has no ready pod",
    Reason.SITE_FELL: "the site fell and is well again",
    Reason.CLUSTER_RESTORED: "the cluster was put back to an earlier state",
}


def review_is_overdue(run: StoredRun, now: datetime) -> Telling | None:
    """An approval or a hold that nobody answered; silence never approves."""
    held_at = _held_at(run)
    since = held_at or run.at("stepStartedAt") or run.at("phaseStartedAt")
    waited = seconds_between(since, now) or 0.0
    waits = held_at is not None or run.reason == Reason.APPROVALS_MISSING
    bound = run.review_seconds or REVIEW_SECONDS
    if not waits or run.final or waited < bound:
        return None
    what, reason = (
        ("hold", Reason.HOLD_STARTED) if held_at is not None else ("review", Reason.APPROVALS_MISSING)
    )
    late = waited >= 2 * bound and what == "review" and run.seniors_wanted > 0
    headline = f"{'seniors: ' if late else ''}{what} overdue {duration(waited - bound)}"
    again = f"{_stamp(since)}/seniors" if late else _stamp(since)
    return Telling(Opening.DECISION_NEEDED, reason, headline, again)


def _held_at(run: StoredRun) -> datetime | None:
    if not run.held_by:
        return None
    holds = [entry.at for entry in run.timeline if entry.reason == Reason.HOLD_STARTED]
    return holds[-1] if holds else None


def worth_a_note(run: StoredRun, now: datetime) -> Telling | None:
    """What a record of changes wants to know, and nobody has to act on."""
    if run.phase == Phase.PROMOTED:
        return Telling(Opening.NONE, Reason.PROMOTED, f"{run.workload} {run.new} promoted: it serves 100 %")
    if run.phase == Phase.SUPERSEDED and run.way_back_ppm == 0:
        return Telling(Opening.NONE, Reason.SUPERSEDED, f"{run.workload} {run.new} superseded: {run.message}")
    if run.phase == Phase.REJECTED:
        return Telling(Opening.NONE, Reason.REJECTED, f"{run.workload} {run.new} rejected: {run.message}")
    if run.phase == Phase.ABORTED and run.top_ppm == 0:
        return Telling(
            Opening.NONE, Reason.ABORTED, f"{run.workload} {run.new} aborted before it had traffic"
        )
    if run.phase == Phase.PROGRESSING and run.at("exposedAt") is not None:
        return Telling(Opening.NONE, Reason.RUN_STARTED, f"{run.workload} {run.new} gets its first traffic")
    return None


_FACTS: tuple[Fact, ...] = (
    rollback_is_unverified,
    site_fell,
    guard_is_missing,
    commit_stalled,
    blind_while_exposed,
    taken_back,
    paused_by_itself,
    review_is_overdue,
    worth_a_note,
)


def _calls_in_timeline(run: StoredRun, now: datetime) -> Iterator[Telling]:
    told: set[tuple[str, str]] = set()  # the end of a run has the reason of what ended it
    for entry in run.timeline:
        age, said = seconds_between(entry.at, now), (entry.reason, entry.message)
        if entry.reason not in _CALLING or said in told or age is None or age > RECENT_SECONDS:
            continue
        told.add(said)
        reason = Reason(entry.reason)
        yield Telling(Opening.ACTION_NEEDED, reason, _CALLING[reason], _stamp(entry.at), entry.message)


def _entered(run: StoredRun) -> str:
    """What tells this stay in a phase from an earlier one."""
    return _stamp(run.at("phaseStartedAt"))


def _stamp(at: datetime | None) -> str:
    return f"{at:%Y%m%dT%H%M%S}" if at is not None else ""
