"""The few fixed periodic jobs: look ticks, sweeps, heartbeat, digest. Nothing whose loss would matter.

The rest of the product knows two verbs, `every` and `stop`; `BackgroundSchedule` is APScheduler behind them, and
simulated time needs none. APScheduler drops a run that it cannot start in time and reads the wall clock, so a run
that did not happen is reported as trouble, never taken for done, and a clock that is put back does not stop the jobs.
"""

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from canary.clock import Clock

JOB_THREADS = 4
CLOCK_CHECK_SECONDS = 1.0
CLOCK_JUMP_SECONDS = 0.5  # less than this is a clock that is being slewed
STOP_JOIN_SECONDS = 5.0

Job = Callable[[], None]


class Trouble(StrEnum):
    """Why a periodic job did not do its work this time."""

    MISSED = "Missed"
    STILL_RUNNING = "StillRunning"  # the run before has not ended
    FAILED = "Failed"  # it raised


_TROUBLES = {
    EVENT_JOB_MISSED: Trouble.MISSED,
    EVENT_JOB_MAX_INSTANCES: Trouble.STILL_RUNNING,
    EVENT_JOB_ERROR: Trouble.FAILED,
}


class Schedule(Protocol):
    """Runs jobs at fixed intervals, until it is stopped."""

    def every(self, interval_seconds: float, job: Job, name: str) -> None:
        """Run `job` every so often, the first time after one interval; never twice at once.

        Raise ValueError where the name is taken.
        """
        ...

    def stop(self) -> None:
        """Start no job any more, and wait for those that run. Not to be called by a job."""
        ...


class Every(BaseTrigger):
    """Fires on a fixed grid of intervals. Whatever lies in the past is one firing, however long ago it was."""

    def __init__(self, interval_seconds: float) -> None:
        self.interval = timedelta(seconds=interval_seconds)

    def get_next_fire_time(  # pyright: ignore[reportIncompatibleMethodOverride]  the base is untyped
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        if previous_fire_time is None:
            return now + self.interval
        intervals = max(1, math.floor((now - previous_fire_time) / self.interval) + 1)
        return previous_fire_time + intervals * self.interval


class BackgroundSchedule:
    """The schedule of the running controller: APScheduler on a few threads of its own."""

    def __init__(self, clock: Clock, on_trouble: Callable[[str, Trouble], None]) -> None:
        self._clock = clock
        self._on_trouble = on_trouble
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(JOB_THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._tell, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR)
        self._stopping = threading.Event()
        self._clock_watch = threading.Thread(target=self._watch_clock, name="clock-watch", daemon=True)

    def start(self) -> None:
        self._scheduler.start()
        self._clock_watch.start()

    def every(self, interval_seconds: float, job: Job, name: str) -> None:
        try:
            self._scheduler.add_job(job, Every(interval_seconds), id=name, name=name)
        except ConflictingIdError as error:
            raise ValueError(f"there is a job called {name} already") from error

    def stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
            self._clock_watch.join(STOP_JOIN_SECONDS)

    def _tell(self, event: JobEvent) -> None:
        self._on_trouble(event.job_id, _TROUBLES[event.code])

    def _watch_clock(self) -> None:
        """Count all intervals anew after the wall clock was moved, or a clock put back would stop them."""
        offset = self._offset_seconds()
        while not self._stopping.wait(CLOCK_CHECK_SECONDS):
            moved = self._offset_seconds() - offset
            if abs(moved) > CLOCK_JUMP_SECONDS:
                offset += moved
                self._realign()

    def _offset_seconds(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _realign(self) -> None:
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC) + job.trigger.interval)
