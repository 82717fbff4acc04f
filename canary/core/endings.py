"""How a run ends: what a guard found becomes the status that takes all weight away.

Enters: a situation and the `Ending` of the first guard that fired. Leaves: the next status, and the answers to what
people asked in the same look. `machine.decide` calls it before any gate is asked, so an ending waits for nothing.
"""

from canary.api.reasons import AFTER_COMMIT, PPM, TARGET_LOST, Phase, Reason, Verb
from canary.api.run import CanaryRunStatus, PauseStatus, SideStatus
from canary.core.decision import Answer, Because, Situation, change, enter, set_traffic
from canary.core.guards import Ending


def answers_at_the_end(situation: Situation, ending: Ending) -> tuple[Answer, ...]:
    """Answer what people ask in the look in which a run ends: an abort is done, all else comes too late."""

    def reply(verb: Verb) -> tuple[bool, str]:
        if verb is Verb.ABORT or (verb is Verb.REJECT and ending.because.reason is Reason.APPROVAL_REJECTED):
            return True, "all traffic goes back to the old version"
        return False, f"too late: {ending.because.message}"

    return tuple(Answer(d.uid, d.name, *reply(d.verb)) for d in situation.evidence.directives)


def end(situation: Situation, ending: Ending) -> CanaryRunStatus:
    """Take all weight away, then go where the guard says: at once if nothing was ever exposed, else by RollingBack."""
    handled = [*situation.status.handled, *(d.uid for d in situation.evidence.directives)][-64:]
    situation = situation.with_status(
        change(situation.status, handled=handled, held_by="", decided_at=situation.now)
    )
    if ending.phase is Phase.PAUSED:
        return pause_run(situation, ending.because)
    if ending.phase is Phase.DRAINING:
        return enter(at_zero(situation), Phase.DRAINING, ending.because)
    lost = ending.because.reason in TARGET_LOST and not situation.runs_whole(
        situation.spec.baseline.template_hash
    )
    if lost or situation.phase in AFTER_COMMIT:
        return _serve_last_good(situation, ending)
    if not situation.status.traffic.attached and situation.weight_ppm == 0:
        return enter(situation, ending.phase, ending.because)
    return enter(at_zero(situation), Phase.ROLLING_BACK, ending.because, outcome_phase=ending.phase)


def at_zero(situation: Situation) -> Situation:
    """Ask for weight 0 by a rollback write: the epoch makes it a new version of the route even if nothing moves.

    It is newer than every stored one, too: a controller that died between its rollback writes and its status left
    those ahead, and whoever raises against what stood there before must lose.
    """
    status = set_traffic(
        situation.status,
        weight_ppm=0,
        epoch=situation.next_epoch,
        written_at=situation.now,
        verified_at=None,
        zero_verified_at=None,
    )
    return situation.with_status(change(status, step=-1, step_started_at=None, promote_to_ppm=None))


def pause_run(situation: Situation, because: Because) -> CanaryRunStatus:
    pause = PauseStatus(
        since=situation.now,
        by=because.by,
        reason=because.reason.value,
        message=because.message[:1024],
        resume_phase=Phase.PREPARING,
    )
    return enter(at_zero(situation), Phase.PAUSED, because, pause=pause)


def _serve_last_good(situation: Situation, ending: Ending) -> CanaryRunStatus:
    """The old pods leave, or are gone: the last good template gets a Deployment of its own, then all traffic.

    A slice falls first; a side that has everything keeps it until then, for nothing good is left beside it.
    """
    workload, status = situation.workload, situation.status
    pods = [workload.replicas] if workload else [status.stable_replicas]
    if situation.in_pods and ending.because.reason not in TARGET_LOST:
        situation = at_zero(situation)
    if ending.because.reason in TARGET_LOST:
        pods += [status.stable_replicas, situation.spec.baseline_pods]
        sliced = status.traffic.attached and situation.weight_ppm < PPM
        situation = at_zero(situation) if sliced else situation
    way_back = SideStatus(name=f"{situation.spec.target.name}-lastgood", wanted=max(1, *pods))
    return enter(situation, Phase.ROLLING_BACK, ending.because, outcome_phase=ending.phase, way_back=way_back)
