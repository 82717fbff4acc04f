"""The new version's own counts beside a witness's: a lie is named, chance and a few events are none."""

import random

import pytest

from canary.api.reasons import MissingReason
from canary.core.detect.counters import CountersState, Counts, Folded
from canary.core.evidence import Missing
from canary.core.witness import KEEP_SECONDS, Gained, WitnessMemory, fold


def look(at: float, orders: float, requests: float, *, reset: bool = False) -> Folded:
    counts = Counts(orders, requests)
    return Folded(CountersState(), counts, counts, True, reset, (), at, {"pod": {}})


def watched(seconds: int, orders: float, requests: float) -> WitnessMemory:
    memory = WitnessMemory()
    for at in range(seconds + 1):
        memory = fold(memory, look(float(at), orders, requests), None, float(at))
    return memory


def said(memory: WitnessMemory, end: float, **counts: float) -> str:
    theirs = {name: Gained(0.0, end, count) for name, count in counts.items()}
    return fold(memory, look(0.0, 0.0, 0.0), theirs, end).word


@pytest.mark.parametrize(
    ("own", "theirs", "named"),
    [
        (10_000, 10_000, False),
        (10_000, 9_600, False),
        (10_000, 9_000, True),
        (9_000, 10_000, True),
        (30, 20, False),
        (30, 0, True),
        (300, 270, False),
        (300, 200, True),
        (0, 0, False),
    ],
)
def test_five_percent_of_many_is_allowed_and_of_a_few_what_chance_allows(
    own: int, theirs: int, named: bool
) -> None:
    memory = watched(100, own / 100, 1.0)
    assert bool(said(memory, 100.0, orders=theirs)) is named


def test_the_word_says_who_counts_what() -> None:
    word = said(watched(100, 10.0, 100.0), 100.0, orders=100.0, requests=10_000.0)
    assert word == "the new version counts 1000 orders of its own in 100 s, the witness 100"


def test_less_than_a_minute_and_what_the_pods_counts_do_not_cover_say_nothing() -> None:
    memory = watched(59, 10.0, 10.0)
    assert said(memory, 59.0, orders=0.0) == ""
    assert said(watched(100, 10.0, 10.0), 101.0, orders=0.0) == ""


def test_only_the_last_minutes_are_kept_and_lost_counts_begin_anew() -> None:
    memory = watched(1_000, 1.0, 1.0)
    assert 1_000 - memory.since <= KEEP_SECONDS + 1
    anew = fold(memory, look(1_001.0, 5.0, 5.0, reset=True), None, 1_001.0)
    assert anew.totals == ((1_001.0, 0.0, 0.0),)


def test_a_witness_that_is_silent_says_why_and_takes_no_word_back() -> None:
    liar = fold(watched(100, 10.0, 10.0), look(0.0, 0.0, 0.0), {"orders": Gained(0.0, 100.0, 0.0)}, 100.0)
    silent = fold(liar, look(0.0, 0.0, 0.0), Missing(MissingReason.TIMED_OUT, "too slow"), 105.0)
    assert (silent.word, silent.silent) == (liar.word, "too slow")
    heard = fold(silent, look(0.0, 0.0, 0.0), {"orders": Gained(0.0, 100.0, 1_000.0)}, 110.0)
    assert (heard.word, heard.silent) == ("", "")


@pytest.mark.parametrize("rate", [0.1, 1.0, 30.0])
def test_a_witness_of_the_same_events_that_is_seconds_behind_never_disagrees(rate: float) -> None:
    draw, memory, total, theirs = random.Random(7), WitnessMemory(), 0, [(0.0, 0)]
    for at in range(1, 3_000):
        orders = sum(draw.random() < rate / 40 for _ in range(40))
        total += orders
        if at % 15 == 4:  # it is scraped four times a minute, and counts what began a moment before
            theirs.append((float(at), total - (draw.random() < 0.5 and min(orders, 1))))
        window = [each for each in theirs if each[0] >= memory.since]
        gained = None
        if len(window) > 1:
            (begin, low), (end, high) = window[0], window[-1]
            gained = {"orders": Gained(begin, end, high - low)}
        memory = fold(memory, look(float(at), orders, orders), gained, float(at))
        assert memory.word == ""
