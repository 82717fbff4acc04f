"""How a run ends where the route is not as the status says: after a crash, or when it is gone."""

from dataclasses import replace

import pytest
from machine_walk import look, start
from machine_world import NOW, SPEC, Letter, State, evidence

from canary.api.reasons import Phase, Verb, Verdict
from canary.core import invariants, machine
from canary.core.actions import Kill
from canary.core.decision import Decision, Run, Situation

UP = (Letter("the cluster works"), Letter("evidence suffices", Verdict.ADVANCE))
BAD = Letter("evidence against it", Verdict.ROLL_BACK)
NO_DATA = Letter("no data for long", blind=3600.0)
ABORT = Letter("abort", verb=Verb.ABORT)


def exposed() -> State:
    """Return a run at its first slice."""
    state = start()
    for turn in range(30):
        state = look(state, UP[turn % 2]).after
        if state.status.phase is Phase.PROGRESSING and state.world.weight > 0:
            return state
    raise AssertionError(state)


def decided(state: State, letter: Letter, **route: object) -> tuple[Situation, Decision]:
    """Look at a route that differs from what the status expects; return the judge's own decision."""
    seen = evidence(state.world, state.status, letter)
    seen = replace(seen, route=replace(seen.route, **route))
    situation = Situation(Run("ns", "run", "uid", 1, SPEC, state.status), seen, NOW)
    return situation, machine.decide(situation)


@pytest.mark.parametrize("letter", [BAD, NO_DATA, ABORT], ids=lambda letter: letter.name)
def test_a_rollback_whose_status_was_lost_is_written_again_under_a_newer_epoch(letter: Letter) -> None:
    state = exposed()
    stored = state.status.traffic.epoch + 1  # of the rollback that was written before the crash
    situation, decision = decided(state, letter, weight_ppm=0, epoch=stored, last_epoch=stored)
    assert invariants.broken(situation, decision) == []
    (kill,) = (action for action in decision.actions if isinstance(action, Kill))
    assert kill.epoch > stored
    assert decision.status.traffic.epoch == kill.epoch


@pytest.mark.parametrize("letter", [BAD, NO_DATA, ABORT], ids=lambda letter: letter.name)
def test_a_run_whose_route_is_gone_ends_without_a_write(letter: Letter) -> None:
    gone = {"attached": False, "weight_ppm": 0, "epoch": 2**31 - 1, "version": ""}
    situation, decision = decided(exposed(), letter, **gone)
    assert invariants.broken(situation, decision) == []
    assert decision.status.traffic.weight_ppm == 0
    assert decision.status.traffic.epoch < 2**31 - 1
