"""From the state to a verdict: an ordered list of facts, the first that holds wins, each with its sentence.

Enters: the pinned settings, the state after a look, the weight that would come next. Leaves: a `Judgement`, whose
message is the sentence that log, Event, condition, page and CLI show. DRAIN and ROLL_BACK rest on the promise of
`false_rollback`; HOLD costs nothing but time; ADVANCE needs proof that the canary sells as well, within a margin that
the next weight sets. Lack of data never advances anything. Called through `family`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import exp, floor, inf, log

from canary.api.reasons import PPM, MissingReason, Reason, Verdict
from canary.core.detect import onset, ratio
from canary.core.detect.monitors import Monitor, MonitorName, Settings
from canary.core.detect.ratio import Interval
from canary.core.detect.state import State, Tally, require_fit
from canary.core.telling import wording

HOLD_LOG = log(20.0)  # a healthy run is ever held for evidence with at most 5 %
CLEAR_LOG = log(5.0)  # above it no step is passed
LEAST_MARGIN = 0.05
MOST_MARGIN = 0.5
HARM = 0.01  # share of all orders that may go unnoticed at the next weight
WATCHED_FROM_PPM = 500_000  # from this weight on the least watch applies
SILENT_ORDERS_OF = 20.0  # requests that should have come
SILENT_SECONDS = 30.0
SILENT_LONG_OF = 200.0
SILENT_LONG_SECONDS = 120.0

_REASONS = {
    MonitorName.ORDERS: Reason.ORDERS_COLLAPSED,
    MonitorName.ORDERS_BY_WEIGHT: Reason.ORDERS_LOST_BY_WEIGHT,
    MonitorName.ERRORS: Reason.ERRORS_ROSE,
    MonitorName.SLOW: Reason.SLOW_ROSE,
    MonitorName.TRAFFIC: Reason.TRAFFIC_LOST,
    MonitorName.SITE: Reason.SITE_FELL,
}


@dataclass(frozen=True, slots=True)
class MonitorView:
    """One monitor for people: its evidence (ln S), its weight, and the canary's events against those expected."""

    name: str
    log_s: float
    weight: float
    seen: float
    expected: float
    phi: float

    @property
    def effect(self) -> Interval:
        """Return seen/expected with exact 95 % limits (Poisson, counts divided by phi); worked out when asked."""
        return onset.effect(self.seen, self.expected, self.phi)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evidence says. Ratios are seen/expected (1: as good as the baseline); times are seconds."""

    verdict: Verdict
    reason: Reason
    message: str
    evidence_log: float  # ln F; minus infinity before the first look
    limit_log: float  # ln 1/false_rollback
    worst: str  # the monitor that says most
    monitors: Mapping[str, MonitorView]
    effect: Interval  # order ratio of this step; its limits hold at all times jointly with 95 %
    lost: Interval  # estimate of orders lost since the likely start
    likely_start: float | None  # since the run's start; None: nothing speaks for a fault
    more_orders: float | None  # canary orders still needed to pass the step
    more_seconds: float | None
    orders: Tally  # canary orders seen and expected in this step
    gained: float  # nats that the last look added; a jump is worth an early next look
    used_at: float  # end of the last look in which nothing was missing
    blind_seconds: float  # from then to the last look
    missing: MissingReason | None  # why the last look was not used in full
    site_healthy_seconds: float  # for how long the whole site has been above the floor of its forecasts


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: Verdict
    reason: Reason
    message: str


class _Question:
    """The state with everything that several facts ask of it, worked out once."""

    def __init__(self, settings: Settings, state: State, next_weight_ppm: int | None) -> None:
        self.settings = settings
        self.state = state
        self.next_weight_ppm = PPM if next_weight_ppm is None else max(1, next_weight_ppm)
        self.margin = min(MOST_MARGIN, max(LEAST_MARGIN, HARM * PPM / self.next_weight_ppm))
        self.reading = ratio.read(state.step.ratio)
        self.low, self.high = ratio.limits(self.reading)
        self.worst_row = max(settings.table, key=lambda row: row.log_weight + state.log_s[row.name])
        self.worst = self.worst_row.name

    @property
    def crossed(self) -> bool:
        return self.state.log_f >= self.settings.limit_log

    @property
    def loss_excluded(self) -> bool:
        """Tell whether a loss that matters at the next weight is excluded; wrong with at most 5 % a step."""
        if self.settings.reference:
            return self.low >= 1.0 - self.margin
        return ratio.against_loss(self.reading, self.margin) >= log(1.0 / ratio.LEVEL)

    @property
    def step_seconds(self) -> float:
        return self.state.t - self.state.step.at

    @property
    def orders(self) -> Tally:
        return self.state.step.tallies.get(MonitorName.ORDERS, Tally())

    @cached_property
    def since(self) -> onset.Since:
        mixes = self.state.mixes.get(MonitorName.ORDERS)
        return onset.Since(0.0, 0.0, 0.0) if mixes is None else onset.means(self.state.onset, mixes[0].log_r)

    @cached_property
    def more_orders(self) -> float | None:
        share, phi = self.state.step.share, self.phi(MonitorName.ORDERS)
        return ratio.more_orders(self.reading, self.margin, share, phi)

    @property
    def more_seconds(self) -> float | None:
        seconds = self.state.t - max(self.state.step.at, self.state.step.settled_at)
        if self.more_orders is None or seconds <= 0.0 or self.orders.expected <= 0.0:
            return None
        return self.more_orders / self.orders.expected * seconds

    def phi(self, name: str) -> float:
        return self.state.phi.get(name, 1.0)

    def _since_start(self, name: str) -> Tally:
        if name == MonitorName.ORDERS:
            return Tally(self.since.seen, self.since.expected)
        return self.state.since.get(name, Tally())

    def view(self, row: Monitor) -> MonitorView:
        """Show one monitor: since the likely start where more speaks for a fault than against, else over the step."""
        name = row.name
        tally = self.state.step.tallies.get(name, Tally())
        if self.state.log_s[name] > 0.0:
            tally = self._since_start(name)
        phi = max(row.least_phi, self.phi(row.phi_name))
        return MonitorView(name, self.state.log_s[name], row.weight, tally.seen, tally.expected, phi)


def judge(settings: Settings, state: State, next_weight_ppm: int | None) -> Judgement:
    """Return what the evidence says after the last look. `next_weight_ppm` None: all of the traffic comes next.

    Raises StateUnreadable for a state of other monitors than the settings have.
    """
    require_fit(settings, state)
    question = _Question(settings, state, next_weight_ppm)
    finding = next(found for fact in _FACTS if (found := fact(question)) is not None)
    tally = question.orders
    return Judgement(
        verdict=finding.verdict,
        reason=finding.reason,
        message=finding.message,
        evidence_log=state.log_f,
        limit_log=settings.limit_log,
        worst=question.worst,
        monitors={row.name: question.view(row) for row in settings.table},
        effect=Interval(
            tally.seen / tally.expected if tally.expected > 0 else None, question.low, question.high
        ),
        lost=_lost(question),
        likely_start=_likely_start(question),
        more_orders=question.more_orders,
        more_seconds=question.more_seconds,
        orders=tally,
        gained=state.gained,
        used_at=state.used_at,
        blind_seconds=max(0.0, state.t - state.used_at),
        missing=None if state.trouble is None else state.trouble.reason,
        site_healthy_seconds=state.site.healthy_seconds,
    )


def _lost(question: _Question) -> Interval:
    """Estimate the orders lost; a canary that loses its requests as well is compared by weight."""
    by_weight = (MonitorName.ORDERS_BY_WEIGHT, MonitorName.TRAFFIC)
    tally = question.state.since.get(MonitorName.ORDERS_BY_WEIGHT)
    phi = question.phi(MonitorName.ORDERS)
    if not question.crossed or question.worst not in by_weight or tally is None:
        return onset.lost(question.state.onset, question.since, phi)
    return onset.lost(question.state.onset, onset.Since(0.0, tally.expected, tally.seen), phi)


def _likely_start(question: _Question) -> float | None:
    if question.state.log_s.get(MonitorName.ORDERS, -inf) <= 0.0:
        return None
    return max(0.0, question.state.t - question.since.seconds)


def evidence_crossed(question: _Question) -> _Finding | None:
    """F reached 1/false_rollback: act on the monitor that says most."""
    if not question.crossed:
        return None
    worst = question.worst
    reason = _REASONS[MonitorName(worst)] if worst in _REASONS else Reason.EXTRA_WORSENED
    verdict = Verdict.DRAIN if worst == MonitorName.SITE else Verdict.ROLL_BACK
    effect = question.view(question.worst_row).effect
    message = (
        f"{_words(worst)} {_change_words(effect)}{_when(question)}, "
        f"evidence {power(question.state.log_f)} over the limit {power(question.settings.limit_log)}"
    )
    return _Finding(verdict, reason, message)


def _when(question: _Question) -> str:
    if question.worst != MonitorName.ORDERS:
        return " since it began"
    return f" since {_likely_start(question) or 0.0:.1f} s into the run"


def silent_long(question: _Question) -> _Finding | None:
    """The canary had no request for long, though many were due: whatever is wrong, nothing is learnt any more."""
    return _silent(question, Verdict.ROLL_BACK, SILENT_LONG_OF, SILENT_LONG_SECONDS)


def silent(question: _Question) -> _Finding | None:
    """The canary had no request for a while. Expected counts, not seconds alone: a small shop is often quiet."""
    return _silent(question, Verdict.HOLD, SILENT_ORDERS_OF, SILENT_SECONDS)


def _silent(question: _Question, verdict: Verdict, expected: float, seconds: float) -> _Finding | None:
    silence = question.state.silence
    quiet = question.state.t - silence.since
    if silence.expected < expected or quiet < seconds:
        return None
    message = f"no canary request for {quiet:.0f} s, in which about {silence.expected:.0f} were due"
    return _Finding(verdict, Reason.SIDE_SILENT, message)


def evidence_suspect(question: _Question) -> _Finding | None:
    """F is above 20: not enough to convict, too much to wait and see at a higher weight."""
    if question.state.log_f < HOLD_LOG:
        return None
    message = (
        f"{_words(question.worst)} is suspect: evidence {power(question.state.log_f)} of the "
        f"{power(question.settings.limit_log)} that rolls back"
    )
    return _Finding(Verdict.HOLD, Reason.EVIDENCE_SUSPECT, message)


def look_unusable(question: _Question) -> _Finding | None:
    """The last look is missing, or a part of it: lack of data never advances."""
    trouble = question.state.trouble
    if trouble is None:
        return None
    reason = Reason.SOURCES_DISAGREE if trouble.reason is MissingReason.DISAGREE else Reason.BLIND
    return _Finding(Verdict.HOLD, reason, f"this look cannot be used ({trouble.reason}): {trouble.detail}")


def no_look_yet(question: _Question) -> _Finding | None:
    if question.state.weight_ppm is not None:
        return None
    return _Finding(Verdict.CONTINUE, Reason.NO_DATA_YET, "no look has been taken yet")


def weight_unverified(question: _Question) -> _Finding | None:
    if question.state.verified:
        return None
    return _Finding(Verdict.CONTINUE, Reason.EVIDENCE_GROWING, "the weight is not known to be obeyed yet")


def settling(question: _Question) -> _Finding | None:
    """After a raise orders trail requests; the monitors of orders wait that long."""
    left = max(
        question.settings.settle_seconds - question.step_seconds,
        question.state.step.settled_at - question.state.t,
    )
    if left <= 0.0:
        return None
    return _Finding(Verdict.CONTINUE, Reason.SETTLING, f"orders still trail requests; {left:.0f} s to settle")


def evidence_short(question: _Question) -> _Finding | None:
    """A loss that matters at the next weight is not excluded."""
    if question.loss_excluded:
        return None
    orders = question.orders
    message = (
        f"{orders.seen:.0f} orders of {orders.expected:.0f} expected; a loss of {100 * question.margin:.0f} % "
        f"is not excluded yet{_to_go(question)}"
    )
    return _Finding(Verdict.CONTINUE, Reason.EVIDENCE_GROWING, message)


def _to_go(question: _Question) -> str:
    if question.more_orders is None:
        return ""
    seconds = question.more_seconds
    when = "" if seconds is None else f", {_duration(seconds)}"
    return f": about {max(1.0, question.more_orders):.0f} more orders{when}"


def evidence_not_clear(question: _Question) -> _Finding | None:
    if question.state.log_f < CLEAR_LOG:
        return None
    message = (
        f"{_words(question.worst)}: evidence {power(question.state.log_f)} against the canary; a step passes below "
        f"{power(CLEAR_LOG)}"
    )
    return _Finding(Verdict.CONTINUE, Reason.EVIDENCE_GROWING, message)


def step_too_short(question: _Question) -> _Finding | None:
    left = question.settings.min_step_seconds - question.step_seconds
    if left <= 0.0:
        return None
    return _Finding(
        Verdict.CONTINUE, Reason.MIN_STEP_TIME, f"healthy so far; the step lasts {left:.0f} s more"
    )


def watch_too_short(question: _Question) -> _Finding | None:
    """Half of the traffic and more waits until slow faults had their time."""
    left = question.settings.min_watch_seconds - question.state.t
    if left <= 0.0 or question.next_weight_ppm < WATCHED_FROM_PPM:
        return None
    message = f"healthy so far; {question.next_weight_ppm / 10_000:g} % comes after {_duration(left)} more of watching"
    return _Finding(Verdict.CONTINUE, Reason.MIN_WATCH, message)


def evidence_suffices(question: _Question) -> _Finding:
    """The canary sells as well as the baseline, within the margin."""
    orders = question.orders
    message = (
        f"{orders.seen:.0f} orders of {orders.expected:.0f} expected; a loss of {100 * question.margin:.0f} % is "
        f"excluded, which is enough for {question.next_weight_ppm / 10_000:g} %"
    )
    return _Finding(Verdict.ADVANCE, Reason.EVIDENCE_SUFFICES, message)


_FACTS: tuple[Callable[[_Question], _Finding | None], ...] = (
    evidence_crossed,
    silent_long,
    evidence_suspect,
    silent,
    look_unusable,
    no_look_yet,
    weight_unverified,
    settling,
    evidence_short,
    evidence_not_clear,
    step_too_short,
    watch_too_short,
    evidence_suffices,
)


def power(log_value: float) -> str:
    """Write e^log_value for people: 7.4e3, 12, 0.031."""
    if log_value == -inf:
        return "0"
    if -7.0 < log_value < log(1000.0) - 1e-9:
        return f"{exp(log_value):.2g}"
    exponent = floor(log_value / log(10.0) + 1e-9)
    return f"{exp(log_value - exponent * log(10.0)):.1f}e{exponent}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _change_words(effect: Interval) -> str:
    """Write seen/expected with its limits: "-100 % [-100,-81]", "170 times as many [95,310]"."""
    point, low, high = (None if end is None else end - 1.0 for end in (effect.point, effect.low, effect.high))
    change = wording.change(point, low, high)
    return f"{change.text} [{change.low},{change.high}]"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100.0 else f"{seconds / 60.0:.0f} min"
