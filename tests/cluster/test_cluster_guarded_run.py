"""A whole run under the whole guard: what the rules close to others must leave the controller free to do its work.

The controller runs with exactly the chart's rights and with a token that was issued to its pod, as a kubelet mounts it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cluster_bed import USERS, Bed
from controller_rights import used
from guarded_shop import guard_in_force, replaced_without_paused, shop_under_guard
from shop_on_bed import Shop

from canary.api.marks import side_name
from canary.api.reasons import Phase, Reason
from canary.guard.policy import VALIDATING_BINDINGS
from canary.kube.client import Intent
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
RATE = 150.0  # orders a second
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
POLICY = {
    "steps": [{"weight": "50%"}, {"weight": "100%"}],
    "bake": {"duration": "5s"},
    "drain": "5s",
    "analysis": ANALYSIS,
}
ROUTE = f"httproute/{manifests.NAME}"
HALF = [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 1_000_000}]


@pytest.fixture(scope="module")
def guarded(bed: Bed) -> Iterator[Bed]:
    with guard_in_force(bed):
        yield bed


@contextmanager
def slice_under_guard(bed: Bed, name: str) -> Iterator[Shop]:
    with shop_under_guard(bed, name, RATE) as shop:
        shop.protect(**POLICY)
        shop.push()
        shop.reach_slice()
        yield shop


def test_a_change_is_promoted_past_everything_that_others_try(guarded: Bed) -> None:
    with slice_under_guard(guarded, "warded") as shop:
        target, side = f"deployment/{manifests.NAME}", f"deployment/{side_name(manifests.NAME)}"
        roads = {
            "raise": ("patch", ROUTE, "--type=json", "-p", json.dumps(HALF)),
            "delete the route": ("delete", ROUTE),
            "delete the Deployment": ("delete", target),
            "fewer pods": ("scale", target, "--replicas=2"),
            "delete the Service": ("delete", f"service/{manifests.NAME}"),
            "delete the namespace": ("delete", f"namespace/{shop.namespace}"),
            "delete the side": ("delete", side),
            "change the side": ("set", "image", side, "shop=registry.example/shop:v9"),
            "delete the record": ("delete", f"canaryrun/{shop.run()['metadata']['name']}"),
            "delete the policy": ("delete", f"canarypolicy/{manifests.NAME}"),
        }
        told = {
            name: guarded.kubectl("admin", *words, namespace=shop.namespace).stderr
            for name, words in roads.items()
        }
        dropped = guarded.kubectl("alice", *replaced_without_paused(shop), namespace=shop.namespace)
        shop.reach(Phase.PROMOTED)
        shop.until(lambda: bool(shop.run()["status"].get("tidiedAt")), "the run is tidied")
        sales, pages = shop.close_shop()["total"], shop.page_openings()
        refused = used(guarded.audit_log, USERS["controller"][0], {shop.namespace})[1]
    assert {name: "canary-guard-" in said for name, said in told.items()} == dict.fromkeys(roads, True)
    assert dropped.returncode == 0, dropped.stderr
    assert [ppm for _, ppm in shop.chronicle.weights()] == [0, 500_000, 1_000_000, 500_000, 0]
    assert (sales["wanted"] - sales["placed"], sales["broken"]) == (0, 0)
    assert "ACTION NEEDED" not in pages
    assert refused == set()


def test_a_guard_that_is_broken_stops_every_raise_until_it_is_whole_again(guarded: Bed) -> None:
    binding = VALIDATING_BINDINGS.at("", "canary-guard-workload")
    with slice_under_guard(guarded, "broken-guard") as shop:
        weaker = {"spec": {"validationActions": ["Audit"]}}
        guarded.admin.merge_patch(binding, weaker, intent=Intent.NEUTRAL)
        shop.until(
            lambda: shop.run()["status"]["reason"] == Reason.GUARD_MISSING, "the guard is missed", 60.0
        )
        said, weight = shop.run()["status"]["message"], shop.weight_ppm()
        shop.until(lambda: "ACTION NEEDED" in shop.page_openings(), "people are called")
        whole = {"spec": {"validationActions": ["Deny", "Audit"]}}
        guarded.admin.merge_patch(binding, whole, intent=Intent.NEUTRAL)
        shop.until(lambda: shop.weight_ppm() > weight, "the run goes on", 120.0)
        pages = [json.loads(page.body)["data"] for page in list(shop.pages.received)]
    assert "canary-guard-workload was changed (spec.validationActions)" in said
    assert [page["reason"] for page in pages if page["opening"] == "ACTION NEEDED"] == ["GuardMissing"]
