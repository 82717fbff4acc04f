"""Hundreds of slices leave a worker for what is at rest, and hundreds of objects at rest leave some for a slice."""

import pytest

from canary.kube.queue import Urgency, WorkQueue
from canary.kube.resources import Key
from canary.lab.clock import SimClock
from canary.operator.controller import worker_lanes

ALONE = Key("one", "alone")


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("many", list(Urgency))
@pytest.mark.parametrize("one", [Urgency.EXPOSED, Urgency.REST])
def test_however_many_wait_in_one_lane_a_key_of_the_other_is_taken(
    workers: int, many: Urgency, one: Urgency
) -> None:
    queue = WorkQueue(SimClock())
    for number in range(100):
        queue.add(Key("many", str(number)), many)
    queue.add(ALONE, one)
    taken = [queue.take_due(lanes) for lanes in worker_lanes(workers, workers)]
    assert many.lane is one.lane or ALONE in {each.key for each in taken if each is not None}
