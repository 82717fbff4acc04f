"""The CustomResourceDefinitions of the four kinds, generated from their models.

`canary crd` prints them, the chart carries a copy that a test compares, and the embedded cluster starts with them.
Each carries a digest of its schema: the controller compares it with its own before it raises anything, because an
older CRD would prune newer fields of our status silently.
"""

import hashlib
import json
from functools import cache
from typing import Any

from canary.api.kinds import KINDS, Column, Kind, Rule
from canary.api.reasons import GROUP, VERSION
from canary.api.structural import Schema, SchemaError, structural

DIGEST_ANNOTATION = f"{GROUP}/schema-digest"
MAX_BYTES = 60_000  # of one manifest: client-side apply stores it a second time, in an annotation

_API_VERSION = {
    "type": "string",
    "description": "APIVersion defines the versioned schema of this representation of an object.",
}
_KIND = {"type": "string", "description": "Kind is the REST resource that this object represents."}
_CONDITIONS = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def crds() -> list[dict[str, Any]]:
    """Return the manifests, one a kind, in the order of `KINDS`; they are the caller's own."""
    return json.loads(_manifests())


@cache
def _manifests() -> str:
    return json.dumps([_manifest(kind) for kind in KINDS])


def _manifest(kind: Kind) -> dict[str, Any]:
    spec = {
        "group": GROUP,
        "names": {
            "kind": kind.name,
            "listKind": f"{kind.name}List",
            "plural": kind.plural,
            "singular": kind.name.lower(),
            "shortNames": [kind.short_name],
            "categories": ["canary"],
        },
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [_column(column) for column in kind.columns],
                "schema": {"openAPIV3Schema": _root(kind)},
            }
        ],
    }
    text = json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()
    if len(text) >= MAX_BYTES:
        raise SchemaError(f"{kind.name}: its CRD has {len(text)} bytes, {MAX_BYTES} are too many")
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "annotations": {DIGEST_ANNOTATION: digest}},
        "spec": spec,
    }


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    return {**entry, "priority": 1} if column.wide else entry


def _root(kind: Kind) -> Schema:
    root: Schema = {
        "type": "object",
        "description": kind.says,
        "required": ["spec"],
        "properties": {
            "apiVersion": dict(_API_VERSION),
            "kind": dict(_KIND),
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": structural(kind.status, defaults=False),
        },
    }
    root["properties"]["status"]["properties"].get("conditions", {}).update(_CONDITIONS)
    for rule in kind.rules:
        _place(root, rule)
    return root


def _place(root: Schema, rule: Rule) -> None:
    node = root
    for name in filter(None, rule.path.split(".")):
        node = node["properties"][name]
    node.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": rule.message})
