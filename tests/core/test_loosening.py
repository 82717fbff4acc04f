"""A CanaryPolicy that judges less than the approved one: what counts as that, by field, and what rules."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.api.policy import CanaryPolicySpec
from canary.api.types import Model
from canary.core.rules.loosening import looser_fields, policy_in_force

SPEC: dict[str, Any] = {
    "target": {"name": "checkout"},
    "service": "checkout",
    "route": {"kind": "HTTPRoute"},
    "tier": 2,
    "steps": [
        {"weight": "1%", "minOrders": 100, "maxDuration": "1h"},
        {"weight": "10%", "approval": True},
        {"weight": "100%"},
    ],
    "analysis": {
        "settle": "10s",
        "orders": {"counter": "orders_total"},
        "requests": {"counter": "requests_total"},
        "errors": {"counter": "requests_total", "where": {"code": "5.."}},
        "slow": {"histogram": "seconds", "above": "500ms"},
        "extra": [{"name": "late", "counter": "late_total", "floor": "1%"}],
    },
    "source": {
        "scrape": {"port": "metrics", "every": "5s"},
        "prometheus": {"address": "http://prometheus", "every": "15s"},
        "witness": {"orders": {"counter": "stored_total"}},
    },
    "bake": {"holdBack": "1%"},
    "onCall": {"sinks": ["pagerduty", "slack"]},
}
GONE = object()
# What judges less, and what judges as much or more, for every field there is. `steps` has its own below.
LESS: dict[str, list[Any]] = {
    "target.kind": [],  # there is one kind
    "target.name": ["other"],
    "service": ["other", GONE],
    "route.kind": ["GRPCRoute", "EndpointSlice"],
    "route.name": ["other"],
    "mode": ["Observe"],
    "tier": [3],
    "analysis.falseRollback": [0.0001],
    "analysis.settle": ["1m"],
    "analysis.minWatch": ["1m"],
    "analysis.orders": [{"counter": "other_total"}, {"counter": "orders_total", "where": {"a": "b"}}],
    "analysis.requests": [{"counter": "other_total"}],
    "analysis.errors": [GONE, {"counter": "requests_total", "where": {"code": "599"}}],
    "analysis.slow": [GONE, {"histogram": "seconds", "above": "5s"}, {"histogram": "other", "above": "1ms"}],
    "analysis.extra": [[], [{"name": "late", "counter": "late_total", "floor": "50%"}]],
    "source.scrape": [GONE, {"port": "other", "every": "5s"}, {"port": "metrics", "every": "30s"}],
    "source.witness": [GONE, {}, {"orders": {"counter": "other_total"}}],
    "source.prometheus": [{"address": "http://other"}, {"address": "http://prometheus", "every": "1m"}],
    "bake.duration": ["1m"],
    "bake.holdBack": ["0%"],
    "prepareWithin": [],  # nobody meets the new version meanwhile
    "drain": ["1s"],
    "onCall.sinks": [["slack"], ["pagerduty", "mail"]],
}
AS_MUCH: dict[str, list[Any]] = {
    "tier": [1],
    "analysis.falseRollback": [0.01],
    "analysis.settle": ["0s"],
    "analysis.minWatch": ["2h"],
    "analysis.slow": [{"histogram": "seconds", "above": "100ms"}],
    "analysis.extra": [[*SPEC["analysis"]["extra"], {"name": "more", "counter": "more_total"}]],
    "source.scrape": [{"port": "metrics", "every": "1s"}],
    "source.prometheus": [{"address": "http://prometheus", "every": "5s"}],
    "bake.duration": ["1h"],
    "bake.holdBack": ["5%"],
    "prepareWithin": ["1m", "1h"],
    "drain": ["5m"],
    "onCall.sinks": [[], ["slack", "pagerduty", "mail"]],
}


def policy(**fields: Any) -> CanaryPolicySpec:
    return CanaryPolicySpec.model_validate({**SPEC, **fields})


def with_field(path: str, value: Any) -> CanaryPolicySpec:
    head, _, rest = path.partition(".")
    inner = {**SPEC.get(head, {}), rest: value} if rest else value
    if rest:
        inner = {name: each for name, each in inner.items() if each is not GONE}
    return CanaryPolicySpec.model_validate(
        {name: each for name, each in {**SPEC, head: inner}.items() if each is not GONE}
    )


def leaves(model: type[Model], prefix: str = "") -> set[str]:
    """Return every field of the model, down to where one of LESS speaks of all that lies in it."""
    found = set[str]()
    for field in model.model_fields.values():
        path = f"{prefix}{field.alias}"
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((each for each in kinds if isinstance(each, type) and issubclass(each, Model)), None)
        found |= leaves(inner, f"{path}.") if inner is not None and path not in LESS else {path}
    return found


def test_it_is_decided_for_every_field_whether_a_change_of_it_judges_less() -> None:
    of_steps = {f"steps.{name}" for name in ("weight", "approval", "minOrders", "maxDuration")}
    assert leaves(CanaryPolicySpec) == LESS.keys() | of_steps


@pytest.mark.parametrize(("path", "value"), [(path, each) for path, found in LESS.items() for each in found])
def test_what_judges_less_is_named_and_the_approved_text_rules_on(path: str, value: Any) -> None:
    approved, written = policy(), with_field(path, value)
    named = looser_fields(approved, written)
    assert path in named or path.partition(".")[0] in named
    assert looser_fields(approved, policy_in_force(approved, written)) == []
    assert policy_in_force(approved, written) != written


@pytest.mark.parametrize(
    ("path", "value"), [(path, each) for path, found in AS_MUCH.items() for each in found]
)
def test_what_judges_as_much_or_more_holds_at_once(path: str, value: Any) -> None:
    approved, written = policy(), with_field(path, value)
    assert looser_fields(approved, written) == []
    assert policy_in_force(approved, written) == written


STEPS = SPEC["steps"]


@pytest.mark.parametrize(
    "steps",
    [
        [],
        STEPS[1:],
        [{**STEPS[0], "weight": "2%"}, *STEPS[1:]],
        [STEPS[0], {"weight": "50%", "approval": True}, STEPS[2]],
        [STEPS[0], {"weight": "10%"}, STEPS[2]],
        [{**STEPS[0], "minOrders": 99}, *STEPS[1:]],
        [{**STEPS[0], "maxDuration": "2h"}, *STEPS[1:]],
        [{"weight": "1%", "minOrders": 100}, *STEPS[1:]],
    ],
)
def test_a_plan_that_leaps_further_or_asks_less_is_looser(steps: list[Any]) -> None:
    assert looser_fields(policy(), policy(steps=steps)) == ["steps"]


@pytest.mark.parametrize(
    "steps",
    [
        [{"weight": "0.1%"}, *STEPS],
        [STEPS[0], {"weight": "5%"}, *STEPS[1:]],
        [{**STEPS[0], "minOrders": 200, "maxDuration": "10m", "approval": True}, *STEPS[1:]],
    ],
)
def test_a_plan_with_more_steps_that_ask_more_is_not(steps: list[Any]) -> None:
    assert looser_fields(policy(), policy(steps=steps)) == []


def test_the_default_plan_of_a_weaker_tier_is_a_looser_plan() -> None:
    strict, weak = policy(steps=[], tier=1), policy(steps=[], tier=2)
    assert looser_fields(strict, weak) == ["tier", "steps"]
    assert policy_in_force(strict, weak) == strict


def test_what_is_stricter_in_a_text_that_is_looser_elsewhere_holds_at_once() -> None:
    approved, written = policy(), policy(tier=4, drain="5m")
    assert policy_in_force(approved, written) == policy(drain="5m")


def edits() -> st.SearchStrategy[CanaryPolicySpec]:
    one = {path: [*LESS.get(path, []), *AS_MUCH.get(path, [])] for path in LESS}
    choices = [(path, each) for path, found in one.items() for each in found]
    return st.lists(st.sampled_from(choices), max_size=6).map(edited)


def edited(changes: list[tuple[str, Any]]) -> CanaryPolicySpec:
    spec = policy()
    for path, value in changes:
        name = path.partition(".")[0]
        python = next(key for key, field in CanaryPolicySpec.model_fields.items() if field.alias == name)
        spec = spec.model_copy(update={python: getattr(with_field(path, value), python)})
    return spec


@given(edits(), st.lists(edits(), max_size=4))
def test_s11_no_row_of_edits_without_a_word_of_people_judges_less(
    first: CanaryPolicySpec, texts: list[CanaryPolicySpec]
) -> None:
    approved = first
    for written in texts:
        ruling = policy_in_force(approved, written)
        assert looser_fields(first, ruling) == []
        if not looser_fields(approved, written):
            approved = written
