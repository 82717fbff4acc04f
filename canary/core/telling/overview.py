"""The rows of `canary list`: each protected workload with its newest change, and who needs a person.

Enter: stored runs and policies, and the time. Leave: frozen rows, most urgent facts as words; the sentence below the
table. Pure; `cli/listing.py` prints them as a table, JSON, YAML, Markdown or names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from canary.api.reasons import ConditionType, Phase, Reason
from canary.core.telling import wording
from canary.core.telling.explain import Line, Scene, Tone, phase_words, shown
from canary.core.telling.stored import Raw, StoredRun, entries, under
from canary.core.telling.wording import moment, plain, seconds_between

IDLE = "Idle"
NOBODY_JUDGES = "no controller judges it: `canary abort --now`"
COLUMNS = ("NAMESPACE", "WORKLOAD", "PHASE", "SLICE", "STEP", "VERDICT", "LOST", "ORIGIN", "AGE")
WIDE_COLUMNS = (*COLUMNS, "SERVING", "EVIDENCE", "ACTOR")


@dataclass(frozen=True, slots=True)
class Row:
    """One workload and its newest change; `run` is empty where there was none yet."""

    namespace: str
    workload: str
    run: str
    phase: str
    slice: str
    step: str
    verdict: str
    lost: str
    origin: str
    age: str
    serving: str
    evidence: str
    actor: str
    needs: str
    """What a person has to do; empty: nothing."""

    def cells(self, wide: bool) -> list[str]:
        """Return the row of the table, in the order of `COLUMNS` or `WIDE_COLUMNS`."""
        own = [self.namespace, self.workload, self.phase, self.slice, self.step]
        own += [self.verdict, self.lost, self.origin, self.age]
        return [*own, self.serving or "-", self.evidence or "-", self.actor or "-"] if wide else own


def newest(runs: Iterable[StoredRun]) -> list[StoredRun]:
    """Return one run a workload: the one under way, else the newest; by namespace and name."""
    best: dict[tuple[str, str], StoredRun] = {}
    for run in runs:
        key = (run.namespace, run.workload)
        known = best.get(key)
        if known is None or _rank(run) > _rank(known):
            best[key] = run
    return [best[key] for key in sorted(best)]


def _rank(run: StoredRun) -> tuple[bool, str, str]:
    created = run.created_at
    return not run.final, created.isoformat() if created else "", run.name


def rows(runs: Sequence[StoredRun], policies: Iterable[Raw], scene: Scene) -> list[Row]:
    """Return a row a run, and one for each policy whose target has had no run yet."""
    now = scene.now
    found = [row_of(run, scene) for run in runs]
    busy = {(run.namespace, run.workload) for run in runs}
    for policy in policies:
        key = plain(under(policy, "metadata", "namespace")), plain(under(policy, "spec", "target", "name"))
        if key not in busy:
            found.append(_idle_row(policy, key, now))
    return sorted(found, key=lambda row: (row.namespace, row.workload))


def row_of(run: StoredRun, scene: Scene) -> Row:
    words, now = shown(run, scene.now), scene.now
    return Row(
        namespace=run.namespace,
        workload=run.workload,
        run=run.name,
        phase=run.phase,
        slice=words["slice"],
        step=words["step"],
        verdict=words["verdict"],
        lost=words["lost"],
        origin=run.origin,
        age=wording.age(seconds_between(run.created_at, now)),
        serving=run.new if run.phase == Phase.PROMOTED else run.old,
        evidence=words["evidence"],
        actor=run.text("status", "actor", longest=24),
        needs=NOBODY_JUDGES if scene.nobody_judges and run.exposed and not run.final else _needs(run),
    )


def _idle_row(policy: Raw, key: tuple[str, str], now: datetime) -> Row:
    age = wording.age(seconds_between(moment(under(policy, "metadata", "creationTimestamp")), now))
    serving = plain(under(policy, "status", "serving", "version"), 24)
    needs = _spaced(_stalled(policy)[0])
    return Row(*key, "", IDLE, "0 %", "-", "-", "0", "-", age, serving, "", "", needs)


def idle_standing(policy: Raw | None) -> Line:
    """Return the first line for a workload without a run: is it protected at all?"""
    reason, message = _stalled(policy)
    if reason:
        held = under(policy, "status", "adopted") is True and reason != Reason.WORKLOAD_GONE
        lead = "CHANGES ARE HELD, NONE CAN GO OUT" if held else "NOT PROTECTED"
        return Line(f"{lead} ({_spaced(reason)}): {message}", Tone.CARE)
    ready, said = _condition(policy, ConditionType.READY)
    if ready is not None and ready.get("reason") == Reason.OBSERVING:
        return Line(f"NOT HELD: {said}; a change reaches everybody at once", Tone.CARE)
    serving = plain(under(policy, "status", "serving", "version"), 24)
    if ready is None and not serving:
        return Line("NOT PROTECTED YET: no controller has looked at this policy", Tone.CARE)
    return Line(f"CUSTOMERS SAFE: {serving or 'the Deployment'} serves 100 %, no change is held", Tone.SAFE)


def _stalled(policy: Raw | None) -> tuple[str, str]:
    """Return why a policy protects nothing, as a word and a sentence; two empty texts where it does."""
    stalled, message = _condition(policy, ConditionType.STALLED)
    if stalled is None or stalled.get("status") != "True" or message.startswith("customers safe"):
        return "", ""
    return plain(stalled.get("reason"), 40), message


def _condition(policy: Raw | None, kind: ConditionType) -> tuple[Raw | None, str]:
    found = next((each for each in entries(policy, "status", "conditions") if each.get("type") == kind), None)
    return found, plain(found.get("message"), 400) if found is not None else ""


def _spaced(word: str) -> str:
    """AdoptionRefused -> adoption refused."""
    return phase_words(word).lower()


def _needs(run: StoredRun) -> str:
    if run.reason == Reason.APPROVALS_MISSING:
        return "senior" if run.seniors_wanted else "approval"
    if run.phase == Phase.PAUSED:
        return "blind" if run.reason == Reason.BLIND else "resume or abort"
    if run.phase == Phase.DRAINING:
        return "cause open"
    if run.phase == Phase.ROLLING_BACK and run.reason == Reason.ROLLBACK_UNVERIFIED:
        return "rollback not verified"
    if run.held_by and not run.final:
        return f"held by {run.held_by}"
    return "promote or abort" if run.awaits_person else ""


def footer(found: Sequence[Row]) -> str:
    """Return the sentence below the table: who needs a person, and where nobody sees."""
    waiting = [row for row in found if row.needs and row.needs != "blind"]
    blind = [row for row in found if row.needs == "blind"]
    parts: list[str] = []
    if waiting:
        named = ", ".join(f"{row.namespace}/{row.workload} ({row.needs})" for row in waiting)
        parts.append(f"{len(waiting)} {'needs' if len(waiting) == 1 else 'need'} you: {named}")
    if blind:
        named = ", ".join(f"{row.namespace}/{row.workload}" for row in blind)
        parts.append(f"{len(blind)} blind: {named}")
    return "; ".join(parts) or "nobody is needed"
