"""The difference between two objects as a JSON merge patch (RFC 7396).

Our own objects are written with it: whoever holds an old and a new version asks here for the least patch.
In a merge patch a list is replaced whole and an explicit null removes a key, so a value of None in `new`
means absent.
"""

from collections.abc import Mapping
from typing import Any

from canary.kube.transport import Json


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """Return the merge patch that turns `old` into `new`; it is empty where they are equal."""
    patch: Json = {key: None for key, value in old.items() if value is not None and new.get(key) is None}
    for key, value in new.items():
        if value is None:
            continue
        former = old.get(key)
        if not isinstance(value, dict) or not isinstance(former, dict):
            if not _equal(former, value):
                patch[key] = value
            continue
        inner = merge_diff(former, value)
        if inner:
            patch[key] = inner
    return patch


def _equal(one: object, other: object) -> bool:
    """Compare as JSON does: true is not 1, also deep inside a list."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and one == other
