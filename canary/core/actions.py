"""What the hands may be told to do: frozen values, each of one of three kinds.

*Lowering* actions run before the status is written and need nothing. *Raising* actions run only after the status
write succeeded, with a valid lease. *Telling* comes last. `intent.plan` derives them as the difference
between intent and observation, so that a crash needs no recovery code.
"""

from dataclasses import dataclass


class Lowering:
    """What runs before the status is written, and needs nothing."""

    __slots__ = ()


class Raising:
    """What runs only after the status write succeeded, with a valid lease."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Kill(Lowering):
    """Canary weight 0, stable all, on every route, by the stored coordinates; unconditional."""

    epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class PauseTarget(Lowering):
    """Set `spec.paused` on the user's Deployment: the hold."""

    why: str


@dataclass(frozen=True, slots=True)
class DetachRoute(Lowering):
    """Take the side out of every route and give up ownership of the list; only at weight 0."""


@dataclass(frozen=True, slots=True)
class ScaleSide(Raising):
    """Set the side's pods; a raise of pods is not a raise of exposure, but a cut comes only at weight 0."""

    replicas: int


@dataclass(frozen=True, slots=True)
class ShiftToWayBack(Lowering):
    """Give all traffic to the last good version's own pods: the rollback after a commit, one write a route."""

    epoch: int


@dataclass(frozen=True, slots=True)
class LeaveWayBack(Raising):
    """Give all traffic back to the Deployment, which runs the last good template again."""

    version: str


@dataclass(frozen=True, slots=True)
class CreateWayBack(Lowering):
    """Create the Deployment and Service of the last good template."""

    replicas: int


@dataclass(frozen=True, slots=True)
class DeleteSide(Lowering):
    """Delete every Deployment, Service and PDB of the run, by uid."""


@dataclass(frozen=True, slots=True)
class CreateSide(Raising):
    """Create the side's Service, PDB and Deployment with the tested template."""

    replicas: int


@dataclass(frozen=True, slots=True)
class AttachRoute(Raising):
    """Name the side in every rule that names stable, at weight 0 against all."""

    version: str


@dataclass(frozen=True, slots=True)
class SetWeight(Raising):
    """Give the side this share of every route: compare-and-set on the version that was seen."""

    weight_ppm: int
    version: str


@dataclass(frozen=True, slots=True)
class LowerWeight(Lowering):
    """Take away what is beyond this share, or not ready; nothing is added."""

    weight_ppm: int
    version: str


@dataclass(frozen=True, slots=True)
class UnpauseTarget(Raising):
    """Let the native roll run: only for the tested template, with the Deployment's version as precondition."""

    template_hash: str


@dataclass(frozen=True, slots=True)
class FreezeScaler(Raising):
    """Forbid the target's autoscalers to scale down, before anybody leaves the old version."""


EXPOSING = (LeaveWayBack, AttachRoute, SetWeight, UnpauseTarget)
"""Those after which more customers may meet a version."""

Action = Lowering | Raising
