"""Walk every state that the judge can reach in a small world, with a finite alphabet of things that can happen.

A *letter* is one thing that happens before a look: evidence, a person's word, a fault, a crash between two writes. The
world is small (one route, four pods, two steps) and time is two-valued: a moment is fresh, or older than every
deadline; the letters that wait age everything. So the reachable states are finite, and all of them are visited.

`python tests/core/machine_walk.py` writes the phases and the transitions seen into docs/design.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from canary.api.change import ChangeRecord
from canary.api.policy import CanaryPolicySpec, Revision
from canary.api.reasons import AFTER_COMMIT, PPM, TARGET_LOST, MissingReason, Phase, Reason, Verb, Verdict
from canary.api.run import CanaryRunSpec, CanaryRunStatus, TimelineEntry
from canary.api.types import ObjectRef
from canary.core import actions as act
from canary.core import invariants, machine
from canary.core.decision import Decision, Run, Situation
from canary.core.evidence import (
    Acceptance,
    Directive,
    Drift,
    Evidence,
    Finding,
    Missing,
    Route,
    Share,
    Side,
    Workload,
)

NOW = datetime(2026, 3, 5, tzinfo=UTC)
OLD = NOW - timedelta(days=10)
PODS = 4
DESIGN = Path(__file__).parents[2] / "docs" / "design.md"
BEGIN, END = "<!-- states:begin -->", "<!-- states:end -->"
OLD_HASH, NEW_HASH, OTHER_HASH = ("sha256:" + digit * 64 for digit in "abc")
POLICY = CanaryPolicySpec.model_validate(
    {
        "target": {"name": "shop"},
        "steps": [{"weight": "1%"}, {"weight": "50%", "approval": True, "maxDuration": "1h"}],
        "analysis": {"orders": {"counter": "orders"}, "requests": {"counter": "requests"}},
    }
)
SPEC = CanaryRunSpec(
    policy_ref=ObjectRef(kind="CanaryPolicy", name="shop", uid="policy"),
    policy=POLICY,
    policy_digest="sha256:" + "d" * 64,
    target=ObjectRef(kind="Deployment", name="shop", uid="target"),
    service="shop",
    revision=Revision(template_hash=NEW_HASH, version="v2"),
    baseline=Revision(template_hash=OLD_HASH, version="v1"),
    change=ChangeRecord(),
    digest="sha256:" + "e" * 64,
    steps=POLICY.resolved_steps(ChangeRecord().origin),
    baseline_pods=PODS,
)


@dataclass(frozen=True, slots=True)
class World:
    """All that is outside of the run's status."""

    template: str = NEW_HASH  # what the Deployment asks for; empty: it is gone
    uid: str = "target"
    paused: bool = True
    pods: str = OLD_HASH  # what its pods run; "mixed" in the middle of a roll, empty: there are none
    side_pods: int = 0
    side_ready: bool = False
    back_pods: int = 0
    back_ready: bool = False
    attached: bool = False
    weight: int = 0
    back_weight: int = 0
    epoch: int = 0
    policy: str = "same"


@dataclass(frozen=True, slots=True)
class State:
    status: CanaryRunStatus
    world: World

    @property
    def key(self) -> tuple[str, World]:
        return self.status.model_dump_json(), self.world


@dataclass(frozen=True, slots=True)
class Letter:
    """One thing that happens before a look. `verdict` None: no data at all."""

    name: str
    verdict: Verdict | None = Verdict.CONTINUE
    blind: float = 0.0
    share: Share | None = None
    waits: bool = False
    works: bool = True  # the cluster's own controllers make progress
    verb: Verb | None = None
    machine: bool = False
    unreadable: str = ""
    closes: str = ""
    drift: Drift | None = None
    acceptance: Acceptance = Acceptance.ACCEPTED
    site_healthy: float = 0.0
    crash: str = ""
    strikes: str = ""


LETTERS: tuple[Letter, ...] = (
    Letter("nothing yet", works=False),
    Letter("the cluster works"),
    Letter("evidence suffices", Verdict.ADVANCE),
    Letter("time passes", waits=True),
    Letter("time passes, evidence suffices", Verdict.ADVANCE, waits=True),
    Letter("evidence against it", Verdict.ROLL_BACK),
    Letter("the site falls", Verdict.DRAIN),
    Letter("the site is well", Verdict.CONTINUE, site_healthy=10_000.0),
    Letter("the site recovered at once", Verdict.CONTINUE, site_healthy=863_800.0, waits=True),
    Letter("suspicion", Verdict.HOLD),
    Letter("no data for long", Verdict.HOLD, blind=99.0),
    Letter("no data for a moment", Verdict.HOLD, blind=1.0),
    Letter("no data ever", None),
    Letter("too much traffic", Verdict.ADVANCE, share=Share.OVER),
    Letter("too little traffic", Verdict.ADVANCE, share=Share.UNDER),
    Letter("share unproven", Verdict.ADVANCE, share=Share.UNPROVEN, waits=True),
    Letter("abort", Verdict.ADVANCE, verb=Verb.ABORT),
    Letter("reject", Verdict.ADVANCE, verb=Verb.REJECT),
    Letter("hold", Verdict.ADVANCE, verb=Verb.HOLD),
    Letter("resume", Verdict.ADVANCE, verb=Verb.RESUME),
    Letter("promote", Verdict.CONTINUE, verb=Verb.PROMOTE),
    Letter("approve", Verdict.ADVANCE, verb=Verb.APPROVE),
    Letter("a machine promotes", Verdict.ADVANCE, verb=Verb.PROMOTE, machine=True),
    Letter("route unreadable", Verdict.ADVANCE, unreadable="route"),
    Letter("side unreadable", Verdict.ADVANCE, unreadable="side"),
    Letter("workload unreadable", Verdict.ADVANCE, unreadable="workload"),
    Letter("route unreadable while evidence falls", Verdict.ROLL_BACK, unreadable="route"),
    Letter("not leading", Verdict.ADVANCE, closes="lease"),
    Letter("frozen", Verdict.ADVANCE, closes="freeze"),
    Letter("noise unknown", Verdict.ADVANCE, closes="baseline"),
    Letter("autoscaler free", Verdict.ADVANCE, closes="autoscaler"),
    Letter("route pending", Verdict.ADVANCE, acceptance=Acceptance.PENDING),
    Letter("unknown route", Verdict.ADVANCE, drift=Drift.UNKNOWN_ROUTE),
    Letter("side dies", Verdict.ADVANCE, strikes="side", works=False),
    Letter("side deleted", Verdict.ADVANCE, strikes="side deleted", works=False),
    Letter("a newer template", strikes="other template"),
    Letter("the old template again", strikes="old template"),
    Letter("target deleted", strikes="gone"),
    Letter("target recreated", strikes="recreated"),
    Letter("target recreated, held at once", strikes="recreated held", works=False),
    Letter("target recreated as it was", strikes="recreated as it was"),
    Letter("a person accepts what was created anew", verb=Verb.BYPASS),
    Letter("lock opened", strikes="unpaused", works=False),
    Letter("route reset", strikes="reset"),
    Letter("weight raised by others", strikes="raised", drift=Drift.RAISED),
    Letter("policy changed", strikes="policy"),
    Letter("policy gone", strikes="detach"),
    Letter("crash before the status write", Verdict.ADVANCE, crash="before"),
    Letter("crash after the status write", Verdict.ADVANCE, crash="after"),
    Letter("crash in a rollback", Verdict.ROLL_BACK, crash="before"),
)


def strike(world: World, what: str) -> World:
    """Return the world after a fault or a foreign hand."""
    match what:
        case "side":
            return replace(world, side_ready=False)
        case "side deleted":
            return replace(world, side_pods=0, side_ready=False)
        case "other template":
            return replace(world, template=OTHER_HASH) if world.template else world
        case "old template":
            return replace(world, template=OLD_HASH) if world.template else world
        case "gone":
            return replace(world, template="", pods="")
        case "recreated":
            return replace(world, template=NEW_HASH, uid="another", pods=NEW_HASH, paused=False)
        case "recreated held":
            return replace(world, template=NEW_HASH, uid="another", pods="", paused=True)
        case "recreated as it was":
            return replace(world, template=OLD_HASH, uid="another", pods=OLD_HASH, paused=False)
        case "unpaused":
            return replace(world, paused=False)
        case "reset":
            return replace(world, attached=False, weight=0, back_weight=0)
        case "raised":
            return replace(world, weight=PPM) if world.attached and not world.back_weight else world
        case "policy":
            return replace(world, policy="changed")
        case "detach":
            return replace(world, policy="gone")
    return world


def work(world: World) -> World:
    """Return the world after the cluster's own controllers made progress."""
    world = replace(world, side_ready=world.side_pods > 0, back_ready=world.back_pods > 0)
    if world.paused or not world.template or world.pods == world.template:
        return world
    return replace(world, pods=world.template if world.pods == "mixed" else "mixed")


def evidence(world: World, status: CanaryRunStatus, letter: Letter) -> Evidence:
    """Return what one look at this world shows."""
    workload: Workload | Missing = Missing(MissingReason.ABSENT)
    if letter.unreadable == "workload":
        workload = Missing(MissingReason.UNAVAILABLE)
    elif world.template:
        mixed, whole = world.pods == "mixed", PODS if world.pods else 0
        workload = Workload(
            uid=world.uid,
            template_hash=world.template,
            paused=world.paused,
            replicas=PODS,
            stable_hash=OLD_HASH if mixed else world.pods,
            stable_ready=2 if mixed else whole,
            current_ready=PODS if world.pods == world.template else (2 if mixed else 0),
            other_pods=0 if world.pods == world.template else (2 if mixed else whole),
            settled=True,
            current_pods=PODS if world.pods == world.template else (2 if mixed else 0),
            current_set="shop-1",
        )
    side = Side(world.side_pods > 0, NEW_HASH, world.side_pods, world.side_pods if world.side_ready else 0)
    back = Side(world.back_pods > 0, OLD_HASH, world.back_pods, world.back_pods if world.back_ready else 0)
    route = Route(
        attached=world.attached,
        weight_ppm=world.weight,
        version=str(world),
        acceptance=letter.acceptance,
        drift=letter.drift,
        epoch=world.epoch,
        last_epoch=world.epoch,
        way_back_ppm=world.back_weight,
    )
    finding: Finding | Missing = Missing(MissingReason.ABSENT)
    if letter.verdict is not None:
        reason = Reason.ORDERS_COLLAPSED if letter.verdict is Verdict.ROLL_BACK else Reason.EVIDENCE_GROWING
        finding = Finding(letter.verdict, reason, letter.verdict.value, letter.blind, letter.site_healthy)
    share = letter.share or (Share.NONE_LEFT if world.weight == 0 else Share.AS_ASKED)
    directives: tuple[Directive, ...] = ()
    over = status.phase.final and world.template == NEW_HASH
    if letter.verb is not None and (letter.verb is not Verb.BYPASS or over):
        why = "because it was looked at by hand, and twice"
        directives = (Directive("u", "r", letter.verb, "dana", reason=why, machine=letter.machine),)
    return Evidence(
        workload=workload,
        side=Missing(MissingReason.UNAVAILABLE) if letter.unreadable == "side" else side,
        way_back=back,
        route=Missing(MissingReason.UNAVAILABLE) if letter.unreadable == "route" else route,
        finding=finding,
        share=share,
        directives=directives,
        policy_digest="sha256:" + "f" * 64 if world.policy == "changed" else SPEC.policy_digest,
        detaching=world.policy == "gone",
        baseline_ready=letter.closes != "baseline",
        may_shrink=letter.closes == "autoscaler",
        may_raise=letter.closes != "lease",
        closed_gates={Reason.FROZEN: "frozen"} if letter.closes == "freeze" else None,
    )


def apply(world: World, action: act.Action) -> World:
    """Return the world after one action of the hands."""
    match action:
        case act.Kill(epoch=epoch):
            return replace(world, weight=0, epoch=epoch)
        case act.PauseTarget():
            return replace(world, paused=True)
        case act.UnpauseTarget(template_hash=template):
            return replace(world, paused=False) if template == world.template else world
        case act.DetachRoute():
            return replace(world, attached=False, weight=0, back_weight=0)
        case act.ShiftToWayBack(epoch=epoch):
            return replace(world, weight=0, back_weight=PPM, attached=True, epoch=epoch)
        case act.FreezeScaler():
            return world  # the letter says what the autoscaler is
        case act.LeaveWayBack():
            return replace(world, back_weight=0)
        case act.CreateWayBack(replicas=pods):
            return replace(world, back_pods=pods)
        case act.CreateSide(replicas=pods) | act.ScaleSide(replicas=pods):
            return replace(world, side_pods=pods, side_ready=False)
        case act.DeleteSide():
            return replace(world, side_pods=0, side_ready=False, back_pods=0, back_ready=False)
        case act.AttachRoute():
            return replace(world, attached=True, weight=0)
        case act.SetWeight(weight_ppm=weight) | act.LowerWeight(weight_ppm=weight):
            return replace(world, attached=True, weight=weight)


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
