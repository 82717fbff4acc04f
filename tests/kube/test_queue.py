"""The queue against a model: nothing lost, nothing twice at once, the urgent first, patience where it is asked for."""

import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from canary.clock import WallClock
from canary.kube.queue import Agenda, Lane, Urgency, WorkQueue
from canary.kube.resources import Key
from canary.lab.clock import SimClock

KEYS = [Key("shop", name) for name in "abcd"]
A, B, C, D = KEYS
QUICK, SLOW = [Lane.QUICK], [Lane.SLOW]


class AgendaMachine(RuleBasedStateMachine):
    """Random adds, takes and ends; `wanted` is what a correct queue still owes, by key."""

    def __init__(self):
        super().__init__()
        self.agenda = Agenda()
        self.now = 0.0
        self.wanted = {}  # key -> earliest moment at which it was asked for
        self.running = {}  # key -> asked for again meanwhile, or None

    @rule(key=st.sampled_from(KEYS), delay=st.sampled_from([0, 0, 1, 5]), urgency=st.sampled_from(Urgency))
    def add(self, key, delay, urgency):
        self.agenda.add(key, self.now + delay, urgency)
        book = self.running if key in self.running else self.wanted
        known = book.get(key)
        book[key] = self.now + delay if known is None else min(known, self.now + delay)

    @rule(seconds=st.sampled_from([0.5, 1, 3]))
    def pass_time(self, seconds):
        self.now += seconds

    @rule(lanes=st.sampled_from([QUICK, SLOW, QUICK + SLOW]))
    def take(self, lanes):
        taken = self.agenda.pop_due(self.now, lanes)
        if taken is None:
            return
        assert taken.urgency.lane in lanes
        assert taken.key not in self.running
        assert self.wanted.pop(taken.key) <= self.now
        self.running[taken.key] = None

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans())
    def end(self, data, fails):
        key = data.draw(st.sampled_from(sorted(self.running)))
        again = self.running.pop(key)
        if fails:
            wait = self.agenda.failed(key, self.now)
            again = self.now + wait if again is None else min(again, self.now + wait)
        else:
            self.agenda.done(key)
        if again is not None:
            self.wanted[key] = again

    @invariant()
    def nothing_is_lost(self):
        assert len(self.agenda) == len(self.wanted) + len(self.running)

    @invariant()
    def the_next_moment_is_the_earliest_wanted(self):
        due = self.agenda.next_due()
        assert (due is None) == (not self.wanted)
        if due is not None and due > self.now:
            assert due == min(self.wanted.values())

    def teardown(self):
        for key in list(self.running):
            self.agenda.done(key)
        still_wanted = set(self.wanted) | {key for key, again in self.running.items() if again is not None}
        handed_out = set()
        while (taken := self.agenda.pop_due(self.now + 1e9)) is not None:
            handed_out.add(taken.key)
            self.agenda.done(taken.key)
        assert handed_out == still_wanted


AgendaMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgenda = AgendaMachine.TestCase


def order(agenda, now=1e9, lanes=tuple(Lane)):
    """Take all that is due; return the keys in order."""
    keys = []
    while (taken := agenda.pop_due(now, lanes)) is not None:
        keys.append(taken.key)
        agenda.done(taken.key)
    return keys


def test_a_lowering_goes_before_what_is_exposed_and_that_before_the_rest():
    agenda = Agenda()
    agenda.add(A, 0, Urgency.REST)
    agenda.add(B, 1, Urgency.EXPOSED)
    agenda.add(C, 2, Urgency.LOWERING)
    assert order(agenda, 3) == [C, B, A]


def test_equally_urgent_keys_go_in_the_order_of_their_moments():
    agenda = Agenda()
    for key, due in ((A, 3), (B, 1), (C, 2)):
        agenda.add(key, due)
    assert order(agenda, 3) == [B, C, A]


def test_an_upgrade_moves_a_key_to_the_other_lane_and_nothing_moves_it_back():
    agenda = Agenda()
    agenda.add(A, 0, Urgency.REST)
    assert agenda.depth(Lane.SLOW, 1) == 1
    agenda.add(A, 0, Urgency.EXPOSED)
    agenda.add(A, -1, Urgency.REST)
    assert (agenda.depth(Lane.SLOW, 1), agenda.depth(Lane.QUICK, 1)) == (0, 1)
    assert order(agenda, 1, SLOW) == []
    assert order(agenda, 1, QUICK) == [A]


def test_a_wake_during_a_look_makes_one_more_look():
    agenda = Agenda()
    agenda.add(A, 0)
    agenda.pop_due(0)
    agenda.add(A, 0)
    agenda.add(A, 0)
    assert agenda.pop_due(0) is None
    agenda.done(A)
    assert order(agenda, 0) == [A]


def test_a_later_add_does_not_delay_an_earlier_one():
    agenda = Agenda()
    agenda.add(A, 1)
    agenda.add(A, 300)
    assert agenda.next_due() == 1
    agenda.add(A, 0.5)
    assert agenda.next_due() == 0.5


def fail(agenda, key, now, floor=0.0):
    taken = agenda.pop_due(now)
    assert taken is not None
    assert taken.key == key
    return agenda.failed(key, now, floor)


def test_a_key_that_fails_waits_longer_each_time_up_to_five_minutes_and_forgets_it_on_success():
    agenda = Agenda()
    agenda.add(A, 0)
    now, waits = 0.0, []
    for _ in range(13):
        waits.append(fail(agenda, A, now))
        now += waits[-1]
    assert waits == [min(0.25 * 2**count, 300) for count in range(13)]
    agenda.pop_due(now)
    agenda.done(A)
    agenda.add(A, now)
    assert fail(agenda, A, now) == 0.25


def test_a_lowering_that_fails_is_tried_every_second():
    agenda = Agenda()
    agenda.add(A, 0, Urgency.LOWERING)
    now, waits = 0.0, []
    for _ in range(5):
        waits.append(fail(agenda, A, now, floor=60))
        now += waits[-1]
    assert waits == [0.25, 0.5, 1, 1, 1]


def test_the_wait_that_a_server_asks_for_is_kept_even_when_the_key_is_woken():
    agenda = Agenda()
    agenda.add(A, 0)
    assert fail(agenda, A, 0, floor=7) == 7
    agenda.add(A, 0)
    assert agenda.pop_due(6.9) is None
    agenda.add(A, 6.9, Urgency.LOWERING)
    assert order(agenda, 6.9) == [A]


def test_a_wake_cuts_the_wait_after_a_failure_short():
    agenda = Agenda()
    agenda.add(A, 0)
    for now in (0, 10, 30):
        fail(agenda, A, now)
    agenda.add(A, 30.1)
    assert order(agenda, 30.1) == [A]


def test_a_forgotten_key_does_not_come_back():
    agenda = Agenda()
    agenda.add(A, 0, Urgency.EXPOSED)
    agenda.add(B, 0)
    agenda.depth(Lane.QUICK, 0)
    agenda.forget(A)
    assert order(agenda) == [B]


def test_ten_thousand_idle_keys_do_not_delay_one_rollback_and_leave_nothing_behind():
    agenda = Agenda()
    keys = [Key("shop", f"w{number}") for number in range(10_000)]
    for due in (5.0, 4.0, 3.0, 2.0, 1.0):
        for key in keys:
            agenda.add(key, due)
    agenda.add(A, 5.0, Urgency.LOWERING)
    assert sum(map(len, agenda._heaps.values())) < 25_000
    assert agenda.pop_due(5.0).key == A
    agenda.done(A)
    assert len(order(agenda)) == 10_000
    assert len(agenda) == 0


def test_on_simulated_time_a_key_is_due_when_the_clock_says_so():
    clock = SimClock()
    queue = WorkQueue(clock)
    queue.add(A, delay_seconds=2)
    assert queue.take_due() is None
    clock.sleep(queue.next_due() - clock.monotonic())
    taken = queue.take_due()
    assert (taken.key, taken.waited_seconds) == (A, 0.0)
    assert queue.failed(A) == 0.25


def test_a_waiting_worker_is_woken_by_an_add_and_by_the_stop():
    queue = WorkQueue(WallClock())
    got = []
    worker = threading.Thread(target=lambda: got.extend([queue.take(SLOW, 30), queue.take(SLOW, 30)]))
    worker.start()
    queue.add(A, Urgency.EXPOSED)
    queue.add(B)
    while not got and worker.is_alive() and queue.depth(Lane.SLOW):
        time.sleep(0.001)
    queue.stop()
    worker.join(10)
    assert not worker.is_alive()
    assert [taken and taken.key for taken in got] == [B, None]
    assert queue.take_due(QUICK).key == A


def test_take_gives_up_after_its_time_out():
    assert WorkQueue(WallClock()).take(QUICK, 0.01) is None


@pytest.mark.parametrize("reserved", [True, False])
def test_reserved_workers_take_a_rollback_while_all_others_are_stuck(reserved):
    queue = WorkQueue(WallClock())
    release, rolled_back = threading.Event(), threading.Event()

    def work(lanes):
        while (taken := queue.take(lanes, 10)) is not None:
            rolled_back.set() if taken.key == A else release.wait(10)
            queue.done(taken.key)

    workers = [
        threading.Thread(target=work, args=(lanes,)) for lanes in ([QUICK] if reserved else []) + [SLOW, SLOW]
    ]
    for key in (B, C, D):
        queue.add(key)
    for worker in workers:
        worker.start()
    queue.add(A, Urgency.LOWERING)
    assert rolled_back.wait(5 if reserved else 0.1) == reserved
    release.set()
    queue.stop()
    for worker in workers:
        worker.join(10)
    assert not any(worker.is_alive() for worker in workers)


def test_many_threads_lose_no_key_and_never_share_one():
    queue = WorkQueue(WallClock())
    keys = [Key("shop", str(number)) for number in range(20)]
    looks = dict.fromkeys(keys, 0)
    busy, clashes = set(), []

    def work():
        while (taken := queue.take(tuple(Lane), 10)) is not None:
            if taken.key in busy:
                clashes.append(taken.key)
            busy.add(taken.key)
            looks[taken.key] += 1
            busy.discard(taken.key)
            queue.done(taken.key)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(50):
        before = dict(looks)
        for key in keys:
            queue.add(key)
        end = time.monotonic() + 10
        while any(looks[key] == before[key] for key in keys) and time.monotonic() < end:
            time.sleep(0.0005)
        assert all(looks[key] > before[key] for key in keys)
    queue.stop()
    for worker in workers:
        worker.join(10)
    assert clashes == []
