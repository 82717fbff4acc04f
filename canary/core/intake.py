"""What a policy does while no run is under way: adopt the target, keep its lock, start a run for a held change.

Pure, like the machine: `(what was read) -> Intake`. A version that was taken back once starts nothing again, however
often somebody re-applies, resyncs or restarts: only a new template or a person's `retry` does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from canary.api.change import ChangeRecord, OriginEvidence
from canary.api.policy import (
    MAX_STRANGERS,
    CanaryPolicySpec,
    CanaryPolicyStatus,
    GuardFacts,
    RejectedRevision,
    Step,
)
from canary.api.reasons import MissingReason, Mode, Origin, Phase, Reason, Verb
from canary.api.run import CanaryRunSpec
from canary.api.safety import Finding, RecordRules
from canary.api.types import ObjectRef
from canary.core.decision import Answer, Run
from canary.core.evidence import Directive, Missing, Workload
from canary.core.policy_look import Desired, Intake, Policy, Seen
from canary.core.portions import in_whole_pods, refusal_of, refusal_of_plan
from canary.core.record import change_digest, policy_digest, record_of
from canary.core.rules.effective import Effective, fitted, terms_of
from canary.core.rules.origin import carried
from canary.core.rules.patterns import findings
from canary.core.rules.reviews import REVIEWERS, answers_to, review_owed, reviewed_by
from canary.core.rules.templates import Earlier, Proposal
from canary.core.rules.weakening import waits
from canary.core.telling.explain import MAX_ATTEMPTS
from canary.core.versions import Serving, remembered, with_good

MAX_STEPS = 21  # of a run


def consider(policy: Policy, seen: Seen) -> Intake:
    """Return what a look at an idle (or busy) policy asks for."""
    status = policy.status.model_copy(update={"observed_generation": policy.generation})
    status = remembered(status, seen.runs, seen.now)
    if policy.spec.mode is Mode.OBSERVE:
        return _let_go(policy.spec.target.name, seen, status)
    intake = _with_strangers(_enforce(policy, seen, status), seen)
    text = "the policy enforces, and lets no change pass unjudged; `canary detach` sets mode Observe first"
    refused = [Answer(each.uid, each.name, False, text) for each in seen.bypasses]
    intake = replace(intake, answers=(*intake.answers, *refused, *answers_to(seen.reviews)))
    if status.weaker is None:
        return intake
    way = f"`canary approve {policy.namespace}/policy/{policy.name}`, or apply the former text again"
    return replace(intake, message=f"{intake.message}; {waits(status.weaker)}: {way}")


def _with_strangers(intake: Intake, seen: Seen) -> Intake:
    """Name the pods of others that get the Service's customers; they were there before the guard, or there is none."""
    if seen.desired is None:
        return intake
    found = seen.desired.strangers
    status = intake.status.model_copy(update={"strangers": list(found[:MAX_STRANGERS])})
    text = f"{intake.message}; {said_of_strangers(found)}" if found else intake.message
    return replace(intake, status=status, message=text)


def said_of_strangers(pods: Sequence[str]) -> str:
    """Return the sentence about pods that are not the target's own, with its remedy."""
    shown = ", ".join(pods[:3]) + (", ..." if len(pods) > 3 else "")
    return f"the Service's customers also reach {shown}, of no version: give other pods other labels"


def _enforce(policy: Policy, seen: Seen, status: CanaryPolicyStatus) -> Intake:
    if refused := refusal_of(policy.spec):
        return Intake(status, reason=Reason.ADOPTION_REFUSED, message=refused)
    workload, desired = seen.workload, seen.desired
    active = next((run for run in seen.runs if run.status.tidied_at is None), None)
    if isinstance(workload, Missing) or desired is None:
        detail = workload.detail if isinstance(workload, Missing) else "its pods' Service is not known"
        text = f"Deployment {policy.spec.target.name} cannot be read: {detail}"
        gone = isinstance(workload, Missing) and workload.reason is MissingReason.ABSENT
        start = _restoring(policy, seen, status) if gone and active is None else None
        return Intake(status, start=start, reason=Reason.WORKLOAD_GONE, message=text)
    status = status.model_copy(update={"serving": desired.serving, "refusals": list(seen.refusals[:16])})
    status = status.model_copy(update={"guard": _guard_facts(desired, seen.runs) or status.guard})
    status = with_good(status, _serving(seen, status), seen.runs)
    owed = review_owed(status, seen.runs, seen.reviews)
    if active is not None:
        return replace(_busy(seen, status, active), owed=owed)
    status = status.model_copy(update={"active_run": ""})
    intake = _idle(policy, seen, status) or _held_change(policy, seen, status)
    return replace(intake, answers=(*intake.answers, *_refusals_of_retries(seen, intake)), owed=owed)


def _serving(seen: Seen, status: CanaryPolicyStatus) -> Serving:
    """Return what serves, and whether enough people reviewed how that came."""
    workload, desired, passed = seen.workload, seen.desired, status.went_round
    assert isinstance(workload, Workload)
    about = passed.revision.template_hash if passed is not None else ""
    accepted = about if reviewed_by(about, seen.reviews) >= REVIEWERS else ""
    return Serving(workload, desired.serving if desired else None, seen.now, accepted)


def _guard_facts(desired: Desired, runs: Sequence[Run]) -> GuardFacts | None:
    """Say what the guard holds the surroundings to: while a run is under way, the pods that it found, too."""
    if desired.surroundings is None:
        return None
    found = [run.status.stable_replicas for run in runs if not run.status.phase.final]
    return desired.surroundings.model_copy(update={"min_replicas": max([1, *found])})


def _refusals_of_retries(seen: Seen, intake: Intake) -> Iterator[Answer]:
    """A retry that starts nothing now is refused now: it must not start something later."""
    answered = {answer.uid for answer in intake.answers}
    for retry in seen.retries:
        if retry.uid not in answered:
            yield Answer(retry.uid, retry.name, False, f"nothing to retry: {intake.message}")


def _let_go(target: str, seen: Seen, status: CanaryPolicyStatus) -> Intake:
    """Mode Observe: give back what an earlier Enforce took, once no run is left and no change would roll at once.

    The guard label on the Deployment counts, too: the policy that held it may be gone.
    """
    workload, desired = seen.workload, seen.desired
    guarded = desired is not None and desired.guarded
    status = status.model_copy(update={"active_run": ""})
    if guarded and seen.rival and not status.adopted:
        text = f"mode Observe: {seen.rival} names this Deployment, too: nothing of it is let go; delete one"
        return Intake(status, reason=Reason.OBSERVING, message=text)
    if isinstance(workload, Missing) or not (guarded or (status.adopted and workload.paused)):
        status = status.model_copy(update={"adopted": False})
        return Intake(status, reason=Reason.OBSERVING, message="mode Observe: nothing is held or touched")
    if any(run.status.tidied_at is None for run in seen.runs):
        text = "the run under way is being ended; then all is given back"
        return Intake(status, reason=Reason.RUN_ACTIVE, message=text)
    if seen.frozen_seconds > 0:
        text = f"all traffic is back; its autoscaler may scale down again in {seen.frozen_seconds:.0f} s, then all is"
        return Intake(status, reason=Reason.RUN_ACTIVE, message=f"{text} given back")
    asked = [each for each in seen.bypasses if not each.machine and each.digest == workload.template_hash]
    if workload.template_hash != workload.stable_hash and not asked:
        text = f"a held change would roll out at once: `canary detach {target} --accept` lets it, `--reject` ends it"
        stale = "the Deployment asks for another template now: read it, and decide again"
        answers = [Answer(each.uid, each.name, False, stale) for each in seen.bypasses]
        return Intake(status, reason=Reason.TEMPLATE_CHANGED, message=text, answers=tuple(answers))
    text = f"given back, its change accepted by {asked[0].requester}" if asked else "given back"
    status = status.model_copy(update={"adopted": False})
    return Intake(
        status,
        release=workload.template_hash,
        reason=Reason.DETACHED,
        message=f"{text}: no label, not paused",
        answers=tuple(Answer(each.uid, each.name, True, text) for each in asked),
    )


def _busy(seen: Seen, status: CanaryPolicyStatus, active: Run) -> Intake:
    """A run is under way. A target that was created anew is held at once, and known as soon as a run looks after it."""
    text = active.status.message or active.status.phase.value
    status = status.model_copy(update={"active_run": active.name})
    anew = _new_uid(seen, status)
    if anew and active.status.way_back.wanted > 0:
        status = status.model_copy(update={"target_uid": anew})
    return Intake(status, adopt=bool(anew), reason=Reason.RUN_ACTIVE, message=text)


def _new_uid(seen: Seen, status: CanaryPolicyStatus) -> str:
    """Return the uid of a target that was created anew where another one was held; empty: it was not."""
    workload = seen.workload
    anew = isinstance(workload, Workload) and status.adopted and status.target_uid not in ("", workload.uid)
    return workload.uid if isinstance(workload, Workload) and anew else ""


def _idle(policy: Policy, seen: Seen, status: CanaryPolicyStatus) -> Intake | None:
    """Answer for a target without a held change, or one that must be locked or counted first."""
    workload, desired = seen.workload, seen.desired
    assert isinstance(workload, Workload)
    assert desired is not None
    adopted = status.adopted and status.target_uid == workload.uid and desired.guarded
    if not adopted:
        if seen.refusals:
            return Intake(status, reason=Reason.ADOPTION_REFUSED, message=seen.refusals[0])
        moved = status.model_copy(update={"adopted": True, "target_uid": workload.uid})
        text = f"{policy.spec.target.name} is held from now on"
        if not status.adopted:
            moved = with_good(moved.model_copy(update={"good": None}), _serving(seen, status), ())
            return Intake(moved, adopt=True, reason=Reason.ADOPTED, message=text)
        anew = _restoring(policy, seen, status) if _new_uid(seen, status) else None
        reason = Reason.WORKLOAD_RECREATED if anew is not None else Reason.ADOPTED
        return Intake(moved, adopt=True, start=anew, reason=reason, message=text)
    if not workload.paused:
        text = "somebody opened the lock (spec.paused); it is closed again"
        return Intake(status, relock=True, reason=Reason.UNPAUSED_BY_OTHERS, message=text)
    if seen.uncounted:
        return Intake(
            status, reason=Reason.NO_DATA_YET, message=f"no change could be judged: {seen.uncounted}"
        )
    if workload.template_hash == workload.stable_hash:
        version = desired.serving.version if desired.serving else ""
        owed = review_owed(status, seen.runs, seen.reviews)
        if status.went_round is not None and owed is not None:
            return Intake(status, reason=Reason.BYPASS_USED, message=owed.message)
        return Intake(status, reason=Reason.IDLE, message=f"{version or 'the Deployment'} serves 100 %")
    return None


def _held_change(policy: Policy, seen: Seen, status: CanaryPolicyStatus) -> Intake:
    workload, desired = seen.workload, seen.desired
    assert isinstance(workload, Workload)
    assert desired is not None
    if desired.serving is None or not workload.stable_hash:
        return Intake(
            status, reason=Reason.WORKLOAD_NOT_READY, message="no version serves yet; waiting for one"
        )
    if not desired.service:
        text = "no Service (or more than one) selects the target's pods; name it in spec.service"
        return Intake(status, reason=Reason.ADOPTION_REFUSED, message=text)
    before = next((r for r in status.rejected if r.template_hash == workload.template_hash), None)
    if before is None:
        return _start(policy, seen, status, attempt=1)
    return _again(policy, seen, status, before)


def _again(policy: Policy, seen: Seen, status: CanaryPolicyStatus, before: RejectedRevision) -> Intake:
    """A version that was taken back: only a person's retry starts it again, and not for ever."""
    serving = status.serving.version if status.serving else "the old version"
    text = (
        f"customers safe on {serving}; this version ended {before.outcome} ({before.reason}) in {before.run}"
    )
    retry = next((d for d in seen.retries if not d.machine), None)
    if retry is None:
        return Intake(status, reason=Reason.REJECTED_BEFORE, message=f"{text}; `canary retry` tries it again")
    most = MAX_ATTEMPTS if not isinstance(seen.ruling, Effective) else seen.ruling.spec.limits.attempts
    if before.attempts >= most:
        refused = Answer(
            retry.uid, retry.name, False, f"{text}; {before.attempts} attempts are the limit: push a fix"
        )
        return Intake(status, reason=Reason.ATTEMPT_LIMIT, message=refused.message, answers=(refused,))
    started = _start(policy, seen, status, attempt=before.attempts + 1)
    done = Answer(
        retry.uid, retry.name, True, f"attempt {before.attempts + 1} of {most} starts without traffic"
    )
    return Intake(
        started.status, start=started.start, reason=started.reason, message=started.message, answers=(done,)
    )


def _start(policy: Policy, seen: Seen, status: CanaryPolicyStatus, attempt: int) -> Intake:
    workload, desired = seen.workload, seen.desired
    assert isinstance(workload, Workload)
    assert desired is not None
    assert desired.serving is not None
    owed = review_owed(status, seen.runs, seen.reviews)
    if owed and not (
        status.went_round and status.good and status.good.template_hash == workload.template_hash
    ):
        return Intake(status, reason=Reason.BYPASS_USED, message=owed.message)
    if isinstance(seen.ruling, Missing):
        text = f"a change is held until the safety policies can be read: {seen.ruling.detail}"
        return Intake(status, reason=Reason.LIMIT_REACHED, message=text)
    record = record_of(desired.annotations, [*desired.proof, *_earlier(workload.template_hash, seen.runs)])
    safety = terms_of(seen.ruling)
    steps = fitted(policy.spec.resolved_steps(record.origin), record.origin, seen.ruling)
    if refused := _refusal_of_steps(policy.spec, steps, record.origin, workload.replicas):
        return Intake(status, reason=Reason.LIMIT_REACHED, message=refused)
    if policy.spec.route.in_pods:
        steps = in_whole_pods(steps, workload.replicas)
    spec = CanaryRunSpec(
        policy_ref=ObjectRef(kind="CanaryPolicy", name=policy.name, uid=policy.uid),
        policy=policy.spec,
        policy_digest=policy_digest(policy.spec),
        target=ObjectRef(kind="Deployment", name=policy.spec.target.name, uid=workload.uid),
        service=desired.service,
        revision=desired.asked,
        baseline=desired.serving,
        change=record,
        digest=change_digest(workload.template_hash, policy.spec, record, safety),
        steps=steps,
        attempt=attempt,
        baseline_pods=workload.replicas,
        safety=safety,
        findings=_findings(policy, seen, record, retried=attempt > 1),
    )
    text = f"a change is held: {desired.asked.version or workload.template_hash[:19]}, origin {record.origin.value}"
    return Intake(status, start=spec, reason=Reason.RUN_STARTED, message=text)


def _refusal_of_steps(spec: CanaryPolicySpec, steps: Sequence[Step], origin: Origin, stable: int) -> str:
    if len(steps) > MAX_STEPS:
        text = f"within the safety policy's first slice and ratio the plan has {len(steps)} steps, {MAX_STEPS} are "
        return f"{text}the most: remove some from spec.steps"
    return refusal_of_plan(steps, origin, stable) if spec.route.in_pods else ""


def _restoring(policy: Policy, seen: Seen, status: CanaryPolicyStatus) -> CanaryRunSpec | None:
    """Return the run of a target that was deleted past the guard: its first look finds that, and serves the last good.

    None where nothing good, or no Service, is known.
    """
    desired, good = seen.desired, status.good
    service = (desired.service if desired else "") or (status.guard.service if status.guard else "")
    if good is None or not service or not status.adopted:
        return None
    record = record_of(desired.annotations if desired else {}, desired.proof if desired else ())
    asked = desired.asked if desired else good
    safety = terms_of(seen.ruling if isinstance(seen.ruling, Effective) else None)
    return CanaryRunSpec(
        policy_ref=ObjectRef(kind="CanaryPolicy", name=policy.name, uid=policy.uid),
        policy=policy.spec,
        policy_digest=policy_digest(policy.spec),
        target=ObjectRef(kind="Deployment", name=policy.spec.target.name, uid=status.target_uid),
        service=service,
        revision=asked,
        baseline=good,
        change=record,
        digest=change_digest(asked.template_hash, policy.spec, record, safety),
        steps=policy.spec.resolved_steps(record.origin),
        baseline_pods=status.good_pods,
        safety=safety,
    )


def _earlier(template_hash: str, runs: Sequence[Run]) -> list[OriginEvidence]:
    """Return what runs of the same template found of its origin: AI is never taken back."""
    same = (run for run in runs if run.spec.revision.template_hash == template_hash)
    return next((found for run in same if (found := carried(run.spec.change.evidence, run.name))), [])


def _findings(policy: Policy, seen: Seen, record: ChangeRecord, *, retried: bool) -> list[Finding]:
    """Look for known failure patterns in the change."""
    desired, ruling = seen.desired, seen.ruling if isinstance(seen.ruling, Effective) else None
    if desired is None or desired.templates is None or desired.serving is None:
        return []
    templates, own = desired.templates, desired.asked.template_hash
    change = Proposal(
        new=templates.deployment.get("template") or {},
        old=templates.serving,
        deployment=templates.deployment,
        serving_pods=templates.serving_pods,
        selectors=templates.selectors,
        record=record,
        required=ruling.spec.record.require if ruling is not None else RecordRules().require,
        metrics_port=policy.spec.source.scrape.port if policy.spec.source.scrape is not None else "",
        template_hash=own,
        serving_hash=desired.serving.template_hash,
        earlier=[_change_of(run) for run in seen.runs],
        taken_back=frozenset(each.template_hash for each in policy.status.rejected)
        - ({own} if retried else set()),
    )
    return findings(change, policy.spec.tier, ruling)


def _change_of(run: Run) -> Earlier:
    change = run.spec.change
    promoted = run.status.phase is Phase.PROMOTED
    return Earlier(run.spec.revision.template_hash, change.change_id, change.what, change.why, promoted)


def retries_of(directives: Sequence[Directive]) -> tuple[Directive, ...]:
    """Return the directives that ask to try a version again."""
    return tuple(d for d in directives if d.verb is Verb.RETRY)
