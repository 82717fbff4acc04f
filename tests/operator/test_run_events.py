"""The Events of a run: what on-call reads in `kubectl get events`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from run_story import exposed

from canary.api.reasons import Phase, Reason
from canary.api.run import TimelineEntry
from canary.core.decision import Limits, change
from canary.kube.events import WARNINGS
from canary.operator.objects import run_of
from canary.operator.tell import happenings

START = datetime(2026, 3, 5, 3, 12, tzinfo=UTC)


def entry(seconds: float, phase: Phase, reason: Reason, message: str = "orders -100 %") -> TimelineEntry:
    return TimelineEntry(at=START + timedelta(seconds=seconds), phase=phase, reason=reason, message=message)


def told(*timeline: TimelineEntry, exposed_at: datetime | None = START) -> list[tuple[Reason, str]]:
    stored = run_of(exposed(), Limits())
    before = replace(stored, status=change(stored.status, timeline=[], exposed_at=exposed_at))
    after = replace(stored, status=change(before.status, timeline=list(timeline)))
    return [(each.reason, each.message) for each in happenings(before, after)]


def test_a_rollback_is_two_different_warnings_with_their_cause() -> None:
    cause = Reason.ORDERS_COLLAPSED
    found = told(entry(0, Phase.ROLLING_BACK, cause), entry(1, Phase.ROLLED_BACK, cause))
    assert found == [
        (Reason.ROLLBACK_STARTED, "taking all traffic back (OrdersCollapsed): orders -100 %"),
        (Reason.ROLLED_BACK, "all traffic is back (OrdersCollapsed): orders -100 %"),
    ]
    assert {reason for reason, _ in found} <= WARNINGS


def test_what_happens_within_a_rollback_keeps_its_own_name() -> None:
    inside = entry(1, Phase.ROLLING_BACK, Reason.TWO_WRITERS, "somebody keeps writing the route")
    found = told(entry(0, Phase.ROLLING_BACK, Reason.ERRORS_ROSE), inside)
    assert found[1] == (Reason.TWO_WRITERS, "somebody keeps writing the route")


def test_a_run_that_never_had_traffic_takes_none_back() -> None:
    ended = entry(0, Phase.ROLLED_BACK, Reason.PREPARATION_EXPIRED, "no pod became ready")
    assert told(ended, exposed_at=None) == [(Reason.PREPARATION_EXPIRED, "no pod became ready")]
    assert Reason.PREPARATION_EXPIRED in WARNINGS
