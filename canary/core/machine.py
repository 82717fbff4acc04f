"""The judge: `decide(situation) -> Decision`, pure, at most one transition a look.

Guards first: what ends or lowers a run. Then what people ask. Then the table Phase -> function: each asks its gates
and either moves on or says what it waits for. The actions are not chosen here: `intent.plan` derives them as the
difference between the new status and what was observed, so a crash between any two writes needs no code.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from canary.api.reasons import AFTER_COMMIT, PPM, MissingReason, Phase, Reason
from canary.api.run import CanaryRunStatus, SideStatus
from canary.core import gates, intent
from canary.core.decision import Answer, Because, Decision, Situation, change, enter, set_traffic, stay
from canary.core.directives import hear
from canary.core.endings import answers_at_the_end, at_zero, end, pause_run
from canary.core.evidence import Acceptance, Missing, Share
from canary.core.guards import BEFORE_COMMIT, first_ending
from canary.core.rules import quorum
from canary.core.telling.wording import share

QUICK_SECONDS, CALM_SECONDS, TIDY_SECONDS = 0.25, 1.0, 1.0
HALF_PPM = PPM // 2
MAX_IMAGES = 16
# What a preparation waits for, briefly.
_SOON_OVER = frozenset({Reason.SIDE_NOT_READY, Reason.ROUTE_NOT_ACCEPTED})


def decide(situation: Situation) -> Decision:
    """Return what follows from this look. Pure: the same situation gives the same decision."""
    observed = situation.with_status(_with_observations(situation))
    if observed.phase in BEFORE_COMMIT:
        observed = observed.with_status(quorum.recounted(observed))
    ending = first_ending(observed)
    if ending is not None:
        return _finish(observed, end(observed, ending), answers_at_the_end(observed, ending))
    heard = hear(observed)
    moved = observed.with_status(heard.status)
    if moved.phase is not observed.phase:  # somebody said resume: that was this look's transition
        return _finish(moved, heard.status, heard.answers)
    return _finish(moved, _TABLE[moved.phase](moved), heard.answers)


def _finish(situation: Situation, status: CanaryRunStatus, answers: tuple[Answer, ...]) -> Decision:
    status = change(
        status,
        observed_generation=situation.run.generation,
        allowed_weight_ppm=status.traffic.weight_ppm,
    )
    actions = intent.plan(situation.with_status(status))
    return Decision(status, actions, answers, _wake_seconds(status, bool(actions)))


def _wake_seconds(status: CanaryRunStatus, acting: bool) -> float:
    if acting or status.phase in (Phase.ROLLING_BACK, Phase.COMMITTING, Phase.RETURNING):
        return QUICK_SECONDS
    if status.phase is Phase.PREPARING and status.reason in _SOON_OVER:
        return QUICK_SECONDS
    return TIDY_SECONDS if status.phase.final else CALM_SECONDS


def _with_observations(situation: Situation) -> CanaryRunStatus:
    """Copy what was seen of route and side into the status, beside what was asked."""
    status, route, side = _by_this_clock(situation), situation.route, situation.side
    if route is not None:
        status = set_traffic(
            status,
            observed_ppm=route.weight_ppm,
            observed_at=situation.now,
            attached=route.attached or route.partial,
            brake_tested=route.attached and route.epoch >= status.traffic.epoch > 0,
            coordinates=[] if status.phase in AFTER_COMMIT else list(route.coordinates),
        )
    if side is not None:
        status = change(status, side=status.side.model_copy(update={"ready": side.ready}))
    if situation.way_back is not None:
        ready = situation.way_back.ready
        status = change(status, way_back=status.way_back.model_copy(update={"ready": ready}))
    return status


def _by_this_clock(situation: Situation) -> CanaryRunStatus:
    """Bring moments to come to now: a clock that was put back left them, and would be waited for.

    The run's start stays: what was counted is timed from it.
    """
    status = situation.status

    def to_come(fields: Iterable[tuple[str, object]]) -> dict[str, datetime]:
        late = (name for name, value in fields if isinstance(value, datetime) and value > situation.now)
        return {name: situation.now for name in late if name != "started_at"}

    return change(set_traffic(status, **to_come(status.traffic)), **to_come(status))


# -- the table -----------------------------------------------------------------------------------------------------


def _held(situation: Situation) -> CanaryRunStatus:
    closed = gates.first_closed(gates.START_GATES, situation)
    if closed is not None:
        return stay(situation, closed.reason, closed.message)
    workload = situation.workload
    assert workload is not None  # a start gate said so
    side = SideStatus(
        name=f"{situation.spec.target.name}-canary", wanted=situation.pods_for(_first_weight(situation))
    )
    text = f"preparing {side.wanted} pods of the new version beside {workload.replicas}"
    moved = situation.with_status(set_traffic(situation.status, epoch=situation.next_epoch))
    because = Because(Reason.RUN_STARTED, text)
    return enter(moved, Phase.PREPARING, because, side=side, stable_replicas=workload.replicas)


def _first_weight(situation: Situation) -> int:
    return situation.spec.steps[0].weight


def _preparing(situation: Situation) -> CanaryRunStatus:
    """Side ready, route naming it at weight 0 and accepted, brake tested, noise known: then the first slice."""
    status, side, route = situation.status, situation.side, situation.route
    if side is None or not side.exists or side.ready < status.side.wanted:
        ready = side.ready if side else 0
        return stay(
            situation,
            Reason.SIDE_NOT_READY,
            f"{ready} of {status.side.wanted} pods of the new version are ready",
        )
    if route is None or not route.attached or not status.traffic.brake_tested:
        return stay(situation, Reason.ROUTE_NOT_ACCEPTED, "naming the new version in the route, at weight 0")
    closed = gates.first_closed(gates.RAISE_GATES, situation)
    if closed is not None:
        return stay(situation, closed.reason, closed.message)
    tested = situation.tested_bytes
    if len({each.partition("=")[0] for each in tested}) < len(tested):
        text = (
            f"the pods run different bytes under one tag ({', '.join(tested)}): name images by their digest"
        )
        return stay(situation, Reason.IMAGE_CHANGED, text)
    because = Because(
        Reason.BASELINE_READY, "route accepted at weight 0, brake tested, the serving version's noise known"
    )
    side = status.side.model_copy(update={"bytes_of_tags": tested[:MAX_IMAGES]})
    return enter(situation, Phase.PROGRESSING, because, side=side)


def _progressing(situation: Situation) -> CanaryRunStatus:
    """One slice after the other: written, seen to be obeyed, passed by evidence."""
    situation = situation.with_status(_with_verified_weight(situation))
    status = situation.status
    if situation.next_step is None:
        return _to_baking(situation)
    situation = situation.with_status(_with_side_for_next(situation))
    closed = gates.first_closed(gates.RAISE_GATES, situation)
    if closed is not None:
        return stay(situation, closed.reason, closed.message)
    step = situation.next_step
    assert step is not None
    index, count = status.step + 1, len(situation.spec.steps)
    text = f"step {index + 1} of {count}: {share(step.weight)} of the traffic goes to the new version"
    written = {"weight_ppm": step.weight, "written_at": situation.now}
    raised = set_traffic(status, **written, verified_at=None, zero_verified_at=None)
    because = Because(Reason.STEP_STARTED, text)
    exposed_at = status.exposed_at or situation.now
    moved = situation.with_status(change(raised, step=index, step_started_at=None, exposed_at=exposed_at))
    return enter(moved, Phase.PROGRESSING, because)


def _with_verified_weight(situation: Situation) -> CanaryRunStatus:
    """Evidence counts from the moment at which the written weight was accepted and has had time to spread."""
    status, route = situation.status, situation.route
    traffic = status.traffic
    if traffic.weight_ppm == 0 or traffic.verified_at is not None or route is None:
        return status
    obeyed = route.gives(traffic.weight_ppm) and route.acceptance is Acceptance.ACCEPTED
    if not obeyed or situation.since(traffic.written_at) < situation.run.limits.propagation_seconds:
        return status
    return change(set_traffic(status, verified_at=situation.now), step_started_at=situation.now)


def _with_side_for_next(situation: Situation) -> CanaryRunStatus:
    """Scale the side first: ask for the pods of the next step as soon as the evidence for it is there."""
    status, step = situation.status, situation.next_step
    if step is None or gates.evidence_suffices(situation) is not None:
        return status
    wanted = max(status.side.wanted, situation.pods_for(step.weight))
    return change(status, side=status.side.model_copy(update={"wanted": wanted}))


def _to_baking(situation: Situation) -> CanaryRunStatus:
    if situation.status.step_started_at is None:
        return stay(situation, Reason.ROUTE_NOT_ACCEPTED, "all weight is written; waiting to see it obeyed")
    seconds = situation.spec.policy.bake.duration.total_seconds()
    text = f"{share(situation.weight_ppm)} on the new version; the old one stays whole for {seconds:.0f} s"
    return enter(situation, Phase.BAKING, Because(Reason.BAKE_STARTED, text))


def _baking(situation: Situation) -> CanaryRunStatus:
    bound = situation.spec.policy.bake.duration.total_seconds()
    left = bound - situation.since(situation.status.phase_started_at)
    if left > 0:
        return stay(
            situation, Reason.BAKE_STARTED, f"baking for {left:.0f} s more; one write takes everything back"
        )
    closed = gates.first_closed(gates.COMMIT_GATES, situation)
    if closed is not None:
        return stay(situation, closed.reason, closed.message)
    workload = situation.workload
    assert workload is not None  # a commit gate said so
    side = situation.status.side.model_copy(
        update={"wanted": max(situation.status.side.wanted, workload.replicas)}
    )
    text = "the tested template rolls out natively, with no user traffic on it; from here the old pods leave"
    if situation.in_pods:
        text = (
            "the tested template rolls out natively, with customers on the roll; from here the old pods leave"
        )
    most = situation.weight_ppm if situation.in_pods else PPM
    traffic = {"weight_ppm": most, "written_at": situation.now, "verified_at": None, "coordinates": []}
    status = change(set_traffic(situation.status, **traffic), side=side)
    return enter(situation.with_status(status), Phase.COMMITTING, Because(Reason.COMMIT_STARTED, text))


def _committing(situation: Situation) -> CanaryRunStatus:
    """Wait until every pod of the Deployment runs the tested template and the lock is on again."""
    workload, limits = situation.workload, situation.run.limits
    if workload is None:
        return stay(situation, Reason.WORKLOAD_NOT_READY, "the Deployment could not be read")
    if not situation.runs_whole(situation.spec.revision.template_hash) or not workload.paused:
        ready, old = workload.current_ready, workload.other_pods
        text = f"{ready} of {workload.replicas} pods run the tested template, {old} do not"
        late = situation.since(situation.status.phase_started_at) > limits.commit_seconds
        return stay(situation, Reason.COMMIT_STALLED if late else Reason.COMMIT_STARTED, text)
    text = "half of the traffic returns to the Deployment's own pods: one version on both sides"
    if situation.in_pods:
        text = "the Deployment's own pods run the new version; the side's leave the Service"
    weight = 0 if situation.in_pods else HALF_PPM
    moved = set_traffic(situation.status, weight_ppm=weight, written_at=situation.now, verified_at=None)
    return enter(situation.with_status(moved), Phase.RETURNING, Because(Reason.RETURN_STARTED, text))


def _returning(situation: Situation) -> CanaryRunStatus:
    """100 -> 50 -> 0 %: both sides run one version, so this chooses between equals."""
    route, traffic = situation.route, situation.status.traffic
    if route is None or not route.gives(traffic.weight_ppm) or route.acceptance is not Acceptance.ACCEPTED:
        return stay(situation, Reason.RETURN_STARTED, f"waiting to see {share(traffic.weight_ppm)} obeyed")
    if situation.since(traffic.written_at) < situation.run.limits.return_step_seconds:
        return stay(situation, Reason.RETURN_STARTED, f"{share(traffic.weight_ppm)} still on the side's pods")
    if traffic.weight_ppm == 0:
        text = f"{situation.spec.revision.version or 'the new version'} serves 100 % from the Deployment's own pods"
        return enter(situation, Phase.PROMOTED, Because(Reason.PROMOTED, text))
    moved = set_traffic(situation.status, weight_ppm=0, written_at=situation.now, verified_at=None)
    return enter(
        situation.with_status(moved), Phase.RETURNING, Because(Reason.RETURN_STARTED, "all traffic returns")
    )


def _paused(situation: Situation) -> CanaryRunStatus:
    pause = situation.status.pause
    text = pause.message if pause else "paused"
    more = gates.leaked(situation.workload) if situation.workload is not None else ""
    text = text if more in text else f"{text} {more}"[:1024]
    return change(_with_verified_zero(situation), reason=pause.reason if pause else None, message=text)


def _draining(situation: Situation) -> CanaryRunStatus:
    """The cause of a site-wide fall is open: stay at 0. A site that recovers late says nothing about the side."""
    finding, limits = situation.evidence.finding, situation.run.limits
    situation = situation.with_status(_with_verified_zero(situation))
    healthy = 0.0 if isinstance(finding, Missing) else finding.site_healthy_seconds
    if healthy < limits.site_healthy_seconds:
        return stay(
            situation,
            Reason.SITE_FELL,
            "the whole site fell; the new version has no traffic until it is well",
        )
    text = (
        "the site is well again, and the new version was probably not the cause; `canary resume` starts over"
    )
    return pause_run(situation, Because(Reason.SITE_FELL, text))


def _with_verified_zero(situation: Situation) -> CanaryRunStatus:
    status = situation.status
    if status.traffic.zero_verified_at is not None or not zero_is_verified(situation):
        return status
    return set_traffic(status, zero_verified_at=situation.now)


def zero_is_verified(situation: Situation) -> bool:
    """Tell whether the stored route is at 0 and requests were seen to reach stable only.

    A side without a ready pod cannot serve, and a route that does not name it cannot lead to it: both are proof.
    Where no stable pod is left to compare with, an accepted route has to do.
    """
    route = situation.route
    if route is None or route.weight_ppm > 0 or route.way_back_ppm != situation.status.traffic.way_back_ppm:
        return False
    if situation.status.traffic.way_back_ppm > 0 or _target_is_absent(situation):
        spread = (
            situation.since(situation.status.traffic.written_at) >= situation.run.limits.propagation_seconds
        )
        return spread and route.acceptance is Acceptance.ACCEPTED
    unreachable = situation.side is not None and situation.side.ready == 0
    return unreachable or situation.evidence.share is Share.NONE_LEFT


def _target_is_absent(situation: Situation) -> bool:
    workload = situation.evidence.workload
    return isinstance(workload, Missing) and workload.reason is MissingReason.ABSENT


def _rolling_back(situation: Situation) -> CanaryRunStatus:
    """Wait until the rollback is seen in the traffic; only then is it told as done."""
    if situation.status.way_back.wanted > 0 and situation.status.traffic.way_back_ppm == 0:
        return _shift_to_way_back(situation)
    status = _with_verified_zero(situation)
    if status.traffic.zero_verified_at is None:
        late = situation.since(status.decided_at) > situation.run.limits.verify_seconds
        text = (
            "the rollback is written, but not yet seen in the traffic" if late else "taking all traffic back"
        )
        return stay(situation, Reason.ROLLBACK_UNVERIFIED if late else Reason.ROLLBACK_STARTED, text)
    outcome = status.outcome_phase or Phase.ROLLED_BACK
    cause = status.timeline[-1] if status.timeline else None
    message = cause.message if cause else "all traffic is back"
    reason = Reason(cause.reason) if cause else Reason.ROLLED_BACK
    because = Because(reason, message, cause.by if cause else "")
    return enter(situation.with_status(status), outcome, because)


def _shift_to_way_back(situation: Situation) -> CanaryRunStatus:
    """After the commit: all traffic to the last good version's own pods, as soon as they are ready."""
    way_back, wanted = situation.way_back, situation.status.way_back.wanted
    if way_back is None or way_back.ready < wanted:
        ready = way_back.ready if way_back else 0
        late = situation.since(situation.status.decided_at) > situation.run.limits.verify_seconds
        text = f"{ready} of {wanted} pods of the last good version are ready; then it gets all traffic"
        return stay(situation, Reason.ROLLBACK_UNVERIFIED if late else Reason.ROLLBACK_STARTED, text)
    status = at_zero(situation).status
    return set_traffic(status, way_back_ppm=PPM)


def _final(situation: Situation) -> CanaryRunStatus:
    """Give everything back: the route names stable alone, the drain passes, the side goes."""
    status, side, route = situation.status, situation.side, situation.route
    if status.tidied_at is not None:
        return status
    if status.traffic.way_back_ppm > 0:
        return _leave_way_back(situation)
    if route is not None and not status.traffic.attached and status.traffic.detached_at is None:
        status = set_traffic(status, detached_at=situation.now)
    gone = (
        side is not None
        and not side.exists
        and situation.way_back is not None
        and not situation.way_back.exists
    )
    if status.traffic.detached_at is not None and gone and not status.traffic.attached:
        status = change(status, tidied_at=situation.now)
    return status


def _leave_way_back(situation: Situation) -> CanaryRunStatus:
    """The last good version serves from its own pods until the Deployment runs it again, or what a person accepted."""
    workload = situation.workload
    given_up = situation.evidence.detaching and _target_is_absent(situation)
    back = workload is not None and workload.paused and situation.runs_whole(workload.template_hash)
    if not given_up and not (back and situation.is_good_again):
        return situation.status
    return set_traffic(situation.status, way_back_ppm=0, written_at=situation.now)


_TABLE: dict[Phase, Callable[[Situation], CanaryRunStatus]] = {
    Phase.HELD: _held,
    Phase.PREPARING: _preparing,
    Phase.PROGRESSING: _progressing,
    Phase.BAKING: _baking,
    Phase.COMMITTING: _committing,
    Phase.RETURNING: _returning,
    Phase.PAUSED: _paused,
    Phase.DRAINING: _draining,
    Phase.ROLLING_BACK: _rolling_back,
    Phase.PROMOTED: _final,
    Phase.ROLLED_BACK: _final,
    Phase.ABORTED: _final,
    Phase.SUPERSEDED: _final,
    Phase.REJECTED: _final,
}
