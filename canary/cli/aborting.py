"""`canary abort`: all traffic back to the old version, whatever else is down.

The controller is asked first. If its heartbeat is stale, or the routes are not at 0 within a few seconds, or nothing of
ours can be read at all, this takes the side out of the routes itself. `--now` does so before anything else. No prompt,
no reason, no approval; a second abort is as good as the first.
"""

import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from canary.api.reasons import AFTER_COMMIT, Phase, Verb
from canary.cli.arguments import (
    access_of,
    add_access,
    add_output,
    add_patience,
    add_switch,
    add_target,
    add_text,
)
from canary.cli.brakes import Grip, exposing, grip_of_routes, grip_of_run, pull
from canary.cli.documents import titled
from canary.cli.exits import Exit
from canary.cli.requests import Asking, answer_of, create, request_name, wait_for_answer
from canary.cli.session import Session
from canary.cli.targets import Found, find, parse_target
from canary.cli.terminal import Terminal
from canary.core.telling.explain import HEARTBEAT_STALE_SECONDS
from canary.core.telling.stored import StoredRun
from canary.core.telling.wording import duration
from canary.errors import CanaryError, RefusedError, UnavailableError

PATIENCE_SECONDS = 3.0  # unless --timeout says otherwise
POLL_SECONDS = 0.15
AMBIGUOUS, UNREACHABLE, NOT_LOGGED_IN = "CAN-2001", "CAN-1001", "CAN-1202"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, and by whom."""

    request: str
    by: str  # controller, or this command
    message: str
    seconds: float


def configure(verb: str, parser: ArgumentParser) -> None:
    add_target(parser)
    add_switch(parser, "--now", help="write the route first, then tell the controller")
    add_text(parser, "--reason", "TEXT", "why; stands in the record")
    add_patience(parser, PATIENCE_SECONDS)
    add_switch(parser, "--dry-run", help="only say what would happen")
    add_output(parser, ("table", "json", "yaml", "name"))
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    started = time.monotonic()
    session = Session(access_of(given), terminal)
    subject = _subject(session, given.target)
    if subject.run is not None and subject.run.final and not subject.run.exposed:
        return _already_over(subject.run, terminal)
    grip = _grip(session, subject)
    if given.dry_run:
        terminal.note(_plan(subject, grip))
        return Exit.DONE
    abort = _Abort(session, subject, grip, given)
    outcome = abort.now() if given.now else abort.ask()
    _report(subject, outcome, time.monotonic() - started, given.output, terminal)
    return Exit.DONE


def _subject(session: Session, target: str) -> Found:
    """Find the run; where it cannot be read, go on with the name alone."""
    try:
        return find(session, target)
    except CanaryError as error:
        if error.code in (AMBIGUOUS, UNREACHABLE, NOT_LOGGED_IN):
            raise
        session.terminal.note(f"no run can be read ({error}); looking at the routes")
        asked = parse_target(target)
        return Found(asked.namespace or session.namespace, asked.name, None, None)


def _already_over(run: StoredRun, terminal: Terminal) -> Exit:
    if run.phase == Phase.SUPERSEDED:
        text = (
            f"superseded: {run.message}; nothing to abort. `canary status {run.workload}` shows the new run"
        )
        raise RefusedError(text, code="CAN-5001")
    if run.phase == Phase.PROMOTED:
        text = f"{run.new} was promoted and serves 100 %; nothing to abort. To go back, apply the old manifest again"
        raise RefusedError(text, code="CAN-5004")
    terminal.lines([f"nothing left to abort: the run is {run.phase}, {run.old} serves 100 %"])
    return Exit.DONE


def _grip(session: Session, subject: Found) -> Grip | None:
    run = subject.run
    if run is not None and run.phase in AFTER_COMMIT:
        return None
    by_status = grip_of_run(run) if run is not None else None
    return by_status or grip_of_routes(
        session, subject.namespace, run.service if run is not None else subject.workload
    )


def _plan(subject: Found, grip: Grip | None) -> str:
    if grip is None or not grip.places:
        return f"would ask the controller to end the run of {subject.workload}; no route names its side"
    routes = ", ".join(name for _, name in grip.routes)
    return f"would take {grip.side} out of {routes} in {grip.namespace}: all traffic to {grip.stable}"


class _Abort:
    """One abort, from the first read to the proof that no route gives the side any weight."""

    def __init__(self, session: Session, subject: Found, grip: Grip | None, given: Namespace) -> None:
        self._session = session
        self._subject = subject
        self._grip = grip
        self._reason = given.reason
        self._patience_seconds = given.timeout
        self._started = time.monotonic()

    def now(self) -> Outcome:
        """The route first; the controller hears of it afterwards, so that it ends the run."""
        grip = self._grip
        if grip is None or not grip.places:
            return self.ask()
        pull(self._session, grip)
        seconds = self._seconds()
        return Outcome(self._request(), "this command", _gone(grip), seconds)

    def ask(self) -> Outcome:
        """The controller first, and the brake where it does not act."""
        heartbeat = self._session.heartbeat_seconds()
        stale = heartbeat is not None and heartbeat > HEARTBEAT_STALE_SECONDS
        name, grip = self._request(), self._grip
        if grip is None or not grip.places:
            return self._only_ask(name)
        if not name:
            why = "the controller does not know"
        elif stale:
            why = f"no controller for {duration(heartbeat)}"
        elif self._seen_at_zero(grip, name):
            return Outcome(name, "controller", _gone(grip), self._seconds())
        else:
            why = f"the controller did not act within {duration(self._patience_seconds)}"
        self._session.terminal.note(f"{why}: taking the side out of the route from here")
        pull(self._session, grip)
        return Outcome(name, "this command", _gone(grip), self._seconds())

    def _request(self) -> str:
        """Create the request; an abort goes on without it."""
        run = self._subject.run
        if run is None:
            return ""
        try:
            return create(self._session, Asking(Verb.ABORT, run, self._reason))
        except CanaryError as error:
            self._session.terminal.note(f"the controller could not be asked: {error}")
            return ""

    def _seen_at_zero(self, grip: Grip, name: str) -> bool:
        """Wait until no route gives the side any weight; an API server that does not answer has not shown it."""
        while True:
            try:
                if not any(exposing(self._session, grip)):
                    return True
                refused = answer_of(self._session, grip.namespace, name).outcome == "Refused"
            except CanaryError as error:
                self._session.terminal.note(str(error))
                return False
            if refused or self._seconds() > self._patience_seconds:
                return False
            time.sleep(POLL_SECONDS)

    def _only_ask(self, name: str) -> Outcome:
        """Nothing has traffic, or only the controller can take it back: its answer is all there is to wait for."""
        subject, run = self._subject, self._subject.run
        if run is None or not name:
            raise RefusedError(
                f"no route of {subject.namespace} leads to a side of {subject.workload or 'anything'}: "
                "nothing to abort. `canary list -A` shows all runs",
                code="CAN-5002",
            )
        answer = wait_for_answer(self._session, subject.namespace, name, self._patience_seconds)
        if answer.outcome:
            return Outcome(name, "controller", answer.message, self._seconds())
        if run.phase in AFTER_COMMIT:
            text = (
                "the commit has begun, and only a controller can take it back now; none answers. The request "
            )
            raise UnavailableError(
                text + "stands. To go back by hand, apply the old manifest again", code="CAN-5003"
            )
        text = f"no controller answers; {run.old} serves 100 %, {run.new} has no traffic. The request stands"
        return Outcome(name, "nobody yet", text, self._seconds())

    def _seconds(self) -> float:
        return time.monotonic() - self._started


def _gone(grip: Grip) -> str:
    routes = ", ".join(name for _, name in grip.routes)
    return f"all traffic goes to {grip.stable}; {grip.side} has none in {routes}"


def _report(subject: Found, outcome: Outcome, seconds: float, form: str, terminal: Terminal) -> None:
    document = titled(
        "abort",
        namespace=subject.namespace,
        workload=subject.workload,
        run=subject.run.name if subject.run is not None else "",
        request=outcome.request,
        by=outcome.by,
        message=outcome.message,
        seconds=round(seconds, 3),
    )
    line = f"aborted by {outcome.by} in {duration(seconds)}: {outcome.message}"
    terminal.show(form, document, [line], request_name(outcome.request))
