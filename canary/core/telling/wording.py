"""How canary writes numbers, times and other people's words: one spelling for every surface.

Enters: numbers as the API server stores them (often as text), RFC 3339 times, and texts that people and agents wrote.
Leaves: short plain text for a screen of 80 columns. `explain` and its neighbours call this. Text from outside is
hostile: control and direction characters never leave here, and nothing is longer than its place.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite

from canary.api.reasons import PPM

MAX_PLAIN = 1024
MAX_PERCENT = 999  # beyond it a rise is only said to be larger
TIMES_FROM = 10.0  # from so many times as many on, nobody reads a percentage
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def plain(text: object, longest: int = MAX_PLAIN) -> str:
    """Return one harmless line: every control, format or separator character is a space, the end is cut with `~`."""
    raw = text if isinstance(text, str) else ""
    shown = raw[: 2 * longest]
    if not (shown.isascii() and shown.isprintable()):  # nearly every text is both, and is harmless then
        shown = "".join(" " if is_hostile(character) else character for character in shown)
    line = " ".join(shown.split())
    return line if len(line) <= longest else line[: max(0, longest - 1)] + "~"


def is_hostile(character: str) -> bool:
    """Tell whether a character could steer a terminal or hide text."""
    # Cc: escapes and newlines, Cf: direction overrides, Cs/Co/Cn: surrogates and private use, Zl/Zp: line separators
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def number(text: object) -> float | None:
    """Read a number as stored; None where it is empty, no number or not finite."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def moment(text: object) -> datetime | None:
    """Read a stored time; None where there is none, or none that can be read."""
    if not isinstance(text, str):
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    return value.astimezone(UTC) if value.tzinfo is not None else None


def seconds_between(earlier: datetime | None, later: datetime | None) -> float | None:
    if earlier is None or later is None:
        return None
    return (later - earlier).total_seconds()


def share(ppm: int) -> str:
    """Write a weight as people read it: "0.5 %". What they write has no space, see `api.types.parse_percent`."""
    return f"{ppm / (PPM / 100):.4f}".rstrip("0").rstrip(".") + " %"


def no_such_step(asked_ppm: int, to_come: Sequence[int]) -> str:
    """Say that no step to come has this share, and which there are; empty where one has it."""
    if asked_ppm in to_come:
        return ""
    known = f"they are {', '.join(map(share, to_come))}" if to_come else "there is none"
    return f"no step to come has {share(asked_ppm)}; {known}"


def power(log10_value: float | None) -> str:
    """Write evidence from its base-10 logarithm: "7.4e3", "320", "0.04"; beyond 1e9 only the power."""
    if log10_value is None:
        return "?"
    if log10_value >= 9:
        return f"1e{int(log10_value)}"
    value = 10.0**log10_value
    if value >= 1000:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def count(value: float | None) -> str:
    """Write a count: whole from 10 on, one decimal below; thousands are separated."""
    if value is None:
        return "?"
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.1f}"


def signed_percent(ratio: float | None) -> str:
    """Write a change given as a ratio less one: -0.99 is "-99"; what is not known is "?"."""
    if ratio is None:
        return "?"
    value = 100 * ratio
    if value > MAX_PERCENT:
        return f">{MAX_PERCENT}"
    text = f"{value:+.1f}" if abs(value) < 1 else f"{value:+.0f}"
    return "0" if float(text) == 0 else text


@dataclass(frozen=True, slots=True)
class Change:
    """A change in words, with the two ends of its interval in the same unit."""

    text: str
    low: str
    high: str


def change(point: float | None, low: float | None, high: float | None) -> Change:
    """Write ratios less one: -0.99 is "-99 %", 169 is "170 times as many"; an end that is open is "..".."""
    if point is None or point + 1.0 < TIMES_FROM:
        low_text, high_text = (".." if end is None else signed_percent(end) for end in (low, high))
        return Change(f"{signed_percent(point)} %", low_text, high_text)
    low_text, high_text = (".." if end is None else _times(end) for end in (low, high))
    return Change(f"{_times(point)} times as many", low_text, high_text)


def brief_change(point: float | None) -> str:
    """Write a ratio less one for a column: "-99 %", "170x"."""
    if point is None or point + 1.0 < TIMES_FROM:
        return f"{signed_percent(point)} %"
    return f"{_times(point)}x"


def _times(ratio: float) -> str:
    value = ratio + 1.0
    return f"{value:,.0f}" if value >= TIMES_FROM else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """Write a duration in a sentence: "0.4 s", "15 s", "12 min", "3 h"."""
    if seconds is None:
        return "?"
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"


def age(seconds: float | None) -> str:
    """Write an age as kubectl does: "15s", "4m", "3h", "9d"."""
    if seconds is None:
        return "?"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def clock(at: datetime, before: datetime | None) -> str:
    """Write a time of day; only its seconds where it falls in the same minute as the one `before` it."""
    if before is None:
        return f"{at:%H:%M:%S}Z"
    tenths = f"{at.second + at.microsecond / 1e6:04.1f}".removesuffix(".0")
    same_minute = at.replace(second=0, microsecond=0) == before.replace(second=0, microsecond=0)
    return f":{tenths}" if same_minute else f"{at:%H:%M}:{tenths}"


def bar(log10_value: float | None, limit_log10: float | None, wide: int = 11) -> str:
    """Draw evidence against its limit, both as powers of ten: the bar crosses `|` when the evidence does."""
    before = wide - 3
    if log10_value is None or limit_log10 is None or limit_log10 <= 0:
        return " " * before + "|"
    cells = max(1, min(wide - 1, int(before * log10_value / limit_log10)))
    inside, beyond = min(cells, before), max(0, cells - before)
    return "#" * inside + " " * (before - inside) + "|" + "#" * beyond


def table(rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """Align rows in columns; the last column is not padded."""
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    spaces = " " * gap
    return [
        spaces.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
