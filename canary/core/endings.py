"""How a run ends: what a guard found becomes the status that takes all weight away.

Enters: a situation and the `Ending` of the first guard that fired. Leaves: the next status, and the answers to what
people asked in the same look. `machine.decide` calls it before any gate is asked, so an ending waits for nothing.
"""

from canary.api.reasons import Phase, Reason, Verb
from canary.api.run import CanaryRunStatus, PauseStatus, SideStatus
from canary.core.decision import Answer, Because, Situation, change, enter, set_traffic
from canary.core.guards import AFTER_COMMIT, Ending


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
    if situation.phase in AFTER_COMMIT:
        return _take_back_commit(situation, ending)
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


def _take_back_commit(situation: Situation, ending: Ending) -> CanaryRunStatus:
    """The old pods have begun to leave: the last good template gets a Deployment of its own, then all traffic."""
    wanted = situation.workload.replicas if situation.workload else situation.status.stable_replicas
    way_back = SideStatus(name=f"{situation.spec.target.name}-lastgood", wanted=max(1, wanted))
    return enter(situation, Phase.ROLLING_BACK, ending.because, outcome_phase=ending.phase, way_back=way_back)
