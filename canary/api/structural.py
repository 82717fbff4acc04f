"""A pydantic model becomes a structural schema, the form of JSON schema that Kubernetes stores and checks by.

The API server wants references inlined, no null, one type a node, and a bound on every string, list and map; what
cannot be said that way raises `SchemaError` here, at build time, never on somebody's cluster. `crd.py` calls it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from canary.api.types import PERCENT_PATTERN, Model, format_duration, format_percent
from canary.errors import InvariantError

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "type",
        "description",
        "enum",
        "format",
        "pattern",
        "default",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
    }
    | {"minProperties", "maxProperties", "minimum", "maximum", "required", "properties", "items"}
    | {"additionalProperties", "exclusiveMinimum", "exclusiveMaximum"}
)
_DROPPED = frozenset({"title", "examples", "propertyNames", "$defs"})
_INTEGER_FORMATS = frozenset({"int32", "int64"})


class SchemaError(InvariantError):
    """A model of ours that Kubernetes could not store: a defect, found when the CRDs are generated."""


class _WireDefaults(GenerateJsonSchema):
    """Defaults as they are written on the wire."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return dft.wire() if isinstance(dft, Model) else super().encode_default(dft)


def structural(model: type[Model], *, defaults: bool = True) -> Schema:
    """Return the structural schema of `model`; raise SchemaError with the path of what cannot be one.

    Without `defaults` the API server adds nothing to what is written: for statuses.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=_WireDefaults)
    definitions: Mapping[str, Schema] = schema.get("$defs", {})

    def inline(node: Schema, path: str) -> Schema:
        node = _resolved(node, definitions, path)
        unknown = sorted(node.keys() - _KEPT - _DROPPED - {"const"})
        if unknown:
            raise SchemaError(f"{path}: {', '.join(unknown)} has no structural form")
        node = _single_typed({key: value for key, value in node.items() if key not in _DROPPED})
        _settle_default(node, defaults)
        if "properties" in node:
            if node.pop("additionalProperties", False):
                raise SchemaError(f"{path}: either fields or a map, not both")
            fields = node["properties"].items()
            node["properties"] = {name: inline(field, f"{path}.{name}") for name, field in fields}
        for word, step in (("additionalProperties", "{}"), ("items", "[]")):
            if isinstance(node.get(word), dict):
                node[word] = inline(node[word], path + step)
        _lint(node, path)
        return node

    try:
        return inline(schema, model.__name__)
    except RecursionError as error:
        raise SchemaError(f"{model.__name__}: a model in it contains itself") from error


def _resolved(node: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    """Follow references and `X | None` down to one node; the words at the outer node win."""
    while "$ref" in node or "anyOf" in node:
        node = dict(node)
        if "anyOf" in node:
            union = node.pop("anyOf")
            choices = [choice for choice in union if choice.get("type") != "null"]
            if len(choices) != 1 or len(union) != 2:
                raise SchemaError(f"{path}: a field has one type; only `X | None` is a union")
            node = {**choices[0], **node}
        else:
            name = node.pop("$ref").rpartition("/")[2]
            node = {**definitions[name], **node}
    return node


def _settle_default(node: Schema, wanted: bool) -> None:
    default = node.pop("default", None)
    if default is None or not wanted:
        return
    if node.get("pattern") == PERCENT_PATTERN and isinstance(default, int):
        default = format_percent(default)
    node["default"] = default


def _single_typed(node: Schema) -> Schema:
    """Write `const` and exclusive bounds as the API server's older dialect does."""
    node = dict(node)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for exclusive, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in node:
            node[plain], node[exclusive] = node[exclusive], True
    return node


def _lint(node: Schema, path: str) -> None:
    """Refuse what the API server would refuse, or would refuse together with a rule over it."""
    kind = node.get("type")
    if kind == "object" and "properties" not in node:
        _need(node, path, "additionalProperties", "maxProperties")
    elif kind == "array":
        _need(node, path, "items", "maxItems")
    elif kind == "string" and "enum" not in node:
        _need(node, path, "maxLength")
    elif kind == "number":
        _need(node, path, "minimum", "maximum")
    elif kind == "integer" and node.get("format") not in _INTEGER_FORMATS:
        raise SchemaError(f"{path}: an integer says int32 or int64")
    elif kind not in {"object", "string", "integer", "boolean"}:
        raise SchemaError(f"{path}: the type {kind} cannot be stored")
    for name, field in node.get("properties", {}).items():
        if not field.get("description"):
            raise SchemaError(f"{path}.{name}: has no description")


def _need(node: Schema, path: str, *bounds: str) -> None:
    for bound in bounds:
        if node.get(bound) in (None, True):
            raise SchemaError(f"{path}: needs {bound}")
