"""What the detector remembers: bit-equal through a restart, small, and refused when it is not ours."""

import json
from dataclasses import replace
from random import Random

import pytest
from simulated_shop import poisson
from steady_looks import LATE, ORDERS_ONLY, SHOP, arm, healthy, look

from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import (
    ExtraMonitor,
    Settings,
    StateUnreadable,
    dump,
    judge,
    load,
    start,
    update,
)


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


def test_a_state_of_other_monitors_than_the_policy_has_is_refused() -> None:
    for other in (ORDERS_ONLY, Settings(extra=(LATE,))):
        with pytest.raises(StateUnreadable, match="orders"):
            update(other, healthy(seconds=20.0), look(25.0))
        with pytest.raises(StateUnreadable):
            judge(SHOP, start(other), None)
