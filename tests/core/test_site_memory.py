"""What is learnt of the whole site before the first slice, and how each look is held against it afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from canary.api.reasons import MissingReason
from canary.api.run import AnalysisStatus
from canary.core import site
from canary.core.detect.counters import CountersState, Reading, fold
from canary.core.detect.forecast import MINUTES, RECENT_MINUTES
from canary.core.evidence import Missing
from canary.core.memory import Memory, remember, texts
from canary.core.site import MAX_FAILURES, PAST_DAYS, Block, Past, Seen, SiteMemory

NOON = 1_772_712_000.0  # 2026-03-05, 12:00 UTC
ABSENT = Missing(MissingReason.UNAVAILABLE, "no answer")
LIVE = {"stable": False, "canary": True}


def told(answers: Sequence[Sequence[float] | Missing], start: SiteMemory | None = None) -> SiteMemory:
    """Answer one question after the other, as the looks of a preparation do."""
    known = start or SiteMemory()
    for answer in answers:
        span = site.question(known, NOON + 7.0)
        assert span is not None
        known = site.learn(known, Past(span, answer))
    return known


def fortnight(level: float = 60.0) -> list[list[float]]:
    return [[level * 0.5] * RECENT_MINUTES, *[[level] * MINUTES] * PAST_DAYS]


def looks(
    rows: Sequence[tuple[float, float | None, float | None]],
) -> list[Block | None]:
    """Fold looks of one stable and one canary pod that give cumulative orders; None: the pod was missed."""
    known, state, blocks = SiteMemory(), CountersState(), list[Block | None]()
    for at, stable, canary in rows:
        given = {"stable": stable, "canary": canary}
        readings = [
            Reading(pod, LIVE[pod], at, -9.0, {"orders": orders, "requests": 4.0 * orders})
            for pod, orders in given.items()
            if orders is not None
        ]
        folded = fold(state, readings, LIVE)
        state = folded.state
        known, block = site.fold(known, folded)
        blocks.append(block)
    return blocks


def test_the_half_hour_is_asked_first_then_fourteen_whole_days_the_newest_first() -> None:
    known, spans = SiteMemory(), list[site.Span]()
    while (span := site.question(known, NOON + 7.0 + len(spans))) is not None:
        spans.append(span)
        known = site.learn(known, Past(span, [1.0] * span.minutes))
    midnight = NOON - 43_200.0
    assert (spans[0].begin, spans[0].end) == (NOON - 1800.0, NOON)
    assert [day.begin for day in spans[1:]] == [midnight - 86_400.0 * back for back in range(1, 15)]
    assert {day.minutes for day in spans[1:]} == {MINUTES}


def test_a_history_that_never_answers_is_left_alone() -> None:
    assert site.question(told([ABSENT] * MAX_FAILURES), NOON) is None


def test_half_hour_and_days_give_both_forecasts() -> None:
    known = site.freeze(told(fortnight()), NOON)
    assert known.word == "history and recent"
    now = site.counts(known, Block(3.0, 0.0, 30.0), NOON)
    assert now is not None
    assert (now.orders, now.expected, now.recent) == (3.0, 30.0, 15.0)


def test_what_is_missing_leaves_the_forecast_that_can_be_made() -> None:
    half_hour, *days = fortnight()
    assert site.freeze(told([ABSENT, *days]), NOON).word == "history"
    assert site.freeze(told([half_hour, *days[:3]]), NOON).word == "recent"
    assert site.freeze(told([ABSENT, *days[:3]]), NOON).word == "no history"
    assert site.freeze(SiteMemory(), NOON).floors is None


def test_half_an_hour_that_the_run_saw_itself_is_newer_than_what_was_asked_for() -> None:
    known = told(fortnight())
    for minute in range(RECENT_MINUTES):
        known = site.watch(known, Block(80.0, 60.0 * minute, 60.0 * (minute + 1)))
    now = site.counts(site.freeze(known, NOON), Block(3.0, 1800.0, 1860.0), NOON)
    assert now is not None
    assert now.recent == pytest.approx(80.0)


def test_less_than_half_an_hour_of_its_own_is_no_forecast() -> None:
    short = site.watch(SiteMemory(), Block(2900.0, 0.0, 29 * 60.0))
    assert site.freeze(short, NOON).word == "no history"
    assert site.freeze(site.watch(short, Block(100.0, 29 * 60.0, 1800.0)), NOON).word == "recent"


def test_minutes_are_filled_by_whatever_blocks_come_and_lose_nothing() -> None:
    rng = Random(4)
    seen, orders, seconds = Seen(), 0.0, 0.0
    while seconds < 1500.0:
        took = rng.uniform(0.2, 90.0)
        seen, orders, seconds = seen.add(2.0 * took, took), orders + 2.0 * took, seconds + took
    assert len(seen.minutes) == int(seconds // 60.0)
    assert sum(seen.minutes) + seen.orders == pytest.approx(orders)
    assert seen.seconds == pytest.approx(seconds % 60.0)


def test_a_missed_pod_ends_no_block_and_its_orders_come_with_the_next() -> None:
    blocks = looks([(1, 10, 0), (2, 20, 1), (3, 30, None), (4, 40, 3), (5, None, None), (6, 60, 5)])
    given = [(block.orders, block.end - block.begin) for block in blocks if block]
    # The stable pod is older than the run: its first value opens the difference.
    assert given == [(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (22.0, 2.0), (0.0, 0.0), (22.0, 2.0)]


def test_a_pod_that_counts_no_orders_leaves_the_site_unknown() -> None:
    read = [Reading("stable", False, at, -9.0, {"requests": 10.0 * at}) for at in (1.0, 2.0)]
    state = fold(CountersState(), read[:1], {"stable": False}).state
    known, block = site.fold(SiteMemory(since=1.0), fold(state, read[1:], {"stable": False}))
    assert (known.since, block) == (None, None)


def test_looks_without_a_pod_are_not_looks_at_a_site_without_orders() -> None:
    known = replace(site.freeze(told(fortnight()), NOON), since=0.0)
    folded = fold(CountersState(at=9.0), [], {})
    known, block = site.fold(known, folded)
    now = site.counts(known, block, NOON)
    assert now is not None
    assert (now.orders, now.expected, now.recent) == (0.0, 0.0, 0.0)


def test_a_restart_reads_the_same_forecast_from_the_status() -> None:
    rng = Random(11)
    days = [[rng.uniform(0.0, 9e4) for _ in range(MINUTES)] for _ in range(PAST_DAYS)]
    frozen = site.freeze(told([[7.7] * RECENT_MINUTES, *days]), NOON)
    status = AnalysisStatus.model_validate(texts(Memory(site=frozen)))
    assert remember(status).site == frozen
    assert texts(remember(status))["forecast"] == status.forecast
    assert len(status.forecast) < 9_000


def test_minutes_seen_before_the_first_slice_survive_a_restart() -> None:
    known = site.watch(SiteMemory(), Block(1000.0, 0.0, 600.0))
    status = AnalysisStatus.model_validate(texts(Memory(site=known)))
    assert remember(status).site.seen.minutes == (100.0,) * 10


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        "{",
        '{"v":1}',
        '{"seen":[-1]}',
        '{"seen":"no"}',
        '{"history":[1,2],"recent":null,"theta":[0.3,0.3]}',
        '{"history":null,"recent":NaN,"theta":[0.3,0.3]}',
        '{"history":null,"recent":1,"theta":[0.3]}',
    ],
)
def test_a_forecast_that_cannot_be_read_is_forgotten(text: str) -> None:
    assert site.load(text) == SiteMemory()
