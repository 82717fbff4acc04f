"""`canary wait`: block until your own revision has a verdict; the exit code is the verdict.

Made for pipelines: a line a change on stdout, a code per outcome, no terminal needed. `--revision` binds it to a
commit, an image digest, a change id, a version or a template hash: somebody else's run is never taken for yours.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import dataclass

from canary.api.reasons import Phase, Reason
from canary.cli.arguments import access_of, add_access, add_output, add_switch, add_target, add_text, seconds
from canary.cli.documents import titled, verdict_document
from canary.cli.exits import Exit, exit_of_phase
from canary.cli.session import Session
from canary.cli.targets import Found, find
from canary.cli.terminal import Terminal
from canary.core.telling.explain import change_words, effect_text, lost_words, phase_words
from canary.core.telling.overview import newest
from canary.core.telling.stored import Raw, StoredRun, under
from canary.core.telling.wording import plain, share
from canary.errors import UnavailableError

POLL_SECONDS = 1.0
MIN_COMMIT = 7  # characters: fewer name too many commits
PASSED = frozenset({Phase.BAKING, Phase.COMMITTING, Phase.RETURNING})


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is waited for."""

    revision: str
    until: str  # started, verdict or promoted
    fail_on_hold: bool
    started: float
    timeout_seconds: float
    start_seconds: float

    def left(self, run: StoredRun | None) -> float:
        """Return the seconds that may still pass."""
        passed = time.monotonic() - self.started
        return (
            self.timeout_seconds if run is not None else min(self.start_seconds, self.timeout_seconds)
        ) - passed


@dataclass(frozen=True, slots=True)
class Ended:
    """How the waiting ended; without a run none began."""

    code: Exit
    run: StoredRun | None
    meaning: str


def configure(verb: str, parser: ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "--for",
        dest="until",
        choices=("promoted", "verdict", "started"),
        default="promoted",
        help="promoted: the end; verdict: the end, or its first step passed; started: it has a slice",
    )
    add_text(
        parser,
        "--revision",
        "REVISION",
        "commit, image digest, change id, version or template hash; absent: the newest run",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=2700.0, metavar="DURATION", help="in all; default 45m"
    )
    parser.add_argument(
        "--start-timeout",
        type=seconds,
        default=300.0,
        metavar="DURATION",
        help="until the run exists; default 5m",
    )
    add_switch(parser, "--fail-on-hold", help="exit 7 as soon as a person is needed")
    add_switch(parser, "--exit-zero", help="print the outcome, but exit 0: for advice only")
    add_output(parser, ("table", "json", "yaml"))
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    waiting = Waiting(
        given.revision, given.until, given.fail_on_hold, time.monotonic(), given.timeout, given.start_timeout
    )
    found = find(session, given.target)
    ended = _watch(session, found, waiting, quiet=given.output != "table")
    _report(found, ended, given.output, terminal)
    return Exit.DONE if given.exit_zero else ended.code


def _watch(session: Session, found: Found, waiting: Waiting, *, quiet: bool) -> Ended:
    """Poll until there is an outcome; an API server that does not answer is waited for, too."""
    told, trouble, last = "", "", None
    while True:
        try:
            run, trouble = _mine(session, found, waiting), ""
        except UnavailableError as error:
            run, trouble = last, str(error)
        last = run
        nothing = "" if trouble else f"no run of {found.namespace}/{found.workload} has begun yet"
        line = _progress(run) if run is not None else nothing
        if line and line != told and not quiet:
            session.terminal.lines([f"{session.now():%H:%M:%S} {line}"])
        told = line
        outcome = outcome_of(run, waiting) if run is not None else _serving(found, waiting)
        if outcome is not None:
            return Ended(outcome, run, outcome.meaning if run else "no run began, it serves already")
        if waiting.left(run) <= 0:
            return _too_late(session, run, trouble)
        time.sleep(min(POLL_SECONDS, max(0.05, waiting.left(run))))


def _mine(session: Session, found: Found, waiting: Waiting) -> StoredRun | None:
    """Return the newest run of the workload that is about the revision."""
    if found.run is not None and not waiting.revision and found.run.final:
        return found.run
    runs: Iterable[StoredRun] = session.runs(found.namespace)
    mine = [run for run in runs if run.workload == found.workload and concerns(run.raw, waiting.revision)]
    return next(iter(newest(mine)), None)


def concerns(raw: Raw, revision: str) -> bool:
    """Tell whether a run is about a commit, image digest, change id, version or template hash."""
    if not revision:
        return True
    revised, change = under(raw, "spec", "revision"), under(raw, "spec", "change")
    exact = [under(revised, "version"), under(revised, "templateHash"), under(change, "changeId")]
    if revision in exact or f"sha256:{revision}" in exact:
        return True
    images = under(revised, "images")
    named = images if isinstance(images, list) else []
    if any(isinstance(image, str) and image.endswith(("@" + revision, ":" + revision)) for image in named):
        return True
    newest_commit = plain(under(change, "sourceRange")).rpartition("..")[2].lstrip(".")
    if len(revision) < MIN_COMMIT or len(newest_commit) < MIN_COMMIT:
        return False
    return newest_commit.startswith(revision) or revision.startswith(newest_commit)


def outcome_of(run: StoredRun, waiting: Waiting) -> Exit | None:
    """Return the exit code as soon as what is waited for is there, or can come no more."""
    ended = exit_of_phase(run.phase)
    if ended is not None:
        return ended
    if waiting.until == "started" and run.exposed:
        return Exit.DONE
    if waiting.until == "verdict" and (run.begun >= 2 or run.phase in PASSED):
        return Exit.DONE
    if waiting.fail_on_hold and run.awaits_person:
        return Exit.BLIND if run.reason == Reason.BLIND else Exit.NEEDS_HUMAN
    return None


def _serving(found: Found, waiting: Waiting) -> Exit | None:
    """A revision that serves already needs no run."""
    serving = under(found.policy, "status", "serving")
    if not waiting.revision or serving is None:
        return None
    return Exit.DONE if concerns({"spec": {"revision": serving}}, waiting.revision) else None


def _too_late(session: Session, run: StoredRun | None, trouble: str) -> Ended:
    if trouble:
        session.terminal.note(trouble)
        return Ended(Exit.FAILED, run, Exit.FAILED.meaning)
    if run is None:
        text = "no run of this revision has started. Was the Deployment changed? `canary list` shows what is held"
        session.terminal.note(f"CAN-5005 {text}")
        return Ended(Exit.FAILED, None, "no run began")
    code = Exit.BLIND if run.at("analysis", "blindSince") is not None else Exit.STILL_RUNNING
    return Ended(code, run, code.meaning)


def _progress(run: StoredRun) -> str:
    """Return where the run stands, in a line that changes only when something happened."""
    head = f"run {run.name}"
    if run.final:
        worst = run.worst
        crossed = worst is not None and worst.state == "crossed"
        why = effect_text(worst) if worst is not None and crossed else run.message
        named = f"{worst.name} {why}" if worst is not None and crossed else why
        return f"{phase_words(run.phase).lower()}: {named}" + (f", {lost_words(run)} lost" if crossed else "")
    if run.exposed:
        return f"{head} for {run.new} ({change_words(run)}), slice {share(run.asked_ppm)}"
    return f"{head} for {run.new} ({change_words(run)}), {phase_words(run.phase).lower()}, no traffic"


def _report(found: Found, ended: Ended, form: str, terminal: Terminal) -> None:
    document = titled(
        "wait",
        namespace=found.namespace,
        workload=found.workload,
        exit=int(ended.code),
        meaning=ended.meaning,
        verdict=verdict_document(ended.run) if ended.run is not None else None,
    )
    terminal.show(form, document, [f"exit {int(ended.code)}: {ended.meaning}"])
