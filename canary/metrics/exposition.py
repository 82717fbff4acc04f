"""The Prometheus text format, read as a stream: chunks of bytes go in, the few families that were asked for come out.

Every other line is dropped before it is decoded, so that a pod with a large exposition costs little; the lines that
are kept are parsed by prometheus_client. Bounded in bytes and in series; anything that cannot be trusted raises
`NoCountsError` with its reason. `scrape.py` calls this.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO, cast

from prometheus_client.parser import text_fd_to_metric_families

from canary.api.reasons import MissingReason
from canary.metrics.source import Families, NoCountsError, Series

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_SERIES = 2_000
MAX_DECLARED = 2_000  # metrics whose names are kept for a hint
MAX_LINE_BYTES = 64 * 1024
_AFTER_NAME = (b"{", b" ", b"\t")


@dataclass(frozen=True, slots=True)
class Exposition:
    """What was asked for of one exposition, and what else there is."""

    families: Families
    declared: frozenset[str]
    """Names of all its metrics that have a type, at most MAX_DECLARED."""


def parse(chunks: Iterable[bytes], names: Iterable[str]) -> Exposition:
    """Return the families with these series names; those that the exposition does not have are absent.

    A family that is declared but has no series yet is present and empty. Raise NoCountsError for a body that is too
    large, has too many series, repeats a series, is cut off or cannot be parsed.
    """
    wanted = {name.encode() for name in names}
    found: dict[str, list[Series]] = {}
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    declared: set[bytes] = set()
    # The parser only iterates over lines.
    lines = cast(TextIO, _sample_lines(chunks, wanted, found, declared))
    try:
        for metric in text_fd_to_metric_families(lines):
            for sample in metric.samples:
                identity = (sample.name, frozenset(sample.labels.items()))
                if identity in seen:
                    raise NoCountsError(MissingReason.DUPLICATE_SERIES, f"{sample.name} has a series twice")
                seen.add(identity)
                if len(seen) > MAX_SERIES:
                    raise NoCountsError(
                        MissingReason.TOO_LARGE, f"more than {MAX_SERIES} series of the metrics that are read"
                    )
                found.setdefault(sample.name, []).append(Series(sample.labels, float(sample.value)))
    except (ValueError, IndexError) as error:
        raise NoCountsError(MissingReason.MALFORMED, f"not the Prometheus text format: {error}") from error
    return Exposition(found, frozenset(name.decode("utf-8", "replace") for name in declared))


def _sample_lines(
    chunks: Iterable[bytes], wanted: set[bytes], found: dict[str, list[Series]], declared: set[bytes]
) -> Iterator[str]:
    """Yield the wanted sample lines, and note in `found` the families that are declared."""
    starts = tuple(name + after for name in wanted for after in _AFTER_NAME)
    for line in _lines(chunks):
        if line.startswith(starts):
            yield line.decode("utf-8")
        elif line.startswith(b"# TYPE "):
            parts = line.split(None, 3)
            name = parts[2] if len(parts) > 2 else b""
            _declare(name, wanted, found)
            if len(declared) < MAX_DECLARED:
                declared.add(name)


def _declare(name: bytes, wanted: set[bytes], found: dict[str, list[Series]]) -> None:
    for series_name in (name, name + b"_bucket"):
        if series_name in wanted:
            found.setdefault(series_name.decode(), [])


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    total, rest = 0, b""
    for chunk in chunks:
        total += len(chunk)
        if total > MAX_BODY_BYTES:
            raise NoCountsError(MissingReason.TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES} bytes")
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise NoCountsError(MissingReason.MALFORMED, f"a line is longer than {MAX_LINE_BYTES} bytes")
        yield from whole
    if rest.strip():
        # The format ends every line; a number that was cut off in the middle would be a wrong number.
        raise NoCountsError(MissingReason.MALFORMED, "the body ends in the middle of a line")
