"""JSON schemas of what `-o json` prints.

A schema only grows: a field is never renamed, retyped or taken away. `canary crd --schema NAME` prints one, and the
tests hold every document of the command line against its own.
"""

from typing import Any

from canary.api.reasons import GROUP

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer"}
_FIGURE: Schema = {"type": ["number", "null"]}
_FLAG: Schema = {"type": "boolean"}
_CI: Schema = {"type": "array", "items": _FIGURE, "minItems": 2, "maxItems": 2}


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _document(name: str, properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    own = {"schema": {"const": f"{GROUP}/{name}/v1"}, **properties}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{GROUP}/{name}/v1"}
    return {**head, **_object(own, optional)}


_METRIC = _object(
    {
        "name": _TEXT,
        "seen": _FIGURE,
        "expected": _FIGURE,
        "effect": _FIGURE,
        "ci": _CI,
        "evidenceLog10": _FIGURE,
        "state": _TEXT,
    }
)
_VERDICT = _document(
    "verdict",
    {
        "run": _TEXT,
        "outcome": _TEXT,
        "reason": _TEXT,
        "evidenceLog10": _FIGURE,
        "limitLog10": _FIGURE,
        "metric": _nullable(_METRIC),
        "baseline": _object({"revision": _TEXT, "serving": _FLAG}),
        "lost": _object({"orders": _FIGURE, "ci": _CI}),
        "pattern": _nullable(_object({"id": _TEXT, "title": _TEXT})),
        "attempt": _COUNT,
        "attemptsLeft": _COUNT,
        "nextActions": _list(_object({"verb": _TEXT, "allowed": _FLAG, "because": _TEXT})),
    },
)
_STATUS = _document(
    "status",
    {
        "namespace": _TEXT,
        "workload": _TEXT,
        "run": _TEXT,
        "phase": _TEXT,
        "standing": _TEXT,
        "tone": {"enum": ["plain", "safe", "care", "danger"]},
        "message": _TEXT,
        "askedPpm": _COUNT,
        "seenPpm": _COUNT,
        "steps": _list(_object({"weightPpm": _COUNT, "approval": _FLAG})),
        "stepsBegun": _COUNT,
        "origin": _TEXT,
        "heldBy": _TEXT,
        "times": {"type": "object", "additionalProperties": {"type": "string", "format": "date-time"}},
        "metrics": _list(_METRIC),
        "verdict": _VERDICT,
        "next": _TEXT,
    },
    optional=(
        *("askedPpm", "seenPpm", "steps", "stepsBegun", "origin", "heldBy"),
        *("times", "metrics", "verdict", "next"),
    ),
)
_ROW = _object(
    dict.fromkeys(
        (
            *("namespace", "workload", "run", "phase", "slice", "step", "verdict", "lost"),
            *("origin", "age", "serving", "evidence", "actor", "needs"),
        ),
        _TEXT,
    )
)
_SIDE = _object(
    {"verdict": _TEXT, "evidenceLog10": _FIGURE, "limitLog10": _FIGURE, "message": _TEXT}, ("message",)
)
_ENTRY = _object(
    {
        "at": {"type": ["string", "null"], "format": "date-time"},
        "phase": _TEXT,
        "reason": _TEXT,
        "message": _TEXT,
        "weightPpm": _COUNT,
        "by": _TEXT,
    }
)
_ASKED = {"namespace": _TEXT, "run": _TEXT, "request": _TEXT, "message": _TEXT}

SCHEMAS: dict[str, Schema] = {
    "status": _STATUS,
    "verdict": _VERDICT,
    "list": _document("list", {"items": _list(_ROW)}),
    "explain": _document(
        "explain",
        {
            "verdict": _VERDICT,
            "timeline": _list(_ENTRY),
            "recomputed": _nullable(_object({"equal": _FLAG, "recorded": _SIDE, "computed": _SIDE})),
        },
    ),
    "wait": _document(
        "wait",
        {
            "namespace": _TEXT,
            "workload": _TEXT,
            "exit": _COUNT,
            "meaning": _TEXT,
            "verdict": _nullable(_VERDICT),
        },
    ),
    "safety": _document(
        "safety",
        {
            "policies": _list(
                _object(
                    {
                        **{"policy": _TEXT, "inForce": _FLAG, "held": _COUNT, "endsAt": _TEXT, "then": _TEXT},
                        **{"expected": {"type": ["integer", "null"]}, "secondsLeft": _FIGURE},
                        **{"brake": _TEXT, "weaker": _list(_TEXT), "message": _TEXT},
                    }
                )
            ),
            "waiting": _list(
                _object({"workload": _TEXT, "run": _TEXT, "seconds": _FIGURE, "message": _TEXT})
            ),
            "bypasses": _list(
                _object({"workload": _TEXT, "requester": _TEXT, "reason": _TEXT, "seconds": _FIGURE})
            ),
        },
    ),
    "lint": _document(
        "lint",
        {
            "complaints": _list(
                _object({"object": _TEXT, "outcome": {"enum": ["refused", "waits", "noted"]}, "says": _TEXT})
            )
        },
    ),
    "flag": _document(
        "flag",
        {
            "origin": {"enum": ["ai", "human", "unknown"]},
            "agents": _list(_TEXT),
            "authors": _list(_TEXT),
            "range": _object({"base": _TEXT, "head": _TEXT, "commits": _COUNT}),
            "evidence": _list(_object({"level": _TEXT, "says": _TEXT, "source": _TEXT, "detail": _TEXT})),
            "annotations": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        },
    ),
    "audit": _document("audit", {"records": _list({"type": "object", "required": ["id", "at", "kind"]})}),
    "verified": _document("verified", {"records": _COUNT, "head": _TEXT, "heads": _COUNT, "fault": _TEXT}),
    "request": _document("request", {**_ASKED, "verb": _TEXT, "outcome": _TEXT}),
    "abort": _document("abort", {**_ASKED, "workload": _TEXT, "by": _TEXT, "seconds": {"type": "number"}}),
    "adoption": _document(
        "adoption",
        {
            "namespace": _TEXT,
            "workload": _TEXT,
            "writes": _list(_TEXT),
            "refusals": _list(_TEXT),
            "warnings": _list(_TEXT),
        },
    ),
    "version": _document(
        "version",
        {
            "client": _TEXT,
            "controller": {"type": ["string", "null"]},
            "cluster": {"type": ["string", "null"]},
        },
    ),
}
