"""The real sentinel beside the real controller: it acts when that is frozen or killed, and never otherwise."""

import pytest
from real_play import Notes
from real_stories import Playbill

pytest_plugins = ["real_fixtures"]
PROMISE_SECONDS = 30.0
TAKEN = "no controller beats"


@pytest.fixture(scope="module")
def guarded(playbill: Playbill) -> Notes:
    return playbill.notes("left to the sentinel")


@pytest.mark.parametrize("death", ["frozen", "killed"])
def test_the_slice_is_gone_within_thirty_seconds(guarded: Notes, death: str) -> None:
    assert 0.0 < float(guarded.said[death].out) <= PROMISE_SECONDS


def test_a_controller_that_beats_is_never_disturbed(guarded: Notes) -> None:
    assert TAKEN not in guarded.said["undisturbed"].out
    assert guarded.said["sentinel"].out.count(TAKEN) == 2


def test_a_controller_that_wakes_up_goes_on_with_its_slice(guarded: Notes) -> None:
    assert guarded.weights == [0, 50_000, 0, 50_000, 0]


def test_nobody_lost_an_order_or_met_an_error(guarded: Notes) -> None:
    assert sum(truth.missing for truth in guarded.truths) == 0


def test_the_sentinel_ends_in_order(guarded: Notes) -> None:
    assert guarded.said["sentinel's end"].code == 0
    assert "Traceback" not in guarded.said["sentinel's end"].out
