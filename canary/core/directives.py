"""What people ask: promote, hold, resume, approve, and what they are answered.

`abort` and `reject` are guards, because nothing may stand before them. `retry` and `bypass` are about starting, not
about a run under way: `intake.py`. Everything here changes the status only, never the weight: the gates decide about
that as they always do, so no word of a person overrules evidence.
"""

from dataclasses import dataclass
from datetime import timedelta

from canary.api.reasons import AFTER_COMMIT, MACHINE_VERBS, TARGET_LOST, Phase, Reason, Verb
from canary.api.run import MAX_APPROVALS, MAX_HANDLED, Approval, Bypass, CanaryRunStatus
from canary.core import gates
from canary.core.decision import Answer, Because, Situation, change, record
from canary.core.evidence import Directive
from canary.core.rules import quorum
from canary.core.rules.approvals import approval_of
from canary.core.telling.wording import no_such_step, share

MIN_BYPASS_REASON = 30  # characters
DEFAULT_BYPASS, MAX_BYPASS = timedelta(hours=1), timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Heard:
    """The status after all directives, and their answers."""

    status: CanaryRunStatus
    answers: tuple[Answer, ...] = ()


def hear(situation: Situation) -> Heard:
    """Answer every directive, in the order of asking, each once. An abort that could act was a guard before this."""
    answers: list[Answer] = []
    for directive in situation.evidence.directives:
        if directive.uid in situation.status.handled or _is_for_the_policy(situation, directive):
            continue
        status, done, message = _answer(situation, directive)
        status = _handled(status, directive)
        situation = situation.with_status(status)
        answers.append(Answer(directive.uid, directive.name, done, message))
    return Heard(situation.status, tuple(answers))


def _is_for_the_policy(situation: Situation, directive: Directive) -> bool:
    """A retry of a run that is over starts another run, and a review of a bypass lets one: the policy answers both."""
    reviews = directive.verb is Verb.APPROVE and situation.status.bypass is not None
    return situation.phase.final and (directive.verb is Verb.RETRY or reviews)


def _handled(status: CanaryRunStatus, directive: Directive) -> CanaryRunStatus:
    return change(status, handled=[*status.handled, directive.uid][-MAX_HANDLED:])


_Reply = tuple[CanaryRunStatus, bool, str]


def _answer(situation: Situation, directive: Directive) -> _Reply:
    if directive.verb is Verb.ABORT:
        return situation.status, True, f"nothing left to abort: the run is {situation.phase.value}"
    if directive.machine and directive.verb not in MACHINE_VERBS:
        text = (
            f"{directive.requester} is a machine: it may abort and hold, a person must {directive.verb.value}"
        )
        return situation.status, False, text
    if directive.verb is Verb.BYPASS and situation.phase.final and situation.status.traffic.way_back_ppm > 0:
        return _accept(situation, directive)
    if situation.phase.final or situation.phase is Phase.ROLLING_BACK:
        return (
            situation.status,
            False,
            f"the run is {situation.phase.value}; nothing to {directive.verb.value}",
        )
    handlers = {
        Verb.HOLD: _hold,
        Verb.RESUME: _resume,
        Verb.PROMOTE: _promote,
        Verb.APPROVE: _approve,
        Verb.BYPASS: _bypass,
    }
    handler = handlers.get(directive.verb)
    if handler is None:
        return situation.status, False, f"{directive.verb.value} is not for a run under way"
    return handler(situation, directive)


def _hold(situation: Situation, directive: Directive) -> _Reply:
    who = directive.requester or "somebody"
    because = Because(Reason.HOLD_STARTED, f"held at its weight by {who}: {directive.reason}", who)
    status = record(situation.now, change(situation.status, held_by=who[:256]), because)
    return status, True, f"held at {share(situation.weight_ppm)}; the evidence is watched on"


def _resume(situation: Situation, directive: Directive) -> _Reply:
    status, who = situation.status, directive.requester
    because = Because(Reason.HOLD_ENDED, f"resumed by {who}: {directive.reason}", who)
    if status.phase is Phase.PAUSED and status.pause is not None:
        resumed = change(
            status,
            phase=status.pause.resume_phase,
            pause=None,
            held_by="",
            phase_started_at=situation.now,
            reason=because.reason.value,
            message=because.message[:1024],
            actor=who[:256],
        )
        return (
            record(situation.now, resumed, because),
            True,
            "goes on with fresh gates; the slice comes back step by step",
        )
    if status.held_by:
        return record(situation.now, change(status, held_by=""), because), True, "the hold ended"
    return status, False, f"nothing to resume: the run is {status.phase.value} and not held"


def _promote(situation: Situation, directive: Directive) -> _Reply:
    """End a hold, an approval step or a cap; never overrule evidence."""
    status = situation.status
    who, index = directive.requester, status.step + 1
    because = Because(Reason.HOLD_ENDED, f"promoted by {who}: {directive.reason}", who)
    if status.phase is Phase.PAUSED:
        return status, False, "the run is paused at weight 0: `canary resume` lets it go on, promote does not"
    missing = no_such_step(directive.to_ppm, _to_come(situation)) if directive.to_ppm is not None else ""
    if missing:
        return status, False, missing
    waits = status.held_by or status.promote_to_ppm is not None or gates.next_step_is_approved(situation)
    if not waits and directive.to_ppm is None:
        closed = gates.first_closed(gates.gates_of(status.phase), situation)
        text = closed.message if closed else "nothing waits for a person; the next look goes on by itself"
        return status, False, f"promote refused: {text}"
    moved = change(status, held_by="", promote_to_ppm=directive.to_ppm)
    if situation.next_step is not None and situation.next_step.approval:
        moved = _with_approval(situation.with_status(moved), directive, index)
    return (
        record(situation.now, moved, because),
        True,
        "recorded; the next step begins as soon as its other gates are open",
    )


def _to_come(situation: Situation) -> list[int]:
    return [step.weight for step in situation.spec.steps[situation.status.step + 1 :]]


def _approve(situation: Situation, directive: Directive) -> _Reply:
    if directive.digest and directive.digest != situation.spec.digest:
        return situation.status, False, "the digest you approved is not this run's: read the change again"
    waiting = [
        i for i, step in enumerate(situation.spec.steps) if step.approval and i > situation.status.step
    ]
    if not waiting and quorum.asked(situation) == (0, 0):
        return situation.status, False, "no step of this run waits for an approval"
    index = waiting[0] if waiting else situation.status.step + 1
    asked = situation.with_status(_with_approval(situation, directive, index))
    asked = asked.with_status(quorum.recounted(asked))
    given, electorate, found = asked.status.approvals[-1], quorum.electorate_of(asked), quorum.standing(asked)
    missing = found.missing(electorate) if electorate is not None and not found.suffices else ""
    if not given.counts:  # not kept: what does not count must not push out what does
        return situation.status, False, f"{given.why_not}. Now: {missing}" if missing else given.why_not
    who, text = directive.requester, f"approved by {directive.requester}: {directive.reason}"
    status = record(situation.now, asked.status, Because(Reason.APPROVAL_RECORDED, text, who))
    if quorum.asked(situation) != (0, 0):
        return status, True, f"recorded; {missing or 'that is all that was asked'}"
    return status, True, f"recorded for {share(situation.spec.steps[index].weight)}"


def _bypass(situation: Situation, directive: Directive) -> _Reply:
    """Break the glass: loudly, for a time, and never against evidence."""
    if situation.phase in AFTER_COMMIT:
        return situation.status, False, f"the run is {situation.phase.value}; nothing holds it any more"
    bypass = _broken_glass(situation, directive)
    if isinstance(bypass, str):
        return situation.status, False, bypass
    minutes = (bypass.expires_at - situation.now).total_seconds() / 60
    text = f"for {minutes:.0f} min no approval, freeze or limit holds it; evidence does, and two others review it"
    return _with_bypass(situation, bypass), True, text


def _accept(situation: Situation, directive: Directive) -> _Reply:
    """A person takes a Deployment that was created anew as it is: it gets its traffic when it runs that whole."""
    workload, lost = situation.workload, situation.status.reason in TARGET_LOST
    if not lost or workload is None:
        why = "there is no Deployment to accept" if lost else "its commit was taken back; push a fix"
        return situation.status, False, why
    bypass = _broken_glass(situation, directive)
    if isinstance(bypass, str):
        return situation.status, False, bypass
    status = change(_with_bypass(situation, bypass), accepted=workload.template_hash)
    text = "accepted as it is: it gets its traffic when all its pods are ready, and two others review it"
    return status, True, text


def _broken_glass(situation: Situation, directive: Directive) -> Bypass | str:
    """Return the bypass that is asked for, or why it is none."""
    if len(directive.reason) < MIN_BYPASS_REASON:
        return f"say in {MIN_BYPASS_REASON} characters or more what is at stake and who knows of it"
    longest = situation.now + MAX_BYPASS
    ends = min(directive.expires_at or situation.now + DEFAULT_BYPASS, longest)
    if ends <= situation.now:
        return "it ended before it was asked for; give a later time"
    return Bypass(
        request=directive.name,
        requester=directive.requester[:256],
        reason=directive.reason[:1024],
        at=situation.now,
        expires_at=ends,
    )


def _with_bypass(situation: Situation, bypass: Bypass) -> CanaryRunStatus:
    text = f"break-glass by {bypass.requester}: {bypass.reason}"
    because = Because(Reason.BYPASS_USED, text, bypass.requester)
    return record(situation.now, change(situation.status, bypass=bypass), because)


def _with_approval(situation: Situation, directive: Directive, index: int) -> CanaryRunStatus:
    approval = approval_of(directive, situation.now, index)
    steps_matter = quorum.asked(situation) == (0, 0)
    kept = [each for each in situation.status.approvals if not _renews(approval, each, steps_matter)]
    return change(situation.status, approvals=[*kept, approval][-MAX_APPROVALS:])


def _renews(approval: Approval, earlier: Approval, steps_matter: bool) -> bool:
    """Tell whether the approval is the same person's word again, for a longer time."""
    same = approval.requester == earlier.requester and approval.verb is earlier.verb is Verb.APPROVE
    return same and (approval.step == earlier.step or not steps_matter)
