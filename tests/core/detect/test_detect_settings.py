"""What a policy pins down: noise factors only rise, and what would break the promise is refused."""

from functools import partial
from itertools import accumulate
from math import nan

import pytest
from steady_looks import LATE, SHOP, look, verdict

from canary.api.reasons import Verdict
from canary.core.detect.family import ExtraMonitor, MonitorName, Settings, start, update
from canary.errors import RefusedError


def test_within_a_run_the_noise_factor_only_rises() -> None:
    state = update(SHOP, start(SHOP), look(5.0), phi={"orders": 4.0})
    state = update(SHOP, state, look(10.0), phi={"orders": 2.0, "errors": 2.5})
    assert state.phi == {"orders": 4.0, "errors": 2.5}


def test_a_noisier_shop_needs_more_orders_to_convict() -> None:
    looks = [look(5.0 * at, 0.0, weight_ppm=2_000) for at in range(1, 200)]
    alarms = []
    for phi in (1.0, 3.0, 9.0):
        settings = Settings(monitors=frozenset({MonitorName.ORDERS}), phi={"orders": phi})
        states = accumulate(looks, partial(update, settings), initial=start(settings))
        alarms.append(
            next(state.t for state in states if verdict(settings, state).verdict is Verdict.ROLL_BACK)
        )
    assert alarms == sorted(set(alarms))


@pytest.mark.parametrize(
    "wrong",
    [
        {"false_rollback": 0.0},
        {"false_rollback": 0.5},
        {"drop_null": 0.9},
        {"theta_hist": 0.0},
        {"phi": {"orders": 0.5}},
        {"phi": {"orders": nan}},
        {"phi": {"ordres": 2.0}},
        {"monitors": frozenset()},
        {"extra": (LATE, LATE)},
        {"extra": (ExtraMonitor("orders", rise=True),)},
        {"extra": tuple(ExtraMonitor(f"x{at}", rise=True) for at in range(9))},
    ],
)
def test_settings_that_would_break_the_promise_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RefusedError):
        Settings(**wrong)


def test_an_unknown_noise_factor_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"ordres.*orders"):
        update(SHOP, start(SHOP), look(5.0), phi={"ordres": 2.0})
