"""The values of one look at a policy: what it gathers (`Seen`), and what follows from it (`Intake`).

`operator/policies.py` gathers and does, `intake.py` considers. Frozen; nothing is decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canary.api.change import OriginEvidence
from canary.api.policy import CanaryPolicySpec, CanaryPolicyStatus, GuardFacts, Revision
from canary.api.reasons import Reason
from canary.api.run import CanaryRunSpec
from canary.core.decision import Answer, Run
from canary.core.evidence import Directive, Missing, Workload
from canary.core.rules.effective import Effective
from canary.core.rules.reviews import Owed, Review


@dataclass(frozen=True, slots=True)
class Policy:
    """A CanaryPolicy as read."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: CanaryPolicySpec
    """The text in force: as written, but nowhere looser than what was approved."""
    status: CanaryPolicyStatus
    written: CanaryPolicySpec | None = None
    """The text as written, where that is looser than the one in force."""


@dataclass(frozen=True, slots=True)
class Templates:
    """The Deployment's spec and the template that serves, as stored, for the known failure patterns."""

    deployment: Mapping[str, Any]
    serving: Mapping[str, Any]
    serving_pods: int
    selectors: tuple[Mapping[str, str], ...]
    """Of the Services that select the serving pods."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What the Deployment asks for, beyond what decisions of a run need."""

    asked: Revision
    serving: Revision | None
    annotations: dict[str, str]
    service: str
    """The Service of the target's pods; empty: none, or several."""
    guarded: bool
    surroundings: GuardFacts | None = None
    """What the guard's rules go by, less the pods of a run; None: not known."""
    templates: Templates | None = None
    """What the change is made of; None: not known."""
    strangers: tuple[str, ...] = ()
    """Pods that the Service selects and that are not the target's own."""
    proof: tuple[OriginEvidence, ...] = ()
    """What a signed statement, if there is one, proves of the origin."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that one look at a policy gathers."""

    workload: Workload | Missing
    desired: Desired | None
    runs: Sequence[Run]
    refusals: tuple[str, ...]
    """Why the target cannot be adopted, each with its remedy."""
    retries: tuple[Directive, ...]
    now: datetime
    rival: str = ""
    """What else names the target, while this policy has not adopted it; empty: nothing."""
    uncounted: str = ""
    """What the policy counts and no pod shows, as a clause for people; empty: nothing, or nobody could be asked."""
    bypasses: tuple[Directive, ...] = ()
    """Requests to let a held change go as it is; each names the template by its hash."""
    frozen_seconds: float = 0.0
    """When the target's autoscaler may scale down again; 0: it may now, or there is none."""
    reviews: tuple[Review, ...] = ()
    """Words on bypasses, the answered ones first."""
    ruling: Effective | Missing | None = None
    """What the safety policies in force say of this tier; None: none was written for it."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What follows: the status, and at most one thing to do."""

    status: CanaryPolicyStatus
    adopt: bool = False
    """Set the guard label and the lock."""
    relock: bool = False
    """Somebody opened the lock."""
    release: str = ""
    """The template hash with which the guard label and the lock come off; empty: they stay."""
    start: CanaryRunSpec | None = None
    reason: Reason = Reason.IDLE
    message: str = ""
    answers: tuple[Answer, ...] = ()
    owed: Owed | None = None
    """The review that nothing else begins before."""
