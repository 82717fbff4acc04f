"""What there is: the documents from which kubectl learns groups, versions and resources.

Only the plain forms are served; kubectl falls back to them from the aggregated ones. What fields the kinds have
is in `openapi.py`. Called by `apiserver.py`; pure.
"""

from canary.lab import openapi
from canary.lab.admission import User
from canary.lab.objects import Object
from canary.lab.resources import Kind, Kinds

SERVER_VERSION = "v1.36.3"  # the version whose behaviour the lab follows
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS = ["get", "patch", "update"]
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
            return openapi.index(kinds)
        case ["openapi", "v3", *root]:
            return openapi.document(kinds, "/".join(root))
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
