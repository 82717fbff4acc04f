"""What `kubectl get` prints: objects become rows of a `Table`, as the real server renders them.

Built-in kinds have their familiar columns here, custom kinds bring `additionalPrinterColumns`. Called by
`apiserver.py` when a client accepts `as=Table`; pure: the ages are computed against the moment that is handed
in.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from canary.lab.objects import Object, is_deleting, is_true, labels_of, moment
from canary.lab.resources import Column, Kind

_CREATED = ".metadata.creationTimestamp"
_AGE = Column("Age", _CREATED, "date")
_NAME = Column("Name", ".metadata.name")
_STEP = re.compile(
    r"\.([A-Za-z0-9_-]+|'[^']+')|\[(\d+)\]|\['([^']+)'\]|\[\?\(@\.(\w+)==[\"']([^\"']+)[\"']\)\]"
)
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


def table(
    kind: Kind, objects: Sequence[Object], now: datetime, version: str, *, whole: bool = False
) -> Object:
    """Return the objects as a `Table`, each row with the metadata of its object, or with the object whole."""
    columns = columns_of(kind)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": [_definition(column) for column in columns],
        "rows": [_row(obj, columns, now, whole) for obj in objects],
    }


def columns_of(kind: Kind) -> tuple[Column, ...]:
    if not kind.columns:
        return (_NAME, _AGE)
    return kind.columns if kind.columns[0].name in ("Name", "Last Seen") else (_NAME, *kind.columns)


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "format": "name" if column.name == "Name" else "",
        "description": "",
        "priority": column.priority,
    }


def _row(obj: Object, columns: Sequence[Column], now: datetime, whole: bool) -> Object:
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return {"cells": [_cell(obj, column, now) for column in columns], "object": obj if whole else partial}


def _cell(obj: Object, column: Column, now: datetime) -> Any:
    value = column.cell(obj) if column.cell is not None else select(obj, column.path)
    if column.type == "date":
        return age(value, now) if isinstance(value, str) else "<unknown>"
    if isinstance(value, dict | list):
        return str(value)
    return value


def select(value: Any, path: str) -> Any:
    """Follow the simple JSON path of a printer column; None where there is nothing."""
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return None
        value = _follow(value, step)
        at = step.end()
    return value


def _follow(value: Any, step: re.Match[str]) -> Any:
    name, index, quoted, field, wanted = step.groups()
    if field is not None:
        entries: list[Any] = value if isinstance(value, list) else []
        return next((entry for entry in entries if entry.get(field) == wanted), None)
    if index is not None:
        return value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
    return value.get(quoted or name.strip("'")) if isinstance(value, dict) else None


def age(text: str, now: datetime) -> str:
    """Return how long ago `text` was, as kubectl says it: `45s`, `3m12s`, `5h`, `12d`."""
    seconds = int((now - moment(text)).total_seconds())
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 0)}s"
    if seconds < 10 * _MINUTE:
        return f"{seconds // _MINUTE}m{seconds % _MINUTE}s"
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    return f"{seconds // _HOUR}h" if seconds < 2 * _DAY else f"{seconds // _DAY}d"


def _number(path: str) -> Any:
    return lambda obj: select(obj, path) or 0


def _images(path: str) -> Any:
    return lambda obj: ",".join(container["image"] for container in select(obj, path) or [])


def _pod_ready(pod: Object) -> str:
    wanted = len(pod["spec"]["containers"])
    return f"{wanted if is_true(pod, 'Ready') else 0}/{wanted}"


def _pod_status(pod: Object) -> str:
    if is_deleting(pod):
        return "Terminating"
    waiting = select(pod, ".status.containerStatuses[0].state.waiting.reason")
    return waiting or select(pod, ".status.phase") or "Pending"


def _ports(service: Object) -> str:
    ports = service["spec"].get("ports") or []
    return ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports) or "<none>"


def _addresses(endpoint_slice: Object) -> str:
    found = [address for entry in endpoint_slice["endpoints"] or [] for address in entry["addresses"]]
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") or "<unset>"


def _slice_ports(endpoint_slice: Object) -> str:
    return ",".join(str(port.get("port", "*")) for port in endpoint_slice.get("ports") or []) or "<unset>"


def _event_object(event: Object) -> str:
    subject = event.get("involvedObject") or {}
    return f"{subject.get('kind', '').lower()}/{subject.get('name', '')}"


def _scale_target(scaler: Object) -> str:
    target = scaler["spec"]["scaleTargetRef"]
    return f"{target['kind']}/{target['name']}"


_DEPLOYMENT = (
    _NAME,
    Column("Ready", cell=lambda obj: f"{_number('.status.readyReplicas')(obj)}/{obj['spec']['replicas']}"),
    Column("Up-to-date", cell=_number(".status.updatedReplicas"), type="integer"),
    Column("Available", cell=_number(".status.availableReplicas"), type="integer"),
    _AGE,
    Column("Images", cell=_images(".spec.template.spec.containers"), priority=1),
)
_REPLICA_SET = (
    _NAME,
    Column("Desired", ".spec.replicas", "integer"),
    Column("Current", cell=_number(".status.replicas"), type="integer"),
    Column("Ready", cell=_number(".status.readyReplicas"), type="integer"),
    _AGE,
    Column("Images", cell=_images(".spec.template.spec.containers"), priority=1),
)
_POD = (
    _NAME,
    Column("Ready", cell=_pod_ready),
    Column("Status", cell=_pod_status),
    Column("Restarts", cell=_number(".status.containerStatuses[0].restartCount"), type="integer"),
    _AGE,
    Column("IP", cell=lambda pod: select(pod, ".status.podIP") or "<none>", priority=1),
)
_EVENT = (
    Column("Last Seen", ".lastTimestamp", "date"),
    Column("Type", ".type"),
    Column("Reason", ".reason"),
    Column("Object", cell=_event_object),
    Column("Message", ".message"),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "Deployment": _DEPLOYMENT,
    "ReplicaSet": _REPLICA_SET,
    "Pod": _POD,
    "Event": _EVENT,
    "Namespace": (_NAME, Column("Status", cell=lambda obj: select(obj, ".status.phase") or "Active"), _AGE),
    "Service": (
        _NAME,
        Column("Type", ".spec.type"),
        Column("Cluster-IP", ".spec.clusterIP"),
        Column("Port(s)", cell=_ports),
        _AGE,
    ),
    "ConfigMap": (_NAME, Column("Data", cell=lambda obj: len(obj.get("data") or {}), type="integer"), _AGE),
    "EndpointSlice": (
        _NAME,
        Column("AddressType", ".addressType"),
        Column("Ports", cell=_slice_ports),
        Column("Endpoints", cell=_addresses),
        _AGE,
    ),
    "Lease": (_NAME, Column("Holder", ".spec.holderIdentity"), _AGE),
    "HTTPRoute": (_NAME, Column("Hostnames", cell=lambda obj: str(obj["spec"].get("hostnames") or "")), _AGE),
    "PodDisruptionBudget": (
        _NAME,
        Column("Min Available", ".spec.minAvailable"),
        Column("Max Unavailable", ".spec.maxUnavailable"),
        Column("Allowed Disruptions", cell=_number(".status.disruptionsAllowed"), type="integer"),
        _AGE,
    ),
    "HorizontalPodAutoscaler": (
        _NAME,
        Column("Reference", cell=_scale_target),
        Column("MinPods", ".spec.minReplicas"),
        Column("MaxPods", ".spec.maxReplicas"),
        _AGE,
    ),
    "ControllerRevision": (
        _NAME,
        Column("Controller", cell=lambda obj: labels_of(obj).get("app", "<none>")),
        Column("Revision", ".revision", "integer"),
        _AGE,
    ),
    "CustomResourceDefinition": (_NAME, Column("Created At", _CREATED)),
}
