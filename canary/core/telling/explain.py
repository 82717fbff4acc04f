"""The sentences that people read about a run: one author for the screen, the list, Events, conditions and pages.

Enters: a `StoredRun` (raw status, no model) and the time. Leaves: lines of at most 80 columns, each with its tone; rows
of the list; what may be done next. The first line says whether customers are safe and whether somebody must act. Pure,
and imports no pydantic, so that `canary status` stays quick.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from canary.api.reasons import PPM, TARGET_LOST, Phase, Reason, Verb, Verdict
from canary.core.telling import wording
from canary.core.telling.stored import Measured, StoredRun, under
from canary.core.telling.wording import duration, seconds_between, share

MAX_ATTEMPTS = 2  # of one version; a third asks for a fix
LEAST_ORDERS = 3.0  # with fewer expected, none at all would be no sign
SLOW_PREPARATION_SECONDS = 90.0  # the noise of the serving pods is known sooner
TELLS_FROM, TELLS_TO = -0.9, 9.0  # an interval from a tenth to ten times says nothing
HEARTBEAT_STALE_SECONDS = 12.0  # a new leader is there by then


class Tone(StrEnum):
    """How a line is meant; a terminal may colour it, nobody needs the colour."""

    PLAIN = "plain"
    SAFE = "safe"
    CARE = "care"
    DANGER = "danger"


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Scene:
    """What a sentence needs beside the run. A heartbeat of None is not known."""

    now: datetime
    cluster: str = ""
    heartbeat_seconds: float | None = None
    taken_out: bool = False
    """The routes were looked at, and give the new version nothing, whatever the record says."""

    @property
    def nobody_judges(self) -> bool:
        return self.heartbeat_seconds is not None and self.heartbeat_seconds > HEARTBEAT_STALE_SECONDS


@dataclass(frozen=True, slots=True)
class NextAction:
    """What may follow, as far as the run's state decides; rights are the API server's to judge."""

    verb: Verb
    allowed: bool
    because: str


# -- the first line -------------------------------------------------------------------------------------------------


def standing(run: StoredRun, scene: Scene) -> Line:
    """Return the first line: are customers safe, must somebody act."""
    if scene.nobody_judges and scene.taken_out and not run.final:
        text = f"CUSTOMERS SAFE: the route gives {run.new} nothing; no controller for"
        return Line(f"{text} {duration(scene.heartbeat_seconds)}, the record is old", Tone.CARE)
    if scene.nobody_judges and run.exposed and not run.final:
        text = f"NOBODY JUDGES: no controller for {duration(scene.heartbeat_seconds)}, "
        text += f"{share(run.seen_ppm)} on {run.new}"
        return Line(f"{text}. `canary abort --now` works without it", Tone.DANGER)
    if run.final and run.seen_ppm > 0 and run.asked_ppm == 0 and run.phase != Phase.PROMOTED:
        text = (
            f"ACTION NEEDED: {run.new} still receives {share(run.seen_ppm)} (asked 0 %): `canary abort --now`"
        )
        return Line(text, Tone.DANGER)
    return _STANDINGS.get(run.phase, _unknown_phase)(run, scene)


def _unknown_phase(run: StoredRun, scene: Scene) -> Line:
    text = f"{run.phase}: {share(run.seen_ppm)} on {run.new}; this canary is older than the controller"
    return Line(text, Tone.CARE)


def _always(sentence: str, tone: Tone) -> Callable[[StoredRun, Scene], Line]:
    """Return what says the same of every run, but for the names of the versions."""
    return lambda run, scene: Line(sentence.format(old=run.old, new=run.new), tone)


_no_traffic_yet = _always("CUSTOMERS SAFE: {old} serves 100 %; {new} has no traffic yet", Tone.SAFE)


def _exposed(run: StoredRun, scene: Scene) -> Line:
    blind = seconds_between(run.at("analysis", "blindSince"), scene.now)
    if not run.exposed:
        return _no_traffic_yet(run, scene)
    if blind is not None:
        return Line(f"BLIND: no data for {duration(blind)}, {share(run.seen_ppm)} on {run.new}", Tone.DANGER)
    worst = run.worst
    if worst is not None and worst.state in ("suspect", "crossed"):
        text = f"SUSPECT: {worst.name} {effect_text(worst)} at {share(run.seen_ppm)} on {run.new}"
        return Line(text, Tone.CARE)
    expected = run.figure("ordersExpected")
    if expected is not None and expected < LEAST_ORDERS:
        text = f"WATCHED: {share(run.seen_ppm)} on {run.new}, too few orders at this weight yet to tell"
        return Line(text, Tone.CARE)
    if run.awaits_person:
        text = f"WATCHED, DECISION NEEDED: {share(run.seen_ppm)} on {run.new}, no sign of lost orders"
        return Line(text, Tone.CARE)
    if run.asked_ppm == PPM and all(effect.name != "site" for effect in run.measured):
        text = f"WATCHED: {share(run.seen_ppm)} on {run.new}, nobody is left on {run.old} to compare with"
        return Line(text, Tone.CARE)
    return Line(f"WATCHED: {share(run.seen_ppm)} on {run.new}, no sign of lost orders", Tone.SAFE)


def _committing(run: StoredRun, scene: Scene) -> Line:
    roll = "with customers on the roll" if run.in_pods else "with no user traffic on the roll"
    text = f"CUSTOMERS ON {run.new}, which passed every step; it rolls out {roll}"
    return Line(text, Tone.SAFE)


def _paused(run: StoredRun, scene: Scene) -> Line:
    if run.seen_ppm > 0:
        return Line(f"PAUSED: asked 0 %, {share(run.seen_ppm)} still seen on {run.new}", Tone.DANGER)
    return Line(f"CUSTOMERS SAFE, DECISION NEEDED: {run.old} serves 100 %", Tone.CARE)


def _rolling_back(run: StoredRun, scene: Scene) -> Line:
    seen = share(run.seen_ppm)
    if run.reason == Reason.ROLLBACK_UNVERIFIED:
        since = duration(seconds_between(run.at("decidedAt"), scene.now))
        text = f"ACTION NEEDED: rollback not verified for {since}; asked 0 %, route gives {seen}"
        return Line(text, Tone.DANGER)
    return Line(f"TAKING TRAFFIC BACK: asked 0 %, route gives {seen}, not seen in traffic yet", Tone.CARE)


def _taken_back(run: StoredRun, scene: Scene) -> Line:
    if run.half_way_back:
        text = f"ACTION NEEDED: {run.old} serves from pods of its own, {run.workload}'s pods still serve {run.new}"
        return Line(text, Tone.DANGER)
    if run.way_back_ppm > 0:
        return Line(f"CUSTOMERS SAFE: {run.old} serves 100 % from pods of its own", Tone.SAFE)
    if run.top_ppm == 0:
        return Line(f"CUSTOMERS SAFE: {run.old} serves 100 %; {run.new} never had traffic", Tone.SAFE)
    took = seconds_between(run.at("decidedAt"), run.at("traffic", "zeroVerifiedAt"))
    how = f", verified {duration(took)} after the decision" if took is not None else ""
    return Line(f"CUSTOMERS SAFE: {run.old} serves 100 %{how}", Tone.SAFE)


_STANDINGS: dict[str, Callable[[StoredRun, Scene], Line]] = {
    Phase.HELD: _no_traffic_yet,
    Phase.PREPARING: _no_traffic_yet,
    Phase.PROGRESSING: _exposed,
    Phase.BAKING: _exposed,
    Phase.COMMITTING: _committing,
    Phase.RETURNING: _always(
        "CUSTOMERS ON {new}, which passed every step; traffic returns to its own pods", Tone.SAFE
    ),
    Phase.PAUSED: _paused,
    Phase.DRAINING: _always(
        "ACTION NEEDED: the whole site fell; {new} has no traffic, the cause is open", Tone.DANGER
    ),
    Phase.ROLLING_BACK: _rolling_back,
    Phase.PROMOTED: _always("CUSTOMERS SAFE: {new} serves 100 %, promoted", Tone.SAFE),
    Phase.ROLLED_BACK: _taken_back,
    Phase.ABORTED: _taken_back,
    Phase.SUPERSEDED: _taken_back,
    Phase.REJECTED: _taken_back,
}

# -- words and figures ---------------------------------------------------------------------------------------------


def phase_words(phase: str) -> str:
    """Return a phase for people: RolledBack -> ROLLED BACK."""
    return "".join(f" {letter}" if letter.isupper() else letter for letter in phase).strip().upper()


def change_words(run: StoredRun) -> str:
    """Say whose work a change is: "AI-assisted (kiro), by dana"."""
    agents = _names(run, "agents")
    words = {"ai": "AI-assisted", "human": "by people, proved"}.get(
        run.origin, "origin unknown, treated as AI"
    )
    authors = _names(run, "authors") or run.text("spec", "change", "changedBy", longest=32)
    return words + (f" ({agents})" if agents else "") + (f", by {authors}" if authors else "")


def _names(run: StoredRun, field: str) -> str:
    found = under(run.raw, "spec", "change", field)
    names = [wording.plain(name, 24) for name in found] if isinstance(found, list) else []
    names = [name for name in names if name]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def effect_text(effect: Measured) -> str:
    """Return an effect with its interval: "-100 % [-100,-81]"; an end that is open is `..`."""
    if effect.point is None:
        return "not known"
    if (effect.low or 0.0) <= TELLS_FROM and effect.high is not None and effect.high >= TELLS_TO:
        return "too few to tell"
    change = wording.change(effect.point, effect.low, effect.high)
    return f"{change.text} [{change.low},{change.high}]"


def evidence_words(run: StoredRun) -> str:
    """Return the evidence against its limit: "evidence 7.4e3 > limit 1.0e3"."""
    evidence, limit = run.figure("evidenceLog10"), run.figure("limitLog10")
    if evidence is None or limit is None:
        return "no evidence yet"
    sign = ">" if evidence >= limit else "<"
    return f"evidence {wording.power(evidence)} {sign} limit {wording.power(limit)}"


def moments(run: StoredRun) -> list[tuple[str, datetime]]:
    """Return what happened when, as far as it is known, in order."""
    named = {
        "recorded": run.at("startedAt"),
        "start": run.at("exposedAt"),
        "likely break": run.at("analysis", "likelyStartAt"),
        "decided": run.at("decidedAt"),
        "written": run.at("traffic", "writtenAt") if run.at("decidedAt") else None,
        "verified": run.at("traffic", "zeroVerifiedAt"),
        "promoted": run.at("finishedAt") if run.phase == Phase.PROMOTED else None,
    }
    if named["start"] is not None:
        del named["recorded"]
    return sorted(((name, at) for name, at in named.items() if at is not None), key=lambda item: item[1])


def lost_words(run: StoredRun) -> str:
    """Return the orders lost with their interval: "about 22 orders (13..31)"."""
    lost, low, high = run.figure("lost"), run.figure("lostLow"), run.figure("lostHigh")
    if lost is None:
        return "not known"
    least, most = (".." if end is None else wording.count(round(end)) for end in (low, high))
    return f"about {wording.count(round(lost))} orders ({least}..{most})"


# -- what next ------------------------------------------------------------------------------------------------------


def next_sentence(run: StoredRun, scene: Scene) -> str:
    """Say what somebody should do, or that nobody has to."""
    if scene.nobody_judges and scene.taken_out:
        return "see why no controller runs; a request that was made stands until one is back"
    if scene.nobody_judges and run.exposed:
        return f"`canary abort {run.workload} --now` takes the traffic back without the controller"
    if run.final:
        return _next_of_final(run)
    if run.phase == Phase.PAUSED:
        return f"`canary resume {run.workload} --reason ...` or `canary abort {run.workload}`"
    if run.reason == Reason.APPROVALS_MISSING:
        return f"`canary approve {run.workload} --reason ...`: {run.message}"
    if run.held_by:
        return f"held by {run.held_by}: `canary resume {run.workload} --reason ...`, or abort"
    if run.reason == Reason.HOLD_STARTED:
        return f"`canary promote {run.workload} --reason ...`, or abort: {run.message}"
    if run.phase == Phase.DRAINING:
        return "look at what all versions share; the new one is not the proved cause"
    if run.phase == Phase.ROLLING_BACK:
        late = run.reason == Reason.ROLLBACK_UNVERIFIED
        return f"`canary abort {run.workload} --now`" if late else "nothing to do: traffic is going back"
    prepared = seconds_between(run.at("phaseStartedAt"), scene.now) or 0.0
    if run.phase == Phase.PREPARING and prepared > SLOW_PREPARATION_SECONDS:
        return f"see to it: nothing begins for {duration(prepared)} now, and the run will give up by itself"
    more = run.figure("moreSeconds") if run.phase == Phase.PROGRESSING else None
    soon = f", about {duration(more)} of evidence to go" if more else ""
    return f"nothing to do: it goes on by itself{soon}"


def _next_of_final(run: StoredRun) -> str:
    if run.phase == Phase.PROMOTED:
        return "nothing to do"
    if run.way_back_ppm > 0:
        text = f"apply the manifest of {run.old}: its traffic comes home by itself"
        accept = f", or `canary bypass {run.workload}` takes what was created anew as it is"
        return text + (accept if run.reason in TARGET_LOST else "")
    if run.phase == Phase.SUPERSEDED:
        return f"nothing to do here: `canary status {run.workload}` shows the newer change"
    left = max(0, MAX_ATTEMPTS - run.attempt)
    attempt = f"attempt {run.attempt} of {MAX_ATTEMPTS}"
    retry = f"{attempt}; `canary retry` tries the same change again" if left else f"{attempt}: push a fix"
    return f"nothing to do. Fix and push; {retry}"


def next_actions(run: StoredRun) -> list[NextAction]:
    """Return every verb with whether the run's state admits it, and why."""
    over = run.final or run.phase == Phase.ROLLING_BACK
    retry = run.final and run.phase != Phase.PROMOTED and run.attempt < MAX_ATTEMPTS
    waits = bool(run.held_by) or run.reason in (Reason.APPROVALS_MISSING, Reason.HOLD_STARTED)
    paused = run.phase == Phase.PAUSED
    state = f"the run is {run.phase}"
    return [
        NextAction(Verb.ABORT, not over, state if over else "always possible while the run is under way"),
        NextAction(Verb.HOLD, not over, state),
        NextAction(Verb.RESUME, paused or bool(run.held_by), "paused or held" if paused else state),
        NextAction(
            Verb.PROMOTE, waits and not over, "it waits for a person" if waits else "it waits for no person"
        ),
        NextAction(
            Verb.APPROVE,
            run.reason == Reason.APPROVALS_MISSING,
            run.message if waits else "no approval is missing",
        ),
        NextAction(Verb.RETRY, retry, f"attempt {run.attempt} of {MAX_ATTEMPTS}"),
    ]


def verdict_word(run: StoredRun, now: datetime) -> str:
    """Return the verdict in a few words, for a column."""
    blind = seconds_between(run.at("analysis", "blindSince"), now)
    if blind is not None and not run.final:
        return f"blind {wording.age(blind)}"
    if run.reason == Reason.APPROVALS_MISSING:
        return f"approvals {run.approvals}/{run.approvals_wanted}"
    worst = run.worst
    if worst is not None and worst.state in ("suspect", "crossed"):
        return f"{worst.name} {wording.brief_change(worst.point)}"
    if run.text("status", "analysis", "verdict") in (Verdict.CONTINUE, Verdict.ADVANCE):
        return "clear"
    return "-"


def shown(run: StoredRun, now: datetime) -> dict[str, str]:
    """Return the run in the words of `kubectl get`: the fields of `status.shown`."""
    evidence, limit = run.figure("evidenceLog10"), run.figure("limitLog10")
    lost = run.figure("lost")
    return {
        "slice": share(run.asked_ppm),
        "step": f"{run.begun}/{len(run.steps)}",
        "verdict": verdict_word(run, now),
        "lost": wording.count(round(lost)) if lost is not None else ("0" if run.top_ppm == 0 else "?"),
        "evidence": "" if evidence is None or limit is None else f"{evidence:.1f}/{limit:.1f}",
        "observed": share(run.seen_ppm),
    }
