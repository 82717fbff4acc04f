"""What the hands may be told to do: frozen values, each of one of three kinds.

*Lowering* actions run before the status is written and need nothing. *Raising* actions run only after the status
write succeeded, with a valid lease. *Telling* comes last. `intent.plan` derives them as the difference
between intent and observation, so that a crash needs no recovery code.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    LOWERING = "lowering"
    RAISING = "raising"


@dataclass(frozen=True, slots=True)
class Kill:
    """Canary weight 0, stable all, on every route, by the stored coordinates; unconditional."""

    epoch: int
    why: str
    kind: Kind = Kind.LOWERING


@dataclass(frozen=True, slots=True)
class PauseTarget:
    """Set `spec.paused` on the user's Deployment: the hold."""

    why: str
    kind: Kind = Kind.LOWERING


@dataclass(frozen=True, slots=True)
class DetachRoute:
    """Take the side out of every route and give up ownership of the list; only at weight 0."""

    kind: Kind = Kind.LOWERING


@dataclass(frozen=True, slots=True)
class ScaleSide:
    """Set the side's pods; a raise of pods is not a raise of exposure, but a cut comes only at weight 0."""

    replicas: int
    kind: Kind = Kind.RAISING


@dataclass(frozen=True, slots=True)
class ShiftToWayBack:
    """Give all traffic to the last good version's own pods: the rollback after a commit, one write a route."""

    epoch: int
    kind: Kind = Kind.LOWERING


@dataclass(frozen=True, slots=True)
class LeaveWayBack:
    """Give all traffic back to the Deployment, which runs the last good template again."""

    version: str
    kind: Kind = Kind.RAISING


@dataclass(frozen=True, slots=True)
class CreateWayBack:
    """Create the Deployment and Service of the last good template."""

    replicas: int
    kind: Kind = Kind.LOWERING


@dataclass(frozen=True, slots=True)
class DeleteSide:
    """Delete every Deployment, Service and PDB of the run, by uid."""

    kind: Kind = Kind.LOWERING


@dataclass(frozen=True, slots=True)
class CreateSide:
    """Create the side's Service, PDB and Deployment with the tested template."""

    replicas: int
    kind: Kind = Kind.RAISING


@dataclass(frozen=True, slots=True)
class AttachRoute:
    """Name the side in every rule that names stable, at weight 0 against all."""

    version: str
    kind: Kind = Kind.RAISING


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Give the side this share of every route: compare-and-set on the version that was seen."""

    weight_ppm: int
    version: str
    kind: Kind = Kind.RAISING


@dataclass(frozen=True, slots=True)
class UnpauseTarget:
    """Let the native roll run: only for the tested template, with the Deployment's version as precondition."""

    template_hash: str
    kind: Kind = Kind.RAISING


@dataclass(frozen=True, slots=True)
class FreezeScaler:
    """Forbid the target's autoscalers to scale down, before anybody leaves the old version."""

    kind: Kind = Kind.RAISING


EXPOSING = (LeaveWayBack, AttachRoute, SetWeight, UnpauseTarget)
"""Those after which more customers may meet a version."""

Action = (
    Kill
    | PauseTarget
    | DetachRoute
    | ShiftToWayBack
    | LeaveWayBack
    | CreateWayBack
    | ScaleSide
    | DeleteSide
    | CreateSide
    | AttachRoute
    | SetWeight
    | UnpauseTarget
    | FreezeScaler
)
