"""What the API server can enforce about our own kinds: a ceiling for the weight, counted approvals, who asks for what.

Rows K11 to K13 of the facts, on the product's own rules: those of the CRDs, and single policies of the guard, as they
are or spoilt on purpose.
"""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_bed import Bed
from guard_on_bed import SETTINGS, installed

from canary.api.marks import TRUE, Mark
from canary.api.reasons import API_VERSION
from canary.api.run import CanaryRunSpec
from canary.guard import mutations
from canary.guard.policy import manifests
from canary.guard.traffic import ceiling
from canary.kube.client import Intent
from canary.kube.resources import CANARYREQUESTS, CANARYRUNS, HTTPROUTES
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


def spoilt_ceiling(not_found: str) -> list[Object]:
    """Return the product's ceiling with another word for a namespace without runs, and without its match by label.

    It holds in namespaces with a label of that word.
    """
    policy, binding = copy.deepcopy(manifests(ceiling(SETTINGS), SETTINGS))
    name = f"spoilt-{not_found.lower()}"
    policy["metadata"]["name"] = binding["metadata"]["name"] = binding["spec"]["policyName"] = name
    policy["spec"]["matchConstraints"]["objectSelector"] = {}
    policy["spec"]["failurePolicy"] = "Fail"
    binding["spec"]["paramRef"]["parameterNotFoundAction"] = not_found
    binding["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": {"spoilt": not_found}}}
    return [policy, binding]


def refused(bed: Bed, path: str, ppm: int) -> bool:
    return patch(bed, "controller", path, weight(ppm), dryRun="All")[0] == 403


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


def test_k11_without_a_run_deny_hits_routes_that_are_none_of_ours(bed: Bed) -> None:
    """So the product's word is `Allow`, and its match is narrowed by a label: a match condition is asked too late."""
    for not_found, expected in (("Deny", 422), ("Allow", 200)):
        elsewhere, nowhere = (
            bed.namespace(f"{what}-{not_found.lower()}", {"spoilt": not_found})
            for what in ("a-run", "no-run")
        )
        other, path = make_route(bed, elsewhere, {Mark.ATTACHED.value: TRUE}), make_route(bed, nowhere, {})
        bed.make(CANARYRUNS, "one", elsewhere, spec=run_spec())
        with installed(bed, spoilt_ceiling(not_found), lambda other=other: not refused(bed, other, 9)):
            code, said = patch(bed, "alice", path, weight(9), dryRun="All")
            assert (code, "no params found" in said) == (expected, expected != 200), said


@pytest.fixture(scope="module")
def capped(bed: Bed) -> Iterator[str]:
    """A route whose weight may go where every run of the namespace allows it."""
    namespace = bed.namespace("capped")
    path = make_route(bed, namespace, {Mark.ATTACHED.value: TRUE})
    bed.make(CANARYRUNS, "one", namespace, spec=run_spec())
    bed.make(CANARYRUNS, "two", namespace, spec=run_spec())
    for name in ("one", "two"):
        allow(bed, namespace, name, 50_000)
    whole = [*manifests(ceiling(SETTINGS), SETTINGS)]
    with installed(bed, whole, lambda: not refused(bed, path, 60_000)):
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
    status, said = patch(bed, "controller", path, weight(60_000))
    assert (status, "no more than status.allowedWeightPpm" in said) == (403, True)
    bed.until(lambda: not refused(bed, path, 50_000), "the ceiling is allowed")


def test_k11_every_run_has_to_agree_and_a_new_ceiling_is_seen_at_once(bed: Bed, capped: str) -> None:
    path = HTTPROUTES.at(capped, "shop").path()
    allow(bed, capped, "one", 250_000)
    assert refused(bed, path, 250_000)
    allow(bed, capped, "two", 250_000)
    bed.until(lambda: not refused(bed, path, 250_000), "the policy knows the new ceiling", limit_seconds=10.0)
    allow(bed, capped, "two", 50_000)


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

REASON = "I read the change and its rehearsal"


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
    expression = "Object{spec: Object.spec{groups: request.userInfo.groups}}"
    policy, binding = copy.deepcopy(mutations.manifests(mutations.REQUESTER, SETTINGS))
    policy["spec"]["mutations"] = [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    ]
    namespace = bed.namespace("stamped-by-apply")

    def not_yet() -> bool:
        return make_request(bed, namespace, "alice", "hold", dryRun="All")[0] != 403

    with installed(bed, [policy, binding], not_yet):
        answer = make_request(bed, namespace, "alice", "hold", dryRun="All")[1]
    assert "may not mutate atomic arrays" in answer["message"]
