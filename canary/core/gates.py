"""Gates: facts that must hold before exposure may rise, in the order in which they are told to people.

A gate is a pure function `Situation -> Closed | None`, named by what must be true. All of them are asked before a
raise; the first that is closed is the sentence that people read. Nothing that lowers exposure ever asks a gate.
"""

from canary.api.reasons import Phase, Reason, Verb, Verdict
from canary.core.decision import Closed, Gate, Situation
from canary.core.evidence import Acceptance, Drift, Missing, Share, Workload
from canary.core.rules import limits, quorum
from canary.core.telling.wording import share


def controller_leads(situation: Situation) -> Closed | None:
    if situation.evidence.may_raise:
        return None
    return Closed(Reason.NOT_LEADING, "this controller does not hold the lease with time to spare")


def outside_allows(situation: Situation) -> Closed | None:
    """Freezes, limits, the guard's fingerprint, the CRDs' digest: what is not of this run."""
    for reason, message in (situation.evidence.closed_gates or {}).items():
        return Closed(reason, message)
    return None


def nobody_holds(situation: Situation) -> Closed | None:
    holder = situation.status.held_by
    return Closed(Reason.HOLD_STARTED, f"held by {holder}; `canary resume` lets it go on") if holder else None


def workload_is_whole(situation: Situation) -> Closed | None:
    """The old version serves with all its pods, the lock is on, and nothing of it has shrunk since the start."""
    workload = situation.workload
    if workload is None:
        return Closed(Reason.WORKLOAD_NOT_READY, "the Deployment could not be read")
    if not workload.settled:
        return Closed(
            Reason.WORKLOAD_NOT_READY, "the Deployment's controller has not seen its newest edit yet"
        )
    if not workload.paused:
        return Closed(Reason.UNPAUSED_BY_OTHERS, "the Deployment is not paused; it is being held again")
    if text := leaked(workload):
        return Closed(Reason.UNPAUSED_BY_OTHERS, text)
    if workload.stable_hash != situation.spec.baseline.template_hash:
        return Closed(Reason.STABLE_SHRANK, "the serving version is not the one this run started from")
    wanted = max(1, situation.status.stable_replicas, workload.replicas)
    if workload.stable_ready < wanted:
        text = f"{workload.stable_ready} of {wanted} pods of the serving version are ready"
        return Closed(Reason.STABLE_SHRANK, text)
    return None


def leaked(workload: Workload) -> str:
    """Say which pods of a held template serve beside the old ones; empty: none."""
    if workload.current_pods == 0 or workload.template_hash == workload.stable_hash:
        return ""
    text = f"{workload.current_pods} of the Deployment's own pods run the new version and serve customers, outside of"
    return f"{text} any slice: `kubectl scale replicaset {workload.current_set} --replicas=0` takes them away"


def old_version_cannot_shrink(situation: Situation) -> Closed | None:
    may_shrink = situation.evidence.may_shrink
    if isinstance(may_shrink, Missing):
        return Closed(Reason.STABLE_SHRANK, f"its autoscalers cannot be read: {may_shrink.detail}")
    return Closed(Reason.STABLE_SHRANK, "freezing the scale-down of its autoscaler") if may_shrink else None


def route_is_accepted(situation: Situation) -> Closed | None:
    route = situation.route
    if route is None:
        return Closed(Reason.ROUTE_NOT_ACCEPTED, "the route could not be read")
    if route.drift is Drift.UNKNOWN_ROUTE:
        return Closed(Reason.ROUTE_NOT_ACCEPTED, f"another route leads to the Service: {route.detail}")
    if route.acceptance is Acceptance.ACCEPTED:
        return None
    return Closed(Reason.ROUTE_NOT_ACCEPTED, route.detail or "the gateway has not accepted the route yet")


def side_is_ready_for_next(situation: Situation) -> Closed | None:
    """I1: enough ready pods for the weight that comes next."""
    side, step = situation.side, situation.next_step
    if step is None:
        return None
    wanted = situation.pods_for(step.weight)
    ready = side.ready if side else 0
    if ready >= wanted:
        return None
    return Closed(Reason.SIDE_NOT_READY, f"{ready} of {wanted} pods for {share(step.weight)} are ready")


def baseline_is_known(situation: Situation) -> Closed | None:
    if situation.evidence.baseline_ready:
        return None
    return Closed(Reason.NO_DATA_YET, "watching the serving version's pods to know their noise")


def data_flows(situation: Situation) -> Closed | None:
    finding = situation.evidence.finding
    if isinstance(finding, Missing):
        return Closed(Reason.NO_DATA_YET, f"no data yet: {finding.detail or finding.reason.value}")
    if finding.blind_seconds > 0:
        return Closed(Reason.BLIND, finding.message or f"no usable data for {finding.blind_seconds:.0f} s")
    return None


def traffic_obeys(situation: Situation) -> Closed | None:
    if situation.evidence.share is Share.UNDER:
        text = "the new version gets less traffic than its weight; `canary resume` accepts the shortfall"
        return Closed(Reason.SHARE_BELOW_WEIGHT, text)
    return None


def evidence_suffices(situation: Situation) -> Closed | None:
    """The step under way was passed by evidence, not by minutes; before the first slice there is none to ask for."""
    finding, status = situation.evidence.finding, situation.status
    if status.step < 0:
        return None
    if status.step_started_at is None:
        return Closed(Reason.ROUTE_NOT_ACCEPTED, "the weight is written; waiting to see it obeyed")
    if isinstance(finding, Missing):
        return Closed(Reason.NO_DATA_YET, finding.detail)
    if finding.verdict is Verdict.CONTINUE and quorum.bypassed(situation):
        return None  # nothing speaks against it, and a person answers for not waiting
    if finding.verdict is not Verdict.ADVANCE:
        return Closed(finding.reason, finding.message)
    needed = situation.spec.steps[status.step].min_orders
    if situation.evidence.orders_in_step < needed:
        seen = situation.evidence.orders_in_step
        return Closed(Reason.EVIDENCE_GROWING, f"{seen:.0f} of at least {needed} orders seen in this step")
    return None


def last_step_is_passed(situation: Situation) -> Closed | None:
    """Where the commit is itself a raise, for its roll has customers, the last step is passed by evidence, too."""
    return evidence_suffices(situation) if situation.in_pods else None


def next_step_is_approved(situation: Situation) -> Closed | None:
    step, index = situation.next_step, situation.status.step + 1
    if step is None or not step.approval or quorum.bypassed(situation):
        return None
    given = [a for a in situation.status.approvals if a.step == index and a.counts and a.verb != Verb.REJECT]
    if given:
        return None
    text = f"{share(step.weight)} waits for a person: `canary approve` or `canary promote`"
    return Closed(Reason.APPROVALS_MISSING, text)


def below_the_cap(situation: Situation) -> Closed | None:
    step, cap = situation.next_step, situation.status.promote_to_ppm
    if step is None or cap is None or step.weight <= cap:
        return None
    return Closed(Reason.HOLD_STARTED, f"promoted to {share(cap)} and no further; `canary promote` goes on")


# What the safety policies ask: first what nobody can help now, then what people can give.
_SAFETY: tuple[Gate, ...] = tuple(
    map(
        quorum.unless_bypassed,
        (
            limits.safety_is_readable,
            limits.no_freeze_is_on,
            limits.brake_is_off,
            limits.budget_is_left,
            quorum.cooled_down,
            quorum.approvals_suffice,
            quorum.findings_are_accepted,
        ),
    )
)
START_GATES: tuple[Gate, ...] = (
    outside_allows,
    nobody_holds,
    quorum.unless_bypassed(limits.origin_is_allowed),
    *_SAFETY,
    quorum.unless_bypassed(limits.a_place_is_free),
    workload_is_whole,
    controller_leads,
)
RAISE_GATES: tuple[Gate, ...] = (
    outside_allows,
    workload_is_whole,
    old_version_cannot_shrink,
    route_is_accepted,
    data_flows,
    baseline_is_known,
    traffic_obeys,
    evidence_suffices,
    below_the_cap,
    *_SAFETY,
    next_step_is_approved,
    nobody_holds,
    side_is_ready_for_next,
    controller_leads,
)
COMMIT_GATES: tuple[Gate, ...] = (
    outside_allows,
    nobody_holds,
    *_SAFETY,
    workload_is_whole,
    route_is_accepted,
    last_step_is_passed,
    controller_leads,
)


def first_closed(gates: tuple[Gate, ...], situation: Situation) -> Closed | None:
    """Return the first gate that is closed, or None when all are open."""
    return next((closed for gate in gates if (closed := gate(situation)) is not None), None)


def gates_of(phase: Phase) -> tuple[Gate, ...]:
    """Return the gates that stand before the next raise in this phase."""
    if phase is Phase.HELD:
        return START_GATES
    return COMMIT_GATES if phase is Phase.BAKING else RAISE_GATES
