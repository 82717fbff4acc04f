"""Records for people: a row of the list, a line of CSV, a page of one record, and what a period comes to.

Enter: records as they were read, perhaps tampered with; nothing here trusts their shape. Leaves: plain text. A CSV cell
that a spreadsheet would calculate stays text, since anybody writes the texts of a change. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from canary.api.reasons import Origin
from canary.audit.chain import Record
from canary.audit.entries import RecordKind
from canary.core.telling.stored import under, whole
from canary.core.telling.text import Surface, escaped
from canary.core.telling.wording import plain, share

COLUMNS = ("SEQ", "TIME", "KIND", "WORKLOAD", "VERSION", "SLICE", "BY", "REASON")
_PATHS: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("sequence", "at", "kind", "namespace", "workload", "run", "revision")},
    **{
        "version": ("version", "version"),
        "template": ("version", "template"),
        "images": ("version", "images"),
    },
    **{name: (name,) for name in ("fromPpm", "toPpm", "reason", "message", "by", "tier", "digest")},
    **{"origin": ("change", "origin"), "agents": ("change", "agents"), "authors": ("change", "authors")},
    **{"changeId": ("change", "changeId"), "what": ("change", "what"), "why": ("change", "why")},
    **{"rollbackPlan": ("change", "rollbackPlan"), "securityImpact": ("change", "securityImpact")},
    **{"sourceRepo": ("change", "sourceRepo"), "sourceRange": ("change", "sourceRange")},
    **{"verdict": ("evidence", "verdict"), "evidence": ("evidence", "message"), "lost": ("evidence", "lost")},
    **{"approvals": ("approvals",), "hash": ("hash",)},
}
CSV_COLUMNS = tuple(_PATHS)
MAX_CELL = 4096


def cells(record: Record) -> tuple[str, ...]:
    """Return a row of the list."""
    before, after = whole(record.get("fromPpm")), whole(record.get("toPpm"))
    moved = f"{share(before)} -> {share(after)}" if before != after else share(after)
    return (
        str(record.get("sequence", "-")),
        plain(record.get("at"), 40)[:19],
        plain(record.get("kind"), 16),
        f"{plain(record.get('namespace'), 63)}/{plain(record.get('workload'), 63)}",
        plain(under(record, "version", "version"), 24) or plain(under(record, "version", "template"))[7:19],
        moved if "toPpm" in record else "",
        plain(record.get("by"), 40) or "controller",
        plain(record.get("reason"), 40),
    )


def summary(records: Sequence[Record]) -> str:
    """Return what the records come to: changes, whose, how many were taken back, and what no run decided."""
    starts = {str(each.get("run")): each for each in records if each.get("kind") == RecordKind.START}
    machine = sum(under(each, "change", "origin") != Origin.HUMAN for each in starts.values())
    back = _count(records, RecordKind.ROLL_BACK)
    around = _count(records, RecordKind.BYPASS, RecordKind.UNPOLICED, RecordKind.GAP)
    return (
        f"{len(records)} records: {len(starts)} changes, {machine} of AI or of unknown origin; "
        f"{back} rolled back; {around} past the rules"
    )


def _count(records: Iterable[Record], *kinds: RecordKind) -> int:
    return sum(each.get("kind") in kinds for each in records)


def csv_lines(records: Iterable[Record]) -> Iterator[str]:
    """Yield a header and one line a record, as spreadsheets read them."""
    yield _csv_line(CSV_COLUMNS)
    for record in records:
        yield _csv_line([_text(under(record, *path)) for path in _PATHS.values()])


def _text(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(_text(each) for each in value)
    if isinstance(value, Mapping):  # an approval
        return f"{value.get('requester')} {value.get('verb')} ({value.get('reason')})"
    return str(value) if value is not None else ""


def _csv_line(values: Iterable[str]) -> str:
    return ",".join(escaped(value, Surface.CSV, MAX_CELL) for value in values)


def page(record: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield one record as lines of "name  value", what belongs together indented."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from page(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value, 1):
                yield f"{indent}{name} {number}"
                yield from page(each if isinstance(each, Mapping) else {"": each}, indent + "  ")
        elif value not in ("", None, [], {}):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{indent}{name:<{max(1, 16 - len(indent))}} {plain(shown, MAX_CELL)}"
