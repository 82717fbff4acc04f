"""`canary list`: every protected workload in a row, and who needs a person below.

Enter: the runs and policies of a namespace or of all. Leaves: a table, JSON, YAML, Markdown or names; with -w the
table keeps itself up to date until Ctrl-C.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from canary.api.reasons import Origin, Phase
from canary.cli import documents
from canary.cli.arguments import access_of, add_access, add_output, add_switch
from canary.cli.exits import Exit
from canary.cli.live import Picture, follow
from canary.cli.session import Session
from canary.cli.terminal import Terminal, aligned, markdown
from canary.core.telling.explain import Line, Scene
from canary.core.telling.overview import COLUMNS, IDLE, WIDE_COLUMNS, Row, footer, newest, rows
from canary.core.telling.stored import StoredRun

FORMATS = ("table", "wide", "json", "yaml", "name", "md")


def configure(verb: str, parser: ArgumentParser) -> None:
    add_switch(parser, "-A", "--all-namespaces", help="all namespaces")
    add_switch(parser, "-w", "--watch", help="keep the table up to date")
    add_switch(parser, "--history", help="finished runs, too, not only the newest of each workload")
    phases = [*(phase.value for phase in Phase), IDLE]
    parser.add_argument("--phase", choices=phases, metavar="PHASE", help=f"only these: {', '.join(phases)}")
    parser.add_argument(
        "--origin", choices=[origin.value for origin in Origin], help="only changes of this origin"
    )
    add_output(parser, FORMATS)
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    namespace = None if given.all_namespaces else session.namespace
    if given.watch:
        follow(session, namespace, lambda runs: _picture(session, runs, given))
        return Exit.DONE
    found = _rows(session, session.runs(namespace), given)
    _show(found, given.output, terminal)
    return Exit.DONE


def _rows(session: Session, runs: Sequence[StoredRun], given: Namespace) -> list[Row]:
    namespace = None if given.all_namespaces else session.namespace
    policies = [] if given.watch else session.policies(namespace)
    chosen = list(runs) if given.history else newest(runs)
    exposed = any(run.exposed and not run.final for run in chosen)
    scene = Scene(session.now(), heartbeat_seconds=session.heartbeat_seconds() if exposed else None)
    found = rows(chosen, policies, scene)
    return [row for row in found if given.phase in (None, row.phase) and given.origin in (None, row.origin)]


def _show(found: Sequence[Row], form: str, terminal: Terminal) -> None:
    if form == "name":
        terminal.lines(documents.run_name(row.run) for row in found if row.run)
        return
    plain = markdown(COLUMNS, [row.cells(wide=False) for row in found]) if form == "md" else None
    terminal.show(form, documents.list_document(found), plain or _table(found, wide=form == "wide"))


def _table(found: Sequence[Row], *, wide: bool) -> list[str]:
    if not found:
        return ["no workload is protected here. `canary list -A` shows all namespaces"]
    header = WIDE_COLUMNS if wide else COLUMNS
    return [*aligned(header, [row.cells(wide) for row in found]), footer(found)]


def _picture(session: Session, runs: Sequence[StoredRun], given: Namespace) -> Picture:
    found = _rows(session, runs, given)
    table = _table(found, wide=given.output == "wide")
    fixed = repr([(row.namespace, row.workload, row.run, row.phase, row.slice, row.verdict) for row in found])
    return Picture([Line(text) for text in table], fixed)
