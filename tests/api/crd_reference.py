"""The reference of the four kinds as Markdown, made from the same schemas as the CRDs.

`docs/reference/crd.md` is this text; a test keeps the two equal. Nothing in it is written by hand, so that the page,
`kubectl explain` and the API server's checks cannot disagree.
"""

import json
from collections.abc import Iterator
from typing import Any

from canary.api.crd import crds
from canary.api.kinds import KINDS, Column, Kind
from canary.api.reasons import API_VERSION
from canary.api.types import DURATION_PATTERN, PERCENT_PATTERN

_NAMED_PATTERNS = {DURATION_PATTERN: "duration", PERCENT_PATTERN: "share"}

_INTRODUCTION = f"""\
# The four kinds

Group and version: `{API_VERSION}`. Generated from the models; `kubectl explain` says the same.
Times are RFC 3339 in UTC, durations are written `90s`, `30m`, `1h30m`, shares `0.5%`.
An unknown field is refused by `canary lint` with the nearest known name.
"""


def reference() -> str:
    """Return the page: for each kind its fields, its rules and its columns."""
    return "\n".join(
        [_INTRODUCTION, *(_kind_page(kind, crd) for kind, crd in zip(KINDS, crds(), strict=True))]
    )


def _kind_page(kind: Kind, crd: dict[str, Any]) -> str:
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    scope = "in a namespace" if kind.namespaced else "for the whole cluster"
    parts = [
        f"## {kind.name}\n\n{kind.says} One object {scope}; `kubectl get {kind.plural}`, short `{kind.short_name}`.\n",
        _fields_table(root, "spec"),
        "What the API server refuses besides:\n",
        *(f"- `{rule.path or kind.name}`: {rule.message}" for rule in kind.rules),
        "",
        _fields_table(root, "status"),
        f"Columns: {', '.join(_column(column) for column in kind.columns)}.\n",
    ]
    return "\n".join(parts)


def _column(column: Column) -> str:
    return f"{column.name} (wide)" if column.wide else column.name


def _fields_table(root: dict[str, Any], part: str) -> str:
    rows = ["| field | form | default | meaning |", "|---|---|---|---|"]
    rows += _rows(root["properties"][part], part)
    return f"### {part}\n\n" + "\n".join(rows) + "\n"


def _rows(node: dict[str, Any], path: str) -> Iterator[str]:
    required = node.get("required", ())
    for name, field in node.get("properties", {}).items():
        default = "required" if name in required else _code(field["default"]) if "default" in field else ""
        cells = (f"`{path}.{name}`", _form(field), default, field["description"])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        inner = field.get("items", field)
        yield from _rows(inner, f"{path}.{name}" + ("[]" if "items" in field else ""))


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _form(field: dict[str, Any]) -> str:
    """Say in a few words what may stand in a field."""
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if field["type"] == "array":
        return f"list of {_form(field['items'])}, at most {field['maxItems']}"
    if "additionalProperties" in field:
        return f"map to {_form(field['additionalProperties'])}, at most {field['maxProperties']}"
    if field.get("format") == "date-time":
        return "time"
    if field.get("pattern") in _NAMED_PATTERNS:
        return _NAMED_PATTERNS[field["pattern"]]
    if field["type"] == "string":
        return f"text, at most {field['maxLength']}"
    bounds = [
        f"{word} {field[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in field
    ]
    return " ".join([field["type"], *bounds])


if __name__ == "__main__":
    print(reference(), end="")
