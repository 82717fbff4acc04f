"""The small world in which every state of the judge is walked: what is outside of a run, and what may happen there.

One route, four pods, two steps. A *letter* is one thing that happens before a look: evidence, a person's word, a fault,
a crash between two writes; the letters that wait age everything. `machine_walk` spells with them.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from canary.api.change import ChangeRecord
from canary.api.policy import CanaryPolicySpec, Revision
from canary.api.reasons import PPM, MissingReason, Reason, Verb, Verdict
from canary.api.run import CanaryRunSpec, CanaryRunStatus
from canary.api.types import ObjectRef
from canary.core import actions as act
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
