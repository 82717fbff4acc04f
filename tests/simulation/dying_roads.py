"""The two roads that are played again and again with the death of the controller at one of its writes."""

from collections.abc import Callable
from typing import TypeVar

from sim_faults import Crash, Dying
from sim_street import COLLAPSE, Street

from canary.api.reasons import Phase
from canary.lab import manifests

PROCESSES = 2
ROADS = {
    "promoted": ({}, Phase.PROMOTED, manifests.NEW),
    "rolled-back": (COLLAPSE, Phase.ROLLED_BACK, manifests.OLD),
}
S = TypeVar("S", bound=Street)


def to_its_end(street: S, road: str, limit: float = 120.0) -> S:
    """Push the change of a road and go on to its end; where the controller dies, start another one and go on."""
    bug, end, _ = ROADS[road]
    street.push(bug)
    for _ in range(2):
        try:
            street.until(end, limit=limit).tidied()
            break
        except Crash:
            street.restart()
    return street


def first_of_each(dying: Dying) -> list[int]:
    """Return the numbers of the writes that are the first of their kind in their phase."""
    first = {write: number for number, write in reversed([*enumerate(dying.writes, 1)])}
    return sorted(first.values())


def trouble_of(road: str, play: Callable[[], S], is_back: Callable[[S, str], None]) -> str:
    """Play a road with a death in it; return what is wrong in the end, or nothing."""
    _, end, serving = ROADS[road]
    try:
        street = play()
        assert street.phase is end, street.told()
        assert len(street.runs) == 1, "another run was started"
        assert not street.run.status.held_by, f"an invariant was broken: {street.told()}"
        is_back(street, serving)
    except AssertionError as error:
        return str(error)
    return ""
