"""Forecasts of the whole site: the usual day, levelled by the last half hour, trusted as far as they were right."""

from random import Random

import pytest

from canary.core.detect.forecast import LEAST_THETA, MINUTES, MOST_THETA, expected, forecast, theta


def day(level: float = 1.0, rng: Random | None = None, spread: float = 0.0) -> list[float]:
    noise = [1.0 + rng.uniform(-spread, spread) if rng else 1.0 for _ in range(MINUTES)]
    return [level * (100.0 if 480 <= minute < 1320 else 20.0) * noise[minute] for minute in range(MINUTES)]


FORTNIGHT = [day()] * 14


def test_the_usual_day_is_the_median_and_one_sale_does_not_move_it() -> None:
    usual = forecast([*FORTNIGHT[:13], day(10.0)], [100.0] * 30, 600)
    assert usual is not None
    assert expected(usual, 600.0, 60.0).hist == 100.0


def test_the_last_half_hour_sets_the_level_of_the_second_forecast() -> None:
    holiday = forecast(FORTNIGHT, [60.0] * 30, 600)
    assert holiday is not None
    assert expected(holiday, 600.0, 300.0).hist == pytest.approx(500.0)
    assert expected(holiday, 600.0, 300.0).recent == pytest.approx(300.0)


def test_a_span_may_cross_minutes_the_curve_and_midnight() -> None:
    usual = forecast(FORTNIGHT, [100.0] * 30, 600)
    assert usual is not None
    assert expected(usual, 479.5, 60.0).hist == pytest.approx(0.5 * 20.0 + 0.5 * 100.0)
    assert expected(usual, 1439.0, 180.0).hist == pytest.approx(60.0)
    assert expected(usual, 1e12 + 0.5, 5.0).hist == expected(usual, (1e12 + 0.5) % MINUTES, 5.0).hist


def test_days_that_repeat_earn_a_high_floor_and_wild_ones_the_lowest() -> None:
    rng = Random(9)
    steady = forecast(FORTNIGHT, [100.0] * 30, 600)
    wild = forecast([day(rng.uniform(0.3, 3.0), rng, 0.9) for _ in range(14)], [100.0] * 30, 600)
    assert steady is not None
    assert wild is not None
    assert (steady.theta_hist, steady.theta_recent) == (MOST_THETA, MOST_THETA)
    assert wild.theta_hist == LEAST_THETA


def test_days_of_different_levels_are_forecast_better_by_the_recent_level() -> None:
    rng = Random(10)
    levels = forecast([day(rng.uniform(0.6, 1.6)) for _ in range(14)], [100.0] * 30, 600)
    assert levels is not None
    assert levels.theta_recent > levels.theta_hist


def test_without_history_the_last_half_hour_stands_alone_with_the_lowest_floor() -> None:
    young = forecast(FORTNIGHT[:3], [50.0] * 30, 600)
    assert young is not None
    assert (young.theta_hist, young.theta_recent) == (LEAST_THETA, LEAST_THETA)
    assert expected(young, 600.0, 120.0).hist is None
    assert expected(young, 600.0, 120.0).recent == 100.0


def test_history_stands_alone_where_the_last_half_hour_is_not_known() -> None:
    old = forecast(FORTNIGHT, [100.0] * 29, 600)
    assert old is not None
    assert expected(old, 600.0, 60.0).recent is None


@pytest.mark.parametrize(
    ("days", "before"), [([], []), ([], [0.0] * 30), ([[0.0] * MINUTES] * 14, [1.0] * 30)]
)
def test_with_nothing_to_go_by_there_is_no_forecast(days: list[list[float]], before: list[float]) -> None:
    assert forecast(days, before, 600) is None


def test_a_day_without_one_order_counts_as_an_error_without_limit() -> None:
    assert theta([[0.0] * MINUTES] * 3, day()) == LEAST_THETA
