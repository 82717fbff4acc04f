"""Which safety policies rule now, and what they say together: field by field, the strictest wins.

Enter: the policies as written, by name, and the moment. Leave: where each stands, and one text for a tier. An end never
leaves a tier without a rule: a policy whose follower is not there, or covers less, stays in force. `stricter` is
associative and commutative, so it does not matter in which order anybody wrote what.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import reduce
from typing import TypeVar

from canary.api.policy import Step
from canary.api.reasons import GROUP, Origin
from canary.api.run import SafetyTerms
from canary.api.safety import (
    AppliesTo,
    ApprovalRules,
    Brake,
    ExposureRules,
    LimitRules,
    OrderBudget,
    PatternRules,
    RecordRules,
    SafetyPolicySpec,
    UnknownOrigin,
)
from canary.api.types import Model
from canary.core.record import sha256_of

NOBODY = f"{GROUP}:nobody"  # a group that has no members
STRICTEST = SafetyPolicySpec(
    applies_to=AppliesTo(tiers=[1, 2, 3, 4]),
    record=RecordRules(
        require=["changeId", "rollbackPlan", "securityImpact", "what", "why"], unknown=UnknownOrigin.BLOCK
    ),
    approvals=ApprovalRules(
        count=8,
        senior=8,
        approver_groups=[NOBODY],
        senior_groups=[NOBODY],
        presence="Required",
        expire_after=timedelta(hours=1),
        review_within=timedelta(hours=1),
    ),
    exposure=ExposureRules(unapproved_max=0, first_slice_max=1_000, max_step_ratio=2),
    limits=LimitRules(
        per_cluster=0,
        per_group=0,
        per_namespace=0,
        cooldown=timedelta(days=7),
        group_cooldown=timedelta(days=7),
        attempts=1,
        order_budget=OrderBudget(least=0, share=0),
        brake=Brake(rollbacks=1, within=timedelta(days=7)),
    ),
)
"""What a policy that cannot be read counts as: nobody can approve, and nothing rises without."""

M = TypeVar("M", bound=Model)
T = TypeVar("T")


class Standing(StrEnum):
    """Where a policy stands."""

    PENDING = "Pending"  # its time has not come
    IN_FORCE = "InForce"
    OVERDUE = "Overdue"  # its end has come and nothing follows: it stays in force, loudly
    ENDED = "Ended"  # another one rules in its place


def standing(name: str, policies: Mapping[str, SafetyPolicySpec], now: datetime) -> Standing:
    """Return where the policy of this name stands."""
    spec = policies[name]
    if _is_to_come(spec, now):
        return Standing.PENDING
    if not _is_over(spec, now):
        return Standing.IN_FORCE
    return Standing.ENDED if _is_followed(name, policies, now) else Standing.OVERDUE


def _is_to_come(spec: SafetyPolicySpec, now: datetime) -> bool:
    return spec.effective_from is not None and now < spec.effective_from


def _is_over(spec: SafetyPolicySpec, now: datetime) -> bool:
    return spec.expires_at is not None and now >= spec.expires_at


def _is_followed(name: str, policies: Mapping[str, SafetyPolicySpec], now: datetime) -> bool:
    """Go from follower to follower, to one that rules. In a circle of ended policies each stays."""
    passed = [name]
    while True:
        spec = policies[passed[-1]]
        follower = spec.on_expiry.fallback if spec.on_expiry is not None else ""
        after = policies.get(follower)
        if follower in passed:
            return False
        if after is None or _is_to_come(after, now):
            return len(passed) > 1
        if not set(spec.applies_to.tiers) <= set(after.applies_to.tiers):
            return len(passed) > 1
        if not _is_over(after, now):
            return True
        passed.append(follower)


@dataclass(frozen=True, slots=True)
class Effective:
    """What rules one tier: the names of the policies, and their one text."""

    names: tuple[str, ...]
    spec: SafetyPolicySpec


def effective(policies: Mapping[str, SafetyPolicySpec], tier: int, now: datetime) -> Effective | None:
    """Return what rules this tier now; None where no policy was ever written for it."""
    names = tuple(
        name
        for name in sorted(policies)
        if tier in policies[name].applies_to.tiers
        and standing(name, policies, now) in (Standing.IN_FORCE, Standing.OVERDUE)
    )
    return (
        Effective(names, reduce(stricter, map(normal, map(policies.__getitem__, names)))) if names else None
    )


def terms_of(ruling: Effective | None) -> SafetyTerms:
    """Return what a run pins of its rules; freezes, limits and keys are asked anew at every look."""
    if ruling is None:
        return SafetyTerms()
    spec = ruling.spec
    rules = {part: getattr(spec, part).wire() for part in ("record", "approvals", "patterns", "exposure")}
    return SafetyTerms(
        unapproved_max_ppm=spec.exposure.unapproved_max,
        approvals=spec.approvals.count,
        seniors=spec.approvals.senior,
        policies=list(ruling.names[:16]),
        digest=sha256_of(rules),
        review_within=spec.approvals.review_within,
    )


def fitted(steps: Sequence[Step], origin: Origin, ruling: Effective | None) -> list[Step]:
    """Return the plan within the first slice and the ratio that a change not proved human may have.

    A plan that begins too high or leaps gets steps before and between; none of its own is left out or moved.
    """
    if ruling is None or origin is Origin.HUMAN:
        return list(steps)
    exposure, plan = ruling.spec.exposure, list[Step]()
    reach = exposure.first_slice_max
    for step in steps:
        while step.weight > reach:
            plan.append(Step(weight=reach))
            reach *= exposure.max_step_ratio
        plan.append(step)
        reach = step.weight * exposure.max_step_ratio
    return plan


# -- the strictest wins --------------------------------------------------------------------------------------------


def normal(spec: SafetyPolicySpec) -> SafetyPolicySpec:
    """Return the text without its times and in one order: what `stricter` returns of a policy and itself."""
    return stricter(spec, spec)


def weaker_fields(old: SafetyPolicySpec, new: SafetyPolicySpec) -> list[str]:
    """Return the fields, as written, in which the new text asks less than the old one."""
    merged, alone = stricter(old, new).wire(), normal(new).wire()
    narrower = set(old.applies_to.tiers) - set(new.applies_to.tiers)
    found = ["appliesTo.tiers"] if narrower else []
    found += _shorter(old, new)
    for part in _RULES:
        one, other = merged[part], alone[part]
        names = [f".{name}" for name in one if one[name] != other[name]] if isinstance(one, dict) else [""]
        found += [f"{part}{name}" for name in names] if one != other else []
    return found


def _shorter(old: SafetyPolicySpec, new: SafetyPolicySpec) -> list[str]:
    """Return the fields by which the new text rules for less time, or leaves its place to another."""
    begins, ends = (old.effective_from, new.effective_from), (old.expires_at, new.expires_at)
    later = begins[1] is not None and (begins[0] is None or begins[1] > begins[0])
    sooner = ends[1] is not None and (ends[0] is None or ends[1] < ends[0])
    other = old.on_expiry is not None and new.on_expiry not in (None, old.on_expiry)
    found = {"effectiveFrom": later, "expiresAt": sooner, "onExpiry.fallback": other}
    return [name for name, weaker in found.items() if weaker]


_RULES = ("record", "approvals", "patterns", "exposure", "limits", "freezes", "groups", "trustedKeys")


def stricter(one: SafetyPolicySpec, other: SafetyPolicySpec) -> SafetyPolicySpec:
    """Return a text that is nowhere weaker than either."""
    return SafetyPolicySpec.model_construct(
        applies_to=AppliesTo(tiers=_both(one.applies_to.tiers, other.applies_to.tiers)),
        effective_from=None,
        expires_at=None,
        on_expiry=None,
        record=RecordRules.model_construct(
            require=_both(one.record.require, other.record.require),
            unknown=max(one.record.unknown, other.record.unknown, key=list(UnknownOrigin).index),
        ),
        approvals=_approvals(one.approvals, other.approvals),
        patterns=PatternRules.model_construct(
            refuse=_both(one.patterns.refuse, other.patterns.refuse),
            approve=_both(one.patterns.approve, other.patterns.approve),
            own=_each(one.patterns.own, other.patterns.own),
        ),
        exposure=_least(one.exposure, other.exposure),
        limits=_limits(one.limits, other.limits),
        freezes=_each(one.freezes, other.freezes),
        groups=_each(one.groups, other.groups),
        trusted_keys=_common(one.trusted_keys, other.trusted_keys),
    )


def _approvals(one: ApprovalRules, other: ApprovalRules) -> ApprovalRules:
    """Groups of a policy that asks for nobody say nothing; where two ask, only who is in both may answer."""
    return ApprovalRules.model_construct(
        count=max(one.count, other.count),
        senior=max(one.senior, other.senior),
        approver_groups=_shared([rules.approver_groups for rules in (one, other) if rules.count]),
        senior_groups=_shared([rules.senior_groups for rules in (one, other) if rules.senior]),
        denied_groups=_both(one.denied_groups, other.denied_groups),
        presence="Required" if "Required" in (one.presence, other.presence) else "None",
        expire_after=min(one.expire_after, other.expire_after),
        review_within=min(one.review_within, other.review_within),
    )


def _limits(one: LimitRules, other: LimitRules) -> LimitRules:
    longest = {name: max(getattr(one, name), getattr(other, name)) for name in ("cooldown", "group_cooldown")}
    brake = Brake(
        rollbacks=min(one.brake.rollbacks, other.brake.rollbacks),
        within=max(one.brake.within, other.brake.within),
    )
    budget = _least(one.order_budget, other.order_budget)
    return _least(one, other, ("order_budget", "brake")).model_copy(
        update={**longest, "brake": brake, "order_budget": budget}
    )


def _least(one: M, other: M, but: Iterable[str] = ()) -> M:
    """Return the model with the smaller of each field."""
    names = type(one).model_fields.keys() - set(but)
    return one.model_copy(update={name: min(getattr(one, name), getattr(other, name)) for name in names})


def _both(one: Iterable[T], other: Iterable[T]) -> list[T]:
    return sorted({*one, *other})  # pyright: ignore[reportArgumentType]


def _shared(groups: list[list[str]]) -> list[str]:
    return sorted(set[str].intersection(*map(set, groups))) if groups else []


def _each(one: Iterable[M], other: Iterable[M]) -> list[M]:
    """Return every entry of both lists once."""
    found = {entry.model_dump_json(): entry for entry in (*one, *other)}
    return [found[text] for text in sorted(found)]


def _common(one: Iterable[M], other: Iterable[M]) -> list[M]:
    """Return the entries that are in both lists."""
    known = {entry.model_dump_json() for entry in other}
    return [entry for entry in _each(one, []) if entry.model_dump_json() in known]
