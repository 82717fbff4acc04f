"""Every machine-readable word that canary writes: one place, one spelling, no pydantic, so that the CLI stays quick.

Statuses, conditions, Events, pages, logs, metrics and JSON output take their words from here and only from here.
"""

from enum import StrEnum

GROUP = "canary-controller.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
PPM = 1_000_000  # all of the traffic, in parts per million


class Phase(StrEnum):
    """Where a run stands."""

    HELD = "Held"  # the change is recorded, the gates are not all open
    PREPARING = "Preparing"  # side Deployment, Service, PDB; route accepted at weight 0; brake tested
    PROGRESSING = "Progressing"  # slices, each passed by evidence
    BAKING = "Baking"  # 100 % on the side, the old version whole and warm
    COMMITTING = "Committing"  # the native roll of the tested template, with no user traffic on it
    RETURNING = "Returning"  # weight back to the user's Deployment
    PAUSED = "Paused"  # weight 0, a person decides or data comes back
    DRAINING = "Draining"  # the whole site fell: weight 0, cause open
    ROLLING_BACK = "RollingBack"  # decided; the route write is not verified yet
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"
    REJECTED = "Rejected"

    @property
    def final(self) -> bool:
        return self in FINAL_PHASES

    @property
    def may_expose(self) -> bool:
        """Tell whether the side may carry a weight above 0 in this phase."""
        return self in EXPOSING_PHASES


FINAL_PHASES = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED, Phase.REJECTED})
AFTER_COMMIT = frozenset({Phase.COMMITTING, Phase.RETURNING})
EXPOSING_PHASES = frozenset({Phase.PROGRESSING, Phase.BAKING, *AFTER_COMMIT})


class Verdict(StrEnum):
    """What the evidence says, worst first."""

    DRAIN = "Drain"
    ROLL_BACK = "RollBack"
    HOLD = "Hold"
    ADVANCE = "Advance"
    CONTINUE = "Continue"


class Reason(StrEnum):
    """Why: the machine's word beside the sentence. Also the reasons of conditions and of Kubernetes Events."""

    # evidence: the fact behind a verdict
    ORDERS_COLLAPSED = "OrdersCollapsed"
    ORDERS_LOST_BY_WEIGHT = "OrdersLostByWeight"
    ERRORS_ROSE = "ErrorsRose"
    SLOW_ROSE = "SlowRose"
    TRAFFIC_LOST = "TrafficLost"
    SITE_FELL = "SiteFell"
    EXTRA_WORSENED = "ExtraWorsened"
    SIDE_SILENT = "SideSilent"
    EVIDENCE_GROWING = "EvidenceGrowing"
    EVIDENCE_SUSPECT = "EvidenceSuspect"
    EVIDENCE_SUFFICES = "EvidenceSuffices"
    SETTLING = "Settling"
    MIN_STEP_TIME = "MinStepTime"
    MIN_WATCH = "MinWatch"
    BLIND = "Blind"
    SOURCES_DISAGREE = "SourcesDisagree"
    STATE_UNREADABLE = "StateUnreadable"
    # gates: what still has to hold before exposure may rise
    WORKLOAD_NOT_READY = "WorkloadNotReady"
    CHANGE_RECORD_MISSING = "ChangeRecordMissing"
    APPROVALS_MISSING = "ApprovalsMissing"
    FROZEN = "Frozen"
    LIMIT_REACHED = "LimitReached"
    PATTERN_REFUSED = "PatternRefused"
    REJECTED_BEFORE = "RejectedBefore"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    SIDE_NOT_READY = "SideNotReady"
    STABLE_SHRANK = "StableShrank"
    NOT_LEADING = "NotLeading"
    NO_DATA_YET = "NoDataYet"
    CRDS_DIFFER = "CrdsDiffer"
    GUARD_MISSING = "GuardMissing"
    SHARE_BELOW_WEIGHT = "ShareBelowWeight"
    SHARE_ABOVE_WEIGHT = "ShareAboveWeight"
    # what happened to a run
    RUN_STARTED = "RunStarted"
    BASELINE_READY = "BaselineReady"
    STEP_STARTED = "StepStarted"
    STEP_PASSED = "StepPassed"
    HOLD_STARTED = "HoldStarted"
    HOLD_ENDED = "HoldEnded"
    COMMIT_STARTED = "CommitStarted"
    RETURN_STARTED = "ReturnStarted"
    BAKE_STARTED = "BakeStarted"
    PROMOTED = "Promoted"
    SUPERSEDED = "Superseded"
    ABORTED = "Aborted"
    REJECTED = "Rejected"
    DETACHED = "Detached"
    SUSPECT = "Suspect"
    ROLLBACK_STARTED = "RollbackStarted"
    ROLLED_BACK = "RolledBack"
    ROLLBACK_UNVERIFIED = "RollbackUnverified"
    ROLLBACK_FAILED = "RollbackFailed"
    DRAINING = "Draining"
    DATA_RESTORED = "DataRestored"
    POLICY_INVALID = "PolicyInvalid"
    WEIGHT_DRIFT = "WeightDrift"
    ROUTE_LOST = "RouteLost"
    TWO_WRITERS = "TwoWriters"
    PREPARATION_EXPIRED = "PreparationExpired"
    STEP_EXPIRED = "StepExpired"
    TEMPLATE_CHANGED = "TemplateChanged"
    COMMIT_STALLED = "CommitStalled"
    UNPAUSED_BY_OTHERS = "UnpausedByOthers"
    WORKLOAD_RECREATED = "WorkloadRecreated"
    WORKLOAD_GONE = "WorkloadGone"
    POLICY_CHANGED = "PolicyChanged"
    RECORD_CHANGED = "RecordChanged"
    IMAGE_CHANGED = "ImageChanged"
    UNPAGED = "Unpaged"
    BYPASS_USED = "BypassUsed"
    APPROVAL_RECORDED = "ApprovalRecorded"
    APPROVAL_REJECTED = "ApprovalRejected"
    AUDIT_WRITE_FAILED = "AuditWriteFailed"
    CLUSTER_RESTORED = "ClusterRestored"
    ATTEMPT_LIMIT = "AttemptLimit"
    INVARIANT_BROKEN = "InvariantBroken"
    BY_PERSON = "ByPerson"
    # a policy
    IDLE = "Idle"
    ADOPTED = "Adopted"
    ADOPTION_REFUSED = "AdoptionRefused"
    OBSERVING = "Observing"
    RUN_ACTIVE = "RunActive"
    # a safety policy
    POLICY_EXPIRING = "PolicyExpiring"
    POLICY_OVERDUE = "PolicyOverdue"
    POLICY_WEAKER = "PolicyWeaker"
    COVERAGE_FELL = "CoverageFell"
    BRAKE_PULLED = "BrakePulled"
    # a request
    REQUEST_DONE = "RequestDone"
    REQUEST_REFUSED = "RequestRefused"


TARGET_LOST = frozenset({Reason.WORKLOAD_GONE, Reason.WORKLOAD_RECREATED})
"""Somebody passed the guard by and deleted a held Deployment."""


class ConditionType(StrEnum):
    """Condition types; Ready, Reconciling and Stalled have the meaning that kstatus gives them."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SERVING = "Serving"
    ANALYZING = "Analyzing"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    APPROVED = "Approved"
    HELD = "Held"
    BLIND = "Blind"
    TRAFFIC_VERIFIED = "TrafficVerified"
    UNPAGED = "Unpaged"


class Severity(StrEnum):
    """How loudly people are told; the opening of a page decides it (`Opening.severity`)."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Opening(StrEnum):
    """The first words of a page: are customers safe, must somebody act."""

    ACTION_NEEDED = "ACTION NEEDED"
    CUSTOMERS_SAFE = "CUSTOMERS SAFE"
    DECISION_NEEDED = "DECISION NEEDED"
    NONE = ""

    @property
    def severity(self) -> Severity:
        return _SEVERITY_OF_OPENING[self]

    @property
    def loudness(self) -> int:
        """Order the openings: 0 is a note, 3 a call for action."""
        return _QUIET_TO_LOUD.index(self)


_QUIET_TO_LOUD = (Opening.NONE, Opening.DECISION_NEEDED, Opening.CUSTOMERS_SAFE, Opening.ACTION_NEEDED)
_SEVERITY_OF_OPENING = {
    Opening.ACTION_NEEDED: Severity.CRITICAL,
    Opening.CUSTOMERS_SAFE: Severity.ERROR,
    Opening.DECISION_NEEDED: Severity.WARNING,
    Opening.NONE: Severity.INFO,
}


class Verb(StrEnum):
    """What a person (or, for abort and hold, a machine) may ask of a run; each is an RBAC verb on canaryruns."""

    PROMOTE = "promote"
    ABORT = "abort"
    HOLD = "hold"
    RESUME = "resume"
    RETRY = "retry"
    BYPASS = "bypass"
    APPROVE = "approve"
    REJECT = "reject"


MACHINE_VERBS = frozenset({Verb.ABORT, Verb.HOLD})


class Mode(StrEnum):
    ENFORCE = "Enforce"  # hold, slice, judge, roll back
    OBSERVE = "Observe"  # judge and report, touch nothing


class Origin(StrEnum):
    """Who wrote the change; `unknown` is treated as `ai`."""

    AI = "ai"
    HUMAN = "human"
    UNKNOWN = "unknown"


class MissingReason(StrEnum):
    """Why a piece of evidence is missing. Missing is never zero, and never raises exposure."""

    NOT_READ = "NotRead"
    UNAVAILABLE = "Unavailable"
    UNAUTHORISED = "Unauthorised"
    MALFORMED = "Malformed"
    PARTIAL = "Partial"
    TOO_LARGE = "TooLarge"
    TIMED_OUT = "TimedOut"
    NOT_FINITE = "NotFinite"
    NEGATIVE = "Negative"
    ABSENT = "Absent"
    DUPLICATE_SERIES = "DuplicateSeries"
    STALE = "Stale"
    OUT_OF_ORDER = "OutOfOrder"
    MORE_ORDERS_THAN_REQUESTS = "MoreOrdersThanRequests"
    NO_PODS = "NoPods"
    TOO_MANY_PODS = "TooManyPods"
    RESET = "Reset"
    UNVERIFIED = "Unverified"
    DISAGREE = "Disagree"
