"""The chain of records: what is written to the audit, how one record holds the one before, and how that is verified.

A record is a JSON object on one line. `hash` is the SHA-256 of everything else in it, in canonical form, and `prev` is
the hash of the record before: whoever edits, drops or moves a record breaks the chain behind it. What a chain cannot
show by itself is that its end was cut off, or that all of it was written anew. A `Head` that was published outside (in
pages, hourly to the sinks) shows both. Pure: the stores read and write, here is only what they hold.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canary.core.record import sha256_of
from canary.errors import RefusedError

MAX_RECORD_BYTES = 256 * 1024
NO_HASH = "sha256:" + "0" * 64
_OWN = ("sequence", "prev", "hash")
_HEAD = re.compile(r"([0-9]{1,12}):([0-9a-f]{64})")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record of a chain: its number, from 1, and its hash. A chain without a record has the head 0."""

    sequence: int = 0
    hash: str = NO_HASH

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash.removeprefix('sha256:')}"


def parse_head(text: str) -> Head:
    """Read a head as pages show it, "41:9f86d0...". Raise RefusedError for anything else."""
    found = _HEAD.fullmatch(text.strip())
    if found is None:
        raise RefusedError(
            f"{text[:80]!r} is no head of an audit; copy it whole from a page: a number, a colon, 64 hex digits",
            code="CAN-2007",
        )
    return Head(int(found[1]), f"sha256:{found[2]}")


def linked(entry: Mapping[str, Any], head: Head) -> Record:
    """Return the record that an entry becomes behind `head`. Raise RefusedError where it is too large to be kept."""
    own = [name for name in _OWN if name in entry]
    if own:
        raise RefusedError(f"an entry cannot bring its own {', '.join(own)}")
    plain = json.loads(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace"))
    record = {"sequence": head.sequence + 1, **plain, "prev": head.hash}
    record = {**record, "hash": sha256_of(record)}
    if len(encoded(record)) > MAX_RECORD_BYTES:
        raise RefusedError(f"record {record['sequence']} has more than {MAX_RECORD_BYTES} bytes")
    return record


def head_of(record: Record) -> Head:
    return Head(record["sequence"], record["hash"])


def encoded(record: Record) -> bytes:
    """Return a record as its line, with the newline."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decoded(line: bytes) -> Record | None:
    """Return the record of a line, or None where it is none."""
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()  # half a character is JSON, and has no hash
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("sequence"), int)
    return record if known and isinstance(record.get("hash"), str) else None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a chain was found to be: how many records hold, where they end, and what is wrong with the next."""

    records: int
    head: Head
    fault: str = ""
    """A sentence that names the record; empty: nothing is wrong."""


def verify(lines: Iterable[bytes], outside: Sequence[Head] = ()) -> Verified:
    """Follow a chain from its first record, and hold it against the heads that were published outside."""
    head = Head()
    wanted = {each.sequence: each for each in outside}
    for line in lines:
        record = decoded(line)
        fault = _fault(record, head)
        if fault or record is None:
            return Verified(head.sequence, head, fault)
        head = head_of(record)
        if head.sequence in wanted and wanted[head.sequence] != head:
            told = wanted[head.sequence]
            text = f"record {head.sequence} is not the one that was published: {head.hash}, not {told.hash}"
            return Verified(head.sequence - 1, head, f"{text}; the chain was written anew")
    missing = [each.sequence for each in outside if each.sequence > head.sequence]
    if missing:
        text = f"the chain ends with record {head.sequence}, but record {max(missing)} was published: its end is gone"
        return Verified(head.sequence, head, text)
    return Verified(head.sequence, head)


def _fault(record: Record | None, head: Head) -> str:
    """Return what is wrong with the record behind `head`; empty: nothing."""
    number = head.sequence + 1
    if record is None:
        return f"record {number} cannot be read"
    if record["sequence"] != number:
        return f"record {number} is missing: record {record['sequence']} stands in its place"
    if record.get("prev") != head.hash:
        return f"record {number} does not follow record {head.sequence}: one of the two was put there later"
    if sha256_of({name: value for name, value in record.items() if name != "hash"}) != record["hash"]:
        return f"record {number} was edited: its content does not have its hash"
    return ""


def readable(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the records of lines; what is none is left to `verify`."""
    for line in lines:
        record = decoded(line)
        if record is not None:
            yield record
