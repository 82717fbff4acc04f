"""Guards: facts that end, stop or lower a run, in the order of their weight. The first that holds wins.

A guard is a pure function named by the fact it detects: `Situation -> Ending | None`. An `Ending` names the phase
that follows and why. Guards only ever lower exposure, so none of them asks for a lease, a metric or an approval.
"""

from collections.abc import Callable
from dataclasses import dataclass

from canary.api.reasons import AFTER_COMMIT, MissingReason, Phase, Reason, Verb, Verdict
from canary.core.decision import Because, Situation
from canary.core.evidence import Drift, Missing, Share
from canary.core.gates import leaked
from canary.core.rules import quorum

BEFORE_COMMIT = frozenset(
    {Phase.HELD, Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING, Phase.PAUSED, Phase.DRAINING}
)
JUDGED = frozenset({Phase.PROGRESSING, Phase.BAKING})


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a guard sends the run: a final phase (by way of RollingBack), Paused or Draining."""

    phase: Phase
    because: Because


Guard = Callable[[Situation], Ending | None]


def target_is_gone(situation: Situation) -> Ending | None:
    """The Deployment was deleted, or deleted and created anew: this run speaks of nothing any more."""
    workload = situation.evidence.workload
    if isinstance(workload, Missing):
        if workload.reason is not MissingReason.ABSENT:
            return None
        text = f"Deployment {situation.spec.target.name} was deleted; {_last_good(situation)} serves until it is back"
        return Ending(Phase.SUPERSEDED, Because(Reason.WORKLOAD_GONE, text))
    if workload.uid == situation.spec.target.uid:
        return None
    text = f"Deployment {situation.spec.target.name} was deleted and created anew; the new one is held, and "
    text += (
        f"{_last_good(situation)} serves until it asks for that again, or a person accepts what it asks for"
    )
    return Ending(Phase.SUPERSEDED, Because(Reason.WORKLOAD_RECREATED, text))


def _last_good(situation: Situation) -> str:
    return f"the last good version, {situation.spec.baseline.version or 'of the record'},"


def abort_was_asked(situation: Situation) -> Ending | None:
    for directive in situation.evidence.directives:
        if directive.verb is Verb.ABORT:
            text = f"aborted by {directive.requester or 'an unnamed person'}"
            text += f": {directive.reason}" if directive.reason else ""
            return Ending(Phase.ABORTED, Because(Reason.BY_PERSON, text, directive.requester))
    return None


def change_was_rejected(situation: Situation) -> Ending | None:
    for directive in situation.evidence.directives:
        if directive.verb is Verb.REJECT and not directive.machine:
            exposed = situation.status.exposed_at is not None
            text = f"rejected by {directive.requester}: {directive.reason}"
            because = Because(Reason.APPROVAL_REJECTED, text, directive.requester)
            return Ending(Phase.ABORTED if exposed else Phase.REJECTED, because)
    return None


def policy_let_go(situation: Situation) -> Ending | None:
    if not situation.evidence.detaching or situation.phase not in BEFORE_COMMIT:
        return None
    text = "its policy no longer enforces: all traffic goes back; the change stays held (spec.paused) until "
    text += f"`canary detach {situation.spec.target.name}` with --accept or --reject"
    return Ending(Phase.ABORTED, Because(Reason.DETACHED, text))


def policy_was_changed(situation: Situation) -> Ending | None:
    """The plan a run was started with is the plan it ends with: another policy is another run."""
    pinned, current = situation.spec.policy_digest, situation.evidence.policy_digest
    if situation.phase not in BEFORE_COMMIT or not current or current == pinned:
        return None
    return Ending(
        Phase.SUPERSEDED, Because(Reason.POLICY_CHANGED, "the policy was changed; a new run starts by it")
    )


def safety_was_changed(situation: Situation) -> Ending | None:
    """Approvals were given under certain rules: under others they are asked for anew, from weight 0."""
    safety = situation.evidence.safety
    if situation.phase not in BEFORE_COMMIT or isinstance(safety, Missing):
        return None
    if (safety.digest if safety is not None else None) == situation.spec.safety.digest:
        return None
    text = (
        "the safety policies ask something else of this change now; a new run starts by them, without traffic"
    )
    return Ending(Phase.SUPERSEDED, Because(Reason.POLICY_CHANGED, text))


def quorum_was_lost(situation: Situation) -> Ending | None:
    """Somebody whose word carried this weight lost the right to give it. What only expired takes nothing away."""
    text = quorum.lost(situation) if situation.phase in JUDGED else ""
    return Ending(Phase.PAUSED, Because(Reason.APPROVALS_MISSING, text)) if text else None


def tag_was_pushed_anew(situation: Situation) -> Ending | None:
    """Some pod runs other bytes than were tested under that tag: that is another change, approved by nobody."""
    tested = situation.status.side.bytes_of_tags
    tags = {each.partition("=")[0] for each in tested}
    unknown = situation.evidence.bytes_of_tags - {*tested}
    others = sorted(each for each in unknown if each.partition("=")[0] in tags)
    if not others or situation.phase not in JUDGED | AFTER_COMMIT | {Phase.PREPARING}:
        return None
    text = f"a pod runs other bytes than were tested under its tag, {others[0]}; name images by their digest"
    phase = Phase.ROLLED_BACK if situation.phase in AFTER_COMMIT else Phase.SUPERSEDED
    return Ending(phase, Because(Reason.IMAGE_CHANGED, text))


def record_was_changed(situation: Situation) -> Ending | None:
    """What people read when they approved is no longer what is said of the change."""
    fields = situation.evidence.record_changes
    if situation.phase not in BEFORE_COMMIT or not fields:
        return None
    text = f"the change's record was altered ({', '.join(fields)}): no approval counts any more, and a new run starts"
    return Ending(Phase.SUPERSEDED, Because(Reason.RECORD_CHANGED, text))


def template_was_changed(situation: Situation) -> Ending | None:
    """A newer template, or the old one again: what is being tested is no longer what is asked for.

    While traffic returns, the tested version serves from the Deployment's own pods and the lock is on again: a newer
    template waits there like any other change, and this run ends well first.
    """
    workload = situation.workload
    if workload is None or situation.phase is Phase.RETURNING:
        return None
    if workload.template_hash == situation.spec.revision.template_hash:
        return None
    if workload.template_hash == situation.spec.baseline.template_hash:
        text = "the change was taken back: the Deployment asks for the serving version again"
    else:
        text = "a newer change was pushed; it is held, and starts without traffic"
    return Ending(Phase.SUPERSEDED, Because(Reason.TEMPLATE_CHANGED, text))


def evidence_says_roll_back(situation: Situation) -> Ending | None:
    finding = situation.evidence.finding
    if (
        situation.phase not in JUDGED
        or isinstance(finding, Missing)
        or finding.verdict is not Verdict.ROLL_BACK
    ):
        return None
    return Ending(Phase.ROLLED_BACK, Because(finding.reason, finding.message))


def rollback_was_cut_short(situation: Situation) -> Ending | None:
    """A controller wrote its rollback and died before it said why: suspicion is enough, the slice is not given back.

    The evidence of one look is capped, so the next controller's first look may not convict again what the last one did.
    """
    finding = situation.evidence.finding
    if situation.phase not in JUDGED or not situation.was_cut or isinstance(finding, Missing):
        return None
    if finding.reason is not Reason.EVIDENCE_SUSPECT:
        return None
    text = f"the controller before this one took the slice and ended before it said why. {finding.message}"
    return Ending(Phase.ROLLED_BACK, Because(finding.reason, text))


def evidence_says_drain(situation: Situation) -> Ending | None:
    finding = situation.evidence.finding
    if situation.phase not in JUDGED or isinstance(finding, Missing) or finding.verdict is not Verdict.DRAIN:
        return None
    return Ending(Phase.DRAINING, Because(Reason.SITE_FELL, finding.message))


def side_took_the_site_down(situation: Situation) -> Ending | None:
    """The site recovered soon after it lost the side: that is proof enough against the side."""
    finding, limits = situation.evidence.finding, situation.run.limits
    if situation.phase is not Phase.DRAINING or isinstance(finding, Missing):
        return None
    drained_seconds = situation.since(situation.status.phase_started_at)
    if not limits.site_healthy_seconds <= finding.site_healthy_seconds <= drained_seconds:
        return None
    if drained_seconds - finding.site_healthy_seconds > limits.drain_window_seconds:
        return None
    text = "the whole site recovered as soon as the new version had no traffic"
    return Ending(Phase.ROLLED_BACK, Because(Reason.SITE_FELL, text))


def side_has_no_ready_pod(situation: Situation) -> Ending | None:
    side = situation.side
    if situation.phase not in JUDGED or situation.weight_ppm == 0 or side is None or side.ready > 0:
        return None
    return Ending(
        Phase.PAUSED, Because(Reason.SIDE_NOT_READY, "no pod of the new version is ready; it gets no traffic")
    )


def side_gets_too_much(situation: Situation) -> Ending | None:
    if situation.phase not in JUDGED or situation.evidence.share is not Share.OVER:
        return None
    text = "the new version gets more traffic than its weight; the blast radius is a promise, so it gets none"
    return Ending(Phase.PAUSED, Because(Reason.SHARE_ABOVE_WEIGHT, text))


def route_was_rewritten(situation: Situation) -> Ending | None:
    route = situation.route
    if situation.phase not in JUDGED | {Phase.PREPARING} or route is None:
        return None
    who = route.last_writer or "somebody"
    if route.drift is Drift.REFS_MISSING or (situation.phase in JUDGED and not route.attached):
        text = f"{who} reset the route: all traffic goes to the old version. {route.detail}".strip()
        return Ending(Phase.PAUSED, Because(Reason.ROUTE_LOST, text))
    if route.drift in (Drift.RAISED, Drift.LOWERED):
        text = (
            f"{who} changed the new version's weight; it gets none until a `resume`. {route.detail}".strip()
        )
        return Ending(Phase.PAUSED, Because(Reason.WEIGHT_DRIFT, text))
    return None


def hold_was_broken(situation: Situation) -> Ending | None:
    """Somebody let the Deployment roll: its new pods serve beside the slice, and count as the old version's."""
    workload = situation.workload
    if workload is None or situation.phase not in JUDGED | {Phase.PREPARING}:
        return None
    if workload.paused and workload.current_pods == 0:
        return None
    text = f"somebody released the held change; it is held again. {leaked(workload)}".strip()
    return Ending(Phase.PAUSED, Because(Reason.UNPAUSED_BY_OTHERS, text))


def cluster_was_restored(situation: Situation) -> Ending | None:
    """What the API server holds is of the past: weights and approvals, too."""
    text = (situation.evidence.closed_gates or {}).get(Reason.CLUSTER_RESTORED)
    if text is None or situation.phase not in JUDGED or situation.weight_ppm == 0:
        return None
    return Ending(Phase.PAUSED, Because(Reason.CLUSTER_RESTORED, text))


def blind_for_too_long(situation: Situation) -> Ending | None:
    finding, limit = situation.evidence.finding, situation.run.limits.blind_seconds
    if situation.phase not in JUDGED or situation.weight_ppm == 0 or isinstance(finding, Missing):
        return None
    if finding.blind_seconds < limit:
        return None
    text = f"no usable data for {finding.blind_seconds:.0f} s; the new version gets no traffic. {finding.message}"
    return Ending(Phase.PAUSED, Because(Reason.BLIND, text.strip()))


def preparation_took_too_long(situation: Situation) -> Ending | None:
    bound = situation.spec.policy.prepare_within.total_seconds()
    if situation.phase is not Phase.PREPARING or situation.since(situation.status.phase_started_at) < bound:
        return None
    text = f"the new version was not ready within {bound:.0f} s; it never had traffic. {situation.status.message}"
    return Ending(Phase.ROLLED_BACK, Because(Reason.PREPARATION_EXPIRED, text))


def step_took_too_long(situation: Situation) -> Ending | None:
    status = situation.status
    if situation.phase is not Phase.PROGRESSING or status.step < 0 or status.step_started_at is None:
        return None
    bound = situation.spec.steps[status.step].max_duration
    if bound is None or situation.since(status.step_started_at) < bound.total_seconds():
        return None
    text = f"the step did not pass within {bound.total_seconds():.0f} s. {status.message}"
    return Ending(Phase.PAUSED, Because(Reason.STEP_EXPIRED, text))


GUARDS: tuple[Guard, ...] = (
    abort_was_asked,
    target_is_gone,
    evidence_says_roll_back,
    rollback_was_cut_short,
    template_was_changed,
    policy_let_go,
    policy_was_changed,
    record_was_changed,
    tag_was_pushed_anew,
    safety_was_changed,
    change_was_rejected,
    side_took_the_site_down,
    evidence_says_drain,
    quorum_was_lost,
    hold_was_broken,
    cluster_was_restored,
    side_gets_too_much,
    route_was_rewritten,
    side_has_no_ready_pod,
    blind_for_too_long,
    preparation_took_too_long,
    step_took_too_long,
)


def first_ending(situation: Situation) -> Ending | None:
    """Return what the first guard that fires asks for, or None."""
    if situation.phase.final or situation.phase is Phase.ROLLING_BACK:
        return None
    return next((ending for guard in GUARDS if (ending := guard(situation)) is not None), None)
