"""promote, hold, resume, approve, reject, retry: each creates one CanaryRequest, after saying what it does to traffic.

What may raise exposure needs a reason and a yes; what cannot is asked for at once. The controller decides: no word of a
person overrules evidence, and its answer is printed as it stands.
"""

import subprocess
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from datetime import timedelta

from canary.api.reasons import Phase, Verb
from canary.cli.arguments import (
    access_of,
    add_access,
    add_output,
    add_patience,
    add_switch,
    add_target,
    add_text,
    add_texts,
    percentage,
    seconds,
)
from canary.cli.documents import titled
from canary.cli.exits import Exit
from canary.cli.requests import ANSWER_SECONDS, Answer, Asking, create, request_name, wait_for_answer
from canary.cli.session import Session
from canary.cli.targets import Found, find, parse_target
from canary.cli.terminal import Terminal
from canary.core.telling.explain import HEARTBEAT_STALE_SECONDS, MAX_ATTEMPTS, change_words
from canary.core.telling.stored import Raw, StoredRun, ppm_of, under, weaker_fields_of
from canary.core.telling.wording import duration, no_such_step, plain, share
from canary.errors import RefusedError, UnavailableError
from canary.kube.resources import CANARYPOLICIES

MIN_BYPASS_REASON = 30  # characters
MIN_REVIEW_REASON = 20  # characters: an approval says what was read
LOWERING = frozenset({Verb.HOLD, Verb.REJECT})  # cannot raise exposure: no question is asked
REVIEWS = frozenset({Verb.APPROVE, Verb.REJECT})


def configure(verb: str, parser: ArgumentParser) -> None:
    add_target(parser)
    add_text(parser, "--reason", "TEXT", "why; stands in the record")
    if verb == Verb.PROMOTE:
        parser.add_argument(
            "--to", type=percentage, metavar="PERCENT", help="go to this share and no further"
        )
    if verb == Verb.APPROVE:
        add_texts(parser, "--accept", "FINDING", "finding of a known failure pattern")
        add_text(parser, "--key", "FILE", "security key (sk-*) to sign with: touch it")
    if verb == Verb.BYPASS:
        parser.add_argument(
            "--for",
            dest="lasts",
            type=seconds,
            default=3600.0,
            metavar="DURATION",
            help="default 1h, at most 4h",
        )
    if Verb(verb) not in LOWERING:
        add_switch(parser, "--yes", help="do not ask")
    add_patience(parser, ANSWER_SECONDS)
    add_switch(parser, "--dry-run", help="only say what would happen")
    add_output(parser, ("table", "json", "yaml", "name"))
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    asking = _asking(session, Verb(verb), given)
    for line in preview(asking):
        terminal.note(line)
    create(session, asking, dry_run=True)
    if given.dry_run:
        terminal.note("dry run: nothing was asked for")
        return Exit.DONE
    if asking.verb not in LOWERING and not given.yes and not terminal.ask("Continue?"):
        terminal.note("nothing was asked for")
        return Exit.USAGE
    name = create(session, asking)
    answer = wait_for_answer(session, asking.run.namespace, name, given.timeout)
    if not answer.outcome:
        raise _unanswered(session, asking, name)
    if not answer.done:
        code = "CAN-2104" if asking.verb is Verb.APPROVE else "CAN-2201"
        raise RefusedError(_refusal(asking.verb, answer.message), code=code)
    _report(asking, answer, given.output, terminal)
    return Exit.DONE


def _asking(session: Session, verb: Verb, given: Namespace) -> Asking:
    found = find(session, given.target)
    run = found.run
    named = parse_target(given.target).kind == "run"
    idle = not named and (run is None or run.final)
    if (
        verb is Verb.APPROVE
        and parse_target(given.target).kind == "policy"
        and weaker_fields_of(found.policy)
    ):
        return approval_of_text(session, given, found.policy or {}, CANARYPOLICIES.kind)
    if verb is Verb.APPROVE and idle and under(found.policy, "status", "wentRound"):
        return _review(found, given.reason.strip())
    if run is None:
        text = f"no change of {found.namespace}/{found.workload} is held or under way; nothing to {verb}"
        raise RefusedError(text, code="CAN-5002")
    _check_state(verb, run)
    check_reason(verb, given.reason.strip())
    extra = {"to": _step_of(run, given.to)} if verb is Verb.PROMOTE and given.to else {}
    if verb in REVIEWS:
        extra["digest"] = run.text("spec", "digest")
    if verb is Verb.APPROVE and given.accept:
        extra["accepts"] = given.accept
    if verb is Verb.BYPASS:
        extra["expiresAt"] = f"{session.now() + timedelta(seconds=given.lasts):%Y-%m-%dT%H:%M:%SZ}"
    about = f"{run.namespace}/{run.name}", run.text("spec", "digest")
    sign = signing(about, given.key, session.terminal) if verb is Verb.APPROVE and given.key else None
    return Asking(verb, run, given.reason.strip(), extra, sign=sign)


def approval_of_text(session: Session, given: Namespace, stored: Raw, kind: str) -> Asking:
    """Return the approval of a policy's weaker text; RefusedError: none waits, or the reason says too little."""
    reason, name = given.reason.strip(), plain(under(stored, "metadata", "name"), 253)
    digest = plain(under(stored, "status", "weaker", "digest"), 80)
    if not digest:
        raise RefusedError(f"no weaker text of {name or 'this policy'} waits for approval", code="CAN-2201")
    check_reason(Verb.APPROVE, reason)
    place = under(stored, "metadata", "namespace") or session.controller_namespace
    about = StoredRun(
        {"metadata": {"namespace": place, "name": name, "uid": under(stored, "metadata", "uid")}}
    )
    sign = signing((f"{place}/{name}", digest), given.key, session.terminal) if given.key else None
    fields = ", ".join(weaker_fields_of(stored))
    note = (
        f"weaker in {fields}: `kubectl get {kind.lower()} {name} -o yaml` has the text, and status.effective"
    )
    session.terminal.note(f"{note} the one that rules until enough people have approved")
    return Asking(Verb.APPROVE, about, reason, {"digest": digest}, kind=kind, sign=sign)


def _review(found: Found, reason: str) -> Asking:
    """Return the review of a version that serves and that nobody let through: its subject is the policy."""
    check_reason(Verb.APPROVE, reason)
    revision = under(found.policy, "status", "wentRound", "revision")
    about = StoredRun({"metadata": under(found.policy, "metadata"), "spec": {"revision": revision}})
    digest = plain(under(revision, "templateHash"), 80)
    return Asking(Verb.APPROVE, about, reason, {"digest": digest}, kind=CANARYPOLICIES.kind)


def signing(about: tuple[str, str], key: str, terminal: Terminal) -> Callable[[str], str]:
    """Return what signs, for a user, an approval of something: its namespace/name and its digest."""
    from canary.core.rules.approvals import signed_text  # with the models, which no other verb here needs

    def sign(requester: str) -> str:
        subject, digest = about
        return _touched(terminal, key, signed_text(Verb.APPROVE.value, subject, digest, requester))

    return sign


def _touched(terminal: Terminal, key: str, text: str) -> str:
    """Let ssh-keygen sign the text with a security key; the person touches it."""
    terminal.note("touch your security key now")
    command = ["ssh-keygen", "-Y", "sign", "-n", "canary-controller.io/approval", "-f", key]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedError(f"cannot sign with {key}: {error}", code="CAN-2105") from error
    if done.returncode:
        raise RefusedError(f"cannot sign with {key}: {done.stderr.strip()[:300]}", code="CAN-2105")
    return done.stdout


def _step_of(run: StoredRun, share_text: str) -> str:
    """Return the share that was given. Raise RefusedError where no step to come has it."""
    missing = no_such_step(ppm_of(share_text), [step.weight_ppm for step in run.steps[run.begun :]])
    if missing:
        raise RefusedError(f"{missing}. See `canary status {run.namespace}/{run.workload}`", code="CAN-2007")
    return share_text


def _check_state(verb: Verb, run: StoredRun) -> None:
    where = f"`canary status {run.namespace}/{run.workload}`"
    if verb is Verb.RETRY:
        if run.phase == Phase.PROMOTED:
            raise RefusedError(f"{run.new} was promoted; nothing to retry. See {where}", code="CAN-5002")
        if not run.final:
            raise RefusedError(
                f"the run is {run.phase}: retry is for one that is over. See {where}", code="CAN-5002"
            )
        if run.attempt >= MAX_ATTEMPTS:
            text = f"attempt {run.attempt} of {MAX_ATTEMPTS} was the last of this change: push a fix. See {where}"
            raise RefusedError(text, code="CAN-5002")
        return
    may = run.bypassed if verb is Verb.APPROVE else verb is Verb.BYPASS and run.way_back_ppm > 0
    if run.final and not may:  # a bypass is reviewed when it is over; what was created anew may be accepted
        text = f"the run is {run.phase}; nothing to {verb}. {where} shows it"
        raise RefusedError(text, code="CAN-5001" if run.phase == Phase.SUPERSEDED else "CAN-5002")


def check_reason(verb: Verb, reason: str) -> None:
    """Raise RefusedError where a reason does not say enough for what is asked."""
    if verb in REVIEWS and len(reason) < MIN_REVIEW_REASON:
        text = f"say in {MIN_REVIEW_REASON} characters or more what you read and why: --reason TEXT"
        raise RefusedError(text, code="CAN-2102")
    if verb is Verb.BYPASS and len(reason) < MIN_BYPASS_REASON:
        text = f"say in {MIN_BYPASS_REASON} characters or more what is at stake and who knows of it: --reason TEXT"
        raise RefusedError(text, code="CAN-2102")
    if verb is not Verb.HOLD and not reason:
        raise RefusedError(f"say why you {verb}: --reason TEXT. It stands in the record", code="CAN-2102")


def preview(asking: Asking) -> list[str]:
    """Return what is asked, of whose change, and what it does to traffic."""
    run, verb = asking.run, asking.verb
    if asking.kind == CANARYPOLICIES.kind and not under(run.raw, "spec", "revision"):
        return [
            "effect: with enough approvals the text is in force; a run under way ends, another begins by it"
        ]
    if asking.kind == CANARYPOLICIES.kind:
        effect = "none on traffic: two people's review lets the next change begin, and makes it the last good version"
        return [
            f"{run.new} serves {run.namespace}/{run.name}, and nobody let it through",
            f"effect: {effect}",
        ]
    lines = [f"{run.workload} {run.new} ({change_words(run)})  {run.namespace}, run {run.name}, {run.phase}"]
    if verb in REVIEWS:
        for name, field in (("what", "what"), ("why", "why"), ("rollback", "rollbackPlan")):
            text = run.text("spec", "change", field) or "not said"
            lines += textwrap.wrap(f"{name}: {text}", 79, subsequent_indent="  ", max_lines=6)
    if verb is Verb.APPROVE:
        lines += _what_is_there(asking)
    return [*lines, f"effect: {_effect(asking)}"]


def _what_is_there(asking: Asking) -> list[str]:
    """Say who approved, what a senior has to accept, and what of it this approval accepts."""
    run, lines = asking.run, list[str]()
    if run.approvals_wanted:
        given = f": {', '.join(run.approvers)}" if run.approvers else ""
        seniors = f" (seniors: {run.seniors_wanted})" if run.seniors_wanted else ""
        lines.append(f"approvals {run.approvals}/{run.approvals_wanted}{seniors}{given}, and yours")
    accepted = asking.extra.get("accepts", [])
    for finding in run.findings:
        note = "accepted by you" if finding.id in accepted else finding.strength
        lines += textwrap.wrap(f"found {finding.id} ({note}): {finding.message}", 79, subsequent_indent="  ")
    return lines


def _effect(asking: Asking) -> str:
    run = asking.run
    match asking.verb:
        case Verb.HOLD:
            return f"stays at {share(run.asked_ppm)}; the evidence is watched on, and may still roll back"
        case Verb.REJECT:
            return f"the run ends; {run.old} serves 100 %"
        case Verb.RETRY:
            return f"{run.new} is tried again from no traffic on, with fresh evidence; approvals are void"
        case Verb.BYPASS if run.final:
            return (
                f"{run.workload} gets its traffic as it stands, when all its pods are ready. "
                "People are paged, and no other change of it begins before two others have reviewed this"
            )
        case Verb.BYPASS:
            return (
                "no approval, freeze or limit holds it for that time; evidence against it still takes it back. "
                "People are paged, and no other change of it begins before two others have reviewed this"
            )
        case Verb.APPROVE if run.final:
            return "none on traffic: two people's review of the bypass lets the next change begin"
        case Verb.RESUME if run.phase == Phase.PAUSED:
            return f"{run.new} starts over at {_step_share(run, 0)} once its gates are open"
        case Verb.PROMOTE if asking.extra.get("to"):
            to = share(ppm_of(asking.extra["to"]))
            return f"{run.new} may go on to {to}, each step by its evidence, and no further"
        case _:
            now = share(run.asked_ppm)
            return f"{now} now; {_step_share(run, run.begun)} of traffic goes to {run.new} once its evidence suffices"


def _step_share(run: StoredRun, index: int) -> str:
    if not run.steps:
        return "the first step"
    return share(run.steps[min(index, len(run.steps) - 1)].weight_ppm)


def _refusal(verb: Verb, message: str) -> str:
    said = message or "no reason was given"
    return said if said.startswith(f"{verb} refused") else f"{verb} refused: {said}"


def _unanswered(session: Session, asking: Asking, name: str) -> UnavailableError:
    heartbeat = session.heartbeat_seconds()
    stands = f"The request {name} stands and is answered as soon as one is back"
    if heartbeat is not None and heartbeat > HEARTBEAT_STALE_SECONDS:
        way = f". `canary abort {asking.run.workload} --now` works without it" if asking.run.exposed else ""
        return UnavailableError(f"no controller for {duration(heartbeat)}. {stands}{way}", code="CAN-3001")
    text = f"no controller answered in time. {stands}. Check: `canary status {asking.run.workload}`"
    return UnavailableError(text, code="CAN-3002")


def _report(asking: Asking, answer: Answer, form: str, terminal: Terminal) -> None:
    document = titled(
        "request",
        request=answer.request,
        namespace=asking.run.namespace,
        run=asking.run.name,
        verb=asking.verb.value,
        outcome=answer.outcome,
        message=answer.message,
    )
    terminal.show(form, document, [f"{asking.verb}: {answer.message}"], request_name(answer.request))
