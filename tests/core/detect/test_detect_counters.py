"""Counting: whatever pods, scrapes and restarts do, nothing is counted twice, nothing is invented, little is lost."""

import json
from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from canary.api.reasons import MissingReason
from canary.core.detect.counters import CountersState, Counts, Folded, Reading, fold

NAMES = ("orders", "requests", "extra.late")


def reading(pod: str, at: float, requests: float, *, started: float = 1.0, orders: float = 0.0) -> Reading:
    return Reading(pod, pod.startswith("c"), at, started, {"orders": orders, "requests": requests})


def folded(state: CountersState, *readings: Reading, live: str = "c1 s1 s2") -> Folded:
    return fold(state, readings, {pod: pod.startswith("c") for pod in live.split()})


def opened() -> CountersState:
    """One canary pod and two stable pods, all seen at second 2 with 10 requests."""
    return folded(CountersState(), *(reading(pod, 2.0, 10.0) for pod in ("c1", "s1", "s2"))).state


def test_a_pod_that_started_within_the_run_counts_from_zero_and_an_older_one_from_first_sight() -> None:
    look = folded(
        CountersState(), reading("c1", 2.0, 30.0), reading("s1", 2.0, 500.0, started=-60.0), live="c1 s1"
    )
    assert look.canary.requests == 30.0
    assert look.baseline.requests is None
    assert not look.complete
    later = folded(look.state, reading("s1", 3.0, 540.0, started=-60.0), live="c1 s1")
    assert later.baseline.requests == 40.0


def test_a_missed_scrape_is_covered_by_the_next_difference() -> None:
    missed = folded(opened(), reading("c1", 3.0, 11.0), reading("s1", 3.0, 14.0))
    assert not missed.complete
    assert missed.baseline.requests == 4.0
    look = folded(missed.state, reading("c1", 4.0, 12.0), reading("s1", 4.0, 15.0), reading("s2", 4.0, 18.0))
    assert look.complete
    assert look.baseline.requests == 1.0 + 8.0
    assert look.at == 4.0


def test_if_one_counter_fell_all_counters_of_the_pod_begin_anew() -> None:
    state = folded(CountersState(), reading("c1", 2.0, 10.0, orders=4.0), live="c1").state
    look = folded(state, reading("c1", 3.0, 50.0, orders=3.0), live="c1")
    assert look.canary == Counts(3.0, 50.0)
    assert look.reset


def test_a_start_time_that_moved_is_a_reset_though_every_counter_grew() -> None:
    look = folded(opened(), reading("c1", 3.0, 12.0, started=2.5))
    assert look.canary.requests == 12.0
    assert look.reset


def test_a_container_that_restarts_under_a_new_key_counts_from_zero() -> None:
    look = folded(opened(), reading("c2", 4.0, 7.0, started=3.0), live="c2 s1 s2")
    assert look.canary.requests == 7.0
    assert look.reset


def test_a_pod_that_comes_back_after_it_was_gone_is_not_counted_twice() -> None:
    gone = folded(opened(), reading("s1", 3.0, 11.0), reading("s2", 3.0, 11.0), live="s1 s2")
    back = folded(gone.state, reading("c1", 4.0, 15.0))
    assert back.canary.requests is None
    assert folded(back.state, reading("c1", 5.0, 16.0)).canary.requests == 1.0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"at": 2.0}, MissingReason.OUT_OF_ORDER),
        ({"at": 1.0}, MissingReason.OUT_OF_ORDER),
        ({"at": nan}, MissingReason.NOT_FINITE),
        ({"started": inf}, MissingReason.NOT_FINITE),
        ({"counts": {"orders": 0.0, "requests": nan}}, MissingReason.NOT_FINITE),
        ({"counts": {"orders": inf, "requests": 12.0}}, MissingReason.NOT_FINITE),
        ({"counts": {"orders": -1.0, "requests": 12.0}}, MissingReason.NEGATIVE),
        ({"counts": {"requests": 12.0}}, MissingReason.ABSENT),
        ({"pod": "c9"}, MissingReason.STALE),
    ],
)
def test_what_makes_no_sense_is_refused_by_name_and_the_next_difference_covers_it(
    changed: dict[str, object], reason: MissingReason
) -> None:
    bad = replace(reading("c1", 3.0, 12.0), **changed)
    look = folded(opened(), bad, reading("s1", 3.0, 11.0), reading("s2", 3.0, 11.0))
    assert [(refusal.pod, refusal.reason) for refusal in look.refusals] == [(bad.pod, reason)]
    assert look.canary == Counts(None, None)
    assert not look.complete
    assert folded(look.state, reading("c1", 4.0, 13.0)).canary.requests == 3.0


def test_two_readings_of_one_pod_in_one_look_are_both_refused() -> None:
    look = folded(opened(), reading("c1", 3.0, 11.0), reading("c1", 3.0, 12.0))
    assert [refusal.reason for refusal in look.refusals] == [MissingReason.DUPLICATE_SERIES] * 2
    assert look.canary.requests is None


def test_a_count_that_one_pod_does_not_give_is_missing_for_its_whole_arm() -> None:
    with_late = Reading("s1", False, 3.0, 1.0, {"orders": 1.0, "requests": 9.0, "extra.late": 2.0})
    look = fold(
        CountersState(),
        [with_late, Reading("s2", False, 3.0, 1.0, {"requests": 9.0})],
        {"s1": False, "s2": False},
    )
    assert look.baseline == Counts(None, 18.0)


def test_without_any_reading_nothing_is_known_and_nothing_is_zero() -> None:
    look = folded(opened())
    assert (look.canary, look.baseline, look.complete) == (Counts(None, None), Counts(None, None), False)
    assert look.at == 2.0


def test_the_state_survives_its_dump_exactly() -> None:
    state = opened()
    assert CountersState.load(json.loads(json.dumps(state.dump()))) == state


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), max_size=20))
@settings(max_examples=60, deadline=None)
def test_the_same_readings_again_add_nothing(counts: list[tuple[float, float]]) -> None:
    state, live = CountersState(), {"c1": True}
    for at, (orders, requests) in enumerate(counts, start=1):
        given_twice = reading("c1", float(at), requests, orders=orders)
        state = fold(state, [given_twice], live).state
        again = fold(state, [given_twice], live)
        assert again.canary == Counts(None, None)
        assert again.state == state


class Process:
    """One life of one container, and what it truly counted since the run's start."""

    def __init__(self, key: str, started: float) -> None:
        self.key, self.started = key, started
        self.counters = dict.fromkeys(NAMES, 0.0)
        self.truth = dict.fromkeys(NAMES, 0.0)

    def serve(self, requests: int, orders: int, at: float) -> None:
        for name, count in zip(NAMES, (min(orders, requests), requests, requests // 3), strict=True):
            self.counters[name] += count
            self.truth[name] += count if at >= 0 else 0


class World(RuleBasedStateMachine):
    """Every interleaving of serving, scraping, missing, restarting, leaving, coming back and late answers."""

    @initialize(stable=st.integers(1, 3), busy=st.integers(0, 50))
    def begin(self, stable: int, busy: int) -> None:
        self.now, self.lives = 0.0, 0
        self.state, self.seen = (
            CountersState(),
            {True: dict.fromkeys(NAMES, 0.0), False: dict.fromkeys(NAMES, 0.0)},
        )
        self.processes: list[Process] = []
        self.hidden: set[str] = set()
        self.late: list[Reading] = []
        for _ in range(stable):
            self._born("s", -30.0).serve(busy, busy // 2, -1.0)

    def _born(self, arm: str, started: float) -> Process:
        self.lives += 1
        self.processes.append(Process(f"{arm}{self.lives}", started))
        return self.processes[-1]

    def _pick(self, index: int) -> Process:
        return self.processes[index % len(self.processes)]

    @rule(index=st.integers(0, 9), requests=st.integers(0, 40), orders=st.integers(0, 40))
    def serve(self, index: int, requests: int, orders: int) -> None:
        self._pick(index).serve(requests, orders, self.now)

    @rule()
    def canary_pod_starts(self) -> None:
        self.now += 0.25
        self._born("c", self.now)

    @rule(index=st.integers(0, 9), told=st.booleans())
    def restart_in_place(self, index: int, told: bool) -> None:
        """The counters begin at zero again under the same key; the start time moves only if it is exposed."""
        self.now += 0.25
        process = self._pick(index)
        process.counters = dict.fromkeys(NAMES, 0.0)
        process.started = self.now if told else process.started

    @rule(index=st.integers(0, 9))
    def leave_or_come_back(self, index: int) -> None:
        self.hidden ^= {self._pick(index).key}

    @rule(index=st.integers(0, 9))
    def die(self, index: int) -> None:
        if len(self.processes) > 1:
            dead = self._pick(index)
            self.now += 0.25
            self._born(dead.key[0], self.now).truth.update(dead.truth)
            self.processes.remove(dead)

    @rule(missed=st.sets(st.integers(0, 9)), repeat=st.booleans())
    def look(self, missed: set[int], repeat: bool) -> None:
        self.now += 1.0
        live = {
            process.key: process.key[0] == "c" for process in self.processes if process.key not in self.hidden
        }
        answers = [
            Reading(process.key, live[process.key], self.now, process.started, dict(process.counters))
            for index, process in enumerate(self.processes)
            if process.key in live and index not in missed
        ]
        given = {answer.pod: answer for answer in self.late} | {answer.pod: answer for answer in answers}
        look = fold(self.state, list(given.values()), live)
        self.late = answers if repeat else []
        self.state = CountersState.load(json.loads(json.dumps(look.state.dump())))
        for is_canary, counts in ((True, look.canary), (False, look.baseline)):
            found = {
                "orders": counts.orders,
                "requests": counts.requests,
                "extra.late": counts.extra.get("late"),
            }
            for name, count in found.items():
                self.seen[is_canary][name] += count or 0.0

    @invariant()
    def nothing_is_counted_twice_or_invented(self) -> None:
        for is_canary, seen in self.seen.items():
            for name in NAMES:
                truth = sum(each.truth[name] for each in self.processes if (each.key[0] == "c") is is_canary)
                assert seen[name] <= truth


World.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestEveryInterleavingOfPods = World.TestCase


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans(), st.booleans()),
        min_size=1,
        max_size=25,
    )
)
@settings(max_examples=100, deadline=None)
def test_without_restarts_the_sum_is_exact_however_many_scrapes_are_missed(
    looks: list[tuple[int, int, bool, bool]],
) -> None:
    state, live, total, true = CountersState(), {"c1": True, "s1": False}, 0.0, [0.0, 0.0]
    for at, (canary, stable, read_canary, read_stable) in enumerate([*looks, (0, 0, True, True)], start=2):
        true[0] += canary
        true[1] += stable
        readings = [
            reading(pod, float(at), count)
            for pod, count, read in (("c1", true[0], read_canary), ("s1", true[1], read_stable))
            if read
        ]
        look = fold(state, readings, live)
        state = look.state
        total += (look.canary.requests or 0.0) + (look.baseline.requests or 0.0)
    assert total == sum(true)
