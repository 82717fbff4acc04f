"""The whole site's orders: what is learnt before the first slice, the forecast frozen there, each look against it.

Enters: past orders per minute, as answers to the questions asked here, and the increments of every look. Leaves: the
forecast with its floors, and per look a `SiteCounts` for the detector. The forecast is frozen when the first slice
begins, so that a slow fall cannot talk its own forecast down. Called by `analysis`; `operator/look.py` carries the
questions to a `History`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from canary.core.detect.counters import ORDERS, Folded, SiteCounts
from canary.core.detect.forecast import MINUTES, RECENT_MINUTES, SiteForecast, expected, forecast
from canary.core.evidence import Missing
from canary.core.plan import Floors

PAST_DAYS = 14
MAX_FAILURES = 3  # questions without an answer, after which no more are asked
MINUTE_SECONDS = 60.0
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Span:
    """Whole minutes of the past; `begin` in Unix seconds."""

    begin: float
    minutes: int

    @property
    def end(self) -> float:
        return self.begin + self.minutes * MINUTE_SECONDS


@dataclass(frozen=True, slots=True)
class Past:
    """An answer: the orders of each minute of the span."""

    span: Span
    orders: Sequence[float] | Missing


@dataclass(frozen=True, slots=True)
class Learnt:
    """The answers so far: the half hour before the run was prepared, then whole days, the newest first."""

    asked: int = 0
    failures: int = 0
    before: tuple[float, ...] = ()
    end: float = 0.0
    """Where the half hour ended, in Unix seconds."""
    days: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the run itself saw before its first slice: minutes, and the one that is not over."""

    minutes: tuple[float, ...] = ()
    orders: float = 0.0
    seconds: float = 0.0

    def add(self, orders: float, seconds: float) -> "Seen":
        """Add a block; a gap of several minutes counts as minutes of equal orders."""
        orders, seconds = self.orders + orders, self.seconds + seconds
        whole = int(seconds // MINUTE_SECONDS)
        if whole == 0:
            return Seen(self.minutes, orders, seconds)
        each = orders * MINUTE_SECONDS / seconds
        minutes = (*self.minutes, *[each] * min(whole, RECENT_MINUTES))[-RECENT_MINUTES:]
        return Seen(minutes, orders - each * whole, seconds - MINUTE_SECONDS * whole)


@dataclass(frozen=True, slots=True)
class Block:
    """Orders between two looks in which every pod was read; empty while pods are waited for. Times: the run's."""

    orders: float
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class SiteMemory:
    """What one look hands to the next about the whole site."""

    forecast: SiteForecast | None = None
    """None until the first slice, and after it where nothing was known."""
    text: str = ""
    """The forecast as it is stored."""
    learnt: Learnt = Learnt()
    seen: Seen = Seen()
    orders: float = 0.0
    """Counted since `since`: a look in which a pod was missed is no span of time."""
    since: float | None = None

    @property
    def word(self) -> str:
        """Say what the site is compared with, for the status."""
        made = self.forecast
        if made is None:
            return "no history"
        if made.history is None:
            return "recent"
        return "history and recent" if made.recent_known else "history"

    @property
    def floors(self) -> Floors | None:
        made = self.forecast
        return None if made is None else Floors(made.theta_hist, made.theta_recent)


# -- before the first slice ----------------------------------------------------------------------------------------


def question(site: SiteMemory, now: float) -> Span | None:
    """Return what to ask the history next, one part a look; None: nothing more. `now` in Unix seconds."""
    learnt = site.learnt
    if site.forecast is not None or learnt.asked > PAST_DAYS or learnt.failures >= MAX_FAILURES:
        return None
    if learnt.asked == 0:
        end = now - now % MINUTE_SECONDS
        return Span(end - RECENT_MINUTES * MINUTE_SECONDS, RECENT_MINUTES)
    return Span(learnt.end - learnt.end % DAY_SECONDS - learnt.asked * DAY_SECONDS, MINUTES)


def learn(site: SiteMemory, past: Past) -> SiteMemory:
    """Take in an answer; a part that is missing is left out."""
    learnt, orders = replace(site.learnt, asked=site.learnt.asked + 1), past.orders
    if site.learnt.asked == 0:
        learnt = replace(learnt, end=past.span.end)
    if isinstance(orders, Missing):
        learnt = replace(learnt, failures=learnt.failures + 1)
    elif site.learnt.asked == 0:
        learnt = replace(learnt, before=tuple(orders))
    else:
        learnt = replace(learnt, days=(*learnt.days, tuple(orders)))
    return replace(site, learnt=learnt)


def watch(site: SiteMemory, block: Block | None) -> SiteMemory:
    """Remember what the site sells while nobody meets the new version."""
    if block is None:
        return site
    return replace(site, seen=site.seen.add(block.orders, block.end - block.begin))


def freeze(site: SiteMemory, zero: float) -> SiteMemory:
    """Make the forecast from all that is known, once; from then on it stands. `zero`: the run's, in Unix seconds."""
    if site.forecast is not None:
        return site
    before, end = site.learnt.before, site.learnt.end
    if len(site.seen.minutes) >= RECENT_MINUTES:  # newer than what was asked for when the run was prepared
        before, end = site.seen.minutes, zero + (site.since or 0.0) - site.seen.seconds
    made = forecast(site.learnt.days, before, int(end // MINUTE_SECONDS) % MINUTES)
    text = "" if made is None else _written(made)
    frozen = load(text)  # what a restart would read, so that a restart changes nothing
    return replace(frozen, orders=site.orders, since=site.since)


# -- every look ----------------------------------------------------------------------------------------------------


def fold(site: SiteMemory, folded: Folded) -> tuple[SiteMemory, Block | None]:
    """Add the orders of both versions in one look. None: some pod does not count orders, so the site's are unknown."""
    counted = [pod.get(ORDERS) for pod in folded.pods.values()]
    if None in counted:
        return replace(site, orders=0.0, since=None), None
    orders = site.orders + sum(count for count in counted if count is not None)
    if not counted or not folded.complete:
        return replace(site, orders=orders), Block(0.0, folded.at, folded.at)
    if site.since is None:
        return replace(site, orders=0.0, since=folded.at), Block(0.0, folded.at, folded.at)
    return replace(site, orders=0.0, since=folded.at), Block(orders, site.since, folded.at)


def counts(site: SiteMemory, block: Block | None, zero: float) -> SiteCounts | None:
    """Return a block of orders and what was forecast for it. `zero`: the run's, in Unix seconds."""
    if site.forecast is None or block is None:
        return None
    minute = (zero + block.begin) / MINUTE_SECONDS % MINUTES
    usual = expected(site.forecast, minute, block.end - block.begin)
    return SiteCounts(block.orders, usual.hist, usual.recent)


# -- its text ------------------------------------------------------------------------------------------------------


def dump(site: SiteMemory) -> str:
    """Return the text for the status: the frozen forecast, or the minutes seen so far."""
    if site.forecast is not None or not site.seen.minutes:
        return site.text
    return json.dumps({"seen": [_short(value) for value in site.seen.minutes]}, separators=(",", ":"))


def _written(made: SiteForecast) -> str:
    """Write a forecast with four digits a minute: far less than it errs by."""
    data = {
        "history": None if made.history is None else [_short(value) for value in made.history],
        "recent": made.level if made.recent_known else None,
        "theta": [made.theta_hist, made.theta_recent],
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def load(text: str) -> SiteMemory:
    """Read what `dump` wrote; what cannot be read is forgotten, and the site is not watched."""
    try:
        data = json.loads(text) if text else {}
        if "seen" in data or not data:
            return SiteMemory(seen=Seen(_numbers(data.get("seen", []))))
        history, level = data["history"], data["recent"]
        theta_hist, theta_recent = _numbers(data["theta"])
        usual = None if history is None else _numbers(history)
        if usual is not None and len(usual) != MINUTES:
            return SiteMemory()
        known = 1.0 if level is None else _numbers([level])[0]
        return SiteMemory(SiteForecast(usual, known, level is not None, theta_hist, theta_recent), text)
    except (ValueError, KeyError, TypeError, AttributeError):
        return SiteMemory()


def _short(value: float) -> float:
    short = float(f"{value:.4g}")
    return int(short) if short < 1e9 and short.is_integer() else short


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(math.isfinite(number) and number >= 0.0 for number in numbers):
        raise ValueError("not a count")
    return numbers
