"""One look's readings -> the evidence: what the detector says, what the split did, what people are shown.

Pure: `analyse(run, memory, looked) -> Analysed`. Called by `operator/look.py` at every look of a run, and by the lab's
simulations with the same values. The detector's clock starts with the first slice; before it, only the counters and
the noise of the stable pods are followed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from canary.api.reasons import PPM, MissingReason, Phase, Reason, Verdict
from canary.api.run import AnalysisStatus, CanaryRunStatus, Effect
from canary.core import site, witness
from canary.core.decision import Run
from canary.core.detect import counters, family, pace
from canary.core.detect.counters import Folded, Reading, Sample
from canary.core.detect.family import Judgement, MonitorName, MonitorView, Settings, StateUnreadable
from canary.core.detect.ratio import Interval
from canary.core.evidence import Finding, Missing, Share
from canary.core.memory import Memory, ShareMemory, by_this_clock
from canary.core.plan import Floors, monitor_names, settings_of
from canary.core.share import Tally, judge_share, judge_zero
from canary.core.site import Block, Past, SiteMemory

SUSPECT_LOG, LN10 = math.log(20.0), math.log(10.0)


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look at the pods gave. Times are seconds since the run was recorded."""

    at: float
    """When the look began."""
    readings: Sequence[Reading] = ()
    live: Mapping[str, bool] | None = None
    """Key of every serving pod -> is it a canary pod; None: the pods themselves are not known."""
    troubles: tuple[str, ...] = ()
    """What could not be read, as clauses for people."""
    route_ppm: int | None = None
    """The side's weight in the stored route; None: not known."""
    past: Past | None = None
    """An answer to `site.question`, while the run is prepared."""
    unreadable: tuple[str, ...] = ()
    """Troubles of canary pods whose answer cannot be used. A metric that is not there yet is none of them: some
    libraries show a counter only after its first event, and no event comes before the first slice."""
    witnessed: witness.Witnessed | Missing | None = None  # None: the witness was not asked in this look
    nearest_ppm: int | None = None
    """What was asked for, if `route_ppm` is as much of it as can be had."""


@dataclass(frozen=True, slots=True)
class Analysed:
    """The evidence after one look."""

    memory: Memory
    status: AnalysisStatus
    finding: Finding | Missing
    share: Share | Missing
    baseline_ready: bool
    orders_in_step: float
    gained: float
    """Nats by which the evidence moved: what to write soon."""
    look_again: float = math.inf
    """Seconds after which the evidence asks for the next look; the policy's pace may be sooner."""


def analyse(run: Run, memory: Memory, looked: Looked) -> Analysed:
    """Fold one look into the memory and say what it means."""
    if run.spec.policy.source.scrape is not None:
        memory = by_this_clock(memory, looked.readings)
    folded = counters.fold(memory.counters, looked.readings, looked.live or {})
    beside = memory.witness
    if run.spec.policy.source.witness is not None:
        beside = witness.fold(beside, folded, looked.witnessed, looked.at)
    memory = replace(memory, counters=folded.state, witness=beside)
    looked = replace(looked, troubles=(*looked.troubles, beside.word) if beside.word else looked.troubles)
    memory = _with_noise(run, memory, (folded, looked.live or {}))
    memory = replace(memory, share=_with_share(memory.share, folded, looked.route_ppm))
    share = _share(run, memory.share, looked)
    measured = _shared_facts(run, memory)
    followed, block = site.fold(memory.site, folded)
    memory = replace(memory, site=followed)
    if not _is_judged(run):
        if _starts_over(run, memory):
            memory = replace(memory, detector=None, settings=None, step=-1, unreadable="")
        memory = replace(memory, site=_learnt(memory.site, block, looked))
        finding = _without_a_slice(folded, looked)
        status = run.status.analysis.model_copy(update=measured)
        return Analysed(memory, status, finding, share, _baseline_ready(run, memory), 0.0, 0.0)
    try:
        return _judged(run, memory, looked, (folded, block, share, measured))
    except StateUnreadable as error:
        return _unjudged(run, replace(memory, unreadable=str(error)), share)


def _is_judged(run: Run) -> bool:
    """Tell whether this look is evidence: there is a slice, or the site's fall is being watched.

    From a decision on the evidence stands still, as it was when it decided.
    """
    exposed = run.status.phase in (Phase.PROGRESSING, Phase.BAKING) and run.status.traffic.weight_ppm > 0
    return exposed or run.status.phase is Phase.DRAINING


def _unjudged(run: Run, memory: Memory, share: Share | Missing) -> Analysed:
    """Nobody can count on the evidence so far: nothing advances, and the slice goes as if there were no data."""
    text = f"the stored evidence cannot be read ({memory.unreadable}); `canary resume` starts over without traffic"
    finding = Finding(Verdict.HOLD, Reason.STATE_UNREADABLE, text, blind_seconds=run.limits.blind_seconds)
    update = {"verdict": Verdict.HOLD, "reason": Reason.STATE_UNREADABLE.value, "message": text[:1024]}
    status = run.status.analysis.model_copy(update=update)
    return Analysed(memory, status, finding, share, _baseline_ready(run, memory), 0.0, 0.0)


def _starts_over(run: Run, memory: Memory) -> bool:
    """Tell whether a person let the run go on after the evidence had decided, or could not be read any more."""
    if memory.unreadable:
        return run.status.phase is Phase.PREPARING
    state, limit = memory.detector, -math.log(run.spec.policy.analysis.false_rollback)
    return run.status.phase is Phase.PREPARING and state is not None and state.log_f >= limit


def _learnt(known: SiteMemory, block: Block | None, looked: Looked) -> SiteMemory:
    known = site.watch(known, block)
    return known if looked.past is None else site.learn(known, looked.past)


_Rest = tuple[Folded, Block | None, Share | Missing, dict[str, object]]


def _judged(run: Run, memory: Memory, looked: Looked, rest: _Rest) -> Analysed:
    folded, block, share, measured = rest
    if memory.unreadable:
        raise StateUnreadable(memory.unreadable)
    started = run.status.analysis.started_at
    if started is None or memory.detector is None:
        started = _moment(run, looked.at)
        memory = replace(memory, site=site.freeze(memory.site, _zero(run).timestamp()))
    settings = memory.settings or _settings(run, memory)
    state = memory.detector if memory.detector is not None else family.start(settings)
    offset = (started - _zero(run)).total_seconds()
    sample = _sample(run, memory, looked, (folded, block, offset))
    state = family.update(settings, state, sample, phi=memory.noise.measured())
    judgement = family.judge(settings, state, _next_weight(run))
    memory = replace(memory, detector=state, settings=settings, step=_step_told(run))
    status = _shown(run, judgement, (looked, started))
    status = status.model_copy(update=measured | {"site": memory.site.word})
    return Analysed(
        memory=memory,
        status=status,
        finding=_finding(run, judgement, (looked, started)),
        share=share,
        baseline_ready=_baseline_ready(run, memory),
        orders_in_step=judgement.orders.seen,
        gained=judgement.gained,
        look_again=pace.next_look(
            math.inf,
            step_seconds=state.t - state.step.at,
            gained=judgement.gained,
            evidence_log=judgement.evidence_log,
            orders_expected=judgement.orders.expected,
        ),
    )


def _settings(run: Run, memory: Memory) -> Settings:
    """Return the settings of this run; which monitors there are is decided once, when the first slice begins."""
    phi = {name: memory.noise.phi(name).value for name in monitor_names(run.spec.policy)}
    floors = memory.site.floors
    if memory.detector is not None:
        floors = (floors or Floors()) if MonitorName.SITE in memory.detector.mixes else None
    return settings_of(run.spec.policy, run.spec.steps, phi, site=floors)


def _zero(run: Run) -> datetime:
    assert run.status.started_at is not None, "a run is recorded with its start"
    return run.status.started_at


def _moment(run: Run, at: float) -> datetime:
    return _zero(run) + timedelta(seconds=at)


def _next_weight(run: Run) -> int | None:
    index = run.status.step + 1
    return run.spec.steps[index].weight if index < len(run.spec.steps) else None


def _step_told(run: Run) -> int:
    return run.status.step if run.status.step_started_at is not None else -1


def _sample(run: Run, memory: Memory, looked: Looked, rest: tuple[Folded, Block | None, float]) -> Sample:
    folded, block, offset = rest
    used = bool(folded.pods)
    obeyed = run.status.traffic.weight_ppm in (looked.route_ppm, looked.nearest_ppm)
    verified = run.status.step_started_at is not None and obeyed
    coverage = float(run.status.traffic.coverage or 1.0)
    return Sample(
        t=(folded.at if used else looked.at) - offset,
        weight_ppm=looked.route_ppm if looked.route_ppm is not None else run.status.traffic.weight_ppm,
        canary=folded.canary,
        baseline=folded.baseline,
        site=site.counts(memory.site, block, _zero(run).timestamp()),
        verified=verified,
        complete=folded.complete,
        reset=folded.reset,
        disagree=bool(memory.witness.word),
        step=_step_told(run) != memory.step and _step_told(run) >= 0,
        coverage=coverage,
    )


def _without_a_slice(folded: Folded, looked: Looked) -> Finding | Missing:
    """Without a weight there is nothing to judge; what matters is that counts can be read at all, on both sides."""
    if looked.live is None or not looked.live:
        return Missing(MissingReason.NO_PODS, "; ".join(looked.troubles) or "no serving pod was found")
    if looked.unreadable or (looked.troubles and not folded.pods):
        return Missing(MissingReason.UNAVAILABLE, "; ".join(looked.unreadable or looked.troubles)[:400])
    if folded.baseline.orders is None or folded.baseline.requests is None:
        return Missing(MissingReason.ABSENT, "orders and requests of the serving version are not known yet")
    return Finding(Verdict.CONTINUE, Reason.EVIDENCE_GROWING, "counts can be read; no slice yet")


# -- noise and share -----------------------------------------------------------------------------------------------


def _with_noise(run: Run, memory: Memory, look: tuple[Folded, Mapping[str, bool]]) -> Memory:
    """Follow the noise of the stable pods; only looks in which every one of them gave a difference count."""
    folded, live = look
    alive = [key for key, canary in live.items() if not canary]
    stable = {key: folded.pods[key] for key in alive if key in folded.pods}
    if not stable or len(stable) < len(alive):
        return memory
    if memory.noise_at is None or folded.at <= memory.noise_at:
        return replace(memory, noise_at=folded.at)
    dt = folded.at - memory.noise_at
    group = max(1, min(run.status.side.wanted, len(stable) - 1))
    noise = memory.noise.add(stable, group, dt)
    return replace(memory, noise=noise, noise_at=folded.at, noise_seconds=memory.noise_seconds + dt)


def _baseline_ready(run: Run, memory: Memory) -> bool:
    return memory.noise_seconds >= run.limits.baseline_seconds


def _with_share(share: ShareMemory, folded: Folded, route_ppm: int | None) -> ShareMemory:
    canary, baseline = folded.canary.requests or 0.0, folded.baseline.requests
    if route_ppm is not None and route_ppm != share.weight_ppm:
        former = share.weight_ppm or share.former_ppm
        return ShareMemory(Tally(), route_ppm, former)
    if baseline is None:
        return share
    if share.weight_ppm == 0 and canary > 0:
        return replace(share, tally=Tally())
    return replace(share, tally=share.tally.add(canary, canary + baseline))


def _share(run: Run, memory: ShareMemory, looked: Looked) -> Share | Missing:
    """Compare the requests with the weight; counting starts when the weight was written, proof when it was verified."""
    if looked.live is None:
        return Missing(MissingReason.NO_PODS, "the serving pods are not known")
    if memory.weight_ppm == 0:
        return judge_zero(memory.tally, memory.former_ppm / PPM) if memory.former_ppm else Share.NONE_LEFT
    if run.status.step_started_at is None or memory.weight_ppm >= PPM:
        return Share.UNPROVEN
    coverage = float(run.status.traffic.coverage or 1.0)
    return judge_share(memory.tally, memory.weight_ppm / PPM * coverage)


# -- what is said and shown ----------------------------------------------------------------------------------------


def _finding(run: Run, judgement: Judgement, when: tuple[Looked, datetime]) -> Finding:
    looked, started = when
    used_at = started + timedelta(seconds=max(0.0, judgement.used_at))
    blind = _blind_seconds(run, _moment(run, looked.at), used_at) if judgement.missing else 0.0
    message = judgement.message
    if judgement.missing and looked.troubles:
        message = f"{message} ({'; '.join(looked.troubles)[:300]})"
    return Finding(
        verdict=judgement.verdict,
        reason=judgement.reason,
        message=message,
        blind_seconds=blind,
        site_healthy_seconds=judgement.site_healthy_seconds,
    )


def _blind_seconds(run: Run, now: datetime, used_at: datetime) -> float:
    """Return for how long customers have met this weight without a usable look.

    A clock that was put back does not say how long: then it is as far as the clock is off.
    """
    since = max(used_at, run.status.traffic.written_at or used_at)
    return abs((now - since).total_seconds())


def _shared_facts(run: Run, memory: Memory) -> dict[str, object]:
    names = monitor_names(run.spec.policy)
    known = {name: memory.noise.phi(name) for name in names}
    return {
        "phi": {name: figure(phi.value) for name, phi in known.items()},
        "phi_assumed": known["orders"].assumed,
        "sampled_at": _moment(run, memory.counters.at) if memory.counters.last else None,
    }


def _shown(run: Run, judgement: Judgement, when: tuple[Looked, datetime]) -> AnalysisStatus:
    looked, started = when
    likely, missing = judgement.likely_start, judgement.missing
    before = run.status.analysis
    blind_since = None if missing is None else before.blind_since or _moment(run, looked.at)
    limit, lost = judgement.limit_log, _lost(judgement)
    now = before.model_copy(
        update={
            "started_at": started,
            "verdict": judgement.verdict,
            "reason": judgement.reason.value,
            "message": judgement.message[:1024],
            "worst": judgement.worst,
            "evidence_log10": figure(judgement.evidence_log / LN10),
            "limit_log10": figure(limit / LN10),
            "effects": [_effect(view, judgement) for view in judgement.monitors.values()],
            "orders": figure(judgement.orders.seen),
            "orders_expected": figure(judgement.orders.expected),
            "lost": figure(lost.point),
            "lost_low": figure(lost.low),
            "lost_high": figure(lost.high),
            "likely_start_at": started + timedelta(seconds=likely) if likely is not None else None,
            "more_orders": figure(judgement.more_orders),
            "more_seconds": figure(judgement.more_seconds),
            "blind_since": blind_since,
            "blind_because": "; ".join(looked.troubles)[:1024] if missing else "",
        }
    )
    compares = run.status.traffic.weight_ppm < PPM
    decided = judgement.verdict in (Verdict.ROLL_BACK, Verdict.DRAIN)
    return now if compares or decided else _with_last_comparison(now, before)


def _lost(judgement: Judgement) -> Interval:
    """Return the orders lost: by the new version, or by everybody where the whole site fell."""
    if judgement.verdict is not Verdict.DRAIN:
        return judgement.lost
    site = judgement.monitors[MonitorName.SITE]
    missing = [site.expected * (1.0 - (ratio or 0.0)) for ratio in (site.effect.point, site.effect.low)]
    least = 0.0 if site.effect.high is None else site.expected * (1.0 - site.effect.high)
    return Interval(missing[0], max(0.0, least), missing[1])


def _with_last_comparison(now: AnalysisStatus, before: AnalysisStatus) -> AnalysisStatus:
    """At full weight nobody is left to compare with: what is clear keeps the counts that led there."""
    known = {effect.name: effect for effect in before.effects if effect.name != MonitorName.SITE}
    effects = [
        known.get(each.name, each).model_copy(
            update={"evidence_log10": each.evidence_log10, "state": "clear"}
        )
        if each.state == "clear"
        else each
        for each in now.effects
    ]
    kept = {name: getattr(before, name) or getattr(now, name) for name in _COMPARED}
    return now.model_copy(update={"effects": effects, **kept})


_COMPARED = ("orders", "orders_expected", "lost", "lost_low", "lost_high")


def _effect(view: MonitorView, judgement: Judgement) -> Effect:
    effect = view.effect
    crossed = view.log_s + math.log(view.weight) >= judgement.limit_log if view.weight > 0 else False
    suspect = view.log_s + math.log(view.weight) >= SUSPECT_LOG if view.weight > 0 else False
    return Effect(
        name=view.name,
        seen=figure(view.seen),
        expected=figure(view.expected),
        point=figure(effect.point - 1.0) if effect.point is not None else "",
        low=figure(effect.low - 1.0),
        high=figure(effect.high - 1.0) if effect.high is not None else "",
        evidence_log10=figure(view.log_s / LN10),
        state="crossed" if crossed else "suspect" if suspect else "clear",
    )


def figure(value: float | None) -> str:
    """Write a measured number for the status: six digits, "-inf" where there is no evidence yet, empty if unknown."""
    if value is None or math.isnan(value):
        return ""
    if math.isinf(value):
        return "-inf" if value < 0 else ""
    return f"{value:.6g}"


def worth_writing(before: CanaryRunStatus, after: CanaryRunStatus, gained: float) -> bool:
    """Tell whether the evidence alone is reason enough to write the status now: it moved by more than a nat."""
    if before.phase is not after.phase or before.analysis.verdict is not after.analysis.verdict:
        return True
    return abs(gained) > 1.0 and after.phase is not Phase.HELD
