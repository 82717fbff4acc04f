"""The controller dies at a call of the API server and another one takes over, which knows nothing but what is stored.

A whole run is played once to count its writes, and then once more for each of them. CANARY_SIMULATIONS=all plays
every write, before and after; without it a write that repeats an earlier one of the same phase is left out, and so is
the moment before each, for what is stored then is what is stored after the one before.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
from dying_roads import PROCESSES, ROADS, first_of_each, to_its_end, trouble_of
from sim_faults import Crash, Dying, Moment
from sim_street import COLLAPSE, Street, everything_is_back, side_ppm

from canary.api.marks import Mark
from canary.api.reasons import Phase
from canary.kube.client import Intent
from canary.kube.resources import HTTPROUTES
from canary.lab import manifests

EVERY_WRITE = os.environ.get("CANARY_SIMULATIONS", "") == "all"


def play(road: str, dying: Dying, at: int = 0, moment: Moment = Moment.BEFORE) -> Street:
    """Play a road to its end, past a death of the controller at one write."""
    street = Street(wire=dying.wire)
    dying.count(at, moment, lambda: street.phase)
    return to_its_end(street, road)


def points(road: str) -> list[int]:
    """Return the numbers of the writes at which to die: all, or the first of each kind in each phase."""
    dying = Dying()
    play(road, dying)
    if EVERY_WRITE:
        return list(range(1, len(dying.writes) + 1))
    return first_of_each(dying)


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("road", ROADS)
def test_a_controller_that_dies_at_any_write_ends_in_the_right_place(
    road: str, moment: Moment, capsys: pytest.CaptureFixture[str]
):
    if moment is Moment.BEFORE and not EVERY_WRITE:
        pytest.skip("only with CANARY_SIMULATIONS=all")
    numbers = points(road)
    with ProcessPoolExecutor(PROCESSES) as pool:
        for said in pool.map(partial(survive, road, moment), numbers):
            assert not said, said
    with capsys.disabled():
        print(f" {len(numbers)} crash points of a run that is {road}, each {moment.value} the write", end="")


def survive(road: str, moment: Moment, number: int) -> str:
    """Play a road with a death at one write; return what is wrong in the end, or nothing."""
    said = trouble_of(road, lambda: play(road, Dying(), number, moment), everything_is_back)
    return f"died {moment.value} write {number}: {said}" if said else ""


def test_a_rollback_that_died_between_two_routes_is_a_new_version_of_both():
    """A raise on its way against what the dead controller left on the first route must lose there, too."""
    dying = Dying()
    street = Street(wire=dying.wire)
    second = {**manifests.route(), "metadata": {"name": "another", "namespace": manifests.NAMESPACE}}
    street.admin.create(HTTPROUTES, second, intent=Intent.NEUTRAL)
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "20"})
    assert street.run_until(lambda: shares(street) == [50_000, 50_000], 60), street.told()
    street.run_for(10)
    dying.die_after(lambda: 0 in shares(street))
    with pytest.raises(Crash):
        street.until(Phase.ROLLED_BACK)
    assert sorted(shares(street)) == [0, 50_000]
    left = max(epochs(street))
    street.restart()
    assert street.run_until(lambda: shares(street) == [0, 0], 60), street.told()
    assert min(epochs(street)) > left, "the same text is no new version"
    street.until(Phase.ROLLED_BACK).tidied()


ROUTES = ("another", manifests.NAME)


def shares(street: Street) -> list[int]:
    return [side_ppm(street.stored("HTTPRoute", name)) for name in ROUTES]


def epochs(street: Street) -> list[int]:
    return [int(street.stored("HTTPRoute", name)["metadata"]["annotations"][Mark.EPOCH]) for name in ROUTES]


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_controller_that_dies_again_and_again_still_ends_in_the_right_place(seed: int):
    """Every fifth to tenth write is the last of its controller."""
    dying = Dying()
    street = Street(seed=seed, wire=dying.wire)
    street.push(COLLAPSE)
    for _ in range(40):
        dying.count(5 + seed, Moment.AFTER if seed % 2 else Moment.BEFORE)
        try:
            street.until(Phase.ROLLED_BACK).tidied()
            break
        except Crash:
            street.restart()
    assert street.phase is Phase.ROLLED_BACK, street.told()
    everything_is_back(street, manifests.OLD)
    lost = sum(truth.missing for truth in street.shop.truths)
    assert lost < 3_000, f"seed {seed}: {lost} orders lost at 250 orders/s in the slice; {street.told()}"
