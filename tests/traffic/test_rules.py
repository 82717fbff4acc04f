"""The patches of a route, over random routes: only weights, our reference and our marks are ever touched."""

import copy
import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from canary.api.marks import Mark
from canary.api.reasons import PPM
from canary.kube.client import ownership_operations
from canary.lab.apiserver.patch import json_patch
from canary.traffic.brake import Cut, backends, exposes, operations_by_place, operations_by_route, places_in
from canary.traffic.router import Target
from canary.traffic.rules import (
    detach_operations,
    former_weights,
    share_ppm,
    split_operations,
    way_back_operations,
)

TARGET = Target("shop", "checkout", "checkout-canary", run="checkout-r1")
CUT = Cut("shop", "checkout", "checkout-canary", "9")
Json = dict[str, Any]

words = st.text(alphabet="abcxyz~/ é", max_size=6)
odd_json = st.recursive(
    st.one_of(st.booleans(), st.integers(-5, 5), words),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(words, inner, max_size=2)),
    max_leaves=5,
)
extra = st.dictionaries(words.map(lambda word: f"x-{word}"), odd_json, max_size=2)


@st.composite
def references(draw: st.DrawFn, name: str) -> Json:
    ref = {**draw(extra), "name": name, "port": draw(st.integers(1, 99))}
    if draw(st.booleans()):
        ref["weight"] = draw(st.integers(1, PPM))
    if draw(st.booleans()):
        ref |= {"group": "", "kind": "Service"}
    if draw(st.booleans()):
        ref["namespace"] = "shop"
    return ref


@st.composite
def routes(draw: st.DrawFn) -> Json:
    """A route as somebody may have written it: rules to us alone, and rules to others, in any order."""
    rules: list[Json] = []
    for ours in draw(st.lists(st.booleans(), min_size=1, max_size=4)):
        names = ["checkout"] if ours else draw(st.lists(st.sampled_from(["cart", "search"]), max_size=2))
        rules.append({**draw(extra), "backendRefs": [draw(references(name)) for name in names]})
    rules.append({"backendRefs": [draw(references("checkout"))]})
    metadata: Json = {
        **draw(extra),
        "name": "web",
        "namespace": "shop",
        "resourceVersion": "7",
        "generation": 1,
    }
    for field in ("labels", "annotations"):
        marks = draw(st.dictionaries(words.map(lambda word: f"user/{word}"), words, max_size=2))
        if marks:
            metadata[field] = marks
    return {**draw(extra), "metadata": metadata, "spec": {**draw(extra), "rules": rules}}


def after(route: Json, operations: list[Json]) -> Json:
    return json_patch(copy.deepcopy(route), operations)


def without_ours(route: Json) -> Json:
    """Return a route without all that we may touch."""
    bare = copy.deepcopy(route)
    for field in ("labels", "annotations"):
        kept = {key: value for key, value in bare["metadata"].pop(field, {}).items() if key not in list(Mark)}
        bare["metadata"] |= {field: kept} if kept else {}
    for rule in bare["spec"]["rules"]:
        rule["backendRefs"] = [ref for ref in rule["backendRefs"] if ref["name"] not in TARGET.services[1:]]
        for ref in rule["backendRefs"]:
            if ref["name"] == "checkout":
                ref.pop("weight", None)
    return bare


@given(route=routes(), steps=st.lists(st.integers(0, PPM), max_size=3))
def test_every_other_field_survives_every_write_and_detaching_restores_all(route: Json, steps: list[int]):
    stored = route
    for ppm in [0, *steps]:
        stored = after(stored, split_operations(stored, TARGET, ppm))
        assert without_ours(stored) == without_ours(route)
        for refs in backends(stored):
            if any(ref.service == "checkout" for ref in refs):
                assert {ref.service: ref.weight for ref in refs} == {
                    "checkout": PPM - ppm,
                    "checkout-canary": ppm,
                }
    killed = after(stored, operations_by_route(stored, CUT))
    assert without_ours(killed) == without_ours(route)
    assert not exposes(killed, "checkout-canary")
    detached = after(killed, detach_operations(killed, TARGET))
    assert json.dumps(detached, sort_keys=True) == json.dumps(route, sort_keys=True)


@given(route=routes(), ppm=st.integers(0, PPM))
def test_the_brake_by_stored_places_does_what_the_brake_by_reading_does(route: Json, ppm: int):
    stored = after(route, split_operations(route, TARGET, ppm))
    by_place = after(stored, operations_by_place(places_in("httproutes", stored, CUT), CUT))
    assert by_place == after(stored, operations_by_route(stored, CUT))
    assert json.loads(stored["metadata"]["annotations"][Mark.KILL]) == [
        [place.rule, place.canary, place.stable] for place in places_in("httproutes", stored, CUT)
    ]


@given(route=routes(), ppm=st.integers(0, PPM))
def test_the_way_back_carries_everything_and_leaves_no_trace(route: Json, ppm: int):
    stored = after(route, split_operations(route, TARGET, ppm))
    back = after(stored, way_back_operations(stored, TARGET, "9"))
    for refs in backends(back):
        if any(ref.service == "checkout" for ref in refs):
            assert [ref.service for ref in refs if ref.weight] == ["checkout-lastgood"]
    assert Mark.KILL not in back["metadata"]["annotations"]
    home = after(back, split_operations(back, replace(TARGET, armed=False), 0))
    assert Mark.WAY_BACK not in home["metadata"]["annotations"]
    assert after(home, detach_operations(home, TARGET)) == route


@given(route=routes(), data=st.data())
def test_the_brake_leaves_stable_all_whatever_was_done_to_the_rules(route: Json, data: st.DataObject):
    stored = after(route, split_operations(route, TARGET, 500_000))
    for rule in stored["spec"]["rules"]:
        rule["backendRefs"] = data.draw(st.permutations(rule["backendRefs"]))
        if rule["backendRefs"] and data.draw(st.booleans()):
            rule["backendRefs"].pop()
        for ref in rule["backendRefs"]:
            ref["weight"] = data.draw(st.integers(0, 10))
    killed = after(stored, operations_by_route(stored, CUT))
    assert not exposes(killed, "checkout-canary")
    for before, refs in zip(backends(stored), backends(killed), strict=True):
        if any(ref.service == "checkout-canary" for ref in before):
            assert share_ppm(refs, "checkout") == PPM
        else:
            assert refs == before


def test_a_share_is_rounded_up_so_that_no_exposure_looks_like_none():
    route = {
        "metadata": {},
        "spec": {"rules": [{"backendRefs": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]}]},
    }
    (refs,) = backends(route)
    assert share_ppm(refs, "a") == 250_000
    thirds = [replace(refs[0], weight=1), replace(refs[1], weight=2)]
    assert share_ppm(thirds, "a") == 333_334
    assert share_ppm([replace(refs[0], weight=0)], "a") == 0


def test_a_former_weights_annotation_that_somebody_broke_costs_only_the_numbers():
    for text in ("{", "[1]", '{"a": 1}', '{"0": "x"}', "7"):
        assert former_weights({"metadata": {"annotations": {Mark.FORMER: text}}}) == {}


def test_ownership_is_given_up_for_our_managers_alone():
    fields = [{"manager": name} for name in ("canary-controller", "kubectl", "canary-cli", "gateway")]
    route = {"metadata": {"managedFields": fields}}
    assert after(route, ownership_operations(route))["metadata"]["managedFields"] == [fields[1], fields[3]]
    assert ownership_operations({"metadata": {}}) == []
