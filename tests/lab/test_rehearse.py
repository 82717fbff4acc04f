"""A rehearsal plays the user's own policy, says what it measured, and refuses what it cannot play."""

import json

import pytest

from canary.api.reasons import Phase
from canary.errors import RefusedError
from canary.lab import manifests
from canary.lab.rehearsal import rehearse
from canary.lab.rehearsal.figures import Rehearsal, Rehearsed, share_limit
from canary.settings import FaultKind, RehearseOptions

OWN = {
    "target": {"name": "till"},
    "service": "till-svc",
    "route": {"name": "till-route"},
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "source": {"scrape": {"port": "telemetry", "path": "/stats", "every": "3s"}},
    "bake": {"duration": "5s"},
}


def policy(**fields: object) -> dict:
    """Return a policy whose names are not the lab's."""
    return manifests.policy({**OWN, **fields}) | {"metadata": {"name": "till", "namespace": "market"}}


def told(capsys: pytest.CaptureFixture[str], options: RehearseOptions) -> tuple[int, dict]:
    code = rehearse.main(policy(), options)
    return code, json.loads(capsys.readouterr().out)


def test_a_collapse_is_measured_over_seeds_and_the_same_seed_says_the_same(capsys):
    options = RehearseOptions(runs=3, healthy_runs=1, for_seconds=120, orders_per_second=400, json=True)
    code, first = told(capsys, options)
    assert code == 0
    assert (first["policy"], first["schema"]) == ("till", "canary-controller.io/rehearsal/v1")
    assert first["outcomes"] == {"RolledBack": 3}
    assert 0 < first["orders_lost"]["p50"] <= first["orders_lost"]["max"] < 200
    assert 0 < first["decision_seconds"]["p50"] <= first["decision_seconds"]["max"] < 30
    assert first["healthy"]["false_rollbacks"] == 0
    assert first["healthy"]["promised"] == 0.001
    assert told(capsys, options)[1] == first


def test_a_fault_that_comes_later_is_timed_from_when_it_comes(capsys):
    options = RehearseOptions(
        runs=1,
        healthy_runs=1,
        at_seconds=30,
        for_seconds=90,
        orders_per_second=400,
        json=True,
    )
    code, said = told(capsys, options)
    assert code == 0
    assert 0 < said["decision_seconds"]["p50"] < 15


def test_a_fault_too_small_to_be_seen_in_the_time_is_a_failure(capsys):
    options = RehearseOptions(
        runs=1, healthy_runs=1, drop=0.01, for_seconds=30, orders_per_second=50, json=True
    )
    code, said = told(capsys, options)
    assert code == 1
    assert said["missed"] == 1
    assert said["decision_seconds"]["p50"] is None


def test_a_rehearsal_without_a_fault_reads_as_a_table(capsys):
    options = RehearseOptions(fault=FaultKind.NONE, runs=1, for_seconds=20, orders_per_second=50)
    assert rehearse.main(policy(), options) == 0
    shown = capsys.readouterr().out
    assert "without a fault: 1 runs" in shown
    assert "promised by the policy  0.1 % of runs" in shown
    assert max(map(len, shown.splitlines())) <= 80


BY_PODS = {
    "route": {"kind": "EndpointSlice"},
    "tier": 2,
    "steps": [{"weight": "10%"}, {"weight": "50%"}],
}


def test_a_split_by_pods_is_rehearsed_with_the_pods_of_the_deployment(capsys: pytest.CaptureFixture[str]):
    options = RehearseOptions(
        replicas=9, runs=1, healthy_runs=1, at_seconds=30, for_seconds=240, orders_per_second=400, json=True
    )
    assert rehearse.main(policy(**BY_PODS), options) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["outcomes"] == {"RolledBack": 1}
    assert (said["replicas"], said["reached_ppm"]["max"]) == (9, 100_000)
    assert said["healthy"]["false_rollbacks"] == 0


def test_a_slice_that_is_less_than_one_pod_is_refused_with_the_shares_that_there_are():
    with pytest.raises(RefusedError, match="4 pods beside one of the new version give it 20 % at least"):
        rehearse.main(policy(**BY_PODS), RehearseOptions(replicas=4, runs=1))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"mode": "Observe"}, "spec.mode"),
        ({"steps": [{"weigth": "5%"}]}, "spec.steps[0].weigth"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_with_its_path(fields: dict, path: str):
    with pytest.raises(RefusedError, match=path.replace("[", r"\[").replace("]", r"\]")):
        rehearse.main(policy(**fields), RehearseOptions())


def test_no_false_rollback_in_few_runs_proves_little():
    assert share_limit(0, 0) is None
    assert share_limit(0, 1) == pytest.approx(0.95)
    assert share_limit(0, 100) == pytest.approx(1 - 0.05**0.01)
    assert share_limit(3, 100) == pytest.approx(0.0757, abs=0.0005)


def test_quantiles_are_values_that_were_measured():
    runs = [
        Rehearsed(seed, Phase.ROLLED_BACK, "OrdersCollapsed", seed, 0, 10_000, 5.0, float(seed))
        for seed in range(1, 21)
    ]
    document = Rehearsal(RehearseOptions(), "till", 0.001, runs, []).document()
    assert document["orders_lost"] == {"p50": 10, "p90": 18, "p95": 19, "max": 20}
    assert document["healthy"]["share"] is None
