"""`canary safety status`: what rules, whom it covers, when it ends, who waits, who went round it.

Enter: the safety policies, the runs and the requests of the cluster. Leaves: a table or a document that a director can
read. `canary safety resume NAME` asks for the end of the brake, `approve NAME` for a weaker text to come into force;
both in the controller's own namespace, where few may ask.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from canary.api.reasons import Reason, Verb
from canary.cli.acting import approval_of_text, check_reason
from canary.cli.arguments import access_of, add_access, add_output, add_patience, add_switch, add_text
from canary.cli.documents import titled
from canary.cli.exits import Exit
from canary.cli.requests import ANSWER_SECONDS, Asking, create, wait_for_answer
from canary.cli.session import Session
from canary.cli.terminal import Terminal, aligned
from canary.core.telling.stored import Raw, StoredRun, said_by, under, weaker_fields_of, whole
from canary.core.telling.wording import age, moment, plain, seconds_between
from canary.errors import RefusedError, UnavailableError
from canary.kube.resources import CANARYREQUESTS, SAFETYPOLICIES

BYPASS_DAYS = 7
COLUMNS = ("POLICY", "IN FORCE", "HELD", "ENDS", "THEN", "BRAKE", "SAYS")


@dataclass(frozen=True, slots=True)
class Ruling:
    """One safety policy in a row."""

    policy: str
    inForce: bool
    held: int
    expected: int | None
    endsAt: str
    secondsLeft: float | None
    then: str
    brake: str
    weaker: list[str]
    """Fields in which the text as written is weaker than the approved one, which rules until people agree."""
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that waits for approval."""

    workload: str
    run: str
    seconds: float
    message: str


@dataclass(frozen=True, slots=True)
class Bypass:
    """A change that went round the judgement."""

    workload: str
    requester: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Looser:
    """A CanaryPolicy whose looser text waits for approval."""

    policy: str
    fields: list[str]
    missing: str
    way: str


def configure(verb: str, parser: ArgumentParser) -> None:
    deeds = ("status", "resume", "approve")
    parser.add_argument("deed", choices=deeds, metavar="DEED", help="status, resume or approve")
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="a safety policy; absent: all")
    add_text(parser, "--reason", "TEXT", "resume, approve: why; stands in the record")
    add_text(parser, "--key", "FILE", "approve: security key (sk-*) to sign with")
    add_switch(parser, "--yes", help="resume, approve: do not ask")
    add_patience(parser, ANSWER_SECONDS)
    add_output(parser, ("table", "json", "yaml"))
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    with session.asking("list", "safetypolicies", None):
        stored = session.client.list(SAFETYPOLICIES)
    named = [each for each in stored if given.name in ("", under(each, "metadata", "name"))]
    if given.name and not named:
        known = ", ".join(plain(under(each, "metadata", "name"), 64) for each in stored) or "none"
        raise RefusedError(f"there is no safety policy {given.name}; there are: {known}", code="CAN-2002")
    if given.deed == "status":
        return _status(session, given, named)
    return _asked(session, given, named)


# -- status --------------------------------------------------------------------------------------------------------


def _status(session: Session, given: Namespace, policies: Sequence[Raw]) -> Exit:
    now = session.now()
    rulings = [ruling_of(each, now) for each in policies]
    waits, bypasses = waiting(session.runs(None), now), _bypasses(session, now)
    document = titled(
        "safety",
        policies=[asdict(each) for each in rulings],
        waiting=[asdict(each) for each in waits],
        bypasses=[asdict(each) for each in bypasses],
    )
    looser = _looser(session)
    document["looser"] = [asdict(each) for each in looser]
    lines = [*_table(rulings), *_weaker(rulings), *_footer(waits, bypasses)]
    lines += [f"looser policies that wait: {len(looser)}"] if looser else []
    lines += [f"  {e.policy} ({', '.join(e.fields)}): {e.missing}; `{e.way}`" for e in looser[:8]]
    session.terminal.show(given.output, document, lines)
    return Exit.DONE


def ruling_of(stored: Raw, now: datetime) -> Ruling:
    """Return a stored safety policy as a row; what is not known is empty."""
    expected = under(stored, "spec", "appliesTo", "expected")
    ends = moment(under(stored, "spec", "expiresAt"))
    return Ruling(
        policy=plain(under(stored, "metadata", "name"), 64),
        inForce=under(stored, "status", "inForce") is True,
        held=whole(under(stored, "status", "covered")),
        expected=expected if isinstance(expected, int) else None,
        endsAt=f"{ends:%Y-%m-%dT%H:%M:%SZ}" if ends is not None else "",
        secondsLeft=(ends - now).total_seconds() if ends is not None else None,
        then=plain(under(stored, "spec", "onExpiry", "fallback"), 64),
        brake=plain(under(stored, "status", "brake", "message"), 160),
        weaker=weaker_fields_of(stored),
        message=plain(said_by(stored), 160) or "no controller has looked at it yet",
    )


def waiting(runs: Sequence[StoredRun], now: datetime) -> list[Waiting]:
    """Return the runs that wait for approval, the longest first."""
    found = [each for each in runs if each.reason == Reason.APPROVALS_MISSING and not each.final]
    waits = [
        Waiting(
            f"{run.namespace}/{run.workload}",
            run.name,
            seconds_between(run.at("stepStartedAt") or run.at("phaseStartedAt"), now) or 0.0,
            run.message,
        )
        for run in found
    ]
    return sorted(waits, key=lambda each: -each.seconds)


def _looser(session: Session) -> list[Looser]:
    found: list[Looser] = []
    for each in session.policies(None):
        name, place = (plain(under(each, "metadata", key), 253) for key in ("name", "namespace"))
        if fields := weaker_fields_of(each):
            missing = plain(under(each, "status", "weaker", "missing"), 160)
            found.append(Looser(f"{place}/{name}", fields, missing, f"canary approve {place}/policy/{name}"))
    return found


def _bypasses(session: Session, now: datetime) -> list[Bypass]:
    with session.asking("list", "canaryrequests", None):
        requests = session.client.list(CANARYREQUESTS)
    found: list[Bypass] = []
    for each in requests:
        spec, asked = under(each, "spec"), moment(under(each, "metadata", "creationTimestamp"))
        seconds = seconds_between(asked, now)
        done = under(spec, "verb") == Verb.BYPASS and under(each, "status", "outcome") == "Done"
        if done and seconds is not None and seconds <= BYPASS_DAYS * 86_400:
            where = f"{under(each, 'metadata', 'namespace')}/{under(spec, 'subject', 'name')}"
            who, why = plain(under(spec, "requester"), 64), plain(under(spec, "reason"), 120)
            found.append(Bypass(plain(where, 120), who, why, seconds))
    return sorted(found, key=lambda each: each.seconds)


def _table(rulings: Sequence[Ruling]) -> list[str]:
    if not rulings:
        return ["no safety policy is written: nothing asks for approvals, limits or freezes"]
    rows = [
        (
            each.policy,
            "yes" if each.inForce else "no",
            f"{each.held}" + (f"/{each.expected}" if each.expected is not None else ""),
            "never" if each.secondsLeft is None else _ends(each.secondsLeft),
            each.then or "-",
            "ON" if each.brake else "off",
            each.message,
        )
        for each in rulings
    ]
    return aligned(COLUMNS, rows)


def _weaker(rulings: Sequence[Ruling]) -> list[str]:
    """Say which texts are weaker than what rules, and what puts them in force."""
    return [
        f"{each.policy}: a weaker text waits ({', '.join(each.weaker)}); `canary safety approve {each.policy}`"
        for each in rulings
        if each.weaker
    ]


def _ends(seconds: float) -> str:
    return f"in {age(seconds)}" if seconds > 0 else f"{age(-seconds)} ago"


def _footer(waits: Sequence[Waiting], bypasses: Sequence[Bypass]) -> list[str]:
    longest = f", longest {age(waits[0].seconds)}" if waits else ""
    lines = ["", f"waiting for approval: {len(waits)}{longest}"]
    lines += [f"  {each.workload}  {age(each.seconds)}  {each.message}" for each in waits[:8]]
    lines.append(f"bypasses in {BYPASS_DAYS} days: {len(bypasses)}")
    return lines + [
        f"  {e.workload}  {age(e.seconds)} ago by {e.requester}: {e.reason}" for e in bypasses[:8]
    ]


# -- resume, approve -----------------------------------------------------------------------------------------------


def _asked(session: Session, given: Namespace, policies: Sequence[Raw]) -> Exit:
    """Ask for the deed about one policy, and print the answer."""
    verb = Verb(given.deed)
    if not given.name:
        raise RefusedError(f"name the safety policy: canary safety {verb} NAME")
    reason, ruling = given.reason.strip(), ruling_of(policies[0], session.now())
    check_reason(verb, reason)
    subject = {"name": ruling.policy, "namespace": session.controller_namespace}
    about = StoredRun({"metadata": {**subject, "uid": under(policies[0], "metadata", "uid")}})
    asking = Asking(verb, about, reason, kind=SAFETYPOLICIES.kind)
    if verb is Verb.APPROVE:
        asking = approval_of_text(session, given, policies[0], SAFETYPOLICIES.kind)
    else:
        session.terminal.note(f"brake of {ruling.policy}: {ruling.brake or 'off'}")
        session.terminal.note(
            "effect: changes that are not proved human start and rise again, by their gates"
        )
    if not given.yes and not session.terminal.ask("Continue?"):
        session.terminal.note("nothing was asked for")
        return Exit.USAGE
    answer = wait_for_answer(session, about.namespace, create(session, asking), given.timeout)
    if not answer.outcome:
        text = f"no controller answered in time; the request {answer.request} stands"
        raise UnavailableError(text, code="CAN-3002")
    if not answer.done:
        raise RefusedError(f"{verb} refused: {answer.message}", code="CAN-2201")
    session.terminal.lines([f"{verb}: {answer.message}"])
    return Exit.DONE
