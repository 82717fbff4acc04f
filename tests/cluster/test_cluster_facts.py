"""What the design rests on, seen on the real control plane: holding a Deployment, versions, routes, autoscalers.

Each test is one row of a list of facts (K1 and so on) that the next Kubernetes version is checked by. What the API
server's policies can do is in `test_cluster_guard.py`.
"""

import json
from typing import Any

import pytest
import yaml
from cluster_bed import Bed
from held_shop import NEW_IMAGE, NEWER_IMAGE, OLD_IMAGE, HeldShop

from canary.kube.client import Intent
from canary.kube.resources import HPAS, HTTPROUTES, PODS

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]


@pytest.fixture
def shop(bed: Bed, namespace: str) -> HeldShop:
    shop = HeldShop(bed, namespace)
    shop.hold()
    return shop


# -- K1 and K2: the hold ---------------------------------------------------------------------------------------------


def test_k1_a_paused_deployment_holds_its_new_template_across_a_restart_of_its_controller(
    bed: Bed, namespace: str
) -> None:
    shop = HeldShop(bed, namespace)
    before, pods = shop.replica_set_names(), {pod["metadata"]["uid"] for pod in shop.pods()}
    shop.hold()
    bed.restart_controller_manager()
    shop.write({"spec": {"template": {"spec": {"containers": [{"name": "shop", "image": NEWER_IMAGE}]}}}})
    assert shop.replica_set_names() == before
    assert {pod["metadata"]["uid"] for pod in shop.pods()} == pods
    status = shop.stored()["status"]
    assert "updatedReplicas" not in status
    progress = next(each for each in status["conditions"] if each["type"] == "Progressing")
    assert (progress["status"], progress["reason"]) == ("Unknown", "DeploymentPaused")


def test_k2_a_held_deployment_makes_pods_of_the_old_template_only(shop: HeldShop) -> None:
    before = shop.replica_set_names()
    for count in (5, 0, 4):
        shop.write({"spec": {"replicas": count}})
        shop.bed.until(lambda count=count: len(shop.pods()) == count, f"there are {count} pods")
        assert shop.images() <= {OLD_IMAGE}
    victim = shop.pods()[0]["metadata"]
    ref = PODS.at(shop.namespace, victim["name"])
    shop.bed.admin.delete(ref, uid=victim["uid"], intent=Intent.NEUTRAL)
    shop.bed.until(
        lambda: len(shop.pods()) == 4 and victim["uid"] not in {p["metadata"]["uid"] for p in shop.pods()},
        "a deleted pod is replaced",
    )
    assert shop.images() == {OLD_IMAGE}
    assert shop.replica_set_names() == before


# -- K3 and K4: kubectl on a held Deployment -------------------------------------------------------------------------


def test_k3_kubectl_cannot_roll_a_held_deployment(shop: HeldShop) -> None:
    restarted = shop.kubectl("alice", "rollout", "restart", "deployment/shop")
    undone = shop.kubectl("alice", "rollout", "undo", "deployment/shop")
    waiting = shop.kubectl("alice", "rollout", "status", "deployment/shop", "--timeout=2s")
    assert restarted.returncode != 0
    assert "paused" in restarted.stderr
    assert undone.returncode != 0
    assert waiting.returncode != 0
    assert shop.stored()["spec"]["template"]["spec"]["containers"][0]["image"] == NEW_IMAGE


@pytest.mark.parametrize("how", [(), ("--server-side", "--force-conflicts")], ids=["client", "server"])
def test_k4_an_apply_without_paused_keeps_the_hold(shop: HeldShop, how: tuple[str, ...]) -> None:
    done = shop.kubectl("alice", "apply", *how, "-f", "-", given=shop.manifest(NEWER_IMAGE))
    assert done.returncode == 0, done.stderr
    assert shop.stored()["spec"]["template"]["spec"]["containers"][0]["image"] == NEWER_IMAGE
    assert shop.is_paused()


def test_k4_a_replace_without_paused_drops_the_hold(shop: HeldShop) -> None:
    done = shop.kubectl("alice", "replace", "-f", "-", given=shop.replace_manifest())
    assert done.returncode == 0, done.stderr
    assert not shop.is_paused()


# -- K8 and K9: versions and routes ----------------------------------------------------------------------------------


def route(namespace: str, backends: list[Object]) -> Object:
    spec = {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": backends}]}
    metadata = {"name": "shop", "namespace": namespace}
    return {"apiVersion": HTTPROUTES.api_version, "kind": "HTTPRoute", "metadata": metadata, "spec": spec}


def apply_route(bed: Bed, namespace: str) -> Object:
    manifest = yaml.safe_dump(route(namespace, [{"name": "shop", "port": 80}]))
    done = bed.kubectl("alice", "apply", "-f", "-", namespace=namespace, given=manifest)
    assert done.returncode == 0, done.stderr
    stored = bed.admin.get(HTTPROUTES.at(namespace, "shop"))
    assert stored is not None
    return stored


def test_k8_the_epoch_annotation_is_a_fence(bed: Bed, namespace: str) -> None:
    """A kill at weight 0 changes the epoch alone: it has to make a new version, or a late raise would still land."""
    seen, ref = apply_route(bed, namespace), HTTPROUTES.at(namespace, "shop")
    killed = bed.admin.merge_patch(ref, {"metadata": {"annotations": {"epoch": "1"}}}, intent=Intent.LOWERING)
    again = bed.admin.merge_patch(ref, {"metadata": {"annotations": {"epoch": "1"}}}, intent=Intent.LOWERING)
    assert killed is not None
    assert again is not None
    assert killed["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"]
    assert killed["metadata"]["generation"] == seen["metadata"]["generation"]
    assert again["metadata"]["resourceVersion"] == killed["metadata"]["resourceVersion"]


def test_k9_applying_the_route_again_takes_the_side_out(bed: Bed, namespace: str) -> None:
    apply_route(bed, namespace)
    side = {"name": "shop-canary", "port": 80, "weight": 1_000_000}
    add = [{"op": "add", "path": "/spec/rules/0/backendRefs/1", "value": side}]
    split = bed.client("controller").json_patch(HTTPROUTES.at(namespace, "shop"), add, intent=Intent.RAISING)
    assert split is not None
    stored = split["spec"]["rules"][0]["backendRefs"]
    assert stored[1] == {"group": "", "kind": "Service", **side}
    changed = yaml.safe_dump(route(namespace, [{"name": "shop", "port": 80, "weight": 7}]))
    done = bed.kubectl("alice", "apply", "-f", "-", namespace=namespace, given=changed)
    assert done.returncode == 0, done.stderr
    applied = bed.admin.get(HTTPROUTES.at(namespace, "shop")) or {}
    assert [ref["name"] for ref in applied["spec"]["rules"][0]["backendRefs"]] == ["shop"]


def test_k9_an_apply_that_changes_nothing_of_its_own_takes_the_side_out_too(bed: Bed, namespace: str) -> None:
    apply_route(bed, namespace)
    side = {"name": "shop-canary", "port": 80, "weight": 1}
    add = [{"op": "add", "path": "/spec/rules/0/backendRefs/1", "value": side}]
    bed.client("controller").json_patch(HTTPROUTES.at(namespace, "shop"), add, intent=Intent.RAISING)
    refs = apply_route(bed, namespace)["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in refs] == ["shop"]


# -- K16: autoscalers ------------------------------------------------------------------------------------------------


def test_k16_disabling_scale_down_makes_the_server_fill_in_the_rest(bed: Bed, namespace: str) -> None:
    """So a thaw has to write back the whole behaviour that was there, not just take its own field out."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}
    bed.make(HPAS, "shop", namespace, spec={"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9})
    ref = HPAS.at(namespace, "shop")
    frozen = bed.admin.merge_patch(
        ref, {"spec": {"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}}, intent=Intent.NEUTRAL
    )
    assert frozen is not None
    assert frozen["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"
    assert frozen["spec"]["behavior"]["scaleUp"]["policies"], json.dumps(frozen["spec"])
    field_out = {"spec": {"behavior": {"scaleDown": {"selectPolicy": None}}}}
    thawed = bed.admin.merge_patch(ref, field_out, intent=Intent.NEUTRAL)
    assert thawed is not None
    assert "behavior" in thawed["spec"]
    whole_out = bed.admin.merge_patch(ref, {"spec": {"behavior": None}}, intent=Intent.NEUTRAL)
    assert whole_out is not None
    assert "behavior" not in whole_out["spec"]
