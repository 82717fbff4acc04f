"""Which routes are refused: each reason alone, and every route that the contract splits is none of them."""

from typing import Any

import pytest

from canary.api.marks import Mark
from canary.api.policy import RouteRef
from canary.traffic.adoption import plan_routes
from canary.traffic.router import Target

TARGET = Target("shop", "checkout", "checkout-canary")
MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "shadow"}}}
Json = dict[str, Any]


def route(*rules: Json, name: str = "web", namespace: str = "shop", **metadata: Any) -> Json:
    chosen = list(rules) or [rule()]
    return {"metadata": {"name": name, "namespace": namespace, **metadata}, "spec": {"rules": chosen}}


def rule(*refs: str, **fields: Any) -> Json:
    return {"backendRefs": [{"name": ref} for ref in refs or ("checkout",)], **fields}


def refusals(*routes: Json, target: Target = TARGET, foreign: tuple[Json, ...] = ()) -> tuple[str, ...]:
    return plan_routes(target, routes, foreign).refusals


def test_a_plain_route_is_taken_and_its_writes_are_said():
    plan = plan_routes(TARGET, [route(rule(), rule("cart"), rule())], [])
    assert plan.refusals == ()
    assert plan.writes == (
        "HTTPRoute web, rule 0: add checkout-canary at weight 0, set checkout from 1 to 1000000",
        "HTTPRoute web, rule 2: add checkout-canary at weight 0, set checkout from 1 to 1000000",
    )


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (route(rule("checkout", "cart")), "beside other backends"),
        (route(rule("checkout", *[f"b{n}" for n in range(15)])), "16 backends"),
        (route(rule("checkout", "checkout")), "2 times"),
        (route(rule(sessionPersistence={"type": "Cookie"})), "sessionPersistence"),
        (route(rule(filters=[MIRROR])), "mirrors requests"),
        (route({"backendRefs": [{"name": "checkout", "filters": [MIRROR]}]}), "mirrors requests"),
        (route({"backendRefs": [{"name": "checkout", "weight": 0}]}), "weight 0"),
        (route(rule("checkout", "checkout-canary")), "not ours"),
        (route(rule("checkout", "checkout-lastgood")), "not ours"),
        (route(managedFields=[{"manager": "flagger"}]), "Flagger"),
        (route(managedFields=[{"manager": "rollouts-controller"}]), "Argo Rollouts"),
        (route(rule("cart")), "no HTTPRoute in shop names Service checkout"),
        (route(*[rule()] * 65), "65 rules"),
    ],
)
def test_what_cannot_be_split_is_refused_with_one_reason(made: Json, words: str):
    (refusal,) = refusals(made)
    assert words in refusal


def test_a_mirror_to_the_service_from_a_route_that_does_not_name_it_is_refused():
    to_us = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "checkout"}}}
    (refusal,) = refusals(route(), route(rule("cart", filters=[to_us]), name="shadow"))
    assert "shadow" in refusal


def test_a_mirror_of_requests_that_change_nothing_is_taken():
    assert refusals(route(rule(filters=[MIRROR]), annotations={Mark.READ_ONLY.value: "true"})) == ()
    assert refusals(route(rule(filters=[MIRROR]), annotations={Mark.READ_ONLY.value: "no"}))


def test_a_policy_that_names_one_route_of_several_is_refused():
    named = Target("shop", "checkout", "checkout-canary", RouteRef(name="web"))
    assert refusals(route(), target=named) == ()
    (refusal,) = refusals(route(), route(name="app"), target=named)
    assert "app also names Service checkout" in refusal
    (refusal,) = refusals(route(rule("cart")), target=named)
    assert "web does not name Service checkout" in refusal


def test_a_route_of_another_namespace_into_the_service_is_refused():
    into = route({"backendRefs": [{"name": "checkout", "namespace": "shop"}]}, name="edge", namespace="infra")
    (refusal,) = refusals(route(), foreign=(into, route(name="same-name", namespace="infra")))
    assert "edge in namespace infra" in refusal


def test_a_route_that_is_attached_already_is_no_foreign_one():
    attached = route(rule("checkout", "checkout-canary"), annotations={Mark.STABLE.value: "checkout"})
    assert refusals(attached) == ()


def test_a_name_without_room_for_our_suffix_is_refused():
    name = "c" * 56
    target = Target("shop", name, f"{name}-canary")
    (refusal,) = refusals(route(rule(name)), target=target)
    assert "54 characters" in refusal


def test_retries_are_taken_with_a_warning():
    plan = plan_routes(TARGET, [route(rule(retry={"attempts": 2}))], [])
    assert plan.refusals == ()
    assert "retries" in plan.warnings[0]
