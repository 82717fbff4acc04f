"""The figures of a rehearsal: from what happened in each simulated run to a table and a JSON document.

Enters: one `Rehearsed` a run. Leaves: quantiles of what was measured, never constants; a figure that no run gave is
null. `rehearse.py` fills and prints it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canary.api.reasons import Phase
from canary.core.telling.wording import duration, share
from canary.settings import RehearseOptions

SCHEMA = "canary-controller.io/rehearsal/v1"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "max": 1.0}
CONFIDENCE = 0.95
STOPPED = frozenset({Phase.ROLLED_BACK, Phase.PAUSED, Phase.DRAINING})


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What happened in one run. Times are simulated seconds."""

    seed: int
    outcome: Phase
    reason: str
    orders_lost: int
    late_promises: int
    reached_ppm: int
    """The largest slice that customers met."""
    exposed_seconds: float
    """From the first slice to the end of the run, or of the time that was given."""
    decision_seconds: float | None = None
    """From the fault to the decision against the version; None: no fault was at work, or nothing was decided."""

    @property
    def stopped(self) -> bool:
        """Tell whether the version lost its traffic without a person's word."""
        return self.outcome in STOPPED


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """All runs of one rehearsal."""

    options: RehearseOptions
    policy: str
    promised: float
    """Chance of a false rollback that the policy promises for one healthy run."""
    faulty: Sequence[Rehearsed]
    healthy: Sequence[Rehearsed]

    @property
    def missed(self) -> int:
        """Return in how many runs the fault was at work and nothing stopped it."""
        return sum(not run.stopped for run in self.faulty)

    @property
    def false_rollbacks(self) -> int:
        return sum(run.stopped for run in self.healthy)

    def document(self) -> dict[str, Any]:
        """Return it as the object of `-o json`."""
        given = self.options
        return {
            "schema": SCHEMA,
            "policy": self.policy,
            "fault": given.fault.value,
            "drop": given.drop,
            "at_seconds": given.at_seconds,
            "orders_per_second": given.orders_per_second,
            "for_seconds": given.for_seconds,
            "replicas": given.replicas,
            "seed": given.seed,
            "runs": len(self.faulty),
            "missed": self.missed,
            "outcomes": _outcomes(self.faulty),
            "orders_lost": _quantiles(run.orders_lost for run in self.faulty),
            "late_promises": _quantiles(run.late_promises for run in self.faulty),
            "decision_seconds": _quantiles(_known(run.decision_seconds for run in self.faulty)),
            "reached_ppm": _quantiles(run.reached_ppm for run in self.faulty),
            "healthy": self._healthy(),
        }

    def _healthy(self) -> dict[str, Any]:
        count = len(self.healthy)
        return {
            "runs": count,
            "false_rollbacks": self.false_rollbacks,
            "share": self.false_rollbacks / count if count else None,
            "share_high": share_limit(self.false_rollbacks, count),
            "promised": self.promised,
            "outcomes": _outcomes(self.healthy),
            "reached_ppm": _quantiles(run.reached_ppm for run in self.healthy),
            "exposed_seconds": _quantiles(run.exposed_seconds for run in self.healthy),
        }

    def lines(self) -> list[str]:
        """Return the document as people read it, 80 columns wide."""
        told = self.document()
        rate = f"{told['orders_per_second']:g} orders/s"
        return [
            *(f"{self.policy} at {rate}, simulated; seed {told['seed']}", ""),
            *((*_faulty_lines(told), "") if self.faulty else ()),
            *(_healthy_lines(told["healthy"]) if self.healthy else ()),
        ]


def _faulty_lines(told: Mapping[str, Any]) -> list[str]:
    runs, missed, at = told["runs"], told["missed"], told["at_seconds"]
    when = f", {duration(at)} after the first slice" if at else " from the start"
    return [
        f"{told['fault']} of {share(round(told['drop'] * 1e6))}{when}: {runs} runs",
        f"  {'':<24}{'median':>9}{'90 %':>9}{'95 %':>9}{'worst':>9}",
        _row("orders lost", told["orders_lost"]),
        _row("late promises", told["late_promises"]),
        _row("seconds to the decision", told["decision_seconds"]),
        f"  largest slice reached   {share(int(told['reached_ppm']['max'] or 0)):>9}",
        f"  ended                   {_tally(told['outcomes'])}",
        *([f"  NOT STOPPED in {missed} of {runs} runs"] if missed else []),
    ]


def _healthy_lines(told: Mapping[str, Any]) -> list[str]:
    runs, high = told["runs"], 100 * (told["share_high"] or 1)
    return [
        f"the same policy without a fault: {runs} runs of up to {duration(told['exposed_seconds']['max'])}",
        f"  stopped for nothing     {told['false_rollbacks']} of {runs}; "
        f"below {high:.2g} % of runs with 95 % confidence",
        f"  promised by the policy  {100 * told['promised']:g} % of runs",
        f"  slice reached           {share(int(told['reached_ppm']['p50'] or 0))} (median)",
        f"  ended                   {_tally(told['outcomes'])}",
    ]


def share_limit(count: int, runs: int) -> float | None:
    """Return the upper limit of a share of which `count` of `runs` were seen (Clopper and Pearson 1934), one-sided."""
    if runs == 0:
        return None
    low, high = count / runs, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, runs, middle) > 1 - CONFIDENCE else (low, middle)
    return high


def _at_most(count: int, runs: int, share: float) -> float:
    """Return the chance of at most `count` of `runs`, each with a chance of `share`."""
    return math.fsum(math.comb(runs, k) * share**k * (1 - share) ** (runs - k) for k in range(count + 1))


def _quantiles(values: Iterable[float]) -> dict[str, float | None]:
    """Return measured values that so large a part of the runs does not exceed."""
    ordered = sorted(values)
    if not ordered:
        return dict.fromkeys(QUANTILES)
    return {
        name: round(ordered[max(0, math.ceil(part * len(ordered)) - 1)], 3)
        for name, part in QUANTILES.items()
    }


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _outcomes(runs: Iterable[Rehearsed]) -> dict[str, int]:
    return dict(sorted(Counter(run.outcome.value for run in runs).items()))


def _tally(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())


def _row(name: str, figures: dict[str, float | None]) -> str:
    cells = ("-" if value is None else f"{value:.4g}" for value in figures.values())
    return f"  {name:<24}" + "".join(f"{cell:>9}" for cell in cells)
