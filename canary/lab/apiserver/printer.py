"""What `kubectl get` prints: objects become rows of a `Table`, as the real server renders them.

Custom kinds bring `additionalPrinterColumns`; of the built-in ones those have their familiar columns that people look
at beside a run, all others name and age. Called by `protocol.py` when a client accepts `as=Table`; pure: the ages are
computed against the moment that is handed in.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from canary.lab.apiserver.objects import Object, is_deleting, is_true

_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]|\[\?\(@\.(\w+)==[\"']([^\"']+)[\"']\)\]")
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`: how the cell is read from the object. One of priority 1 is shown by `-o wide`."""

    name: str
    cell: Callable[[Object], Any]
    type: str = "string"
    priority: int = 0


def table(
    columns: Sequence[Column], objects: Sequence[Object], now: datetime, version: str, *, whole: bool = False
) -> Object:
    """Return the objects as a `Table`, each row with the metadata of its object, or with the object whole."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": [_definition(column) for column in columns],
        "rows": [_row(obj, columns, now, whole) for obj in objects],
    }


def columns_of_definition(version: Mapping[str, Any]) -> tuple[Column, ...]:
    """Return the columns that a version of a CustomResourceDefinition asks for, the name first."""
    entries: Sequence[Mapping[str, Any]] = version.get("additionalPrinterColumns") or ()
    own = (
        Column(entry["name"], _at(entry["jsonPath"]), entry["type"], entry.get("priority", 0))
        for entry in entries
    )
    return (_NAME, *own)


def _definition(column: Column) -> Object:
    form = "name" if column.name == "Name" else ""
    said = {"name": column.name, "type": column.type, "format": form}
    return {**said, "description": "", "priority": column.priority}


def _row(obj: Object, columns: Sequence[Column], now: datetime, whole: bool) -> Object:
    partly = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return {"cells": [_cell(obj, column, now) for column in columns], "object": obj if whole else partly}


def _cell(obj: Object, column: Column, now: datetime) -> Any:
    value = column.cell(obj)
    if column.type == "date":
        return age(value, now) if isinstance(value, str) else "<unknown>"
    return str(value) if isinstance(value, dict | list) else value


def _at(path: str, default: Any = None) -> Callable[[Object], Any]:
    return partial(select, path=path, default=default)


def select(value: Any, path: str, default: Any = None) -> Any:
    """Follow the simple JSON path of a printer column; return the default where there is nothing."""
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return default
        value = _follow(value, step)
        at = step.end()
    return default if value is None else value


def _follow(value: Any, step: re.Match[str]) -> Any:
    name, index, field, wanted = step.groups()
    if name is not None:
        return value.get(name) if isinstance(value, dict) else None
    entries: list[Any] = value if isinstance(value, list) else []
    if index is not None:
        return entries[int(index)] if int(index) < len(entries) else None
    return next((entry for entry in entries if entry.get(field) == wanted), None)


def age(text: str, now: datetime) -> str:
    """Return how long ago `text` was, as kubectl says it: `45s`, `3m12s`, `5h`, `12d`."""
    seconds = int((now - datetime.fromisoformat(text)).total_seconds())
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 0)}s"
    if seconds < 10 * _MINUTE:
        return f"{seconds // _MINUTE}m{seconds % _MINUTE}s"
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    return f"{seconds // _HOUR}h" if seconds < 2 * _DAY else f"{seconds // _DAY}d"


def _count(name: str, path: str) -> Column:
    return Column(name, _at(path, 0), "integer")


def _images(workload: Object) -> str:
    return ",".join(container["image"] for container in workload["spec"]["template"]["spec"]["containers"])


def _ready_replicas(deployment: Object) -> str:
    return f"{select(deployment, '.status.readyReplicas', 0)}/{deployment['spec']['replicas']}"


def _pod_ready(pod: Object) -> str:
    wanted = len(pod["spec"]["containers"])
    return f"{wanted if is_true(pod, 'Ready') else 0}/{wanted}"


def _pod_status(pod: Object) -> str:
    if is_deleting(pod):
        return "Terminating"
    waiting = select(pod, ".status.containerStatuses[0].state.waiting.reason")
    return waiting or select(pod, ".status.phase", "Pending")


def _event_object(event: Object) -> str:
    subject = event.get("involvedObject") or {}
    return f"{subject.get('kind', '').lower()}/{subject.get('name', '')}"


_NAME = Column("Name", _at(".metadata.name"))
_AGE = Column("Age", _at(".metadata.creationTimestamp"), "date")
_IMAGES = Column("Images", _images, priority=1)
PLAIN_COLUMNS = (_NAME, _AGE)
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "Deployment": (
        _NAME,
        Column("Ready", _ready_replicas),
        _count("Up-to-date", ".status.updatedReplicas"),
        _count("Available", ".status.availableReplicas"),
        _AGE,
        _IMAGES,
    ),
    "ReplicaSet": (
        _NAME,
        _count("Desired", ".spec.replicas"),
        _count("Current", ".status.replicas"),
        _count("Ready", ".status.readyReplicas"),
        _AGE,
        _IMAGES,
    ),
    "Pod": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        _count("Restarts", ".status.containerStatuses[0].restartCount"),
        _AGE,
        Column("IP", _at(".status.podIP", "<none>"), priority=1),
    ),
    "Event": (
        Column("Last Seen", _at(".lastTimestamp"), "date"),
        Column("Type", _at(".type")),
        Column("Reason", _at(".reason")),
        Column("Object", _event_object),
        Column("Message", _at(".message")),
    ),
}
