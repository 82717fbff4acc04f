"""OpenAPI v3, as far as kubectl reads it: which fields a kind has, and that the server itself validates them.

With it `kubectl apply` and `edit` need no flag, because they leave the checking of fields to us, and `kubectl
explain` shows the docstrings of our own kinds. Called by `discovery.py`; pure.
"""

from collections.abc import Sequence

from canary.lab.objects import Object
from canary.lab.resources import Kind, Kinds

_STRICT = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
_HIDDEN = ("x-kubernetes-validations",)  # rules are for the server, not for readers of the schema


def index(kinds: Kinds) -> Object:
    """Return where the document of each group and version is."""
    roots = sorted({_root(kind) for kind in kinds})
    return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in roots}}


def document(kinds: Kinds, root: str) -> Object | None:
    """Return the document of a group and version, such as `apis/apps/v1`, or None if there is no such group."""
    found = [kind for kind in kinds if _root(kind) == root]
    if not found:
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "lab"},
        "paths": _paths(found),
        "components": {"schemas": {_schema_name(kind): _schema(kind) for kind in found}},
    }


def _root(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _schema_name(kind: Kind) -> str:
    return f"{kind.group or 'core'}.{kind.version}.{kind.name}"


def _type(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.name}


def _paths(kinds: Sequence[Kind]) -> Object:
    paths: Object = {}
    for kind in kinds:
        answer = {"200": {"content": {"application/json": {"schema": {"$ref": _reference(kind)}}}}}
        operation: Object = {"x-kubernetes-group-version-kind": _type(kind), "responses": answer}
        paths[kind.path("{namespace}")] = {"post": {**operation, "parameters": [_STRICT]}}
        paths[kind.path("{namespace}", "{name}")] = {
            "get": {**operation, "x-kubernetes-action": "get"},
            "patch": {**operation, "parameters": [_STRICT], "x-kubernetes-action": "patch"},
        }
    return paths


def _reference(kind: Kind) -> str:
    return f"#/components/schemas/{_schema_name(kind)}"


def _schema(kind: Kind) -> Object:
    schema = {key: value for key, value in kind.schema.items() if key not in _HIDDEN}
    return {**schema, "type": "object", "x-kubernetes-group-version-kind": [_type(kind)]}
