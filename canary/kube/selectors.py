"""Label selectors as objects carry them: does one match these labels, and how is it asked of the API server?

Pure. A selector is the dict with `matchLabels` and `matchExpressions`; an empty one matches everything, as in the API.
Used to keep the side out of every selector that serves or counts stable pods.
"""

from collections.abc import Mapping
from typing import Any

Selector = Mapping[str, Any]
Labels = Mapping[str, str]


def of_map(labels: Labels) -> Selector:
    """Return the selector of a Service, which knows equality only."""
    return {"matchLabels": dict(labels)}


def matches(selector: Selector, labels: Labels) -> bool:
    """Tell whether a selector matches; an operator that we do not know is taken to match."""
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_holds(term, labels) for term in selector.get("matchExpressions") or [])


def keys_of(selector: Selector) -> list[str]:
    """Return the label keys that a selector looks at."""
    return [
        *(selector.get("matchLabels") or {}),
        *(term["key"] for term in selector.get("matchExpressions") or []),
    ]


def text_of(selector: Selector) -> str:
    """Return a selector as the API server takes it in a query."""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    return ",".join([*terms, *(_text(term) for term in selector.get("matchExpressions") or [])])


def _holds(term: Selector, labels: Labels) -> bool:
    key, values = term["key"], term.get("values") or []
    match term["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return True


def _text(term: Selector) -> str:
    key, operator, values = term["key"], term["operator"], ",".join(term.get("values") or [])
    match operator:
        case "Exists":
            return key
        case "DoesNotExist":
            return f"!{key}"
        case _:
            return f"{key} {operator.lower()} ({values})"
