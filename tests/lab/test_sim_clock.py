"""Simulated time runs what is due, in order, and waits for nothing."""

from datetime import timedelta

from canary.lab.clock import EPOCH, SimClock


def test_timers_run_in_the_order_of_their_moments_then_of_their_making() -> None:
    clock, seen = SimClock(), list[tuple[str, float]]()
    for name, seconds in (("late", 5.0), ("first", 1.0), ("second", 1.0)):
        clock.call_later(seconds, lambda name=name: seen.append((name, clock.monotonic())))
    clock.run_for(10)
    assert seen == [("first", 1.0), ("second", 1.0), ("late", 5.0)]
    assert clock.monotonic() == 10


def test_a_timer_made_by_a_timer_runs_in_its_turn() -> None:
    clock, seen = SimClock(), list[float]()

    def tick() -> None:
        seen.append(clock.monotonic())
        clock.call_later(2.0, tick)

    clock.call_later(0.0, tick)
    clock.run_until(5.0)
    assert seen == [0.0, 2.0, 4.0]


def test_sleep_runs_what_falls_due_meanwhile() -> None:
    clock, seen = SimClock(), list[int]()
    clock.call_later(1.0, lambda: seen.append(1))
    clock.sleep(3.0)
    assert seen == [1]
    assert clock.monotonic() == 3.0


def test_a_jump_of_the_wall_clock_moves_no_interval() -> None:
    clock = SimClock()
    clock.run_for(60)
    clock.jump_wall(-3600)
    assert clock.monotonic() == 60
    assert clock.now() == EPOCH + timedelta(seconds=60 - 3600)
