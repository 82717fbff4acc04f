"""The attacks and mistakes A1 to A22, each made by the identity that would make it, on the real API server.

The guard is in force and the real controller runs. A shop with a healthy change in its slice is attacked in whatever
way is refused, and has to be what it was afterwards; three more live through what the guard lets pass. The list for
people, with what another test shows, is docs/explanation/attacks.md.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attack_stories as stories
import pytest
import yaml
from attack_stories import NAME, RATE, SLICE_PPM, WAITING, weight
from cluster_bed import CLUSTERROLEBINDINGS, CLUSTERROLES, SERVICEACCOUNTS, SYSTEM, USERS, Bed
from guard_on_bed import POD, RBAC, forget_safety_policies
from guarded_shop import guard_in_force, replaced_without_paused, shop_under_guard
from shop_on_bed import Shop

from canary.api.marks import TRUE, Mark, side_name
from canary.api.reasons import GROUP, TARGET_LOST, Phase, Reason
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYRUNS,
    CONFIGMAPS,
    CRDS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    LEASES,
    PODS,
    REPLICASETS,
    SERVICES,
    Resource,
)
from canary.kube.transport import MERGE_PATCH
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
SIDE = side_name(NAME)
ATTACKERS = ("alice", "agent", "admin")
TARGET, ROUTE = f"deployment/{NAME}", f"httproute/{NAME}"
SECRETS = Resource("", "v1", "secrets", "Secret")


def rule(groups: list[str], resources: list[str], *verbs: str) -> Object:
    return {"apiGroups": groups, "resources": resources, "verbs": list(verbs)}


@pytest.fixture(scope="module")
def guarded(bed: Bed) -> Iterator[Bed]:
    """Let everybody ask for everything, so that only the guard and the judge stand in the way."""
    rules = [rule([GROUP], ["canaryruns"], "approve", "promote", "bypass")]
    rules += [rule(["discovery.k8s.io", ""], ["endpointslices", "endpoints"], "patch", "create")]
    rules += [rule([""], ["serviceaccounts/token"], "create")]
    bed.make(CLUSTERROLES, "attackers", rules=rules)
    named = [USERS[name][0] for name in ("alice", "bob", "carol", "agent")]
    subjects = [{"apiGroup": RBAC, "kind": "User", "name": name} for name in named]
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "attackers"}
    bed.make(CLUSTERROLEBINDINGS, "attackers", subjects=subjects, roleRef=ref)
    with guard_in_force(bed):
        yield bed
    forget_safety_policies(bed)
    assert bed.kubectl("admin", "delete", "clusterrolebinding/attackers").returncode == 0


def delete(bed: Bed, user: str, resource: Resource, name: str, namespace: str = "") -> tuple[int, str]:
    status, answer = bed.ask(user, "DELETE", resource.at(namespace, name).path())
    return status, str(answer.get("message", ""))


@pytest.fixture(scope="module")
def shop(guarded: Bed) -> Iterator[Shop]:
    """A shop with a healthy change that has 5 % of the traffic and waits for a person."""
    with shop_under_guard(guarded, "attacked", RATE) as shop:
        shop.protect(**WAITING)
        shop.push()
        shop.reach_slice()
        yield shop


# -- the world before and after --------------------------------------------------------------------------------------


def world(shop: Shop) -> Object:
    """Return what serves, by which road, and under which run; nothing of it is an attacker's to change."""
    bed, run = shop.bed, shop.run()

    def specs(resource: Resource) -> Object:
        return {
            each["metadata"]["name"]: each.get("spec") for each in bed.admin.list(resource, shop.namespace)
        }

    return {
        "run": (run["metadata"]["name"], run["status"]["phase"], run["status"]["allowedWeightPpm"]),
        "policy": specs(CANARYPOLICIES),
        "deployments": specs(DEPLOYMENTS),
        "sets": specs(REPLICASETS),
        "services": specs(SERVICES),
        "routes": specs(HTTPROUTES),
        "pods": {
            pod["metadata"]["name"]: (pod["metadata"]["labels"], pod["spec"]["containers"])
            for pod in bed.admin.list(PODS, shop.namespace)
            if "deletionTimestamp" not in pod["metadata"]
        },
        "addresses": addresses(shop),
    }


def addresses(shop: Shop) -> Object:
    """Return the addresses behind each Service."""
    slices = shop.bed.admin.list(ENDPOINTSLICES, shop.namespace)
    return {
        each["metadata"]["name"]: sorted(a for e in each.get("endpoints") or [] for a in e["addresses"])
        for each in slices
    }


@contextmanager
def unharmed(shop: Shop) -> Iterator[None]:
    before = world(shop)
    yield
    assert world(shop) == before
    assert [ppm for _, ppm in shop.chronicle.weights()] == [0, SLICE_PPM]


def refused(shop: Shop, user: str, *words: str, given: Object | None = None) -> str:
    """Let somebody try; return what is said, which has the sentence of the guard that refuses it."""
    text = yaml.safe_dump(given) if given else None
    done = shop.bed.kubectl(user, *words, namespace=shop.namespace, given=text)
    assert done.returncode != 0, (user, words, done.stdout)
    assert "canary-guard-" in done.stderr, (user, words, done.stderr)
    return done.stderr


def patched(patch: object) -> tuple[str, ...]:
    return ("--type=json" if isinstance(patch, list) else "--type=merge", "-p", json.dumps(patch))


def versions(shop: Shop) -> set[str]:
    """Return the versions of the pods that the Service's own Deployment runs."""
    return {pod["metadata"]["labels"]["app.kubernetes.io/version"] for pod in shop.pods()}


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ATTACKERS)
def test_a01_an_edited_template_is_held_and_no_means_lets_it_go(shop: Shop, who: str) -> None:
    with unharmed(shop):
        for words in (
            ("patch", TARGET, *patched({"spec": {"paused": False}})),
            ("patch", TARGET, *patched([{"op": "remove", "path": "/spec/paused"}])),
            ("rollout", "resume", TARGET),
            replaced_without_paused(shop),
        ):
            shop.bed.kubectl(who, *words, namespace=shop.namespace)  # it may well say "resumed"
        assert shop.deployment()["spec"]["paused"] is True
        assert versions(shop) == {manifests.OLD}


@pytest.mark.parametrize("who", ATTACKERS)
def test_a02_the_label_by_which_the_guard_goes_stays(shop: Shop, who: str) -> None:
    with unharmed(shop):
        assert "the label" in refused(shop, who, "label", TARGET, f"{Mark.GUARDED}-")
        assert "the label" in refused(shop, who, "label", TARGET, "--overwrite", f"{Mark.GUARDED}=no")
        assert shop.deployment()["metadata"]["labels"][Mark.GUARDED] == TRUE


@pytest.mark.parametrize("who", ATTACKERS)
def test_a03_a_guarded_deployment_is_not_deleted(shop: Shop, who: str) -> None:
    with unharmed(shop):
        assert "cannot be deleted" in refused(shop, who, "delete", TARGET)
        assert "cannot be deleted" in refused(shop, who, "delete", TARGET, "--cascade=orphan")
        assert "cannot be deleted" in refused(shop, who, "delete", "deployments", "--all")


@pytest.mark.parametrize("who", ATTACKERS)
def test_a04_a_weight_that_raises_or_leaves_nobody_is_refused(shop: Shop, who: str) -> None:
    with unharmed(shop):
        assert "only its controller" in refused(shop, who, "patch", ROUTE, *patched([weight(1, 1_000_000)]))
        assert "only its controller" in refused(shop, who, "patch", ROUTE, *patched([weight(0, 0)]))
        assert "without a backend" in refused(
            shop, who, "patch", ROUTE, *patched([weight(0, 0), weight(1, 0)])
        )


def test_a04_not_even_the_controller_raises_above_what_the_run_allows(shop: Shop) -> None:
    with unharmed(shop):
        status, said = shop.bed.ask(
            "pod",
            "PATCH",
            HTTPROUTES.at(shop.namespace, NAME).path(),
            [weight(1, 60_000)],
            "application/json-patch+json",
        )
        assert (status, "no more than status.allowedWeightPpm" in said["message"]) == (403, True)


def other_roads() -> dict[str, Object]:
    """Return routes and Services of one's own that lead to the side."""
    parents: Object = {"parentRefs": [{"name": "gateway"}]}
    to_side: Object = {"backendRefs": [{"name": SIDE, "port": 80}]}
    narrow = {**to_side, "matches": [{"path": {"type": "PathPrefix", "value": "/checkout"}}]}
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": SIDE, "port": 80}}}
    mirrored = {"backendRefs": [{"name": NAME, "port": 80}], "filters": [mirror]}
    ports = [{"port": 80, "targetPort": "http"}]
    return {
        "a route": HTTPROUTES.at("", "road").manifest(spec={**parents, "rules": [to_side]}),
        "a narrow route": HTTPROUTES.at("", "road").manifest(spec={**parents, "rules": [narrow]}),
        "a mirror": HTTPROUTES.at("", "road").manifest(spec={**parents, "rules": [mirrored]}),
        "a Service": SERVICES.at("", "road").manifest(
            spec={"ports": ports, "selector": {Mark.SIDE.value: SIDE}}
        ),
    }


@pytest.mark.parametrize("who", ATTACKERS)
@pytest.mark.parametrize("road", other_roads())
def test_a05_no_road_of_ones_own_leads_to_the_side(shop: Shop, road: str, who: str) -> None:
    manifest = other_roads()[road]
    manifest["metadata"].pop("namespace", None)
    with unharmed(shop):
        said = refused(shop, who, "create", "-f", "-", given=manifest)
    assert "only its controller gives a side traffic" in said or "matches the pods of a side" in said


def stranger() -> Object:
    """Return a Deployment of another team, whose pods have the labels that the shop's Service selects."""
    labels = {"app": NAME, "team": "another", "app.kubernetes.io/version": "evil"}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [manifests.container("evil", 18080)]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"team": "another"}}, "template": pods}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "another"}, "spec": spec}


@pytest.mark.parametrize("who", ATTACKERS)
def test_a06_foreign_pods_with_the_services_labels_are_never_made(shop: Shop, who: str) -> None:
    bed, namespace = shop.bed, shop.namespace

    def said() -> str:
        found = [
            each
            for each in bed.admin.list(REPLICASETS, namespace)
            if each["metadata"]["name"].startswith("another-")
        ]
        conditions = [c for each in found for c in (each.get("status") or {}).get("conditions") or []]
        return " ".join(each["message"] for each in conditions if each["type"] == "ReplicaFailure")

    with unharmed(shop):
        pod = {**stranger()["spec"]["template"], "apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = {**pod["metadata"], "name": "another"}
        assert "give other pods other labels" in refused(shop, who, "create", "-f", "-", given=pod)
        done = bed.kubectl(who, "create", "-f", "-", namespace=namespace, given=yaml.safe_dump(stranger()))
        assert done.returncode == 0, done.stderr
        bed.until(
            lambda: "give other pods other labels" in said(), "the ReplicaSet is told why it has no pods"
        )
        assert addresses(shop).keys()
        assert not [p for p in shop.pods() if p["metadata"]["labels"].get("team")]
        assert bed.kubectl(who, "delete", "deployment/another", namespace=namespace).returncode == 0
        bed.until(lambda: not said(), "the foreign Deployment is gone")


@pytest.mark.parametrize("who", ATTACKERS)
def test_a07_what_runs_is_not_touched(shop: Shop, who: str) -> None:
    pod = shop.pods()[0]["metadata"]
    owner = f"replicaset/{pod['ownerReferences'][0]['name']}"
    slices = [name for name in addresses(shop) if name.startswith(f"{NAME}-") and not name.startswith(SIDE)]
    nobody = [{"op": "replace", "path": "/endpoints", "value": []}]
    with unharmed(shop):
        assert "its images stay" in refused(
            shop, who, "set", "image", f"pod/{pod['name']}", "shop=registry.example/shop:x"
        )
        assert "the labels" in refused(shop, who, "label", "pod", pod["name"], "app-")
        assert "by eviction" in refused(shop, who, "delete", "pod", pod["name"], "--force")
        assert "by eviction" in refused(shop, who, "delete", "pods", "-l", f"app={NAME}")
        assert "keeps its pods" in refused(shop, who, "scale", owner, "--replicas=0")
        assert "only the Deployment controller" in refused(
            shop, who, "set", "image", owner, "shop=registry.example/shop:x"
        )
        assert "only the Deployment controller" in refused(shop, who, "delete", owner, "--cascade=orphan")
        assert "keeps the pods" in refused(shop, who, "scale", TARGET, "--replicas=0")
        assert "addresses" in refused(shop, who, "patch", "endpointslice", slices[0], *patched(nobody))
        assert "addresses" in refused(shop, who, "patch", "endpoints", NAME, *patched({"subsets": []}))


def test_a07_a_machine_runs_no_command_in_a_pod(shop: Shop) -> None:
    path = PODS.at(shop.namespace, shop.pods()[0]["metadata"]["name"]).path
    with unharmed(shop):
        for what in ("exec", "attach"):
            status, said = shop.bed.ask("agent", "POST", path(what), command="id", stdout="true")
            assert (status, "machines run nothing in it" in said["message"]) == (403, True)


@pytest.mark.parametrize("who", ATTACKERS)
def test_a08_guarded_configuration_stays_what_the_pods_were_judged_with(shop: Shop, who: str) -> None:
    labels = {"labels": {Mark.GUARDED.value: TRUE}}
    for resource, data in ((CONFIGMAPS, {"tax": "19"}), (SECRETS, {"tax": "MTk="})):
        ref, named = resource.at(shop.namespace, "settings"), f"{resource.plural}/settings"
        if shop.bed.admin.get(ref) is None:
            shop.bed.make(resource, "settings", shop.namespace, metadata=labels, data=data)
        assert "under another name" in refused(shop, who, "patch", named, *patched({"data": {"tax": "MA=="}}))
        assert "under another name" in refused(shop, who, "delete", named)
        stored = shop.bed.admin.get(ref)
        assert stored is not None
        assert stored["data"] == data


@pytest.mark.parametrize("who", ATTACKERS)
def test_a11_nobody_writes_a_status(shop: Shop, who: str) -> None:
    run, policy = f"canaryrun/{shop.run()['metadata']['name']}", f"canarypolicy/{NAME}"
    lies: tuple[tuple[str, Object], ...] = (
        (run, {"allowedWeightPpm": 1_000_000}),
        (run, {"approvals": []}),
        (run, {"phase": "Promoted"}),
        (policy, {"adopted": False}),
    )
    with unharmed(shop):
        for what, status in lies:
            words = ("patch", what, "--subresource=status", *patched({"status": status}))
            assert "only canary's controller writes" in refused(shop, who, *words)
        assert "only canary's controller writes runs" in refused(shop, who, "delete", run)


def test_a15_canary_itself_is_not_taken_away(shop: Shop) -> None:
    """Not even by an administrator; what an admission policy cannot protect is noticed: see the list."""
    bed = shop.bed
    kinds = [
        each["metadata"]["name"]
        for each in bed.admin.list(CRDS)
        if each["spec"]["group"] == "canary-controller.io"
    ]
    taken = [(LEASES, each["metadata"]["name"], SYSTEM) for each in bed.admin.list(LEASES, SYSTEM)]
    assert len(kinds) == 4
    assert len(taken) >= 2
    taken += [(CRDS, name, "") for name in kinds] + [
        (PODS, POD, SYSTEM),
        (SERVICEACCOUNTS, "canary-controller", SYSTEM),
    ]
    with unharmed(shop):
        for resource, name, namespace in taken:
            status, said = delete(bed, "admin", resource, name, namespace)
            assert (status, "canary-guard-" in said) == (403, True), said
        for words in (("delete", "namespace", SYSTEM), ("delete", "canarypolicy", NAME)):
            refused(shop, "admin", *words)
        status, said = bed.ask(
            "admin", "DELETE", CRDS.collection(None), fieldSelector=f"metadata.name={kinds[0]}"
        )
        assert (status, "only a platform group" in said["message"]) == (403, True)


@pytest.mark.parametrize("who", ATTACKERS)
def test_a17_no_pod_of_others_counts_for_a_version(shop: Shop, who: str) -> None:
    """What a version's own pods count, it may forge: see the list for what notices that."""
    side = shop.pods(**{Mark.SIDE.value: SIDE})[0]["metadata"]["labels"]
    spec = {"containers": [manifests.container("forger", 18080)]}
    forger = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "forger", "labels": side}, "spec": spec}
    harmless = {**forger, "metadata": {"name": "forger", "labels": {"app": "forger"}}}
    with unharmed(shop):
        assert "give other pods other labels" in refused(shop, who, "create", "-f", "-", given=forger)
        words = ("create", "-f", "-", "--dry-run=server")
        done = shop.bed.kubectl(who, *words, namespace=shop.namespace, given=yaml.safe_dump(harmless))
        assert done.returncode == 0, done.stderr
        assert "give other pods other labels" in refused(
            shop, who, "label", "pod", shop.pods()[0]["metadata"]["name"], f"{Mark.SIDE}={SIDE}"
        )


@pytest.mark.parametrize("who", ATTACKERS)
def test_a20_no_token_of_the_controller_is_to_be_had_and_one_without_its_pod_is_a_strangers(
    shop: Shop, who: str
) -> None:
    path = SERVICEACCOUNTS.at(SYSTEM, "canary-controller").path("token")
    bound = {"apiVersion": "v1", "kind": "Pod", "name": POD}
    route = HTTPROUTES.at(shop.namespace, NAME).path()
    with unharmed(shop):
        for spec in ({"audiences": []}, {"audiences": [], "boundObjectRef": bound}):
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            status, _ = shop.bed.ask(who, "POST", path, body)
            assert status == 403
        status, said = shop.bed.ask(
            "controller", "PATCH", route, [weight(1, 49_000)], "application/json-patch+json"
        )
        assert (status, "only its controller" in said["message"]) == (403, True)
        run = CANARYRUNS.at(shop.namespace, shop.run()["metadata"]["name"]).path("status")
        status, said = shop.bed.ask(
            "controller", "PATCH", run, {"status": {"allowedWeightPpm": 1_000_000}}, MERGE_PATCH
        )
        assert status in (403, 422), said


@pytest.mark.parametrize("who", ATTACKERS)
def test_a22_what_customers_come_by_is_not_deleted_one_by_one_or_all_at_once(shop: Shop, who: str) -> None:
    own = {"fieldSelector": f"metadata.name={NAME}"}
    with unharmed(shop):
        assert "its customers come by it" in refused(shop, who, "delete", f"service/{NAME}")
        assert "while it leads to a side" in refused(shop, who, "delete", ROUTE)
        for resource in (SERVICES, HTTPROUTES, DEPLOYMENTS):
            status, said = shop.bed.ask(who, "DELETE", resource.collection(shop.namespace), **own)
            assert (status, "canary-guard-" in said["message"]) == (403, True), said
        assert "only canary writes it" in refused(
            shop, who, "set", "image", f"deployment/{SIDE}", "shop=registry.example/x"
        )
        assert "only canary writes it" in refused(shop, who, "delete", f"deployment/{SIDE}")
        assert "only canary writes it" in refused(shop, who, "delete", f"service/{SIDE}")


def test_a22_the_namespace_is_not_deleted(shop: Shop) -> None:
    with unharmed(shop):
        said = refused(shop, "admin", "delete", "namespace", shop.namespace)
    assert "deleting it would end its pods at once" in said


def test_all_of_it_cost_no_customer_anything(shop: Shop) -> None:
    sales = shop.close_shop()
    total, new = sales["total"], sales["by_version"][manifests.NEW]
    assert total["requests"] > 500
    assert (total["wanted"] - total["placed"], total["broken"]) == (0, 0)
    assert new["requests"] / total["requests"] < 2 * SLICE_PPM / 1_000_000
    assert set(sales["by_version"]) <= {manifests.OLD, manifests.NEW, ""}


# -- what is answered ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def glass(guarded: Bed) -> stories.BrokenGlass:
    return stories.break_the_glass(guarded)


def test_a04_a_raise_through_broken_glass_is_taken_back_and_pages(glass: stories.BrokenGlass) -> None:
    status = glass.paused["status"]
    assert glass.raised[:2] == [0, SLICE_PPM]
    assert glass.raised[-1] == 0
    assert status["reason"] == Reason.WEIGHT_DRIFT
    assert status["allowedWeightPpm"] <= SLICE_PPM
    assert "WeightDrift" in [reason for _, reason in glass.told]


def test_a03_what_was_deleted_is_held_as_it_is_made_anew_and_the_last_good_version_serves(
    glass: stories.BrokenGlass,
) -> None:
    assert glass.ended["status"]["phase"] in {Phase.ROLLING_BACK, *(phase for phase in Phase if phase.final)}
    assert glass.recreated["metadata"]["uid"] != glass.ended["spec"]["target"]["uid"]
    assert glass.recreated["spec"]["paused"] is True
    assert glass.recreated["metadata"]["labels"][Mark.GUARDED] == TRUE
    assert glass.recreated["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":{stories.NEWER}")
    owned = {owner["uid"] for each in glass.made for owner in each["metadata"]["ownerReferences"]}
    assert glass.recreated["metadata"]["uid"] not in owned, "no pod of it was ever asked for"
    assert stories.LOST & set(glass.told)
    assert TARGET_LOST & {reason for _, reason in glass.recorded}


@pytest.fixture(scope="module")
def reviewed(guarded: Bed) -> stories.Reviewed:
    return stories.review(guarded)


def test_a12_an_author_a_machine_an_administrator_and_one_person_twice_are_not_two(
    reviewed: stories.Reviewed,
) -> None:
    said = dict(reviewed.answers)
    assert "you wrote this change (as dana)" in said["alice"]
    assert "no person" in said["admin"]
    assert "a machine may ask to abort and to hold only" in reviewed.by_the_agent
    assert {text[:44] for user, text in reviewed.answers if user == "bob"} == {
        "recorded; has bob, needs 1 approver of devs,"
    }
    assert not any(reviewed.unapproved)


def test_a13_an_approval_is_its_makers_and_stays_as_it_was_made(reviewed: stories.Reviewed) -> None:
    assert reviewed.forged["spec"]["requester"] == "alice"
    assert reviewed.forged["spec"]["groups"] == ["devs", "system:authenticated"]
    assert set(reviewed.tampered.values()) <= {403, 422}
    assert reviewed.untouched
    assert not any(reviewed.unapproved)


def test_a10_a_policy_that_is_loosened_waits_for_the_people_whom_the_rules_ask(
    reviewed: stories.Reviewed,
) -> None:
    assert reviewed.weaker["fields"] == ["steps"]
    assert {(run, ppm) for run, ppm, _ in reviewed.meanwhile} == {(reviewed.meanwhile[0][0], SLICE_PPM)}
    words = reviewed.words
    assert "you wrote this change" in words["alice"]
    assert words["agent"].startswith(("2 ", "4 "))
    assert words["bob"].startswith("0 "), words
    assert "that is all: the text is in force" in words["carol"]


def test_a10_a_policy_that_is_loosened_by_a_quorum_in_mid_run_takes_slice_and_approvals_away(
    reviewed: stories.Reviewed,
) -> None:
    assert [each["weight"] for each in reviewed.after_policy["spec"]["policy"]["steps"]] == ["100%"]
    assert not reviewed.after_policy["status"].get("approvals")
    assert reviewed.after_policy["status"]["allowedWeightPpm"] == 0
    assert reviewed.weights[:3] == [0, SLICE_PPM, 0]


def test_a14_a_change_that_is_changed_after_its_approval_has_none(reviewed: stories.Reviewed) -> None:
    assert reviewed.after_push["spec"]["revision"]["version"] == stories.NEWER
    assert not reviewed.after_push["status"].get("approvals")
    assert reviewed.after_push["status"]["allowedWeightPpm"] == 0
    assert reviewed.weights[-1] == 0


def test_a21_a_borrowed_name_does_not_count_where_presence_is_asked_for(reviewed: stories.Reviewed) -> None:
    assert [user for user, _ in reviewed.borrowed] == ["bob", "carol"]
    assert all("security key" in text for _, text in reviewed.borrowed)
    assert reviewed.by_a_borrower != 0
    assert reviewed.weights[-1] == 0


@pytest.mark.parametrize("who", ["agent", "controller"])
def test_a10_a_machine_writes_no_policy(shop: Shop, who: str) -> None:
    for patch in ({"spec": {"tier": 4}}, {"spec": {"mode": "Observe"}}):
        said = shop.bed.ask(who, "PATCH", CANARYPOLICIES.at(shop.namespace, NAME).path(), patch, MERGE_PATCH)
        assert said[0] == 403
    assert "machines write no policies" in refused(
        shop, "agent", "patch", f"canarypolicy/{NAME}", *patched({"spec": {"tier": 4}})
    )


@pytest.fixture(scope="module")
def moved(guarded: Bed) -> stories.Moved:
    return stories.push_the_tag_again(guarded)


def test_a09_other_bytes_under_a_tested_tag_lose_the_slice(moved: stories.Moved) -> None:
    assert moved.weights[:3] == [0, SLICE_PPM, 0]
    assert moved.first["status"]["phase"] in {phase.value for phase in Phase if phase.final}
    assert Reason.IMAGE_CHANGED in [each["reason"] for each in moved.first["status"]["timeline"]]
    assert not moved.then["status"].get("approvals")


@pytest.fixture(scope="module")
def pestered(guarded: Bed) -> stories.Pestered:
    return stories.pester(guarded)


def test_a16_a_flood_delays_no_rollback(pestered: stories.Pestered) -> None:
    total = pestered.sales["total"]
    assert pestered.flood > 50
    assert set(pestered.oversized.values()) == {422}
    assert pestered.weights == [0, SLICE_PPM, 0]
    assert 0 < total["wanted"] - total["placed"] < 90  # 1.5 a second at this slice
    assert total["broken"] == 0


def test_a18_what_nobody_can_read_is_named_and_stops_nothing_else(pestered: stories.Pestered) -> None:
    ready = {each["type"]: each for each in pestered.poisoned["status"]["conditions"]}
    assert (ready["Stalled"]["status"], ready["Stalled"]["reason"]) == ("True", "PolicyInvalid")
    assert "errors" in ready["Stalled"]["message"]
    assert pestered.run["status"]["reason"] == Reason.ORDERS_COLLAPSED


def test_a19_an_address_that_the_settings_do_not_name_is_never_asked(pestered: stories.Pestered) -> None:
    assert pestered.asked_of_deputy == 0
    assert "is not an allowed Prometheus" in json.dumps(pestered.deputy["status"])
