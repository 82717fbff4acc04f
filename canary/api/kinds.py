"""The four kinds in one table: their names, their models, their rules and their columns.

`crd.py` makes the manifests from it, `read.py` the parsers, and `make docs` the reference. A rule is written in the
Common Expression Language and says to the API server what a validator of the model says to `canary lint`.
"""

from dataclasses import dataclass

from canary.api.policy import CanaryPolicySpec, CanaryPolicyStatus
from canary.api.reasons import FINAL_PHASES
from canary.api.request import CanaryRequestSpec, CanaryRequestStatus
from canary.api.run import CanaryRunSpec, CanaryRunStatus
from canary.api.safety import SafetyPolicySpec, SafetyPolicyStatus
from canary.api.types import Model


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule at a place of the object: "" is the root, `spec.steps` that field."""

    path: str
    cel: str
    message: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; a wide one is shown with `-o wide` only."""

    name: str
    json_path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """All that is known of one kind."""

    name: str
    plural: str
    short_name: str
    says: str
    spec: type[Model]
    status: type[Model]
    namespaced: bool = True
    rules: tuple[Rule, ...] = ()
    columns: tuple[Column, ...] = ()


def _distinct(path: str, key: str, what: str) -> Rule:
    cel = f"self.all(a, self.exists_one(b, b.{key} == a.{key}))"
    return Rule(path, cel, f"two of {what} have the same {key}; give each its own")


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_MAX_STEPS = 21
_PAIRS = str(list(range(_MAX_STEPS)))
_STEPS_RISE = (
    f"{_PAIRS}.all(i, size(self) <= i + 1 || "
    "double(self[i].weight.replace('%', '')) < double(self[i + 1].weight.replace('%', '')))"
)
_FIRST_STEP_HAS_TRAFFIC = "size(self) == 0 || double(self[0].weight.replace('%', '')) > 0.0"
_FINAL = ", ".join(f"'{phase.value}'" for phase in sorted(FINAL_PHASES))

_COUNTED = (
    "self.status.approvals.filter(a, has(a.counts) && a.counts && a.verb != 'reject'"
    " && has(a.digest) && a.digest == self.spec.digest"
    " && self.status.approvals.exists_one(b, has(b.counts) && b.counts && b.requester == a.requester)"
    " && (!has(self.spec.change.authors) || !(a.requester in self.spec.change.authors)))"
)
_SENIORS = f"{_COUNTED}.filter(a, has(a.senior) && a.senior)"
_WEIGHT_IS_APPROVED = (
    "!has(self.status) || !has(self.status.allowedWeightPpm)"
    " || self.status.allowedWeightPpm <= self.spec.safety.unapprovedMaxPpm"
    " || (self.spec.safety.approvals == 0 && self.spec.safety.seniors == 0)"
    " || has(self.status.bypass)"
    f" || (has(self.status.approvals) && size({_COUNTED}) >= self.spec.safety.approvals"
    f" && size({_SENIORS}) >= self.spec.safety.seniors)"
)

_POLICY_RULES = (
    Rule("spec.steps", _STEPS_RISE, "steps must rise from each to the next"),
    Rule("spec.steps", _FIRST_STEP_HAS_TRAFFIC, "a step without traffic gathers no evidence; remove it"),
    Rule("spec.source", "has(self.scrape) || has(self.prometheus)", "give scrape, prometheus or both"),
    _distinct("spec.analysis.extra", "name", "the extra monitors"),
)
_RUN_RULES = (
    Rule("spec", "self == oldSelf", "a run's plan is pinned at its start; start another run"),
    Rule(
        "",
        _WEIGHT_IS_APPROVED,
        "this weight needs more counted approvals of this digest by people who did not write it",
    ),
    Rule(
        "status",
        f"!has(oldSelf.phase) || !(oldSelf.phase in [{_FINAL}]) || (has(self.phase) && self.phase == oldSelf.phase)",
        "a finished run stays finished; start another run",
    ),
)
_REQUEST_RULES = (
    Rule("spec", "self == oldSelf", "a request is never edited; make another one"),
    Rule(
        "spec",
        "self.verb in ['abort', 'hold'] || (has(self.reason) && size(self.reason) > 0)",
        "say why: reason is required of everything that may raise exposure",
    ),
    Rule(
        "spec",
        "!(self.verb in ['approve', 'reject']) || (has(self.digest) && size(self.reason) >= 20)",
        "approve and reject name the digest that was read, and a reason of at least 20 characters",
    ),
    Rule("spec", "!has(self.to) || self.verb == 'promote'", "to goes with promote only"),
)
_SAFETY_RULES = (
    Rule("spec.approvals", "self.senior <= self.count", "senior may not be more than count"),
    Rule(
        "spec.approvals",
        "(self.count == 0 || size(self.approverGroups) > 0) && (self.senior == 0 || size(self.seniorGroups) > 0)",
        "name the groups of those who may approve",
    ),
    Rule(
        "spec",
        "!has(self.expiresAt) || has(self.onExpiry)",
        "expiresAt without onExpiry: name the policy that rules from then on",
    ),
    Rule("spec.freezes", "self.all(f, f.from < f.to)", "a freeze must end after its start"),
    Rule(
        "spec.patterns.own",
        "self.all(p, (p.when == 'equals') == has(p.value))",
        "value goes with when: equals, and only with it",
    ),
    _distinct("spec.freezes", "name", "freezes"),
    _distinct("spec.groups", "name", "groups"),
    _distinct("spec.trustedKeys", "id", "trustedKeys"),
    _distinct("spec.patterns.own", "id", "patterns.own"),
)

_POLICY_COLUMNS = (
    Column("Target", ".spec.target.name"),
    Column("Mode", ".spec.mode"),
    Column("Tier", ".spec.tier", "integer"),
    Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
    Column("Last", ".status.lastOutcome"),
    _AGE,
)
_RUN_COLUMNS = (
    Column("Workload", ".spec.target.name"),
    Column("Phase", ".status.phase"),
    Column("Slice", ".status.shown.slice"),
    Column("Step", ".status.shown.step"),
    Column("Verdict", ".status.shown.verdict"),
    Column("Lost", ".status.shown.lost"),
    Column("Origin", ".spec.change.origin"),
    Column("Evidence", ".status.shown.evidence", wide=True),
    Column("Revision", ".spec.revision.version", wide=True),
    Column("Baseline", ".spec.baseline.version", wide=True),
    Column("Reason", ".status.reason", wide=True),
    Column("Actor", ".status.actor", wide=True),
    Column("Observed", ".status.shown.observed", wide=True),
    _AGE,
)
_REQUEST_COLUMNS = (
    Column("Run", ".spec.subject.name"),
    Column("Verb", ".spec.verb"),
    Column("Requester", ".spec.requester"),
    Column("Outcome", ".status.outcome"),
    _AGE,
)
_SAFETY_COLUMNS = (
    Column("In force", ".status.inForce", "boolean"),
    Column("Covered", ".status.covered", "integer"),
    Column("Expected", ".spec.appliesTo.expected", "integer"),
    Column("Expires", ".spec.expiresAt"),
    _AGE,
)

CANARY_POLICY = Kind(
    name="CanaryPolicy",
    plural="canarypolicies",
    short_name="cpol",
    says="How one Deployment is canaried.",
    spec=CanaryPolicySpec,
    status=CanaryPolicyStatus,
    rules=_POLICY_RULES,
    columns=_POLICY_COLUMNS,
)
CANARY_RUN = Kind(
    name="CanaryRun",
    plural="canaryruns",
    short_name="crun",
    says="One attempt of one change: its plan, its evidence, its verdict, its record.",
    spec=CanaryRunSpec,
    status=CanaryRunStatus,
    rules=_RUN_RULES,
    columns=_RUN_COLUMNS,
)
CANARY_REQUEST = Kind(
    name="CanaryRequest",
    plural="canaryrequests",
    short_name="creq",
    says="One directive of one identity: promote, abort, hold, resume, retry, bypass, approve or reject.",
    spec=CanaryRequestSpec,
    status=CanaryRequestStatus,
    rules=_REQUEST_RULES,
    columns=_REQUEST_COLUMNS,
)
SAFETY_POLICY = Kind(
    name="SafetyPolicy",
    plural="safetypolicies",
    short_name="spol",
    says="Who may change what, and when: approvals, limits, freezes, expiry.",
    spec=SafetyPolicySpec,
    status=SafetyPolicyStatus,
    namespaced=False,
    rules=_SAFETY_RULES,
    columns=_SAFETY_COLUMNS,
)
KINDS = (CANARY_POLICY, CANARY_RUN, CANARY_REQUEST, SAFETY_POLICY)
