"""Manifests in YAML files: what `judge`, `rehearse`, `flag`, `attest` and `lint` are given.

Enters: a path, or "-" for stdin. Leaves: the objects as they stand there, or a refusal that names the file.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from canary.api.read import parse_safety
from canary.api.safety import TrustedKey
from canary.errors import RefusedError

MAX_BYTES = 4 * 1024 * 1024


def read_text(path: str) -> str:
    """Return a file's text. Raise RefusedError where it cannot be read, or is too large."""
    try:
        if path == "-":
            text = sys.stdin.read(MAX_BYTES + 1)
        else:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RefusedError(f"cannot read {path}: {error.strerror}", code="CAN-2005") from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} is not text in UTF-8: {error}", code="CAN-4202") from error
    if len(text) > MAX_BYTES:
        raise RefusedError(f"{path} has more than {MAX_BYTES} characters", code="CAN-2005")
    return text


def read_manifests(path: str) -> list[Any]:
    """Return every document of a YAML file that is not empty; the items of a List each for itself."""
    text = read_text(path)
    try:
        documents = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RefusedError(f"{path} is not YAML: {error}", code="CAN-4202") from error
    return [item for document in documents if document is not None for item in _items(document)]


def _items(document: Any) -> list[Any]:
    if isinstance(document, dict) and document.get("kind") == "List":
        return list(document.get("items") or [])
    return [document]


def objects_of_kind(manifests: list[Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests if isinstance(each, dict) and each.get("kind") == kind]


def read_manifest(path: str, kind: str) -> dict[str, Any]:
    """Return the one object of a kind in a YAML file; raise RefusedError where there is none or several."""
    found = objects_of_kind(read_manifests(path), kind)
    if len(found) != 1:
        text = f"{path} holds {len(found)} objects of the kind {kind}, and one is needed"
        raise RefusedError(text, code="CAN-4202")
    return found[0]


def template_of(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the pod template of a Deployment. Raise RefusedError where it holds no container with an image."""
    spec = deployment.get("spec")
    template = spec.get("template") if isinstance(spec, Mapping) else None
    pods = template.get("spec") if isinstance(template, Mapping) else None
    containers = pods.get("containers") if isinstance(pods, Mapping) else None
    named = [each for each in containers if isinstance(each, Mapping)] if isinstance(containers, list) else []
    if not named or any(not isinstance(each.get("image"), str) for each in named):
        raise RefusedError("spec.template.spec.containers of the Deployment names no image", code="CAN-4202")
    assert isinstance(template, Mapping)
    return template


def trusted_keys(path: str) -> list[TrustedKey]:
    """Return the keys that the one SafetyPolicy in a file believes."""
    return parse_safety(read_manifest(path, "SafetyPolicy")).trusted_keys
