"""The merge patch between two objects: applied by the rules of RFC 7396, it always makes the new one."""

from hypothesis import given
from hypothesis import strategies as st

from canary.kube.patches import merge_diff

SCALARS = st.one_of(st.booleans(), st.integers(-2, 2), st.sampled_from(["", "x", 0.0, 1.0]))
LEAVES = st.one_of(SCALARS, st.none())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def merged(target, patch):
    """The algorithm of RFC 7396, section 2, word by word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def without_nulls(value):
    """An object as an API server keeps it: a null in an object is an absent key."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


@given(OBJECTS, OBJECTS)
def test_the_patch_turns_the_old_object_into_the_new_one(old, new):
    old = without_nulls(old)
    assert repr(sort(merged(old, merge_diff(old, new)))) == repr(sort(without_nulls(new)))


@given(OBJECTS)
def test_equal_objects_need_no_patch(obj):
    assert merge_diff(without_nulls(obj), obj) == {}


@given(OBJECTS, OBJECTS)
def test_the_patch_names_nothing_that_is_equal(old, new):
    old, new = without_nulls(old), without_nulls(new)
    patch = merge_diff(old, new)
    assert not [key for key in patch if repr(sort(old.get(key))) == repr(sort(new.get(key)))]


def test_true_is_not_one():
    assert merge_diff(
        {"a": 1, "b": [1], "c": {"d": [{"e": 0}]}}, {"a": True, "b": [1], "c": {"d": [{"e": False}]}}
    ) == {
        "a": True,
        "c": {"d": [{"e": False}]},
    }


def test_a_removed_key_is_an_explicit_null_and_a_list_is_replaced_whole():
    old = {"status": {"phase": "Held", "steps": [1, 2], "message": "x"}, "kept": {"a": 1}}
    new = {"status": {"phase": "Held", "steps": [1, 2, 3]}, "kept": {"a": 1}}
    assert merge_diff(old, new) == {"status": {"steps": [1, 2, 3], "message": None}}


def sort(value):
    """Order the keys, so that the representations of equal JSON values are equal and true is not 1."""
    if isinstance(value, dict):
        return {key: sort(value[key]) for key in sorted(value)}
    return [sort(inner) for inner in value] if isinstance(value, list) else value
