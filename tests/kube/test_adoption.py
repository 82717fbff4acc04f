"""What an adoption refuses, each reason alone, at the embedded cluster with its controllers."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from timed_kubelet import TimedKubelet

from canary.api.marks import Mark
from canary.api.reasons import GROUP, VERSION
from canary.core.evidence import Missing
from canary.kube.adoption import Facts, Wish, gather, refusals, warnings, writes
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, NAMESPACES, PDBS, PODS, SERVICES, Resource
from canary.lab.apiserver.admission import User
from canary.lab.clock import SimClock
from canary.lab.cluster import simulated_cluster

WISH = Wish("shop", "checkout", policy="checkout")
IMAGE = "registry.invalid/shop@sha256:" + "1" * 64
Json = dict[str, Any]


class Shop:
    """A namespace in which Deployments are made as a test likes."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.cluster = simulated_cluster(self.clock, TimedKubelet)
        self.client = Client(self.cluster.transport(User("alice")), clock=self.clock)
        self.create(NAMESPACES, "shop")

    def create(self, resource: Any, name: str, spec: Json | None = None, **metadata: Any) -> None:
        where = {"namespace": "shop"} if resource.namespaced else {}
        obj = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, **where, **metadata},
        }
        self.client.create(resource, obj if spec is None else {**obj, "spec": spec}, intent=Intent.NEUTRAL)
        self.clock.run_for(2)

    def deploy(self, pod: Json | None = None, metadata: Json | None = None, **spec: Any) -> None:
        containers = [{"name": "shop", "image": IMAGE}]
        template = {
            "metadata": {"labels": {"app": "checkout"}},
            "spec": {"containers": containers, **(pod or {})},
        }
        selector = {"matchLabels": {"app": "checkout"}}
        full = {"replicas": 2, "selector": selector, "template": template, **spec}
        self.create(DEPLOYMENTS, "checkout", full, **(metadata or {}))

    def serve(self, name: str = "checkout", **selector: str) -> None:
        self.create(SERVICES, name, {"selector": selector or {"app": "checkout"}, "ports": [{"port": 80}]})

    def refusals(self, wish: Wish = WISH) -> str:
        return "\n".join(refusals(self.facts(wish)))

    def facts(self, wish: Wish = WISH) -> Facts:
        facts = gather(self.client, wish)
        assert isinstance(facts, Facts)
        return facts


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.cluster.stop()


def test_a_whole_deployment_behind_one_service_is_adopted_with_two_writes_said_and_none_done(shop: Shop):
    shop.deploy()
    shop.serve()
    before = shop.client.get(DEPLOYMENTS.at("shop", "checkout"))
    assert not shop.refusals()
    assert shop.client.get(DEPLOYMENTS.at("shop", "checkout")) == before


def test_a_deployment_that_is_not_there_is_missing(shop: Shop):
    missing = gather(shop.client, WISH)
    assert isinstance(missing, Missing)
    assert "no Deployment shop/checkout" in missing.detail


@pytest.mark.parametrize(
    ("pod", "spec", "words"),
    [
        ({}, {"strategy": {"type": "Recreate"}}, "RollingUpdate"),
        ({}, {"revisionHistoryLimit": 0}, "revisionHistoryLimit"),
        ({"hostNetwork": True}, {}, "host ports"),
        (
            {
                "initContainers": [
                    {"name": "proxy", "image": IMAGE, "ports": [{"containerPort": 1, "hostPort": 1}]}
                ]
            },
            {},
            "host ports",
        ),
        (
            {
                "containers": [
                    {"name": "shop", "image": IMAGE, "ports": [{"containerPort": 1, "hostPort": 1}]}
                ]
            },
            {},
            "host ports",
        ),
        (
            {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}]},
            {},
            "volume claim disk",
        ),
    ],
    ids=["recreate", "no history", "host network", "host port of a sidecar", "host port", "claim"],
)
def test_what_cannot_be_held_or_stand_twice_is_refused(shop: Shop, pod: Json, spec: Json, words: str):
    shop.deploy(pod, **spec)
    shop.serve()
    refusals = shop.refusals()
    assert words in refusals
    assert refusals.count("\n") == 0


def test_a_manifest_that_ends_the_hold_is_refused(shop: Shop):
    applied = json.dumps({"spec": {"paused": False}})
    shop.deploy(metadata={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}})
    shop.serve()
    assert "paused: false" in shop.refusals()


def test_a_manifest_that_is_applied_by_the_server_and_ends_the_hold_is_refused(shop: Shop):
    shop.deploy()
    shop.serve()
    facts = shop.facts()
    entry = {"manager": "argocd", "operation": "Apply", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    deployment = {**facts.deployment, "metadata": {**facts.deployment["metadata"], "managedFields": [entry]}}
    applied = replace(facts, seen=replace(facts.seen, deployment=deployment))
    assert any("paused: false" in refusal for refusal in refusals(applied))
    entry["operation"] = "Update"
    assert not refusals(applied)


def test_a_roll_in_progress_is_refused(shop: Shop):
    shop.deploy()
    shop.serve()
    facts = shop.facts()
    (current,) = facts.seen.replica_sets
    older = {**current, "status": {"replicas": 1, "readyReplicas": 1}}
    rolling = replace(facts, seen=replace(facts.seen, replica_sets=(current, older)))
    assert any("rollout status" in refusal for refusal in refusals(rolling))


def test_a_deployment_without_all_its_pods_is_refused(shop: Shop):
    shop.deploy()
    shop.serve()
    facts = shop.facts()
    half = replace(facts, seen=replace(facts.seen, workload=replace(facts.seen.workload, stable_ready=1)))
    assert any("1 of 2 pods" in refusal for refusal in refusals(half))


def test_the_service_must_be_there_and_clear(shop: Shop):
    shop.deploy()
    assert "no Service selects" in shop.refusals()
    shop.serve("one")
    shop.serve("two")
    assert "Services one, two" in shop.refusals()
    assert not shop.refusals(replace(WISH, service="two"))
    shop.serve("other", app="other")
    assert "does not select" in shop.refusals(replace(WISH, service="other"))


def test_our_own_side_is_no_second_service_and_no_foreign_object(shop: Shop):
    shop.deploy()
    shop.serve()
    labels = {Mark.SIDE.value: "checkout-canary"}
    ports = [{"port": 80}]
    shop.create(SERVICES, "checkout-canary", {"selector": {"app": "checkout"}, "ports": ports}, labels=labels)
    assert shop.refusals() == ""


def test_a_foreign_object_of_the_side_s_name_is_refused(shop: Shop):
    shop.deploy()
    shop.serve()
    shop.serve("checkout-lastgood", app="other")
    assert "Service checkout-lastgood is not ours" in shop.refusals()


def test_a_budget_that_counts_every_pod_is_refused(shop: Shop):
    shop.deploy()
    shop.serve()
    shop.create(PDBS, "everything", {"minAvailable": 1, "selector": {}})
    assert "counts stable pods" in shop.refusals()


def definition(group: str, version: str, plural: str, kind: str) -> Json:
    """Return the definition of somebody else's kind, which takes any fields."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
    }


def test_another_canary_tool_is_a_second_writer_only_of_its_own_target(shop: Shop):
    shop.deploy()
    shop.serve()
    shop.cluster.install([definition("flagger.app", "v1beta1", "canaries", "Canary")])
    canaries = Resource("flagger.app", "v1beta1", "canaries", "Canary")
    shop.create(canaries, "cart", {"targetRef": {"name": "cart"}})
    assert shop.refusals() == ""
    shop.create(canaries, "shop", {"targetRef": {"name": "checkout"}})
    assert "Canary shop of flagger.app" in shop.refusals()


def test_a_second_policy_is_a_second_writer_and_the_own_one_is_not(shop: Shop):
    shop.deploy()
    shop.serve()
    shop.cluster.install([definition(GROUP, VERSION, "canarypolicies", "CanaryPolicy")])
    for name in ("checkout", "other"):
        shop.create(CANARYPOLICIES, name, {"target": {"name": "checkout"}})
    refusals = shop.refusals()
    assert "CanaryPolicy other" in refusals
    assert "CanaryPolicy checkout" not in refusals


@pytest.mark.parametrize("field", ["podSelector", "from"])
def test_a_network_policy_that_would_not_let_the_side_through_is_refused(shop: Shop, field: str):
    shop.deploy()
    shop.serve()
    ours = {"matchLabels": {"app": "checkout"}}
    peers = [{"from": [{"podSelector": ours}]}]
    spec = {"podSelector": ours} if field == "podSelector" else {"podSelector": {}, "ingress": peers}
    policy = {"metadata": {"name": "lock"}, "spec": spec}
    found = refusals(replace(shop.facts(), network_policies=(policy,)))
    assert any("NetworkPolicy lock" in each and "app=checkout-canary" in each for each in found)
    open_to_both = {"metadata": {"name": "open"}, "spec": {"podSelector": {}}}
    assert not refusals(replace(shop.facts(), network_policies=(open_to_both,)))


def test_a_mesh_policy_that_would_not_apply_to_the_side_is_refused(shop: Shop):
    shop.deploy()
    shop.serve()
    mesh = Resource("security.istio.io", "v1", "authorizationpolicies", "AuthorizationPolicy")
    shop.cluster.install([definition(mesh.group, mesh.version, mesh.plural, mesh.kind)])
    shop.create(mesh, "all", {"action": "ALLOW"})
    assert shop.refusals() == ""
    shop.create(mesh, "only-checkout", {"selector": {"matchLabels": {"app": "checkout"}}})
    assert "AuthorizationPolicy only-checkout selects the pods by app" in shop.refusals()


def test_what_no_refusal_can_know_is_said(shop: Shop):
    shop.deploy({"containers": [{"name": "a", "image": "shop"}, {"name": "b", "image": "proxy:latest"}]})
    shop.serve()
    said = warnings(shop.facts())
    assert "pull work" in said[0]
    assert ["image shop" in said[1], "image proxy:latest" in said[2]] == [True, True]
    assert len(said) == 3


def test_what_would_be_written_is_said(shop: Shop):
    shop.deploy()
    shop.serve()
    hold, side = writes(shop.facts())
    assert "set spec.paused" in hold
    assert "checkout-canary" in side


def test_a_name_without_room_for_our_suffix_is_refused(shop: Shop):
    shop.deploy()
    shop.serve()
    facts = replace(shop.facts(), wish=replace(WISH, name="c" * 60))
    assert any("characters" in refusal for refusal in refusals(facts))


def test_pods_of_others_that_the_service_selects_are_named(shop: Shop):
    shop.deploy()
    shop.serve()
    assert shop.facts().strangers == ()
    pod = {"containers": [{"name": "x", "image": IMAGE}]}
    shop.create(PODS, "alone", pod, labels={"app": "checkout"})
    shop.create(PODS, "elsewhere", pod, labels={"app": "other"})
    template = {"metadata": {"labels": {"app": "checkout", "team": "x"}}, "spec": pod}
    others = {"replicas": 1, "selector": {"matchLabels": {"team": "x"}}, "template": template}
    shop.create(DEPLOYMENTS, "another", others)
    facts = shop.facts()
    assert len(facts.strangers) == 2
    assert {name.partition("-")[0] for name in facts.strangers} == {"alone", "another"}
    assert any("the Service's customers also reach" in each for each in warnings(facts))
