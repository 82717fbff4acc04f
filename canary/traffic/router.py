"""The seam of every router: five verbs that give traffic, and apart from them the one that takes it.

A `Router` is asked by the operator; a `Brake` also by the sentinel and by `canary abort --now`. The values that pass
are frozen. `Seen` is one look at all routes of a target: what the judge needs is in `route`, what a later write must
present again is in `routes`. Every implementation passes `lab/contracts/router.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Protocol

from canary.api.marks import way_back_name
from canary.api.policy import RouteRef
from canary.api.run import Coordinate
from canary.core.evidence import Route
from canary.traffic.brake import Receipt

DEFAULT_ROUTE = RouteRef()


@dataclass(frozen=True, slots=True)
class Target:
    """Whose traffic is split, and between which two Services."""

    namespace: str
    service: str
    side_service: str
    route: RouteRef = DEFAULT_ROUTE
    run: str = ""
    armed: bool = True
    """The brake may be pulled: stable still is the old version. False from the point of no return on."""

    @property
    def way_back_service(self) -> str:
        return way_back_name(self.service)

    @property
    def services(self) -> tuple[str, str, str]:
        return (self.service, self.side_service, self.way_back_service)


@dataclass(frozen=True, slots=True)
class Plan:
    """A dry run: every write in words, every reason against it with its remedy, and what to think about."""

    writes: tuple[str, ...]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at all routes that name the target's Service or its side."""

    route: Route
    lowest_ppm: int = 0
    """The side's least share in any rule: below `route.weight_ppm` a raise stopped half-way."""
    armed: bool = False
    """Some route keeps the brake's coordinates on itself."""
    routes: tuple[dict[str, Any], ...] = ()
    """The objects, as read."""


class Detached(Enum):
    """The wish that the side be named nowhere."""

    DETACHED = "Detached"


DETACHED = Detached.DETACHED


@dataclass(frozen=True, slots=True)
class WayBack:
    """The wish that the last good version's own pods get everything: the rollback after a commit."""

    epoch: str


Wanted = int | WayBack | Detached  # a number: the side's share in parts per million, the rest is stable's


class Outcome(StrEnum):
    """What became of a write (L0 and L1)."""

    PENDING = "Pending"  # stored; not every parent has spoken of it yet
    ACCEPTED = "Accepted"
    REFUSED = "Refused"
    DRIFTED = "Drifted"  # somebody else wrote since


class Router(Protocol):
    """Gives a side its share of the traffic."""

    def plan(self, target: Target) -> Plan:
        """Say what attaching would write and what speaks against it; writes nothing."""
        ...

    def read(self, target: Target, known: Seen | None = None) -> Seen:
        """Look at every route that names the target's Service or its side, live.

        With `known` only at those that were seen then, and still name it: a new one is not found.
        """
        ...

    def write(self, target: Target, wanted: Wanted, seen: Seen) -> Receipt:
        """Make it so; what was written until an error came stays, and the next look goes on.

        A share (0 attaches, or leaves the way back) and DETACHED need that nothing changed since `seen`, else
        ConflictError. DETACHED gives the former weights back, and is refused while anything of ours has traffic.
        WayBack needs only that the Services stand where they stood. The brake's coordinates are kept on the route
        while `target.armed`.
        """
        ...

    def verify(self, target: Target, receipt: Receipt) -> Outcome:
        """Tell whether what was written is still stored, and accepted by every parent."""
        ...


class Brake(Protocol):
    """Takes all traffic from a side."""

    def kill(self, target: Target, coordinates: Sequence[Coordinate], epoch: str) -> Receipt:
        """Write 0 to the side and everything to stable, now; idempotent. `epoch` is new at every call."""
        ...
