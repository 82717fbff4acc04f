"""Two curves for an 80-column terminal: orders in the slice, seen against expected, and the evidence against its limit.

Pure: points in, lines out. Counts are cumulative: at three orders a second the band of one second is 0 to 7, so a plot
by the second would look normal in a total failure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 33, 7


@dataclass(frozen=True, slots=True)
class Point:
    """One look: seconds since the first slice, orders of the slice so far, and the evidence as a power of ten."""

    seconds: float
    seen: float
    expected: float
    evidence_log10: float
    limit_log10: float


def curves(points: Sequence[Point]) -> list[str]:
    """Return both plots side by side, or nothing before the second look."""
    if len(points) < 2:
        return []
    left = orders_plot(points)
    right = evidence_plot(points)
    return [f"{one:<{WIDTH + 9}}{other}" for one, other in zip(left, right, strict=True)]


def orders_plot(points: Sequence[Point]) -> list[str]:
    """Return cumulative orders in the slice: `o` seen, `-` expected."""
    top = max(1.0, *(max(point.seen, point.expected) for point in points))
    rows = _grid(points, 0.0, top, [(lambda p: p.expected, "-"), (lambda p: p.seen, "o")])
    title = "orders in the slice: o seen - expected"
    return [
        title,
        *(_row(rows, at, top * (HEIGHT - 1 - at) / (HEIGHT - 1), ".0f") for at in range(HEIGHT)),
        _axis(points),
    ]


def evidence_plot(points: Sequence[Point]) -> list[str]:
    """Return the evidence as a power of ten, with the limit as a line."""
    limit = points[-1].limit_log10
    low, high = (
        -1.0,
        max(limit + 1.0, *(point.evidence_log10 for point in points if math.isfinite(point.evidence_log10))),
    )
    rows = _grid(points, low, high, [(lambda p: max(low, p.evidence_log10), "*")])
    line = _level(limit, low, high)
    rows[line] = [mark if mark != " " else "-" for mark in rows[line]]
    steps = [low + (high - low) * (HEIGHT - 1 - at) / (HEIGHT - 1) for at in range(HEIGHT)]
    shown = [_row(rows, at, steps[at], ".1f") + (" limit" if at == line else "") for at in range(HEIGHT)]
    return ["evidence, power of ten", *shown, _axis(points)]


def _grid(
    points: Sequence[Point], low: float, high: float, marks: Sequence[tuple[Callable[[Point], float], str]]
) -> list[list[str]]:
    rows = [[" "] * WIDTH for _ in range(HEIGHT)]
    end = max(points[-1].seconds, 1e-9)
    for value, mark in marks:
        for point in points:
            column = min(WIDTH - 1, max(0, round(point.seconds / end * (WIDTH - 1))))
            if math.isfinite(value(point)):
                rows[_level(value(point), low, high)][column] = mark
    return rows


def _level(value: float, low: float, high: float) -> int:
    return min(HEIGHT - 1, max(0, round((HEIGHT - 1) * (1 - (value - low) / (high - low)))))


def _row(rows: Sequence[Sequence[str]], at: int, value: float, form: str) -> str:
    return f"{value:>4{form}} |{''.join(rows[at])}"


def _axis(points: Sequence[Point]) -> str:
    return f"   0 +{'-' * (WIDTH - 8)} {points[-1].seconds:>4.0f} s"
