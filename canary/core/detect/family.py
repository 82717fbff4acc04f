"""All monitors together: fold looks into the state of a run, and read the verdict from it.

Enters: the run's pinned `Settings`, its `State`, and one `Sample` a look. Leaves: the next state, and a `Judgement`
with the promise that a healthy run is rolled back with probability at most `false_rollback`. Everything here is a
value and every function pure. `operator` and `core/judge.py` call it and import the detector's names from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from canary.api.reasons import MissingReason
from canary.core.detect import looks, onset, ratio, startmix
from canary.core.detect.counters import Sample
from canary.core.detect.looks import MAX_CARRIED_LOOKS
from canary.core.detect.monitors import (
    ExtraMonitor,
    Look,
    Monitor,
    MonitorName,
    Settings,
    check_phi,
    raw_orders_trial,
)
from canary.core.detect.onset import Onset
from canary.core.detect.ratio import Interval
from canary.core.detect.startmix import Mix, Trial, TwoArm, log_sum_exp
from canary.core.detect.state import (
    Carried,
    Silence,
    State,
    StateUnreadable,
    Step,
    Tally,
    Trouble,
    dump,
    load,
    require_fit,
    start,
    strengths,
)
from canary.core.detect.verdict import Judgement, MonitorView, judge

__all__ = [
    "ExtraMonitor",
    "Interval",
    "Judgement",
    "MonitorName",
    "MonitorView",
    "Settings",
    "State",
    "StateUnreadable",
    "Tally",
    "Trouble",
    "check_phi",
    "dump",
    "judge",
    "load",
    "start",
    "update",
]


def update(
    settings: Settings, state: State, sample: Sample, *, phi: Mapping[str, float] | None = None
) -> State:
    """Fold one look into the state. `phi`: noise factors from here on; within a run they only rise.

    Never raises for what a look contains: a look that cannot be used leaves a named trouble, and no evidence.
    Raises RefusedError for a noise factor that belongs to no monitor, StateUnreadable for a state of other monitors.
    """
    require_fit(settings, state)
    if phi:
        state = _noisier(settings, state, phi)
    trouble = looks.out_of_time(state, sample)
    if trouble is not None:
        return replace(state, trouble=trouble, gained=0.0)
    trouble = looks.senseless(sample)
    if trouble is not None and trouble.reason is MissingReason.MALFORMED:
        return _unused(state, sample, trouble)
    state = _stepped(settings, state, sample)
    if trouble is not None:
        return _unused(state, sample, trouble)
    joined = looks.joined(state.carried, sample, sample.t - state.t)
    if looks.more_orders_than_requests(joined.canary) or looks.more_orders_than_requests(joined.baseline):
        return _carried(state, sample, joined)
    return _folded(
        settings, state, replace(sample, canary=joined.canary, baseline=joined.baseline), joined.dt
    )


def _noisier(settings: Settings, state: State, phi: Mapping[str, float]) -> State:
    check_phi(phi, [extra.name for extra in settings.extra])
    raised = {name: max(value, state.phi.get(name, 1.0)) for name, value in phi.items()}
    return replace(state, phi={**state.phi, **raised})


def _stepped(settings: Settings, state: State, sample: Sample) -> State:
    """Meet a change of weight: kick every monitor, begin a new step and a new silence; settle after a raise."""
    before = state.weight_ppm
    if before is None:
        return replace(state, weight_ppm=sample.weight_ppm)
    if not sample.step and sample.weight_ppm == before:
        return state
    settled_at = state.t + settings.settle_seconds if sample.weight_ppm > before else state.step.settled_at
    return replace(
        state,
        mixes={
            name: tuple(startmix.kick(mix, startmix.STEP_KICK) for mix in tests)
            for name, tests in state.mixes.items()
        },
        weight_ppm=sample.weight_ppm,
        step=Step(at=state.t, settled_at=settled_at),
        waiting=looks.spoil(state.waiting) if state.waiting.dt > 0.0 else state.waiting,
        carried=None,
        silence=Silence(0.0, state.t),
    )


def _unused(state: State, sample: Sample, trouble: Trouble) -> State:
    """Let time pass over a look without using a count of it."""
    _, waiting = looks.close(looks.spoil(state.waiting), sample)
    return replace(
        state,
        t=sample.t,
        verified=sample.verified,
        waiting=waiting,
        carried=None,
        trouble=trouble,
        gained=0.0,
    )


def _carried(state: State, sample: Sample, joined: Carried) -> State:
    """Keep a look with more orders than requests for the next one: a request may be counted after its order."""
    trouble = Trouble(MissingReason.MORE_ORDERS_THAN_REQUESTS, "an arm took more orders than it had requests")
    if joined.looks > MAX_CARRIED_LOOKS:
        return _unused(state, sample, trouble)
    whole = sample.complete and sample.verified and not sample.reset
    return replace(
        state,
        t=sample.t,
        verified=sample.verified,
        waiting=state.waiting if whole else looks.spoil(state.waiting),
        carried=joined,
        trouble=trouble,
        gained=0.0,
    )


@dataclass(frozen=True, slots=True)
class _Tested:
    """One monitor after a look: its tests, the first trial that it had, and its events since the likely start."""

    mixes: tuple[Mix, ...]
    trial: Trial | None
    carried: Sequence[
        float
    ]  # per ratio of that trial's test: the chance that its fault began before this look
    since: Tally


def _folded(settings: Settings, state: State, sample: Sample, dt: float) -> State:
    """Fold a look whose counts make sense; what is missing from it feeds nothing and leaves a trouble."""
    prepared = looks.prepare(settings, state, sample, dt)
    look, trouble = prepared.look, looks.absent(settings, sample)
    tested = {row.name: _tested(row, state, look) for row in settings.table}
    mixes = {name: test.mixes for name, test in tested.items()}
    log_s = strengths(mixes)
    log_f = log_sum_exp([row.log_weight + log_s[row.name] for row in settings.table])
    return replace(
        state,
        mixes=mixes,
        onset=_onset(state, tested.get(MonitorName.ORDERS), look.dt),
        t=sample.t,
        used_at=sample.t if trouble is None else state.used_at,
        verified=sample.verified,
        step=_step(state, tested, look),
        rates=prepared.rates,
        since={name: test.since for name, test in tested.items() if name != MonitorName.ORDERS},
        waiting=prepared.waiting,
        carried=None,
        silence=looks.listen(state.silence, sample),
        site=looks.site_health(settings, state.site, sample, dt),
        trouble=trouble,
        log_f=log_f,
        gained=log_f - state.log_f if state.log_f > -inf else 0.0,
        log_s=log_s,
    )


def _tested(row: Monitor, state: State, look: Look) -> _Tested:
    """Advance the tests of one monitor; one without a trial stands still, its time too."""
    phi = max(row.least_phi, state.phi.get(row.phi_name, 1.0))
    dt = look.batch.dt if row.by_batch and look.batch is not None else look.dt
    since, first, carried = state.since.get(row.name, Tally()), None, []
    mixes: list[Mix] = []
    for grid, mix, trial in zip(row.grids, state.mixes[row.name], row.trials(look), strict=True):
        if trial is None:
            mixes.append(mix)
            continue
        evidence = startmix.increments(grid, trial, phi)
        before = startmix.confirmed(grid, mix, evidence)
        after = startmix.advance(grid, before, evidence, dt)
        mixes.append(after)
        if first is None:
            first, carried = trial, startmix.carried(grid, before, dt)
            since = since.times(carried[after.log_r.index(max(after.log_r))]).plus(trial)
    return _Tested(tuple(mixes), first, carried, since)


def _onset(state: State, orders: _Tested | None, dt: float) -> Onset:
    if orders is None or not isinstance(orders.trial, TwoArm):
        return state.onset
    return onset.fold(state.onset, orders.carried, orders.trial, dt)


def _step(state: State, tested: Mapping[str, _Tested], look: Look) -> Step:
    """Add the look to what is known of this step. Interval and order tally take the raw baseline."""
    step, raw = state.step, raw_orders_trial(look)
    tallies = dict(step.tallies)
    for name, test in tested.items():
        trial = raw if name == MonitorName.ORDERS else test.trial
        if trial is not None:
            tallies[name] = tallies.get(name, Tally()).plus(trial)
    canary, baseline = look.canary.requests, look.baseline.requests
    if canary is None or baseline is None:
        canary = baseline = 0.0
    phi = state.phi.get(MonitorName.ORDERS, 1.0)
    return Step(
        at=step.at,
        settled_at=step.settled_at,
        ratio=step.ratio if raw is None else ratio.add(step.ratio, raw, phi),
        tallies=tallies,
        canary_requests=step.canary_requests + canary,
        requests=step.requests + canary + baseline,
    )
