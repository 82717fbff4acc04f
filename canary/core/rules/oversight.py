"""What becomes of a safety policy itself: is it in force, how many it covers, when it ends, whether the brake is on.

Pure: `(what was read) -> (status, answers)`. Its end is told at 14, 7 and 1 days; one that nothing follows stays in
force and pages daily; a falling coverage pages; the brake, once pulled, is on until a person says resume. What people
must be told is kept in the status until it was delivered, as for a run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from canary.api.notice import MAX_NOTICES, Notice
from canary.api.reasons import ConditionType, Opening, Reason, Verb
from canary.api.safety import BrakeStatus, SafetyPolicySpec, SafetyPolicyStatus, SpentBudget
from canary.core.decision import Answer
from canary.core.evidence import Directive, Safety
from canary.core.rules.effective import Standing
from canary.core.rules.limits import brake_message, lost_today
from canary.core.rules.weakening import Weakening, late, waits, weighed
from canary.core.telling import conditions
from canary.core.telling.wording import duration, plain

WARNED_AT_DAYS = (14, 7, 1)
DAY_SECONDS = 86_400.0
MAX_BUDGETS = 128


@dataclass(frozen=True, slots=True)
class Watched:
    """A safety policy as read, and the facts around it."""

    name: str
    uid: str
    generation: int
    spec: SafetyPolicySpec | None
    """The text in force. None: it cannot be read, and counts as the strictest."""
    status: SafetyPolicyStatus
    standing: Standing
    covered: int
    """Workloads of its tiers that are held."""
    unheld: Sequence[str]
    """Those that have a CanaryPolicy and are not."""
    safety: Safety
    directives: Sequence[Directive] = ()
    trouble: str = ""
    """Why it cannot be read."""
    written: SafetyPolicySpec | None = None
    """The text as written; None: as in force."""
    weakening: Weakening | None = None
    """What people said of the written text, where it is weaker than the one that they approved."""


@dataclass(frozen=True, slots=True)
class Overseen:
    """What follows from a look."""

    status: SafetyPolicyStatus
    answers: tuple[Answer, ...] = ()


def oversee(policy: Watched, now: datetime) -> Overseen:
    """Return the next status and what people who asked are answered. Idempotent within one moment."""
    status, answers = _heard(policy, now)
    status = status.model_copy(update={"brake": _brake(policy, status, now)})
    if policy.spec is not None:
        status = weighed(status, policy.written or policy.spec, policy.weakening, now)
    due = [
        notice for notice in _notices(policy, status, now) if notice.id not in {n.id for n in status.notices}
    ]
    reason, message = _said(policy, status)
    facts: dict[ConditionType, conditions.Truth] = {
        ConditionType.READY: "True" if reason is Reason.IDLE else "False",
        ConditionType.STALLED: "True"
        if policy.spec is None or policy.standing is Standing.OVERDUE
        else "False",
    }
    said = conditions.Said(reason.value, message, policy.generation, now)
    update = {
        "observed_generation": policy.generation,
        "in_force": policy.standing in (Standing.IN_FORCE, Standing.OVERDUE),
        "covered": policy.covered if policy.spec is not None else status.covered,
        "budgets": _budgets(policy, now),
        "notices": [*status.notices, *due][-MAX_NOTICES:],
        "conditions": conditions.merged(status.conditions, facts, said),
    }
    return Overseen(status.model_copy(update=update), answers)


def _heard(policy: Watched, now: datetime) -> tuple[SafetyPolicyStatus, tuple[Answer, ...]]:
    """Let the brake go where a person says resume, and answer who approves a weaker text; no more can be asked."""
    status, answers = policy.status, list[Answer]()
    for asked in policy.directives:
        if asked.verb is Verb.APPROVE:
            nothing = Answer(asked.uid, asked.name, False, "no weaker text of it waits for approval")
            answers.append(policy.weakening.answer(asked, now) if policy.weakening else nothing)
        elif asked.verb is not Verb.RESUME:
            text = f"{asked.verb.value} is not for a safety policy; `canary safety resume` lets the brake go"
            answers.append(Answer(asked.uid, asked.name, False, text))
        elif asked.machine:
            text = f"{asked.requester} is a machine: a person must let the brake go"
            answers.append(Answer(asked.uid, asked.name, False, text))
        elif status.brake is None:
            answers.append(Answer(asked.uid, asked.name, False, "the brake is off; nothing to resume"))
        else:
            status = status.model_copy(update={"brake": None, "brake_released_at": now})
            answers.append(
                Answer(asked.uid, asked.name, True, "the brake is off; what waited goes on by its gates")
            )
    return status, tuple(answers)


def _brake(policy: Watched, status: SafetyPolicyStatus, now: datetime) -> BrakeStatus | None:
    """Once pulled it stays on, however long ago the rollbacks are."""
    if status.brake is not None or policy.spec is None or policy.standing is Standing.PENDING:
        return status.brake
    released = max(filter(None, (status.brake_released_at, policy.safety.brake_released_at)), default=None)
    facts = Safety(
        names=(policy.name,),
        rules=policy.spec,
        digest="",
        neighbours=policy.safety.neighbours,
        brake_released_at=released,
    )
    pulled = brake_message(facts, now)
    return BrakeStatus(since=now, message=pulled) if pulled else None


def _budgets(policy: Watched, now: datetime) -> list[SpentBudget]:
    neighbours = policy.safety.neighbours
    lost = {each.workload: lost_today(each.workload, neighbours, now) for each in neighbours}
    most = sorted(((orders, workload) for workload, orders in lost.items() if orders > 0), reverse=True)
    return [
        SpentBudget(target=workload, day=f"{now:%Y-%m-%d}", lost=f"{orders:.1f}")
        for orders, workload in most[:MAX_BUDGETS]
    ]


def _said(policy: Watched, status: SafetyPolicyStatus) -> tuple[Reason, str]:
    if policy.spec is None:
        return Reason.POLICY_INVALID, f"it counts as the strictest there is: {policy.trouble}"
    match policy.standing:
        case Standing.PENDING:
            return Reason.OBSERVING, f"in force from {policy.spec.effective_from:%Y-%m-%d %H:%M} UTC on"
        case Standing.ENDED:
            return Reason.OBSERVING, f"it ended; {_follower(policy.spec)} rules in its place"
        case Standing.OVERDUE:
            return (
                Reason.POLICY_OVERDUE,
                f"its end has passed, and it stays in force: {_missing(policy.spec)}",
            )
        case _:
            pass
    if status.weaker is not None:
        return Reason.POLICY_WEAKER, waits(status.weaker)
    if status.brake is not None:
        return Reason.BRAKE_PULLED, f"the brake is on: {status.brake.message}"
    return Reason.IDLE, f"in force, {coverage(policy.spec, policy.covered)}"


def coverage(spec: SafetyPolicySpec, covered: int) -> str:
    """Say how many workloads are held, of how many there should be: "333 of 335 tier-1 workloads are held"."""
    expected = spec.applies_to.expected
    of = f" of {expected}" if expected is not None else ""
    return f"{covered}{of} tier-{'/'.join(map(str, spec.applies_to.tiers))} workloads are held"


def _follower(spec: SafetyPolicySpec) -> str:
    return spec.on_expiry.fallback if spec.on_expiry is not None else "nothing"


def _missing(spec: SafetyPolicySpec) -> str:
    return f"{_follower(spec)}, which should follow, is not there, not in force, or covers fewer tiers"


# -- what people must be told --------------------------------------------------------------------------------------


def _notices(policy: Watched, status: SafetyPolicyStatus, now: datetime) -> Iterator[Notice]:
    if policy.spec is None:
        text = f"nothing rises in any tier until it can be read: {policy.trouble}"
        yield _notice(
            policy, now, (Reason.POLICY_INVALID, f"{policy.generation}"), (Opening.ACTION_NEEDED, text)
        )
        return
    yield from _of_its_end(policy, policy.spec, now)
    if policy.covered < policy.status.covered and policy.standing is not Standing.PENDING:
        fell = policy.status.covered - policy.covered
        named = f"; not held are {', '.join(policy.unheld[:5])}" if policy.unheld else ""
        text = f"{fell} fewer than before: {coverage(policy.spec, policy.covered)}{named}"
        again = f"{policy.covered}/{now:%Y%m%dT%H%M%S}"
        yield _notice(policy, now, (Reason.COVERAGE_FELL, again), (Opening.ACTION_NEEDED, text))
    yield from _of_a_weaker_text(policy, status, now)
    if status.brake is not None:
        text = f"the brake is on: {status.brake.message}; nothing that is not proved human starts or rises"
        again = f"{status.brake.since:%Y%m%dT%H%M%S}"
        yield _notice(policy, now, (Reason.BRAKE_PULLED, again), (Opening.DECISION_NEEDED, text))


def _of_a_weaker_text(policy: Watched, status: SafetyPolicyStatus, now: datetime) -> Iterator[Notice]:
    """Tell that it waits, and once more when it waits for longer than a review may."""
    if status.weaker is None or policy.weakening is None:
        return
    overdue = late(status.weaker, policy.weakening.electorate.rules, now)
    state = Reason.POLICY_WEAKER, f"{status.weaker.digest[7:23]}{overdue}"
    yield _notice(policy, now, state, (Opening.DECISION_NEEDED, waits(status.weaker)))


def _of_its_end(policy: Watched, spec: SafetyPolicySpec, now: datetime) -> Iterator[Notice]:
    if policy.standing is Standing.OVERDUE:
        text = f"its end has passed, and it stays in force: {_missing(spec)}"
        yield _notice(policy, now, (Reason.POLICY_OVERDUE, f"{now:%Y%m%d}"), (Opening.ACTION_NEEDED, text))
    if policy.standing is not Standing.IN_FORCE or spec.expires_at is None:
        return
    left = (spec.expires_at - now).total_seconds()
    passed = [days for days in WARNED_AT_DAYS if left <= days * DAY_SECONDS]
    if passed:
        text = (
            f"it ends in {duration(left)}, {spec.expires_at:%Y-%m-%d %H:%M} UTC; then {_follower(spec)} rules"
        )
        again = f"{min(passed)}/{spec.expires_at:%Y%m%d}"
        yield _notice(policy, now, (Reason.POLICY_EXPIRING, again), (Opening.DECISION_NEEDED, text))


def _notice(policy: Watched, now: datetime, state: tuple[Reason, str], said: tuple[Opening, str]) -> Notice:
    (reason, again), (opening, text) = state, said
    commands = {
        Reason.BRAKE_PULLED: f"canary safety resume {policy.name} --reason ...      after reading `canary list -A`",
        Reason.POLICY_WEAKER: f"canary safety approve {policy.name} --reason ...      or apply the former text again",
        Reason.POLICY_INVALID: f"kubectl get safetypolicy {policy.name} -o yaml | canary lint -",
    }
    command = commands.get(reason, f"canary safety status {policy.name}")
    return Notice(
        id=f"{policy.uid}/{reason.value}/{again}"[:128],
        opening=opening.value,
        reason=reason.value,
        title=plain(f"{opening.value} - safety policy {policy.name}: {text}", 256),
        body=f"{plain(text)}\ndo this: {command}",
        created_at=now,
    )
