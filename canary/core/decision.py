"""The values around one decision: what a rule may look at (`Situation`) and what comes out (`Decision`).

`Situation` bundles the run, the evidence and the moment, so that every guard, gate and phase function has one
parameter. `enter` and `stay` are the only two ways in which a status moves: each writes the sentence that log, Event,
condition, page and CLI all show.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from canary.api.policy import Step
from canary.api.reasons import PPM, Phase, Reason
from canary.api.run import MAX_TIMELINE, CanaryRunSpec, CanaryRunStatus, TimelineEntry
from canary.core.actions import Action
from canary.core.evidence import Evidence, Missing, Route, Safety, Side, Workload
from canary.core.portions import pods_within

MIN_SIDE_PODS = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """The controller's own bounds; times in seconds."""

    headroom: float = 1.25
    """Side pods per pod that the weight alone would need."""
    baseline_seconds: float = 30.0
    """How long stable pods are watched, to know their noise, before the first slice."""
    propagation_seconds: float = 1.0
    """How long a written weight may take to reach every proxy."""
    blind_seconds: float = 10.0
    """How long an exposed run may be without data before its weight goes to 0."""
    verify_seconds: float = 120.0
    """How long a rollback may stay unverified before people are called."""
    commit_seconds: float = 600.0
    """How long the native roll may take before people are called."""
    return_step_seconds: float = 10.0
    """How long half of the traffic is watched on its way back."""
    drain_window_seconds: float = 300.0
    """A site that recovers within this time of losing the side is proof against the side."""
    site_healthy_seconds: float = 120.0
    """How long a site must be well before it counts as recovered."""


@dataclass(frozen=True, slots=True)
class Run:
    """A CanaryRun as read: the plan, the memory, and the name to write back to."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: CanaryRunSpec
    status: CanaryRunStatus
    limits: Limits = Limits()
    stored_spec: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The spec as stored, where it was read from there: what sentences are made from."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to one directive."""

    uid: str
    name: str
    done: bool
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one look: the new status, what the hands do, what is answered, when to look again."""

    status: CanaryRunStatus
    actions: tuple[Action, ...] = ()
    answers: tuple[Answer, ...] = ()
    wake_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a rule may look at."""

    run: Run
    evidence: Evidence
    now: datetime

    @property
    def status(self) -> CanaryRunStatus:
        return self.run.status

    @property
    def spec(self) -> CanaryRunSpec:
        return self.run.spec

    @property
    def phase(self) -> Phase:
        return self.run.status.phase

    @property
    def weight_ppm(self) -> int:
        return self.run.status.traffic.weight_ppm

    @property
    def workload(self) -> Workload | None:
        return None if isinstance(self.evidence.workload, Missing) else self.evidence.workload

    @property
    def side(self) -> Side | None:
        return None if isinstance(self.evidence.side, Missing) else self.evidence.side

    @property
    def way_back(self) -> Side | None:
        return None if isinstance(self.evidence.way_back, Missing) else self.evidence.way_back

    @property
    def route(self) -> Route | None:
        return None if isinstance(self.evidence.route, Missing) else self.evidence.route

    @property
    def safety(self) -> Safety | None:
        return None if isinstance(self.evidence.safety, Missing) else self.evidence.safety

    @property
    def is_good_again(self) -> bool:
        """Tell whether the Deployment asks for the last good template, or for the one that a person accepted."""
        good = (self.spec.baseline.template_hash, self.status.accepted)
        return self.workload is not None and self.workload.template_hash in good

    def runs_whole(self, template_hash: str) -> bool:
        """Tell whether every pod that the Deployment asks for runs this template, and only that."""
        workload = self.workload
        if workload is None or not workload.settled or workload.template_hash != template_hash:
            return False
        return workload.current_ready >= max(1, workload.replicas) and workload.other_pods == 0

    @property
    def next_step(self) -> Step | None:
        index = self.status.step + 1
        return self.spec.steps[index] if index < len(self.spec.steps) else None

    @property
    def next_epoch(self) -> int:
        """Return the number of a new rollback write: above the one asked for, and above any that a route carries."""
        stored = self.route.last_epoch if self.route is not None else 0
        return max(self.status.traffic.epoch, stored) + 1

    @property
    def was_cut(self) -> bool:
        """Tell whether the route carries a rollback write that is in no status: its controller died between the two."""
        route, asked = self.route, self.status.traffic
        if route is None:
            return False
        return route.weight_ppm == 0 < asked.weight_ppm and route.last_epoch > asked.epoch

    @property
    def tested_bytes(self) -> list[str]:
        """Return what is tested of each image that a tag names: as fixed, else as the pods run it now."""
        asked = self.spec.revision.images
        now = (each for each in self.evidence.bytes_of_tags if each.partition("=")[0] in asked)
        return self.status.side.bytes_of_tags or sorted(now)

    def since(self, moment: datetime | None) -> float:
        """Return the seconds since `moment`; none at all where it never came."""
        return (self.now - moment).total_seconds() if moment is not None else 0.0

    def pods_for(self, weight_ppm: int) -> int:
        """Return how many side pods this weight needs: max(2, min(N, ceil(N w headroom))), or those that make it up."""
        stable = self.workload.replicas if self.workload else 0
        if self.in_pods:
            return max(MIN_SIDE_PODS, pods_within(weight_ppm, stable))
        return side_pods(stable, weight_ppm, self.run.limits.headroom)

    @property
    def in_pods(self) -> bool:
        """Tell whether shares are whole pods: then nobody can be kept off the Deployment's own pods while it rolls."""
        return self.spec.policy.route.in_pods

    def with_status(self, status: CanaryRunStatus) -> "Situation":
        return replace(self, run=replace(self.run, status=status))


@dataclass(frozen=True, slots=True)
class Closed:
    """Why exposure may not rise now."""

    reason: Reason
    message: str


Gate = Callable[[Situation], Closed | None]
"""A fact that must hold before exposure may rise, named by what must be true."""


def side_pods(stable_pods: int, weight_ppm: int, headroom: float) -> int:
    """Return the pods that a share of the traffic needs beside `stable_pods`, never fewer than two.

    All of the traffic needs as many as stable has: never more, whatever the headroom.
    """
    wanted = math.ceil(stable_pods * weight_ppm * headroom / PPM)
    return max(MIN_SIDE_PODS, min(max(stable_pods, 1), wanted))


def change(status: CanaryRunStatus, **fields: Any) -> CanaryRunStatus:
    """Return the status with some fields replaced."""
    return status.model_copy(update=fields)


def set_traffic(status: CanaryRunStatus, **fields: Any) -> CanaryRunStatus:
    """Return the status with some of its traffic fields replaced."""
    return change(status, traffic=status.traffic.model_copy(update=fields))


@dataclass(frozen=True, slots=True)
class Because:
    """Why something happens: the machine's word, the sentence, and who asked (empty: the controller)."""

    reason: Reason
    message: str
    by: str = ""


def record(now: datetime, status: CanaryRunStatus, because: Because) -> CanaryRunStatus:
    """Append to the timeline; the oldest entries but the first fall off."""
    entry = TimelineEntry(
        at=now,
        phase=status.phase,
        reason=because.reason.value,
        message=because.message[:1024],
        weight_ppm=status.traffic.weight_ppm,
        by=because.by[:256],
    )
    kept = [*status.timeline, entry]
    if len(kept) > MAX_TIMELINE:
        kept = [kept[0], *kept[len(kept) - MAX_TIMELINE + 1 :]]
    return change(status, timeline=kept)


def enter(situation: Situation, phase: Phase, because: Because, **fields: Any) -> CanaryRunStatus:
    """Move to `phase`: the sentence, the time and the timeline move along. Extra fields are set as given."""
    status = change(
        situation.status,
        phase=phase,
        reason=because.reason.value,
        message=because.message[:1024],
        phase_started_at=situation.now,
        actor=because.by[:256],
        **fields,
    )
    if phase.final:
        status = change(status, finished_at=situation.now)
    return record(situation.now, status, because)


def stay(situation: Situation, reason: Reason, message: str) -> CanaryRunStatus:
    """Keep the phase and say what is waited for."""
    return change(situation.status, reason=reason.value, message=message[:1024])


Facts = Mapping[Reason, str]
