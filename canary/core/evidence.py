"""What one look at the world contains: values only, gathered by `operator/look.py`, judged by `machine.decide`.

Anything that could not be read is `Missing(reason)`: that is evidence too. It never raises exposure, it is never
counted as zero, and after a bounded blind time it lowers exposure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import StrEnum

from canary.api.people import People
from canary.api.reasons import MissingReason, Reason, Verb, Verdict
from canary.api.run import Coordinate
from canary.api.safety import SafetyPolicySpec


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that could not be read, and why; `detail` is a clause for people."""

    reason: MissingReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """The user's Deployment and the ReplicaSets behind it."""

    uid: str
    template_hash: str
    """SHA-256 of the canonical pod template that it asks for."""
    paused: bool
    replicas: int
    """Pods that it asks for: the N of a run."""
    stable_hash: str
    """Template hash of the ReplicaSet whose pods serve (the baseline); empty: none found."""
    stable_ready: int
    """Ready pods of the baseline's ReplicaSet."""
    current_ready: int
    """Ready pods that run the template asked for."""
    other_pods: int
    """Pods of any template but the one asked for."""
    settled: bool
    """The Deployment's own status speaks of the generation that we read."""
    current_pods: int = 0
    """Pods, ready or not, that run the template asked for."""
    current_set: str = ""
    """Name of their ReplicaSet."""
    stable_set: str = ""
    """Name of the baseline's ReplicaSet."""


@dataclass(frozen=True, slots=True)
class Side:
    """The new version's own Deployment, as observed; `exists` False: nothing of ours is there."""

    exists: bool
    template_hash: str = ""
    replicas: int = 0
    ready: int = 0
    """Ready endpoints."""


class Drift(StrEnum):
    """How a stored route differs from what we last wrote, if somebody else wrote it."""

    REFS_MISSING = "RefsMissing"  # our entry is gone: all traffic goes to stable
    LOWERED = "Lowered"
    RAISED = "Raised"
    UNKNOWN_ROUTE = "UnknownRoute"  # another route names the Service


class Acceptance(StrEnum):
    """L1: did every parent of every route accept what is stored?"""

    ACCEPTED = "Accepted"
    PENDING = "Pending"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class Route:
    """All routes of the run together: exposure is the highest of them."""

    attached: bool
    """Every rule that names stable names the side, too."""
    weight_ppm: int
    """The side's highest share in any rule; 0 if it is named nowhere."""
    version: str
    """Opaque; a raise must present it unchanged. Empty: no route names the target."""
    acceptance: Acceptance
    drift: Drift | None = None
    detail: str = ""
    """What is odd, or why a parent refuses, as a clause for people."""
    last_writer: str = ""
    partial: bool = False
    """The side is named by some rules only."""
    uneven: bool = False
    """Some rule gives the side less than another: a raise over several routes stopped half-way."""
    epoch: int = 0
    """The newest rollback write that the route carries; 0: none. For several routes the lowest."""
    last_epoch: int = 0
    """For several routes the highest: a rollback that died between two of them is on one only."""
    way_back_ppm: int = 0
    """Share of x-lastgood, the second side that a rollback after the commit needs."""
    coordinates: tuple[Coordinate, ...] = ()
    """Where the side is named: what the brake needs."""
    nearest_ppm: int | None = None
    """Where shares are whole pods: what was asked for, if no more of it can be had with the pods that are ready."""
    excess: bool = False
    """Where shares are whole pods: some of those named are not ready, or more than was asked for."""

    @property
    def exists(self) -> bool:
        """Tell whether there is anything to write to."""
        return bool(self.version)

    def gives(self, ppm: int) -> bool:
        """Tell whether the side has this share, or as much of it as can be had."""
        return ppm in (self.weight_ppm, self.nearest_ppm)


class Share(StrEnum):
    """L3: does the side get the share of requests that the route gives it?"""

    AS_ASKED = "AsAsked"
    UNPROVEN = "Unproven"  # too few requests to tell
    OVER = "Over"
    UNDER = "Under"
    NONE_LEFT = "NoneLeft"  # after a rollback write: requests flow and none reaches the side


@dataclass(frozen=True, slots=True)
class Finding:
    """The judge's word on the samples so far: what the detector says, reduced to what decisions need."""

    verdict: Verdict
    reason: Reason
    message: str
    blind_seconds: float = 0.0
    """How long there has been no usable look; 0 when there is one."""
    site_healthy_seconds: float = 0.0
    """How long the whole site's orders have been above the floor of their forecast."""


@dataclass(frozen=True, slots=True)
class Directive:
    """A CanaryRequest that was not answered yet; the requester was verified by the API server."""

    uid: str
    name: str
    verb: Verb
    requester: str
    groups: tuple[str, ...] = ()
    reason: str = ""
    digest: str = ""
    to_ppm: int | None = None
    machine: bool = False
    """A service account, node or system identity: it may abort and hold, nothing else."""
    accepts: tuple[str, ...] = ()
    """Ids of known failure patterns that an approval accepts."""
    expires_at: datetime | None = None
    signature: str = ""
    present: bool = False
    """Its signature was verified: somebody touched the requester's security key."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another run, as the limits see it."""

    workload: str
    """Namespace and name, as a SafetyPolicy's groups have it."""
    active: bool
    """It has begun, is not over, and is not proved human."""
    rolled_back_at: datetime | None
    """When its evidence took it back; None: it did not."""
    lost: float = 0.0
    """Orders that it lost: the estimate where it was taken back, else what it surely lost."""
    seen_at: datetime | None = None
    """When: its end, or now."""
    orders_a_day: float = 0.0
    """Orders of the whole site in a day at the rate that it saw; 0: not known."""


@dataclass(frozen=True, slots=True)
class Safety:
    """What the safety policies in force ask of a run now, and the facts that their rules are about."""

    names: tuple[str, ...]
    rules: SafetyPolicySpec
    digest: str
    """Of the rules that a run pins."""
    zones: Mapping[str, tzinfo | None] = field(default_factory=dict[str, tzinfo | None])
    """Time zone -> its data; None or absent: there is none."""
    people: People = People()
    may_approve: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Requester -> whether the API server grants them `approve` now; absent: not known."""
    neighbours: tuple[Neighbour, ...] = ()
    """Every other run that the limits may concern."""
    braked: str = ""
    """Why the brake is on; empty: it is off."""
    brake_released_at: datetime | None = None
    """When a person last let the brake go."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One look: all that a decision may rest on, besides the run itself."""

    workload: Workload | Missing
    side: Side | Missing
    way_back: Side | Missing
    """The second side, x-lastgood: only after a commit that is taken back."""
    route: Route | Missing
    finding: Finding | Missing
    share: Share | Missing
    directives: tuple[Directive, ...] = ()
    policy_digest: str = ""
    """Digest of the policy as it is now; empty: the policy is gone."""
    bytes_of_tags: frozenset[str] = frozenset()
    """What the serving pods of both versions run of each image that a tag names: "image=id"."""
    record_changes: tuple[str, ...] = ()
    """Fields of the run's change record that the Deployment's annotations no longer say."""
    may_shrink: bool | Missing = False
    """An autoscaler may scale the old version down, and is ours to freeze."""
    detaching: bool = False
    """The policy went, or its mode became Observe: give everything back."""
    orders_in_step: float = 0.0
    baseline_ready: bool = True
    """Stable pods were watched long enough to know their noise (or as long as we are ready to wait)."""
    may_raise: bool = True
    """The lease is valid with time to spare."""
    closed_gates: Mapping[Reason, str] | None = None
    """Facts from outside the run that forbid raising now (freeze, limits, guard, CRDs): reason -> sentence."""
    safety: Safety | Missing | None = None
    """None: no safety policy was written for this tier."""
