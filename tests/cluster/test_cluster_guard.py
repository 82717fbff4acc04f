"""What the guard rests on, beside its rules: what the end of a namespace does to its pods, and whose token is whose.

The rules themselves are asked in `test_cluster_policies.py`, a whole run under them in `test_cluster_guarded_run.py`.
"""

import json
from typing import Any

import pytest
from cluster_bed import Bed
from guard_on_bed import SETTINGS, installed
from held_shop import HeldShop

from canary.guard.policy import manifests
from canary.guard.workload import HOLD
from canary.kube.resources import NAMESPACES

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]


def test_k6_deleting_the_namespace_kills_the_pods_of_a_deployment_that_cannot_be_deleted(bed: Bed) -> None:
    """So the guard has a rule of its own about namespaces."""
    name = bed.namespace("doomed")
    shop = HeldShop(bed, name)
    shop.hold()

    def not_yet() -> bool:
        return shop.kubectl("admin", "delete", "deployment/shop", "--dry-run=server").returncode == 0

    with installed(bed, [*manifests(HOLD, SETTINGS)], not_yet):
        done = bed.kubectl("admin", "delete", "namespace", name, "--wait=false")
        assert done.returncode == 0, done.stderr
        bed.until(lambda: not shop.pods(), "the pods are gone")
        assert "deletionTimestamp" not in shop.stored()["metadata"]
        stored = bed.admin.get(NAMESPACES.at("", name))
        assert stored is not None
        assert stored["status"]["phase"] == "Terminating"
    bed.until(lambda: bed.admin.get(NAMESPACES.at("", name)) is None, "the namespace ends without the policy")


def token_of(bed: Bed, namespace: str, bound_to: Object | None = None) -> str:
    spec: Object = {"audiences": [], "expirationSeconds": 600}
    if bound_to is not None:
        spec["boundObjectRef"] = bound_to
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    status, answer = bed.ask("admin", "POST", path, body)
    assert status == 201, answer
    return answer["status"]["token"]


def extra_of(bed: Bed, token: str) -> Object:
    """Return what the API server knows of the bearer of a token beside name and groups."""
    done = bed.kubectl("admin", "auth", "whoami", "-o", "json", f"--token={token}")
    if done.returncode:
        pytest.fail(done.stderr)
    return json.loads(done.stdout)["status"]["userInfo"].get("extra", {})


POD_EXTRAS = {f"authentication.kubernetes.io/{name}" for name in ("pod-name", "pod-uid", "node-name")}
CREDENTIAL = "authentication.kubernetes.io/credential-id"


def test_k15_a_pods_token_names_its_pod_and_a_minted_one_does_not(bed: Bed, namespace: str) -> None:
    shop = HeldShop(bed, namespace)
    bed.until(lambda: all(pod["spec"].get("nodeName") for pod in shop.pods()), "the pods have a node")
    pod = shop.pods()[0]["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"]}
    of_pod = extra_of(bed, token_of(bed, namespace, bound))
    minted = extra_of(bed, token_of(bed, namespace))
    assert of_pod.keys() >= POD_EXTRAS
    assert of_pod["authentication.kubernetes.io/pod-name"] == [pod["name"]]
    assert minted.keys() == {CREDENTIAL}


def test_k15_who_may_mint_tokens_can_look_like_a_pod(bed: Bed, namespace: str) -> None:
    """So a guard that trusts these marks has to deny `serviceaccounts/token` of the accounts that matter."""
    shop = HeldShop(bed, namespace)
    bed.until(lambda: all(pod["spec"].get("nodeName") for pod in shop.pods()), "the pods have a node")
    name = shop.pods()[0]["metadata"]["name"]
    words = ("create", "token", "default", "--bound-object-kind=Pod", f"--bound-object-name={name}")
    done = shop.kubectl("admin", *words)
    assert done.returncode == 0, done.stderr
    assert extra_of(bed, done.stdout.strip()).keys() >= POD_EXTRAS
