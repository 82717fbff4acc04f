"""Structural schemas: what an API server does to an object before it stores it.

`complete` prunes unknown fields and fills in defaults; `problems` lists what breaks the schema, each with its
path; `refuse_unknown_rules` compiles every CEL rule once, so that a CRD with a rule that the lab cannot
evaluate is refused. Called by the store for CRDs and for the built-in kinds of `builtin_kinds.py`; pure.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import lru_cache
from typing import Any

from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.cel import CelError, compile_rule
from canary.lab.apiserver.objects import Object, canonical, clone

Schema = Mapping[str, Any]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_RULES = "x-kubernetes-validations"
_OBJECT_META = frozenset({"apiVersion", "kind", "metadata"})


def complete(obj: Object, schema: Schema, stored: Object | None = None) -> Object:
    """Prune and default an object in place and return it; a part that is shared with `stored` is complete."""
    shared = {name for name, part in obj.items() if stored is not None and part is stored.get(name)}
    _complete_object(obj, schema, shared | _OBJECT_META)
    return obj


def _complete(value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        _complete_object(value, schema, frozenset())
    elif isinstance(value, list) and "items" in schema:
        for entry in value:
            _complete(entry, schema["items"])
    return value


def _complete_object(value: dict[str, Any], schema: Schema, untouched: AbstractSet[str]) -> None:
    fields: Mapping[str, Schema] = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    keep_unknown = schema.get(_PRESERVE) or rest is not None
    for name in list(value):
        if name in untouched:
            continue
        field = fields.get(name, rest if isinstance(rest, dict) else None)
        is_null = value[name] is None and not (field or {}).get("nullable")
        if (field is None and not keep_unknown) or (field is not None and is_null):
            del value[name]
        elif field is not None:
            _complete(value[name], field)
    for name, field in fields.items():
        if name not in value and "default" in field:
            value[name] = _complete(clone(field["default"]), field)


def unknown_fields(value: Any, schema: Schema, path: str = "", *, root: bool = True) -> Iterator[str]:
    """Yield the path of each field that `complete` would prune."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from unknown_fields(entry, schema.get("items") or {}, f"{path}[{index}]", root=False)
    if not isinstance(value, dict):
        return
    fields: Mapping[str, Schema] = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    for name, entry in value.items():
        field = fields.get(name, rest if isinstance(rest, dict) else None)
        if root and name in _OBJECT_META:
            continue
        if field is not None:
            yield from unknown_fields(entry, field, _joined(path, name), root=False)
        elif not schema.get(_PRESERVE) and rest is None:
            yield _joined(path, name)


def problems(value: Any, schema: Schema, path: str = "", old: Any = None) -> Iterator[str]:
    """Yield each breach of the schema by `value` as a sentence that starts with its path.

    `old` is what stood there before, for rules about transitions; None where there was nothing. What did not
    change is not looked at again, so that a tightened schema does not lock objects that it finds.
    """
    if old is not None and (value is old or value == old):
        return
    wrong = _type_problem(value, schema)
    if wrong:
        yield f"{path or '<root>'}: Invalid value: {_shown(value)}: {wrong}"
        return
    broken = list(_shape_problems(value, schema, path, old))
    yield from broken
    if not broken:  # a rule may rely on the shape
        yield from _rule_problems(value, schema, path, old)


def _shape_problems(value: Any, schema: Schema, path: str, old: Any) -> Iterator[str]:
    yield from _limits(value, schema, path)
    if isinstance(value, dict):
        yield from _object_problems(value, schema, path, old)
    elif isinstance(value, list):
        yield from _list_problems(value, schema, path, old)


def _shown(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "number": _is_number,
}


def _type_problem(value: Any, schema: Schema) -> str:
    if value is None:
        return "" if schema.get("nullable") else "must not be null"
    if schema.get(_INT_OR_STRING):
        return "" if isinstance(value, str) or _TYPES["integer"](value) else "must be an integer or a string"
    wanted = schema.get("type")
    return f"must be of type {wanted}" if wanted and not _TYPES[wanted](value) else ""


def _limits(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if value is None:
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(_shown(choice) for choice in schema["enum"])
        yield f"{path}: Unsupported value: {_shown(value)}: supported values: {supported}"
    for word, (breaks, said) in _LIMITS.items():
        if word in schema and breaks(value, schema[word]):
            yield f"{path}: Invalid value: {_shown(value)}: {path} in body {said.format(schema[word])}"


def _is_moment(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


_FORMATS: Mapping[str, Callable[[Any], bool]] = {
    "date-time": _is_moment,
    "int32": lambda value: -(1 << 31) <= value < 1 << 31,
    "int64": lambda value: -(1 << 63) <= value < 1 << 63,
}
_LIMITS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minLength": (lambda value, least: len(value) < least, "should be at least {} chars long"),
    "maxLength": (lambda value, most: len(value) > most, "may not be longer than {}"),
    "pattern": (lambda value, text: not _pattern(text).search(value), "should match '{}'"),
    "minimum": (lambda value, least: value < least, "should be greater than or equal to {}"),
    "maximum": (lambda value, most: value > most, "should be less than or equal to {}"),
    "minItems": (lambda value, least: len(value) < least, "must have at least {} items"),
    "maxItems": (lambda value, most: len(value) > most, "must have at most {} items"),
    "maxProperties": (lambda value, most: len(value) > most, "must have at most {} properties"),
    "format": (lambda value, form: form in _FORMATS and not _FORMATS[form](value), "must be of type {}"),
}


def _object_problems(value: dict[str, Any], schema: Schema, path: str, old: Any) -> Iterator[str]:
    fields: Mapping[str, Schema] = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    before: Mapping[str, Any] = old if isinstance(old, dict) else {}
    for name in schema.get("required") or ():
        if name not in value:
            yield f"{_joined(path, name)}: Required value"
    for name, entry in value.items():
        field = fields.get(name, rest if isinstance(rest, dict) else None)
        if field is not None:
            yield from problems(entry, field, _joined(path, name), before.get(name))


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _list_problems(value: list[Any], schema: Schema, path: str, old: Any) -> Iterator[str]:
    keys: list[str] = schema.get("x-kubernetes-list-map-keys") or []
    identities = [_identity(entry, keys) for entry in value] if keys else []
    before = {_identity(entry, keys): entry for entry in old} if keys and isinstance(old, list) else {}
    for index, identity in enumerate(identities):
        if identity in identities[:index]:
            yield f"{path}[{index}]: Duplicate value: {identity}"
    for index, entry in enumerate(value):
        former = before.get(identities[index]) if identities else None
        yield from problems(entry, schema.get("items") or {}, f"{path}[{index}]", former)


def _identity(entry: Any, keys: Sequence[str]) -> str:
    return canonical({key: entry.get(key) for key in keys} if isinstance(entry, dict) else entry)


def _rule_problems(value: Any, schema: Schema, path: str, old: Any) -> Iterator[str]:
    for entry in schema.get(_RULES) or ():
        rule: str = entry["rule"]
        if old is None and "oldSelf" in rule:
            continue  # a rule about a change has nothing to say about a beginning
        try:
            holds = compile_rule(rule)({"self": value, "oldSelf": old})
        except CelError as error:
            holds, why = False, f"failed rule: {rule}: {error}"
        else:
            why = entry.get("message") or f"failed rule: {rule}"
        if not holds:
            yield f"{path or '<root>'}: Invalid value: {_shown(value)}: {why}"


def refuse_unknown_rules(schema: Schema, path: str = "") -> None:
    """Compile every CEL rule and pattern below `schema`; raise a 422 that names the first unreadable one."""
    for entry in schema.get(_RULES) or ():
        try:
            compile_rule(entry["rule"])
        except CelError as error:
            message = f"{path or '<root>'}: the rule {entry['rule']!r} cannot be evaluated: {error}"
            raise ApiError(StatusReason.INVALID, message) from error
    for name, field in (schema.get("properties") or {}).items():
        refuse_unknown_rules(field, _joined(path, name))
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            refuse_unknown_rules(schema[word], f"{path}[]")
