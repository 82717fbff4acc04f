"""The loop body, in nine steps: read, look, decide, check, lower, write, raise, tell, wait.

    1 read     the run: what our last write of it returned, where no watch tells of a newer; else from the API server
    2 look     evidence; never raises for missing data. Quick where the last whole look may be believed (`whole.py`)
    3 decide   pure; what is not a fall and was decided on a quick look is decided again on a whole one
    4 check    the invariants; a breach keeps the lower exposure
    5 lower    runs even if 6 will fail
    6 write    the audit: a raise that cannot be on record first is decided anew, against a closed gate. Then
               the status, against the version that was read; the only write to our object
    7 raise    only if 6 succeeded; the lease is asked in the client, the route's version in the router
    8 tell     Events and the outbox: due until acknowledged
    9 wait     how long until the next look

What one look hands to the next (`Memory`) is kept here between status writes, and is only a cache: after a crash the
newest written one serves, and the next counter difference covers the gap.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from canary.api.reasons import Phase, Reason, Verdict
from canary.api.run import CanaryRunStatus
from canary.audit.entries import rises
from canary.core import invariants, machine
from canary.core.actions import Lowering, Raising
from canary.core.analysis import Analysed, worth_writing
from canary.core.decision import Because, Decision, Run, Situation, change, record, set_traffic
from canary.core.evidence import Missing
from canary.core.memory import Memory, remember, texts
from canary.core.telling import conditions
from canary.errors import CanaryError, ConflictError
from canary.kube.cache import slim
from canary.kube.client import Intent
from canary.kube.patches import merge_diff
from canary.kube.resources import CANARYRUNS, Key
from canary.operator import act
from canary.operator.auditor import Auditor
from canary.operator.hands import Hands, answer
from canary.operator.look import Gathered, gather, glance, interval_seconds
from canary.operator.objects import Json, Shelf, run_of
from canary.operator.rulebook import Rulebook
from canary.operator.tell import Teller
from canary.operator.whole import Kept, Watches, Whole, believed_until, only_falls, worth_keeping

logger = logging.getLogger(__name__)
WRITE_EVERY_LOOKS, WRITE_EVERY_SECONDS = 2.0, 10.0  # whichever is sooner: the sentinel waits for 90 s
LEAST_OWED_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Looked:
    """One look and what follows from it."""

    situation: Situation
    gathered: Gathered
    decision: Decision
    whole: Whole | None
    """What the next look may take over."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """The outcome of one look: what stands now, and when to look again (None: never)."""

    before: Run
    after: Run
    wake_seconds: float | None
    wrote: bool

    @property
    def concerns_policy(self) -> bool:
        """Tell whether the policy has news to tell, or may start another run: a phase, or the last thing given back."""
        before, after = self.before.status, self.after.status
        return before.phase is not after.phase or before.tidied_at != after.tidied_at


class RunTicker:
    """Looks at runs, one at a time per key; safe to use from several threads for different keys."""

    def __init__(self, hands: Hands, teller: Teller, rulebook: Rulebook, watches: Watches) -> None:
        self._hands = hands
        self._watches = watches
        self._rulebook = rulebook
        self._teller = teller
        self._auditor = Auditor(hands.scribe, hands.clock)
        self._kept: dict[Key, Kept] = {}
        self._read_runs: Shelf[Run] = Shelf(lambda stored: run_of(stored, hands.limits))

    def tick(self, key: Key) -> Ticked | None:
        """Look once at the run and do what follows; None where there is nothing to look at any more."""
        stored, whole = self._stored(key)  # 1 read
        if stored is None:
            self._kept.pop(key, None)
            return None
        run = _started(self._read_runs.read(stored), self._hands.clock.now())
        told = self._teller.owes(run) is None and not self._auditor.owes(run)
        if run.status.tidied_at is not None and told:
            self._kept.pop(key, None)
            return None
        with self._rulebook.turn_of(run):
            ticked = self._turn(run, stored, whole)
            self._rulebook.began(ticked.before, ticked.after)
        return ticked

    def _stored(self, key: Key) -> tuple[Json | None, Whole | None]:
        """Return the run, and the whole look that a quick one may rest on: there is none where the run is read live."""
        kept = self._kept.get(key)
        if kept is not None and kept.whole is not None:
            # Whatever fails from here on, the next look is a whole one.
            self._kept[key] = replace(kept, whole=None)
            now = self._hands.clock.monotonic()
            if self._watches.confirm_run(kept.stored) and self._watches.confirm(kept.whole, now):
                return kept.stored, kept.whole
        return self._hands.client.get(CANARYRUNS.at(key.namespace, key.name)), None

    def _turn(self, run: Run, stored: Json, whole: Whole | None) -> Ticked:
        looked = self._looked(run, stored, whole)  # 2 look, 3 decide, 4 check
        if whole is not None and not only_falls(run, looked.decision):
            looked = self._looked(run, stored, None)
        situation, gathered, decision = looked.situation, looked.gathered, looked.decision
        after = _after(situation, decision)
        self._lower(act.Turn(self._hands, after, gathered), decision)  # 5 lower
        decision, after = self._on_record(situation, (decision, after), gathered)
        after = self._teller.prepare(after)
        wrote = self._write(run, after, (stored, gathered, decision))  # 6 write
        raising = [action for action in decision.actions if isinstance(action, Raising)]
        act.do(act.Turn(self._hands, after, gathered), raising)  # 7 raise
        for reply in decision.answers:  # 8 tell
            answer(self._hands, run.namespace, reply)
        if wrote:
            self._teller.tell(run, after)
        self._keep(run, looked.whole)
        return Ticked(run, after, self._wake(after, decision, gathered.analysed), wrote)  # 9 wait

    def _looked(self, run: Run, stored: Json, whole: Whole | None) -> Looked:
        memory = self._memory(run, stored)
        if whole is None:
            told, until = self._watches.told(run), believed_until(run.uid, self._hands.clock.monotonic())
            gathered = gather(self._hands, run, memory)
        else:
            told, until = whole.told, whole.until
            gathered = glance(self._hands, run, memory, whole.gathered)
        gathered = self._rulebook.added_to(gathered, run)
        now = self._hands.clock.now()
        seen = _with_analysis(run, gathered)
        gates = {**(gathered.evidence.closed_gates or {}), **self._hands.audit_gates()}
        situation = Situation(seen, replace(gathered.evidence, closed_gates=gates), now)
        decision = _decided(situation)
        kept = Whole(gathered, told, until) if worth_keeping(gathered, decision) else None
        return Looked(situation, gathered, decision, kept)

    def _memory(self, run: Run, stored: Json) -> Memory:
        kept = self._kept.get(_key_of(run))
        if kept is not None and kept.version == stored["metadata"]["resourceVersion"]:
            return kept.memory
        return remember(run.status.analysis)

    def _keep(self, run: Run, whole: Whole | None) -> None:
        self._kept[_key_of(run)] = replace(self._kept[_key_of(run)], whole=whole)

    def _lower(self, turn: act.Turn, decision: Decision) -> None:
        """Do every lowering action, each on its own: one that fails delays no other."""
        for action in decision.actions:
            if not isinstance(action, Lowering):
                continue
            try:
                act.do(turn, [action])
            except CanaryError as error:
                logger.warning("%s of %s failed: %s", type(action).__name__, turn.run.name, error)

    def _on_record(
        self, before: Situation, decided: tuple[Decision, Run], gathered: Gathered
    ) -> tuple[Decision, Run]:
        """Put the decision on record; where that cannot be, no raise comes of this look."""
        decision, after = decided
        written = self._auditor.write(after, gathered.deployment)
        if not written.trouble:
            return decision, written.run
        if rises(before.status, after.status):
            gates = {**(before.evidence.closed_gates or {}), Reason.AUDIT_WRITE_FAILED: written.trouble}
            decision = _decided(replace(before, evidence=replace(before.evidence, closed_gates=gates)))
            after = _after(before, decision)
        return decision, self._auditor.noted(after, written.trouble)

    def _write(self, before: Run, after: Run, rest: tuple[Json, Gathered, Decision]) -> bool:
        stored, gathered, decision = rest
        memory = gathered.analysed.memory if gathered.analysed else self._memory(before, stored)
        if not self._is_due(before, after, gathered.analysed, decision):
            self._kept[_key_of(before)] = Kept(memory, slim(stored))
            return False
        analysis = after.status.analysis.model_copy(update=texts(memory))
        status = change(after.status, analysis=analysis, checked_at=self._hands.clock.now())
        wire = status.wire()
        patch = merge_diff(stored.get("status") or {}, wire)
        body = {"metadata": {"resourceVersion": stored["metadata"]["resourceVersion"]}, "status": patch}
        intent = Intent.LOWERING if not decision.status.traffic.weight_ppm else Intent.NEUTRAL
        ref = CANARYRUNS.at(before.namespace, before.name)
        written = self._hands.client.merge_patch(ref, body, intent=intent, subresource="status")
        if written is None:
            raise ConflictError(f"run {before.name} was deleted during the look")
        self._kept[_key_of(before)] = Kept(memory, slim(written))
        if written["status"] == wire:  # else the next look reads what the API server made of it
            self._read_runs.keep(written, replace(after, status=status))
        return True

    def _is_due(self, before: Run, after: Run, analysed: Analysed | None, decision: Decision) -> bool:
        """Tell whether the status must be written now: always before a raise, and whenever something was decided."""
        if any(isinstance(action, Raising) for action in decision.actions) or decision.answers:
            return True
        if _without_times(before) != _without_times(after):
            return True
        gained = analysed.gained if analysed else 0.0
        checked = before.status.checked_at
        age = None if checked is None else (self._hands.clock.now() - checked).total_seconds()
        every = min(WRITE_EVERY_LOOKS * interval_seconds(after), WRITE_EVERY_SECONDS)
        old = age is None or abs(age) >= every  # below 0 where the clock was put back
        return old or worth_writing(before.status, after.status, gained)

    def _wake(self, after: Run, decision: Decision, analysed: Analysed | None) -> float:
        """Look again at the pace of the data; early when the evidence moves or somebody must be told."""
        status, wake = decision.status, decision.wake_seconds
        owed = self._teller.owes(after)
        if owed is not None:
            owed = max(LEAST_OWED_SECONDS, owed)
            wake = owed if status.tidied_at is not None else min(wake, owed)
        if not status.phase.may_expose and status.phase is not Phase.PREPARING:
            return wake
        pace = wake if wake < machine.CALM_SECONDS else interval_seconds(after)
        if analysed is None:
            return pace
        return min(pace, analysed.look_again, machine.CALM_SECONDS if _held(analysed) else pace)


def _key_of(run: Run) -> Key:
    return Key(run.namespace, run.name)


def _started(run: Run, now: datetime) -> Run:
    """Give a new run its start: the zero of every clock in its record."""
    if run.status.started_at is not None:
        return run
    status = change(run.status, started_at=now, phase_started_at=now)
    origin, version = run.spec.origin.value, run.spec.revision.version or "a new version"
    because = Because(Reason.RUN_STARTED, f"{version} is held; origin {origin}, attempt {run.spec.attempt}")
    return replace(run, status=record(now, status, because))


def _with_analysis(run: Run, gathered: Gathered) -> Run:
    if gathered.analysed is None:
        return run
    return replace(run, status=change(run.status, analysis=gathered.analysed.status))


def _decided(situation: Situation) -> Decision:
    return invariants.enforce(situation, machine.decide(situation))


def _after(situation: Situation, decision: Decision) -> Run:
    """Return the run as decided, with its conditions."""
    run, status = situation.run, decision.status
    said = conditions.of_run(status, run.generation, situation.now)
    return replace(run, status=change(status, conditions=said))


def _held(analysed: Analysed) -> bool:
    """Tell whether this look holds the run: blindness and silence have limits in seconds, whatever the pace is."""
    return isinstance(analysed.finding, Missing) or analysed.finding.verdict is Verdict.HOLD


_TIMES: dict[str, Any] = dict.fromkeys(("checked_at", "conditions", "analysis", "shown", "message"))


def _without_times(run: Run) -> CanaryRunStatus:
    """Return the status less what moves with every look; two of them are equal where nothing was decided."""
    return change(set_traffic(run.status, observed_at=None), **_TIMES)
