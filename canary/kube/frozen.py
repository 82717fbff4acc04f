"""Objects that their readers cannot change.

A cache hands the same object to every worker, so a careless write in one would be believed by all. `freeze`
turns what came off the wire into dicts and lists that refuse to be changed and are ordinary in every other
way (JSON, pydantic, equality). Whoever wants to change something takes `thaw(...)`, a copy.
"""

import sys
from typing import Any, NoReturn


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("an object of the cache is read-only; change a thaw() of it")


class FrozenDict(dict[str, Any]):
    """A dict that refuses to be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        return thaw(self)


class FrozenList(list[Any]):
    """A list that refuses to be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse  # type: ignore[assignment]
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> list[Any]:
        return thaw(self)


def freeze(value: Any) -> Any:
    """Return the JSON value with every dict and list within it read-only.

    Keys are interned: each watch event brings its own copy of them, a good part of a small object.
    """
    if isinstance(value, dict):
        return FrozenDict({sys.intern(key): freeze(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return FrozenList([freeze(inner) for inner in value])
    return value


def thaw(value: Any) -> Any:
    """Return a copy that may be changed."""
    if isinstance(value, dict):
        return {key: thaw(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [thaw(inner) for inner in value]
    return value
