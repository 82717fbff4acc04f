"""CanaryRun: one attempt of one change. The spec is the plan, pinned at the start; the status is all our memory.

Whatever the controller must know after a crash stands here or can be observed in the world. The detector's state is
one string, so that the API server never re-encodes its numbers.
"""

from typing import Annotated, Literal

from pydantic import Field

from canary.api.audit import AuditStatus
from canary.api.change import ChangeRecord
from canary.api.notice import MAX_NOTICES, Notice
from canary.api.policy import CanaryPolicySpec, Revision, Step
from canary.api.reasons import PPM, Origin, Phase, Verb, Verdict
from canary.api.safety import Finding
from canary.api.types import (
    Condition,
    Count,
    Digest,
    Duration,
    Model,
    Name,
    ObjectRef,
    Sentence,
    Timestamp,
    WeightPpm,
    Word,
)

MAX_TIMELINE = 40
MAX_APPROVALS = 32
MAX_HANDLED = 64

Number = Annotated[str, Field(max_length=32, pattern=r"^(-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|-?inf)?$")]
"""A measured number as text: the API server stores it as written. Empty: not known."""


class SafetyTerms(Model):
    """What the safety policies in force asked of this change when the run started: the API server holds us to it."""

    unapproved_max_ppm: WeightPpm = PPM
    """Largest weight without the approvals."""
    approvals: Annotated[int, Field(ge=0, le=8, json_schema_extra={"format": "int32"})] = 0
    """Approvals above it, by different people who did not write the change."""
    seniors: Annotated[int, Field(ge=0, le=8, json_schema_extra={"format": "int32"})] = 0
    """Seniors among them."""
    policies: Annotated[list[Name], Field(max_length=16)] = []
    """The safety policies that asked for it."""
    digest: Digest | None = None
    """Digest of their rules on this change; other rules are another run."""
    review_within: Duration | None = None
    """A change that waits longer for approval is reported to the reviewers, at twice the time to the seniors."""


class CanaryRunSpec(Model):
    """The plan of one attempt, pinned."""

    policy_ref: ObjectRef
    """The policy that started it."""
    policy: CanaryPolicySpec
    """The policy as it was then; a later edit supersedes the run."""
    policy_digest: Digest
    """Its digest."""
    target: ObjectRef
    """The Deployment, by uid."""
    service: Name
    """The Service whose traffic is split."""
    revision: Revision
    """The new version."""
    baseline: Revision
    """The version that serves."""
    change: ChangeRecord
    """What, why, how to go back, whose work."""
    digest: Digest
    """What an approval is bound to: template, policy and record."""
    steps: Annotated[list[Step], Field(min_length=1, max_length=21)]
    """The slices of this run."""
    attempt: Count = 1
    """How often this version has been tried, this time included."""
    baseline_pods: Count = 0
    """Pods of the version that serves, when the run was recorded; 0: not known."""
    safety: SafetyTerms = SafetyTerms()
    """What the safety policies asked of this change; without any: nothing."""
    findings: Annotated[list[Finding], Field(max_length=64)] = []
    """Known failure patterns that the change shows."""

    @property
    def origin(self) -> Origin:
        return self.change.origin


class Coordinate(Model):
    """Where one route names both versions: all that the brake needs."""

    resource: Word = "httproutes"
    """Plural of the route's kind."""
    name: Name
    """The route."""
    rule: Count
    """Index of the rule."""
    canary: Count
    """Index of the canary's backendRef in the rule."""
    stable: Count
    """Index of the stable backendRef in the rule."""


class TrafficStatus(Model):
    """What was asked of the route, and what was seen."""

    weight_ppm: WeightPpm = 0
    """The canary's weight that is asked."""
    observed_ppm: WeightPpm = 0
    """The canary's weight in the stored route when last looked at."""
    observed_at: Timestamp | None = None
    """When that was."""
    epoch: Count = 0
    """Counts rollback writes; written on the route, so that each is a new version of it."""
    attached: bool = False
    """The route names the side."""
    way_back_ppm: WeightPpm = 0
    """The weight that is asked for the last good version's own Deployment."""
    brake_tested: bool = False
    """A kill was written for real before the first slice, and accepted."""
    written_at: Timestamp | None = None
    """When the asked weight was last changed."""
    verified_at: Timestamp | None = None
    """When the asked weight was last seen to be obeyed."""
    zero_verified_at: Timestamp | None = None
    """When, after the last rollback write, no request reached the canary any more."""
    detached_at: Timestamp | None = None
    """When the route stopped naming the side; the drain counts from here."""
    coverage: Number = ""
    """Share of its weight that the canary really gets, where a person accepted a shortfall."""
    coordinates: Annotated[list[Coordinate], Field(max_length=64)] = []
    """Kill coordinates; dropped when the old version begins to leave."""


class SideStatus(Model):
    """The new version's own Deployment."""

    name: Annotated[str, Field(max_length=253)] = ""
    """Its name: the target's with -canary."""
    wanted: Count = 0
    """Pods asked for."""
    ready: Count = 0
    """Ready endpoints seen."""
    bytes_of_tags: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=16)] = []
    """What was tested of each image that a tag names, "image=id": fixed when the preparation ends."""


class Effect(Model):
    """One monitor: what was seen against what was expected."""

    name: Word
    """orders, errors, slow, traffic, site, or an extra monitor's name."""
    seen: Number = ""
    """Count on the canary."""
    expected: Number = ""
    """Count expected from the baseline in the same seconds."""
    point: Number = ""
    """Change as a ratio less one: -0.99 is a drop of 99 %."""
    low: Number = ""
    """Lower end, 95 %."""
    high: Number = ""
    """Upper end, 95 %; empty: none."""
    evidence_log10: Number = ""
    """Evidence of this monitor."""
    state: Literal["clear", "suspect", "crossed", "missing"] = "clear"
    """Where it stands against the limit."""


class AnalysisStatus(Model):
    """The evidence as it stands. `state` and `counters` are the detector's own memory."""

    state: Annotated[str, Field(max_length=16384)] = ""
    """The detector's state: one compact JSON text."""
    counters: Annotated[str, Field(max_length=262144)] = ""
    """The last counters of every pod: one compact JSON text."""
    noise: Annotated[str, Field(max_length=65536)] = ""
    """What is known of the noise of stable pods: one compact JSON text."""
    forecast: Annotated[str, Field(max_length=32768)] = ""
    """The forecast of the whole site's orders, frozen at the first slice, or what is known for it: one JSON text."""
    site: Literal["", "history and recent", "history", "recent", "no history"] = ""
    """What the whole site's orders are compared with; without a history they are not watched."""
    started_at: Timestamp | None = None
    """Zero of the detector's clock."""
    sampled_at: Timestamp | None = None
    """The newest reading used."""
    verdict: Verdict | None = None
    """What the evidence says."""
    reason: Word | None = None
    """The fact behind it."""
    message: Sentence = ""
    """The verdict as a sentence with its numbers."""
    worst: Annotated[str, Field(max_length=64)] = ""
    """The monitor with the most evidence."""
    evidence_log10: Number = ""
    """Evidence of all monitors together."""
    limit_log10: Number = ""
    """The limit at which a run is rolled back."""
    effects: Annotated[list[Effect], Field(max_length=16)] = []
    """Each monitor; at 100 %, where no baseline is left, with the counts of the step before."""
    orders: Number = ""
    """Canary orders seen in the step; at 100 % in the one before."""
    orders_expected: Number = ""
    """Canary orders expected in the step, from the baseline in the same seconds."""
    lost: Number = ""
    """Orders lost, estimate: by the new version, or by the whole site where that fell."""
    lost_low: Number = ""
    """Lower end, 95 %."""
    lost_high: Number = ""
    """Upper end, 95 %."""
    likely_start_at: Timestamp | None = None
    """When it probably broke."""
    more_orders: Number = ""
    """Canary orders still needed for the next step, about."""
    more_seconds: Number = ""
    """The same in seconds at the present rate."""
    blind_since: Timestamp | None = None
    """Since when there is no usable data."""
    blind_because: Sentence = ""
    """Why."""
    phi: Annotated[dict[str, Number], Field(max_length=16)] = {}
    """Noise factor of each metric; 1 is none."""
    phi_assumed: bool = True
    """The noise factor is assumed, not measured."""


class PauseStatus(Model):
    """A run at weight 0, or held at its weight."""

    since: Timestamp
    """Since when."""
    by: Annotated[str, Field(max_length=256)] = ""
    """Who asked; empty: the controller."""
    reason: Word
    """The machine's word for why."""
    message: Sentence = ""
    """The sentence."""
    resume_phase: Phase
    """Where it goes on."""


class Approval(Model):
    """One approve or reject, as the API server verified it."""

    request: Name
    """The CanaryRequest."""
    verb: Literal[Verb.APPROVE, Verb.REJECT, Verb.PROMOTE]
    """What it says."""
    requester: Annotated[str, Field(max_length=256)]
    """Who."""
    groups: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = []
    """The requester's groups."""
    digest: Digest | None = None
    """The digest that was read: an approval holds for this one only."""
    senior: bool = False
    """The requester is a senior."""
    person: Annotated[str, Field(max_length=256)] = ""
    """The person behind the login, where the identity map knows one."""
    reason: Sentence = ""
    """Why, in the person's words."""
    accepts: Annotated[list[Word], Field(max_length=16)] = []
    """Findings of known failure patterns that the person accepts."""
    expires_at: Timestamp | None = None
    """From then on nothing rises on it."""
    present: bool = False
    """It carries a verified signature of a security key that somebody touched."""
    step: Count = 0
    """The step it was given for."""
    counts: bool = True
    """Whether it counts, until it expires."""
    why_not: Sentence = ""
    """If not, why."""
    at: Timestamp
    """When."""


class Bypass(Model):
    """Break-glass: a person lets this run pass what the safety policies ask, for a time. It is paged and reviewed."""

    request: Name
    """The CanaryRequest."""
    requester: Annotated[str, Field(max_length=256)]
    """Who."""
    reason: Sentence
    """Why."""
    at: Timestamp
    """When."""
    expires_at: Timestamp
    """From then on the run is held to the rules again; what they do not allow is taken away."""


class TimelineEntry(Model):
    """One thing that happened."""

    at: Timestamp
    """When."""
    phase: Phase
    """The phase it led to."""
    reason: Word
    """The machine's word."""
    message: Sentence
    """The sentence."""
    weight_ppm: WeightPpm = 0
    """The weight asked from then on."""
    by: Annotated[str, Field(max_length=256)] = ""
    """Who asked; empty: the controller."""


class Shown(Model):
    """The run in the words of `kubectl get`: derived from the other fields, for people only."""

    slice: Annotated[str, Field(max_length=16)] = ""
    """Share of the traffic that is asked for the new version."""
    step: Annotated[str, Field(max_length=16)] = ""
    """Steps begun, of how many."""
    verdict: Annotated[str, Field(max_length=64)] = ""
    """The evidence in a few words."""
    lost: Annotated[str, Field(max_length=32)] = ""
    """Orders lost, about."""
    evidence: Annotated[str, Field(max_length=32)] = ""
    """Evidence and its limit, as powers of ten."""
    observed: Annotated[str, Field(max_length=16)] = ""
    """Share of the traffic that the route gives the new version."""


class CanaryRunStatus(Model):
    """Everything that is known of the attempt."""

    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = 0
    """Generation of the run that this speaks of."""
    phase: Phase = Phase.HELD
    """Where it stands."""
    reason: Word | None = None
    """The machine's word for why."""
    message: Sentence = ""
    """What is going on, in one sentence."""
    step: Annotated[int, Field(ge=-1, le=21, json_schema_extra={"format": "int32"})] = -1
    """Index of the step under way; -1 before the first."""
    started_at: Timestamp | None = None
    """When the run was recorded."""
    phase_started_at: Timestamp | None = None
    """When the phase began."""
    exposed_at: Timestamp | None = None
    """When the first slice was asked."""
    step_started_at: Timestamp | None = None
    """When the step's weight was verified; evidence counts from here."""
    decided_at: Timestamp | None = None
    """When the end was decided."""
    finished_at: Timestamp | None = None
    """When a final phase was reached."""
    tidied_at: Timestamp | None = None
    """When nothing of the run was left in the cluster but this record."""
    checked_at: Timestamp | None = None
    """The last look that was written."""
    allowed_weight_ppm: WeightPpm = 0
    """Ceiling for the route; the API server refuses more."""
    outcome_phase: Phase | None = None
    """While rolling back: the final phase that follows."""
    traffic: TrafficStatus = TrafficStatus()
    """Asked and seen."""
    side: SideStatus = SideStatus()
    """The new version's own Deployment."""
    way_back: SideStatus = SideStatus()
    """The Deployment of the last good template, where a commit is taken back or the target was lost."""
    accepted: Digest | None = None
    """Template of a target that was created anew, where a person let it serve as it is."""
    stable_replicas: Count = 0
    """Replicas of the old version when the route was attached; it must not shrink below."""
    analysis: AnalysisStatus = AnalysisStatus()
    """The evidence."""
    pause: PauseStatus | None = None
    """Why the run stands still."""
    held_by: Annotated[str, Field(max_length=256)] = ""
    """Who asked to hold at the present weight."""
    promote_to_ppm: WeightPpm | None = None
    """promote --to: go no further."""
    approvals: Annotated[list[Approval], Field(max_length=MAX_APPROVALS)] = []
    """Approvals and rejections, as verified."""
    bypass: Bypass | None = None
    """The bypass that was used; its end does not remove it from the record."""
    handled: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_HANDLED)] = []
    """uids of the requests that were answered, newest last."""
    actor: Annotated[str, Field(max_length=256)] = ""
    """Who asked for the present phase; empty: the controller."""
    timeline: Annotated[list[TimelineEntry], Field(max_length=MAX_TIMELINE)] = []
    """What happened, oldest first."""
    notices: Annotated[list[Notice], Field(max_length=MAX_NOTICES)] = []
    """What people must be told."""
    audit: AuditStatus = AuditStatus()
    """The newest record of this run in the audit."""
    shown: Shown = Shown()
    """The run in the words of `kubectl get`."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """Ready, Reconciling, Stalled and ours."""
