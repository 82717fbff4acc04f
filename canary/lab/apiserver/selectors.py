"""Label and field selectors: their text becomes a predicate over objects.

Labels know equality and sets (`app=shop,tier in (a,b),!canary`), fields know equality of any dotted path,
which is more than a real server offers and never less. Called by the store's lists and watches and by the
controllers.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from canary.kube import selectors
from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.objects import Object, labels_of

Predicate = Callable[[Object], bool]

_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
_TERM = re.compile(
    rf"\s*(?:(?P<absent>!\s*)?(?P<key>{_KEY})\s*"
    r"(?:(?P<operator>==|=|!=)\s*(?P<value>[A-Za-z0-9._-]*)|(?P<set>notin|in)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)


def everything(_: Object) -> bool:
    return True


@lru_cache(maxsize=1024)
def label_selector(text: str) -> Predicate:
    """Parse a label selector; an empty one selects all. Raise a 400 for what cannot be read."""
    terms: list[dict[str, Any]] = []
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None or found.end() == at:
            raise ApiError(
                StatusReason.BAD_REQUEST, f"unable to parse label selector {text!r} at {text[at:]!r}"
            )
        terms.append(_term(found))
        at = found.end()
    return lambda obj: selectors.matches({"matchExpressions": terms}, labels_of(obj))


def _term(found: re.Match[str]) -> dict[str, Any]:
    """Return one term as objects carry it."""
    if found["set"]:
        operator = "In" if found["set"] == "in" else "NotIn"
        return {
            "key": found["key"],
            "operator": operator,
            "values": re.split(r"\s*,\s*", found["values"].strip()),
        }
    if found["operator"]:
        operator = "NotIn" if found["operator"] == "!=" else "In"
        return {"key": found["key"], "operator": operator, "values": [found["value"]]}
    return {"key": found["key"], "operator": "DoesNotExist" if found["absent"] else "Exists"}


@lru_cache(maxsize=1024)
def field_selector(text: str) -> Predicate:
    """Parse `path=value` and `path!=value` terms joined by commas; an empty selector selects all."""
    terms: list[tuple[tuple[str, ...], bool, str]] = []
    for term in filter(None, text.split(",")):
        path, equal, value = term.partition("!=") if "!=" in term else term.partition("=")
        if not equal:
            raise ApiError(StatusReason.BAD_REQUEST, f"unable to parse field selector term {term!r}")
        terms.append((tuple(path.split(".")), equal != "!=", value.removeprefix("=")))
    return lambda obj: all((_field(obj, path) == value) == wanted for path, wanted, value in terms)


def _field(obj: Object, path: tuple[str, ...]) -> str:
    value: Any = obj
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a workload's `{matchLabels, matchExpressions}` selects these labels; an empty one does not."""
    asks = selector.get("matchLabels") or selector.get("matchExpressions")
    return bool(asks) and selectors.matches(selector, labels)
