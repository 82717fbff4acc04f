"""Whether a data plane sends requests to a second EndpointSlice of one Service: what a split without a router needs.

The Service's own slice is the controller's; the second one is written by hand, as canary would: empty first, then with
a pod that no selector of the Service names, then empty again.
"""

import time
from typing import Any

from cluster_bed import Bed
from shop_on_bed import Shop, shop_open

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
