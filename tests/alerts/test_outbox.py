"""Who is told what and when, and what is remembered of it: at least once, in order, and nobody waits for another."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.alerts.outbox import (
    GIVE_UP_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    MAX_RETRY_SECONDS,
    Subscription,
    due,
    next_due_seconds,
    record,
    retry_seconds,
    with_receipt,
)
from canary.alerts.sink import Incident, Outcome, Receipt, page_of
from canary.api.reasons import Opening
from canary.api.run import Notice

START = datetime(2026, 3, 5, 3, 12, tzinfo=UTC)
INCIDENT = Incident("prod-us", "shop", "checkout", "checkout-7f9c2", "uid")
OK, DOWN, NEVER = Outcome(), Outcome("503"), Outcome("400 bad key", refused=True)
PAGER = Subscription("pager")
CHAT = Subscription("chat")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def notice(
    opening: Opening = Opening.CUSTOMERS_SAFE, state: str = "RolledBack", seconds: float = 0.0
) -> Notice:
    return Notice(
        id=f"uid/{state}",
        opening=opening.value,
        reason=state,
        title=f"{state} happened",
        created_at=at(seconds),
    )


def named(notices: list[Notice], sinks: list[Subscription], seconds: float) -> list[tuple[str, str]]:
    return [(delivery.sink, delivery.notice.reason) for delivery in due(notices, sinks, at(seconds))]


@dataclass
class Story:
    """An outbox against sinks whose answers are a function of (sink, time); a second a turn."""

    notices: list[Notice]
    sinks: list[Subscription]
    answers: Mapping[str, object] = field(default_factory=dict)
    log: list[tuple[float, str, str]] = field(default_factory=list)

    def run(self, seconds: int) -> "Story":
        for second in range(seconds):
            for delivery in due(self.notices, self.sinks, at(second)):
                answer = self.answers.get(delivery.sink, OK)
                outcome = answer(second) if callable(answer) else answer
                assert isinstance(outcome, Outcome)
                receipt = Receipt(delivery.sink, page_of(delivery.notice, INCIDENT), outcome)
                self.notices = with_receipt(self.notices, receipt, at(second))
                self.log.append((second, delivery.sink, delivery.notice.reason))
        return self

    def times(self, sink: str) -> list[float]:
        return [second for second, name, _ in self.log if name == sink]


def test_nobody_waits_for_a_clock_that_was_put_back() -> None:
    """A notice, or its next attempt, that is an hour away was written by another clock."""
    fresh = notice(seconds=3_600.0)
    failed = record(fresh, "chat", DOWN, at(3_601.0))
    for known in (fresh, failed):
        assert named([known], [CHAT], 0.0) == [("chat", "RolledBack")]
        assert next_due_seconds([known], [CHAT], at(0.0)) == 0.0
    late = Outcome("503", retry_after_seconds=MAX_RETRY_AFTER_SECONDS)
    assert named([record(notice(), "chat", late, at(0.0))], [CHAT], 1.0) == []


def test_every_sink_is_told_once() -> None:
    story = Story([notice()], [CHAT, Subscription("hook")]).run(300)
    assert story.log == [(0, "chat", "RolledBack"), (0, "hook", "RolledBack")]
    assert set(story.notices[0].delivered) == {"chat", "hook"}


def test_a_failing_sink_delays_no_other_and_is_asked_ever_more_rarely() -> None:
    story = Story([notice()], [CHAT, Subscription("hook")], {"chat": DOWN}).run(3600)
    assert story.times("hook") == [0]
    gaps = [
        later - earlier for earlier, later in zip(story.times("chat"), story.times("chat")[1:], strict=False)
    ]
    assert gaps[0] <= 2
    assert max(gaps) > 100
    assert len(story.times("chat")) < 40
    assert story.notices[0].failing["chat"].count == len(story.times("chat")) == story.notices[0].attempts
    assert story.notices[0].last_error == "chat: 503"


def test_a_sink_that_comes_back_hears_it_and_the_failure_is_forgotten() -> None:
    story = Story([notice()], [CHAT], {"chat": lambda second: DOWN if second < 30 else OK}).run(120)
    assert list(story.notices[0].delivered) == ["chat"]
    assert story.notices[0].failing == {}
    assert story.notices[0].retry_at is None


def test_a_sink_that_says_when_is_not_asked_sooner_and_not_believed_for_ever() -> None:
    told = record(notice(), "chat", Outcome("429", retry_after_seconds=120.0), at(0))
    assert named([told], [CHAT], 119) == []
    assert named([told], [CHAT], 121) == [("chat", "RolledBack")]
    patient = record(notice(), "chat", Outcome("429", retry_after_seconds=1e9), at(0))
    assert named([patient], [CHAT], MAX_RETRY_AFTER_SECONDS) == [("chat", "RolledBack")]


def test_a_call_for_action_is_never_given_up_and_other_news_after_a_day() -> None:
    call = notice(Opening.ACTION_NEEDED, "RollbackUnverified")
    for _ in range(50):
        call = record(call, "chat", NEVER, at(0))
    assert named([call], [CHAT], 30 * GIVE_UP_SECONDS) == [("chat", "RollbackUnverified")]
    safe = record(notice(), "chat", DOWN, at(0))
    assert named([safe], [CHAT], GIVE_UP_SECONDS - 1) == [("chat", "RolledBack")]
    assert named([safe], [CHAT], GIVE_UP_SECONDS + 1) == []


def test_a_refusal_is_final_for_what_calls_nobody() -> None:
    assert named([record(notice(), "chat", NEVER, at(0))], [CHAT], 3600) == []


def test_the_order_of_a_run_is_kept_for_each_sink() -> None:
    notices = [
        notice(Opening.ACTION_NEEDED, "RollbackUnverified"),
        notice(Opening.CUSTOMERS_SAFE, "RolledBack", 5),
    ]
    story = Story(notices, [CHAT], {"chat": lambda second: DOWN if second < 20 else OK}).run(120)
    delivered = [reason for second, _, reason in story.log if second >= 20]
    assert delivered == ["RollbackUnverified", "RolledBack"]


def test_a_stale_started_is_dropped_and_so_is_what_something_louder_outlived() -> None:
    started, decision = notice(Opening.NONE, "RunStarted"), notice(Opening.DECISION_NEEDED, "Blind", 1)
    safe = notice(Opening.CUSTOMERS_SAFE, "RolledBack", 2)
    assert named([started], [CHAT], 0) == [("chat", "RunStarted")]
    assert named([started], [CHAT], 601) == []
    assert named([started, decision, safe], [CHAT], 3) == [("chat", "RolledBack")]


def test_a_sink_that_forgets_is_told_again_while_it_holds() -> None:
    forgetful = Subscription("am", repeat_seconds=60.0)
    call = notice(Opening.ACTION_NEEDED, "RollbackUnverified")
    assert Story([call], [forgetful]).run(200).times("am") == [0, 60, 120, 180]
    story = Story([call, notice(Opening.CUSTOMERS_SAFE, "RolledBack", 130)], [forgetful])
    story.notices = [call]
    story.run(130)
    story.notices.append(notice(Opening.CUSTOMERS_SAFE, "RolledBack", 130))
    last = [reason for second, _, reason in story.run(1200).log if second >= 131]
    assert set(last) == {"RolledBack"}


def test_nothing_old_is_repeated_for_ever() -> None:
    story = Story([notice()], [Subscription("am", repeat_seconds=60.0)]).run(3600)
    assert max(story.times("am")) < 1000
    assert next_due_seconds(story.notices, [Subscription("am")], at(3600)) is None


def test_a_note_on_the_way_takes_nothing_back_and_a_good_end_does() -> None:
    sinks = [Subscription("am", repeat_seconds=60.0)]
    call = record(notice(Opening.ACTION_NEEDED, "GuardMissing"), "am", OK, at(0))
    note = record(notice(Opening.NONE, "RunStarted", 1), "am", OK, at(1))
    end = record(notice(Opening.NONE, "Promoted", 2), "am", OK, at(2))
    assert named([call, note], sinks, 61) == [("am", "GuardMissing")]
    assert named([call, note, end], sinks, 61) == []
    assert named([call], sinks, GIVE_UP_SECONDS + 1) == []


def test_a_failing_repeat_backs_off_too() -> None:
    sinks = [Subscription("am", repeat_seconds=60.0)]
    answers = {"am": lambda second: OK if second == 0 else DOWN}
    story = Story([notice(Opening.ACTION_NEEDED, "Draining")], sinks, answers).run(1800)
    assert len(story.times("am")) < 25


def test_the_next_moment_is_known_without_polling() -> None:
    assert next_due_seconds([notice()], [CHAT], at(0)) == 0.0
    failed = record(notice(), "chat", Outcome("429", retry_after_seconds=120.0), at(0))
    assert next_due_seconds([failed], [CHAT], at(0)) == 120.0
    assert next_due_seconds([failed], [CHAT], at(61)) == 59.0
    assert next_due_seconds([], [CHAT], at(0)) is None


def test_the_wait_doubles_with_a_jitter_that_history_decides() -> None:
    waits = [retry_seconds("uid/RolledBack/chat", attempt) for attempt in range(1, 20)]
    assert waits == [retry_seconds("uid/RolledBack/chat", attempt) for attempt in range(1, 20)]
    for attempt, wait in enumerate(waits, 1):
        whole = min(MAX_RETRY_SECONDS, 2.0 ** (attempt - 1))
        assert whole / 2 <= wait <= whole
    assert waits != [retry_seconds("uid/RolledBack/hook", attempt) for attempt in range(1, 20)]
    assert retry_seconds("x", 10**6) <= MAX_RETRY_SECONDS


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**9))
def test_whatever_fails_a_call_for_action_reaches_a_sink_that_answers_in_the_end(seed: int) -> None:
    rng = random.Random(seed)
    openings = [rng.choice(list(Opening)) for _ in range(rng.randint(0, 4))]
    notices = [notice(opening, f"S{index}", index) for index, opening in enumerate(openings)]
    notices.append(notice(Opening.ACTION_NEEDED, "Call", len(notices)))

    def moody(second: float) -> Outcome:
        return rng.choice([OK, DOWN, NEVER, Outcome("429", retry_after_seconds=30.0)]) if second < 200 else OK

    story = Story(notices, [PAGER, CHAT], {"pager": moody, "chat": moody}).run(1200)
    assert set(story.notices[-1].delivered) == {"pager", "chat"}
    for sink in ("pager", "chat"):
        heard = [reason for _, name, reason in story.log if name == sink]
        first_heard = list(dict.fromkeys(heard))
        positions = [[n.reason for n in notices].index(reason) for reason in first_heard]
        assert positions == sorted(positions)
    again = story.notices[-1]
    assert Notice.model_validate(again.wire()) == again


@pytest.mark.parametrize("opening", list(Opening))
def test_a_notice_survives_the_way_through_the_api_server(opening: Opening) -> None:
    told = record(record(notice(opening), "chat", DOWN, at(1)), "hook", OK, at(2))
    assert Notice.model_validate(told.wire()) == told
