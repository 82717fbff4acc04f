"""What every metrics source must do, whoever wrote it: expositions in, expected counts or named gaps out.

A `SourceWorld` makes pods expose texts and returns the source that reads them; `violations` runs every case at once
and says in sentences what does not hold. Both built-in sources pass it, the one against a real Prometheus; third
parties run it against theirs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from canary.api.reasons import MissingReason
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.metrics.source import CounterSpec, PodTarget, Source

READ_SECONDS = 5.0

SPECS: Mapping[str, CounterSpec] = {
    "orders": CounterSpec("orders_completed_total"),
    "requests": CounterSpec("http_requests_total"),
    "errors": CounterSpec("http_requests_total", (("code", "5.."),)),
    "slow": CounterSpec("http_request_duration_seconds", (), 0.4),
}

_HEALTHY = """# TYPE orders_completed_total counter
orders_completed_total{shop="a b, \\"c\\" {d}"} 30
# HELP http_requests_total Requests served.
# TYPE http_requests_total counter
http_requests_total{code="200",method="GET"} 100
http_requests_total{code="200",method="POST"} 10.5
http_requests_total{code="500",method="GET"} 4
http_requests_total{code="503",method="GET"} 3
http_requests_total{code="1500",method="GET"} 2
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1"} 90
http_request_duration_seconds_bucket{le="0.5"} 110
http_request_duration_seconds_bucket{le="1"} 118
http_request_duration_seconds_bucket{le="+Inf"} 119.5
http_request_duration_seconds_sum 20
http_request_duration_seconds_count 119.5
# TYPE orders_completed_created gauge
orders_completed_created 1.7e9
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One pod: what it exposes, and what must come of it: counts, or one of the reasons."""

    name: str
    exposition: str
    counts: Mapping[str, float] | None = None
    missing: frozenset[MissingReason] = frozenset()


def _gap(name: str, exposition: str, *reasons: MissingReason) -> Case:
    return Case(name, exposition, None, frozenset(reasons))


def _with(old: str, new: str) -> str:
    assert old in _HEALTHY, old
    return _HEALTHY.replace(old, new)


CASES: Sequence[Case] = (
    Case("healthy", _HEALTHY, {"orders": 30, "requests": 119.5, "errors": 7, "slow": 9.5}),
    Case(
        "no-error-yet",
        _HEALTHY.replace('code="50', 'code="40'),
        {"orders": 30, "requests": 119.5, "errors": 0, "slow": 9.5},
    ),
    Case(
        "nobody-came",
        _HEALTHY.replace(" 30\n", " 0\n"),
        {"orders": 0, "requests": 119.5, "errors": 7, "slow": 9.5},
    ),
    Case(
        "large",
        _with(" 30\n", " 9007199254740991\n"),
        {"orders": 9007199254740991, "requests": 119.5, "errors": 7, "slow": 9.5},
    ),
    Case(
        "in-exponents",
        _with(" 30\n", " 3.0e+06\n"),
        {"orders": 3e6, "requests": 119.5, "errors": 7, "slow": 9.5},
    ),
    _gap("no-orders", _with("orders_completed_total", "orders_done_total"), MissingReason.ABSENT),
    _gap("not-a-number", _with(" 30\n", " NaN\n"), MissingReason.NOT_FINITE),
    _gap("endless", _with(" 10.5\n", " +Inf\n"), MissingReason.NOT_FINITE),
    _gap("below-zero", _with(" 30\n", " -1\n"), MissingReason.NEGATIVE),
    _gap(
        "no-bound",
        _HEALTHY.replace('le="0.5"', 'le="0.3"').replace('le="1"', 'le="0.35"'),
        MissingReason.ABSENT,
    ),
    _gap("shrinking-buckets", _with('{le="0.5"} 110', '{le="0.5"} 500'), MissingReason.MALFORMED),
    # A whole scrape of garbage is nothing at all for a server that scrapes, and a named fault for us.
    _gap("garbage", "<html>\n" + _with(" 30\n", " many\n"), MissingReason.MALFORMED, MissingReason.ABSENT),
    _gap("silent", "", MissingReason.ABSENT),
)


class SourceWorld(Protocol):
    """What a source has to bring along to be checked."""

    def serve(self, expositions: Mapping[str, str]) -> tuple[Source, Sequence[PodTarget], float]:
        """Make one pod for each name expose its text; return the source, the targets by the same names as pod
        uids, and the Unix time since when the texts are exposed. Return when the source can have seen them all."""
        ...


def violations(world: SourceWorld) -> list[str]:
    """Return what the source does wrong, in sentences; empty: it keeps the contract."""
    source, targets, since = world.serve({case.name: case.exposition for case in CASES})
    try:
        results = source.read(targets, SPECS, within_seconds=READ_SECONDS)
        again = source.read(targets, SPECS, within_seconds=READ_SECONDS)
    finally:
        source.close()
        source.close()  # idempotent
    found = [problem for case in CASES for problem in _check(case, results.get(case.name), since)]
    if set(results) != {target.uid for target in targets}:
        found.append("a read must return exactly one entry for each target")
    found.extend(_repeatable(results, again))
    return found


def _check(case: Case, result: Reading | Missing | None, since: float) -> Iterator[str]:
    if isinstance(result, Missing):
        if result.reason not in case.missing:
            yield f"{case.name}: is Missing({result.reason}, {result.detail!r})"
        if not result.detail:
            yield f"{case.name}: Missing without a detail for people"
    elif isinstance(result, Reading):
        if case.counts is None:
            yield f"{case.name}: read as {dict(result.counts)}, must be one of {sorted(case.missing)}"
        elif dict(result.counts) != dict(case.counts):
            yield f"{case.name}: read as {dict(result.counts)}, is {dict(case.counts)}"
        if result.at < since - 1:
            yield f"{case.name}: a reading of before the exposition ({result.at - since:.1f} s)"


def _repeatable(
    first: Mapping[str, Reading | Missing], second: Mapping[str, Reading | Missing]
) -> Iterator[str]:
    for uid, result in first.items():
        later = second.get(uid)
        if isinstance(result, Reading) and isinstance(later, Reading):
            if later.at < result.at:
                yield f"{uid}: time ran backwards between two reads"
            if (later.pod, later.canary, later.started) != (result.pod, result.canary, result.started):
                yield f"{uid}: the key of the same pod changed between two reads"
        elif type(result) is not type(later):
            yield f"{uid}: read once, missing once, and nothing had changed"
