"""Kubernetes objects as plain dicts: how the lab copies them, reads them and marks their time.

A stored object is never changed in place: whoever wants another one clones it first, so that readers may keep
what they were given. Used by every module of the lab; pure.
"""

import hashlib
import json
import marshal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]

_MARSHAL_WITHOUT_REFERENCES = 2  # later formats keep shared parts shared; a copy must not
_HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: a name never spells a word


def clone(value: Any) -> Any:
    """Return a deep copy of a JSON value; marshal is the quickest way that Python has."""
    return marshal.loads(marshal.dumps(value, _MARSHAL_WITHOUT_REFERENCES))


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value: Any, length: int = 10) -> str:
    """Return a name-safe hash of a JSON value."""
    digest = hashlib.sha256(canonical(value).encode()).digest()
    return "".join(_HASH_ALPHABET[byte % len(_HASH_ALPHABET)] for byte in digest[:length])


def timestamp(moment: datetime) -> str:
    """Return the API's spelling of a moment: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_of(obj: Object) -> str:
    return obj["metadata"]["name"]


def namespace_of(obj: Object) -> str:
    return obj["metadata"].get("namespace", "")


def uid_of(obj: Object) -> str:
    return obj["metadata"]["uid"]


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def owners_of(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def controller_of(obj: Object) -> Object | None:
    """Return the owner reference that is marked as the controller, if there is one."""
    return next((owner for owner in owners_of(obj) if owner.get("controller")), None)


def is_deleting(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def condition(obj: Object, kind: str) -> Object | None:
    """Return the status condition of that type, or None."""
    conditions: list[Object] = (obj.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == kind), None)


def is_true(obj: Object, kind: str) -> bool:
    found = condition(obj, kind)
    return found is not None and found["status"] == "True"


@dataclass(frozen=True, slots=True)
class Condition:
    """What is said about one aspect of an object."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


def with_condition(obj: Object, entry: Condition, now: datetime) -> Object:
    """Return the object saying `entry`; a repeated saying changes nothing but, for progress, its update time."""
    former = condition(obj, entry.type)
    said = {"type": entry.type, "status": entry.status, "reason": entry.reason, "message": entry.message}
    if former is not None and {key: former.get(key, "") for key in said} == said:
        return obj
    same = former is not None and former["status"] == entry.status
    since = former["lastTransitionTime"] if former is not None and same else timestamp(now)
    said |= {"lastUpdateTime": timestamp(now), "lastTransitionTime": since}
    status: Object = obj.get("status") or {}
    others = [other for other in status.get("conditions") or [] if other["type"] != entry.type]
    return {
        **obj,
        "status": {**status, "conditions": sorted([*others, said], key=lambda other: other["type"])},
    }
