"""The verbs that canary uses at an API server, and no others.

An object goes in and out as the plain dict that the server stores. An absent object is None; every other
answer that is not a success becomes the one error that says how to react. Each write states its intent, and
what does not lower exposure passes the fence first: without a valid lease it ends here, before a byte is
sent. Nothing is repeated here and nothing waits; that is the queue's work.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from canary.clock import Clock, WallClock
from canary.errors import CanaryError, ConflictError, RefusedError, UnavailableError
from canary.kube.resources import Ref, Resource, Selection
from canary.kube.transport import JSON, JSON_PATCH, MERGE_PATCH, Json, Response, Stream, Transport

PAGE_OBJECTS = 200  # the memory of one parsed page stays with the process: 500 took 35 MiB more
MAX_PAGES = 5_000  # a million objects of one kind: beyond that a list is a mistake
MAX_DISOWN_STARTS = 5  # while others write the same object
MAX_LIST_STARTS = 5  # a list token may expire in mid-paging; then the list starts over
NO_ANSWER = "none"  # the code of a call that got no answer, in metrics
SERVER_VERSION = Resource("", "", "version", "Version", namespaced=False)


class Intent(StrEnum):
    """What a write does to exposure. The fence asks no more than this."""

    LOWERING = "Lowering"  # needs nothing: no lease, no leader
    NEUTRAL = "Neutral"  # needs the lease
    RAISING = "Raising"  # needs the lease, with half of its renewal time left


class FieldManager(StrEnum):
    """Who writes, as `managedFields` names it."""

    CONTROLLER = "canary-controller"
    SENTINEL = "canary-sentinel"
    CLI = "canary-cli"


class KubeVerb(StrEnum):
    """The verbs, as RBAC and the request metrics name them."""

    GET = "get"
    LIST = "list"
    WATCH = "watch"
    CREATE = "create"
    PATCH = "patch"
    DELETE = "delete"


_METHODS = {
    KubeVerb.GET: "GET",
    KubeVerb.LIST: "GET",
    KubeVerb.CREATE: "POST",
    KubeVerb.PATCH: "PATCH",
    KubeVerb.DELETE: "DELETE",
}


class Fence(Protocol):
    """Who may write now; the elector."""

    def leads(self) -> bool:
        """Tell whether the lease was surely held a moment ago."""
        ...

    def may_raise(self) -> bool:
        """Tell whether the lease is held with time to spare."""
        ...


class UnknownKindError(RefusedError):
    """The API server serves no such kind: its CRD was never installed, or was deleted and its objects with it."""


class AlreadyExistsError(ConflictError):
    """The name is taken. For a name of our own: read the object and compare."""


@dataclass(frozen=True, slots=True)
class Call:
    """One finished call, for the metrics. `code` is the HTTP status or NO_ANSWER."""

    verb: KubeVerb
    resource: str
    code: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole list and the version at which it was true, from where a watch goes on."""

    items: list[Json]
    version: str


@dataclass(frozen=True, slots=True)
class _Request:
    """What is to be asked. `tested` marks a JSON patch that carries `test` operations."""

    verb: KubeVerb
    resource: Resource
    path: str
    query: Mapping[str, str]
    body: object | None = None
    content_type: str = JSON
    tested: bool = False


def _ignore(call: Call) -> None:
    """Count nothing: the command line has no metrics."""


def _whole(obj: Json) -> Json:
    return obj


class Client:
    """One identity's hands at one API server. Thread-safe where its transport is.

    Without a `fence` every write passes: for the command line, where a person answers for it.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        fence: Fence | None = None,
        manager: FieldManager = FieldManager.CONTROLLER,
        clock: Clock | None = None,
        observe: Callable[[Call], None] = _ignore,
    ) -> None:
        self._transport = transport
        self._fence = fence
        self._manager = manager
        self._clock = clock or WallClock()
        self._observe = observe

    def get(self, ref: Ref) -> Json | None:
        """Return the object, or None where there is none."""
        response = self._send(_Request(KubeVerb.GET, ref.resource, ref.path(), {}))
        return None if response.status == 404 else response.body

    def list(self, resource: Resource, namespace: str | None = None, *, selector: str = "") -> list[Json]:
        """Return all objects of a kind, of one namespace or of all, that a label selector names."""
        return self.read(Selection(resource, namespace, selector)).items

    def read(self, selection: Selection, slim: Callable[[Json], Json] = _whole) -> Listing:
        """Return a whole list with its version; `slim` sees each object as its page arrives."""
        for _ in range(MAX_LIST_STARTS):
            listing = self._read_pages(selection, slim)
            if listing is not None:
                return listing
        raise UnavailableError(
            f"the list of {selection.resource.plural} expired {MAX_LIST_STARTS} times in mid-paging"
        )

    def watch(self, selection: Selection, version: str, *, timeout_seconds: int) -> Stream:
        """Open a stream of what happened after `version`. Errors of the server are events of type ERROR."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_seconds),
            **_selector(selection),
        }
        return self._transport.stream(selection.resource.collection(selection.namespace), query)

    def server_version(self) -> str:
        """Return the API server's version as it tells it, for example v1.36.3."""
        return str(self._send(_Request(KubeVerb.GET, SERVER_VERSION, "/version", {})).body.get("gitVersion"))

    def create(
        self, resource: Resource, obj: Mapping[str, Any], *, intent: Intent, dry_run: bool = False
    ) -> Json:
        """Create the object and return it as stored. Raise AlreadyExistsError where the name is taken."""
        query = {"dryRun": "All"} if dry_run else {}
        namespace = str(obj["metadata"].get("namespace", "")) if resource.namespaced else None
        request = _Request(KubeVerb.CREATE, resource, resource.collection(namespace), query, dict(obj))
        response = self._write(request, intent)
        if response.status == 404:
            raise RefusedError(f"cannot create a {resource.kind}: {_message(response)}")
        return response.body

    def merge_patch(
        self, ref: Ref, patch: Mapping[str, Any], *, intent: Intent, subresource: str = ""
    ) -> Json | None:
        """Merge `patch` into the object and return it as stored, or None where it is gone.

        A `metadata.resourceVersion` within the patch makes it a compare-and-set: stale is ConflictError.
        """
        path = ref.path(subresource)
        return self._patch(_Request(KubeVerb.PATCH, ref.resource, path, {}, dict(patch), MERGE_PATCH), intent)

    def json_patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]], *, intent: Intent) -> Json | None:
        """Apply the operations in order, all or none; return the object, or None where it is gone.

        A `test` that fails, and a replaced `/metadata/resourceVersion` that is stale, are ConflictError.
        """
        body = [dict(operation) for operation in operations]
        tested = any(operation.get("op") == "test" for operation in body)
        request = _Request(KubeVerb.PATCH, ref.resource, ref.path(), {}, body, JSON_PATCH, tested)
        return self._patch(request, intent)

    def delete(self, ref: Ref, *, uid: str, intent: Intent) -> None:
        """Delete the object if it still is the one with this uid. One that is gone already is done."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        self._write(_Request(KubeVerb.DELETE, ref.resource, ref.path(), {}, options), intent)

    def disown(self, ref: Ref) -> None:
        """Give up the fields that the API server attributes to us: whoever applies the object owns them again."""
        for _ in range(MAX_DISOWN_STARTS):
            operations = ownership_operations(self.get(ref) or {"metadata": {}})
            if not operations:
                return
            with suppress(ConflictError):  # the entries moved; look where they are now
                self.json_patch(ref, operations, intent=Intent.LOWERING)
                return

    def _patch(self, request: _Request, intent: Intent) -> Json | None:
        response = self._write(request, intent)
        return None if response.status == 404 else response.body

    def _write(self, request: _Request, intent: Intent) -> Response:
        self._pass_fence(request, intent)
        manager = {} if request.verb is KubeVerb.DELETE else {"fieldManager": str(self._manager)}
        return self._send(replace(request, query={**request.query, **manager}))

    def _pass_fence(self, request: _Request, intent: Intent) -> None:
        if self._fence is None or intent is Intent.LOWERING:
            return
        allowed = self._fence.may_raise() if intent is Intent.RAISING else self._fence.leads()
        if not allowed:
            raise ConflictError(
                f"no lease for this {intent.lower()} {request.verb} of {request.resource.kind}"
            )

    def _read_pages(self, selection: Selection, slim: Callable[[Json], Json]) -> Listing | None:
        """Return the list, or None where its token expired on the way."""
        items: list[Json] = []
        query = {"limit": str(PAGE_OBJECTS), **_selector(selection)}
        path = selection.resource.collection(selection.namespace)
        for _ in range(MAX_PAGES):
            response = self._send(_Request(KubeVerb.LIST, selection.resource, path, query))
            if response.status == 410:
                return None
            if response.status == 404:
                raise UnknownKindError(
                    f"the API server does not know {selection.resource.plural}; are its CRDs installed?"
                )
            page = _page(selection.resource, response.body)
            items.extend(slim(item) for item in page.items)
            metadata = response.body["metadata"]
            token = metadata.get("continue", "")
            if not token:
                return Listing(items, page.version)
            query = {**query, "continue": token}
        raise RefusedError(
            f"more than {MAX_PAGES * PAGE_OBJECTS} {selection.resource.plural}: narrow the selection"
        )

    def _send(self, request: _Request) -> Response:
        """Ask once. Return successes, absences (404) and expired lists (410); raise everything else."""
        response = self._timed(request)
        if 200 <= response.status < 300 or response.status == 404:
            return response
        if response.status == 410 and request.verb is KubeVerb.LIST:
            return response
        raise _error_of(request, response)

    def _timed(self, request: _Request) -> Response:
        started = self._clock.monotonic()
        code = NO_ANSWER
        try:
            response = self._transport.request(
                _METHODS[request.verb],
                request.path,
                query=request.query,
                body=request.body,
                content_type=request.content_type,
            )
            code = str(response.status)
            return response
        finally:
            self._observe(
                Call(request.verb, request.resource.plural, code, self._clock.monotonic() - started)
            )


def ownership_operations(obj: Mapping[str, Any]) -> list[Json]:
    """Return the JSON patch that takes our entries out of an object's managed fields."""
    entries: list[Json] = obj["metadata"].get("managedFields") or []
    operations: list[Json] = []
    for index, entry in reversed(list(enumerate(entries))):
        if entry.get("manager") in set(FieldManager):
            at = f"/metadata/managedFields/{index}"
            operations.append({"op": "test", "path": f"{at}/manager", "value": entry["manager"]})
            operations.append({"op": "remove", "path": at})
    return operations


def _page(resource: Resource, body: Json) -> Listing:
    """Read one page. Built-in lists leave kind and apiVersion out of their items; we put them back."""
    items, metadata = body.get("items"), body.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(items, list) or not all(map(_is_object, items)):
        raise UnavailableError(f"the answer is not a list of {resource.plural}")
    named = {"apiVersion": resource.api_version, "kind": resource.kind}
    return Listing([{**named, **item} for item in items], str(metadata.get("resourceVersion", "")))


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _selector(selection: Selection) -> dict[str, str]:
    return {"labelSelector": selection.labels} if selection.labels else {}


def _message(response: Response) -> str:
    return str(response.body.get("message") or f"HTTP {response.status}")


def retry_after(response: Response) -> float:
    """Return the least wait that the server asks for, in seconds; 0 where it asks for none."""
    text = response.headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    details = response.body.get("details")
    seconds = details.get("retryAfterSeconds", 0) if isinstance(details, dict) else 0
    return float(seconds) if isinstance(seconds, int) else 0.0


def _error_of(request: _Request, response: Response) -> CanaryError:
    """Choose the error by the reaction that it calls for."""
    status = response.status
    what = f"{request.verb} {request.path}: {_message(response)}"
    if status == 409 and response.body.get("reason") == "AlreadyExists":
        return AlreadyExistsError(what)
    if status == 409 or (status == 422 and request.tested):
        return ConflictError(what)
    if status == 401 or status == 429 or not 400 <= status < 500:
        return UnavailableError(what, retry_after_seconds=retry_after(response))
    return RefusedError(what)
