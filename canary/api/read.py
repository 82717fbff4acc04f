"""Objects as the API server or a file holds them become models, or a refusal that says where and what was meant.

*Strict* reading is for `canary lint` and the CLI: every wrong or unknown field is named with its path and the nearest
known name. *Lenient* reading is for the controller: fields that this version does not know are dropped, so that an
older replica survives a newer object. Whatever comes in, only a `RefusedError` comes out.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from canary.api.kinds import CANARY_POLICY, CANARY_REQUEST, CANARY_RUN, KINDS, SAFETY_POLICY, Kind
from canary.api.people import People
from canary.api.policy import CanaryPolicySpec, CanaryPolicyStatus
from canary.api.reasons import API_VERSION
from canary.api.request import CanaryRequestSpec
from canary.api.run import CanaryRunSpec, CanaryRunStatus
from canary.api.safety import SafetyPolicySpec, SafetyPolicyStatus
from canary.api.types import Model
from canary.errors import RefusedError

CODE = "CAN-4201"
MAX_PROBLEMS = 50
MAX_SHOWN = 60  # characters of a wrong value
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
# Lists of a status, of which an entry from a newer version may go.
_HISTORY = frozenset({"timeline", "notices", "conditions"})

_IDENTITY_MAP = Kind("identity map", "", "", "Who is who.", People, People)

M = TypeVar("M", bound=Model)
Path = tuple[str | int, ...]


class Reading(StrEnum):
    """How strictly an object is read."""

    STRICT = "strict"
    LENIENT = "lenient"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an object: where, what, and the name that was probably meant ("" if none is near)."""

    path: str
    says: str
    meant: str = ""

    def __str__(self) -> str:
        hint = f"; did you mean '{self.meant}'?" if self.meant else ""
        return f"{self.path or 'the object'}: {self.says}{hint}"


class InvalidObject(RefusedError):
    """The object cannot be read; `problems` lists everything that is wrong with it."""

    def __init__(self, kind: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        said = "; ".join(str(problem) for problem in self.problems)
        super().__init__(f"this {kind} is not valid: {said}", code=CODE)


def parse_policy(raw: object, reading: Reading = Reading.STRICT) -> CanaryPolicySpec:
    """Return the spec of a whole CanaryPolicy; raise InvalidObject listing every problem."""
    return _read(raw, CANARY_POLICY, CanaryPolicySpec, reading)


def parse_run(raw: object, reading: Reading = Reading.STRICT) -> CanaryRunSpec:
    """Return the spec of a whole CanaryRun; raise InvalidObject listing every problem."""
    return _read(raw, CANARY_RUN, CanaryRunSpec, reading)


def parse_request(raw: object, reading: Reading = Reading.STRICT) -> CanaryRequestSpec:
    """Return the spec of a whole CanaryRequest; raise InvalidObject listing every problem."""
    return _read(raw, CANARY_REQUEST, CanaryRequestSpec, reading)


def parse_safety(raw: object) -> SafetyPolicySpec:
    """Return the spec of a whole SafetyPolicy, read strictly: a rule that is not known is not passed over."""
    return _read(raw, SAFETY_POLICY, SafetyPolicySpec, Reading.STRICT)


def parse_approved(text: str) -> SafetyPolicySpec:
    """Return a text that was approved before, as a status keeps it; leniently: an older version may have kept it."""
    return _approved(text, SAFETY_POLICY, SafetyPolicySpec)


def parse_approved_policy(text: str) -> CanaryPolicySpec:
    """Return the text of a CanaryPolicy that was approved before, as its status keeps it; leniently, too."""
    return _approved(text, CANARY_POLICY, CanaryPolicySpec)


def _approved(text: str, kind: Kind, model: type[M]) -> M:
    try:
        spec: Any = json.loads(text)
    except ValueError as error:
        raise InvalidObject(kind.name, [Problem("status.effective", "is not JSON")]) from error
    return _validated_leniently(spec, kind, model, "status.effective")


def parse_safety_status(raw: object) -> SafetyPolicyStatus:
    """Return the status, leniently; an object without one has the first status."""
    return _read_status(raw, SAFETY_POLICY, SafetyPolicyStatus)


def parse_people(raw: object) -> People:
    """Return the identity map; raise InvalidObject listing every problem."""
    return _validated(raw if raw is not None else {}, _IDENTITY_MAP, People, "")


def parse_policy_status(raw: object) -> CanaryPolicyStatus:
    """Return the status, leniently; an object without one has the first status."""
    return _read_status(raw, CANARY_POLICY, CanaryPolicyStatus)


def parse_run_status(raw: object) -> CanaryRunStatus:
    """Return the status, leniently; an object without one has the first status."""
    return _read_status(raw, CANARY_RUN, CanaryRunStatus)


def problems(raw: object) -> tuple[Problem, ...]:
    """Return everything that is wrong with an object of any of the four kinds; nothing where it is valid."""
    name = raw.get("kind") if isinstance(raw, Mapping) else None
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if kind is None:
        known = [kind.name for kind in KINDS]
        return (Problem("kind", f"{_shown(name)} is none of {', '.join(known)}", _nearest(name, known)),)
    try:
        _read(raw, kind, kind.spec, Reading.STRICT)
    except InvalidObject as error:
        return error.problems
    return ()


def _read(raw: object, kind: Kind, model: type[M], reading: Reading) -> M:
    if not isinstance(raw, Mapping):
        raise InvalidObject(kind.name, [Problem("", f"{_shown(raw)} is not an object")])
    if reading is Reading.LENIENT:
        return _validated_leniently(raw.get("spec"), kind, model, "spec")
    found = list(_frame_problems(raw, kind))
    try:
        spec = _validated(raw.get("spec"), kind, model, "spec")
    except InvalidObject as error:
        raise InvalidObject(kind.name, [*found, *error.problems][:MAX_PROBLEMS]) from error
    if found:
        raise InvalidObject(kind.name, found[:MAX_PROBLEMS])
    return spec


def _read_status(raw: object, kind: Kind, model: type[M]) -> M:
    status = raw.get("status") if isinstance(raw, Mapping) else None
    return model() if status is None else _validated_leniently(status, kind, model, "status")


def _frame_problems(raw: Mapping[Any, Any], kind: Kind) -> Iterable[Problem]:
    """What surrounds the spec: version, kind, name, and no field that does not belong there."""
    for name in raw:
        if name not in _TOP:
            yield Problem(_path((name,)), "is not a known field", _nearest(name, _TOP))
    for name, wanted in (("apiVersion", API_VERSION), ("kind", kind.name)):
        if raw.get(name) != wanted:
            yield Problem(name, f"is {_shown(raw.get(name))}, but must be {wanted}")
    metadata = raw.get("metadata")
    if not isinstance(metadata, Mapping) or not (metadata.get("name") or metadata.get("generateName")):
        yield Problem("metadata.name", "is missing")


def _validated(value: object, kind: Kind, model: type[M], root: str) -> M:
    try:
        text = json.dumps(value, default=_as_wire, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidObject(kind.name, [Problem(root, f"is not JSON ({error})")]) from error
    try:
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise InvalidObject(
            kind.name, [_problem(model, detail, root) for detail in details][:MAX_PROBLEMS]
        ) from error


def _as_wire(value: object) -> object:
    """Write a moment as text: YAML reads an unquoted one as a date, the API server as a string."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):  # a read-only view of a cached object
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in an object")


def _validated_leniently(value: object, kind: Kind, model: type[M], root: str) -> M:
    """Validate; where that fails, drop what a newer version may have added and validate once more."""
    try:
        return _validated(value, kind, model, root)
    except InvalidObject as refusal:
        details = (
            refusal.__cause__.errors(include_url=False)
            if isinstance(refusal.__cause__, ValidationError)
            else []
        )
        unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
        history = [
            detail["loc"][:2] for detail in details if detail["loc"][0:1] and detail["loc"][0] in _HISTORY
        ]
        if not unknown and not history:
            raise
        return _validated(_without(value, {*unknown, *history}), kind, model, root)


def _without(value: Any, paths: set[Path], here: Path = ()) -> Any:
    """Return `value` less what lies at `paths`."""
    if isinstance(value, Mapping):
        kept = {name: entry for name, entry in value.items() if (*here, name) not in paths}
        return {name: _without(entry, paths, (*here, name)) for name, entry in kept.items()}
    if isinstance(value, list):
        kept = [(index, entry) for index, entry in enumerate(value) if (*here, index) not in paths]
        return [_without(entry, paths, (*here, index)) for index, entry in kept]
    return value


def _problem(model: type[Model], detail: ErrorDetails, root: str) -> Problem:
    path = _path((root, *detail["loc"]))
    context: dict[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return Problem(
                path, "is not a known field", _nearest(detail["loc"][-1], _known_fields(model, detail["loc"]))
            )
        case "missing":
            return Problem(path, "is missing")
        case "enum" | "literal_error":
            expected: str = context["expected"]
            choices = re.findall(r"'([^']*)'", expected)
            says = f"is {_shown(detail['input'])}, but must be {expected}"
            return Problem(path, says, _nearest(detail["input"], choices))
        case "value_error":
            return Problem(path, str(context["error"]))
        case _:
            says = detail["msg"][:1].lower() + detail["msg"][1:]
            return Problem(path, f"is {_shown(detail['input'])}; {says}")


def _path(loc: Path) -> str:
    """Write a place as people do: spec.steps[0].weight."""
    text = ""
    for part in loc:
        plain = isinstance(part, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", part)
        text += f".{part}" if plain else f"[{part}]" if isinstance(part, int) else f"[{_shown(part)}]"
    return text.removeprefix(".")


def _known_fields(model: type[Model], loc: Path) -> list[str]:
    """Return the names of the fields beside the one at `loc`."""
    for part in loc[:-1]:
        if isinstance(part, str):
            fields = (field for field in model.model_fields.values() if field.alias == part)
            inner = next((_model_in(field.annotation) for field in fields), None)
            if inner is None:
                return []
            model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[Model] | None:
    """Return the model inside an annotation such as `Annotated[list[Step], ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)


def _nearest(given: object, known: Iterable[str]) -> str:
    by_lower_case = {name.lower(): name for name in known}
    text = str(given).lower().replace("_", "").replace("-", "")[:MAX_SHOWN]
    near = difflib.get_close_matches(text, by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[near[0]] if near else ""


def _shown(value: object) -> str:
    """Show a wrong value: as JSON on one line, capped, control characters escaped."""
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(f"a {type(value).__name__}")
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
