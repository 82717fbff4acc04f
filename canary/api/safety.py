"""SafetyPolicy: who may change what, and when. Cluster-wide; written by the people who answer for the shop.

Several may apply to one workload: then, field by field, the strictest wins. The controller reads these; a weaker text
waits for the same approvals as a Tier-1 change. The string under a field is what `kubectl explain` prints.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from canary.api.approved import ApprovedText
from canary.api.notice import MAX_NOTICES, Notice
from canary.api.reasons import PPM
from canary.api.types import (
    Condition,
    Count,
    DefaultedPercent,
    Duration,
    Model,
    Name,
    Sentence,
    Timestamp,
    Word,
    format_percent,
)

LOCAL_TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$"

Tier = Annotated[int, Field(ge=1, le=4, json_schema_extra={"format": "int32"})]
Tiers = Annotated[list[Tier], Field(min_length=1, max_length=4)]
GroupName = Annotated[str, Field(min_length=1, max_length=256)]
GroupNames = Annotated[list[GroupName], Field(max_length=16)]
LocalTime = Annotated[str, Field(max_length=19, pattern=LOCAL_TIME_PATTERN)]
TimeZone = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")]
PatternId = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Z][A-Z0-9]*-[0-9]+$")]
PatternIds = Annotated[list[PatternId], Field(max_length=64)]
WorkloadName = Annotated[str, Field(max_length=317, pattern=r"^[a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*$")]


class UnknownOrigin(StrEnum):
    """What a change of unknown origin counts as. There is no way to count it as human."""

    AS_AI = "asAI"
    BLOCK = "block"


class Strength(StrEnum):
    """What a finding of a known failure pattern does."""

    REFUSE = "refuse"  # the change does not start
    APPROVE = "approve"  # it waits until a senior accepts this finding by its id
    NOTE = "note"  # it is said


class Finding(Model):
    """A known failure pattern that the change shows."""

    id: Word
    """For example KP-105, or one of your own."""
    strength: Strength
    """refuse: it does not start; approve: it waits until a senior accepts this id; note: it is said."""
    message: Sentence
    """What was found, and what to do."""


class AppliesTo(Model):
    """Which workloads this policy rules."""

    tiers: Tiers = [1]
    """Tiers of the workloads, 1 is the strictest."""
    expected: Count | None = None
    """How many workloads there should be: a gap is reported, a falling count pages."""


class OnExpiry(Model):
    """What follows when this policy ends."""

    fallback: Name
    """The SafetyPolicy that rules from then on; where it does not exist, this one stays in force and pages daily."""


class RecordRules(Model):
    """What must be written down with a change."""

    require: Annotated[
        list[Literal["what", "why", "rollbackPlan", "securityImpact", "changeId"]], Field(max_length=5)
    ] = ["what", "why", "rollbackPlan"]
    """Texts that a change must carry."""
    unknown: UnknownOrigin = UnknownOrigin.AS_AI
    """What a change of unknown origin counts as: asAI or block."""


class ApprovalRules(Model):
    """Whose word a change, whoever wrote it, needs before its weight may rise above the unapproved one."""

    count: Annotated[int, Field(ge=0, le=8, json_schema_extra={"format": "int32"})] = 2
    """How many different people; no author of the change counts, and no machine."""
    senior: Annotated[int, Field(ge=0, le=8, json_schema_extra={"format": "int32"})] = 1
    """How many of them must be seniors."""
    approver_groups: GroupNames = []
    """Groups whose members may approve."""
    senior_groups: GroupNames = []
    """Groups whose members are seniors."""
    denied_groups: GroupNames = []
    """Groups whose members never count; service accounts, nodes and system:masters never do."""
    presence: Literal["None", "Required"] = "None"
    """Required: an approval carries a signature that a person made by touching a security key."""
    expire_after: Duration = timedelta(hours=24)
    """How long an approval counts."""
    review_within: Duration = timedelta(hours=4)
    """A change that waits longer is reported to the reviewers, at twice the time to the seniors."""

    @model_validator(mode="after")
    def _seniors_are_approvers(self) -> Self:
        if self.senior > self.count:
            raise ValueError(f"approvals.senior is {self.senior}, more than approvals.count, {self.count}")
        if self.count and not self.approver_groups:
            raise ValueError("approvals.approverGroups is empty, so nobody could approve; name a group")
        if self.senior and not self.senior_groups:
            raise ValueError("approvals.seniorGroups is empty, so nobody is a senior; name a group")
        return self


class OwnPattern(Model):
    """A check of your own, as data: a field of the pod template, and what may not happen to it."""

    id: PatternId
    """For example SHOP-1."""
    path: Annotated[str, Field(min_length=1, max_length=256)]
    """The field in the pod template's spec, for example containers[*].env[TAX]."""
    when: Literal["changed", "removed", "lowered", "equals"]
    """What is looked for."""
    value: Annotated[str, Field(max_length=256)] | None = None
    """For equals: the value."""
    strength: Strength = Strength.APPROVE
    """What the finding does: refuse, approve (wait for a senior) or note."""
    says: Annotated[str, Field(min_length=1, max_length=512)]
    """The sentence that people read."""

    @model_validator(mode="after")
    def _equals_has_a_value(self) -> Self:
        if (self.when == "equals") != (self.value is not None):
            raise ValueError("value goes with when: equals, and only with it")
        return self


class PatternRules(Model):
    """Known failure patterns: what a finding does. A pattern's own strength is never lowered by this."""

    refuse: PatternIds = []
    """Ids whose finding refuses the change."""
    approve: PatternIds = []
    """Ids whose finding needs a senior's acceptance."""
    own: Annotated[list[OwnPattern], Field(max_length=32)] = []
    """Checks of your own."""


class ExposureRules(Model):
    """How much traffic a change may have."""

    unapproved_max: DefaultedPercent = 10_000
    """Largest share without the approvals, whoever wrote the change."""
    first_slice_max: DefaultedPercent = 10_000
    """Largest first slice of a change that is not proved human; a plan that begins higher gets a step before it."""
    max_step_ratio: Annotated[int, Field(ge=2, le=1000, json_schema_extra={"format": "int32"})] = 5
    """How many times the former weight a step of such a change may be; a plan that leaps gets steps between."""


class OrderBudget(Model):
    """Orders that may be lost to changes in one app on one day; when spent, its group holds."""

    least: Count = 50
    """Never fewer than this."""
    share: DefaultedPercent = 100
    """Share of the day's expected orders."""


class Brake(Model):
    """Too many rollbacks in the cluster: nothing by AI starts or rises until a person says resume."""

    rollbacks: Annotated[int, Field(ge=1, le=100, json_schema_extra={"format": "int32"})] = 3
    """This many rollbacks..."""
    within: Duration = timedelta(minutes=60)
    """...within this time."""


class LimitRules(Model):
    """Bounds on starting and raising. None of them ever blocks a lowering."""

    per_cluster: Count = 5
    """Active runs of AI or unknown origin in the cluster."""
    per_group: Count = 1
    """The same in a group."""
    per_namespace: Count = 1
    """The same in a namespace."""
    cooldown: Duration = timedelta(hours=4)
    """After a rollback, this app waits; doubled for each repeat within 7 days."""
    group_cooldown: Duration = timedelta(minutes=30)
    """After a rollback, its group waits."""
    attempts: Annotated[int, Field(ge=1, le=10, json_schema_extra={"format": "int32"})] = 2
    """How often one change may be tried."""
    order_budget: OrderBudget = OrderBudget()
    """Orders that may be lost to changes in one app on one day."""
    brake: Brake = Brake()
    """Too many rollbacks in the cluster stop everything that would rise."""
    blind_intervals: Annotated[int, Field(ge=2, le=60, json_schema_extra={"format": "int32"})] = 2
    """Intervals of the source without data before an exposed run's weight goes to 0 (never under 10 s)."""


class Freeze(Model):
    """A time in which nothing starts or rises. A rollback always may."""

    name: Word
    """What people call it."""
    start: Annotated[LocalTime, Field(alias="from")]
    """Begin, local time, for example 2026-03-27T00:00."""
    end: Annotated[LocalTime, Field(alias="to")]
    """End, local time."""
    timezone: TimeZone = "UTC"
    """The time zone of both, for example America/New_York; one that is not known freezes."""
    tiers: Tiers = [1, 2, 3, 4]
    """Tiers that it holds for."""

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"the freeze {self.name} ends at {self.end}, not after its start, {self.start}")
        return self


class Group(Model):
    """Workloads that fail together: one change at a time among them."""

    name: Word
    """What people call it."""
    targets: Annotated[list[WorkloadName], Field(min_length=1, max_length=128)]
    """Workloads as namespace/name."""


class TrustedKey(Model):
    """A key whose signed statement about a change's origin is believed."""

    id: Word
    """What people call it."""
    public_key: Annotated[str, Field(max_length=1024, pattern=r"^(ed25519|ecdsa-p256):[A-Za-z0-9+/=]+$")]
    """The public key: ed25519: or ecdsa-p256:, then base64."""


class SafetyPolicySpec(Model):
    """Who may change what, and when."""

    applies_to: AppliesTo = AppliesTo()
    """Which workloads this policy rules."""
    effective_from: Timestamp | None = None
    """From when; absent: at once."""
    expires_at: Timestamp | None = None
    """Until when; warned at 14, 7 and 1 days."""
    on_expiry: OnExpiry | None = None
    """What follows; required where there is an end."""
    record: RecordRules = RecordRules()
    """What must be written down with a change."""
    approvals: ApprovalRules
    """Whose word a change needs."""
    patterns: PatternRules = PatternRules()
    """What a finding of a known failure pattern does."""
    exposure: ExposureRules = ExposureRules()
    """How much traffic a change may have."""
    limits: LimitRules = LimitRules()
    """How many at once, how soon again, how much loss."""
    freezes: Annotated[list[Freeze], Field(max_length=32)] = []
    """Times in which nothing starts or rises."""
    groups: Annotated[list[Group], Field(max_length=32)] = []
    """Workloads that fail together."""
    trusted_keys: Annotated[list[TrustedKey], Field(max_length=16)] = []
    """Keys whose signed statement about a change's origin is believed."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.expires_at is not None and self.on_expiry is None:
            raise ValueError("expiresAt without onExpiry: name the policy that rules from then on")
        if self.expires_at and self.effective_from and self.expires_at <= self.effective_from:
            raise ValueError("expiresAt is not after effectiveFrom")
        if not 0 < self.exposure.first_slice_max <= PPM:
            shown = format_percent(self.exposure.first_slice_max)
            raise ValueError(f"exposure.firstSliceMax is {shown}: a first slice needs traffic")
        for what, names in (
            ("freezes", [freeze.name for freeze in self.freezes]),
            ("groups", [group.name for group in self.groups]),
            ("trustedKeys", [key.id for key in self.trusted_keys]),
            ("patterns.own", [own.id for own in self.patterns.own]),
        ):
            if len(names) != len(set(names)):
                raise ValueError(f"two of {what} have the same name; give each its own")
        return self


class BrakeStatus(Model):
    """The brake, while it is on."""

    since: Timestamp
    """Since when."""
    message: Sentence = ""
    """The rollbacks that pulled it."""


class SpentBudget(Model):
    """Orders lost to changes in one app today."""

    target: WorkloadName
    """The workload."""
    day: Annotated[str, Field(max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    """The day, UTC."""
    lost: Annotated[str, Field(max_length=32)]
    """Orders lost."""


class SafetyPolicyStatus(ApprovedText):
    """What the controller saw."""

    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = 0
    """Generation of the policy that this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=12)] = []
    """Ready, Reconciling, Stalled."""
    in_force: bool = False
    """This policy rules now."""
    covered: Count = 0
    """Workloads of these tiers that have a CanaryPolicy in mode Enforce."""
    brake: BrakeStatus | None = None
    """The brake, while it is on."""
    brake_released_at: Timestamp | None = None
    """When a person last said resume: earlier rollbacks do not pull the brake again."""
    budgets: Annotated[list[SpentBudget], Field(max_length=128)] = []
    """Orders lost today."""
    notices: Annotated[list[Notice], Field(max_length=MAX_NOTICES)] = []
    """What people must be told of this policy: its end, a falling coverage, the brake."""
