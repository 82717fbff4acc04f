"""JSON schemas of what `-o json` prints.

A schema only grows: a field is never renamed, retyped or taken away. `canary crd --schema NAME` prints one, and the
tests hold every document of the command line against its own.
"""

from typing import Any

from canary.api.reasons import GROUP

Schema = dict[str, Any]

_PLAIN: dict[str, Schema] = {
    "text": {"type": "string"},
    "count": {"type": "integer"},
    "figure": {"type": ["number", "null"]},
    "flag": {"type": "boolean"},
}
_TEXT, _FIGURE = _PLAIN["text"], _PLAIN["figure"]


def _object(optional: str = "", /, **fields: str | Schema) -> Schema:
    """Return the schema of an object: under a plain type the names of its fields, any other field by its schema."""
    properties: Schema = {}
    for name, given in fields.items():
        properties |= dict.fromkeys(given.split(), _PLAIN[name]) if isinstance(given, str) else {name: given}
    required = [name for name in properties if name not in optional.split()]
    return {"type": "object", "properties": properties, "required": required}


def _document(name: str, optional: str = "", /, **fields: str | Schema) -> Schema:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{GROUP}/{name}/v1"}
    return {**head, **_object(optional, schema={"const": f"{GROUP}/{name}/v1"}, **fields)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _one_of(*words: str) -> Schema:
    return {"enum": [*words]}


_CI = {**_list(_FIGURE), "minItems": 2, "maxItems": 2}
_METRIC = _object(text="name state", figure="seen expected effect evidenceLog10", ci=_CI)
_VERDICT = _document(
    "verdict",
    text="run outcome reason",
    figure="evidenceLog10 limitLog10",
    metric=_nullable(_METRIC),
    baseline=_object(text="revision", flag="serving"),
    lost=_object(figure="orders", ci=_CI),
    pattern=_nullable(_object(text="id title")),
    count="attempt attemptsLeft",
    nextActions=_list(_object(text="verb because", flag="allowed")),
)
_SIDE = _object("message", text="verdict message", figure="evidenceLog10 limitLog10")
_ENTRY = _object(
    at={"type": ["string", "null"], "format": "date-time"}, text="phase reason message by", count="weightPpm"
)

SCHEMAS: dict[str, Schema] = {
    "status": _document(
        "status",
        "askedPpm seenPpm steps stepsBegun origin heldBy times metrics verdict next",
        text="namespace workload run phase standing message origin heldBy next",
        tone=_one_of("plain", "safe", "care", "danger"),
        count="askedPpm seenPpm stepsBegun",
        steps=_list(_object(count="weightPpm", flag="approval")),
        times={"type": "object", "additionalProperties": {**_TEXT, "format": "date-time"}},
        metrics=_list(_METRIC),
        verdict=_VERDICT,
    ),
    "verdict": _VERDICT,
    "list": _document(
        "list",
        items=_list(
            _object(
                text="namespace workload run phase slice step verdict lost origin age serving evidence actor needs"
            )
        ),
    ),
    "explain": _document(
        "explain",
        verdict=_VERDICT,
        timeline=_list(_ENTRY),
        recomputed=_nullable(_object(flag="equal", recorded=_SIDE, computed=_SIDE)),
    ),
    "wait": _document("wait", text="namespace workload meaning", count="exit", verdict=_nullable(_VERDICT)),
    "safety": _document(
        "safety",
        policies=_list(
            _object(
                text="policy endsAt then brake message",
                flag="inForce",
                count="held",
                expected={"type": ["integer", "null"]},
                figure="secondsLeft",
                weaker=_list(_TEXT),
            )
        ),
        waiting=_list(_object(text="workload run message", figure="seconds")),
        bypasses=_list(_object(text="workload requester reason", figure="seconds")),
        looser=_list(_object(text="policy missing way", fields=_list(_TEXT))),
    ),
    "lint": _document(
        "lint", complaints=_list(_object(text="object says", outcome=_one_of("refused", "waits", "noted")))
    ),
    "flag": _document(
        "flag",
        origin=_one_of("ai", "human", "unknown"),
        agents=_list(_TEXT),
        authors=_list(_TEXT),
        range=_object(text="base head", count="commits"),
        evidence=_list(_object(text="level says source detail")),
        annotations={"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    ),
    "audit": _document("audit", records=_list({"type": "object", "required": ["id", "at", "kind"]})),
    "verified": _document("verified", count="records heads", text="head fault"),
    "request": _document("request", text="namespace run request message verb outcome"),
    "abort": _document("abort", text="namespace run request message workload by", seconds={"type": "number"}),
    "adoption": _document(
        "adoption",
        text="namespace workload",
        writes=_list(_TEXT),
        refusals=_list(_TEXT),
        warnings=_list(_TEXT),
    ),
    "version": _document(
        "version",
        text="client",
        controller={"type": ["string", "null"]},
        cluster={"type": ["string", "null"]},
    ),
}
