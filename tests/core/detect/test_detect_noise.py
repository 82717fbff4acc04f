"""Noise: bursts and lasting differences between stable pods become phi, and too little data is called assumed."""

from random import Random

import pytest
from simulated_shop import poisson

from canary.core.detect.noise import ASSUMED_PHI, MIN_BLOCKS, NoiseMeter, Phi


def stable_pods(
    rng: Random, looks: int, *, pods: int = 4, cluster: float = 1.0, tilt: float = 0.0
) -> list[dict[str, dict[str, float]]]:
    """Return looks at stable pods: orders in geometric clusters of a mean size, pod 0 lastingly better by `tilt`."""
    return [
        {
            f"pod-{pod}": {
                "requests": poisson(rng, 400.0) + 400.0,
                "orders": clustered(
                    rng, 8.0 * (1.0 + tilt * (pod == 0) * (1 if look // 60 % 2 else -1)), cluster
                ),
            }
            for pod in range(pods)
        }
        for look in range(looks)
    ]


def clustered(rng: Random, mean: float, cluster: float) -> float:
    count = 0.0
    for _ in range(int(poisson(rng, mean / cluster))):
        count += 1.0
        while rng.random() > 1.0 / cluster:
            count += 1.0
    return count


def metered(looks: list[dict[str, dict[str, float]]], group: int = 2, dt: float = 5.0) -> NoiseMeter:
    meter = NoiseMeter()
    for pods in looks:
        meter = meter.add(pods, group, dt)
    return meter


def test_poisson_orders_have_no_noise_of_their_own() -> None:
    assert metered(stable_pods(Random(1), 1500)).phi("orders") == Phi(1.0, assumed=False)


@pytest.mark.parametrize(("cluster", "phi"), [(2.0, 3.0), (5.0, 9.0)])
def test_orders_in_bursts_are_measured_as_such(cluster: float, phi: float) -> None:
    measured = metered(stable_pods(Random(2), 1500, cluster=cluster)).phi("orders")
    assert not measured.assumed
    assert 0.8 * phi <= measured.value <= 1.6 * phi


def test_a_pod_that_is_better_for_five_minutes_and_worse_for_the_next_five_shows_on_the_slow_scale() -> None:
    assert metered(stable_pods(Random(3), 1500, tilt=0.2)).phi("orders").value > 2.0


def test_each_metric_has_its_own_noise_under_the_name_of_its_monitor() -> None:
    looks = [
        {pod: {**counts, "extra.late": 1.0 + 8.0 * (look % 2)} for pod, counts in pods.items()}
        for look, pods in enumerate(stable_pods(Random(4), 200, cluster=5.0))
    ]
    assert set(metered(looks).measured()) == {"traffic", "orders", "late"}


def test_too_few_looks_give_an_assumed_factor_and_the_twentieth_a_measured_one() -> None:
    looks = stable_pods(Random(5), MIN_BLOCKS)
    assert metered(looks[:-1]).phi("orders") == Phi(ASSUMED_PHI, assumed=True)
    assert metered(looks[:-1]).measured() == {}
    assert not metered(looks).phi("orders").assumed


def test_one_stable_pod_has_nobody_to_be_compared_with() -> None:
    assert metered(stable_pods(Random(6), 200, pods=1)).phi("orders") == Phi(ASSUMED_PHI, assumed=True)


def test_looks_without_requests_or_orders_say_nothing() -> None:
    empty = {f"pod-{pod}": {"requests": 0.0, "orders": 0.0} for pod in range(4)}
    assert metered([empty] * 100).phi("orders").assumed


def test_a_canary_as_large_as_the_stable_side_compares_halves() -> None:
    looks = stable_pods(Random(7), 100)
    assert metered(looks, group=4) == metered(looks, group=2)


def test_a_router_that_sends_requests_in_turns_to_one_half_is_noise_of_the_traffic() -> None:
    turns = [
        {f"pod-{pod}": {"requests": 900.0 if (pod < 2) is bool(look % 2) else 100.0} for pod in range(4)}
        for look in range(100)
    ]
    assert metered(turns).phi("traffic").value > 100.0
