"""The cache: the same end state whatever happens to the events, changes by uid, and objects nobody can change."""

import copy
import json
from random import Random

import pytest
from fault_server import a_policy
from hypothesis import given
from hypothesis import strategies as st

from canary.kube.cache import LAST_APPLIED, ObjectStore, What, outline, slim
from canary.kube.client import Listing
from canary.kube.frozen import freeze, thaw
from canary.kube.resources import CANARYPOLICIES, Key

CHECKOUT = Key("shop", "checkout")


def whats(changes):
    return [(change.what, change.uid) for change in changes]


def history(random):
    """Return the events of some objects that live and die, and what is there at the end."""
    alive, events, version = {}, [], 10
    for number in range(30):
        version += 1
        name = random.choice("abc")
        known = alive.get(name)
        if known is None:
            alive[name] = a_policy(name, version, f"uid-{number}")
            events.append(("ADDED", alive[name]))
        elif random.random() < 0.4:
            events.append(("DELETED", a_policy(name, version, alive.pop(name)["metadata"]["uid"])))
        else:
            alive[name] = a_policy(name, version, known["metadata"]["uid"], changed=number)
            events.append(("MODIFIED", alive[name]))
    return events, alive, version


def state(store):
    return {obj["metadata"]["name"]: obj for obj in store.list()}


@given(st.integers(0, 10_000))
def test_doubled_and_reordered_events_end_in_the_same_state(seed):
    random = Random(seed)
    events, alive, _ = history(random)
    delivered = events + random.sample(events, 10)
    random.shuffle(delivered)
    store = ObjectStore(CANARYPOLICIES)
    for kind, obj in delivered:
        store.apply(kind, obj)
    assert state(store) == alive


@given(st.integers(0, 10_000))
def test_a_list_heals_whatever_events_were_lost(seed):
    random = Random(seed)
    events, alive, version = history(random)
    store = ObjectStore(CANARYPOLICIES)
    told = {}
    for kind, obj in random.sample(events, 15):
        follow(told, store.apply(kind, obj))
    follow(told, store.replace(Listing(list(alive.values()), str(version))))
    assert state(store) == alive
    assert told == {name: obj["metadata"]["uid"] for name, obj in alive.items()}


def follow(told, changes):
    """Keep the books of somebody who hears only the changes; each must fit to what was told before."""
    for change in changes:
        known = told.get(change.key.name)
        assert (known is None) == (change.what is What.ADDED)
        if change.what is What.DELETED:
            assert told.pop(change.key.name) == change.uid
        else:
            assert known in (None, change.uid)
            told[change.key.name] = change.uid


def test_an_object_made_again_in_a_gap_is_deleted_and_added():
    store = ObjectStore(CANARYPOLICIES)
    store.replace(Listing([a_policy("checkout", 5, "old")], "5"))
    changes = store.replace(Listing([a_policy("checkout", 9, "new")], "9"))
    assert whats(changes) == [(What.DELETED, "old"), (What.ADDED, "new")]


def test_an_object_that_left_the_selection_without_a_new_version_is_gone():
    store = ObjectStore(CANARYPOLICIES)
    obj = a_policy("checkout", 5)
    store.apply("ADDED", obj)
    assert whats(store.apply("DELETED", obj)) == [(What.DELETED, "uid-checkout")]
    assert store.apply("ADDED", obj) == []


def test_a_list_that_says_nothing_new_tells_nothing():
    store = ObjectStore(CANARYPOLICIES)
    listing = Listing([a_policy("checkout", 5)], "5")
    store.replace(listing)
    assert store.replace(listing) == []


@pytest.mark.parametrize("garbage", [None, [], "x", {}, {"metadata": []}, {"metadata": {"name": "x"}}])
def test_what_is_no_object_is_counted_and_changes_nothing(garbage):
    store = ObjectStore(CANARYPOLICIES)
    assert store.apply("ADDED", garbage) == []
    assert (store.unreadable_total, list(store.list())) == (1, [])


def test_a_reader_cannot_change_what_the_others_read():
    store = ObjectStore(CANARYPOLICIES)
    store.apply("ADDED", a_policy("checkout", 5, steps=[{"weight": "1%"}]))
    obj = store.get(CHECKOUT)
    for change in (
        lambda: obj.update(spec={}),
        lambda: obj["spec"].pop("steps"),
        lambda: obj["spec"]["steps"].append(1),
        lambda: obj["spec"]["steps"][0].__setitem__("weight", "100%"),
    ):
        with pytest.raises(TypeError, match="read-only"):
            change()
    assert store.get(CHECKOUT)["spec"] == {"steps": [{"weight": "1%"}]}


def test_a_frozen_object_is_ordinary_json_and_its_copy_can_be_changed():
    obj = a_policy("checkout", 5, steps=[{"weight": "1%"}])
    frozen = freeze(obj)
    assert json.loads(json.dumps(frozen)) == obj == frozen
    for copied in (thaw(frozen), copy.deepcopy(frozen)):
        copied["spec"]["steps"][0]["weight"] = "100%"
    assert frozen == obj


def test_a_slim_object_keeps_all_but_field_ownership_and_the_last_applied_text():
    obj = a_policy("checkout")
    metadata = {**obj["metadata"], "annotations": {"a": "b", LAST_APPLIED: "{}"}, "managedFields": [1]}
    slimmed = slim({**obj, "metadata": metadata})
    assert slimmed == {**obj, "metadata": {**obj["metadata"], "annotations": {"a": "b"}}}


def test_an_outline_names_an_object_and_no_more():
    store = ObjectStore(CANARYPOLICIES, keep=outline)
    obj = a_policy("checkout", 5, steps=[1])
    obj["metadata"]["annotations"] = {"a": "b"}
    store.apply("ADDED", obj)
    named = {"namespace": "shop", "name": "checkout", "uid": "uid-checkout", "resourceVersion": "5"}
    assert store.get(CHECKOUT) == {"metadata": named}


def test_objects_come_by_namespace_in_the_order_of_their_keys():
    store = ObjectStore(CANARYPOLICIES)
    other = a_policy("a")
    other["metadata"]["namespace"] = "other"
    store.replace(Listing([a_policy("b"), other, a_policy("a")], "3"))
    assert [obj["metadata"]["name"] for obj in store.list("shop")] == ["a", "b"]
    assert len(store.list()) == 3
