"""Forecasts of the whole site's orders, and the floor under which the site has fallen whatever the canary does.

Enters: orders per minute of past days (each a list of 1,440 minutes) and of the minutes before the run. Leaves:
a `SiteForecast` that `expected` reads off for any span of time, with the floors (theta) that its own past errors earn.
History alone is wrong on a holiday, the last half hour alone when a sale ends; so both are asked, and the milder
counts. Falls of less than about 60 % are not seen by design. `operator` builds it at the start of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log
from statistics import median

MINUTES = 1440
MIN_DAYS = 4
RECENT_MINUTES = 30
BLOCK_MINUTES = 10
LEAST_THETA = 0.30
MOST_THETA = 0.85
ERRORS_BELOW = 5.0  # deviations that a forecast is allowed to err
MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True)
class SiteForecast:
    """Expected orders per minute of the day. `history` None: only the level of the last half hour is known."""

    history: tuple[float, ...] | None
    level: float  # actual/history over the half hour before the run; without history: orders per minute
    recent_known: bool
    theta_hist: float
    theta_recent: float


@dataclass(frozen=True, slots=True)
class SiteExpected:
    """What the two forecasts expect over a span; None: not known."""

    hist: float | None
    recent: float | None


def forecast(days: Sequence[Sequence[float]], before: Sequence[float], minute: int) -> SiteForecast | None:
    """Build the forecast for a run that starts at `minute` of the day.

    `days`: past days, 14 in a row or 4 of the same weekday, orders per minute. `before`: orders of the minutes just
    before the run, the newest last. Without 4 days of history the last half hour stands alone, with the lowest floor;
    with neither there is no forecast, and the site is not watched.
    """
    whole = [day for day in days if len(day) == MINUTES]
    recent = list(before)[-RECENT_MINUTES:] if len(before) >= RECENT_MINUTES else None
    if len(whole) < MIN_DAYS:
        if recent is None or sum(recent) <= 0:
            return None
        return SiteForecast(None, sum(recent) / RECENT_MINUTES, True, LEAST_THETA, LEAST_THETA)
    history = tuple(median(day[at] for day in whole) for at in range(MINUTES))
    if sum(history) <= 0:
        return None
    usual = _last_half_hour(history, minute)
    known = recent is not None and usual > 0
    return SiteForecast(
        history,
        sum(recent) / usual if recent is not None and known else 1.0,
        known,
        theta(whole, history),
        theta([_levelled(day, history, minute) for day in whole], history),
    )


def theta(days: Sequence[Sequence[float]], history: Sequence[float]) -> float:
    """Return the floor, as a share of the forecast, that 10-minute blocks of these days stay above by far."""
    errors = [
        abs(log(actual / usual)) if actual > 0 else inf
        for day in days
        for actual, usual in zip(_blocks(day), _blocks(history), strict=True)
        if usual > 0
    ]
    deviation = MAD_TO_SD * median(errors)
    return min(MOST_THETA, max(LEAST_THETA, exp(-ERRORS_BELOW * deviation)))


def expected(forecast: SiteForecast, start_minute: float, seconds: float) -> SiteExpected:
    """Return the orders expected from `start_minute` of the day (may run past midnight) over `seconds`."""
    if forecast.history is None:
        return SiteExpected(None, forecast.level * seconds / 60.0)
    hist = _integral(forecast.history, start_minute, seconds / 60.0)
    return SiteExpected(hist, hist * forecast.level if forecast.recent_known else None)


def _integral(history: Sequence[float], start: float, minutes: float) -> float:
    """Add up the curve, which is constant within each minute."""
    total, at = 0.0, start % MINUTES
    end = at + minutes
    while at < end:
        edge = min(float(int(at)) + 1.0, end)
        total += history[int(at) % MINUTES] * (edge - at)
        at = edge
    return total


def _blocks(day: Sequence[float]) -> list[float]:
    return [sum(day[at : at + BLOCK_MINUTES]) for at in range(0, MINUTES, BLOCK_MINUTES)]


def _last_half_hour(day: Sequence[float], minute: int) -> float:
    return sum(day[(minute - back) % MINUTES] for back in range(1, RECENT_MINUTES + 1))


def _levelled(day: Sequence[float], history: Sequence[float], minute: int) -> list[float]:
    """Divide a past day by its own level before that time of the day, as the recent forecast would have done."""
    actual, usual = _last_half_hour(day, minute), _last_half_hour(history, minute)
    return [value * usual / actual for value in day] if actual > 0 else [0.0] * MINUTES
