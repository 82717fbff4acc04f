"""Bad input on simulated time: what the controller reads is wrong, and the slice is never raised for it.

Every piece of it has a named reason, costs only the run that it belongs to, and never sends anybody into a loop.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sim_street import BUSY, COLLAPSE, PLACE, Street, everything_is_back

from canary.api.reasons import MissingReason, Phase, Reason
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES
from canary.lab import manifests
from canary.lab.shop.simulated import Lens
from canary.lab.shop.worlds import World

ONE_LOOK_SECONDS = 3.0  # the pace of the short policy


def with_counts(change: Callable[[float], float], *, canary: bool) -> Lens:
    """Return a lens that changes every count of one version's pods."""

    def lens(reading: Reading) -> Reading | Missing:
        if reading.canary is not canary:
            return reading
        return replace(reading, counts={name: change(count) for name, count in reading.counts.items()})

    return lens


def missing(reason: MissingReason, *, canary: bool) -> Lens:
    return lambda reading: Missing(reason) if reading.canary is canary else reading


LENSES: Mapping[str, Lens] = {
    "NaN of the canary": with_counts(lambda _: math.nan, canary=True),
    "NaN of the baseline": with_counts(lambda _: math.nan, canary=False),
    "infinite": with_counts(lambda _: math.inf, canary=True),
    "negative": with_counts(lambda count: -count - 1, canary=True),
    "frozen": with_counts(lambda _: 7.0, canary=False),
    "too large": missing(MissingReason.TOO_LARGE, canary=True),
    "malformed": missing(MissingReason.MALFORMED, canary=False),
    "a pod that hangs": missing(MissingReason.TIMED_OUT, canary=True),
}


@pytest.mark.parametrize("name", LENSES)
def test_wrong_counts_never_raise_the_slice(name: str):
    street = Street()
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.run_for(10)
    street.shop.show_through(LENSES[name])
    street.run_for(90)
    assert street.route_ppm() <= 50_000, street.told()
    assert street.phase is not Phase.ROLLED_BACK, "bad data is no evidence against a version"
    status = street.run.status
    waits = f"{status.reason} {status.message}"
    assert street.route_ppm() == 0 or status.reason != Reason.APPROVALS_MISSING, waits
    if street.phase is Phase.PAUSED:
        assert status.pause is not None
        assert status.pause.reason in (Reason.BLIND, Reason.SHARE_ABOVE_WEIGHT), street.told()


@pytest.mark.parametrize("name", ["NaN of the baseline", "malformed"])
def test_wrong_counts_of_the_serving_version_keep_the_first_slice_at_nothing(name: str):
    street = Street()
    street.shop.show_through(LENSES[name])
    street.push()
    street.run_for(60)
    assert street.route_ppm() == 0, street.told()
    assert street.run.status.reason == Reason.NO_DATA_YET, street.told()


def test_counters_that_start_anew_cost_no_version_its_promotion():
    street = Street(world=replace(BUSY, reset=0.1))
    street.push()
    street.until(Phase.PROMOTED, limit=600).tidied()
    everything_is_back(street, manifests.NEW)


def test_a_collapse_is_seen_through_resets_and_missed_scrapes():
    street = Street(world=replace(BUSY, reset=0.05, missed=0.2))
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "20"})
    street.until(Phase.ROLLED_BACK, limit=120).tidied()
    everything_is_back(street, manifests.OLD)


def test_pods_that_are_gone_take_the_slice_with_them():
    street = Street()
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    street.run_for(10)
    store = street.cluster.store
    kind = store.kinds.named("Deployment")
    store.update(
        kind, ("shop", "checkout-canary"), lambda obj: {**obj, "spec": {**obj["spec"], "replicas": 0}}
    )
    assert street.run_until(lambda: street.route_ppm() == 0, 10), street.told()
    assert street.run.status.pause is not None
    assert street.run.status.pause.reason == Reason.SIDE_NOT_READY


# -- poison --------------------------------------------------------------------------------------------------------


def broken_analysis() -> dict[str, Any]:
    """Return an analysis that the API server's schema lets through, and the product cannot use."""
    analysis = manifests.policy()["spec"]["analysis"]
    return {
        **analysis,
        "minWatch": "0s",
        "errors": {"counter": "http_requests_total", "where": {"code": "5(("}},
    }


def test_a_policy_that_is_broken_in_mid_run_changes_nothing_of_the_run():
    street = Street()
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "20"})
    assert street.run_until(lambda: street.route_ppm() > 0, 60)
    patch = {"spec": {"analysis": broken_analysis()}}
    street.admin.merge_patch(CANARYPOLICIES.at(*PLACE), patch, intent=Intent.NEUTRAL)
    street.run_for(5)
    assert street.phase is Phase.PROGRESSING, street.told()
    conditions = street.stored("CanaryPolicy")["status"]["conditions"]
    stalled = next(each for each in conditions if each["type"] == "Stalled")
    assert stalled["status"] == "True"
    assert "errors" in stalled["message"]
    street.until(Phase.ROLLED_BACK).tidied()
    everything_is_back(street, manifests.OLD)
    assert len(street.runs) == 1


def decided_after(street: Street) -> float:
    """Break the version while it is exposed, and return how long it took to take its traffic away."""
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    begun = street.clock.monotonic()
    assert street.run_until(lambda: street.route_ppm() == 0, 60), street.told()
    return street.clock.monotonic() - begun


def poison(street: Street) -> None:
    """Store a run, a policy and a request that nobody can read, beside the healthy ones."""
    store = street.cluster.store
    policy, run = manifests.policy({"analysis": broken_analysis()}), street.runs[0]
    policy["metadata"] = {"name": "a-poison", "namespace": "shop"}
    store.create(store.kinds.named("CanaryPolicy"), policy)
    spec = {**run["spec"], "policy": policy["spec"]}
    metadata = {"name": "a-poison", "namespace": "shop"}
    store.create(store.kinds.named("CanaryRun"), {**run, "metadata": metadata, "spec": spec, "status": {}})
    asked = {"verb": "abort", "subject": {"kind": "CanaryRun", "name": "a-poison"}, "requester": "x" * 200}
    body = {"apiVersion": run["apiVersion"], "kind": "CanaryRequest", "metadata": metadata, "spec": asked}
    store.create(store.kinds.named("CanaryRequest"), body)


def test_poison_objects_delay_no_other_runs_rollback():
    plain, poisoned = Street(), Street()
    times: list[float] = []
    for street in (plain, poisoned):
        street.push({**COLLAPSE, "SHOP_BUG_AFTER": "10"})
        assert street.run_until(lambda street=street: bool(street.runs), 10)
        if street is poisoned:
            poison(street)
        times.append(decided_after(street))
    assert times[1] <= times[0] + ONE_LOOK_SECONDS


def test_a_version_with_a_world_of_noise_is_not_rolled_back_for_it():
    noisy = World(rate=2_000.0, level_spread=0.5, cluster_mean=3.0)
    street = Street(world=noisy)
    street.push()
    street.run_for(180)
    assert street.phase not in (Phase.ROLLED_BACK, Phase.ROLLING_BACK), street.told()
