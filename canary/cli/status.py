"""`canary status`: one run, the answer first; with -w until the run is over.

Enters: a target. Leaves: the screen of `core.screen`, or the same facts as JSON, YAML, Markdown or JUnit.
"""

import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from canary.cli import documents
from canary.cli.arguments import access_of, add_access, add_output, add_switch, add_target
from canary.cli.exits import Exit
from canary.cli.live import Picture, follow
from canary.cli.session import Session
from canary.cli.targets import Found, find
from canary.cli.terminal import Terminal
from canary.core.telling.explain import Line, Scene
from canary.core.telling.overview import idle_standing, newest
from canary.core.telling.screen import COLUMNS, status_lines
from canary.core.telling.stored import StoredRun, entries, under, weaker_fields_of
from canary.core.telling.wording import age, moment, plain, seconds_between, table
from canary.errors import CanaryError

FORMATS = ("table", "wide", "json", "yaml", "name", "md", "junit")


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.epilog = "steps: + passed, < under way, x taken back, ? waits for a person before it begins"
    add_target(parser)
    add_switch(parser, "-w", "--watch", help="keep the screen up to date until the run is over")
    add_output(parser, FORMATS)
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    found = find(session, given.target)
    if found.run is None:
        _idle(found, given.output, terminal)
    elif given.watch:
        _follow(session, found, found.run)
    else:
        _once(session, found.run, given.output)
    if given.output in ("table", "wide") and (fields := weaker_fields_of(found.policy)):
        way = f"canary approve {found.namespace}/policy/{plain(under(found.policy, 'metadata', 'name'), 253)}"
        terminal.note(f"a weaker text of its policy waits for approval ({', '.join(fields)}): `{way}`")
    return Exit.DONE


def scene_of(session: Session, run: StoredRun) -> Scene:
    """Return the scene; the heartbeat is asked for only where somebody might be in danger."""
    heartbeat = session.heartbeat_seconds() if run.exposed and not run.final else None
    scene = Scene(session.now(), session.cluster, heartbeat)
    return replace(scene, taken_out=_taken_out(session, run)) if scene.nobody_judges else scene


def _taken_out(session: Session, run: StoredRun) -> bool:
    """Look at the routes themselves: without a controller the record says nothing of an abort by hand."""
    from canary.cli.brakes import exposing, grip_of_run

    grip = grip_of_run(run)
    try:
        return grip is not None and set(exposing(session, grip)) == {False}
    except CanaryError:
        return False


def _once(session: Session, run: StoredRun, form: str) -> None:
    terminal, scene = session.terminal, scene_of(session, run)
    match form:
        case "md":
            lines = documents.status_markdown(run, scene)
        case "junit":
            lines = documents.junit(run)
        case _:
            lines = status_lines(run, scene)
            lines += map(Line, _conditions(run, scene.now) if form == "wide" else [])
    terminal.show(form, documents.status_document(run, scene), lines, documents.run_name(run.name))


def _conditions(run: StoredRun, now: datetime) -> list[str]:
    """Return what holds and for how long; the sentence of all of them is the one of the screen."""
    rows = [
        (
            plain(entry.get("type"), 20),
            plain(entry.get("status"), 8),
            age(seconds_between(moment(entry.get("lastTransitionTime")), now)),
        )
        for entry in entries(run.raw, "status", "conditions")
    ]
    return table([("condition", "status", "for"), *rows]) if rows else []


def _idle(found: Found, form: str, terminal: Terminal) -> None:
    """A workload without a run: say what serves, or why nothing is protected."""
    standing = idle_standing(found.policy)
    document = documents.titled(
        "status",
        namespace=found.namespace,
        workload=found.workload,
        run="",
        phase="Idle",
        standing=standing.text,
        tone=standing.tone.value,
        message=standing.text,
    )
    wrapped = [Line(part, standing.tone) for part in textwrap.wrap(standing.text, COLUMNS)]
    terminal.show(form, document, [f"{found.workload}  {found.namespace}", *wrapped])


def _follow(session: Session, found: Found, first: StoredRun) -> None:
    """Follow the workload's newest run from here on: a newer change takes its place on the screen."""

    def draw(runs: Sequence[StoredRun]) -> Picture:
        mine = [run for run in newest(runs) if run.workload == found.workload] or [first]
        run = mine[0]
        lines = status_lines(run, scene_of(session, run))
        version = under(run.raw, "metadata", "resourceVersion")
        return Picture(lines, f"{run.uid} {version}", run.final)

    follow(session, found.namespace, draw)
