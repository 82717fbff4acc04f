"""Walk every state that the judge can reach in a small world, with a finite alphabet of things that can happen.

Time is two-valued: a moment is fresh, or older than every deadline. So the states that the letters of `machine_world`
lead to are finite, and all of them are visited.

`python tests/core/machine_walk.py` writes the phases and the transitions seen into docs/design.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from machine_world import (
    LETTERS,
    NEW_HASH,
    NOW,
    OLD,
    OLD_HASH,
    PODS,
    SPEC,
    Letter,
    State,
    World,
    apply,
    evidence,
    strike,
    work,
)

from canary.api.reasons import AFTER_COMMIT, TARGET_LOST, Phase, Reason, Verb
from canary.api.run import CanaryRunStatus, TimelineEntry
from canary.core import actions as act
from canary.core import invariants, machine
from canary.core.decision import Decision, Run, Situation

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"
BEGIN, END = "<!-- states:begin -->", "<!-- states:end -->"


def canonical(state: State, waits: bool) -> State:
    """Forget what cannot matter: texts, exact ages, exact epochs."""
    status, world = state.status, state.world

    def moment(value: datetime | None) -> datetime | None:
        return value if value is None else (OLD if waits or value < NOW else NOW)

    traffic = status.traffic
    epochs = (0, 0) if traffic.epoch == 0 else _epochs(traffic.epoch, world.epoch)
    traffic = traffic.model_copy(
        update={
            "epoch": epochs[0],
            "written_at": moment(traffic.written_at),
            "verified_at": moment(traffic.verified_at),
            "zero_verified_at": moment(traffic.zero_verified_at),
            "detached_at": moment(traffic.detached_at),
            "observed_at": None,
            "observed_ppm": 0,
        }
    )
    lost = status.timeline[-1].reason if status.phase is Phase.ROLLING_BACK else status.reason
    lost = Reason.WORKLOAD_RECREATED.value if lost in TARGET_LOST else None
    cause = [TimelineEntry(at=OLD, phase=Phase.ROLLING_BACK, reason=lost or Reason.ABORTED.value, message="")]
    rolling = status.phase is Phase.ROLLING_BACK
    approvals = [a.model_copy(update={"at": OLD, "verb": Verb.APPROVE}) for a in status.approvals[-1:]]
    timed = status.phase in (Phase.PREPARING, Phase.BAKING, Phase.COMMITTING, Phase.DRAINING)
    pause = status.pause and status.pause.model_copy(
        update={"since": OLD, "message": "paused", "reason": "", "by": ""}
    )
    status = status.model_copy(
        update={
            "message": "",
            "reason": lost if status.phase.final and traffic.way_back_ppm else None,
            "actor": "",
            "bypass": None,
            "timeline": cause if rolling else [],
            "handled": [],
            "approvals": approvals if not status.phase.final else [],
            "pause": pause if status.phase is Phase.PAUSED else None,
            "phase_started_at": moment(status.phase_started_at) if timed else OLD,
            "step_started_at": moment(status.step_started_at),
            "exposed_at": moment(status.exposed_at) and OLD,
            "decided_at": moment(status.decided_at) if rolling else None,
            "finished_at": None if status.finished_at is None else OLD,
            "tidied_at": None if status.tidied_at is None else OLD,
            "traffic": traffic,
            "side": status.side.model_copy(update={"ready": 0}),
            "way_back": status.way_back.model_copy(update={"ready": 0}),
        }
    )
    return _settled(State(status, replace(world, epoch=epochs[1])))


def _epochs(asked: int, stored: int) -> tuple[int, int]:
    """Return the least pair in the same order; the stored one is ahead where a rollback's status write was lost."""
    if asked == stored:
        return 1, 1
    return (2, 1) if asked > stored else (1, 2)


def _settled(state: State) -> State:
    """Forget what a finished run cannot use any more; what the Deployment asks matters only on the way back."""
    status, world = state.status, state.world
    if status.phase in AFTER_COMMIT:
        status = status.model_copy(update={"approvals": [], "held_by": "", "allowed_weight_ppm": 0})
        return State(status, replace(world, policy="same"))
    if status.phase is not Phase.ROLLING_BACK and not status.phase.final:
        return state
    world = replace(world, policy="same", uid="target")
    status = status.model_copy(
        update={
            "approvals": [],
            "held_by": "",
            "promote_to_ppm": None,
            "exposed_at": None,
            "step_started_at": None,
            "step": -1,
            "stable_replicas": PODS,
            "allowed_weight_ppm": 0,
        }
    )
    traffic, side = status.traffic.model_copy(update={"brake_tested": False}), status.side
    if status.way_back.wanted == 0 and status.traffic.weight_ppm == 0:
        blank = {"written_at": None, "verified_at": None}
        traffic, side = traffic.model_copy(update=blank), side.model_copy(update={"wanted": 0})
        world = replace(world, template=NEW_HASH, uid="target", pods=OLD_HASH, paused=True, policy="same")
    if status.way_back.wanted > 0:  # nobody judges the side any more
        asked = PODS if status.traffic.weight_ppm else 0
        traffic, side = (
            traffic.model_copy(update={"attached": world.attached}),
            side.model_copy(update={"wanted": asked}),
        )
        world = replace(world, side_ready=world.side_pods > 0)
        status = status.model_copy(update={"decided_at": None})
    if status.way_back.wanted > 0 and traffic.way_back_ppm == 0:  # what comes next writes the route anew
        blank = {"written_at": None, "verified_at": None, "zero_verified_at": None}
        traffic = traffic.model_copy(update=blank)
    status = status.model_copy(update={"traffic": traffic, "side": side, "phase_started_at": None})
    if status.phase.final:
        blank = {
            "written_at": None,
            "verified_at": None,
            "zero_verified_at": None,
            "attached": world.attached,
        }
        status = status.model_copy(
            update={"traffic": traffic.model_copy(update=blank), "outcome_phase": None}
        )
        world = replace(world, side_ready=world.side_pods > 0)
    return State(status, world)


@dataclass(frozen=True, slots=True)
class Move:
    """One look: from where, by what, what was decided, where it led."""

    before: State
    letter: Letter
    situation: Situation
    decision: Decision
    after_lowering: World
    after: State


def start() -> State:
    return canonical(State(CanaryRunStatus(started_at=OLD, phase_started_at=OLD), World()), waits=False)


def look(state: State, letter: Letter) -> Move:
    """From a canonical state: let the letter happen, look once, do what was decided (as far as a crash lets us)."""
    state = canonical(state, waits=True) if letter.waits else state
    world = strike(work(state.world) if letter.works else state.world, letter.strikes)
    run = Run("ns", "run", "uid", 1, SPEC, state.status)
    situation = Situation(run, evidence(world, state.status, letter), NOW)
    decision = invariants.enforce(situation, machine.decide(situation))
    lowered = world
    for action in decision.actions:
        if isinstance(action, act.Lowering):
            lowered = apply(lowered, action)
    raised, status = lowered, decision.status
    if letter.crash == "before":
        status = state.status
    elif letter.crash != "after" and letter.closes != "lease":
        for action in decision.actions:
            if isinstance(action, act.Raising):
                raised = apply(raised, action)
    return Move(state, letter, situation, decision, lowered, canonical(State(status, raised), waits=False))


def walk() -> Iterator[Move]:
    """Yield every move from every reachable state, breadth first."""
    seen = {start().key}
    frontier = [start()]
    while frontier:
        reached: list[State] = []
        for state in frontier:
            for letter in LETTERS:
                move = look(state, letter)
                yield move
                if move.after.key not in seen:
                    seen.add(move.after.key)
                    reached.append(move.after)
        frontier = reached


def diagram(moves: Iterable[Move]) -> str:
    """Return the phases and transitions that a walk saw, as a Mermaid state diagram."""
    order = list(Phase)
    seen = {(move.before.status.phase, move.decision.status.phase) for move in moves}
    edges = sorted((order.index(before), order.index(after)) for before, after in seen if before is not after)
    lines = ["stateDiagram-v2", "    [*] --> Held"]
    lines += [f"    {order[before].value} --> {order[after].value}" for before, after in edges]
    lines += [f"    {phase.value} --> [*]" for phase in order if phase.final]
    return "\n".join(lines)


def written(page: str, drawn: str) -> str:
    """Return the page with the diagram between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```mermaid\n{drawn}\n```\n{END}{after}"


if __name__ == "__main__":
    DESIGN.write_text(written(DESIGN.read_text(encoding="utf-8"), diagram(walk())), encoding="utf-8")
