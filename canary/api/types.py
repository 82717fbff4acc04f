"""The building bricks of the four kinds: a strict model, durations, percentages, conditions, references.

Everything here is stored by the API server, so every string, list and map has a maximum. `Percent` is written by
people as "0.5%" and is an integer in parts per million everywhere inside; `Duration` is written "90s", "30m", "1h30m".
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from canary.api.reasons import PPM, ConditionType

DURATION_PATTERN = r"^([0-9]{1,6}(ms|s|m|h|d)){1,5}$"
PERCENT_PATTERN = r"^(100|[0-9]{1,2}(\.[0-9]{1,4})?)%$"
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Model(BaseModel):
    """Frozen, camelCase on the wire, and strict: an unknown field is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    def wire(self) -> dict[str, Any]:
        """Return the JSON that the API server stores: camelCase, absent where None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse_duration(value: object) -> timedelta:
    """Parse "90s", "1h30m", "250ms". Raise ValueError on anything else."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not re.fullmatch(DURATION_PATTERN, value):
        raise ValueError(f'{value!r} is not a duration; write for example "90s", "30m" or "1h30m"')
    parts = re.findall(r"([0-9]+)(ms|s|m|h|d)", value)
    return timedelta(seconds=sum(int(count) * _UNIT_SECONDS[unit] for count, unit in parts))


def format_duration(value: timedelta) -> str:
    """Write a duration as people do: the shortest exact form, "0s" for none."""
    milliseconds = round(value.total_seconds() * 1000)
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_percent(value: object) -> int:
    """Parse "0.5%" to parts per million. Raise ValueError on anything else; an int is already ppm."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= PPM:
        return value
    return _parse_percent_text(value)


def _percent(value: object, info: ValidationInfo) -> int:
    # On the wire a bare number is refused: `weight: 5` is meant as 5 %, and would be read as 5 millionths.
    return _parse_percent_text(value) if info.mode == "json" else parse_percent(value)


def _parse_percent_text(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(PERCENT_PATTERN, value):
        raise ValueError(f'{value!r} is not a percentage; write for example "0.5%" or "25%"')
    return round(float(value[:-1]) * PPM / 100)


def format_percent(ppm: int) -> str:
    """Write parts per million as manifests do: "0.5%", "25%", "100%"."""
    return f"{ppm / (PPM / 100):.4f}".rstrip("0").rstrip(".") + "%"


def parse_timestamp(value: object) -> datetime:
    """Parse RFC 3339; a time without a zone is refused."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # not a date, or one beyond the years 1 to 9999 in UTC
        pass
    raise ValueError(f'{value!r} is not a time with a zone; write for example "2026-03-05T12:00:00Z"')


def format_timestamp(value: datetime) -> str:
    """Write RFC 3339 in UTC with microseconds, the API server's MicroTime."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _string_schema(pattern: str, longest: int) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, "maxLength": longest}


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_string_schema(DURATION_PATTERN, 32)),
]
Percent = Annotated[
    int,
    BeforeValidator(_percent),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema(_string_schema(PERCENT_PATTERN, 16)),
]
DefaultedPercent = Annotated[Percent, Field(validate_default=False)]
"""A percentage whose default is in parts per million, which the wire refuses."""
Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_timestamp),
    PlainSerializer(format_timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40}),
]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Word = Annotated[str, Field(min_length=1, max_length=64)]
Sentence = Annotated[str, Field(max_length=1024)]
Text = Annotated[str, Field(max_length=4096)]
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
WeightPpm = Annotated[int, Field(ge=0, le=PPM, json_schema_extra={"format": "int32"})]
Count = Annotated[int, Field(ge=0, le=2**31 - 1, json_schema_extra={"format": "int32"})]
MetricName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]


class Condition(Model):
    """A condition as Kubernetes defines it."""

    type: ConditionType
    """What is stated."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Word
    """The machine's word for why."""
    message: Sentence = ""
    """The sentence that people read; it names the version that serves."""
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = 0
    """The generation of the object that this was derived from."""
    last_transition_time: Timestamp
    """When the status last changed."""


class ObjectRef(Model):
    """An object of the same namespace."""

    kind: Word
    """Its kind."""
    name: Name
    """Its name."""
    uid: Annotated[str, Field(max_length=64)] = ""
    """Its uid, where one certain object is meant."""
