"""`canary audit`: what is on record, one record whole, whether the chain holds, and all of it for an auditor.

Enters: the address of the audit (the controller's `--audit`), or, without one, the runs that the cluster still holds;
these are the same records, but for the chain: they prove nothing. `verify` exits with 1 where anything is wrong.
"""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from canary.api.read import InvalidObject
from canary.audit.chain import Record, parse_head, readable, verify
from canary.audit.entries import RecordKind, due, entry_of
from canary.audit.sheet import COLUMNS, cells, csv_lines, page, summary
from canary.audit.store import open_store
from canary.audit.words import Witnesses, unsaid
from canary.cli.arguments import access_of, add_access, add_output, add_switch, add_text, add_texts
from canary.cli.documents import titled
from canary.cli.exits import Exit
from canary.cli.session import Session
from canary.cli.terminal import Terminal, aligned
from canary.core.decision import Limits, change
from canary.core.telling.stored import StoredRun
from canary.core.telling.wording import moment
from canary.errors import RefusedError
from canary.kube.resources import CANARYREQUESTS
from canary.operator.objects import run_of
from canary.operator.people import read_people

ACTIONS = ("list", "show", "verify", "export")
ADDRESS = "CANARY_AUDIT"
MAX_LISTED = 200
MAX_FAULTS = 8  # that are said at once


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=f"one of {', '.join(ACTIONS)}")
    parser.add_argument(
        "what", nargs="?", default="", metavar="WHAT", help="NAMESPACE/NAME of a workload, a run, or a number"
    )
    add_text(parser, "--audit", "ADDRESS", f"as the controller has it; absent: ${ADDRESS}")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="bearer token of an https audit")
    parser.add_argument(
        "--from", dest="since", type=day, metavar="TIME", help="not before: 2026-03-05, or RFC 3339"
    )
    parser.add_argument(
        "--to", dest="until", type=last_moment, metavar="TIME", help="not after; a day ends with it"
    )
    kinds = [kind.value for kind in RecordKind]
    parser.add_argument("--kind", choices=kinds, metavar="KIND", help=f"only these: {', '.join(kinds)}")
    _add_proofs(parser)
    add_output(parser, ("table", "json", "csv"))
    add_access(parser)


def _add_proofs(parser: ArgumentParser) -> None:
    add_texts(parser, "--head", "HEAD", "verify: a head that a page showed; repeat")
    add_switch(parser, "--runs", help="verify: also against the records that the runs in the cluster name")
    add_switch(
        parser,
        "--requests",
        help="verify: also whether the requests in the cluster say what approvals and bypasses on record say",
    )
    parser.add_argument(
        "--people",
        type=Path,
        metavar="FILE",
        help="verify --requests: who is who, as the controller has it; their security keys are checked again",
    )


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    given.audit = given.audit or os.environ.get(ADDRESS, "")
    if given.action == "verify":
        return _verify(given, terminal)
    records = _chosen(_records(given, terminal), given)
    if given.action == "show":
        return _show(records, given, terminal)
    if given.action == "list":
        newest = list(records)[-MAX_LISTED:]
        _print(newest, given.output, terminal)
        return Exit.DONE
    _print(records, given.output, terminal)
    return Exit.DONE


# -- where they are ------------------------------------------------------------------------------------------------


def _records(given: Namespace, terminal: Terminal) -> Iterable[Record]:
    if given.audit:
        return readable(open_store(given.audit, given.token_file).lines())
    terminal.note("no --audit: these are the runs that the cluster still holds, and no chain proves them")
    session = Session(access_of(given), terminal)
    found = _of_runs(session.runs(given.namespace or None), terminal)
    return sorted(found, key=lambda record: str(record["at"]))


def _of_runs(runs: Iterable[StoredRun], terminal: Terminal) -> Iterator[Record]:
    """Yield the records that the runs would have left; one that cannot be read is said and left out."""
    for stored in runs:
        try:
            found = run_of(stored.raw, Limits())
        except InvalidObject as error:
            terminal.note(f"{error.code} run {stored.namespace}/{stored.name} is left out: {error}")
            continue
        unrecorded = change(found.status, audit=type(found.status.audit)())
        yield from (entry_of(found, each) for each in due(unrecorded))


def _chosen(records: Iterable[Record], given: Namespace) -> Iterator[Record]:
    for record in records:
        at = moment(record.get("at"))
        early = given.since is not None and (at is None or at < given.since)
        late = given.until is not None and (at is None or at > given.until)
        kind = given.kind in (None, record.get("kind"))
        if kind and not early and not late and given.what in _names(record):
            yield record


def _names(record: Record) -> set[str]:
    workload = str(record.get("workload"))
    return {
        "",
        workload,
        f"{record.get('namespace')}/{workload}",
        str(record.get("run")),
        str(record.get("sequence")),
    }


# -- what is said --------------------------------------------------------------------------------------------------


def _show(records: Iterable[Record], given: Namespace, terminal: Terminal) -> Exit:
    if not given.what:
        raise RefusedError("say which record: a number or a run of `canary audit list`", code="CAN-2009")
    found = list(islice(records, MAX_LISTED))
    if not found:
        raise RefusedError(f"nothing of {given.what[:80]!r} is on record", code="CAN-2009")
    if given.output != "table":
        _print(found, given.output, terminal)
        return Exit.DONE
    for number, record in enumerate(found):
        terminal.lines([*([""] if number else []), *page(record)])
    return Exit.DONE


def _print(records: Iterable[Record], form: str, terminal: Terminal) -> None:
    if form == "csv":
        # Past `lines`, which cuts: its cells are plain, and may be long.
        terminal.out.writelines(f"{line}\n" for line in csv_lines(records))
        return
    found = list(records)
    if form == "json":
        terminal.json(titled("audit", records=found))
        return
    terminal.lines([*aligned(COLUMNS, [cells(each) for each in found]), summary(found)])


def _verify(given: Namespace, terminal: Terminal) -> Exit:
    if not given.audit:
        raise RefusedError(
            f"nothing to verify: give the controller's --audit, here or as ${ADDRESS}; runs alone are no chain",
            code="CAN-2008",
        )
    runs = Session(access_of(given), terminal).runs(given.namespace or None) if given.runs else []
    named = [run.audit_head for run in runs if run.audit_head]
    outside = [parse_head(text) for text in (*given.head, *named)]
    store = open_store(given.audit, given.token_file)
    found = verify(store.lines(), outside)
    fault = found.fault or ("" if found.records else "the audit holds no record")
    if given.requests and not fault:
        fault = "; ".join(islice(_unsaid(given, readable(store.lines()), terminal), MAX_FAULTS))
    if given.output == "json":
        head = str(found.head)
        terminal.json(titled("verified", records=found.records, head=head, heads=len(outside), fault=fault))
        return Exit.FAILED if fault else Exit.DONE
    held = f"{found.records} records hold, head {found.head}"
    against = (
        f"; {len(outside)} heads from outside agree"
        if outside
        else "; no head from outside was given (--head)"
    )
    terminal.lines([f"BROKEN: {fault}", held] if fault else [held + against])
    return Exit.FAILED if fault else Exit.DONE


def _unsaid(given: Namespace, records: Iterable[Record], terminal: Terminal) -> Iterator[str]:
    """Yield what the records say that people said, and the requests in the cluster do not."""
    session, namespace = Session(access_of(given), terminal), given.namespace or None
    people = read_people(given.people) if given.people is not None else None
    with session.asking("list", "canaryrequests", namespace):
        requests = session.client.list(CANARYREQUESTS, namespace)
    runs = {(run.namespace, run.name) for run in session.runs(namespace)}
    return unsaid(records, Witnesses(requests, runs, people))


# -- flags ---------------------------------------------------------------------------------------------------------


def day(text: str) -> datetime:
    """Read a day or a moment; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no time; write 2026-03-05 or 2026-03-05T12:00:00Z") from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def last_moment(text: str) -> datetime:
    """Read the end of a period: a day is in it whole."""
    return day(text) + (
        timedelta(days=1, microseconds=-1) if len(text) == len("2026-03-05") else timedelta(0)
    )
