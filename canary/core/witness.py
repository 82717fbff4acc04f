"""Does somebody else count of the new version what its own pods count? A version may lie about itself, or be wrong.

Enter: the pods' own increments at every look, and now and then what a witness (the gateway, the order system) counted
between two moments of its own. Leaves: how the two disagree, in words, or nothing. Both count the same events, so they
may differ by a share, and by chance as far as few events go: thirty requests prove nothing. Pure; kept in memory only,
so a controller that starts anew compares anew.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, sqrt

from canary.core.detect.counters import Folded
from canary.core.evidence import Missing

KEEP_SECONDS, LEAST_SECONDS = 300.0, 60.0
TOLERANCE, SIGMAS = 0.05, 3.0
NAMES = ("orders", "requests")


@dataclass(frozen=True, slots=True)
class Gained:
    """What a witness counted between two moments; seconds on the run's clock."""

    begin: float
    end: float
    count: float


Witnessed = Mapping[str, Gained]


@dataclass(frozen=True, slots=True)
class WitnessMemory:
    """The pods' own totals of the last minutes, and the last comparison."""

    totals: tuple[tuple[float, float, float], ...] = ()
    """Time, orders and requests of the new version since the first of them."""
    asked_at: float = -inf
    word: str = ""
    """How the two disagree; empty: they agree, or nobody can say yet."""
    silent: str = ""
    """Why the witness was not heard; empty: it was."""

    @property
    def since(self) -> float:
        """Return the moment from which a witness's counts can be compared."""
        return self.totals[0][0] if self.totals else inf


def fold(
    memory: WitnessMemory, folded: Folded, witnessed: Witnessed | Missing | None, at: float
) -> WitnessMemory:
    """Return the memory after a look at `at`; None: the witness was not asked in it."""
    memory = followed(memory, folded)
    if witnessed is None:
        return memory
    if isinstance(witnessed, Missing):
        return replace(memory, asked_at=at, silent=witnessed.detail or witnessed.reason.value)
    words = [word for name in NAMES if name in witnessed and (word := _word(memory, name, witnessed[name]))]
    return replace(memory, asked_at=at, word="; ".join(words), silent="")


def followed(memory: WitnessMemory, folded: Folded) -> WitnessMemory:
    """Add a look; where counts were lost, begin anew. A gap is covered by the next increments, as for the judge."""
    canary, at = folded.canary, folded.at
    if folded.reset or not memory.totals:
        return replace(memory, totals=((at, 0.0, 0.0),) if folded.pods else ())
    if canary.orders is None or canary.requests is None or at <= memory.totals[-1][0]:
        return memory
    _, orders, requests = memory.totals[-1]
    kept = tuple(each for each in memory.totals if each[0] >= at - KEEP_SECONDS)
    return replace(memory, totals=(*kept, (at, orders + canary.orders, requests + canary.requests)))


def _word(memory: WitnessMemory, name: str, theirs: Gained) -> str:
    if not memory.totals or theirs.begin < memory.since or theirs.end > memory.totals[-1][0]:
        return ""
    if theirs.end - theirs.begin < LEAST_SECONDS:
        return ""
    own = _total(memory, name, theirs.end) - _total(memory, name, theirs.begin)
    most = max(own, theirs.count)
    if abs(own - theirs.count) <= TOLERANCE * most + SIGMAS * sqrt(most):
        return ""
    seconds = theirs.end - theirs.begin
    return f"the new version counts {own:.0f} {name} of its own in {seconds:.0f} s, the witness {theirs.count:.0f}"


def _total(memory: WitnessMemory, name: str, at: float) -> float:
    """Return the total at a moment between two looks; evenly between them."""
    column, times = 1 + NAMES.index(name), [each[0] for each in memory.totals]
    after = min(max(1, bisect_right(times, at)), len(times) - 1)
    (left, right), (low, high) = times[after - 1 : after + 1], memory.totals[after - 1 : after + 1]
    share = (at - left) / (right - left)
    return low[column] + share * (high[column] - low[column])
