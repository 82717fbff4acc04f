"""The protocol of a Kubernetes API server over the embedded store: what a request means, and what is
answered.

`ApiServer.handle` and `watch` are the one road for everybody: `InProcessTransport` for the controller in the
same process, `serving.py` for kubectl and the CLI over HTTP. Who asks was authenticated before; every write
passes the admission rules of `admission.py`. Verbs: get, list (selectors, pages), watch, create (also dry),
the three patches, replace, delete, the status and scale sub-resources.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import unquote

from canary.kube.transport import EndedStream, Response, Stream
from canary.lab.apiserver import discovery, scale
from canary.lab.apiserver.admission import AdmissionRequest, Operation, Rule, User
from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.history import EventType
from canary.lab.apiserver.objects import Object, clone, is_deleting, name_of, namespace_of, uid_of
from canary.lab.apiserver.patch import PATCHES
from canary.lab.apiserver.printer import table
from canary.lab.apiserver.resources import Kind
from canary.lab.apiserver.schema import unknown_fields
from canary.lab.apiserver.selectors import Predicate, field_selector, label_selector
from canary.lab.apiserver.store import Admit, Delete, Store, Write
from canary.lab.apiserver.watching import WATCH_SECONDS, Watch, WatchOptions

Change = Callable[[Object], Object]

MAX_UNKNOWN = 10  # fields named in one refusal
MAX_PAGE = 100_000  # objects in one answer when the client names no limit
ANYBODY = User("system:anonymous")


@dataclass(frozen=True, slots=True)
class Request:
    """One call, whatever road it came by."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    content_type: str = "application/json"
    accept: str = "application/json"
    user: User = ANYBODY

    @property
    def wants_table(self) -> bool:
        return "as=Table" in self.accept

    @property
    def is_watch(self) -> bool:
        return self.method == "GET" and self.query.get("watch") in ("1", "true")

    @property
    def is_strict(self) -> bool:
        return self.query.get("fieldValidation") == "Strict"

    @property
    def is_dry(self) -> bool:
        return self.query.get("dryRun") == "All"


@dataclass(frozen=True, slots=True)
class Reply:
    """The status and the body of an answer; the body is shared with the store and not to be written to."""

    status: int
    body: Object


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a collection, an object, or a sub-resource of one."""

    kind: Kind
    namespace: str
    name: str
    subresource: str

    @property
    def place(self) -> tuple[str, str]:
        return (self.namespace, self.name)


class ApiServer:
    """The embedded API server; thread-safe, because the store is."""

    def __init__(self, store: Store, rules: Sequence[Rule] = ()) -> None:
        self.store = store
        self.rules = list(rules)
        self.denied: set[tuple[str, str]] = set()
        """A user and a verb: what they may not do any more. There are no roles here: all else is allowed."""

    def handle(self, request: Request) -> Reply:
        """Answer a request that is no watch; never raises for what a client did."""
        try:
            if (request.method, request.path) == ("POST", discovery.MAY_THEY):
                return Reply(201, discovery.review(_an_object(request.body), self.denied))
            known = discovery.answer(self.store.kinds, request.method, request.path, request.user)
            if known is not None:
                return Reply(200 if request.method == "GET" else 201, known)
            return self._dispatch(request, self._target(request.path))
        except ApiError as error:
            return Reply(error.code, error.status())

    def watch(self, request: Request, *, follow: bool = True) -> Watch:
        """Open a watch; raise an `ApiError` for a request that cannot be one."""
        if "sendInitialEvents" in request.query:  # a client that is told so lists first
            raise ApiError(StatusReason.INVALID, "sendInitialEvents: Forbidden: not served here")
        target = self._target(request.path)
        options = WatchOptions(
            version=request.query.get("resourceVersion", ""),
            seconds=_number(request.query, "timeoutSeconds") or WATCH_SECONDS,
            bookmarks=request.query.get("allowWatchBookmarks") in ("1", "true"),
            follow=follow,
        )
        return Watch(
            self.store, target.kind, target.namespace, self._predicate(request.query, target), options
        )

    def as_table(self, request: Request, line: Object) -> Object:
        """Return a watch line as kubectl prints it: the object as a table of one row."""
        obj = line["object"]
        if line["type"] == EventType.ERROR:
            return line
        rows = [] if line["type"] == EventType.BOOKMARK else [obj]
        kind, version = self._target(request.path).kind, obj["metadata"]["resourceVersion"]
        shown = self._table(request, kind, rows, version)
        return {"type": line["type"], "object": shown}

    def _target(self, path: str) -> Target:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "api" and len(parts) > 2:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise ApiError(StatusReason.NOT_FOUND, "the server could not find the requested resource")
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] != "status":
            namespace, rest = rest[1], rest[2:]
        kind = self.store.kinds.of(group, version, rest[0])
        subresource = rest[2] if len(rest) > 2 else ""
        if len(rest) > 3 or (subresource and subresource not in kind.subresources):
            raise ApiError(StatusReason.NOT_FOUND, "the server could not find the requested resource")
        return Target(kind, namespace, rest[1] if len(rest) > 1 else "", subresource)

    def _dispatch(self, request: Request, target: Target) -> Reply:
        verb = (request.method, "object" if target.name else "collection")
        match verb:
            case ("GET", "object"):
                return self._shown(request, target, self._get(target))
            case ("GET", "collection"):
                return Reply(200, self._list(request, target))
            case ("POST", "collection"):
                return self._create(request, target)
            case ("PUT" | "PATCH", "object"):
                return self._shown(request, target, self._update(request, target))
            case ("DELETE", "object"):
                return Reply(200, self._delete(request, target))
            case _:
                message = "the server does not allow this method on the requested resource"
                raise ApiError(StatusReason.METHOD_NOT_ALLOWED, message)

    def _shown(self, request: Request, target: Target, obj: Object) -> Reply:
        if not request.wants_table or target.subresource:
            return Reply(200, obj)
        return Reply(200, self._table(request, target.kind, [obj], obj["metadata"]["resourceVersion"]))

    def _table(self, request: Request, kind: Kind, objects: Sequence[Object], version: str) -> Object:
        whole = request.query.get("includeObject") == "Object"  # what `--sort-by` reads
        return table(kind.columns, objects, self.store.clock.now(), version, whole=whole)

    def _get(self, target: Target) -> Object:
        obj = self.store.get(target.kind, *target.place)
        return scale.read(obj) if target.subresource == "scale" else obj

    def _predicate(self, query: Mapping[str, str], target: Target) -> Predicate:
        labels = label_selector(query.get("labelSelector", ""))
        fields = field_selector(query.get("fieldSelector", ""))
        if target.name:
            return lambda obj: name_of(obj) == target.name
        return lambda obj: labels(obj) and fields(obj)

    def _list(self, request: Request, target: Target) -> Object:
        with self.store.lock:
            objects = self.store.select(target.kind, target.namespace, self._predicate(request.query, target))
            version = str(self.store.version)
        token = request.query.get("continue", "")
        if token:
            version, after = _page_start(token)
            self.store.history.after(int(version))  # a forgotten version ends the list with a 410
            objects = [obj for obj in objects if (namespace_of(obj), name_of(obj)) > after]
        limit = _number(request.query, "limit") or MAX_PAGE
        meta: Object = {"resourceVersion": version}
        if len(objects) > limit:
            meta["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
            meta["continue"] = f"{version}/{namespace_of(objects[-1])}/{name_of(objects[-1])}"
        if request.wants_table:
            shown = self._table(request, target.kind, objects, version)
            return {**shown, "metadata": meta}
        items = objects if _is_custom(target.kind) else [_untyped(obj) for obj in objects]
        return {
            "apiVersion": target.kind.api_version,
            "kind": f"{target.kind.name}List",
            "metadata": meta,
            "items": items,
        }

    def _create(self, request: Request, target: Target) -> Reply:
        draft = _an_object(request.body)
        if request.is_strict:
            _refuse_unknown_fields(target.kind, draft)
        meta = draft.setdefault("metadata", {})
        if target.namespace and meta.setdefault("namespace", target.namespace) != target.namespace:
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise ApiError(StatusReason.BAD_REQUEST, message)
        how = Write(admit=self._admission(request, target, Operation.CREATE), dry_run=request.is_dry)
        created = self.store.create(target.kind, draft, how)
        return Reply(201, self._shown(request, target, created).body)

    def _update(self, request: Request, target: Target) -> Object:
        change = _change(request)
        if request.is_strict and target.subresource != "scale":
            change = _strictly(target.kind, change)
        scaling = target.subresource == "scale"
        status = target.subresource if target.subresource == "status" else ""
        how = Write(status, self._admission(request, target, Operation.UPDATE), request.is_dry)
        updated = self.store.update(
            target.kind, target.place, scale.through(change) if scaling else change, how
        )
        return scale.read(updated) if scaling else updated

    def _delete(self, request: Request, target: Target) -> Object:
        options: Object = request.body if isinstance(request.body, dict) else {}
        if "Orphan" in (options.get("propagationPolicy"), request.query.get("propagationPolicy")):
            raise ApiError(StatusReason.INVALID, "the lab leaves no orphans: delete without --cascade=orphan")
        preconditions = options.get("preconditions") or {}
        grace = options.get("gracePeriodSeconds", _number(request.query, "gracePeriodSeconds"))
        how = Delete(
            uid=preconditions.get("uid") or "",
            grace_seconds=grace,
            admit=self._admission(request, target, Operation.DELETE),
            dry_run=request.is_dry or "All" in (options.get("dryRun") or ()),
        )
        deleted = self.store.delete(target.kind, target.place, how)
        if is_deleting(deleted):
            return deleted
        named = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural}
        told = {"status": "Success", "details": {**named, "uid": uid_of(deleted)}}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **told}

    def _admission(self, request: Request, target: Target, operation: Operation) -> Admit:
        def admit(old: Object | None, new: Object | None) -> Object | None:
            for rule in self.rules:
                question = AdmissionRequest(
                    operation, request.user, target.kind, target.subresource, old, new, self.store
                )
                changed = rule(question)
                new = new if changed is None else changed
            return new

        return admit


class InProcessTransport:
    """The transport of `kube.client` without a wire: the same requests, answered in the caller's thread.

    Bodies are turned to JSON and back on the way in, and copied on the way out, as a wire would.
    """

    def __init__(self, server: ApiServer, user: User, *, follow: bool = True) -> None:
        self._server = server
        self._user = user
        self._follow = follow

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        sent = None if body is None else json.loads(json.dumps(body, allow_nan=False))
        request = Request(method, path, query, sent, content_type, user=self._user)
        reply = self._server.handle(request)
        return Response(reply.status, clone(reply.body))

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        """Open a watch; made with `follow=False` it ends when it has told what there is."""
        request = Request("GET", path, query, user=self._user)
        try:
            return self._server.watch(request, follow=self._follow)
        except ApiError as error:
            return EndedStream(error.status())


def _an_object(body: Any) -> Object:
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise ApiError(StatusReason.BAD_REQUEST, "the body of the request is not a Kubernetes object")
    return body


def _change(request: Request) -> Change:
    """Return the function that a PUT or PATCH means."""
    if request.method == "PUT":
        body = _an_object(request.body)
        return lambda _old: body
    media = request.content_type.partition(";")[0].strip()
    patch = PATCHES.get(media)
    if patch is None:
        raise ApiError(
            StatusReason.UNSUPPORTED_MEDIA_TYPE, f"patches are sent as {', '.join(PATCHES)}, not {media}"
        )
    body = request.body
    return lambda old: patch(old, clone(body))


def _strictly(kind: Kind, change: Change) -> Change:
    def change_known_fields(old: Object) -> Object:
        changed = change(old)
        _refuse_unknown_fields(kind, changed)
        return changed

    return change_known_fields


def _refuse_unknown_fields(kind: Kind, draft: Object) -> None:
    unknown = [f'unknown field "{path}"' for path in islice(unknown_fields(draft, kind.schema), MAX_UNKNOWN)]
    if unknown:
        raise ApiError(StatusReason.BAD_REQUEST, f"strict decoding error: {', '.join(unknown)}")


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if text and not text.isdigit():
        raise ApiError(StatusReason.BAD_REQUEST, f"{name} is a whole number, not {text!r}")
    return int(text) if text else None


def _page_start(token: str) -> tuple[str, tuple[str, str]]:
    version, _, place = token.partition("/")
    namespace, slash, name = place.partition("/")
    if not version.isdigit() or not slash:
        raise ApiError(StatusReason.BAD_REQUEST, "continue key is not valid")
    return version, (namespace, name)


def _is_custom(kind: Kind) -> bool:
    return "." in kind.group and not kind.group.endswith(".k8s.io")


def _untyped(obj: Object) -> Object:
    """Return a list's item as the real server sends those of its own kinds: without apiVersion and kind."""
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
