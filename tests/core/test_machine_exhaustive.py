"""Every reachable state of the judge, by every letter: no invariant breaks, and every run comes to an end."""

import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from machine_walk import DESIGN, Move, diagram, look, start, walk, written
from machine_world import LETTERS, NEW_HASH, OLD_HASH, PODS, Letter, State

from canary.api.reasons import PPM, Phase, Verb, Verdict
from canary.core import invariants, machine
from canary.core.actions import FreezeScaler
from canary.core.intent import SPLIT

BLINDING = {"no data ever", "no data for long", "no data for a moment", "route unreadable", "side unreadable"}


@pytest.fixture(scope="module")
def moves() -> Iterator[list[Move]]:
    """A hundred thousand moves are kept; looking through them for garbage would take as long as the walk."""
    gc.disable()
    try:
        walked = list(walk())
        gc.freeze()
    finally:
        gc.enable()
    yield walked
    gc.unfreeze()


@pytest.fixture(scope="module")
def states(moves: list[Move]) -> dict[object, State]:
    return {move.before.key: move.before for move in moves}


def test_the_walk_reaches_every_phase(states: dict[object, State]) -> None:
    assert {state.status.phase for state in states.values()} == set(Phase)
    assert len(states) > 1_000


def test_the_diagram_in_the_docs_is_what_the_walk_saw(moves: list[Move]) -> None:
    page = DESIGN.read_text(encoding="utf-8")
    assert page == written(page, diagram(moves)), "write it anew: python tests/core/machine_walk.py"


def test_no_decision_breaks_an_invariant(moves: list[Move]) -> None:
    found = Counter(said for m in moves for said in invariants.broken(m.situation, m.decision))
    assert not found


def test_what_is_decided_needs_no_rescue(moves: list[Move]) -> None:
    """`enforce` never had to step in: the judge's own decision kept every invariant."""
    for move in moves[::7]:
        assert machine.decide(move.situation) == move.decision


def test_a_weight_that_falls_falls_on_the_route_before_the_status_is_written(moves: list[Move]) -> None:
    for move in moves:
        status = move.decision.status
        if status.phase is Phase.RETURNING or status.traffic.way_back_ppm or status.phase is Phase.PROMOTED:
            continue
        if status.traffic.weight_ppm == 0 and move.before.status.traffic.weight_ppm > 0:
            assert move.after_lowering.weight == 0, (move.letter.name, status.phase)


def test_the_route_never_carries_more_than_the_durable_intent(moves: list[Move]) -> None:
    for move in moves:
        if move.letter.crash or move.letter.closes == "lease" or move.letter.unreadable:
            continue
        if move.after.status.way_back.wanted > 0:
            continue  # the tested version on both sides, until the last good one is ready
        assert move.after.world.weight <= move.after.status.traffic.weight_ppm, (move.letter.name, move.after)


def test_missing_data_never_raises(moves: list[Move]) -> None:
    for move in moves:
        if move.letter.name in BLINDING and move.decision.status.phase is not Phase.COMMITTING:
            assert move.decision.status.traffic.weight_ppm <= move.before.status.traffic.weight_ppm


def test_an_autoscaler_is_frozen_before_anything_rises(moves: list[Move]) -> None:
    free = [move for move in moves if move.letter.closes == "autoscaler"]
    split = [move for move in free if move.decision.status.phase in SPLIT]
    assert split
    assert all(FreezeScaler() in move.decision.actions for move in split)
    raised = (
        move for move in moves if move.after.status.traffic.weight_ppm > move.before.status.traffic.weight_ppm
    )
    first = next(move for move in raised if move.decision.status.phase is Phase.PROGRESSING)
    evidence = replace(first.situation.evidence, may_shrink=True)
    assert invariants.broken(replace(first.situation, evidence=evidence), first.decision)


def test_the_lock_is_open_only_while_a_tested_template_rolls(moves: list[Move]) -> None:
    for move in moves:
        status, world = move.after.status, move.after.world
        if not world.paused and world.template and not move.letter.unreadable:
            allowed = status.phase is Phase.COMMITTING or status.phase.final or move.letter.crash
            assert allowed, (move.letter.name, status.phase)


def test_no_user_traffic_reaches_the_deployment_while_it_rolls(moves: list[Move]) -> None:
    """I3: while the native roll runs, all traffic is on the side (or on the way back)."""
    for move in moves:
        if any(type(action).__name__ == "UnpauseTarget" for action in move.decision.actions):
            assert PPM in (move.after_lowering.weight, move.after_lowering.back_weight)


def test_the_last_good_version_is_left_only_for_itself_or_for_what_a_person_accepted(
    moves: list[Move],
) -> None:
    left = [
        m for m in moves if m.before.status.traffic.way_back_ppm and not m.after.status.traffic.way_back_ppm
    ]
    seen = [workload for move in left if (workload := move.situation.workload) is not None]
    assert {workload.template_hash for workload in seen} == {OLD_HASH, NEW_HASH}
    for move in left:
        workload, accepted = move.situation.workload, move.decision.status.accepted
        if workload is None:
            assert move.situation.evidence.detaching
            continue
        assert workload.template_hash in (OLD_HASH, accepted)
        assert (workload.current_ready, workload.other_pods, workload.paused) == (PODS, 0, True)


def test_a_target_that_is_lost_before_the_commit_is_served_by_the_last_good_version(
    states: dict[object, State],
) -> None:
    quiet = Letter("quiet", waits=True)
    lost = [each for each in LETTERS if each.strikes in ("gone", "recreated", "recreated held")]
    for state in states.values():
        if state.status.phase.final or state.status.phase is Phase.ROLLING_BACK:
            continue
        for letter in lost:
            here = look(state, letter).after
            for _ in range(6):
                here = look(here, quiet).after
            assert here.world.back_weight == PPM, (state.status.phase, letter.name)
            assert here.world.paused or not here.world.template


def test_an_abort_is_obeyed_from_every_state(states: dict[object, State]) -> None:
    abort = next(letter for letter in LETTERS if letter.verb is Verb.ABORT)
    quiet = Letter("quiet", waits=True)
    for state in states.values():
        if state.status.phase.final or not state.world.template:
            continue
        move = look(state, abort)
        ending = move.decision.status.phase
        assert ending is Phase.ROLLING_BACK or ending.final, (state.status.phase, ending)
        here = move.after
        for _ in range(6):
            here = look(here, quiet).after
        assert here.world.weight == 0 or here.world.back_weight == PPM, (
            state.status.phase,
            here.status.phase,
        )
        assert here.status.phase.final


HELPFUL = (
    Letter("the cluster works", Verdict.ADVANCE),
    Letter("resume", Verdict.ADVANCE, verb=Verb.RESUME),
    Letter("approve", Verdict.ADVANCE, verb=Verb.APPROVE),
    Letter("promote", Verdict.ADVANCE, verb=Verb.PROMOTE),
    Letter("time passes, evidence suffices", Verdict.ADVANCE, waits=True, site_healthy=10_000.0),
    Letter("evidence suffices", Verdict.ADVANCE),
)


def _round(state: State, letters: tuple[Letter, ...]) -> State:
    for letter in letters:
        state = look(state, letter).after
    return state


def _rest(state: State, letters: tuple[Letter, ...], known: dict[object, object]) -> State:
    """Repeat the round until nothing moves any more; `known` shares what was found between states."""
    trail: list[object] = []
    for _ in range(40):
        if state.key in known:
            break
        trail.append(state.key)
        after = _round(state, letters)
        if after.key == state.key:
            known[state.key] = state
            break
        state = after
    rest = known.get(state.key)
    assert isinstance(rest, State), f"still moving after 40 rounds: {state.status.phase}"
    known.update(dict.fromkeys(trail, rest))
    return rest


def test_with_faults_over_and_people_helping_every_run_ends_and_leaves_nothing(
    states: dict[object, State],
) -> None:
    known: dict[object, object] = {}
    for state in states.values():
        rest = _rest(state, HELPFUL, known)
        assert rest.status.phase.final, (state.status.phase, rest.status.phase)
        if rest.status.traffic.way_back_ppm:
            assert rest.world.back_weight == PPM
            assert rest.world.back_pods == PODS
            continue
        assert rest.status.tidied_at is not None
        assert rest.world.weight == 0
        assert (rest.world.side_pods, rest.world.back_pods, rest.world.attached) == (0, 0, False)


def test_with_faults_over_and_nobody_there_nothing_flaps(states: dict[object, State]) -> None:
    """Every run reaches a final phase or stands still with a reason; it never goes round in circles."""
    alone = (
        Letter("the cluster works", Verdict.ADVANCE),
        Letter("time passes, evidence suffices", Verdict.ADVANCE, waits=True),
        Letter("evidence suffices", Verdict.ADVANCE),
    )
    known: dict[object, object] = {}
    for state in states.values():
        rest = _rest(state, alone, known)
        waits = look(rest, alone[0]).decision.status
        assert rest.status.phase.final or waits.message, rest.status.phase


def test_a_healthy_run_is_promoted_by_evidence_and_one_approval() -> None:
    state, phases, returning = start(), [Phase.HELD], None
    letters = (*HELPFUL[:1] * 3, *HELPFUL[2:3], *HELPFUL[4:])
    for _ in range(30):
        for letter in letters:
            state = look(state, letter).after
            returning = state if state.status.phase is Phase.RETURNING else returning
            if state.status.phase is not phases[-1]:
                phases.append(state.status.phase)
    names = ["Held", "Preparing", "Progressing", "Baking", "Committing", "Returning", "Promoted"]
    assert [phase.value for phase in phases] == names
    assert returning is not None
    assert returning.world.paused
    assert returning.world.pods == returning.world.template
