"""What the API server can enforce about our own kinds: a ceiling for the weight, counted approvals, who asks for what.

Rows K11 to K13 of the facts. The rules of the CRDs are the product's own; the policies are the smallest that show a
fact.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_bed import CLUSTERROLEBINDINGS, CLUSTERROLES, Bed
from policies_on_bed import MUTATING, Policy, denies, installed, rules

from canary.api.marks import TRUE, Mark
from canary.api.reasons import API_VERSION, GROUP, VERSION
from canary.api.run import CanaryRunSpec
from canary.kube.client import Intent
from canary.kube.resources import CANARYREQUESTS, CANARYRUNS, HTTPROUTES, Resource
from canary.kube.transport import JSON_PATCH, MERGE_PATCH

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
MONITORS = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}


def run_spec(**changes: Any) -> Object:
    revision = {"templateHash": DIGEST, "version": "v2"}
    spec = {
        "policyRef": {"kind": "CanaryPolicy", "name": "shop"},
        "policy": {"target": {"name": "shop"}, "analysis": MONITORS},
        "policyDigest": DIGEST,
        "target": {"kind": "Deployment", "name": "shop"},
        "service": "shop",
        "revision": revision,
        "baseline": revision,
        "change": {"authors": ["dana"]},
        "digest": DIGEST,
        "steps": [{"weight": "1%"}, {"weight": "100%"}],
    }
    return CanaryRunSpec.model_validate({**spec, **changes}).wire()


def patch(bed: Bed, user: str, path: str, body: Any, **query: str) -> tuple[int, str]:
    media = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
    status, answer = bed.ask(user, "PATCH", path, body, media, **query)
    return status, str(answer.get("message", ""))


# -- K11: the ceiling ------------------------------------------------------------------------------------------------

WITHIN = (
    "!has(object.spec.rules) || object.spec.rules.all(r, !has(r.backendRefs) || r.backendRefs.all(b, "
    "!b.name.endsWith('-canary') || b.weight <= "
    "(has(params.status) && has(params.status.allowedWeightPpm) ? params.status.allowedWeightPpm : 0)))"
)
ATTACHED = f"has(object.metadata.labels) && '{Mark.ATTACHED.value}' in object.metadata.labels"


def ceiling(name: str, not_found: str) -> Policy:
    spec = {
        "paramKind": {"apiVersion": API_VERSION, "kind": "CanaryRun"},
        "matchConstraints": rules(HTTPROUTES.group, "v1", ["httproutes"], "UPDATE"),
        "matchConditions": [{"name": "attached", "expression": ATTACHED}],
        "validations": [denies(WITHIN, "above the ceiling of a run")],
    }
    return Policy(name, spec, binding={"paramRef": {"selector": {}, "parameterNotFoundAction": not_found}})


def make_route(bed: Bed, namespace: str, labels: dict[str, str]) -> str:
    backends = [
        {"name": "shop", "port": 80, "weight": 1_000_000},
        {"name": "shop-canary", "port": 80, "weight": 0},
    ]
    spec = {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": backends}]}
    bed.make(HTTPROUTES, "shop", namespace, metadata={"labels": labels}, spec=spec)
    return HTTPROUTES.at(namespace, "shop").path()


def weight(ppm: int) -> list[Object]:
    return [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": ppm}]


@pytest.fixture(scope="module")
def capped(bed: Bed) -> Iterator[str]:
    """A route whose weight may go where every run of the namespace allows it."""
    policy = ceiling("ceiling", "Allow")
    namespace = bed.namespace("capped", policy.labels())
    path = make_route(bed, namespace, {Mark.ATTACHED.value: TRUE})
    bed.make(CANARYRUNS, "one", namespace, spec=run_spec())
    bed.make(CANARYRUNS, "two", namespace, spec=run_spec())
    for name in ("one", "two"):
        allow(bed, namespace, name, 50_000)
    with installed(
        bed, policy, lambda: patch(bed, "controller", path, weight(50_001), dryRun="All")[0] == 403
    ):
        yield namespace


def allow(bed: Bed, namespace: str, run: str, ppm: int) -> None:
    ref = CANARYRUNS.at(namespace, run)
    written = bed.admin.merge_patch(
        ref, {"status": {"allowedWeightPpm": ppm}}, intent=Intent.NEUTRAL, subresource="status"
    )
    assert written is not None
    assert written["status"]["allowedWeightPpm"] == ppm


def test_k11_not_even_the_controller_raises_above_the_ceiling(bed: Bed, capped: str) -> None:
    path = HTTPROUTES.at(capped, "shop").path()
    status, said = patch(bed, "controller", path, weight(50_001))
    assert (status, "above the ceiling of a run" in said) == (403, True)
    bed.until(
        lambda: patch(bed, "controller", path, weight(50_000), dryRun="All")[0] == 200,
        "the ceiling is allowed",
    )


def test_k11_every_run_has_to_agree_and_a_new_ceiling_is_seen_at_once(bed: Bed, capped: str) -> None:
    path = HTTPROUTES.at(capped, "shop").path()
    allow(bed, capped, "one", 250_000)
    assert patch(bed, "controller", path, weight(250_000), dryRun="All")[0] == 403
    allow(bed, capped, "two", 250_000)
    bed.until(
        lambda: patch(bed, "controller", path, weight(250_000), dryRun="All")[0] == 200,
        "the policy knows the new ceiling",
        limit_seconds=10.0,
    )
    allow(bed, capped, "two", 50_000)


def test_k11_without_a_run_allow_lets_everything_pass_and_deny_nothing_at_all(bed: Bed) -> None:
    """The trap: `Deny` is obeyed before matchConditions are looked at, so it hits routes that are none of ours."""
    for not_found, expected in (("Deny", 422), ("Allow", 200)):
        policy = ceiling(f"no-run-{not_found.lower()}", not_found)
        namespace = bed.namespace(f"no-run-{not_found.lower()}", policy.labels())
        path = make_route(bed, namespace, {})  # not attached: matchConditions would leave it alone
        elsewhere = bed.namespace(f"a-run-{not_found.lower()}", policy.labels())
        other = make_route(bed, elsewhere, {Mark.ATTACHED.value: TRUE})
        bed.make(CANARYRUNS, "one", elsewhere, spec=run_spec())
        with installed(
            bed, policy, lambda other=other: patch(bed, "alice", other, weight(9), dryRun="All")[0] == 403
        ):
            code, said = patch(bed, "alice", path, weight(9), dryRun="All")
            assert (code, "no params found" in said) == (expected, expected != 200), said


# -- K12: counted approvals ------------------------------------------------------------------------------------------


def approval(who: str, senior: bool = False, digest: str = DIGEST) -> Object:
    return {
        "request": f"approve-{who}",
        "verb": "approve",
        "requester": who,
        "digest": digest,
        "senior": senior,
        "counts": True,
        "at": "2026-03-05T00:00:00Z",
    }


SENIOR = approval("bob", senior=True)
TOO_LITTLE: dict[str, list[Object]] = {
    "nobody": [],
    "one of two": [SENIOR],
    "the author": [SENIOR, approval("dana")],
    "the same person twice": [SENIOR, {**SENIOR, "request": "approve-again"}],
    "no senior": [approval("alice"), approval("carol")],
    "another digest": [SENIOR, approval("alice", digest=OTHER_DIGEST)],
}


@pytest.fixture(scope="module")
def reviewed(bed: Bed) -> str:
    """The path of a run's status that needs two approvals, one of a senior, above 1 %."""
    namespace = bed.namespace("reviewed")
    safety = {"unapprovedMaxPpm": 10_000, "approvals": 2, "seniors": 1}
    bed.make(CANARYRUNS, "one", namespace, spec=run_spec(safety=safety))
    return CANARYRUNS.at(namespace, "one").path("status")


@pytest.mark.parametrize("name", TOO_LITTLE)
def test_k12_a_weight_that_lacks_approvals_is_refused_on_the_status(
    bed: Bed, reviewed: str, name: str
) -> None:
    status = {"allowedWeightPpm": 10_001, "approvals": TOO_LITTLE[name]}
    code, said = patch(bed, "controller", reviewed, {"status": status}, dryRun="All")
    assert (code, "needs more counted approvals" in said) == (422, True), said


def test_k12_an_approved_weight_and_one_below_the_cap_are_stored(bed: Bed, reviewed: str) -> None:
    assert patch(bed, "controller", reviewed, {"status": {"allowedWeightPpm": 10_000}})[0] == 200
    approved = {"allowedWeightPpm": 10_001, "approvals": [SENIOR, approval("alice")]}
    code, said = patch(bed, "controller", reviewed, {"status": approved})
    assert code == 200, said


# -- K13: who asks ---------------------------------------------------------------------------------------------------

REQUESTS = rules(GROUP, VERSION, ["canaryrequests"], "CREATE")
STAMP = Policy(
    "stamp",
    {
        "matchConstraints": REQUESTS,
        "reinvocationPolicy": "Never",
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {
                    "expression": "["
                    'JSONPatch{op: "add", path: "/spec/requester", value: request.userInfo.username}, '
                    'JSONPatch{op: "add", path: "/spec/groups", value: request.userInfo.groups}]'
                },
            }
        ],
    },
    MUTATING,
)
MAY = (
    "request.operation == 'DELETE' || object.spec.verb in ['abort', 'hold'] || "
    f"authorizer.group('{GROUP}').resource('canaryruns').namespace(request.namespace)"
    ".name(object.spec.subject.name).check(object.spec.verb).allowed()"
)
DECIDE = Policy(
    "decide",
    {
        "matchConstraints": rules(GROUP, VERSION, ["canaryrequests"], "CREATE", "DELETE"),
        "validations": [
            denies("request.operation != 'DELETE'", "a request is a record"),
            denies(MAY, "you may not ask for this"),
            denies(
                "request.operation == 'DELETE' || object.spec.verb in ['abort', 'hold'] || "
                "!request.userInfo.username.startsWith('system:serviceaccount:')",
                "machines may only abort and hold",
            ),
        ],
    },
)
REASON = "I read the change and its rehearsal"


@pytest.fixture(scope="module")
def asked(bed: Bed) -> Iterator[str]:
    """A namespace in which requests are stamped and decided; seniors may approve, and so may the agent's account."""
    namespace = bed.namespace("asked", STAMP.labels())
    rule = {"apiGroups": [GROUP], "resources": ["canaryruns"], "verbs": ["approve"]}
    bed.make(CLUSTERROLES, "approvers", rules=[rule])
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "approvers"}
    groups = [subject(name) for name in ("seniors", "system:serviceaccounts:ci")]
    bed.make(CLUSTERROLEBINDINGS, "approvers", subjects=groups, roleRef=ref)

    def stamped() -> bool:
        stored = make_request(bed, namespace, "alice", "hold", dryRun="All")[1]
        return (stored.get("spec") or {}).get("requester") == "alice"

    def decided() -> bool:
        return make_request(bed, namespace, "alice", "approve", dryRun="All")[0] == 403

    selector = {"namespaceSelector": {"matchLabels": STAMP.labels()}}
    deciding = Policy(DECIDE.name, DECIDE.spec, binding={"matchResources": selector})
    with installed(bed, STAMP, stamped), installed(bed, deciding, decided):
        yield namespace


def subject(group: str) -> Object:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}


def make_request(bed: Bed, namespace: str, user: str, verb: str, **query: str) -> tuple[int, Object]:
    spec = {
        "verb": verb,
        "subject": {"kind": "CanaryRun", "name": "one"},
        "digest": DIGEST,
        "reason": REASON,
        "requester": "bob",
        "groups": ["seniors"],
    }
    metadata = {"generateName": f"{verb}-", "namespace": namespace}
    body = {"apiVersion": API_VERSION, "kind": "CanaryRequest", "metadata": metadata, "spec": spec}
    return bed.ask(user, "POST", CANARYREQUESTS.collection(namespace), body, **query)


def test_k13_an_apply_configuration_cannot_stamp_an_atomic_list(bed: Bed) -> None:
    """So the stamp is a JSON patch: `groups` is a list without a list type, which only that may write."""
    mutation = {"expression": "Object{spec: Object.spec{groups: request.userInfo.groups}}"}
    spec = {**STAMP.spec, "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": mutation}]}
    policy = Policy("stamp-by-apply", spec, MUTATING)
    namespace = bed.namespace("stamped-by-apply", policy.labels())

    def in_force() -> bool:
        return make_request(bed, namespace, "alice", "hold", dryRun="All")[0] == 403

    with installed(bed, policy, in_force):
        answer = make_request(bed, namespace, "alice", "hold", dryRun="All")[1]
    assert "may not mutate atomic arrays" in answer["message"]


def test_k13_the_server_writes_who_asks_over_what_was_claimed(bed: Bed, asked: str) -> None:
    code, stored = make_request(bed, asked, "alice", "hold")
    assert code == 201, stored
    assert stored["spec"]["requester"] == "alice"
    assert set(stored["spec"]["groups"]) == {"devs", "system:authenticated"}


@pytest.mark.parametrize(
    ("user", "verb", "code"),
    [
        ("bob", "approve", 201),
        ("alice", "approve", 403),
        ("agent", "approve", 403),
        ("agent", "abort", 201),
        ("agent", "hold", 201),
        ("alice", "abort", 201),
    ],
)
def test_k13_rights_decide_by_verb_and_machines_may_only_lower(
    bed: Bed, asked: str, user: str, verb: str, code: int
) -> None:
    assert make_request(bed, asked, user, verb)[0] == code


def test_k13_a_request_is_never_edited_and_never_deleted(bed: Bed, asked: str) -> None:
    code, stored = make_request(bed, asked, "alice", "hold")
    assert code == 201, stored
    path = path_of(CANARYREQUESTS, asked, stored)
    status, said = patch(bed, "admin", path, {"spec": {"verb": "approve"}})
    assert (status, "never edited" in said) == (422, True)
    status, answer = bed.ask("admin", "DELETE", path)
    assert (status, "a request is a record" in answer["message"]) == (403, True)
    assert bed.ask("admin", "DELETE", CANARYREQUESTS.collection(asked))[0] == 403
    assert bed.ask("admin", "GET", path)[0] == 200


def path_of(resource: Resource, namespace: str, stored: Object) -> str:
    return resource.at(namespace, stored["metadata"]["name"]).path()
