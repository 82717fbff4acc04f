"""The three patches of the API: JSON merge patch (RFC 7386), JSON patch (RFC 6902) and Kubernetes' strategic
merge.

Each takes a private copy of the stored object and the patch, and returns the patched object; what cannot be
applied is a 422, above all a failed `test`. Strategic merge knows the list keys of the built-in kinds that
`kubectl set`, `rollout` and `apply` send; a list without a key is replaced, as in a merge patch.
"""

from collections.abc import Callable
from typing import Any

from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.objects import Object, canonical, clone

MAX_OPERATIONS = 10_000  # of one JSON patch, as the real server's limit

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "conditions": "type",
    "ownerReferences": "uid",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_DIRECTIVES = ("$patch", "$retainKeys")
_ORDER, _DELETE_PRIMITIVES = "$setElementOrder/", "$deleteFromPrimitiveList/"


def _refuse(message: str) -> ApiError:
    return ApiError(
        StatusReason.INVALID, f"the server rejected our request due to an error in our request: {message}"
    )


def merge_patch(target: Any, patch: Any) -> Any:
    """Merge `patch` into `target`: null removes a key, a list is replaced whole."""
    if not isinstance(patch, dict):
        return patch
    merged: Object = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """Apply the operations in order; the first that cannot be applied refuses them all."""
    if not isinstance(operations, list):
        raise ApiError(StatusReason.BAD_REQUEST, "a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise ApiError(StatusReason.TOO_LARGE, f"a JSON patch has at most {MAX_OPERATIONS} operations")
    document = {"": target}  # a root of our own, so that the path "" is no special case
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise ApiError(StatusReason.BAD_REQUEST, "each operation has an op and a path")
        _operate(document, operation)
    return document[""]


def _operate(document: Any, operation: Object) -> None:
    path = _pointer(operation["path"])
    match operation.get("op"):
        case "test":
            if canonical(_read(document, path)) != canonical(operation.get("value")):
                raise _refuse(f"testing path {operation['path']} failed")
        case "add":
            _write(document, path, _value(operation), insert=True)
        case "replace":
            _read(document, path)
            _write(document, path, _value(operation), insert=False)
        case "remove":
            _remove(document, path)
        case "copy":
            _write(document, path, clone(_read(document, _source(operation))), insert=True)
        case "move":
            value = _read(document, _source(operation))
            _remove(document, _source(operation))
            _write(document, path, value, insert=True)
        case unknown:
            raise ApiError(StatusReason.BAD_REQUEST, f"unknown JSON patch operation {unknown!r}")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise _refuse(f"a path starts with a slash: {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _source(operation: Object) -> list[str]:
    if not isinstance(operation.get("from"), str):
        raise ApiError(StatusReason.BAD_REQUEST, f"{operation['op']} needs a from path")
    return _pointer(operation["from"])


def _value(operation: Object) -> Any:
    if "value" not in operation:
        raise ApiError(StatusReason.BAD_REQUEST, f"{operation['op']} needs a value")
    return operation["value"]


def _index(container: list[Any], part: str, length: int) -> int:
    if not part.isdigit() or (len(part) > 1 and part.startswith("0")) or int(part) >= length:
        raise _refuse(f"no entry {part!r} in a list of {len(container)}")
    return int(part)


def _read(document: Any, path: list[str]) -> Any:
    value = document
    for part in path:
        if isinstance(value, list):
            value = value[_index(value, part, len(value))]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise _refuse(f"no such path: {'/'.join(path)}")
    return value


def _write(document: Any, path: list[str], value: Any, *, insert: bool) -> None:
    parent, last = _read(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif not isinstance(parent, list):
        raise _refuse(f"no such path: {'/'.join(path)}")
    elif not insert:
        parent[_index(parent, last, len(parent))] = value
    else:
        parent.insert(len(parent) if last == "-" else _index(parent, last, len(parent) + 1), value)


def _remove(document: Any, path: list[str]) -> None:
    _read(document, path)
    parent, last = _read(document, path[:-1]), path[-1]
    del parent[int(last) if isinstance(parent, list) else last]


def strategic_patch(target: Any, patch: Any, field: str = "") -> Any:
    """Merge as the built-in kinds do: lists with a known key entry by entry, `$` directives obeyed."""
    if isinstance(patch, list):
        return _merge_list(target if isinstance(target, list) else [], patch, field)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    merged: Object = target if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        merged = {key: value for key, value in merged.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        _merge_field(merged, key, value)
    for key, order in patch.items():
        if key.startswith(_ORDER):
            _reorder(merged, key.removeprefix(_ORDER), order)
    return merged


def _merge_field(merged: Object, key: str, value: Any) -> None:
    if key in _DIRECTIVES or key.startswith(_ORDER):
        return
    if key.startswith(_DELETE_PRIMITIVES):
        name = key.removeprefix(_DELETE_PRIMITIVES)
        merged[name] = [entry for entry in merged.get(name, []) if entry not in value]
    elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
        merged.pop(key, None)
    else:
        merged[key] = strategic_patch(merged.get(key), value, key)


def _merge_key(field: str, entries: list[Any]) -> str | None:
    """Return the key of a list's entries; `ports` is a container's or a Service's."""
    if field == "ports":
        return "containerPort" if any("containerPort" in entry for entry in entries) else "port"
    return MERGE_KEYS.get(field)


def _merge_list(target: list[Any], patch: list[Any], field: str) -> list[Any]:
    if not all(isinstance(entry, dict) for entry in [*target, *patch]):
        return patch
    key = _merge_key(field, [*target, *patch])
    if key is None or any(entry.get("$patch") == "replace" for entry in patch):
        return [entry for entry in patch if entry.get("$patch") != "replace"]
    merged: dict[Any, Any] = {entry.get(key): entry for entry in target}
    for entry in patch:
        if entry.get("$patch") == "delete":
            merged.pop(entry.get(key), None)
        else:
            merged[entry.get(key)] = strategic_patch(merged.get(entry.get(key)), entry)
    return list(merged.values())


def _reorder(merged: Object, field: str, order: list[Any]) -> None:
    entries = merged.get(field)
    if not isinstance(entries, list) or not entries:
        return
    key = _merge_key(field, [entry for entry in entries if isinstance(entry, dict)])
    wanted = {_identity(entry, key): place for place, entry in enumerate(order)}
    entries.sort(key=lambda entry: wanted.get(_identity(entry, key), len(wanted)))


def _identity(entry: Any, key: str | None) -> Any:
    return entry.get(key) if isinstance(entry, dict) and key is not None else entry


PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merge_patch,
    "application/json-patch+json": json_patch,
    "application/strategic-merge-patch+json": strategic_patch,
}
