"""The side's manifests: whatever selects or counts stable pods never finds a side pod."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.api.marks import ROLE_LAST_GOOD, Mark
from canary.kube.digest import template_hash
from canary.kube.resources import DEPLOYMENTS, PDBS, SERVICES
from canary.kube.selectors import matches, of_map
from canary.kube.side import (
    MAX_OVERRIDES,
    Order,
    Owner,
    label_overrides,
    labels_of_template,
    selectors_of,
    side_objects,
)

LABELS = {"app": "checkout", "tier": "web"}


def service(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30000}]
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": selector, "ports": ports, "clusterIP": "10.0.0.1", **spec},
    }


def owner(template_spec: dict[str, Any] | None = None, others: tuple[dict[str, Any], ...] = ()) -> Owner:
    spec = {"containers": [{"name": "shop", "image": "shop:2"}], **(template_spec or {})}
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {
            "replicas": 4,
            "paused": True,
            "minReadySeconds": 5,
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": {"metadata": {"labels": LABELS, "creationTimestamp": None}, "spec": spec},
        },
    }
    return Owner(deployment, service("checkout", {"app": "checkout"}), others)


def order(of: Owner | None = None, **fields: Any) -> Order:
    chosen = of or owner()
    return Order(chosen, chosen.deployment["spec"]["template"], 2, "checkout-r1", **fields)


def made(of: Order) -> dict[str, dict[str, Any]]:
    return {resource.kind: manifest for resource, manifest in side_objects(of)}


def test_the_pods_come_last_and_everything_has_the_side_s_name():
    objects = side_objects(order())
    assert [resource for resource, _ in objects] == [SERVICES, PDBS, DEPLOYMENTS]
    assert {manifest["metadata"]["name"] for _, manifest in objects} == {"checkout-canary"}
    assert all("ownerReferences" not in manifest["metadata"] for _, manifest in objects)


def test_the_side_runs_the_template_un_paused_under_labels_of_its_own():
    deployment = made(order())["Deployment"]
    spec = deployment["spec"]
    assert "paused" not in spec
    assert (spec["replicas"], spec["minReadySeconds"]) == (2, 5)
    labels = spec["template"]["metadata"]["labels"]
    assert labels["app"] == "checkout-canary"
    assert labels["tier"] == "web"  # the fewest labels are changed
    assert labels[Mark.ROLE] == "canary"
    assert matches(spec["selector"], labels)
    assert spec["template"]["spec"] == owner().deployment["spec"]["template"]["spec"]
    tested = owner().deployment["spec"]["template"]
    assert deployment["metadata"]["annotations"] == {
        Mark.TEMPLATE_HASH: template_hash(tested),
        Mark.SIDE_HASH: template_hash(spec["template"]),
    }


def test_the_service_has_the_same_ports_and_none_of_the_cluster_s_own_fields():
    spec = made(order())["Service"]["spec"]
    assert spec["ports"] == [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    assert "clusterIP" not in spec
    assert spec["selector"] == {Mark.SIDE: "checkout-canary"}


def test_the_way_back_stands_beside_the_side_and_shares_no_pod_with_it():
    side, back = made(order()), made(order(role=ROLE_LAST_GOOD))
    assert back["Deployment"]["metadata"]["name"] == "checkout-lastgood"
    for one, other in ((side, back), (back, side)):
        pods = other["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert not matches(of_map(one["Service"]["spec"]["selector"]), pods)
        assert not matches(one["PodDisruptionBudget"]["spec"]["selector"], pods)


def test_a_service_by_another_label_makes_that_label_change_too():
    tier = service("all-web", {"tier": "web"})
    labels = made(order(owner(others=(tier,))))["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert (labels["app"], labels["tier"]) == ("checkout-canary", "web-canary")


def test_one_label_is_enough_where_every_selector_looks_at_it():
    both = service("both", {"tier": "web", "app": "checkout"})
    budget = {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "pdb"},
        "spec": {
            "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["checkout", "x"]}]}
        },
    }
    labels = made(order(owner(others=(both, budget))))["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert (labels["app"], labels["tier"]) == ("checkout-canary", "web")


def test_a_selector_that_no_label_can_leave_is_refused():
    everything = {"kind": "PodDisruptionBudget", "metadata": {"name": "all"}, "spec": {"selector": {}}}
    with pytest.raises(ValueError, match="checkout-canary"):
        side_objects(order(owner(others=(everything,))))


def test_an_older_side_of_ours_does_not_count_as_a_selector_of_stable_pods():
    ours = service("checkout-canary", {"tier": "web"})
    ours["metadata"]["labels"] = {Mark.SIDE: "checkout-canary"}
    assert len(selectors_of(owner(others=(ours,)))) == len(selectors_of(owner()))


def test_pods_like_me_means_side_pods_on_the_side():
    like_me = {"labelSelector": {"matchLabels": {"app": "checkout"}}, "topologyKey": "zone"}
    one_of = {"key": "app", "operator": "In", "values": ["cart", "checkout"]}
    spec = {
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [like_me],
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"labelSelector": {"matchExpressions": [one_of]}}}
                ],
            },
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": {"matchLabels": {"app": "cache"}}, "topologyKey": "zone"}
                ]
            },
        },
        "topologySpreadConstraints": [{"maxSkew": 1, **like_me}],
    }
    rewritten = made(order(owner(spec)))["Deployment"]["spec"]["template"]["spec"]
    anti = rewritten["affinity"]["podAntiAffinity"]
    assert anti["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"] == {
        "matchLabels": {"app": "checkout-canary"}
    }
    preferred = anti["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]
    assert preferred["labelSelector"]["matchExpressions"][0]["values"] == ["cart", "checkout-canary"]
    assert rewritten["affinity"]["podAffinity"] == spec["affinity"]["podAffinity"]
    spread = rewritten["topologySpreadConstraints"][0]
    assert spread["labelSelector"] == {"matchLabels": {"app": "checkout-canary"}}
    assert (spread["maxSkew"], spread["topologyKey"]) == (1, "zone")


keys, values = st.sampled_from("abcdef"), st.sampled_from(["1", "2", "3" * 60])
label_maps = st.dictionaries(keys, values, min_size=1, max_size=5)
terms = st.builds(
    lambda key, operator, some: {"key": key, "operator": operator, "values": some},
    keys,
    st.sampled_from(["In", "NotIn"]),
    st.lists(values, min_size=1, max_size=2),
)
selectors = st.one_of(
    st.builds(of_map, label_maps),
    st.builds(lambda some: {"matchExpressions": some}, st.lists(terms, max_size=2)),
)


@given(labels=label_maps, others=st.lists(selectors, max_size=4))
def test_the_fewest_labels_are_changed_and_none_only_where_no_choice_would_do(
    labels: dict[str, str], others: list[dict[str, Any]]
):
    matching = [each for each in (of_map(labels), *others) if matches(each, labels)]

    def apart(keys: tuple[str, ...]) -> bool:
        changed = {**labels, **dict.fromkeys(keys, "a-value-that-nobody-asks-for")}
        return not any(matches(each, changed) for each in matching)

    sizes = [size for size in range(MAX_OVERRIDES + 1) if any(map(apart, combinations(labels, size)))]
    overrides = label_overrides(labels, [of_map(labels), *others], "-canary")
    assert (overrides is None) == (not sizes)
    if overrides is not None:
        assert len(overrides) == sizes[0]
        assert not any(matches(each, {**labels, **overrides}) for each in matching)
        assert all(len(value) <= 63 for value in overrides.values())


def test_labels_that_controllers_add_are_not_labels_of_the_template():
    assert labels_of_template({"metadata": {"labels": {**LABELS, "pod-template-hash": "x"}}}) == LABELS


def test_a_label_value_is_cut_only_where_it_must_be():
    for length in (1, 56, 57, 63):
        labels = {"app": "c" * length}
        overrides = label_overrides(labels, [of_map(labels)], "-canary")
        assert overrides is not None
        assert len(overrides["app"]) == min(63, length + 7)
        assert (overrides["app"] == "c" * length + "-canary") == (length <= 56)
