"""The periodic jobs: on time, never twice at once, no burst after a block, and trouble is told."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from canary.clock import WallClock
from canary.operator.schedule import BackgroundSchedule, Every, Trouble


class JumpingClock(WallClock):
    """A machine whose wall clock somebody sets."""

    shift = timedelta(0)

    def now(self):
        return super().now() + self.shift


@pytest.fixture
def troubles():
    return []


@pytest.fixture
def clock():
    return JumpingClock()


@pytest.fixture
def schedule(troubles, clock):
    schedule = BackgroundSchedule(clock, lambda job, trouble: troubles.append((job, trouble)))
    schedule.start()
    yield schedule
    schedule.stop()


def until(true, seconds=8.0):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


def test_a_job_runs_again_and_again_until_the_stop(schedule):
    runs = []
    schedule.every(0.05, lambda: runs.append(1), "tick")
    assert until(lambda: len(runs) >= 3)
    schedule.stop()
    after = len(runs)
    time.sleep(0.15)
    assert len(runs) == after


def test_a_blocked_job_is_told_and_followed_by_no_burst(schedule, troubles):
    started, release = [], threading.Event()

    def job():
        started.append(time.monotonic())
        if len(started) == 1:
            release.wait(8)

    schedule.every(0.1, job, "look-1s")
    assert until(lambda: len(troubles) >= 3)
    assert set(troubles) == {("look-1s", Trouble.STILL_RUNNING)}
    assert len(started) == 1
    release.set()
    released = time.monotonic()
    assert until(lambda: len(started) >= 3)
    assert len([moment for moment in started[1:] if moment < released + 0.05]) <= 1


def test_a_job_that_raises_is_told_and_runs_again(schedule, troubles):
    runs = []

    def job():
        runs.append(1)
        raise ValueError("a defect")

    schedule.every(0.05, job, "sweep")
    assert until(lambda: len(runs) >= 2)
    assert until(lambda: troubles[:1] == [("sweep", Trouble.FAILED)])


def test_one_slow_job_does_not_hold_up_the_others(schedule):
    release, runs = threading.Event(), []
    schedule.every(0.05, lambda: release.wait(8), "slow")
    schedule.every(0.05, lambda: runs.append(1), "quick")
    assert until(lambda: len(runs) >= 3)
    release.set()


def test_a_wall_clock_put_back_an_hour_does_not_stop_the_jobs(schedule, clock):
    runs = []
    schedule.every(0.2, lambda: runs.append(1), "tick")
    # To the scheduler a clock that was put back by an hour is a job that is due in an hour.
    schedule._scheduler.get_job("tick").modify(next_run_time=datetime.now(UTC) + timedelta(hours=1))
    before = len(runs)
    clock.shift = timedelta(hours=-1)
    assert until(lambda: len(runs) > before + 1)


def test_two_jobs_of_one_name_are_refused(schedule):
    schedule.every(60, print, "tick")
    with pytest.raises(ValueError, match="tick"):
        schedule.every(60, print, "tick")


def test_a_stop_without_a_start_and_a_second_stop_are_fine(clock):
    schedule = BackgroundSchedule(clock, print)
    schedule.stop()
    schedule.stop()


MOMENT = datetime(2026, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("late", "fires_after"), [(0, 2), (1, 2), (2, 4), (5, 6), (86_400 * 365 * 50 + 1, 86_400 * 365 * 50 + 2)]
)
def test_whatever_was_missed_is_one_firing_and_the_grid_stays(late, fires_after):
    fires = Every(2).get_next_fire_time(MOMENT, MOMENT + timedelta(seconds=late))
    assert fires == MOMENT + timedelta(seconds=fires_after)
