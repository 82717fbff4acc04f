"""What a run's decisions are on record, and which of them are not there yet: by place, whatever the clock did."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from run_story import a_run

from canary.api.audit import AuditStatus
from canary.api.reasons import Phase, Reason
from canary.api.run import CanaryRunStatus, TimelineEntry
from canary.audit.entries import RecordKind, due, entry_of, kind_of, recorded, rises
from canary.core.decision import Limits, Run, change
from canary.operator.objects import run_of

NOW = datetime(2026, 3, 5, 3, 12, tzinfo=UTC)
TOLD = AuditStatus(sequence=7, hash="sha256:" + "a" * 64, at=NOW)
ROAD = [
    (Phase.HELD, Reason.RUN_STARTED, 0, RecordKind.START),
    (Phase.PREPARING, Reason.RUN_STARTED, 0, RecordKind.START),
    (Phase.PROGRESSING, Reason.BASELINE_READY, 0, RecordKind.NOTE),
    (Phase.PROGRESSING, Reason.STEP_STARTED, 10_000, RecordKind.RAISE),
    (Phase.PROGRESSING, Reason.HOLD_STARTED, 10_000, RecordKind.NOTE),
    (Phase.PROGRESSING, Reason.BYPASS_USED, 10_000, RecordKind.BYPASS),
    (Phase.PAUSED, Reason.BLIND, 0, RecordKind.LOWER),
    (Phase.PREPARING, Reason.HOLD_ENDED, 0, RecordKind.NOTE),
    (Phase.PROGRESSING, Reason.STEP_STARTED, 1_000_000, RecordKind.RAISE),
    (Phase.BAKING, Reason.BAKE_STARTED, 1_000_000, RecordKind.NOTE),
    (Phase.COMMITTING, Reason.COMMIT_STARTED, 1_000_000, RecordKind.COMMIT),
    (Phase.RETURNING, Reason.RETURN_STARTED, 500_000, RecordKind.LOWER),
    (Phase.ROLLING_BACK, Reason.BY_PERSON, 0, RecordKind.LOWER),
    (Phase.ABORTED, Reason.AUDIT_WRITE_FAILED, 0, RecordKind.NOTE),
    (Phase.ABORTED, Reason.BY_PERSON, 0, RecordKind.ABORT),
]


def run_with(timeline: list[TimelineEntry]) -> Run:
    run = run_of(a_run(), Limits())
    return replace(run, status=change(run.status, timeline=timeline))


def road(seconds: float = 1.0) -> list[TimelineEntry]:
    return [
        TimelineEntry(
            at=NOW + timedelta(seconds=seconds * n), phase=phase, reason=reason, message="", weight_ppm=ppm
        )
        for n, (phase, reason, ppm, _) in enumerate(ROAD)
    ]


def test_each_decision_is_on_record_for_what_it_did_to_the_traffic() -> None:
    found = due(run_with(road()).status)
    assert [kind_of(each) for each in found] == [kind for *_, kind in ROAD]
    assert [each.from_ppm for each in found] == [0, *(ppm for _, _, ppm, _ in ROAD[:-1])]


@pytest.mark.parametrize("seconds", [1.0, -1.0, 0.001])
def test_what_is_on_record_is_never_due_again_whatever_the_clock_did(seconds: float) -> None:
    whole = road(seconds)
    status = run_with([]).status
    kept: list[str] = []
    for end in (2, 3, 8, len(whole)):
        run = run_with(whole[:end])
        run = replace(run, status=change(run.status, audit=status.audit))
        found = due(run.status)
        kept += [entry_of(run, each)["id"] for each in found]
        status = recorded(run.status, found, TOLD)
        assert due(status) == []
    assert len(kept) == len(set(kept)) == len(whole)


def test_the_same_decision_taken_again_is_the_same_entry() -> None:
    first, later = run_with(road()[:4]), run_with([*road()[:3], road(2.0)[3]])
    ids = [entry_of(run, due(run.status)[-1])["id"] for run in (first, later)]
    assert ids[0] == ids[1]
    other = run_with([*road()[:3], road()[6]])
    assert entry_of(other, due(other.status)[-1])["id"] != ids[0]


def test_a_timeline_that_forgot_its_oldest_entries_goes_on_where_the_records_end() -> None:
    whole = road()
    run = run_with(whole[:6])
    status = recorded(run.status, due(run.status), TOLD)
    shortened = change(status, timeline=[whole[0], *whole[5:8]])
    assert [(each.place, each.entry) for each in due(shortened)] == [(6, whole[6]), (7, whole[7])]


@pytest.mark.parametrize(
    ("before", "after", "weights", "rise"),
    [
        (Phase.HELD, Phase.PREPARING, (0, 0), True),
        (Phase.PREPARING, Phase.PROGRESSING, (0, 0), False),
        (Phase.PROGRESSING, Phase.PROGRESSING, (0, 10_000), True),
        (Phase.BAKING, Phase.COMMITTING, (1_000_000, 1_000_000), True),
        (Phase.COMMITTING, Phase.RETURNING, (1_000_000, 500_000), False),
        (Phase.PROGRESSING, Phase.ROLLING_BACK, (10_000, 0), False),
        (Phase.PROGRESSING, Phase.PROGRESSING, (10_000, 10_000), False),
    ],
)
def test_a_start_a_step_and_a_commit_need_their_record_first(
    before: Phase, after: Phase, weights: tuple[int, int], rise: bool
) -> None:
    def status(phase: Phase, ppm: int) -> CanaryRunStatus:
        plain = CanaryRunStatus(phase=phase)
        return change(plain, traffic=plain.traffic.model_copy(update={"weight_ppm": ppm}))

    assert rises(status(before, weights[0]), status(after, weights[1])) is rise
