"""The guard, rule by rule, on the real API server: every road is tried by everybody, and open to whom the table says.

All of them hold every ordinary right, the administrator and a senior also that to break the glass: what refuses is the
guard alone. The requests are dry runs, which the rules do not spare, so each of them meets the same world.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import guard_pods as running
import guard_roads as roads
import guard_surroundings as further
import pytest
from cluster_bed import Bed
from guard_on_bed import (
    APPLY,
    EVERYBODY,
    SETTINGS,
    Road,
    fate,
    forget_safety_policies,
    give_pod,
    installed,
    merge,
    rights_given,
    send,
    travel,
    type_warnings,
)

from canary.api.change import ChangeAnnotation
from canary.api.marks import TRUE, Mark
from canary.guard.fingerprint import KINDS, Fingerprint, differences
from canary.guard.mutations import MUTATIONS, manifests
from canary.guard.policies import guard, policies, version_of
from canary.guard.policy import VALIDATING, VALIDATING_BINDINGS, Policy, Settings
from canary.kube import resources
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, DEPLOYMENTS, SAFETYPOLICIES, Resource
from canary.kube.transport import JSON, MERGE_PATCH
from canary.lab.clock import SimClock

pytest_plugins = ["cluster_fixtures"]
TABLES: dict[str, dict[str, Road]] = {
    "G1": roads.WORKLOAD,
    "G8": {**roads.SIDES, **{f"{name}, by our controller": road for name, road in roads.DELETIONS.items()}},
    "G4": roads.ROUTES,
    "G5": {**roads.CEILING, **{f"slices, {name}": road for name, road in further.SLICE_CEILING.items()}},
    "G10": {**roads.REQUESTS, **roads.KINDS},
    "G3": further.SERVICE_ROADS,
    "G2": further.SCALES,
    "G6": further.ENDPOINT_ROADS,
    "G7": {f"{table}, {name}": road for table, rows in running.ROADS.items() for name, road in rows.items()},
    "G9": further.CONFIG_ROADS,
    "G11": further.SCOPE_ROADS,
    "G12": further.OWN_ROADS,
}
OLDER = (1, 35)  # which writes nothing by itself: there the rules alone have to hold
CASES = [
    pytest.param(road, id=f"{rule} {name}") for rule, table in TABLES.items() for name, road in table.items()
]


@pytest.fixture(scope="module")
def guarded(bed: Bed) -> Iterator[Bed]:
    give_pod(bed)
    roads.guarded_world(bed)
    further.surroundings(bed)
    running.pods_of_the_world(bed)
    every = [(road, user) for table in TABLES.values() for road in table.values() for user in EVERYBODY]
    closed = {road.policy: (road, user) for road, user in every if user not in road.open_to}

    def not_yet() -> dict[str, str]:
        found = {name: fate(bed, road, user) for name, (road, user) in closed.items()}
        return {name: said for name, said in found.items() if said != "refused"}

    with rights_given(bed), installed(bed, guard(SETTINGS, OLDER), not_yet):
        yield bed
    forget_safety_policies(bed)


def test_the_server_has_nothing_to_say_against_the_types(guarded: Bed) -> None:
    assert {name: said for name, said in type_warnings(guarded).items() if said} == {}


@pytest.mark.parametrize("road", CASES)
def test_a_road_is_open_to_those_whom_the_table_names(guarded: Bed, road: Road) -> None:
    wanted = {user: "passes" if user in road.open_to else "refused" for user in EVERYBODY}
    assert {user: fate(guarded, road, user) for user in EVERYBODY} == wanted


def canary(bed: Bed, *words: str, user: str = "admin") -> subprocess.CompletedProcess[str]:
    """Run the command line as a user."""
    command = [sys.executable, "-m", "canary.cli.main", *words, "--kubeconfig", str(bed.kubeconfig(user))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


RANDOM_EDITS = 600


def random_rule(chance: random.Random) -> dict[str, Any]:
    """Return a rule with up to three references, of any weight or none, and perhaps a mirror."""

    def ref() -> dict[str, Any]:
        name = chance.choice(["shop", "shop", "other", "shop-canary", "shop-lastgood"])
        weight = chance.choice([None, 0, 0, 1, 1_000_000])
        return {"name": name, "port": 80, **({} if weight is None else {"weight": weight})}

    def mirror() -> dict[str, Any]:
        to = {"name": chance.choice(["shop", "shop-canary"]), "port": 80}
        return {"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": to}}]}

    refs = [{**ref(), **(mirror() if chance.random() < 0.1 else {})} for _ in range(chance.randint(0, 3))]
    return {"backendRefs": refs, **(mirror() if chance.random() < 0.1 else {})}


def may_stand(rules: list[dict[str, Any]]) -> bool:
    """Tell whether anybody may write these rules over a route that names a side: the rule, said another way."""
    for rule in rules:
        refs = rule["backendRefs"]
        filters = [each for holder in (rule, *refs) for each in holder.get("filters", [])]
        mirrored = [each["requestMirror"]["backendRef"]["name"] for each in filters]
        reached = [each["name"] for each in refs if each.get("weight", 1) > 0]
        if {"shop-canary", "shop-lastgood"} & {*mirrored, *reached} or (refs and not reached):
            return False
    return True


def test_of_random_edits_of_a_route_those_pass_that_reach_no_side_and_leave_nobody_without(
    guarded: Bed,
) -> None:
    seed = random.randrange(10**9)
    chance, met = random.Random(seed), {True: 0, False: 0}
    for number in range(RANDOM_EDITS):
        rules = [random_rule(chance) for _ in range(chance.randint(1, 2))]
        edit = merge("routes", roads.ROUTE, {"spec": {"rules": rules}}, "alice")
        allowed = may_stand(rules)
        assert fate(guarded, edit, "alice") == ("passes" if allowed else "refused"), (seed, number, rules)
        met[allowed] += 1
    assert min(met.values()) > RANDOM_EDITS / 20, (seed, met)


ASKED = {
    ("alice", "hold"): "",
    ("agent", "hold"): "",
    ("bob", "approve"): "",
    ("bob", "promote"): "",
    ("alice", "approve"): "you may not ask for this",
    ("agent", "promote"): "a machine may ask to abort and to hold only",
}


@pytest.mark.parametrize(("user", "verb"), ASKED)
def test_the_command_line_fills_in_what_the_guard_wants_to_know(guarded: Bed, user: str, verb: str) -> None:
    words = (verb, "run/shop-1", "--namespace", roads.SHOP, "--reason", roads.TEXT, "--dry-run")
    done = canary(guarded, *words, user=user)
    said = ASKED[user, verb]
    assert said in done.stderr
    assert done.returncode == (4 if said else 0), done.stderr


def test_every_rule_is_the_first_to_refuse_something(guarded: Bed) -> None:
    """So a rule that is weakened to nothing makes the tables fail: no other one stands before it everywhere."""
    every = [(road, user) for table in TABLES.values() for road in table.values() for user in EVERYBODY]
    said = " ".join({travel(guarded, road, user)[1] for road, user in every if user not in road.open_to})
    rules = [(policy.name, rule.says) for policy in policies(SETTINGS) for rule in policy.rules]
    assert [(name, says) for name, says in rules if says not in said] == []


LEAST_ASKED = 40
COLLECTIONS = tuple(f"/{each.plural}" for each in vars(resources).values() if isinstance(each, Resource))
COLLECTIONS += ("/endpoints", "/secrets")
NO_COLLECTION = "namespaces"  # of which the API server deletes no collections
SENT = [(road, user) for table in TABLES.values() for road in table.values() for user in EVERYBODY]
"""Every request that the test of roads sends, and by whom."""


@pytest.mark.parametrize("policy", policies(SETTINGS), ids=lambda policy: policy.name)
def test_a_policy_is_asked_at_least_forty_times_for_leave_and_refusal(policy: Policy) -> None:
    asked = [user in road.open_to for road, user in SENT if road.policy == policy.name]
    assert len(asked) >= LEAST_ASKED
    assert {True, False} <= set(asked)


@pytest.mark.parametrize("policy", policies(SETTINGS), ids=lambda policy: policy.name)
def test_a_policy_is_asked_in_every_manner_that_its_operations_know(policy: Policy) -> None:
    """A name that the server makes up, an apply by force, a whole collection; all of them are dry runs."""
    here = [road for road, _ in SENT if road.policy == policy.name]
    for each in (each for each in policy.requests if any("/" not in kind for kind in each.resources)):
        shown = {
            "CREATE": any("generateName" in str(road.body) for road in here),
            "UPDATE": any(road.media == APPLY for road in here),
            "DELETE": any(road.method == "DELETE" and road.path.endswith(COLLECTIONS) for road in here),
        }
        missing = [operation for operation in each.operations if not shown[operation]]
        assert missing == (["DELETE"] if policy.name == NO_COLLECTION else [])


# -- is it still in place? -------------------------------------------------------------------------------------------

RULE, BINDING = (
    VALIDATING.at("", "canary-guard-workload"),
    VALIDATING_BINDINGS.at("", "canary-guard-workload"),
)
WEAKENED: dict[str, tuple[Any, dict[str, Any]]] = {
    "it only tells": (BINDING, {"validationActions": ["Audit"]}),
    "it is narrowed": (BINDING, {"matchResources": {"objectSelector": {"matchLabels": {"a": "b"}}}}),
    "an error opens it": (RULE, {"failurePolicy": "Ignore"}),
    "some are left out": (RULE, {"matchConditions": [{"name": "x", "expression": "false"}]}),
    "a rule is gone": (RULE, {"validations": [{"expression": "true"}]}),
    "who breaks the glass is not told": (RULE, {"auditAnnotations": None}),
}


def test_what_is_stored_is_what_was_printed(guarded: Bed) -> None:
    assert differences(guarded.admin, guard(SETTINGS, OLDER)) == ()


@pytest.mark.parametrize("name", WEAKENED)
def test_a_weakened_rule_is_found(guarded: Bed, name: str) -> None:
    ref, patch = WEAKENED[name]
    guarded.admin.merge_patch(ref, {"spec": patch}, intent=Intent.NEUTRAL)
    found = differences(guarded.admin, guard(SETTINGS, OLDER))
    put_back(guarded, "replace")
    assert found == (f"{ref.resource.kind} {ref.name} was changed (spec.{next(iter(patch))})",)
    assert differences(guarded.admin, guard(SETTINGS, OLDER)) == ()


def put_back(bed: Bed, *words: str) -> None:
    """Do what the page of a broken guard says."""
    printed = canary(bed, "guard", "--kubernetes", "1.35", *FLAGS).stdout
    done = bed.kubectl("admin", *words, "-f", "-", given=printed)
    assert done.returncode == 0, done.stderr


def test_a_rule_that_is_gone_is_found(guarded: Bed) -> None:
    stored = guarded.admin.get(BINDING) or {}
    guarded.admin.delete(BINDING, uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL)
    found = differences(guarded.admin, guard(SETTINGS, OLDER))
    put_back(guarded, "apply", "--server-side")
    assert found == ("ValidatingAdmissionPolicyBinding canary-guard-workload is missing",)
    assert differences(guarded.admin, guard(SETTINGS, OLDER)) == ()


def test_the_command_line_says_what_is_missing(guarded: Bed) -> None:
    whole = canary(guarded, "guard", "--check", "--kubernetes", "1.35", *FLAGS)
    newer = canary(guarded, "guard", "--check", *FLAGS)
    others = canary(guarded, "guard", "--check", "--kubernetes", "1.35")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert newer.returncode == others.returncode == 1
    assert "MutatingAdmissionPolicy canary-guard-hold is missing" in newer.stdout
    assert "canary-guard-policies was changed (spec.validations)" in others.stdout


# -- what newer versions write by themselves -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(guarded: Bed) -> Iterator[Bed]:
    answer = guarded.ask("admin", "GET", "/version")[1]
    assert version_of(answer["gitVersion"]) >= (1, 36)
    probe = {"spec": {"template": {"metadata": {"labels": {"probe": "1"}}}}}

    def not_yet() -> object:
        held = guarded.ask("alice", "PATCH", roads.UNHELD, probe, MERGE_PATCH, dryRun="All")
        asked = guarded.ask("bob", "POST", REQUESTS, roads.asking("abort", "alice"), JSON, dryRun="All")
        return held if held[0] != 200 else asked if asked[0] != 201 else None

    with installed(guarded, [each for one in MUTATIONS for each in manifests(one, SETTINGS)], not_yet):
        yield guarded


REQUESTS = CANARYREQUESTS.collection(roads.SHOP)
FLAGS = ("--platform-group", *SETTINGS.platform_groups, "--gitops-account", *SETTINGS.gitops_accounts)
HELD = ("alice", "agent", "admin", "account")  # whom the hold is carried through
WRITES = {name: road for name, road in roads.WORKLOAD.items() if road.method in ("PATCH", "PUT")}
AUTHORED = {
    name: road
    for name, road in roads.KINDS.items()
    if road.policy in ("policies", "safety") and road.method != "DELETE"
}
ASKING = {name: road for name, road in roads.REQUESTS.items() if road.method == "POST"}
CARRIED = {
    name: road
    for name, road in roads.WORKLOAD.items()
    if name.startswith(("paused:", "no paused", "paused taken", "replaced", "a new template"))
}


def test_all_of_it_is_what_the_cluster_ought_to_have(written: Bed) -> None:
    done = canary(written, "guard", "--check", *FLAGS)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(KINDS) <= {each["kind"] for each in guard(SETTINGS, (1, 36))}


def test_the_controller_trusts_a_reading_for_half_a_minute_and_asks_for_the_label(written: Bed) -> None:
    clock = SimClock()
    fingerprint = Fingerprint(written.admin, SETTINGS, clock)
    assert fingerprint.broken(roads.SHOP) == "whether the guard is in place is not known: it was not read yet"
    fingerprint.read()
    assert fingerprint.broken(roads.SHOP) == ""
    assert f"kubectl label namespace {roads.PLAIN} canary-controller.io/guarded=true" in fingerprint.broken(
        roads.PLAIN
    )
    clock.sleep(29.9)
    assert fingerprint.broken(roads.SHOP) == ""
    clock.sleep(0.1)
    assert "not known" in fingerprint.broken(roads.SHOP)
    fingerprint.read()
    assert fingerprint.broken(roads.SHOP) == ""


def test_a_guard_of_other_settings_or_out_of_sight_is_no_guard(written: Bed) -> None:
    others = Fingerprint(written.admin, Settings(platform_groups=("wardens",)), SimClock())
    written.welcome("stranger", "a token that nobody issued")
    blind = Fingerprint(written.client("stranger"), SETTINGS, SimClock())
    for each in (others, blind):
        each.read()
    assert "the guard is broken: ValidatingAdmissionPolicy canary-guard-" in others.broken(roads.SHOP)
    assert "is not known" in blind.broken(roads.SHOP)


@pytest.mark.parametrize("user", HELD)
@pytest.mark.parametrize("name", CARRIED)
def test_the_hold_is_carried_through_every_write(written: Bed, name: str, user: str) -> None:
    status, stored = send(written, CARRIED[name], user)
    assert status == 200, stored
    assert stored["spec"]["paused"] is True
    assert not any(
        "f:paused" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in stored["metadata"]["managedFields"]
        if entry["manager"] not in ("python", "OpenAPI-Generator", "canary-controller", "pipeline")
    )


@pytest.mark.parametrize("name", WRITES)
def test_a_changed_template_names_its_writer_and_nothing_else_does(written: Bed, name: str) -> None:
    road, key = WRITES[name], ChangeAnnotation.CHANGED_BY
    before = written.ask("admin", "GET", road.path)[1]
    for user in EVERYBODY:
        status, stored = send(written, road, user)
        if status == 200:
            changed = stored["spec"]["template"] != before["spec"]["template"]
            noted = (stored["metadata"].get("annotations") or {}).get(key)
            assert noted == (roads.NAMES[user][0] if changed else None), user


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize("name", further.HELD_ANEW)
def test_what_was_held_and_deleted_is_held_as_it_is_made_anew(written: Bed, name: str, user: str) -> None:
    status, stored = send(written, further.HELD_ANEW[name], user)
    assert status == 201, stored
    assert stored["spec"]["paused"] is True
    assert stored["metadata"]["labels"][Mark.GUARDED] == TRUE
    assert stored["metadata"]["annotations"][ChangeAnnotation.CHANGED_BY] == roads.NAMES[user][0]


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize("name", further.NOT_HELD)
def test_what_was_never_held_is_not_held_as_it_is_made(written: Bed, name: str, user: str) -> None:
    status, stored = send(written, further.NOT_HELD[name], user)
    assert status == 201, stored
    assert "paused" not in stored["spec"]
    assert Mark.GUARDED not in stored["metadata"].get("labels", {})


@pytest.mark.parametrize("name", AUTHORED)
def test_a_policy_names_who_wrote_its_text(written: Bed, name: str) -> None:
    road, key = AUTHORED[name], ChangeAnnotation.CHANGED_BY
    before = written.ask("admin", "GET", road.path)[1] if road.method != "POST" else {}
    for user in EVERYBODY:
        status, stored = send(written, road, user)
        assert status in (200, 201, 403), (user, stored)
        if status != 403:
            changed = stored["spec"] != before.get("spec")
            noted = (stored["metadata"].get("annotations") or {}).get(key)
            assert noted == (roads.NAMES[user][0] if changed else None), user


FORGED = {"metadata": {"annotations": {ChangeAnnotation.CHANGED_BY.value: "carol"}}}
FORGERIES: dict[str, dict[str, Any]] = {
    "another name": FORGED,
    "taken off": {"metadata": {"annotations": {ChangeAnnotation.CHANGED_BY.value: None}}},
    "all annotations taken off": {"metadata": {"annotations": None}},
}


@pytest.fixture(scope="module")
def noted(written: Bed) -> dict[str, str]:
    """A Deployment and two policies whose newest text alice wrote, by their paths."""
    labels = {"labels": {Mark.GUARDED.value: TRUE}}
    held = DEPLOYMENTS.at(roads.SHOP, "noted").manifest(
        labels, spec={**roads.pods_of("noted"), "paused": True}
    )
    made = [
        (DEPLOYMENTS.at(roads.SHOP, "noted"), held),
        (SAFETYPOLICIES.at("", "noted"), roads.safety_policy("noted")),
        (
            CANARYPOLICIES.at(roads.PLAIN, "noted"),
            CANARYPOLICIES.at(roads.PLAIN, "noted").manifest(spec=roads.policy_spec()),
        ),
    ]
    for ref, manifest in made:
        status, said = written.ask("alice", "POST", ref.resource.collection(ref.namespace), manifest)
        assert status == 201, said
    deployment = made[0][0].path()
    status, said = written.ask("alice", "PATCH", deployment, {"spec": {"template": roads.NEWER}}, MERGE_PATCH)
    assert status == 200, said
    return {
        "deployment": deployment,
        "its status": made[0][0].path("status"),
        "safety policy": made[1][0].path(),
        "policy": made[2][0].path(),
    }


@pytest.mark.parametrize("what", ["deployment", "its status", "safety policy", "policy"])
@pytest.mark.parametrize("name", FORGERIES)
def test_nobody_writes_who_wrote_it(written: Bed, noted: dict[str, str], what: str, name: str) -> None:
    for user in ("alice", "bob", "admin", "pod"):
        status, stored = written.ask(user, "PATCH", noted[what], FORGERIES[name], MERGE_PATCH, dryRun="All")
        assert status in (200, 403), stored
        if status == 200:
            assert stored["metadata"]["annotations"][ChangeAnnotation.CHANGED_BY] == "alice", user


def test_who_never_wrote_a_text_is_not_noted_for_it(written: Bed) -> None:
    status, stored = written.ask("alice", "PATCH", roads.UNHELD, FORGED, MERGE_PATCH, dryRun="All")
    assert status == 200, stored
    assert stored["metadata"]["annotations"][ChangeAnnotation.CHANGED_BY] == ""


@pytest.mark.parametrize("name", ASKING)
def test_a_request_is_in_the_name_of_who_makes_it_or_is_refused(written: Bed, name: str) -> None:
    for user in EVERYBODY:
        status, stored = send(written, ASKING[name], user)
        assert status in (201, 403), (user, stored)
        if status == 201:
            assert stored["spec"]["requester"] == roads.NAMES[user][0]
            assert set(roads.NAMES[user][1]) <= set(stored["spec"]["groups"])


def test_what_writes_is_asked_at_least_forty_times() -> None:
    asked = {"hold": len(CARRIED) * len(HELD)}
    anew = {**further.HELD_ANEW, **further.NOT_HELD}
    every = {"writer": WRITES, "anew": anew, "author": AUTHORED, "requester": ASKING}
    asked |= {name: len(table) * len(EVERYBODY) for name, table in every.items()}
    assert asked.keys() == {each.name for each in MUTATIONS}
    assert min(asked.values()) >= LEAST_ASKED


def test_the_controller_still_opens_the_lock(written: Bed) -> None:
    status, stored = written.ask(
        "pod", "PATCH", roads.DEPLOYMENT, {"spec": {"paused": False}}, MERGE_PATCH, dryRun="All"
    )
    assert status == 200
    assert not stored["spec"].get("paused")


def test_who_pushes_is_written_down_whatever_they_say(written: Bed) -> None:
    note = {"annotations": {ChangeAnnotation.CHANGED_BY.value: "bob"}}
    patch = {"metadata": note, "spec": {"template": roads.NEWER}}
    status, stored = written.ask("agent", "PATCH", roads.DEPLOYMENT, patch, MERGE_PATCH, dryRun="All")
    assert status == 200, stored
    assert stored["metadata"]["annotations"][ChangeAnnotation.CHANGED_BY] == "system:serviceaccount:ci:agent"


def test_who_asks_is_written_down_whatever_they_say(written: Bed) -> None:
    status, stored = written.ask(
        "bob", "POST", REQUESTS, roads.asking("approve", "alice"), JSON, dryRun="All"
    )
    assert status == 201, stored
    assert stored["spec"]["requester"] == "bob"
    assert {"devs", "seniors"} <= set(stored["spec"]["groups"])
