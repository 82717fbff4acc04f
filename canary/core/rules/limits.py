"""The limits of the safety policies: when nothing starts or rises, how many at once, how soon again, how much loss.

Gates, named by what must be true, over what rules the run now (`Situation.safety`). They are asked before a start or a
raise and never before a lowering: a freeze, a limit, a cool-down or the brake blocks no way back. Freezes, cool-downs
and the budget hold for every change; places and the brake for what is not proved human.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from canary.api.reasons import PPM, Origin, Reason
from canary.api.safety import Freeze, SafetyPolicySpec, UnknownOrigin
from canary.core.decision import Closed, Situation
from canary.core.evidence import Missing, Neighbour, Safety
from canary.core.telling.stored import StoredRun
from canary.core.telling.wording import count, duration, number, plain, seconds_between

REPEATS_DAYS, MOST_DOUBLINGS = 7, 8
DAY_SECONDS = 86_400.0


def safety_is_readable(situation: Situation) -> Closed | None:
    safety = situation.evidence.safety
    if not isinstance(safety, Missing):
        return None
    text = f"the safety policies cannot be read, so the strictest is taken: {safety.detail or safety.reason.value}"
    return Closed(Reason.LIMIT_REACHED, text)


def origin_is_allowed(situation: Situation) -> Closed | None:
    safety = situation.safety
    if safety is None or safety.rules.record.unknown is not UnknownOrigin.BLOCK:
        return None
    if situation.spec.origin is not Origin.UNKNOWN:
        return None
    text = (
        "nobody knows who wrote it, and the safety policy lets no such change start: `canary flag` it in CI"
    )
    return Closed(Reason.CHANGE_RECORD_MISSING, text)


# -- time ----------------------------------------------------------------------------------------------------------


def no_freeze_is_on(situation: Situation) -> Closed | None:
    safety = situation.safety
    if safety is None:
        return None
    tier = situation.spec.policy.tier
    frozen = freeze_on(safety.rules.freezes, tier, situation.now, safety.zones)
    return Closed(Reason.FROZEN, f"{frozen}; a rollback or an abort works as ever") if frozen else None


def freeze_on(freezes: Iterable[Freeze], tier: int, now: datetime, zones: Mapping[str, tzinfo | None]) -> str:
    """Return the freeze that is on for this tier, as a clause; empty: none."""
    for freeze in freezes:
        if tier not in freeze.tiers:
            continue
        zone = zones.get(freeze.timezone)
        if zone is None:
            return f"frozen ({freeze.name}): the time zone {plain(freeze.timezone, 64)} is not known here"
        start, end = moments(freeze, zone)
        if start <= now < end:
            return f"frozen ({freeze.name}) until {freeze.end} {freeze.timezone}"
    return ""


def moments(freeze: Freeze, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return begin and end in UTC. Of an hour that the clocks pass twice or leave out, the wider reading counts."""

    def readings(text: str) -> list[datetime]:
        local = datetime.fromisoformat(text)
        return [local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]

    return min(readings(freeze.start)), max(readings(freeze.end))


# -- at once -------------------------------------------------------------------------------------------------------


def binds(situation: Situation) -> Safety | None:
    """Return what rules, where it holds for this run's origin: human only where that is proved."""
    return None if situation.spec.origin is Origin.HUMAN else situation.safety


def a_place_is_free(situation: Situation) -> Closed | None:
    safety = binds(situation)
    if safety is None:
        return None
    limits, own = safety.rules.limits, workload_of(situation)
    namespace = f"{own.partition('/')[0]}/"
    active = [each for each in safety.neighbours if each.active]
    circles: list[tuple[str, int, list[Neighbour]]] = [
        ("the cluster", limits.per_cluster, active),
        (
            f"namespace {namespace[:-1]}",
            limits.per_namespace,
            [n for n in active if n.workload.startswith(namespace)],
        ),
    ]
    for name, others in groups_of(own, safety.rules):
        circles.append((f"group {name}", limits.per_group, [n for n in active if n.workload in others]))
    for where, limit, there in circles:
        if len(there) >= limit:
            names = ", ".join(sorted({each.workload for each in there})[:3])
            text = f"{len(there)} of {limit} changes that are not proved human are under way in {where}"
            return Closed(Reason.LIMIT_REACHED, f"{text}: {names}" if names else text)
    return None


def workload_of(situation: Situation) -> str:
    return f"{situation.run.namespace}/{situation.spec.target.name}"


def groups_of(workload: str, rules: SafetyPolicySpec) -> list[tuple[str, set[str]]]:
    """Return the groups that this workload is in, each with all its workloads."""
    return [(group.name, set(group.targets)) for group in rules.groups if workload in group.targets]


# -- after a rollback ----------------------------------------------------------------------------------------------


def cooling(situation: Situation) -> tuple[datetime, str] | None:
    """Return the rollback that this run still waits for, and the sentence; None: it waits for none."""
    safety = situation.safety
    if safety is None:
        return None
    own, limits = workload_of(situation), safety.rules.limits
    circles = [("this app", {own}, limits.cooldown)]
    circles += [(f"group {name}", all_, limits.group_cooldown) for name, all_ in groups_of(own, safety.rules)]
    for where, workloads, pause in circles:
        ends = [n.rolled_back_at for n in safety.neighbours if n.rolled_back_at and n.workload in workloads]
        left = seconds_left(ends, pause, situation.now)
        if left > 0:
            return max(ends), f"{where} cools down after a rollback for another {duration(left)}"
    return None


def seconds_left(ends: Sequence[datetime], pause: timedelta, now: datetime) -> float:
    """Return what is left of the pause after the newest rollback, doubled for each earlier one within a week."""
    recent = [end for end in ends if end > now - timedelta(days=REPEATS_DAYS)]
    if not recent:
        return 0.0
    wait = pause * 2 ** min(len(recent) - 1, MOST_DOUBLINGS)
    return (max(recent) + wait - now).total_seconds()


def budget_is_left(situation: Situation) -> Closed | None:
    """Orders lost on one day (UTC) to changes in the app, or in an app of its group."""
    safety = situation.safety
    if safety is None:
        return None
    own = workload_of(situation)
    circle = {own}.union(*(all_ for _, all_ in groups_of(own, safety.rules)))
    for workload in sorted(circle):
        limit = budget_of(workload, safety)
        lost = lost_today(workload, safety.neighbours, situation.now)
        lost += _own_loss(situation) if workload == own else 0.0
        if lost > limit:
            text = f"changes in {workload} lost {count(lost)} orders today, more than the budget of {count(limit)}"
            return Closed(Reason.LIMIT_REACHED, f"{text}; nothing more rises before 00:00 UTC")
    return None


def budget_of(workload: str, safety: Safety) -> float:
    """Return how many orders changes in a workload may lose a day: at least so many, or a share of the day's orders."""
    budget = safety.rules.limits.order_budget
    a_day = max((each.orders_a_day for each in safety.neighbours if each.workload == workload), default=0.0)
    return max(float(budget.least), a_day * budget.share / PPM)


def orders_a_day(run: StoredRun, now: datetime) -> float:
    """Return the orders of the whole site in a day at the rate that a run saw in its last step; 0: not known."""
    steps = [entry.at for entry in run.timeline if entry.reason == Reason.STEP_STARTED]
    seconds = seconds_between(steps[-1] if steps else None, run.at("decidedAt") or now)
    expected = run.figure("ordersExpected")
    if not seconds or seconds <= 0 or not expected or run.top_ppm <= 0:
        return 0.0
    return expected / (run.top_ppm / PPM) / seconds * DAY_SECONDS


def lost_today(workload: str, neighbours: Iterable[Neighbour], now: datetime) -> float:
    """Return the orders that runs of one workload lost on this day, by UTC."""
    return sum(
        each.lost
        for each in neighbours
        if each.workload == workload and each.seen_at is not None and each.seen_at.date() == now.date()
    )


def _own_loss(situation: Situation) -> float:
    """Return what the run under way surely lost; its estimate moves about 0 as long as it is well."""
    return max(0.0, number(situation.status.analysis.lost_low) or 0.0)


def brake_is_off(situation: Situation) -> Closed | None:
    safety = binds(situation)
    if safety is None:
        return None
    pulled = safety.braked or brake_message(safety, situation.now)
    if not pulled:
        return None
    name = safety.names[0]
    return Closed(
        Reason.LIMIT_REACHED, f"the brake is on: {pulled}; `canary safety resume {name}` lets it go"
    )


def brake_message(safety: Safety, now: datetime) -> str:
    """Say why the brake must be on: too many rollbacks since a person last let it go; empty: it need not."""
    brake = safety.rules.limits.brake
    since = max(now - brake.within, safety.brake_released_at or datetime.min.replace(tzinfo=UTC))
    pulled = sorted(n.workload for n in safety.neighbours if n.rolled_back_at and n.rolled_back_at > since)
    if len(pulled) < brake.rollbacks:
        return ""
    within = duration(brake.within.total_seconds())
    return f"{len(pulled)} rollbacks within {within}: {', '.join(dict.fromkeys(pulled))}"[:512]
