"""What the chart grants: to the controller, to the sentinel, and to people, and that no right is there twice."""

import re
from typing import Any

import chart
import pytest
from chart import container, of_kind, only
from conftest import require_helm
from controller_rights import granted, rules_of

from canary.api.reasons import GROUP, MACHINE_VERBS, Verb
from canary.kube.lease import HEARTBEAT_LEASE

Object = dict[str, Any]
ACCOUNTS = ("canary-controller", "canary-sentinel")
READING = {"get", "list", "watch"}
ASKING = {"authorization.k8s.io/subjectaccessreviews"}  # a question in the form of a write
MAX_GRANTS, MAX_WRITES = 60, 20
DELETED = {"services", "apps/deployments", "apps/controllerrevisions", "policy/poddisruptionbudgets"}


@pytest.fixture(autouse=True)
def _helm() -> None:
    require_helm()


def test_the_controller_has_few_rights_and_no_secrets() -> None:
    grants = granted(rules_of("controller"))
    writes = {right for right in grants if right[0] not in READING and right[1] not in ASKING}
    assert len(grants) <= MAX_GRANTS
    assert len(writes) <= MAX_WRITES
    assert not {
        resource for _, resource in grants if resource in ("secrets", "configmaps") or "*" in resource
    }
    assert {verb for verb, resource in grants if resource == "pods"} == {"list"}
    assert {resource for verb, resource in grants if verb == "delete"} <= DELETED
    assert not {verb for verb, _ in grants} & {
        "*",
        "update",
        "deletecollection",
        "impersonate",
        "escalate",
        "bind",
    }


@pytest.mark.parametrize("account", ["controller", "sentinel"])
def test_the_page_on_installing_counts_the_rights(account: str) -> None:
    page = (chart.ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    ((told, told_writes),) = re.findall(rf"^\| `canary-{account}` \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    grants = granted(rules_of(account))
    writes = {right for right in grants if right[0] not in READING and right[1] not in ASKING}
    assert (int(told), int(told_writes)) == (len(grants), len(writes))


@pytest.mark.parametrize("account", ["controller", "sentinel"])
def test_each_right_is_given_once(account: str) -> None:
    for reach in ("shops", "cluster", "own"):
        rules = rules_of(account, reach)
        assert sum(len(granted([rule])) for rule in rules) == len(granted(rules))


def test_the_sentinel_may_see_who_beats_and_write_routes_and_that_is_all() -> None:
    routes = [f"gateway.networking.k8s.io/{kind}" for kind in ("httproutes", "grpcroutes")]
    assert granted(rules_of("sentinel")) == {
        ("get", "coordination.k8s.io/leases"),
        ("get", f"{GROUP}/canaryruns"),
        ("list", "discovery.k8s.io/endpointslices"),
        *((verb, route) for route in routes for verb in ("get", "list", "patch")),
    }
    (lease,) = rules_of("sentinel", "own")
    assert lease["resourceNames"] == [HEARTBEAT_LEASE]


def test_slices_are_written_only_where_the_values_say_so() -> None:
    def writers(*words: str) -> set[str]:
        roles = [*of_kind(chart.rendered(*words), "ClusterRole"), *of_kind(chart.rendered(*words), "Role")]
        found = {role["metadata"]["name"]: granted(role["rules"]) for role in roles}
        return {
            name for name, rights in found.items() if ("patch", "discovery.k8s.io/endpointslices") in rights
        }

    assert writers() == set()
    given = writers("--set", "endpointSlices=true")
    assert {name.rpartition(":")[2] for name in given} == {"slices", "canary-operator", "canary-emergency"}
    assert {verb for verb, _ in granted(rules_of("sentinel", "slices"))} == {"get", "patch"}
    homes = of_kind(chart.rendered("--set", "endpointSlices=true", "--set", "namespace=shop"), "RoleBinding")
    assert {
        each["metadata"]["namespace"] for each in homes if each["metadata"]["name"].endswith(":slices")
    } == {"shop"}


def test_a_controller_for_one_namespace_writes_there_alone() -> None:
    objects = chart.rendered("--set", "namespace=shop")
    wide = [
        each for each in of_kind(objects, "ClusterRoleBinding") if each["subjects"][0]["name"] in ACCOUNTS
    ]
    named = {each["roleRef"]["name"] for each in wide}
    roles = [each for each in of_kind(objects, "ClusterRole") if each["metadata"]["name"] in named]
    assert {right for role in roles for right in granted(role["rules"]) if right[0] not in READING} <= {
        *(("create", resource) for resource in ASKING),
        ("patch", f"{GROUP}/safetypolicies/status"),  # our own kind, and the only one without a namespace
    }
    homes = {
        (each["subjects"][0]["name"], each["metadata"]["namespace"])
        for each in of_kind(objects, "RoleBinding")
        if each["roleRef"]["name"].endswith(":shops")
    }
    assert homes == {(account, "shop") for account in ACCOUNTS}
    assert all("--namespace=shop" in container(objects, account)["args"] for account in ACCOUNTS)


def test_two_installations_do_not_share_a_name_outside_their_namespaces() -> None:
    ours, theirs = (
        chart.rendered("--set", "roles=false"),
        chart.rendered("--set", "roles=false", namespace="other"),
    )
    names = [
        {each["metadata"]["name"] for each in objects if each["kind"].startswith("ClusterRole")}
        for objects in (ours, theirs)
    ]
    assert not names[0] & names[1]


def test_people_may_ask_for_what_their_role_is_for_and_machines_only_lower() -> None:
    objects = chart.rendered()
    asks: dict[str, set[str]] = {}
    for role in ("viewer", "operator", "approver", "emergency", "agent"):
        rules = only(objects, "ClusterRole", f"canary-{role}")["rules"]
        asks[role] = {
            verb for verb, resource in granted(rules) if resource == f"{GROUP}/canaryruns"
        } - READING
        assert "aggregate" not in str(only(objects, "ClusterRole", f"canary-{role}")["metadata"])
    assert asks["viewer"] == set()
    assert asks["agent"] == {verb.value for verb in MACHINE_VERBS}
    assert asks["operator"] >= {"abort", "hold", "resume", "promote", "retry"}
    assert "bypass" not in asks["operator"] | asks["approver"]
    assert set().union(*asks.values()) == {verb.value for verb in Verb}
