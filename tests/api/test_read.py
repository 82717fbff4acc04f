"""Objects are read strictly with a path and a near name for every mistake, or leniently, and never with a traceback."""

from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.api.kinds import KINDS
from canary.api.read import (
    InvalidObject,
    Reading,
    parse_policy,
    parse_request,
    parse_run_status,
    problems,
)
from canary.api.reasons import Phase
from canary.errors import RefusedError

POLICY = yaml.safe_load("""
apiVersion: canary-controller.io/v1alpha1
kind: CanaryPolicy
metadata: {name: checkout, namespace: shop}
spec:
  target: {kind: Deployment, name: checkout}
  route: {kind: HTTPRoute, name: checkout}
  mode: Enforce
  tier: 1
  steps: [{weight: 0.5%}, {weight: 1%}, {weight: 10%, approval: true}, {weight: 100%}]
  analysis:
    falseRollback: 0.001
    settle: 0s
    minWatch: 30m
    orders:   {counter: orders_completed_total}
    requests: {counter: http_requests_total}
    errors:   {counter: http_requests_total, where: {code: "5.."}}
    slow:     {histogram: http_request_duration_seconds, above: 500ms}
    extra: [{name: late-promises, counter: delivery_promise_days_over_10_total, direction: rise}]
  source: {scrape: {port: metrics, path: /metrics, every: 1s}}
  onCall: {sinks: [pagerduty, slack]}
""")

SAFETY = yaml.safe_load("""
apiVersion: canary-controller.io/v1alpha1
kind: SafetyPolicy
metadata: {name: safety-reset-2026}
spec:
  appliesTo: {tiers: [1], expected: 335}
  effectiveFrom: "2026-03-10T00:00:00Z"
  expiresAt: 2026-06-08T00:00:00Z
  onExpiry: {fallback: tier-1}
  record: {require: [what, why, rollbackPlan], unknown: asAI}
  approvals: {count: 2, senior: 1, approverGroups: [devs], seniorGroups: [seniors], deniedGroups: [automation],
              presence: Required, expireAfter: 24h, reviewWithin: 4h}
  patterns: {refuse: [KP-101, KP-103]}
  exposure: {unapprovedMax: 0%, firstSliceMax: 1%, maxStepRatio: 5}
  limits: {perCluster: 5, perGroup: 1, perNamespace: 1, cooldown: 4h}
  freezes: [{name: peak, from: "2026-03-27T00:00", to: "2026-03-30T06:00", timezone: America/New_York, tiers: [1]}]
  groups: [{name: order-path, targets: [shop/checkout, pay/ledger]}]
  trustedKeys: [{id: ci-main, publicKey: "ed25519:AAAA"}]
""")


GONE = "(gone)"


def changed(path: str, value: Any, original: dict[str, Any] = POLICY) -> dict[str, Any]:
    """Return a copy with `value` at a dotted path; `GONE` takes the field away."""
    copy = deepcopy(original)
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    node: Any = copy
    for part in way:
        node = node[part]
    if value is GONE:
        del node[last]
    else:
        node[last] = value
    return copy


def test_what_the_guide_shows_is_valid() -> None:
    assert problems(POLICY) == ()
    assert problems(SAFETY) == ()
    spec = parse_policy(POLICY)
    assert [step.weight for step in spec.steps] == [5_000, 10_000, 100_000, 1_000_000]


BROKEN = [
    ("spec.stps", [], "spec.stps", "steps"),
    ("spec.analysis.false_rollback", 0.1, "spec.analysis.false_rollback", "falseRollback"),
    ("spec.analysis.falsRollback", 0.1, "spec.analysis.falsRollback", "falseRollback"),
    ("spec.steps.2.aproval", True, "spec.steps[2].aproval", "approval"),
    ("spec.analysis.extra.0.direktion", "rise", "spec.analysis.extra[0].direktion", "direction"),
    ("spec.source.scrape.pth", "/m", "spec.source.scrape.pth", "path"),
    ("spec.mode", "enforce", "spec.mode", "Enforce"),
    ("spec.analysis.extra.0.direction", "risen", "spec.analysis.extra[0].direction", "rise"),
    ("metdata", {}, "metdata", "metadata"),
    ("kind", "CanaryPolice", "kind", "CanaryPolicy"),
    ("apiVersion", "flagger.app/v1beta1", "apiVersion", ""),
    ("spec.target.name", GONE, "spec.target.name", ""),
    ("spec.target.name", "Check Out", "spec.target.name", ""),
    ("spec.steps.1.weight", 5, "spec.steps[1].weight", ""),
    ("spec.steps.1.weight", "150%", "spec.steps[1].weight", ""),
    ("spec.steps.1.weight", "0.1%", "spec", ""),
    ("spec.steps", "1%", "spec.steps", ""),
    ("spec.tier", "1", "spec.tier", ""),
    ("spec.steps.2.approval", "yes", "spec.steps[2].approval", ""),
    ("spec.analysis.minWatch", "30 minutes", "spec.analysis.minWatch", ""),
    ("spec.analysis.falseRollback", float("nan"), "spec", ""),
    ("spec.analysis.errors.where.code", "(", "spec.analysis.errors.where", ""),
    ("spec.source.scrape.every", "10m", "spec.source.scrape.every", ""),
    ("spec.source", {}, "spec", ""),
    ("spec", GONE, "spec", ""),
    ("metadata", {}, "metadata.name", ""),
]


@pytest.mark.parametrize(("path", "value", "where", "meant"), BROKEN, ids=[f"{b[0]}={b[1]}" for b in BROKEN])
def test_a_mistake_is_named_with_its_path_and_the_nearest_name(
    path: str, value: Any, where: str, meant: str
) -> None:
    found = problems(changed(path, value))
    assert [(problem.path, problem.meant) for problem in found] == [(where, meant)]
    assert found[0].says


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(RefusedError) as refusal:
        parse_policy(changed("spec.tier", 9, changed("spec.mode", "Off", changed("spek", {}))))
    text = str(refusal.value)
    assert refusal.value.code == "CAN-4201"
    assert "spek: is not a known field; did you mean 'spec'?" in text
    assert "spec.tier: is 9" in text
    assert "spec.mode: is \"Off\", but must be 'Enforce' or 'Observe'" in text


def test_a_wrong_value_is_shown_short_and_without_control_characters() -> None:
    (problem,) = problems(changed("spec.mode", "\x1b[2J" + "x" * 10_000))
    assert "\x1b" not in str(problem)
    assert len(str(problem)) < 200


def test_an_older_controller_reads_a_newer_policy() -> None:
    newer = changed("spec.analysis.extra.0.weight", "money", changed("spec.newThing", {"a": [1]}))
    with pytest.raises(InvalidObject):
        parse_policy(newer)
    assert parse_policy(newer, Reading.LENIENT) == parse_policy(POLICY)
    with pytest.raises(InvalidObject, match=r"spec\.tier"):
        parse_policy(changed("spec.tier", "high", newer), Reading.LENIENT)


def test_an_older_controller_reads_a_newer_status_but_never_guesses_the_phase() -> None:
    entry = {"at": "2026-03-05T12:00:00Z", "phase": "Held", "reason": "RunStarted", "message": "m"}
    newer = [entry, {**entry, "phase": "Hovering"}, {**entry, "mood": 1}]
    status = parse_run_status({"status": {"phase": "Paused", "timeline": newer, "mood": "good"}})
    assert status.phase is Phase.PAUSED
    assert len(status.timeline) == 1
    with pytest.raises(InvalidObject, match=r"status\.phase"):
        parse_run_status({"status": {"phase": "Hovering"}})


def test_an_object_without_a_status_has_the_first_one() -> None:
    assert parse_run_status({}).phase is Phase.HELD


def test_a_request_that_raises_says_why() -> None:
    body = {"apiVersion": "canary-controller.io/v1alpha1", "kind": "CanaryRequest", "metadata": {"name": "r"}}
    with pytest.raises(InvalidObject, match="reason is required of promote"):
        parse_request({**body, "spec": {"verb": "promote", "subject": {"name": "run"}}})
    assert parse_request({**body, "spec": {"verb": "abort", "subject": {"name": "run"}}}).reason == ""


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "status", "kind", "steps", "weight", "x"]) | st.integers(), inner
        )
    ),
    max_leaves=12,
)


def paths_of(node: Any, path: str = "") -> list[str]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = [f"{path}.{name}".removeprefix(".") for name, _ in entries]
    return found + [
        deeper for name, entry in entries for deeper in paths_of(entry, f"{path}.{name}".removeprefix("."))
    ]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(JSON, st.sampled_from([kind.name for kind in KINDS]))
def test_whatever_comes_in_only_a_refusal_comes_out(value: Any, kind: str) -> None:
    problems(value)
    problems({"kind": kind, "spec": value})
    for reading in Reading:
        with suppress(InvalidObject):
            parse_policy(value, reading)
        with suppress(InvalidObject):
            parse_run_status({"status": value})


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from(paths_of(POLICY)), JSON)
def test_any_field_may_hold_anything_without_a_traceback(path: str, value: Any) -> None:
    for problem in problems(changed(path, value)):
        assert problem.says
        assert "Traceback" not in str(problem)


def test_an_object_nested_beyond_all_bounds_is_refused() -> None:
    deep: Any = {}
    for _ in range(5_000):
        deep = {"a": deep}
    (problem,) = problems(changed("spec.steps", deep))
    assert problem.path.startswith("spec")


@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "2026-03-05", "soon"]
)
def test_a_moment_out_of_time_is_refused(moment: str) -> None:
    (problem,) = problems(changed("spec.expiresAt", moment, SAFETY))
    assert problem.path == "spec.expiresAt"


def test_what_is_left_out_beside_what_is_given_has_its_default() -> None:
    assert parse_policy(changed("spec.bake", {"duration": "5m"})).bake.hold_back == 0
