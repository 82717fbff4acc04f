"""What there is: the documents from which kubectl learns groups, versions, resources and fields.

Of groups and resources only the plain forms are served; kubectl falls back to them from the aggregated ones. Of OpenAPI
v3 there is as much as kubectl reads: which fields a kind has, so that `kubectl explain` shows the docstrings of our
own kinds, and that the server itself validates them, so that `apply` and `edit` need no flag. Called by
`protocol.py`; pure.
"""

from collections.abc import Container, Sequence

from canary.lab.apiserver.admission import User
from canary.lab.apiserver.objects import Object
from canary.lab.apiserver.resources import Kind, Kinds

SERVER_VERSION = "v1.36.3"  # the version whose behaviour the lab follows
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS = ["get", "patch", "update"]
_STRICT = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
_HIDDEN = ("x-kubernetes-validations",)  # rules are for the server, not for readers of the schema
MAY_THEY = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_WHO_AM_I = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def answer(kinds: Kinds, method: str, path: str, user: User) -> Object | None:
    """Return the document at `path`, or None if the path is not about discovery."""
    if method == "POST" and path == _WHO_AM_I:
        return _identity(user)
    if method != "GET":
        return None
    parts = path.strip("/").split("/")
    match parts:
        case ["version"]:
            return _version()
        case ["healthz" | "livez" | "readyz"]:
            return {"status": "ok"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = [_group(group, version) for group, version in _versions(kinds)]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group]:
            return next((_group(group, version) for name, version in _versions(kinds) if name == group), None)
        case ["api", version]:
            return _resources(kinds, "", version)
        case ["apis", group, version]:
            return _resources(kinds, group, version)
        case ["openapi", "v3"]:
            return _index(kinds)
        case ["openapi", "v3", *root]:
            return _document(kinds, "/".join(root))
        case _:
            return None


def _version() -> Object:
    major, minor, _ = SERVER_VERSION.removeprefix("v").split(".")
    return {"major": major, "minor": minor, "gitVersion": SERVER_VERSION, "platform": "canary/lab"}


def _versions(kinds: Kinds) -> list[tuple[str, str]]:
    return sorted({(kind.group, kind.version) for kind in kinds if kind.group})


def _group(group: str, version: str) -> Object:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _resources(kinds: Kinds, group: str, version: str) -> Object | None:
    found = [kind for kind in kinds if kind.group == group and kind.version == version]
    if not found:
        return None
    entries = [entry for kind in found for entry in (_entry(kind), *_subresources(kind))]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version,
        "resources": entries,
    }


def _entry(kind: Kind) -> Object:
    return {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": _VERBS,
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
    }


def _subresources(kind: Kind) -> list[Object]:
    entries: list[Object] = []
    for name in sorted(kind.subresources):
        entry = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
        entry |= {"kind": "Scale" if name == "scale" else kind.name, "verbs": _SUBRESOURCE_VERBS}
        entries.append(entry | ({"group": "autoscaling", "version": "v1"} if name == "scale" else {}))
    return entries


def _identity(user: User) -> Object:
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "status": {"userInfo": {"username": user.name, "groups": list(user.all_groups)}},
    }


def review(asked: Object, denied: Container[tuple[str, str]]) -> Object:
    """Answer a SubjectAccessReview."""
    spec: Object = asked.get("spec") or {}
    attributes: Object = spec.get("resourceAttributes") or {}
    allowed = (str(spec.get("user")), str(attributes.get("verb"))) not in denied
    return {**asked, "status": {"allowed": allowed}}


def _index(kinds: Kinds) -> Object:
    """Return where the OpenAPI document of each group and version is."""
    roots = sorted({_root(kind) for kind in kinds})
    return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in roots}}


def _document(kinds: Kinds, root: str) -> Object | None:
    """Return the document of a group and version, such as `apis/apps/v1`, or None if there is no such group."""
    found = [kind for kind in kinds if _root(kind) == root]
    if not found:
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "lab"},
        "paths": _paths(found),
        "components": {"schemas": {_schema_name(kind): _schema(kind) for kind in found}},
    }


def _root(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _schema_name(kind: Kind) -> str:
    return f"{kind.group or 'core'}.{kind.version}.{kind.name}"


def _type(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.name}


def _paths(kinds: Sequence[Kind]) -> Object:
    paths: Object = {}
    for kind in kinds:
        answer = {"200": {"content": {"application/json": {"schema": {"$ref": _reference(kind)}}}}}
        operation: Object = {"x-kubernetes-group-version-kind": _type(kind), "responses": answer}
        place = "namespaces/{namespace}/" if kind.namespaced else ""
        collection = f"/{_root(kind)}/{place}{kind.plural}"
        paths[collection] = {"post": {**operation, "parameters": [_STRICT]}}
        paths[collection + "/{name}"] = {
            "get": {**operation, "x-kubernetes-action": "get"},
            "patch": {**operation, "parameters": [_STRICT], "x-kubernetes-action": "patch"},
        }
    return paths


def _reference(kind: Kind) -> str:
    return f"#/components/schemas/{_schema_name(kind)}"


def _schema(kind: Kind) -> Object:
    schema = {key: value for key, value in kind.schema.items() if key not in _HIDDEN}
    return {**schema, "type": "object", "x-kubernetes-group-version-kind": [_type(kind)]}
