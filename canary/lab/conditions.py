"""Status conditions: one entry a type, whose transition time moves only when its status does.

Called by the lab's controllers with the object of which they write the status; pure.
"""

from dataclasses import dataclass
from datetime import datetime

from canary.lab.objects import Object, condition, timestamp


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
