"""`canary judge`: one JSON line in, one out; the same bytes for the same lines; a bad line is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.api.reasons import PPM
from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import ExtraMonitor, MonitorName, Settings, dump, judge, load, start, update
from canary.core.judge import next_weight, verdicts
from canary.errors import RefusedError

SHOP = Settings(extra=(ExtraMonitor("late-promises", rise=True),))


def line(t: float, ratio: float = 1.0, **fields: Any) -> dict[str, Any]:
    canary = {"orders": 25 * ratio, "requests": 1250, "errors": 1, "slow": 12, "extra": {"late-promises": 2}}
    baseline = {"orders": 475, "requests": 23_750, "errors": 24, "slow": 238, "extra": {"late-promises": 38}}
    site = {"orders": 500, "expected": 500, "recent": 500}
    return {"t": t, "weight_ppm": 50_000, "canary": canary, "baseline": baseline, "site": site, **fields}


def judged(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(out) for out in verdicts(SHOP, map(json.dumps, lines))]


def test_a_healthy_then_broken_version_is_told_line_by_line() -> None:
    healthy = [line(5.0 * at) for at in range(1, 120)]
    broken = [line(595.0 + 5.0 * at, 0.0) for at in range(1, 4)]
    out = judged(*healthy, *broken)
    assert [each["t"] for each in out] == [each["t"] for each in [*healthy, *broken]]
    assert out[0]["verdict"] == "Continue"
    assert out[118]["verdict"] == "Advance"
    assert (out[-1]["verdict"], out[-1]["reason"]) == ("RollBack", "OrdersCollapsed")
    assert set(out[-1]) == {"t", "verdict", "reason", "evidence_log", "limit_log", "effect", "lost"}
    assert set(out[-1]["effect"]["orders"]) == {"point", "low", "high"}
    assert set(out[-1]["lost"]) == {"orders", "low", "high"}
    assert out[-1]["lost"]["orders"] == pytest.approx(75.0, abs=5.0)
    assert out[-1]["evidence_log"] >= out[-1]["limit_log"]


def test_the_same_lines_give_the_same_bytes() -> None:
    lines = [json.dumps(line(1.0 * at, 0.9)) for at in range(1, 50)]
    assert list(verdicts(SHOP, lines)) == list(verdicts(SHOP, lines))


def test_blank_lines_are_passed_over_and_nothing_gives_nothing() -> None:
    assert list(verdicts(SHOP, [])) == []
    assert len(list(verdicts(SHOP, ["\n", json.dumps(line(5.0)), "  "]))) == 1


def test_a_step_and_a_noise_factor_hold_from_their_line_on() -> None:
    plain = judged(*(line(5.0 * at, 0.0) for at in range(1, 4)))
    noisy = judged(line(5.0, 0.0, phi={"orders": 9.0}), *(line(5.0 * at, 0.0) for at in (2, 3)))
    assert noisy[-1]["evidence_log"] < plain[-1]["evidence_log"]
    stepped = judged(*(line(5.0 * at) for at in range(1, 50)), line(250.0, step=True))
    assert stepped[-1]["effect"]["orders"]["low"] < stepped[-2]["effect"]["orders"]["low"]


@pytest.mark.parametrize("missing", ["orders", "requests", "errors", "slow", "extra"])
def test_an_absent_count_is_missing_and_not_zero(missing: str) -> None:
    lines = [line(5.0 * at) for at in range(1, 120)]
    del lines[-1]["canary"][missing]
    last = judged(*lines)[-1]
    assert (last["verdict"], last["reason"], last["missing"]) == ("Hold", "Blind", "Absent")


def test_the_site_may_be_absent() -> None:
    lines = [line(5.0 * at) for at in range(1, 120)]
    for each in lines:
        del each["site"]
    assert judged(*lines)[-1]["verdict"] == "Advance"


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda data: data["canary"].update(orders=float("nan")), "NotFinite"),
        (lambda data: data["canary"].update(orders=-1), "Negative"),
        (lambda data: data["canary"].update(orders=99_999), "MoreOrdersThanRequests"),
        (lambda data: data["baseline"].update(requests=1e300), "TooLarge"),
        (lambda data: data.update(t=5.0), "OutOfOrder"),
        (lambda data: data.update(t=-7), "OutOfOrder"),
        (lambda data: data.update(t=1e200), "Malformed"),
        (lambda data: data.update(disagree=True), "Disagree"),
    ],
)
def test_counts_that_make_no_sense_are_named_and_never_advance(
    change: Callable[[dict[str, Any]], None], missing: str
) -> None:
    lines = [line(5.0 * at) for at in range(1, 120)]
    change(lines[-1])
    last = judged(*lines)[-1]
    assert (last["verdict"], last["missing"]) == ("Hold", missing)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "give a JSON object"),
        ("[" * 60_000, "not JSON"),
        ("x" * 70_000, "at most 65536"),
        ('{"t": 1}', "weight_ppm is absent"),
        (json.dumps(line(10.0, wieght_ppm=1)), "did you mean weight_ppm"),
        (json.dumps(line(10.0, weight_ppm=0.5)), "whole number"),
        (json.dumps(line(10.0, weight_ppm=2_000_000)), "whole number"),
        (json.dumps(line(10.0, weight_ppm=True)), "whole number"),
        (json.dumps(line("10")), "t is '10'"),
        (json.dumps(line(float("inf"))), "seconds since"),
        (json.dumps(line(10.0, canary=7)), "canary is 7"),
        (json.dumps(line(10.0, canary={"orders": "7"})), "canary.orders is '7'"),
        (json.dumps(line(10.0, canary={"orders": True})), "canary.orders is True"),
        (json.dumps(line(10.0, canary={"orders": 10**400})), "too large"),
        (json.dumps(line(10.0, canary={"order": 7})), "did you mean orders"),
        (json.dumps(line(10.0, canary={"extra": {"late": 7}})), "late-promises"),
        (json.dumps(line(10.0, phi={"orders": 0.2})), "at least 1"),
        (json.dumps(line(10.0, phi={"ordres": 2})), "ordres"),
        (json.dumps(line(10.0, step="yes")), "true or false"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_what_to_do(text: str, says: str) -> None:
    out = verdicts(SHOP, [json.dumps(line(5.0)), text])
    next(out)
    with pytest.raises(RefusedError, match="line 2: ") as refused:
        next(out)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 400


def test_the_next_weight_is_the_plans_and_after_the_last_all_of_the_traffic() -> None:
    plan = Settings(weights_ppm=(10_000, 100_000))
    assert [next_weight(plan, weight) for weight in (0, 10_000, 50_000, 100_000, PPM)] == [
        10_000,
        100_000,
        100_000,
        PPM,
        PPM,
    ]


COUNTS = (
    st.none() | st.floats(allow_nan=True) | st.integers(0, 60).map(float) | st.integers(0, 9000).map(float)
)
ARMS = st.builds(
    Counts,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    st.dictionaries(st.sampled_from(["late-promises", "x"]), st.floats(), max_size=2),
)
SITES = st.none() | st.builds(SiteCounts, st.floats() | st.just(9.0), COUNTS, COUNTS)
SAMPLES = st.builds(
    Sample,
    t=st.just(0.0),
    weight_ppm=st.sampled_from([0, 1, 10_000, 500_000, PPM, -1]),
    canary=ARMS,
    baseline=ARMS,
    site=SITES,
    verified=st.booleans(),
    complete=st.booleans(),
    reset=st.booleans(),
    step=st.booleans(),
    disagree=st.booleans(),
    coverage=st.floats() | st.just(1.0),
)
STEPS = st.floats() | st.sampled_from([1e-300, 1e-9, 0.5, 5.0, 1e8, -1.0])


@given(st.lists(st.tuples(STEPS, SAMPLES), max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_stream_of_looks_whatever_breaks_the_judge_or_advances_on_trouble(
    looks: list[tuple[float, Sample]],
) -> None:
    for plan in (SHOP, Settings(monitors=frozenset({MonitorName.SITE}))):
        state, t = start(plan), 0.0
        for step, sample in looks:
            state = update(plan, state, replace(sample, t=t + step))
            t = state.t
            judgement = judge(plan, state, None)
            assert load(dump(state)) == state
            assert not (judgement.missing and judgement.verdict == "Advance")
            assert judgement.evidence_log == judgement.evidence_log
            assert judgement.message
