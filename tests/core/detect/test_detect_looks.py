"""What a look may contain: senseless counts are named, missing is never zero, partial looks wait for the rest."""

from dataclasses import replace
from math import inf, nan
from random import Random

import pytest
from simulated_shop import poisson
from steady_looks import ORDERS_ONLY, SHOP, arm, fed, healthy, look, verdict

from canary.api.reasons import MissingReason, Reason, Verdict
from canary.core.detect.counters import Counts, SiteCounts
from canary.core.detect.family import Settings, start, update

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


def test_a_look_at_half_of_the_canary_pods_waits_for_the_rest_before_it_is_compared_with_the_weight() -> None:
    before = healthy()
    half = fed(SHOP, look(605.0, canary=arm(5.0, 250.0), complete=False), state=before)
    assert half.mixes["traffic"] == before.mixes["traffic"]
    assert half.mixes["orders"] != before.mixes["orders"]
    rest = fed(SHOP, look(610.0, canary=arm(45.0, 2250.0), site=None), state=half)
    both = look(610.0, canary=arm(50.0, 2500.0), baseline=arm(950.0, 47_500.0), site=None)
    at_once = fed(SHOP, both, state=before)
    assert rest.log_s["traffic"] == pytest.approx(at_once.log_s["traffic"])
    assert rest.log_s["orders_by_weight"] == pytest.approx(at_once.log_s["orders_by_weight"])


def test_counts_from_before_a_raise_are_not_compared_with_the_new_weight() -> None:
    before = fed(SHOP, look(605.0, complete=False), state=healthy())
    mixed = fed(SHOP, look(610.0, weight_ppm=500_000), state=before)
    assert [mix.t for mix in mixed.mixes["traffic"]] == [mix.t for mix in before.mixes["traffic"]]
    after = fed(SHOP, look(615.0, weight_ppm=500_000), state=mixed)
    assert after.mixes["traffic"][0].t == mixed.mixes["traffic"][0].t + 5.0


def test_a_burst_of_baseline_orders_is_believed_only_so_far() -> None:
    before = healthy()
    double, tenfold = (
        fed(SHOP, look(605.0, baseline=arm(475.0 * times, 23_750.0)), state=before) for times in (3.0, 10.0)
    )
    assert double.log_s["orders"] == tenfold.log_s["orders"]
    assert tenfold.step.tallies["orders"].expected > double.step.tallies["orders"].expected


def test_the_split_of_requests_is_credited_with_much_noise_of_its_own() -> None:
    few = [look(5.0 * at, weight_ppm=1_000, canary=arm(0.0, 1.0)) for at in range(1, 4)]
    plain, told = fed(SHOP, *few), fed(Settings(phi={"traffic": 20.0}), *few)
    quieter = fed(Settings(phi={"traffic": 1.0}), *few)
    assert plain.log_s["traffic"] == told.log_s["traffic"] == quieter.log_s["traffic"]
    assert fed(Settings(phi={"traffic": 40.0}), *few).log_s["traffic"] < plain.log_s["traffic"] < 5.0
