"""What we last heard about the objects of one kind, and what changed.

`watch` pours in whole lists and single events; out come changes, which are keys and never contents. Workers
read with `get` and `list`. An event that is older than what is known is dropped, so doubled and reordered
events end in the same state. An object that was deleted and made again under its name is told as deleted
and added: approvals and evidence belong to a uid.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeGuard

from canary.kube.client import Listing
from canary.kube.frozen import freeze
from canary.kube.resources import Key, Resource, key_of
from canary.kube.transport import Json

MAX_GRAVES = 10_000  # deletions remembered between two lists, against events that come late
OUTLINE = ("namespace", "name", "uid", "resourceVersion", "generation", "labels")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class What(StrEnum):
    """What happened to an object."""

    ADDED = "Added"
    CHANGED = "Changed"
    DELETED = "Deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to this object; look at it."""

    what: What
    resource: Resource
    key: Key
    uid: str


class Cache(Protocol):
    """What workers see of one kind. Objects are read-only."""

    @property
    def resource(self) -> Resource: ...

    @property
    def synced(self) -> bool:
        """Tell whether a whole list has been read since the start."""
        ...

    def get(self, key: Key) -> Json | None:
        """Return the object as last seen, or None."""
        ...

    def list(self, namespace: str | None = None) -> Sequence[Json]:
        """Return the objects of one namespace or of all, in the order of their keys."""
        ...

    def last_contact_age(self) -> float:
        """Return for how many seconds nothing was heard of the API server; infinite before the first word."""
        ...


Keep = Callable[[Json], Json]  # what of an object is kept; given anything, it never raises


def slim(obj: Mapping[str, Any]) -> Json:
    """Drop what we never read, often half of an object: field ownership and the last applied text."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return dict(obj)
    kept = {name: value for name, value in metadata.items() if name != "managedFields"}
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and LAST_APPLIED in annotations:
        kept["annotations"] = {name: text for name, text in annotations.items() if name != LAST_APPLIED}
    return {**obj, "metadata": kept}


def outline(obj: Json) -> Json:
    """Keep only what names an object, for kinds whose changes wake somebody who then reads the object itself."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return obj
    return {"metadata": {name: metadata[name] for name in OUTLINE if name in metadata}}


class ObjectStore:
    """The objects of one kind by key. Thread-safe; the changes come back to the caller, who tells them."""

    def __init__(self, resource: Resource, keep: Keep = slim) -> None:
        self.resource = resource
        self._keep = keep
        self.unreadable_total = 0
        self._lock = threading.Lock()
        self._objects: dict[Key, Json] = {}
        self._graves: dict[Key, int] = {}

    def get(self, key: Key) -> Json | None:
        with self._lock:
            return self._objects.get(key)

    def list(self, namespace: str | None = None) -> Sequence[Json]:
        with self._lock:
            keys = sorted(key for key in self._objects if namespace is None or key.namespace == namespace)
            return [self._objects[key] for key in keys]

    def replace(self, listing: Listing) -> Sequence[Change]:
        """Make the store equal to a whole list; return what differs, by uid and version."""
        with self._lock:
            self._graves.clear()
            listed: dict[Key, Json] = {}
            for obj in listing.items:
                if self._readable(obj):
                    listed[key_of(obj)] = obj
            gone = [self._remove(key) for key in list(self._objects) if key not in listed]
            return [*gone, *(change for key, obj in listed.items() for change in self._put(key, obj))]

    def apply(self, kind: str, obj: object) -> Sequence[Change]:
        """Take one event of a watch (ADDED, MODIFIED or DELETED); return what it changed."""
        with self._lock:
            if not self._readable(obj):
                return []
            obj = self._keep(obj)
            key = key_of(obj)
            if self._outdated(key, obj):
                return []
            if kind != "DELETED":
                return self._put(key, obj)
            self._bury(key, obj)
            return [self._remove(key)] if key in self._objects else []

    def _readable(self, obj: object) -> TypeGuard[Json]:
        """Tell whether the object has what every object has; count it where it has not."""
        metadata = obj.get("metadata") if isinstance(obj, dict) else None
        named = (
            isinstance(metadata, dict) and _is_word(metadata.get("name")) and _is_word(metadata.get("uid"))
        )
        self.unreadable_total += not named
        return named

    def _outdated(self, key: Key, obj: Json) -> bool:
        """Tell whether we know better: a newer version, or that the object was deleted since."""
        version = version_number(obj)
        known = self._objects.get(key)
        if known is not None:
            return 0 < version < version_number(known)
        return 0 < version <= self._graves.get(key, 0)

    def _bury(self, key: Key, obj: Json) -> None:
        self._graves[key] = version_number(obj)
        if len(self._graves) > MAX_GRAVES:
            del self._graves[next(iter(self._graves))]

    def _put(self, key: Key, obj: Json) -> Sequence[Change]:
        known = self._objects.get(key)
        if known is not None and _identity(known) == _identity(obj):
            return []
        made_again = known is not None and known["metadata"]["uid"] != obj["metadata"]["uid"]
        before = [self._remove(key)] if made_again else []
        what = What.ADDED if known is None or made_again else What.CHANGED
        self._graves.pop(key, None)
        self._objects[key] = freeze(obj)
        return [*before, self._change(what, key, obj)]

    def _remove(self, key: Key) -> Change:
        return self._change(What.DELETED, key, self._objects.pop(key))

    def _change(self, what: What, key: Key, obj: Json) -> Change:
        return Change(what, self.resource, key, obj["metadata"]["uid"])


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _identity(obj: Json) -> tuple[str, str]:
    return str(obj["metadata"]["uid"]), str(obj["metadata"].get("resourceVersion", ""))


def version_number(obj: Mapping[str, Any]) -> int:
    """Return the version as a number; 0 where the server does not count, and then none is outdated."""
    text = str(obj["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0
