"""What people and pipelines do to a run under way: an abort, a route applied again, a policy deleted, a hold dropped.

Each story ends with all traffic on the old version, and nothing of the user's is written. What clusters do, with
what it costs, is in test_cluster_results.py.
"""

import json
import re
import time

import pytest
from cluster_bed import Bed
from shop_on_bed import Shop, shop_open, spec_is_the_teams

from canary.api.reasons import Phase
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS
from canary.lab import manifests
from canary.lab.shop.child import Message

pytest_plugins = ["cluster_fixtures"]
pytestmark = pytest.mark.side_by_side
RATE = 40.0  # orders a second
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
POLICY = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "drain": "5s",
    "analysis": ANALYSIS,
}
APPLIES, APPLY_SECONDS = 5, 3.0
NOTICE_SECONDS = 15.0
VERSION_LABEL = "app.kubernetes.io/version"


def lost(sales: Message) -> int:
    total = sales["total"]
    return total["wanted"] - total["placed"]


def test_a_developer_sees_a_run_and_takes_it_back_with_the_command_line(bed: Bed) -> None:
    with shop_open(bed, "aborted", RATE) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        shop.reach_slice()
        seen = shop.canary("alice", "status", manifests.NAME)
        told = shop.canary(
            "alice", "abort", manifests.NAME, "--reason", "the support desk has doubts", "-o", "json"
        )
        run = shop.reach(Phase.ABORTED)
        sales = shop.close_shop()
        shop.stop_controller()
        requests = bed.admin.list(CANARYREQUESTS, shop.namespace)
    assert seen.returncode == 0, seen.stderr
    assert run["metadata"]["name"] in seen.stdout or manifests.NEW in seen.stdout
    assert told.returncode == 0, told.stderr
    assert [ppm for _, ppm in shop.chronicle.weights()] == [0, 50_000, 0]
    assert [each["status"]["outcome"] for each in requests] == ["Done"]
    assert (lost(sales), sales["total"]["broken"]) == (0, 0)
    assert spec_is_the_teams(shop)


def test_a_pipeline_that_applies_the_route_again_and_again_sends_everybody_to_the_old_version(
    bed: Bed,
) -> None:
    """The controller does not fight for traffic: it says who reset the route, waits, and asks for a decision."""
    with shop_open(bed, "fought", RATE) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        shop.reach_slice()
        for _ in range(APPLIES):
            shop.apply(*shop.around())
            time.sleep(APPLY_SECONDS)
        run = shop.reach(Phase.PAUSED)
        sales = shop.close_shop()
        shop.stop_controller()
    assert run["status"]["reason"] == "RouteLost"
    assert "kubectl-client-side-apply reset the route" in run["status"]["message"]
    assert [ppm for _, ppm in shop.chronicle.weights()] == [0, 50_000, 0]
    assert "DECISION NEEDED" in shop.page_openings()
    assert (lost(sales), sales["total"]["broken"]) == (0, 0)
    assert spec_is_the_teams(shop)


def test_a_policy_that_is_deleted_under_way_leaves_the_change_held_and_says_so(bed: Bed) -> None:
    with shop_open(bed, "detached", RATE) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        shop.reach_slice()
        ref = CANARYPOLICIES.at(shop.namespace, manifests.NAME)
        policy = bed.admin.get(ref) or {}
        bed.admin.delete(ref, uid=policy["metadata"]["uid"], intent=Intent.NEUTRAL)
        run = shop.reach(Phase.ABORTED)
        time.sleep(NOTICE_SECONDS)
        stored = shop.deployment()
        shop.stop_controller()
    assert stored["spec"].get("paused") is True
    assert "stays held" in run["status"]["message"]


def test_a_replace_that_drops_the_hold_under_way_is_noticed(bed: Bed) -> None:
    """Without the guard, which refuses it: the pod that this made stays until a person takes it away."""
    with shop_open(bed, "replaced", RATE) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        shop.reach_slice()
        stored = shop.deployment()
        metadata = {name: stored["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
        spec = {name: value for name, value in stored["spec"].items() if name != "paused"}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        done = bed.kubectl(
            "alice", "replace", "-f", "-", namespace=shop.namespace, given=json.dumps(manifest)
        )
        if done.returncode:
            pytest.fail(done.stderr)
        shop.reach(Phase.PAUSED)
        shop.until(lambda: "ACTION NEEDED" in shop.page_openings(), "people are called")
        shop.until(lambda: bool(remedy(shop)), "what takes the pod away is said")
        stored, run = shop.deployment(), shop.run()
        done = bed.kubectl("alice", *remedy(shop)[0].split(), namespace=shop.namespace)
        assert done.returncode == 0, done.stderr
        shop.until(lambda: serving(shop) == {manifests.OLD}, "the old version serves alone")
        shop.stop_controller()
    assert run["status"]["reason"] == "UnpausedByOthers"
    assert stored["spec"].get("paused") is True
    assert [ppm for _, ppm in shop.chronicle.weights()] == [0, 50_000, 0]


def remedy(shop: Shop) -> list[str]:
    return re.findall(r"kubectl (scale replicaset \S+ --replicas=0)", shop.run()["status"]["message"])


def serving(shop: Shop) -> set[str]:
    return {pod["metadata"]["labels"][VERSION_LABEL] for pod in shop.pods()}
