"""The hash of a pod template: the one name of a version, for runs, approvals and rejections.

A template as stored goes in, `sha256:…` comes out. It is our own and not the pod-template-hash label, whose value may
change with a release of Kubernetes. Taken of the defaulted template as the API server returns it, so the Deployment
that asks for a version and the ReplicaSet that runs it have the same hash.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

ADDED_LABEL = "pod-template-hash"  # the Deployment controller adds it to its ReplicaSets' templates


def template_hash(template: Mapping[str, Any]) -> str:
    """Return the digest of a pod template; the order of keys, nulls and what controllers add do not matter."""
    metadata: Mapping[str, Any] = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != ADDED_LABEL}
    told = {key: value for key, value in {**metadata, "labels": labels}.items() if value not in ({}, [])}
    told.pop("creationTimestamp", None)
    return digest({**template, "metadata": told})


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value in its one canonical spelling; a null is as good as absent."""
    text = json.dumps(
        _without_nulls(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
