"""What must always hold, whatever the judge decided. Run after every decision, in the tests and in production.

Each invariant is a pure function over (situation before, decision) that returns a sentence when it is broken.
`enforce` then keeps the lower exposure: it drops every raising action, keeps the smaller weight, holds the run and
says so; the operator pages. A breach is a defect of ours, never of the user's.
"""

from collections.abc import Callable
from dataclasses import replace

from canary.api.reasons import PPM, Phase, Reason
from canary.core.actions import AttachRoute, Kill, SetWeight, UnpauseTarget
from canary.core.decision import Because, Decision, Situation, change, record, set_traffic
from canary.core.evidence import Missing
from canary.core.rules import quorum
from canary.core.rules.approvals import tally

Invariant = Callable[[Situation, Decision], str | None]


def weight_only_where_phase_allows(_: Situation, decision: Decision) -> str | None:
    status = decision.status
    carried = status.phase.may_expose or (status.phase is Phase.ROLLING_BACK and status.way_back.wanted > 0)
    if status.traffic.weight_ppm > 0 and not carried:
        return f"weight {status.traffic.weight_ppm} ppm is asked in {status.phase.value}"
    return None


def a_raise_needs_everything(before: Situation, decision: Decision) -> str | None:
    """I1, I2, I4, S1: evidence, lease, ready pods and a whole old version stand behind every raise of the intent."""
    asked, had = decision.status.traffic.weight_ppm, before.weight_ppm
    if asked <= had or decision.status.phase is Phase.COMMITTING:
        return None
    evidence, side, workload = before.evidence, before.side, before.workload
    if not evidence.may_raise or evidence.closed_gates:
        return "a raise without the lease, or against a closed gate"
    if isinstance(evidence.finding, Missing) or evidence.finding.blind_seconds > 0:
        return "a raise without data"
    if side is None or side.ready < before.pods_for(asked):
        return "a raise without enough ready pods"
    if workload is None or not workload.paused or workload.stable_hash != before.spec.baseline.template_hash:
        return "a raise while the old version is not whole and held"
    if evidence.may_shrink is not False:
        return "a raise while an autoscaler may scale the old version down"
    return None


def a_raise_is_approved(before: Situation, decision: Decision) -> str | None:
    """S1: above the cap of the safety policies there are enough approvals of this digest, counted in this look."""
    asked, after = decision.status.traffic.weight_ppm, before.with_status(decision.status)
    if asked <= before.weight_ppm or asked <= quorum.cap_ppm(after):
        return None
    given = quorum.usable(after)
    if tally(given, quorum.asked(after)).suffices and all(
        each.digest == before.spec.digest for each in given
    ):
        return None
    return f"{asked} ppm without the approvals that it needs"


def a_raise_is_one_step(before: Situation, decision: Decision) -> str | None:
    """S2: never more than the next step of the plan."""
    asked, status = decision.status.traffic.weight_ppm, decision.status
    if asked <= before.weight_ppm or status.phase is not Phase.PROGRESSING:
        return None
    step = before.next_step
    if step is None or asked != step.weight or status.step != before.status.step + 1:
        return f"{asked} ppm is not the next step"
    return None


def a_fall_kills(before: Situation, decision: Decision) -> str | None:
    """A weight that falls to 0 by decision falls on the route in the same look, before the status is written."""
    fell = before.weight_ppm > 0 and decision.status.traffic.weight_ppm == 0
    if not fell or decision.status.phase is Phase.RETURNING or decision.status.traffic.way_back_ppm > 0:
        return None
    killed = any(isinstance(action, Kill) for action in decision.actions)
    gone = before.route is not None and not before.route.exists
    return None if killed or gone else "the weight fell without a rollback write"


def no_raise_beside_a_kill(_: Situation, decision: Decision) -> str | None:
    kinds = [type(action) for action in decision.actions]
    if Kill in kinds and {SetWeight, AttachRoute, UnpauseTarget} & set(kinds):
        return "a rollback write and a raise in one look"
    return None


def the_lock_opens_only_for_a_tested_template(before: Situation, decision: Decision) -> str | None:
    """I3: no user traffic on the Deployment's pods, and the very template that was tested (or was the last good)."""
    for action in decision.actions:
        if not isinstance(action, UnpauseTarget):
            continue
        workload, route = before.workload, before.route
        if workload is None or workload.template_hash != action.template_hash:
            return "un-pause of another template than the one that was read"
        apart = route is not None and PPM in (route.weight_ppm, route.way_back_ppm)
        if not apart and not before.in_pods:
            return "un-pause while users are served by the Deployment's own pods"
    return None


def an_end_is_an_end(before: Situation, decision: Decision) -> str | None:
    if before.phase.final and decision.status.phase is not before.phase:
        return f"{before.phase.value} is final, but {decision.status.phase.value} followed"
    return None


def the_epoch_only_grows(before: Situation, decision: Decision) -> str | None:
    if decision.status.traffic.epoch < before.status.traffic.epoch:
        return "the rollback epoch fell"
    return None


def the_ceiling_covers_the_weight(_: Situation, decision: Decision) -> str | None:
    if decision.status.allowed_weight_ppm < decision.status.traffic.weight_ppm:
        return "the ceiling is below the weight"
    return None


INVARIANTS: tuple[Invariant, ...] = (
    weight_only_where_phase_allows,
    a_raise_needs_everything,
    a_raise_is_approved,
    a_raise_is_one_step,
    a_fall_kills,
    no_raise_beside_a_kill,
    the_lock_opens_only_for_a_tested_template,
    an_end_is_an_end,
    the_epoch_only_grows,
    the_ceiling_covers_the_weight,
)


def broken(before: Situation, decision: Decision) -> list[str]:
    """Return a sentence for each invariant that the decision breaks; none is the rule."""
    return [said for invariant in INVARIANTS if (said := invariant(before, decision)) is not None]


def enforce(before: Situation, decision: Decision) -> Decision:
    """Return the decision, or, where it breaks an invariant, one that keeps the lower exposure and holds."""
    said = broken(before, decision)
    return decision if not said else _safe(before, "; ".join(said))


def _safe(before: Situation, said: str) -> Decision:
    """Keep the status as it was at weight 0, held, with one rollback write: the safest thing there is."""
    traffic = before.status.traffic
    text = f"an invariant of the controller was broken ({said}); the run is held without traffic"
    status = set_traffic(
        before.status, weight_ppm=0, epoch=before.next_epoch, written_at=before.now, verified_at=None
    )
    if before.phase in (Phase.COMMITTING, Phase.RETURNING) or before.phase.final or traffic.way_back_ppm > 0:
        return Decision(change(before.status, reason=Reason.INVARIANT_BROKEN.value, message=text[:1024]))
    status = change(status, held_by="an invariant", step=-1, step_started_at=None, allowed_weight_ppm=0)
    status = change(status, reason=Reason.INVARIANT_BROKEN.value, message=text[:1024])
    status = record(before.now, status, Because(Reason.INVARIANT_BROKEN, text))
    return replace(Decision(status), actions=(Kill(before.next_epoch, text),))
