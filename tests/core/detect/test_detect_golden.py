"""The golden vectors: the values of a reference implementation, met to a millionth."""

import json
from math import exp, inf, log
from pathlib import Path
from typing import Any

import pytest
from dispersion import dispersion

from canary.core.detect import noise, ratio, startmix
from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import Settings, dump, judge, load, start, update
from canary.core.detect.startmix import Cap, Direction, Grid, Mix, OneArm, TwoArm
from canary.core.judge import verdicts

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "detection.json").read_text())
TOLERANCE = GOLDEN["tolerance"]["absolute"]
PPM = 1_000_000


def cases(unit: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in GOLDEN["cases"] if case["unit"] == unit]


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, abs=TOLERANCE, rel=0)


def number(value: float | None) -> float:
    return -inf if value is None else value


def test_there_are_48_vectors_and_every_unit_is_known() -> None:
    units = [case["unit"] for case in GOLDEN["cases"]]
    assert len(units) == 48
    assert set(units) == {"startmix", "ratio", "winsor", "noise", "family", "judge"}


def fed(grid: Grid, mix: Mix, step: dict[str, Any], phi: float) -> Mix:
    if step["op"] == "kick":
        return startmix.kick(mix, step["fraction"])
    trial = (
        TwoArm(step["canary"], step["total"], step["share"])
        if step["op"] == "two_arm"
        else OneArm(step["count"], step["expected"])
    )
    return startmix.advance(grid, mix, startmix.increments(grid, trial, phi), step["dt"])


@pytest.mark.parametrize("case", cases("startmix"))
def test_a_monitor_gives_the_reference_evidence(case: dict[str, Any]) -> None:
    given, expected = case["parameters"], case["expected"]
    grid = Grid(
        Direction(given["direction"]),
        tuple(given["grid"]),
        tuple(given["prior"]),
        given["null"],
        Cap(given["cap"], second_look=False),
    )
    assert given["horizon"] == startmix.HORIZON_SECONDS
    assert given["kick"] == startmix.START_KICK
    mix, used, alarm = startmix.start(grid), 0, None
    for step in case["steps"]:
        alarm = None
        for look in range(1, step.get("repeat", 1) + 1):
            mix = fed(grid, mix, step, given["phi"])
            used += step["op"] != "kick"
            if step.get("stop_at_alarm") and startmix.log_s(mix) >= case["limit_log"]:
                alarm = look
                break
    assert (used, alarm) == (expected["samples_used"], expected["alarm_sample"])
    assert startmix.log_s(mix) == near(expected["log_s"])
    state = expected.get("state")
    if state is not None:
        assert mix.log_r == near([number(value) for value in state["log_r"]])
        assert (mix.rem, mix.pending, mix.t) == near((state["rem"], state["pending"], state["t"]))


@pytest.mark.parametrize("case", cases("ratio"))
def test_the_order_ratio_has_the_reference_interval(case: dict[str, Any]) -> None:
    state = ratio.RatioCS()
    for step in case["steps"]:
        for _ in range(step["repeat"]):
            trial = TwoArm(step["canary"], step["total"], step["share"])
            state = ratio.add(state, trial, case["parameters"]["phi"])
    low, high = ratio.limits(ratio.read(state), case["parameters"]["level"])
    assert low == near(case["expected"]["low"])
    assert high == near(case["expected"]["high"])


@pytest.mark.parametrize("case", cases("winsor"))
def test_a_burst_of_the_baseline_is_clipped_as_in_the_reference(case: dict[str, Any]) -> None:
    given = case["parameters"]
    assert (given["kappa"], given["memory"]) == (noise.WINSOR_FACTOR, noise.WINSOR_MEMORY_SECONDS)
    rate, last = given["rate"], []
    for step in case["steps"]:
        clipped = noise.Clipped(0.0, rate)
        for _ in range(step["repeat"]):
            arm = (step["events"], step["exposure"])
            clipped = noise.winsor(clipped.rate, arm, step["dt"], given["phi"])
        rate = clipped.rate
        last.append(clipped.events)
    assert last == near(case["expected"]["clipped_last_of_each_step"])
    assert rate == near(case["expected"]["rate"])


@pytest.mark.parametrize("case", cases("noise"))
def test_noise_is_measured_as_in_the_reference(case: dict[str, Any]) -> None:
    given = case["parameters"]
    assert (given["z"], given["min_blocks"], given["min_variance"]) == (
        noise.SIGMAS,
        noise.MIN_BLOCKS,
        noise.MIN_VARIANCE,
    )
    cycle = [
        noise.Block(block["x1"], block["total"], block["share1"])
        for block in case["blocks"]
        for _ in range(block["repeat"])
    ]
    phi = dispersion(cycle * case["cycles"], given["scales_samples"])
    assert phi == near(case["expected"]["phi"])


@pytest.mark.parametrize("case", cases("family"))
def test_the_weighted_mean_is_that_of_the_reference(case: dict[str, Any]) -> None:
    table = {row.name: row for row in Settings().table}
    assert {name: exp(row.log_weight) for name, row in table.items()} == near(case["parameters"]["weights"])
    strengths = {name: row.log_weight + number(case["log_s"][name]) for name, row in table.items()}
    log_f = startmix.log_sum_exp(list(strengths.values()))
    assert log_f == near(case["expected"]["log_f"])
    assert max(strengths, key=lambda name: strengths[name]) == case["expected"]["worst"]
    assert (log_f >= Settings().limit_log) is case["expected"]["over_limit"]


def sample_of(given: dict[str, float], t: float) -> Sample:
    return Sample(
        t,
        round(given["weight"] * PPM),
        Counts(given["c_orders"], given["c_req"], given["c_err"], given["c_slow"]),
        Counts(given["b_orders"], given["b_req"], given["b_err"], given["b_slow"]),
        SiteCounts(given["site"], given["hist"], given["recent"]),
    )


@pytest.mark.parametrize("case", cases("judge"))
def test_the_judge_decides_as_the_reference_through_a_restart_after_every_look(case: dict[str, Any]) -> None:
    given = case["parameters"]
    settings = Settings(
        false_rollback=given["alpha"],
        settle_seconds=given["settle"],
        min_watch_seconds=given["min_watch"],
        min_step_seconds=given["bake"],
        theta_hist=given["theta_hist"],
        theta_recent=given["theta_recent"],
        phi={"orders": given["phi"], "traffic": given["phi_requests"]},
        reference=True,
    )
    state, t = start(settings), 0.0
    segments = case["segments"]
    next_weights = [segment["sample"]["weight"] for segment in segments[1:]] + [1.0]
    for segment, next_weight, expected in zip(
        segments, next_weights, case["expected"]["after_each_segment"], strict=True
    ):
        used, judgement = 0, judge(settings, state, None)
        for _ in range(segment["repeat"]):
            t += segment["sample"]["dt"]
            state = load(dump(update(settings, state, sample_of(segment["sample"], t))))
            judgement = judge(settings, state, round(next_weight * PPM))
            used += 1
            if judgement.verdict in segment["stop_at"]:
                break
        loud = judgement.verdict if judgement.verdict in ("Advance", "RollBack", "Drain") else None
        assert (used, loud, judgement.worst) == (
            expected["samples_used"],
            expected["verdict"],
            expected["worst"],
        )
        assert judgement.evidence_log == near(expected["log_f"])
        assert (judgement.effect.low, judgement.effect.high) == near((expected["low"], expected["high"]))
    assert judge(settings, state, None).limit_log == near(log(1.0 / given["alpha"]))


def line_of(given: dict[str, float], t: float) -> str:
    arms = {
        arm: {
            name: given[f"{letter}_{short}"]
            for name, short in (
                ("orders", "orders"),
                ("requests", "req"),
                ("errors", "err"),
                ("slow", "slow"),
            )
        }
        for arm, letter in (("canary", "c"), ("baseline", "b"))
    }
    site = {"orders": given["site"], "expected": given["hist"], "recent": given["recent"]}
    return json.dumps({"t": t, "weight_ppm": round(given["weight"] * PPM), "site": site, **arms})


@pytest.mark.parametrize("case", cases("judge"))
def test_the_judge_command_writes_the_evidence_of_the_reference(case: dict[str, Any]) -> None:
    weights = sorted({round(segment["sample"]["weight"] * PPM) for segment in case["segments"]})
    phi = {"traffic": case["parameters"]["phi_requests"]}
    settings = Settings(weights_ppm=tuple(weights), phi=phi, reference=True)
    lines, ends, t = list[str](), list[int](), 0.0
    for segment, expected in zip(case["segments"], case["expected"]["after_each_segment"], strict=True):
        for _ in range(expected["samples_used"]):
            t += segment["sample"]["dt"]
            lines.append(line_of(segment["sample"], t))
        ends.append(len(lines) - 1)
    said = [json.loads(text) for text in verdicts(settings, lines)]
    expected = case["expected"]["after_each_segment"]
    assert [said[end]["evidence_log"] for end in ends] == near([one["log_f"] for one in expected])
    assert [said[end]["effect"]["orders"]["low"] for end in ends] == near([one["low"] for one in expected])
    if expected[-1]["verdict"] in ("RollBack", "Drain"):
        assert said[-1]["verdict"] == expected[-1]["verdict"]
