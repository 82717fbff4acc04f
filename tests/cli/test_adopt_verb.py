"""`canary adopt`: the plan of a policy in words, every refusal with its remedy, and nothing written before a yes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cli_bed import Bed

from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, HTTPROUTES, REPLICASETS, SERVICES
from canary.lab import manifests

pytest_plugins = ["cli_fixtures"]
CHECKOUT = DEPLOYMENTS.at("shop", "checkout")


@pytest.fixture
def shop(cli: Bed, tmp_path: Path) -> Iterator[Bed]:
    """A shop that serves, and its policy in a file."""
    for resource, obj in ((DEPLOYMENTS, manifests.deployment(2, 8080)), (SERVICES, manifests.service())):
        cli.controller.create(resource, obj, intent=Intent.NEUTRAL)
    cli.controller.create(HTTPROUTES, manifests.route(), intent=Intent.NEUTRAL)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(manifests.policy()))
    deadline = time.monotonic() + 20
    while ready(cli) < 2:
        assert time.monotonic() < deadline, "the pods are not ready"
        time.sleep(0.05)
    yield cli
    kinds = cli.cluster.store.kinds
    cli.cluster.store.delete(kinds.named("Deployment"), ("shop", "checkout"))
    for each in cli.controller.list(REPLICASETS, "shop"):
        cli.cluster.store.delete(kinds.named("ReplicaSet"), ("shop", each["metadata"]["name"]))


def ready(cli: Bed) -> int:
    return ((cli.controller.get(CHECKOUT) or {}).get("status") or {}).get("readyReplicas", 0)


def adopt(cli: Bed, folder: Path, *words: str):
    return cli.canary("adopt", str(folder / "policy.yaml"), *words)


def test_the_plan_says_every_write_and_what_to_think_about(shop: Bed, tmp_path: Path):
    said = adopt(shop, tmp_path, "--dry-run")
    assert said.code == 0
    assert said.out.splitlines()[0] == "shop/checkout can be adopted; no pod moves"
    assert "writes: Deployment checkout: set spec.paused and the label" in said.out
    assert "HTTPRoute checkout, rule 0: add checkout-canary at weight 0" in said.out
    assert "know: pods that pull work" in said.out
    assert "dry run: nothing was written" in said.err
    assert shop.controller.list(CANARYPOLICIES) == []


def test_everything_that_is_in_the_way_is_said_at_once_and_nothing_is_written(shop: Bed, tmp_path: Path):
    shop.controller.merge_patch(CHECKOUT, {"spec": {"revisionHistoryLimit": 0}}, intent=Intent.NEUTRAL)
    rule = {"backendRefs": [{"name": "checkout", "port": 80}], "sessionPersistence": {"type": "Cookie"}}
    shop.controller.merge_patch(
        HTTPROUTES.at("shop", "checkout"), {"spec": {"rules": [rule]}}, intent=Intent.NEUTRAL
    )
    said = adopt(shop, tmp_path, "--yes", "-o", "json")
    assert said.code == 2
    plan = json.loads(said.out)
    assert plan["schema"] == "canary-controller.io/adoption/v1"
    assert ["revisionHistoryLimit" in plan["refusals"][0], "sessionPersistence" in plan["refusals"][1]] == [
        True
    ] * 2
    assert said.err.startswith("CAN-4101 cannot adopt checkout: revisionHistoryLimit is 0")
    assert shop.controller.list(CANARYPOLICIES) == []


def test_a_yes_stores_the_policy_and_says_when_nobody_acts_on_it(shop: Bed, tmp_path: Path):
    said = adopt(shop, tmp_path, "--yes", "--timeout", "0s")
    assert said.code == 1
    assert "CAN-3002 policy shop/checkout is stored, but: no controller has looked at it" in said.err
    (stored,) = shop.controller.list(CANARYPOLICIES)
    assert stored["spec"]["target"]["name"] == "checkout"
    again = adopt(shop, tmp_path, "--yes", "--timeout", "0s")
    assert (again.code, "CAN-4103" in again.err) == (2, True)


def test_a_deployment_that_is_not_there_cannot_be_planned_for(cli: Bed, tmp_path: Path):
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(manifests.policy()))
    said = adopt(cli, tmp_path, "--dry-run")
    assert said.code == 2
    assert "CAN-4102 there is no Deployment shop/checkout" in said.err


BY_PODS = {"route": {"kind": "EndpointSlice"}, "tier": 2, "steps": [{"weight": "50%"}]}


def test_the_plan_of_a_split_by_pods_says_its_slice_and_the_shares_that_pods_make(shop: Bed, tmp_path: Path):
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(manifests.policy(BY_PODS)))
    said = adopt(shop, tmp_path, "--dry-run")
    assert said.code == 0
    assert "EndpointSlice checkout-canary: created empty beside those of checkout" in said.out
    assert "HTTPRoute" not in said.out
    assert "know: shares are whole pods: beside 2 ready ones the least is 33.3334 %" in said.out
    assert "know: the commit is a native roll with customers on it" in said.out


def test_what_a_split_by_pods_cannot_serve_is_refused_with_the_remedy(shop: Bed, tmp_path: Path):
    """The strictest tier, and a Service that keeps its clients on one pod."""
    service = SERVICES.at("shop", "checkout")
    shop.controller.merge_patch(service, {"spec": {"sessionAffinity": "ClientIP"}}, intent=Intent.NEUTRAL)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(manifests.policy({**BY_PODS, "tier": 1})))
    said = adopt(shop, tmp_path, "--dry-run", "-o", "json")
    assert said.code == 2
    keeps, tier = json.loads(said.out)["refusals"]
    assert keeps.endswith("remove sessionAffinity")
    assert tier.endswith("lead the traffic by an HTTPRoute or GRPCRoute, or set spec.tier to 2 or more")
