"""The CustomResourceDefinitions of the four kinds, generated from their models.

`canary crd` prints them, the chart carries a copy that a test compares, and the embedded cluster starts with them.
Each carries a digest of its schema: the controller compares it with its own before it raises anything, because an
older CRD would prune newer fields of our status silently.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
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
_YAML_BOOLEANS = frozenset({"on", "off", "yes", "no", "y", "n"})  # what YAML 1.1 would read as true or false
_CONDITIONS = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def crds() -> list[dict[str, Any]]:
    """Return the manifests, one a kind, in the order of `KINDS`."""
    return [_manifest(kind) for kind in KINDS]


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
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    manifest = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "annotations": {DIGEST_ANNOTATION: f"sha256:{digest}"},
        },
        "spec": spec,
    }
    size = len(to_yaml([manifest]).encode())
    if size >= MAX_BYTES:
        raise SchemaError(f"{kind.name}: its CRD has {size} bytes, {MAX_BYTES} are too many")
    return manifest


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


def to_yaml(manifests: Iterable[dict[str, Any]]) -> str:
    """Return the manifests as one YAML stream; scalars are written as JSON, which YAML reads as it stands."""
    return "".join("---\n" + "\n".join(_yaml_lines(manifest, 0)) + "\n" for manifest in manifests)


def _yaml_lines(node: dict[str, Any] | list[Any], depth: int) -> Iterator[str]:
    """Yield one line a leaf: what holds no further object or list stands on the line of its name."""
    pad = "  " * depth
    if isinstance(node, dict):
        entries = [(f"{pad}{_yaml_key(name)}:", entry) for name, entry in node.items()]
    else:
        entries = [(f"{pad}-", entry) for entry in node]
    for lead, entry in entries:
        children = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        if any(isinstance(child, dict | list) for child in children):
            yield lead
            yield from _yaml_lines(entry, depth + 1)
        else:
            yield f"{lead} {_yaml_flow(entry)}"


def _yaml_key(name: str) -> str:
    return json.dumps(name) if name in _YAML_BOOLEANS else name


def _yaml_flow(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_yaml_key(name)}: {_yaml_flow(entry)}" for name, entry in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml_flow, value)) + "]"
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0")  # 1e-06 is a string to YAML 1.1
    return json.dumps(value, ensure_ascii=False)
