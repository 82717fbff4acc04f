"""A Service split by an EndpointSlice of canary's: does a data plane merge it, and does a run by it end well?

For the first question the second slice is written by hand, as canary would: empty first, then with a pod that no
selector of the Service names, then empty again. For the second the real controller has the rights that the chart gives
where policies may split by pods, and customers come through Traefik to a route that names the Service alone.
"""

import time
from typing import Any

import pytest
from cluster_bed import CLUSTERROLEBINDINGS, CLUSTERROLES, USERS, Bed
from controller_rights import REACHES, granted, rarer, rules_of, used
from shop_on_bed import COLLAPSE, Shop, failed_at_gateways, shop_open, spec_is_the_teams

from canary.api.reasons import Phase
from canary.kube.client import Intent
from canary.kube.resources import DEPLOYMENTS, ENDPOINTSLICES, PODS
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
RATE, LOOK_SECONDS, SETTLE_SECONDS = 60.0, 8.0, 4.0
OTHER = "beside"


def pod_beside(shop: Shop) -> Object:
    """Run one pod of the new version that the Service does not select; return it when it is ready."""
    labels = {"app": OTHER}
    deployment = shop.manifest(manifests.NEW, replicas=1)
    deployment["metadata"] |= {"name": OTHER, "labels": labels}
    deployment["spec"]["selector"] = {"matchLabels": labels}
    deployment["spec"]["template"]["metadata"]["labels"] |= labels
    shop.bed.admin.create(DEPLOYMENTS, deployment, intent=Intent.NEUTRAL)

    def ready() -> bool:
        stored = shop.bed.admin.get(DEPLOYMENTS.at(shop.namespace, OTHER)) or {}
        return (stored.get("status") or {}).get("readyReplicas", 0) == 1

    shop.until(ready, "the pod beside is ready")
    (pod,) = shop.bed.admin.list(PODS, shop.namespace, selector=f"app={OTHER}")
    return pod


def slice_beside(shop: Shop) -> Object:
    """Create the second slice, empty, with the ports of the Service's own."""
    selector = f"kubernetes.io/service-name={manifests.NAME}"
    (own,) = shop.bed.admin.list(ENDPOINTSLICES, shop.namespace, selector=selector)
    labels = {
        "kubernetes.io/service-name": manifests.NAME,
        "endpointslice.kubernetes.io/managed-by": "canary-controller.io",
    }
    made = ENDPOINTSLICES.at(shop.namespace, f"{manifests.NAME}-canary").manifest(
        {"labels": labels}, addressType="IPv4", ports=own["ports"], endpoints=[]
    )
    return shop.bed.admin.create(ENDPOINTSLICES, made, intent=Intent.NEUTRAL)


def fill(shop: Shop, endpoints: list[Object]) -> None:
    ref = ENDPOINTSLICES.at(shop.namespace, f"{manifests.NAME}-canary")
    operations = [{"op": "add", "path": "/endpoints", "value": endpoints}]
    shop.bed.admin.json_patch(ref, operations, intent=Intent.NEUTRAL)


def served(shop: Shop) -> dict[str, int]:
    by_version = shop.sales()["by_version"]
    return {
        version: by_version.get(version, {}).get("requests", 0) for version in (manifests.OLD, manifests.NEW)
    }


def met_in(shop: Shop, seconds: float) -> dict[str, int]:
    """Return the requests that each version answers in a time, from a moment on at which proxies have settled."""
    time.sleep(SETTLE_SECONDS)
    before = served(shop)
    time.sleep(seconds)
    return {version: count - before[version] for version, count in served(shop).items()}


def test_traefik_merges_a_second_slice_and_an_empty_one_takes_every_request_back(bed: Bed) -> None:
    with shop_open(bed, "merged", RATE) as shop:
        pod = pod_beside(shop)
        slice_beside(shop)
        empty = met_in(shop, LOOK_SECONDS)
        target = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": shop.namespace}
        endpoint = {"addresses": [pod["status"]["podIP"]], "conditions": {"ready": True}, "targetRef": target}
        fill(shop, [endpoint])
        merged = met_in(shop, LOOK_SECONDS)
        fill(shop, [])
        taken_back = met_in(shop, LOOK_SECONDS)
        total = shop.close_shop()["total"]
    assert (empty[manifests.NEW], taken_back[manifests.NEW]) == (0, 0)
    share = merged[manifests.NEW] / sum(merged.values())
    assert 0.15 < share < 0.35, f"one pod beside three gets {share:.3f}"
    assert total["broken"] == 0


# -- whole runs ------------------------------------------------------------------------------------------------------

ORDERS = 100.0  # a second
SIDE = f"{manifests.NAME}-canary"
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
POLICY = {
    "route": {"kind": "EndpointSlice"},
    "tier": 2,
    "steps": [{"weight": "25%"}, {"weight": "50%"}],
    "analysis": ANALYSIS,
    "bake": {"duration": "10s"},
    "drain": "5s",
}


@pytest.fixture(scope="module")
def begun(bed: Bed) -> int:
    """How long the audit log was as these stories began."""
    return bed.audit_log.stat().st_size


@pytest.fixture(scope="module")
def splitting(bed: Bed, begun: int) -> Bed:
    """A bed on which the controller has the further rights of `endpointSlices: true`."""
    bed.make(CLUSTERROLES, "canary-controller-slices", rules=rules_of("controller", "slices"))
    group = "rbac.authorization.k8s.io"
    subject = {"apiGroup": group, "kind": "User", "name": USERS["controller"][0]}
    ref = {"apiGroup": group, "kind": "ClusterRole", "name": "canary-controller-slices"}
    bed.make(CLUSTERROLEBINDINGS, "bed-slices", subjects=[subject], roleRef=ref)
    return bed


def tidied(shop: Shop) -> None:
    shop.until(lambda: (shop.run().get("status") or {}).get("tidiedAt"), "everything is given back")
    shop.until(lambda: not shop.exists(ENDPOINTSLICES, SIDE), "the slice is gone")
    assert not shop.exists(DEPLOYMENTS, SIDE)
    assert shop.diff(*shop.applied) == "", "the team's objects are as they wrote them"


def test_a_collapse_in_one_pod_of_four_is_taken_back_by_emptying_the_slice(splitting: Bed) -> None:
    with shop_open(splitting, "pods-collapse", ORDERS) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push({**COLLAPSE, "SHOP_BUG_AFTER": "20"})
        shop.until(lambda: len(shop.sliced()) == 1, "one pod is named", 120)
        assert (shop.run()["status"]["allowedWeightPpm"], shop.ready_pods()) == (250_000, 3)
        shop.reach(Phase.ROLLED_BACK)
        assert shop.sliced() == []
        tidied(shop)
        total = shop.close_shop()["total"]
    lost = total["wanted"] - total["placed"]
    assert 0 < lost < 250, f"{lost} of the orders in a quarter of the traffic"
    assert total["broken"] == 0


def test_a_healthy_change_is_promoted_by_pods_and_needs_no_more_rights_than_the_chart_gives(
    splitting: Bed,
    begun: int,
) -> None:
    with shop_open(splitting, "pods-healthy", ORDERS) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        shop.reach(Phase.PROMOTED, 600)
        tidied(shop)
        said = [entry["message"] for entry in shop.run()["status"]["timeline"]]
        sales = shop.close_shop()
    assert any("with customers on the roll" in message for message in said)
    total = sales["total"]
    assert total["requests"] > 1000
    assert (total["wanted"] - total["placed"], total["broken"], failed_at_gateways(sales)) == (0, 0, 0)
    assert spec_is_the_teams(shop)
    homes = {"pods-collapse", "pods-healthy"}
    allowed, denied = used(splitting.audit_log, USERS["controller"][0], homes, begun)
    assert denied == set()
    routes = "gateway.networking.k8s.io/httproutes"  # of other policies
    others = {
        ("get", routes),
        ("patch", routes),
        ("get", "discovery.k8s.io/endpointslices"),
    }  # a kill that met a write
    assert allowed | rarer() | others == granted(rules_of("controller", *REACHES, "slices"))
