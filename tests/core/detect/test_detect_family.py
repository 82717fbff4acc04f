"""The family as a whole: what a look may contain, what each rule of the verdict does, and what survives a restart."""

import json
from dataclasses import replace
from functools import partial
from itertools import accumulate
from math import inf, nan
from random import Random

import pytest
from simulated_shop import poisson

from canary.api.reasons import MissingReason, Reason, Verdict
from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import (
    ExtraMonitor,
    Judgement,
    MonitorName,
    Settings,
    State,
    StateUnreadable,
    dump,
    judge,
    load,
    start,
    update,
)
from canary.errors import RefusedError

NO_WAIT = {"min_step_seconds": 0.0, "min_watch_seconds": 0.0}
SHOP = Settings()
ORDERS_ONLY = Settings(monitors=frozenset({MonitorName.ORDERS}))
LATE = ExtraMonitor("late-promises", rise=True)
BASKETS = ExtraMonitor("baskets", rise=False)


def arm(orders: float, requests: float, **extra: float) -> Counts:
    named = {name.replace("_", "-"): count for name, count in extra.items()}
    return Counts(orders, requests, requests * 0.001, requests * 0.01, named)


def look(t: float, ratio: float = 1.0, *, weight_ppm: int = 50_000, **fields: object) -> Sample:
    """Return a healthy look of 5 s at 100 orders/s, but for the canary's order ratio."""
    share = weight_ppm / 1_000_000
    canary, baseline = arm(500 * share * ratio, 25_000 * share), arm(500 * (1 - share), 25_000 * (1 - share))
    site = SiteCounts((canary.orders or 0.0) + (baseline.orders or 0.0), 500.0, 500.0)
    return replace(Sample(t, weight_ppm, canary, baseline, site), **fields)


def fed(settings: Settings, *samples: Sample, state: State | None = None) -> State:
    state = start(settings) if state is None else state
    for sample in samples:
        state = update(settings, state, sample)
    return state


def healthy(settings: Settings = SHOP, seconds: float = 600.0) -> State:
    return fed(settings, *(look(5.0 * at) for at in range(1, round(seconds / 5.0) + 1)))


def verdict(settings: Settings, state: State, next_weight_ppm: int | None = 100_000) -> Judgement:
    return judge(settings, state, next_weight_ppm)


def noisy_samples(seed: int, count: int) -> list[Sample]:
    """Return looks of every kind: missing counts, resets, incomplete, unverified, steps, carried ones."""
    rng, t, samples = Random(seed), 0.0, []
    for _ in range(count):
        t += rng.choice((0.5, 1.0, 5.0))
        weight = rng.choice((10_000, 50_000))
        canary = Counts(
            poisson(rng, 2.0),
            poisson(rng, 90.0),
            poisson(rng, 0.2),
            poisson(rng, 1.0),
            {"late-promises": 1.0},
        )
        if rng.random() < 0.1:
            canary = replace(canary, requests=0.0, errors=None)
        site = SiteCounts(poisson(rng, 40.0), 41.0, 39.0 if rng.random() < 0.9 else None)
        flags = {name: rng.random() < 0.9 for name in ("verified", "complete")}
        baseline = Counts(poisson(rng, 38.0), 1800.0, 2.0, 17.0, {"late-promises": poisson(rng, 12.0)})
        reset = rng.random() < 0.1
        samples.append(
            Sample(t, weight, canary, baseline, site if rng.random() < 0.9 else None, reset=reset, **flags)
        )
    return samples


# what is remembered


@pytest.mark.parametrize("seed", range(4))
def test_dump_and_load_after_every_look_change_no_bit_of_any_later_verdict(seed: int) -> None:
    settings = Settings(settle_seconds=3.0, extra=(LATE,), phi={"orders": 1.7})
    unbroken = restored = start(settings)
    for sample in noisy_samples(seed, 250):
        unbroken = update(settings, unbroken, sample)
        restored = load(dump(update(settings, restored, sample)))
        assert restored == unbroken
    assert judge(settings, restored, None) == judge(settings, unbroken, None)


def test_the_state_of_the_six_monitors_fits_into_3_kb_and_each_extra_into_a_fifth_of_one() -> None:
    extra = tuple(ExtraMonitor(f"extra-{at}", rise=bool(at % 2)) for at in range(8))
    sizes = []
    for settings in (SHOP, Settings(extra=extra)):
        state, rng, largest = start(settings), Random(5), 0
        for at in range(1, 300):
            names = {each.name: poisson(rng, 3.0) for each in settings.extra}
            canary = replace(arm(poisson(rng, 25.0), poisson(rng, 1250.0)), extra=names)
            baseline = replace(arm(poisson(rng, 475.0), poisson(rng, 23_750.0)), extra=names)
            site = SiteCounts(poisson(rng, 500.0), 500.123456789, 499.987654321)
            complete = at % 3 != 0
            state = update(
                settings, state, Sample(at * 1.1, 50_000, canary, baseline, site, complete=complete)
            )
            largest = max(largest, len(dump(state)))
        sizes.append(largest)
    assert sizes[0] <= 3_072
    assert sizes[1] - sizes[0] <= 8 * 256


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"v": 2}',
        '{"v": 1}',
        '{"v": 1, "monitors": 7}',
        "NaN",
        "[" * 15_000,
        "x" * 20_000,
    ],
)
def test_a_state_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(StateUnreadable):
        load(text)


@pytest.mark.parametrize(
    "path", ["times", "f", "silence", "site", "step", "cs", "clocks", "onset", "rates", "phi"]
)
def test_a_damaged_part_of_a_state_is_refused(path: str) -> None:
    for damaged in (["a", "b", "c", "d"], {"a": "b"}, "text", True):
        data = json.loads(dump(healthy(seconds=20.0)))
        data[path] = damaged
        with pytest.raises(StateUnreadable):
            load(json.dumps(data))


def test_not_a_number_in_a_state_is_refused() -> None:
    with pytest.raises(StateUnreadable, match="NaN"):
        load(dump(healthy(seconds=20.0)).replace("20.0", "NaN"))


# what a look may contain


BAD_COUNTS = [
    ({"canary": arm(nan, 1250.0)}, MissingReason.NOT_FINITE),
    ({"baseline": arm(475.0, inf)}, MissingReason.NOT_FINITE),
    ({"canary": arm(-1.0, 1250.0)}, MissingReason.NEGATIVE),
    ({"baseline": arm(475.0, -23_750.0)}, MissingReason.NEGATIVE),
    ({"site": SiteCounts(nan, 500.0, 500.0)}, MissingReason.NOT_FINITE),
    ({"site": SiteCounts(500.0, -1.0, 500.0)}, MissingReason.NEGATIVE),
    ({"canary": arm(25.0, 24.0)}, MissingReason.MORE_ORDERS_THAN_REQUESTS),
    ({"baseline": arm(475.0, 0.0)}, MissingReason.MORE_ORDERS_THAN_REQUESTS),
    ({"weight_ppm": 1_000_001}, MissingReason.MALFORMED),
    ({"weight_ppm": -1}, MissingReason.MALFORMED),
    ({"coverage": nan}, MissingReason.MALFORMED),
    ({"disagree": True}, MissingReason.DISAGREE),
]


@pytest.mark.parametrize(("fields", "missing"), BAD_COUNTS)
def test_a_look_that_makes_no_sense_gives_its_reason_no_evidence_and_no_advance(
    fields: dict[str, object], missing: MissingReason
) -> None:
    before = healthy()
    assert verdict(SHOP, before).verdict is Verdict.ADVANCE
    after = fed(SHOP, replace(look(605.0), **fields), state=before)
    judgement = verdict(SHOP, after)
    assert (judgement.verdict, judgement.missing) == (Verdict.HOLD, missing)
    assert missing in judgement.message
    assert judgement.evidence_log == verdict(SHOP, before).evidence_log
    assert judgement.blind_seconds == 5.0
    assert verdict(SHOP, fed(SHOP, look(610.0), state=after)).verdict is Verdict.ADVANCE


@pytest.mark.parametrize(("t", "missing"), [(600.0, "OutOfOrder"), (1.0, "OutOfOrder"), (nan, "NotFinite")])
def test_a_look_that_was_counted_before_is_refused_and_the_clock_stands(t: float, missing: str) -> None:
    before = healthy()
    after = fed(SHOP, look(t, 0.0), state=before)
    assert (verdict(SHOP, after).verdict, verdict(SHOP, after).missing) == (Verdict.HOLD, missing)
    assert after.mixes == before.mixes
    assert after.t == before.t


@pytest.mark.parametrize(
    "fields",
    [
        {"canary": Counts(None, 1250.0, 1.0, 12.0)},
        {"canary": Counts(25.0, None, 1.0, 12.0)},
        {"baseline": Counts(475.0, 23_750.0, None, 237.0)},
        {"baseline": Counts(475.0, 23_750.0, 23.0, None)},
        {"canary": Counts(None, None), "baseline": Counts(None, None)},
    ],
)
def test_a_missing_count_is_never_zero_and_never_advances(fields: dict[str, object]) -> None:
    state = fed(SHOP, *(look(600.0 + 5.0 * at, **fields) for at in range(1, 60)), state=healthy())
    judgement = verdict(SHOP, state)
    assert (judgement.verdict, judgement.reason) == (Verdict.HOLD, Reason.BLIND)
    assert judgement.missing is MissingReason.ABSENT
    assert judgement.blind_seconds == 295.0


def test_a_monitor_without_its_count_stands_still_while_the_others_go_on() -> None:
    before = healthy()
    after = fed(SHOP, look(605.0, canary=Counts(None, 1250.0, 1.25, 12.5)), state=before)
    assert after.mixes["orders"] == before.mixes["orders"]
    assert after.mixes["errors"] != before.mixes["errors"]


def test_an_order_that_is_counted_before_its_request_is_kept_for_the_next_look() -> None:
    early, late = arm(3.0, 1.0), arm(0.0, 149.0)
    baseline = arm(57.0, 2850.0)
    pair = [look(5.0, canary=early, baseline=baseline), look(10.0, canary=late, baseline=baseline)]
    apart = fed(ORDERS_ONLY, *pair)
    assert verdict(ORDERS_ONLY, apart).orders.seen == 3.0
    assert apart.step.canary_requests == 150.0
    assert apart.step.requests == 150.0 + 2 * 2850.0


def test_an_arm_that_always_takes_more_orders_than_requests_stays_unusable() -> None:
    state = fed(SHOP, *(look(5.0 * at, canary=arm(9.0, 3.0)) for at in range(1, 40)))
    assert verdict(SHOP, state).verdict is Verdict.HOLD
    assert verdict(SHOP, state).blind_seconds == 195.0
    assert state.mixes == start(SHOP).mixes


def test_looks_missed_on_one_arm_do_not_convict_by_weight() -> None:
    """Every tenth scrape of the canary is missed; its counts come with the next look."""
    rng, state, owed, t = Random(3), start(SHOP), (0.0, 0.0), 0.0
    for _ in range(720):
        t += 5.0
        orders, requests = poisson(rng, 25.0), poisson(rng, 1225.0)
        owed = (owed[0] + orders, owed[1] + orders + requests)
        missed = rng.random() < 0.1
        canary = Counts(None, None) if missed else arm(*owed)
        owed = owed if missed else (0.0, 0.0)
        baseline = poisson(rng, 475.0)
        sample = look(
            t, canary=canary, baseline=arm(baseline, baseline + 23_275.0), site=None, complete=not missed
        )
        state = update(SHOP, state, sample)
        assert verdict(SHOP, state).verdict is not Verdict.ROLL_BACK
    assert verdict(SHOP, state).monitors["traffic"].log_s < 0.0


def test_a_look_with_a_reset_is_skipped_by_weight_but_not_for_ever() -> None:
    before = healthy()
    lost = {"canary": arm(0.0, 0.0), "reset": True}
    skipped = fed(SHOP, *(look(600.0 + 5.0 * at, **lost) for at in (1, 2, 3)), state=before)
    assert skipped.mixes["traffic"] == before.mixes["traffic"]
    used = fed(SHOP, look(620.0, **lost), state=skipped)
    assert used.log_s["traffic"] > before.log_s["traffic"]


def test_an_unverified_weight_is_not_held_against_the_canary() -> None:
    state = healthy(seconds=60.0)
    nothing_came = [look(60.0 + 5.0 * at, canary=arm(0.0, 0.0), verified=False) for at in range(1, 100)]
    after = fed(SHOP, *nothing_came, state=state)
    assert after.log_s["traffic"] == state.log_s["traffic"]
    assert after.log_s["orders_by_weight"] == state.log_s["orders_by_weight"]
    assert verdict(SHOP, after).verdict not in (Verdict.ROLL_BACK, Verdict.ADVANCE)


def test_nothing_advances_while_the_weight_is_not_verified() -> None:
    state = fed(SHOP, look(605.0, verified=False), state=healthy())
    assert verdict(SHOP, state).verdict is Verdict.CONTINUE


# each verdict


def test_a_collapse_is_rolled_back_within_three_looks_and_says_what_it_cost() -> None:
    state = fed(SHOP, *(look(600.0 + 5.0 * at, 0.0) for at in (1, 2, 3)), state=healthy())
    judgement = verdict(SHOP, state)
    assert (judgement.verdict, judgement.reason, judgement.worst) == (
        Verdict.ROLL_BACK,
        Reason.ORDERS_COLLAPSED,
        "orders",
    )
    assert judgement.likely_start == pytest.approx(600.0, abs=5.0)
    assert judgement.lost.point == pytest.approx(75.0, abs=5.0)
    assert judgement.lost.low < 75.0 < (judgement.lost.high or 0.0)
    effect = judgement.monitors["orders"].effect
    assert effect.low == pytest.approx(0.0, abs=0.01)
    assert effect.high is not None
    assert effect.high < 0.15
    assert "-98 %" in judgement.message


def test_errors_that_rise_are_named() -> None:
    failing = replace(look(0.0).canary, errors=62.5)
    state = fed(SHOP, *(look(600.0 + 5.0 * at, canary=failing) for at in (1, 2, 3)), state=healthy())
    assert verdict(SHOP, state).reason is Reason.ERRORS_ROSE
    assert verdict(SHOP, state).monitors["errors"].effect.low > 5.0


def test_slow_answers_are_named() -> None:
    slow = replace(look(0.0).canary, slow=200.0)
    state = fed(SHOP, *(look(600.0 + 5.0 * at, canary=slow) for at in (1, 2, 3, 4)), state=healthy())
    assert verdict(SHOP, state).reason is Reason.SLOW_ROSE


def test_a_canary_that_loses_requests_and_orders_alike_is_convicted_by_weight() -> None:
    gone = arm(0.25, 12.5)
    state = fed(SHOP, *(look(600.0 + 5.0 * at, canary=gone) for at in (1, 2, 3)), state=healthy())
    judgement = verdict(SHOP, state)
    assert judgement.reason is Reason.ORDERS_LOST_BY_WEIGHT
    assert judgement.lost.point == pytest.approx(74.25, abs=4.0)


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


# noise


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
