"""Conditions of runs and policies: one author for each, derived from the status at every write, never kept by hand.

Ready, Reconciling and Stalled have the meaning of kstatus, so that Argo CD, Flux and `kubectl wait` understand a run
without knowing us. The message is the status's own sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from canary.api.reasons import ConditionType, Phase, Reason
from canary.api.run import CanaryRunStatus
from canary.api.types import Condition

Truth = Literal["True", "False", "Unknown"]
STALLED_PHASES = frozenset({Phase.ROLLED_BACK, Phase.ABORTED, Phase.REJECTED})


def of_run(status: CanaryRunStatus, generation: int, now: datetime) -> list[Condition]:
    """Return the conditions that a run's status implies."""
    phase, blind = status.phase, status.analysis.blind_since is not None and not status.phase.final
    ended, stalled = phase.final, phase in STALLED_PHASES
    verified = status.traffic.verified_at if status.traffic.weight_ppm else status.traffic.zero_verified_at
    unpaged = any(notice.attempts > 0 and not notice.delivered for notice in status.notices)
    facts: dict[ConditionType, Truth] = {
        ConditionType.READY: _truth(phase in (Phase.PROMOTED, Phase.SUPERSEDED)),
        ConditionType.RECONCILING: _truth(not ended),
        ConditionType.STALLED: _truth(stalled),
        ConditionType.ANALYZING: _truth(phase in (Phase.PROGRESSING, Phase.BAKING)),
        ConditionType.PROMOTED: _truth(phase is Phase.PROMOTED),
        ConditionType.ROLLED_BACK: _truth(phase is Phase.ROLLED_BACK),
        ConditionType.HELD: _truth(phase in (Phase.HELD, Phase.PAUSED) or bool(status.held_by)),
        ConditionType.BLIND: _truth(blind),
        ConditionType.TRAFFIC_VERIFIED: _truth(verified is not None),
        ConditionType.UNPAGED: _truth(unpaged),
    }
    reason = (status.reason or Reason.RUN_STARTED).replace(" ", "")
    return merged(status.conditions, facts, Said(reason, status.message, generation, now))


@dataclass(frozen=True, slots=True)
class Said:
    """What all conditions of one look share."""

    reason: str
    message: str
    generation: int
    now: datetime


def _truth(fact: bool) -> Truth:
    return "True" if fact else "False"


def merged(known: Sequence[Condition], facts: Mapping[ConditionType, Truth], said: Said) -> list[Condition]:
    """Return one condition for each fact; the time of transition is kept where the truth did not change."""
    before = {condition.type: condition for condition in known}
    conditions: list[Condition] = []
    for kind, truth in facts.items():
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == truth else said.now
        conditions.append(
            Condition(
                type=kind,
                status=truth,
                reason=said.reason[:64] or "Unknown",
                message=said.message[:1024],
                observed_generation=said.generation,
                last_transition_time=since,
            )
        )
    return conditions


def of_policy(
    known: Sequence[Condition], verdict: tuple[Reason, str], generation: int, now: datetime
) -> list[Condition]:
    """Return the conditions of a policy, by what its last look said."""
    reason, message = verdict
    stalled = reason in (
        Reason.ADOPTION_REFUSED,
        Reason.POLICY_INVALID,
        Reason.NO_DATA_YET,
        Reason.REJECTED_BEFORE,
        Reason.ATTEMPT_LIMIT,
        Reason.WORKLOAD_GONE,
    )
    ready = reason in (Reason.IDLE, Reason.OBSERVING)
    facts: dict[ConditionType, Truth] = {
        ConditionType.READY: _truth(ready),
        ConditionType.RECONCILING: _truth(not ready and not stalled),
        ConditionType.STALLED: _truth(stalled),
        ConditionType.SERVING: _truth(reason is not Reason.WORKLOAD_GONE),
    }
    return merged(known, facts, Said(reason.value, message, generation, now))
