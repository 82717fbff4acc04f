"""Each rule of the verdict: what brings it about, what it says, and what it never does."""

import re
from dataclasses import replace
from math import inf, log

import pytest
from steady_looks import BASKETS, LATE, NO_WAIT, ORDERS_ONLY, SHOP, arm, fed, healthy, look, verdict

from canary.api.reasons import Reason, Verdict
from canary.core.detect.counters import SiteCounts
from canary.core.detect.family import ExtraMonitor, MonitorName, Settings, dump, load, start, update


def test_a_collapse_is_rolled_back_at_the_second_look_and_says_what_it_cost() -> None:
    assert verdict(SHOP, fed(SHOP, look(605.0, 0.0), state=healthy())).verdict is not Verdict.ROLL_BACK
    state = fed(SHOP, *(look(600.0 + 5.0 * at, 0.0) for at in (1, 2)), state=healthy())
    judgement = verdict(SHOP, state)
    assert (judgement.verdict, judgement.reason, judgement.worst) == (
        Verdict.ROLL_BACK,
        Reason.ORDERS_COLLAPSED,
        "orders",
    )
    assert judgement.likely_start == pytest.approx(600.0, abs=5.0)
    assert judgement.lost.point == pytest.approx(50.0, abs=5.0)
    assert judgement.lost.low < 50.0 < (judgement.lost.high or 0.0)
    effect = judgement.monitors["orders"].effect
    assert effect.low == pytest.approx(0.0, abs=0.01)
    assert effect.high is not None
    assert effect.high < 0.15
    assert "-100 %" in judgement.message


def test_what_waits_for_the_second_look_is_kept_through_a_restart_and_is_short() -> None:
    state = fed(SHOP, look(605.0, 0.0), state=healthy())
    assert any(mix.held for tests in state.mixes.values() for mix in tests)
    assert load(dump(state)) == state
    assert len(dump(state)) <= 3_000
    assert verdict(SHOP, fed(SHOP, look(610.0, 0.0), state=load(dump(state)))).verdict is Verdict.ROLL_BACK


def test_errors_that_rise_are_named() -> None:
    failing = replace(look(0.0).canary, errors=62.5)
    state = fed(SHOP, *(look(600.0 + 5.0 * at, canary=failing) for at in (1, 2, 3)), state=healthy())
    assert verdict(SHOP, state).reason is Reason.ERRORS_ROSE
    assert verdict(SHOP, state).monitors["errors"].effect.low > 5.0
    assert re.match(r"errors \d+ times as many \[[\d.]+,\d+\] since", verdict(SHOP, state).message)


def test_slow_answers_are_named() -> None:
    slow = replace(look(0.0).canary, slow=200.0)
    state = fed(SHOP, *(look(600.0 + 5.0 * at, canary=slow) for at in (1, 2, 3, 4)), state=healthy())
    assert verdict(SHOP, state).reason is Reason.SLOW_ROSE


def test_a_canary_that_loses_requests_and_orders_alike_is_convicted_by_weight() -> None:
    gone = arm(0.25, 12.5)
    state = fed(SHOP, *(look(600.0 + 5.0 * at, canary=gone) for at in (1, 2)), state=healthy())
    judgement = verdict(SHOP, state)
    assert judgement.reason is Reason.TRAFFIC_LOST
    assert judgement.lost.point == pytest.approx(49.5, abs=4.0)


def test_a_smaller_share_that_was_accepted_is_not_held_against_the_canary() -> None:
    third = {"canary": arm(500 * 0.05 * 0.3, 25_000 * 0.05 * 0.3)}
    strict = fed(SHOP, *(look(5.0 * at, **third) for at in range(1, 200)))
    lenient = fed(SHOP, *(look(5.0 * at, coverage=0.3, **third) for at in range(1, 200)))
    assert verdict(SHOP, strict).verdict is Verdict.ROLL_BACK
    assert verdict(SHOP, lenient).verdict is Verdict.ADVANCE


def test_a_fall_of_the_whole_site_drains_and_blames_nobody() -> None:
    fallen = {
        "canary": arm(0.25, 1250.0),
        "baseline": arm(4.75, 23_750.0),
        "site": SiteCounts(5.0, 500.0, 500.0),
    }
    state = fed(SHOP, *(look(600.0 + 5.0 * at, **fallen) for at in (1, 2, 3)), state=healthy())
    assert (verdict(SHOP, state).verdict, verdict(SHOP, state).reason) == (Verdict.DRAIN, Reason.SITE_FELL)
    assert verdict(SHOP, state).site_healthy_seconds == 0.0
    well = fed(SHOP, *(look(615.0 + 5.0 * at, weight_ppm=0) for at in range(1, 25)), state=state)
    assert verdict(SHOP, well).site_healthy_seconds == 120.0


@pytest.mark.parametrize("known", ["expected", "recent"])
def test_one_forecast_alone_is_enough_to_see_the_site_fall(known: str) -> None:
    site = replace(SiteCounts(5.0, None, None), **{known: 500.0})
    fallen = {"canary": arm(0.25, 1250.0), "baseline": arm(4.75, 23_750.0), "site": site}
    assert verdict(SHOP, fed(SHOP, *(look(5.0 * at, **fallen) for at in (1, 2, 3)))).verdict is Verdict.DRAIN


def test_a_holiday_that_history_did_not_foresee_does_not_drain() -> None:
    quiet = {
        "canary": arm(5.0, 250.0),
        "baseline": arm(95.0, 4750.0),
        "site": SiteCounts(100.0, 500.0, 100.0),
    }
    state = fed(SHOP, *(look(5.0 * at, **quiet) for at in range(1, 200)))
    assert verdict(SHOP, state).monitors["site"].log_s < 0.0
    assert verdict(SHOP, state).verdict is Verdict.ADVANCE


@pytest.mark.parametrize(
    ("extra", "bad"), [(LATE, {"late_promises": 60.0}), (BASKETS, {"baskets": 0.0})], ids=["rise", "drop"]
)
def test_a_further_count_of_the_users_can_convict(extra: ExtraMonitor, bad: dict[str, float]) -> None:
    settings = Settings(extra=(extra,))
    name = next(iter(bad))
    well = {"canary": arm(25.0, 1250.0, **{name: 20.0}), "baseline": arm(475.0, 23_750.0, **{name: 380.0})}
    ill = {**well, "canary": arm(25.0, 1250.0, **bad)}
    state = fed(settings, *(look(5.0 * at, **well) for at in range(1, 60)))
    assert verdict(settings, state).verdict is Verdict.ADVANCE
    state = fed(settings, *(look(295.0 + 5.0 * at, **ill) for at in range(1, 9)), state=state)
    judgement = verdict(settings, state)
    assert (judgement.verdict, judgement.reason, judgement.worst) == (
        Verdict.ROLL_BACK,
        Reason.EXTRA_WORSENED,
        extra.name,
    )


def test_a_floor_tolerates_a_rise_that_nobody_would_notice() -> None:
    settings = Settings(extra=(replace(LATE, floor=0.01),))
    rare = {
        "canary": arm(25.0, 1250.0, late_promises=8.0),
        "baseline": arm(475.0, 23_750.0, late_promises=10.0),
    }
    without, with_floor = (
        fed(each, *(look(5.0 * at, **rare) for at in range(1, 60)))
        for each in (Settings(extra=(LATE,)), settings)
    )
    assert verdict(settings, with_floor).verdict is Verdict.ADVANCE
    assert verdict(Settings(extra=(LATE,)), without).verdict is Verdict.ROLL_BACK


def test_a_canary_without_requests_is_held_and_then_rolled_back_by_the_count_of_those_due() -> None:
    settings = Settings(monitors=frozenset({MonitorName.ORDERS}))
    quiet = {"canary": arm(0.0, 0.0), "baseline": arm(1.0, 20.0), "site": None}
    verdicts, state = {}, start(settings)
    for at in range(1, 1200):
        state = update(settings, state, look(5.0 * at, **quiet))
        verdicts[5.0 * at] = verdict(settings, state)
    held = min(t for t, each in verdicts.items() if each.verdict is Verdict.HOLD)
    back = min(t for t, each in verdicts.items() if each.verdict is Verdict.ROLL_BACK)
    assert (held, back) == (100.0, 1000.0)
    assert verdicts[held].reason is Reason.SIDE_SILENT


def test_silence_counts_anew_after_a_raise() -> None:
    settings = Settings(monitors=frozenset({MonitorName.ORDERS}), **NO_WAIT)
    paused = [look(5.0 * at, weight_ppm=0) for at in range(1, 200)]
    state = fed(settings, *paused, look(1000.0, canary=arm(0.0, 0.0), baseline=arm(475.0, 23_750.0)))
    assert verdict(settings, state).reason is not Reason.SIDE_SILENT


def test_evidence_above_20_holds_before_it_convicts() -> None:
    seen = set()
    state = healthy(ORDERS_ONLY)
    for at in range(1, 200):
        state = fed(ORDERS_ONLY, look(600.0 + 5.0 * at, 0.8), state=state)
        judgement = verdict(ORDERS_ONLY, state)
        seen.add((judgement.verdict, judgement.reason))
        if judgement.verdict is Verdict.ROLL_BACK:
            break
    assert (Verdict.HOLD, Reason.EVIDENCE_SUSPECT) in seen
    assert (Verdict.ROLL_BACK, Reason.ORDERS_COLLAPSED) in seen


def test_a_step_passes_only_after_its_time_and_half_of_the_traffic_only_after_the_watch() -> None:
    early = healthy(seconds=30.0)
    assert verdict(SHOP, early, 5_000).reason is Reason.MIN_STEP_TIME
    state = healthy(seconds=1700.0)
    assert verdict(SHOP, state, 499_999).verdict is Verdict.ADVANCE
    assert (verdict(SHOP, state, 500_000).verdict, verdict(SHOP, state, 500_000).reason) == (
        Verdict.CONTINUE,
        Reason.MIN_WATCH,
    )


def test_a_canary_five_percent_down_gets_no_more_traffic_though_it_is_not_convicted() -> None:
    state = fed(SHOP, *(look(5.0 * at, 0.94) for at in range(1, 400)))
    judgement = verdict(SHOP, state, 250_000)
    assert judgement.verdict in (Verdict.CONTINUE, Verdict.HOLD)
    assert judgement.effect.low < 0.95


def test_the_time_to_evidence_is_about_right() -> None:
    state, t = healthy(seconds=60.0), 60.0
    promised = verdict(SHOP, state)
    assert promised.verdict is Verdict.CONTINUE
    assert promised.more_seconds is not None
    while verdict(SHOP, state).verdict is not Verdict.ADVANCE:
        t += 5.0
        state = fed(SHOP, look(t), state=state)
    assert 0.5 * promised.more_seconds <= t - 60.0 <= 1.5 * promised.more_seconds


def test_orders_that_trail_their_requests_are_not_judged_until_they_settled() -> None:
    settings = Settings(settle_seconds=120.0)
    trailing = [look(5.0 * at, 0.0) for at in range(1, 24)]
    state = fed(settings, *trailing)
    assert verdict(settings, state).reason is Reason.SETTLING
    settled = fed(settings, *(look(115.0 + 5.0 * at) for at in range(1, 60)), state=state)
    assert verdict(settings, settled).verdict is Verdict.ADVANCE
    raised = fed(settings, look(415.0, 0.0, weight_ppm=100_000), state=settled)
    assert raised.mixes["orders"][0].t == settled.mixes["orders"][0].t
    assert verdict(settings, raised).reason is Reason.SETTLING


def test_a_change_of_weight_begins_a_new_interval_and_wakes_every_monitor() -> None:
    before = healthy()
    after = fed(SHOP, look(605.0, weight_ppm=100_000), state=before)
    assert verdict(SHOP, after).orders.seen == 50.0
    for name, (mix, *_) in before.mixes.items():
        assert after.mixes[name][0].rem < (1.0 - 0.1) * mix.rem
    told = fed(SHOP, look(605.0, weight_ppm=100_000, step=True), state=before)
    assert told == after


def test_at_all_of_the_traffic_nothing_is_claimed() -> None:
    full = [look(5.0 * at, weight_ppm=1_000_000) for at in range(1, 400)]
    judgement = verdict(SHOP, fed(SHOP, *full), None)
    assert judgement.verdict is Verdict.CONTINUE
    assert (judgement.effect.low, judgement.effect.high) == (0.0, None)


def test_before_the_first_look_nothing_is_known() -> None:
    judgement = verdict(SHOP, start(SHOP))
    assert (judgement.verdict, judgement.reason) == (Verdict.CONTINUE, Reason.NO_DATA_YET)
    assert judgement.evidence_log == -inf


def test_a_step_does_not_pass_while_evidence_above_5_stands_against_the_canary() -> None:
    state, between = healthy(), []
    failing = replace(look(0.0).canary, errors=4.5)
    for at in range(1, 300):
        state = fed(SHOP, look(600.0 + 5.0 * at, canary=failing), state=state)
        judgement = verdict(SHOP, state)
        if log(5.0) <= judgement.evidence_log < log(20.0):
            between.append(judgement)
    assert between
    assert {(each.verdict, each.reason) for each in between} == {(Verdict.CONTINUE, Reason.EVIDENCE_GROWING)}
    assert all(each.effect.low >= 0.9 for each in between)


def test_while_orders_settle_they_are_not_compared_by_weight_either() -> None:
    settings = Settings(settle_seconds=60.0)
    trailing = fed(settings, *(look(5.0 * at, 0.0) for at in range(1, 12)))
    assert trailing.mixes["orders_by_weight"][0].t == 0.0
    assert trailing.mixes["traffic"][0].t == 55.0
