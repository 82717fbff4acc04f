"""The CRDs keep the rules of structural schemas, and an API server that runs by them refuses what the models refuse."""

import json
import random
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from canary.api.crd import DIGEST_ANNOTATION, MAX_BYTES, crds
from canary.api.kinds import CANARY_POLICY, CANARY_REQUEST, CANARY_RUN, KINDS, SAFETY_POLICY, Kind
from canary.api.policy import CanaryPolicySpec
from canary.api.run import CanaryRunSpec, CanaryRunStatus
from canary.api.structural import SchemaError, structural
from canary.api.types import Model
from canary.cli.main import main
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, CANARYRUNS, SAFETYPOLICIES
from canary.lab.apiserver.api_error import ApiError
from canary.lab.apiserver.store import STATUS, Store
from canary.lab.clock import SimClock

FORBIDDEN = {
    "$ref",
    "anyOf",
    "oneOf",
    "const",
    "title",
    "propertyNames",
    "prefixItems",
    "examples",
    "discriminator",
}
DIGEST = "sha256:" + "a" * 64
COUNTERS = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from nodes(schema[word], f"{path}[]")


def root_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def policy_spec(**changes: Any) -> dict[str, Any]:
    return {"target": {"name": "checkout"}, "analysis": COUNTERS, **changes}


def run_spec(**changes: Any) -> dict[str, Any]:
    revision = {"templateHash": DIGEST, "version": "v2"}
    spec = {
        "policyRef": {"kind": "CanaryPolicy", "name": "checkout"},
        "policy": policy_spec(),
        "policyDigest": DIGEST,
        "target": {"kind": "Deployment", "name": "checkout"},
        "service": "checkout",
        "revision": revision,
        "baseline": revision,
        "change": {"authors": ["dana"]},
        "digest": DIGEST,
        "steps": [{"weight": "1%"}, {"weight": "100%"}],
    }
    return CanaryRunSpec.model_validate({**spec, **changes}).wire()


class Cluster:
    """An embedded API server's store with our four kinds, and no more than that."""

    def __init__(self) -> None:
        self.store = Store(SimClock(datetime(2026, 3, 5, tzinfo=UTC)))
        for manifest in crds():
            self.store.create(self.store.kinds.named("CustomResourceDefinition"), manifest)

    def create(self, kind: Kind, spec: dict[str, Any], name: str = "x") -> dict[str, Any]:
        metadata = {"name": name, "namespace": "default"} if kind.namespaced else {"name": name}
        body = {
            "apiVersion": "canary-controller.io/v1alpha1",
            "kind": kind.name,
            "metadata": metadata,
            "spec": spec,
        }
        return self.store.create(self.store.kinds.named(kind.name), body)

    def patch(self, kind: Kind, part: str, value: dict[str, Any], name: str = "x") -> dict[str, Any]:
        def change(old: dict[str, Any]) -> dict[str, Any]:
            return {**old, part: value}

        how = STATUS if part == "status" else None
        arguments = (self.store.kinds.named(kind.name), ("default" if kind.namespaced else "", name), change)
        return self.store.update(*arguments, how) if how else self.store.update(*arguments)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.mark.parametrize("manifest", crds(), ids=lambda manifest: manifest["spec"]["names"]["kind"])
def test_every_node_is_structural_bounded_and_described(manifest: dict[str, Any]) -> None:
    for path, node in nodes(root_of(manifest)):
        assert not FORBIDDEN & node.keys(), path
        if path in ("", ".apiVersion", ".kind", ".metadata"):
            continue
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert isinstance(node.get("exclusiveMinimum", False), bool), path
        match node["type"]:
            case "string":
                assert "enum" in node or node["maxLength"] > 0, path
            case "array":
                assert node["maxItems"] > 0, path
            case "object":
                assert "properties" in node or node["maxProperties"] > 0, path
            case "integer":
                assert node["format"] in ("int32", "int64"), path
            case _:
                pass
        assert "description" in node or path.endswith("[]"), path
        assert not re.search(r"\(\?[=!<P]", node.get("pattern", "")), f"{path}: RE2 has no look-around"


@pytest.mark.parametrize("manifest", crds(), ids=lambda manifest: manifest["spec"]["names"]["kind"])
def test_every_default_passes_its_own_schema_and_statuses_have_none(manifest: dict[str, Any]) -> None:
    from canary.lab.apiserver.schema import problems

    for path, node in nodes(root_of(manifest)):
        if "default" in node:
            assert not path.startswith(".status"), path
            assert not list(problems(node["default"], node, path))


def test_a_manifest_stays_below_60_kb_and_reads_back_from_its_yaml(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["crd"]) == 0
    text = capsys.readouterr().out
    documents = text.split("---\n")[1:]
    assert [yaml.safe_load(document) for document in documents] == crds()
    assert all(len(document.encode()) < MAX_BYTES for document in documents)
    assert "&id" not in text  # nothing is said by reference


def test_the_digest_tells_schemas_apart_and_depends_on_nothing_else() -> None:
    digests = [manifest["metadata"]["annotations"][DIGEST_ANNOTATION] for manifest in crds()]
    assert len(set(digests)) == len(KINDS)
    assert digests == [manifest["metadata"]["annotations"][DIGEST_ANNOTATION] for manifest in crds()]


def test_the_names_are_those_that_the_client_asks_for() -> None:
    asked = [
        (r.kind, r.plural, r.namespaced) for r in (CANARYPOLICIES, CANARYRUNS, CANARYREQUESTS, SAFETYPOLICIES)
    ]
    assert [(kind.name, kind.plural, kind.namespaced) for kind in KINDS] == asked


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_column_of_a_date_shows_one_that_every_object_has(kind: Kind) -> None:
    """kubectl writes `<unknown>` for a date that is not there, as if something had failed."""
    dates = [column.json_path for column in kind.columns if column.type == "date"]
    assert dates == [".metadata.creationTimestamp"]


def test_the_columns_are_those_of_the_reference() -> None:
    assert [column.name for column in CANARY_RUN.columns if not column.wide] == (
        ["Workload", "Phase", "Slice", "Step", "Verdict", "Lost", "Origin", "Age"]
    )
    for kind in KINDS:
        root = next(
            root_of(manifest) for manifest in crds() if manifest["spec"]["names"]["kind"] == kind.name
        )
        paths = {path for path, _ in nodes(root)} | {".metadata.creationTimestamp"}
        for column in kind.columns:
            assert re.sub(r"\[.*?\]", "[]", column.json_path) in paths, column


def test_a_list_without_a_bound_makes_no_crd() -> None:
    class Unbounded(Model):
        """A model."""

        names: list[str]
        """Names."""

    class Recursive(Model):
        """A model."""

        inner: "Annotated[list[Recursive], Field(max_length=1)]" = []
        """More."""

    class Either(Model):
        """A model."""

        value: Annotated[str, Field(max_length=3)] | bool
        """Two types."""

    class Mute(Model):
        """A model."""

        value: bool = False

    for model, where in ((Unbounded, "names"), (Either, "value"), (Mute, "value")):
        with pytest.raises(SchemaError, match=where):
            structural(model)
    Recursive.model_rebuild(_types_namespace={"Recursive": Recursive, "Annotated": Annotated, "Field": Field})
    with pytest.raises(SchemaError, match="contains itself"):
        structural(Recursive)


def test_the_server_fills_in_the_defaults_of_the_model(cluster: Cluster) -> None:
    stored = cluster.create(CANARY_POLICY, policy_spec())
    assert stored["spec"] == CanaryPolicySpec.model_validate(policy_spec()).wire()


REFUSED_POLICIES = {
    "steps that fall": policy_spec(steps=[{"weight": "5%"}, {"weight": "1%"}]),
    "equal steps": policy_spec(steps=[{"weight": "1%"}, {"weight": "1.0%"}]),
    "a first step of nothing": policy_spec(steps=[{"weight": "0%"}, {"weight": "1%"}]),
    "no source": policy_spec(source={}),
    "two extras of one name": policy_spec(
        analysis={**COUNTERS, "extra": [{"name": "late", "counter": "a"}, {"name": "late", "counter": "b"}]}
    ),
    "a bare number as a weight": policy_spec(steps=[{"weight": 5}]),
    "a duration without a unit": policy_spec(drain="30"),
    "a tier of five": policy_spec(tier=5),
    "a StatefulSet": policy_spec(target={"kind": "StatefulSet", "name": "db"}),
}


@pytest.mark.parametrize("spec", REFUSED_POLICIES.values(), ids=REFUSED_POLICIES.keys())
def test_server_and_model_refuse_the_same_policies(cluster: Cluster, spec: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        cluster.create(CANARY_POLICY, spec)
    with pytest.raises(ValueError):
        CanaryPolicySpec.model_validate_json(json.dumps(spec), strict=True)


def test_server_and_model_agree_on_random_step_lists() -> None:
    cluster, rng = Cluster(), random.Random(5)
    refused = 0
    for number in range(200):
        shares = [
            rng.choice(["0.5%", "1%", "1.0%", "5%", "10%", "50%", "100%"]) for _ in range(rng.randint(1, 4))
        ]
        spec = policy_spec(steps=[{"weight": share} for share in shares])
        try:
            CanaryPolicySpec.model_validate_json(json.dumps(spec), strict=True)
        except ValueError:
            refused += 1
            with pytest.raises(ApiError):
                cluster.create(CANARY_POLICY, spec, f"p{number}")
        else:
            cluster.create(CANARY_POLICY, spec, f"p{number}")
    assert 0 < refused < 200


def test_a_plan_and_a_request_are_never_edited(cluster: Cluster) -> None:
    run = cluster.create(CANARY_RUN, run_spec())
    with pytest.raises(ApiError, match="pinned"):
        cluster.patch(CANARY_RUN, "spec", {**run["spec"], "attempt": 2})
    request = cluster.create(CANARY_REQUEST, {"verb": "abort", "subject": {"name": "x"}})
    with pytest.raises(ApiError, match="never edited"):
        cluster.patch(CANARY_REQUEST, "spec", {**request["spec"], "requester": "mallory"})


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"verb": "promote"}, "reason is required"),
        ({"verb": "approve", "reason": "read the plan; it is additive"}, "digest"),
        ({"verb": "approve", "reason": "fine", "digest": DIGEST}, "20 characters"),
        ({"verb": "abort", "to": "5%"}, "promote only"),
    ],
)
def test_a_raising_request_says_why(cluster: Cluster, spec: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError, match=why):
        cluster.create(CANARY_REQUEST, {**spec, "subject": {"name": "x"}})


def test_an_abort_needs_nothing(cluster: Cluster) -> None:
    assert cluster.create(CANARY_REQUEST, {"verb": "abort", "subject": {"name": "x"}})["spec"]["reason"] == ""


TERMS = {"unapprovedMaxPpm": 10_000, "approvals": 2, "seniors": 1}


def approval(requester: str, **changes: Any) -> dict[str, Any]:
    entry = {"request": "r", "verb": "approve", "requester": requester, "counts": True, "digest": DIGEST}
    return {**entry, "at": "2026-03-05T12:00:00.000000Z", **changes}


@pytest.mark.parametrize(
    ("weight", "approvals", "accepted"),
    [
        (10_000, [], True),
        (10_001, [], False),
        (50_000, [approval("sam"), approval("priya", senior=True)], True),
        (50_000, [approval("sam"), approval("priya")], False),
        (50_000, [approval("dana", senior=True), approval("sam")], False),
        (50_000, [approval("priya", senior=True), approval("priya", senior=True)], False),
        (50_000, [approval("sam", counts=False), approval("priya", senior=True)], False),
        (50_000, [approval("sam", digest="sha256:" + "b" * 64), approval("priya", senior=True)], False),
        (50_000, [approval("sam", verb="reject"), approval("priya", senior=True)], False),
    ],
)
def test_the_server_admits_no_weight_above_the_cap_without_the_approvals(
    cluster: Cluster, weight: int, approvals: list[dict[str, Any]], accepted: bool
) -> None:
    cluster.create(CANARY_RUN, run_spec(safety=TERMS))
    status = {"phase": "Progressing", "allowedWeightPpm": weight, "approvals": approvals}
    if accepted:
        assert cluster.patch(CANARY_RUN, "status", status)["status"]["allowedWeightPpm"] == weight
    else:
        with pytest.raises(ApiError, match="counted approvals"):
            cluster.patch(CANARY_RUN, "status", status)


def test_without_safety_terms_no_approval_is_asked(cluster: Cluster) -> None:
    cluster.create(CANARY_RUN, run_spec())
    stored = cluster.patch(CANARY_RUN, "status", CanaryRunStatus(allowed_weight_ppm=1_000_000).wire())
    assert stored["status"]["allowedWeightPpm"] == 1_000_000


def test_a_finished_run_stays_finished(cluster: Cluster) -> None:
    cluster.create(CANARY_RUN, run_spec())
    cluster.patch(CANARY_RUN, "status", {"phase": "RolledBack"})
    cluster.patch(CANARY_RUN, "status", {"phase": "RolledBack", "message": "tidied"})
    with pytest.raises(ApiError, match="stays finished"):
        cluster.patch(CANARY_RUN, "status", {"phase": "Progressing"})


def test_the_server_refuses_a_safety_policy_that_nobody_could_fulfil(cluster: Cluster) -> None:
    approvals = {"count": 1, "senior": 0, "approverGroups": ["devs"]}
    stored = cluster.create(SAFETY_POLICY, {"approvals": approvals})
    assert stored["spec"]["exposure"]["unapprovedMax"] == "1%"
    broken = {
        "more seniors than approvals": {"approvals": {**approvals, "senior": 2, "seniorGroups": ["s"]}},
        "no group": {"approvals": {"count": 1, "senior": 0}},
        "an end without a successor": {"approvals": approvals, "expiresAt": "2026-06-08T00:00:00Z"},
        "a freeze that ends first": {
            "approvals": approvals,
            "freezes": [{"name": "peak", "from": "2026-03-30T00:00", "to": "2026-03-27T00:00"}],
        },
    }
    for number, (what, spec) in enumerate(deepcopy(broken).items()):
        with pytest.raises(ApiError):
            cluster.create(SAFETY_POLICY, spec, f"s{number}")
        with pytest.raises(ValueError):
            SAFETY_POLICY.spec.model_validate_json(json.dumps(spec), strict=True)
        assert what
