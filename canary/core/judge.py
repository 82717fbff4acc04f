"""The judgement alone, offline: JSON lines of samples in, JSON lines of verdicts out; the same road as in production.

Enters: the settings that a policy pins down, and one JSON object a line with the increments of one look. Leaves: one
JSON object a line with verdict, reason, evidence, effect and lost orders. Deterministic: the same lines give the same
bytes. `canary judge`, `canary explain --recompute`, bug reports and the benchmarks use it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from typing import Any

from canary.api.reasons import PPM
from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import Interval, Judgement, Settings, check_phi, judge, start, update
from canary.errors import RefusedError

MAX_LINE = 65_536  # characters
_FLAGS = ("verified", "complete", "reset", "step", "disagree")
_FIELDS = ("t", "weight_ppm", "canary", "baseline", "site", "phi", "coverage", *_FLAGS)
_ARM_FIELDS = ("orders", "requests", "errors", "slow", "extra")
_SITE_FIELDS = ("orders", "expected", "recent")


def verdicts(settings: Settings, lines: Iterable[str]) -> Iterator[str]:
    """Judge look after look; yield one line for each line, blank lines apart.

    Counts that make no sense (NaN, negative, late) give a verdict that says so and never advances. A line that is not
    in this format raises RefusedError with its number, the field and what to do.
    """
    state = start(settings)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _Entry.parse(settings, number, line)
        state = update(settings, state, entry.sample, phi=entry.phi)
        judgement = judge(settings, state, next_weight(settings, entry.sample.weight_ppm))
        yield json.dumps(_written(entry.sample.t, judgement), separators=(",", ":"), allow_nan=False)


def next_weight(settings: Settings, weight_ppm: int) -> int:
    """Return the plan's first weight above this one; after the last, all of the traffic."""
    return min((weight for weight in settings.weights_ppm if weight > weight_ppm), default=PPM)


def _written(t: float, judgement: Judgement) -> dict[str, Any]:
    out: dict[str, Any] = {
        "t": t,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "evidence_log": None if judgement.evidence_log == -inf else judgement.evidence_log,
        "limit_log": judgement.limit_log,
        "effect": {"orders": _interval("point", judgement.effect)},
        "lost": _interval("orders", judgement.lost),
    }
    return out if judgement.missing is None else {**out, "missing": judgement.missing}


def _interval(point: str, interval: Interval) -> dict[str, float | None]:
    return {point: interval.point, "low": interval.low, "high": interval.high}


@dataclass(frozen=True, slots=True)
class _Entry:
    sample: Sample
    phi: Mapping[str, float]

    @classmethod
    def parse(cls, settings: Settings, number: int, line: str) -> "_Entry":
        """Read one line; every refusal names the line."""
        try:
            return _entry(settings, _object(_decoded(line), "the line", _FIELDS))
        except RefusedError as error:
            raise RefusedError(f"line {number}: {error}", code=error.code) from error


def _decoded(line: str) -> Any:
    if len(line) > MAX_LINE:
        raise RefusedError(f"it has {len(line)} characters; write one sample a line, at most {MAX_LINE}")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"it is not JSON ({error}); write one JSON object a line") from error


def _entry(settings: Settings, data: Mapping[str, Any]) -> _Entry:
    for name in ("t", "weight_ppm", "canary", "baseline"):
        if name not in data:
            raise RefusedError(f"{name} is absent; give it on every line")
    weight_ppm = data["weight_ppm"]
    if isinstance(weight_ppm, bool) or not isinstance(weight_ppm, int) or not 0 <= weight_ppm <= PPM:
        raise RefusedError(
            f"weight_ppm is {weight_ppm!r}; give a whole number from 0 to {PPM}, 10000 for 1 %"
        )
    flags = {name: _flag(name, data[name]) for name in _FLAGS if name in data}
    phi = {name: _number(f"phi.{name}", value) for name, value in _object(data.get("phi", {}), "phi").items()}
    check_phi(phi, [extra.name for extra in settings.extra])
    sample = Sample(
        t=_finite("t", data["t"]),
        weight_ppm=weight_ppm,
        canary=_counts(settings, "canary", data["canary"]),
        baseline=_counts(settings, "baseline", data["baseline"]),
        site=_site(data.get("site")),
        coverage=_number("coverage", data.get("coverage", 1.0)),
        **flags,
    )
    return _Entry(sample, phi)


def _counts(settings: Settings, path: str, value: Any) -> Counts:
    data = _object(value, path, _ARM_FIELDS)
    known = [monitor.name for monitor in settings.extra]
    extra = {
        name: _number(f"{path}.extra.{name}", count)
        for name, count in _object(data.get("extra", {}), f"{path}.extra", known).items()
    }
    orders, requests, errors, slow = (_count(path, data, name) for name in _ARM_FIELDS[:4])
    return Counts(orders, requests, errors, slow, extra)


def _site(value: Any) -> SiteCounts | None:
    if value is None:
        return None
    data = _object(value, "site", _SITE_FIELDS)
    orders, expected, recent = (_count("site", data, name) for name in _SITE_FIELDS)
    return None if orders is None else SiteCounts(orders, expected, recent)


def _count(path: str, data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return None if value is None else _number(f"{path}.{name}", value)


def _object(value: Any, path: str, known: Iterable[str] | None = None) -> Mapping[str, Any]:
    """Return the object at `path`; refuse what is none, or holds a field that is not known."""
    if not isinstance(value, dict):
        raise RefusedError(f"{path} is {_shown(value)}; give a JSON object")
    if known is not None:
        _refuse_unknown(value, path, list(known))
    return value


def _refuse_unknown(data: Mapping[str, Any], path: str, known: list[str]) -> None:
    for name in data:
        if name not in known:
            raise RefusedError(f"{path} has an unknown field {_shown(name)}; {_nearest(name, known)}")


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}"


def _flag(path: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RefusedError(f"{path} is {_shown(value)}; give true or false")
    return value


def _finite(path: str, value: Any) -> float:
    number = _number(path, value)
    if not abs(number) < inf:
        raise RefusedError(f"{path} is {number}; give seconds since the run's start")
    return number


def _number(path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"{path} is {_shown(value)}; give a number")
    try:
        return float(value)
    except OverflowError as error:
        raise RefusedError(f"{path} is too large to be a number of anything") from error


def _shown(value: Any) -> str:
    return repr(value)[:80]
