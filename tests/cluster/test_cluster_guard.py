"""What the API server can enforce by itself: policies that hold a Deployment, a namespace, a route and a ceiling.

Each test is one row (K5 and so on) of the facts that the guard is designed on. The policies here are the smallest that
show a fact; those of the product are longer. Every road is tried by a developer, by an agent's account and by an
administrator: a rule of the API server knows no rank.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster_bed import Bed
from held_shop import NEW_IMAGE, NEWER_IMAGE, OLD_IMAGE, Done, HeldShop
from policies_on_bed import MUTATING, NOT_OURS, Policy, denies, installed, rules

from canary.api.marks import TRUE, Mark
from canary.kube.client import Intent
from canary.kube.resources import DEPLOYMENTS, HTTPROUTES, NAMESPACES
from canary.kube.transport import JSON_PATCH, MERGE_PATCH

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
GUARDED = Mark.GUARDED.value
SAID = "canary holds this Deployment"
EVERYBODY = ("alice", "agent", "admin")
LABELLED = "has({0}.metadata.labels) && '" + GUARDED + "' in {0}.metadata.labels"

# -- K5: the hold ----------------------------------------------------------------------------------------------------

HOLD = Policy(
    "hold",
    {
        "matchConstraints": rules("apps", "v1", ["deployments"], "UPDATE", "DELETE"),
        "matchConditions": [{"name": "guarded", "expression": LABELLED.format("oldObject")}, NOT_OURS],
        "validations": [
            denies("request.operation != 'DELETE'", f"{SAID}: it cannot be deleted"),
            denies(
                "request.operation == 'DELETE' || (has(object.spec.paused) && object.spec.paused)",
                f"{SAID}: paused has to stay",
            ),
            denies(
                f"request.operation == 'DELETE' || ({LABELLED.format('object')})",
                f"{SAID}: its label has to stay",
            ),
        ],
    },
)


def unpause_by_patch(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "patch", "deployment/shop", "--type=merge", "-p", '{"spec":{"paused":false}}')


def resume(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "rollout", "resume", "deployment/shop")


def replace(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "replace", "-f", "-", given=shop.replace_manifest())


def delete(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "delete", "deployment/shop", "--wait=false")


def delete_by_force(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "delete", "deployment/shop", "--wait=false", "--force", "--grace-period=0")


def delete_all(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "delete", "deployments", "--all", "--wait=false")


def delete_collection(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "delete", "--raw", DEPLOYMENTS.collection(shop.namespace))


def remove_label(shop: HeldShop, user: str) -> Done:
    return shop.kubectl(user, "label", "deployment/shop", f"{GUARDED}-")


ROADS = (
    unpause_by_patch,
    resume,
    replace,
    delete,
    delete_by_force,
    delete_all,
    delete_collection,
    remove_label,
)


@pytest.fixture(scope="module")
def guarded(bed: Bed) -> Iterator[HeldShop]:
    shop = HeldShop(bed, bed.namespace("guarded", HOLD.labels()))
    shop.hold()

    def in_force() -> bool:
        return (
            bed.ask(
                "admin", "PATCH", shop.ref.path(), {"spec": {"paused": False}}, MERGE_PATCH, dryRun="All"
            )[0]
            == 403
        )

    with installed(bed, HOLD, in_force):
        yield shop


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_k5_nobody_ends_the_hold(guarded: HeldShop, road: Callable[[HeldShop, str], Done], user: str) -> None:
    done = road(guarded, user)
    assert done.returncode != 0, done.stdout
    assert SAID in done.stderr
    stored = guarded.stored()
    assert stored["spec"]["paused"] is True
    assert stored["metadata"]["labels"][GUARDED] == TRUE
    assert "deletionTimestamp" not in stored["metadata"]


def test_k5_the_team_may_still_push_and_scale(guarded: HeldShop) -> None:
    pushed = guarded.kubectl("alice", "apply", "-f", "-", given=guarded.manifest(NEWER_IMAGE))
    assert pushed.returncode == 0, pushed.stderr
    scaled = guarded.kubectl("alice", "scale", "deployment/shop", "--replicas=3")
    assert scaled.returncode == 0, scaled.stderr


def test_k5_the_controller_lets_the_native_roll_run(bed: Bed) -> None:
    policy = Policy("hold-for-others", HOLD.spec)
    shop = HeldShop(bed, bed.namespace("rolled", policy.labels()))
    shop.hold()

    def in_force() -> bool:
        return shop.kubectl("alice", "delete", "deployment/shop", "--dry-run=server").returncode != 0

    before = shop.replica_set_names()
    with installed(bed, policy, in_force):
        shop.write({"spec": {"paused": None}}, user="controller")
        bed.until(lambda: len(shop.replica_sets()) == 2, "the native roll made its ReplicaSet")
    assert set(before) < set(shop.replica_set_names())


# -- K6: the namespace -----------------------------------------------------------------------------------------------


def test_k6_deleting_the_namespace_kills_the_pods_of_a_deployment_that_cannot_be_deleted(bed: Bed) -> None:
    policy = Policy("hold-in-doomed", HOLD.spec)
    name = bed.namespace("doomed", policy.labels())
    shop = HeldShop(bed, name)
    shop.hold()

    def in_force() -> bool:
        return shop.kubectl("admin", "delete", "deployment/shop", "--dry-run=server").returncode != 0

    with installed(bed, policy, in_force):
        done = bed.kubectl("admin", "delete", "namespace", name, "--wait=false")
        assert done.returncode == 0, done.stderr
        bed.until(lambda: not shop.pods(), "the pods are gone")
        assert "deletionTimestamp" not in shop.stored()["metadata"]
        stored = bed.admin.get(NAMESPACES.at("", name))
        assert stored is not None
        assert stored["status"]["phase"] == "Terminating"
    bed.until(lambda: bed.admin.get(NAMESPACES.at("", name)) is None, "the namespace ends without the policy")


def test_k6_a_rule_on_namespaces_keeps_them(bed: Bed) -> None:
    spec = {
        "matchConstraints": rules("", "v1", ["namespaces"], "DELETE"),
        "validations": [denies("false", "canary guards a Deployment in this namespace")],
    }
    policy = Policy("namespaces", spec)
    name = bed.namespace("kept", policy.labels())

    def refused(user: str) -> bool:
        done = bed.kubectl(user, "delete", "namespace", name, "--wait=false", "--dry-run=server")
        return "canary guards" in done.stderr

    with installed(bed, policy, lambda: refused("admin")):
        done = bed.kubectl("admin", "delete", "namespace", name, "--wait=false")
        assert "canary guards a Deployment" in done.stderr
        stored = bed.admin.get(NAMESPACES.at("", name))
        assert stored is not None
        assert stored["status"]["phase"] == "Active"


# -- K7: the hold that needs no hand ---------------------------------------------------------------------------------

ARM = Policy(
    "arm",
    {
        "matchConstraints": rules("apps", "v1", ["deployments"], "UPDATE"),
        "matchConditions": [
            {"name": "guarded", "expression": LABELLED.format("oldObject")},
            NOT_OURS,
            {
                "name": "changed",
                "expression": "object.spec.template != oldObject.spec.template"
                " || (has(oldObject.spec.paused) && oldObject.spec.paused)",
            },
        ],
        "reinvocationPolicy": "Never",
        "mutations": [
            {
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": "Object{spec: Object.spec{paused: true}}"},
            }
        ],
    },
    MUTATING,
)


@pytest.fixture(scope="module")
def armed(bed: Bed) -> Iterator[HeldShop]:
    labels = {GUARDED: TRUE}
    shop = HeldShop(bed, bed.namespace("armed", ARM.labels()), labels)
    probe = {"spec": {"template": {"metadata": {"labels": {"probe": "1"}}}}}

    def in_force() -> bool:
        body = bed.ask("alice", "PATCH", shop.ref.path(), probe, MERGE_PATCH, dryRun="All")[1]
        return bool(body["spec"].get("paused"))

    with installed(bed, ARM, in_force):
        yield shop


def test_k7_a_new_template_is_held_in_the_very_write_that_brings_it(armed: HeldShop) -> None:
    before = armed.replica_set_names()
    assert not armed.is_paused()
    done = armed.kubectl("alice", "apply", "-f", "-", given=armed.manifest(NEW_IMAGE))
    assert done.returncode == 0, done.stderr
    armed.observed()
    assert armed.is_paused()
    assert armed.replica_set_names() == before
    assert armed.images() == {OLD_IMAGE}


def apply_again(shop: HeldShop) -> Done:
    return shop.kubectl("alice", "apply", "-f", "-", given=shop.manifest(NEWER_IMAGE))


def apply_on_server(shop: HeldShop) -> Done:
    words = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    return shop.kubectl("alice", *words, given=shop.manifest(NEW_IMAGE))


def apply_released(shop: HeldShop) -> Done:
    return shop.kubectl("alice", "apply", "-f", "-", given=shop.manifest(NEW_IMAGE, paused=False))


def replaced(shop: HeldShop) -> Done:
    return replace(shop, "alice")


def resumed(shop: HeldShop) -> Done:
    return resume(shop, "alice")


CARRIED = (apply_again, apply_on_server, apply_released, replaced, resumed)


@pytest.mark.parametrize("write", CARRIED, ids=lambda write: write.__name__)
def test_k7_the_hold_is_carried_through_every_write(
    armed: HeldShop, write: Callable[[HeldShop], Done]
) -> None:
    apply_again(armed)
    assert armed.is_paused()
    done = write(armed)
    assert done.returncode == 0, done.stderr
    assert armed.is_paused()


def test_k7_a_resume_says_that_it_resumed_and_changes_nothing(armed: HeldShop) -> None:
    apply_again(armed)
    before = armed.stored()["spec"]
    done = resumed(armed)
    assert "resumed" in done.stdout
    assert armed.stored()["spec"] == before


def test_k7_the_mutated_field_belongs_to_nobody(armed: HeldShop) -> None:
    apply_again(armed)
    owners = [
        entry["manager"]
        for entry in armed.stored()["metadata"]["managedFields"]
        if "f:paused" in entry.get("fieldsV1", {}).get("f:spec", {})
    ]
    assert armed.is_paused()
    assert owners == []


# -- K10: the route --------------------------------------------------------------------------------------------------

SIDE_NAMED = (
    "(has(r.backendRefs) && r.backendRefs.exists(b, b.name.endsWith('-canary'))) || "
    "(has(r.filters) && r.filters.exists(f, "
    "has(f.requestMirror) && f.requestMirror.backendRef.name.endsWith('-canary')))"
)
ROUTES = Policy(
    "routes",
    {
        "matchConstraints": rules(HTTPROUTES.group, "v1", ["httproutes"], "UPDATE"),
        "matchConditions": [NOT_OURS],
        "validations": [
            denies(
                "object.spec == oldObject.spec || !has(object.spec.rules) || "
                f"!object.spec.rules.exists(r, {SIDE_NAMED})",
                "only the controller gives the new version traffic",
            )
        ],
    },
)
STABLE, SIDE = {"name": "shop", "port": 80}, {"name": "shop-canary", "port": 80}


def route(namespace: str, backends: list[Object], filters: list[Object] | None = None) -> Object:
    rule = {"backendRefs": backends, **({"filters": filters} if filters else {})}
    return {
        "apiVersion": HTTPROUTES.api_version,
        "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [rule]},
    }


@pytest.fixture(scope="module")
def split(bed: Bed) -> Iterator[str]:
    namespace = bed.namespace("split", ROUTES.labels())
    bed.apply(route(namespace, [{**STABLE, "weight": 95}, {**SIDE, "weight": 5}]))

    def in_force() -> bool:
        return patch_route(bed, namespace, "admin", weight(1, 6), dryRun="All") == 403

    with installed(bed, ROUTES, in_force):
        yield namespace


def weight(place: int, value: int) -> list[Object]:
    return [{"op": "replace", "path": f"/spec/rules/0/backendRefs/{place}/weight", "value": value}]


def patch_route(bed: Bed, namespace: str, user: str, operations: list[Object], **query: str) -> int:
    path = HTTPROUTES.at(namespace, "shop").path()
    return bed.ask(user, "PATCH", path, operations, JSON_PATCH, **query)[0]


MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": SIDE}}
RAISES: dict[str, list[Object]] = {
    "a raise": weight(1, 50),
    "nothing for stable": weight(0, 0),
    "a mirror": [{"op": "add", "path": "/spec/rules/0/filters", "value": [MIRROR]}],
}


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize("name", RAISES)
def test_k10_nobody_else_gives_the_new_version_traffic(bed: Bed, split: str, name: str, user: str) -> None:
    assert patch_route(bed, split, user, RAISES[name], dryRun="All") == 403


def test_k10_an_annotation_and_the_controllers_own_raise_pass(bed: Bed, split: str) -> None:
    noted = [{"op": "add", "path": "/metadata/annotations", "value": {"note": "seen"}}]
    assert patch_route(bed, split, "alice", noted) == 200
    assert patch_route(bed, split, "controller", weight(1, 6)) == 200


def test_k10_applying_the_route_as_it_was_takes_the_side_out(bed: Bed, split: str) -> None:
    backends = [{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": [STABLE]}]
    assert patch_route(bed, split, "agent", backends, dryRun="All") == 200


# -- K14 is asserted where a policy is installed; K15: whose token ---------------------------------------------------


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
    policy = Policy(
        "tokens",
        {
            "matchConstraints": rules("", "v1", ["serviceaccounts/token"], "CREATE"),
            "validations": [
                denies(
                    "request.userInfo.username.startsWith('system:node:')", "only a node mints tokens here"
                )
            ],
        },
    )
    namespace_ref = NAMESPACES.at("", namespace)
    bed.admin.merge_patch(namespace_ref, {"metadata": {"labels": policy.labels()}}, intent=Intent.NEUTRAL)
    with installed(bed, policy, lambda: shop.kubectl("admin", *words).returncode != 0):
        assert "only a node mints tokens here" in shop.kubectl("admin", *words).stderr
