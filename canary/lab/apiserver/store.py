"""Where the embedded cluster keeps its objects, with the semantics of a Kubernetes API server.

Enters: whole objects, or changes of a stored one. Leaves: the stored object, or an `ApiError`; and one
`Event` a write, in one global order of versions. A write of what is already there makes no version. Stored
objects are never changed in place: what `get` and `list` return may be kept, and must not be written to.
Called by `protocol.py` for clients and by the controllers directly; thread-safe.
"""

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from canary.clock import Clock
from canary.lab.apiserver import metadata
from canary.lab.apiserver.api_error import ApiError, StatusReason, conflict, invalid
from canary.lab.apiserver.builtin_kinds import builtin_kinds
from canary.lab.apiserver.history import Event, EventType, History
from canary.lab.apiserver.objects import Object, clone, is_deleting, name_of, namespace_of, owners_of, uid_of
from canary.lab.apiserver.resources import CRD_GROUP, Kind, kind_of_definition
from canary.lab.apiserver.schema import complete, problems
from canary.lab.apiserver.selectors import Predicate, everything

FIRST_NAMESPACES = ("default", "kube-system")
MAX_CAUSES = 10  # of one refusal
DEFAULT_HISTORY = 20_000  # events kept for watches; an older version is answered by 410

Admit = Callable[[Object | None, Object | None], Object | None]
Listener = Callable[[Event], None]


def admit_all(_old: Object | None, new: Object | None) -> Object | None:
    return new


@dataclass(frozen=True, slots=True)
class Write:
    """How a write is meant: to which sub-resource, past whose rules, and whether only for show."""

    subresource: str = ""
    admit: Admit = admit_all
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """How a deletion is meant; an empty uid is no precondition, grace 0 removes a pod at once."""

    uid: str = ""
    grace_seconds: int | None = None
    admit: Admit = admit_all
    dry_run: bool = False


PLAIN = Write()
STATUS = Write(subresource="status")


class Store:
    """All objects of one cluster."""

    def __init__(self, clock: Clock, *, seed: int = 0, history: int = DEFAULT_HISTORY) -> None:
        self.clock = clock
        self.kinds = builtin_kinds()
        self.lock = threading.RLock()
        self.history = History(self.lock, history)
        self._random = random.Random(seed)
        self._tables: dict[tuple[str, str], dict[str, dict[str, Object]]] = {}
        self._owned: dict[str, dict[tuple[tuple[str, str], str, str], None]] = {}
        self._uids: set[str] = set()
        self._listeners: list[Listener] = []
        for name in FIRST_NAMESPACES:
            self.create(self.kinds.named("Namespace"), {"metadata": {"name": name}})

    @property
    def version(self) -> int:
        """The version of the last write; a watch from here misses nothing."""
        return self.history.version

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` after every write, in order, under the lock: it notes what happened and returns."""
        with self.lock:
            self._listeners.append(listener)

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return the stored object, not to be written to, or None."""
        namespaces = self._tables.get(kind.key)
        return namespaces.get(namespace, {}).get(name) if namespaces else None

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return the stored object, not to be written to; raise a 404 if there is none."""
        found = self.find(kind, namespace, name)
        if found is None:
            raise ApiError(StatusReason.NOT_FOUND, f'{kind.resource} "{name}" not found')
        return found

    def select(self, kind: Kind, namespace: str = "", predicate: Predicate = everything) -> list[Object]:
        """Return the selected objects ordered by namespace and name; an empty namespace means all of them."""
        with self.lock:
            table = self._tables.get(kind.key, {})
            spaces = [namespace] if namespace or not kind.namespaced else sorted(table)
            objects = (obj for space in spaces for _, obj in sorted(table.get(space, {}).items()))
            return [obj for obj in objects if predicate(obj)]

    def exists(self, uid: str) -> bool:
        return uid in self._uids

    def owned_by(self, uid: str) -> list[tuple[Kind, Object]]:
        """Return the objects whose owner references name `uid`, in the order of their making."""
        with self.lock:
            found: list[tuple[Kind, Object]] = []
            for key, namespace, name in self._owned.get(uid, ()):
                kind = self.kinds.find(*key)
                obj = self.find(kind, namespace, name) if kind else None
                if kind is not None and obj is not None:
                    found.append((kind, obj))
            return found

    def create(self, kind: Kind, obj: Object, how: Write = PLAIN) -> Object:
        """Store a new object and return it; 409 where its name is taken."""
        with self.lock:
            draft = metadata.for_creation(kind, clone(obj), self._random, self.clock.now())
            self._refuse_unknown_namespace(kind, draft)
            if self.find(kind, namespace_of(draft), name_of(draft)) is not None:
                raise ApiError(
                    StatusReason.ALREADY_EXISTS, f'{kind.resource} "{name_of(draft)}" already exists'
                )
            if kind.has_status and kind.group not in ("", "apps"):
                draft.pop("status", None)  # a sub-resource is not written through its parent
            draft = self._reviewed(kind, None, draft, how)
            draft["metadata"]["uid"] = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            return draft if how.dry_run else self._commit(kind, None, draft)

    def update(
        self, kind: Kind, place: tuple[str, str], change: Callable[[Object], Object], how: Write = PLAIN
    ) -> Object:
        """Apply `change` to a private copy of the object at `place` (namespace, name), store and return it.

        What the change leaves in `metadata.resourceVersion` and `uid` is the precondition: 409 if something
        else is stored. The status moves only through its sub-resource, and nothing else does there.
        """
        with self.lock:
            old = self.get(kind, *place)
            draft = metadata.for_update(kind, old, change(clone(old)))
            if kind.has_status:
                draft = _isolated(old, draft, how.subresource)
            draft = self._reviewed(kind, old, draft, how)
            metadata.keep_version(old, draft)
            if draft == old:
                return old
            if kind.counts_generations and _spec_moved(old, draft):
                draft["metadata"]["generation"] = old["metadata"]["generation"] + 1
            if how.dry_run:
                return draft
            if is_deleting(draft) and not draft["metadata"].get("finalizers") and not kind.stops_gracefully:
                return self._remove(kind, draft)
            return self._commit(kind, old, draft)

    def rewrite(self, obj: Object, change: Callable[[Object], Object], how: Write = PLAIN) -> Object:
        """Update the object that is stored where `obj` was, as `update` does."""
        return self.update(self.kinds.named(obj["kind"]), (namespace_of(obj), name_of(obj)), change, how)

    def delete(self, kind: Kind, place: tuple[str, str], how: Delete | None = None) -> Object:
        """Remove the object at `place`, or mark it if finalizers or a graceful stop have to come first."""
        how = how or Delete()
        with self.lock:
            old = self.get(kind, *place)
            if how.uid not in ("", uid_of(old)):
                why = f"Precondition failed: UID in precondition: {how.uid}, UID in object: {uid_of(old)}"
                raise conflict(kind.resource, place[1], why)
            how.admit(old, None)
            if how.dry_run:
                return old
            stops_first = kind.stops_gracefully and how.grace_seconds != 0
            if not stops_first and not old["metadata"].get("finalizers"):
                return self._remove(kind, old)
            if is_deleting(old):
                return old
            return self._commit(kind, old, metadata.marked_deleted(kind, old, self.clock.now()))

    def _reviewed(self, kind: Kind, old: Object | None, draft: Object, how: Write) -> Object:
        """Complete, admit and validate a draft, in the order of a real server."""
        _completed(kind, old, draft)
        admitted = how.admit(old, draft)
        if admitted is not None and admitted is not draft:
            draft = _completed(kind, old, admitted)
        causes = [*metadata.problems(draft), *_first(problems(draft, kind.schema, old=old))]
        causes = causes or _first(kind.rules(draft, old))
        if causes:
            raise invalid(kind.name, name_of(draft), causes)
        return draft

    def _refuse_unknown_namespace(self, kind: Kind, draft: Object) -> None:
        namespace = namespace_of(draft)
        if kind.namespaced and self.find(self.kinds.named("Namespace"), "", namespace) is None:
            raise ApiError(StatusReason.NOT_FOUND, f'namespaces "{namespace}" not found')

    def _commit(self, kind: Kind, old: Object | None, new: Object) -> Object:
        if kind.group == CRD_GROUP:
            self.kinds.add(kind_of_definition(new))
        new["metadata"]["resourceVersion"] = str(self.history.version + 1)
        namespace, name = namespace_of(new), name_of(new)
        self._tables.setdefault(kind.key, {}).setdefault(namespace, {})[name] = new
        self._index(kind, old, new)
        self._publish(kind, EventType.MODIFIED if old else EventType.ADDED, new, old)
        return new

    def _remove(self, kind: Kind, obj: Object) -> Object:
        namespace, name = namespace_of(obj), name_of(obj)
        old = self._tables[kind.key][namespace].pop(name)
        self._index(kind, old, None)
        last = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.history.version + 1)}}
        self._publish(kind, EventType.DELETED, last, old)
        if kind.name == "Namespace":
            self._remove_all(lambda other: other.namespaced, name)
        elif kind.group == CRD_GROUP:
            defined = kind_of_definition(obj)
            self._remove_all(lambda other: other.key == defined.key, "")
            self.kinds.remove(defined)
        return last

    def _remove_all(self, concerned: Callable[[Kind], bool], namespace: str) -> None:
        for kind in filter(concerned, self.kinds):
            for obj in self.select(kind, namespace):
                self._remove(kind, obj)

    def _publish(self, kind: Kind, event_type: EventType, obj: Object, old: Object | None) -> None:
        event = Event(int(obj["metadata"]["resourceVersion"]), kind, event_type, obj, old)
        self.history.append(event)
        for listener in self._listeners:
            listener(event)

    def _index(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            self._uids.add(uid_of(new))
        if new is None and old is not None:
            self._uids.discard(uid_of(old))
        place = (kind.key, namespace_of(new or old or {}), name_of(new or old or {}))
        if old is not None and new is not None and owners_of(old) == owners_of(new):
            return
        for owner in owners_of(old) if old else ():
            remaining = self._owned.get(owner["uid"], {})
            remaining.pop(place, None)
            if not remaining:
                self._owned.pop(owner["uid"], None)
        for owner in owners_of(new) if new else ():
            self._owned.setdefault(owner["uid"], {})[place] = None


def _completed(kind: Kind, old: Object | None, draft: Object) -> Object:
    complete(draft, kind.schema, old)
    spec_is_stored = old is not None and draft.get("spec") is old.get("spec")
    if kind.defaults is None or spec_is_stored or any(problems(draft, kind.schema, old=old)):
        return draft  # defaults that are code rely on the shape
    kind.defaults(draft)
    return draft


def _isolated(old: Object, draft: Object, subresource: str) -> Object:
    if subresource == "status":
        kept = {key: value for key, value in old.items() if key != "status"}
        kept["metadata"] = dict(old["metadata"])  # its version moves
        return kept | ({"status": draft["status"]} if "status" in draft else {})
    if "status" in old:
        draft["status"] = old["status"]
    else:
        draft.pop("status", None)
    return draft


def _spec_moved(old: Object, new: Object) -> bool:
    return any(old.get(key) != new.get(key) for key in {*old, *new} - {"metadata", "status"})


def _first(causes: Iterator[str]) -> list[str]:
    return [cause for cause, _ in zip(causes, range(MAX_CAUSES), strict=False)]
