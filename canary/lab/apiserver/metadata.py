"""The metadata that the server owns: names, namespaces, times, generations, versions, deletion marks.

Called by `store.py` with a private copy of what a client sent; returns what may be stored, or raises. Pure
but for the random source that is handed in.
"""

import random
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from canary.lab.apiserver.api_error import STALE, ApiError, StatusReason, conflict
from canary.lab.apiserver.objects import Object, clone, labels_of, name_of, timestamp
from canary.lab.apiserver.resources import Kind

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
MAX_NAME = 253
MAX_LABEL = 63
MAX_ANNOTATIONS = 256 * 1024  # characters of one object's annotations, as in Kubernetes
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_SERVER_OWNED = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
_NEVER_STORED = ("managedFields", "selfLink")
GRACE_SECONDS = 30


def for_creation(kind: Kind, draft: Object, source: random.Random, now: datetime) -> Object:
    """Return the draft with its type, name and birth; what the server owns is dropped."""
    meta = draft.get("metadata")
    if not isinstance(meta, dict):
        raise ApiError(StatusReason.BAD_REQUEST, "metadata is missing")
    for field in (*_SERVER_OWNED, *_NEVER_STORED, "resourceVersion"):
        meta.pop(field, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + "".join(source.choices(_SUFFIX_ALPHABET, k=_SUFFIX_LENGTH))
    if not isinstance(meta.get("name"), str) or not meta["name"]:
        raise ApiError(StatusReason.INVALID, f"{kind.name} is invalid: metadata.name: Required value")
    if kind.namespaced:
        meta.setdefault("namespace", "default")
    else:
        meta.pop("namespace", None)
    _drop_empty(meta)
    meta["creationTimestamp"] = timestamp(now)
    if kind.counts_generations:
        meta["generation"] = 1
    return {"apiVersion": kind.api_version, "kind": kind.name, **_without_type(draft, kind)}


def _drop_empty(meta: Object) -> None:
    """Leave out empty collections, as the server's encoding does."""
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if not meta.get(field):
            meta.pop(field, None)


def _without_type(draft: Object, kind: Kind) -> Object:
    for field, wanted in (("apiVersion", kind.api_version), ("kind", kind.name)):
        if draft.get(field, wanted) != wanted:
            message = f"the {field} of the object ({draft[field]}) does not match the expected one ({wanted})"
            raise ApiError(StatusReason.BAD_REQUEST, message)
    return {key: value for key, value in draft.items() if key not in ("apiVersion", "kind")}


def for_update(kind: Kind, old: Object, draft: Object) -> Object:
    """Return the changed draft with its identity kept; 409 if it was made from another version or object."""
    meta = draft.get("metadata")
    if not isinstance(meta, dict):
        raise ApiError(StatusReason.BAD_REQUEST, "the change leaves no object with metadata")
    before, name = old["metadata"], name_of(old)
    if any(meta.get(field) not in (None, before.get(field)) for field in ("name", "namespace")):
        why = "the name or namespace of the object does not match the request's"
        raise ApiError(StatusReason.BAD_REQUEST, why)
    if meta.get("uid") not in (None, "", before["uid"]):
        raise conflict(kind.resource, name, f"Precondition failed: UID in precondition: {meta['uid']}")
    if meta.get("resourceVersion") not in (None, "", before["resourceVersion"]):
        raise conflict(kind.resource, name, STALE)
    for field in (*_SERVER_OWNED, *_NEVER_STORED):
        meta.pop(field, None)
        if field in before:
            meta[field] = before[field]
    keep_version(old, draft)
    meta["name"] = name
    if "namespace" in before:
        meta["namespace"] = before["namespace"]
    _drop_empty(meta)
    return {"apiVersion": kind.api_version, "kind": kind.name, **_without_type(draft, kind)}


def keep_version(old: Object, draft: Object) -> None:
    draft["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]


def marked_deleted(kind: Kind, old: Object, now: datetime) -> Object:
    """Return the object as it waits for its end."""
    marked: Object = clone(old)
    marked["metadata"]["deletionTimestamp"] = timestamp(now)
    if kind.stops_gracefully:
        grace = (old.get("spec") or {}).get("terminationGracePeriodSeconds", GRACE_SECONDS)
        marked["metadata"]["deletionGracePeriodSeconds"] = grace
    if kind.counts_generations:
        marked["metadata"]["generation"] += 1
    return marked


def problems(obj: Object) -> Iterator[str]:
    """Yield what is wrong with names, labels and annotations."""
    name = name_of(obj)
    if len(name) > MAX_NAME or not _SUBDOMAIN.fullmatch(name):
        yield f'metadata.name: Invalid value: "{name}": must be a lowercase RFC 1123 subdomain'
    labels: Mapping[str, Any] = labels_of(obj)
    for key, value in labels.items():
        if not isinstance(value, str) or len(value) > MAX_LABEL or not _LABEL_VALUE.fullmatch(value):
            yield f"metadata.labels[{key}]: Invalid value: {value!r}: not a label value of <= {MAX_LABEL}"
    annotations = obj["metadata"].get("annotations") or {}
    if not all(isinstance(value, str) for value in annotations.values()):
        yield "metadata.annotations: Invalid value: every value is a string"
    elif sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        yield f"metadata.annotations: Too long: must have at most {MAX_ANNOTATIONS} characters"
