"""What canary relies on at an API server, as named checks that need no test runner.

A check takes an `Api`: a transport and a namespace of its own. It runs against the embedded server in process and
over HTTPS, and the same list against a real one: the contract, not the lab, is the truth. A broken promise raises
AssertionError with a sentence. What the controllers behind the server promise is in `workload.py`.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from canary.kube.resources import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, LEASES, Resource
from canary.kube.transport import JSON, JSON_PATCH, MERGE_PATCH, Json, Response, Transport
from canary.lab.contracts.contract import checks_of, expect

SETTLE_SECONDS = 20.0  # a real controller-manager needs a few
POLL_SECONDS = 0.05


@dataclass(slots=True)
class Api:
    """Where a check runs: asks, and expects an answer's status."""

    transport: Transport
    namespace: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def fresh(self, stem: str = "thing") -> str:
        return f"{stem}-{next(self._numbers)}"

    def ask(
        self, method: str, resource: Resource, name: str = "", body: Any = None, **query: str
    ) -> Response:
        path = resource.collection(self.namespace) + (f"/{name}" if name else "")
        media = JSON
        if method == "PATCH":
            media = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        return self.transport.request(method, path, query=query, body=body, content_type=media)

    def make(self, resource: Resource, name: str, **parts: Any) -> Json:
        body = resource.at(self.namespace, name).manifest(**parts)
        return wanted(201, self.ask("POST", resource, body=body))

    def get(self, resource: Resource, name: str) -> Json:
        return wanted(200, self.ask("GET", resource, name))

    def patch(self, resource: Resource, name: str, patch: Any) -> Json:
        return wanted(200, self.ask("PATCH", resource, name, patch))

    def list(self, resource: Resource, **query: str) -> Json:
        return wanted(200, self.ask("GET", resource, **query))

    def watch(self, resource: Resource, version: str, **query: str) -> Sequence[Json]:
        """Return what a watch of one second tells."""
        asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "1", **query}
        return [*self.transport.stream(resource.collection(self.namespace), asked)]

    def config(self, name: str, labels: dict[str, str] | None = None) -> Json:
        return self.make(CONFIGMAPS, name, metadata={"labels": labels or {}}, data={"key": "one"})

    def eventually(self, holds: Callable[[], bool], sentence: str) -> None:
        """Wait until it holds, at most `SETTLE_SECONDS`."""
        end = time.monotonic() + SETTLE_SECONDS
        while not holds():
            expect(time.monotonic() < end, sentence)
            time.sleep(POLL_SECONDS)


Check = Callable[[Api], None]


def wanted(status: int, response: Response) -> Json:
    """Return the body of an answer that has to have this status."""
    said = response.body.get("message", "") if response.status >= 400 else ""
    expect(response.status == status, f"expected {status}, not {response.status}: {said}")
    return response.body


def refused(status: int, reason: str, response: Response) -> None:
    body = wanted(status, response)
    expect(body.get("kind") == "Status", "a refusal is a Status")
    expect(body.get("reason") == reason, f"expected the reason {reason}, not {body.get('reason')}")


def _version(obj: Json) -> str:
    return obj["metadata"]["resourceVersion"]


def generation_of(obj: Json) -> int:
    return obj["metadata"].get("generation", 0)


def an_identical_write_makes_no_version(api: Api) -> None:
    name = api.fresh()
    made = api.config(name)
    same = api.patch(CONFIGMAPS, name, {"data": {"key": "one"}})
    expect(_version(same) == _version(made), "an identical patch moved the version")
    other = api.patch(CONFIGMAPS, name, {"data": {"key": "two"}})
    expect(_version(other) != _version(made), "a change did not move the version")


def an_annotation_moves_the_version_but_not_the_generation(api: Api) -> None:
    name = api.fresh()
    made = _route(api, name, [{"name": "shop", "port": 80}])
    noted = api.patch(HTTPROUTES, name, {"metadata": {"annotations": {"example.com/epoch": "1"}}})
    expect(_version(noted) != _version(made), "an annotation did not move the version")
    expect(generation_of(noted) == generation_of(made), "an annotation moved the generation")
    changed = api.patch(HTTPROUTES, name, {"spec": {"hostnames": ["shop.example.com"]}})
    expect(generation_of(changed) == generation_of(made) + 1, "a new spec did not move the generation by one")


def a_stale_merge_patch_is_a_conflict(api: Api) -> None:
    name = api.fresh()
    seen = _version(api.config(name))
    api.patch(CONFIGMAPS, name, {"data": {"key": "two"}})
    late = {"metadata": {"resourceVersion": seen}, "data": {"key": "three"}}
    refused(409, "Conflict", api.ask("PATCH", CONFIGMAPS, name, late))
    expect(api.get(CONFIGMAPS, name)["data"] == {"key": "two"}, "a refused patch was stored")


def a_stale_json_patch_is_a_conflict(api: Api) -> None:
    name = api.fresh()
    seen = _version(api.config(name))
    api.patch(CONFIGMAPS, name, {"data": {"key": "two"}})
    operations = [_replace("/metadata/resourceVersion", seen), _replace("/data/key", "three")]
    refused(409, "Conflict", api.ask("PATCH", CONFIGMAPS, name, operations))


def a_failed_test_refuses_the_whole_json_patch(api: Api) -> None:
    name = api.fresh()
    api.config(name)
    operations = [_replace("/data/key", "two"), {"op": "test", "path": "/data/key", "value": "one"}]
    refused(422, "Invalid", api.ask("PATCH", CONFIGMAPS, name, operations))
    expect(api.get(CONFIGMAPS, name)["data"] == {"key": "one"}, "half of a refused patch was stored")


def a_json_patch_below_nothing_is_refused(api: Api) -> None:
    name = api.fresh()
    api.config(name)
    operation = {"op": "add", "path": "/metadata/annotations/example.com~1epoch", "value": "1"}
    refused(422, "Invalid", api.ask("PATCH", CONFIGMAPS, name, [operation]))
    whole = {"op": "add", "path": "/metadata/annotations", "value": {"example.com/epoch": "1"}}
    noted = api.patch(CONFIGMAPS, name, [whole])
    expect(noted["metadata"]["annotations"] == {"example.com/epoch": "1"}, "the annotations were not added")


def a_merge_patch_removes_by_null_and_replaces_lists(api: Api) -> None:
    name = api.fresh()
    _route(api, name, [{"name": "shop", "port": 80}])
    api.patch(HTTPROUTES, name, {"spec": {"hostnames": ["a.example.com", "b.example.com"]}})
    changed = api.patch(HTTPROUTES, name, {"spec": {"hostnames": ["c.example.com"]}})
    expect(changed["spec"]["hostnames"] == ["c.example.com"], "a list was not replaced whole")
    changed = api.patch(HTTPROUTES, name, {"spec": {"hostnames": None}})
    expect("hostnames" not in changed["spec"], "null did not remove the field")


def what_is_absent_is_404_and_what_is_taken_is_409(api: Api) -> None:
    name = api.fresh()
    refused(404, "NotFound", api.ask("GET", CONFIGMAPS, name))
    refused(404, "NotFound", api.ask("PATCH", CONFIGMAPS, name, {"data": {}}))
    refused(404, "NotFound", api.ask("DELETE", CONFIGMAPS, name))
    api.config(name)
    body = CONFIGMAPS.at(api.namespace, name).manifest()
    refused(409, "AlreadyExists", api.ask("POST", CONFIGMAPS, body=body))


def a_dry_run_stores_nothing(api: Api) -> None:
    name = api.fresh()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "one"}}
    shown = wanted(201, api.ask("POST", CONFIGMAPS, body=body, dryRun="All"))
    expect(shown["data"] == {"key": "one"}, "a dry run shows what would be stored")
    refused(404, "NotFound", api.ask("GET", CONFIGMAPS, name))


def status_and_spec_do_not_write_each_other(api: Api) -> None:
    name = api.fresh()
    _route(api, name, [{"name": "shop", "port": 80}])
    parent = {"parentRef": {"name": "gateway"}, "controllerName": "example.com/lab", "conditions": []}
    api.patch(HTTPROUTES, name, {"status": {"parents": [parent]}})
    expect(not api.get(HTTPROUTES, name).get("status", {}).get("parents"), "a spec write reached the status")
    patch = {"status": {"parents": [parent]}, "spec": {"hostnames": ["a.example.com"]}}
    written = api.patch(HTTPROUTES, f"{name}/status", patch)
    expect("hostnames" not in written["spec"], "a status write reached the spec")
    expect(
        written["status"]["parents"][0]["controllerName"] == "example.com/lab", "the status was not written"
    )
    expect(generation_of(written) == 1, "a status write moved the generation")


def route_weights_are_defaulted_and_limited(api: Api) -> None:
    name = api.fresh()
    made = _route(api, name, [{"name": "shop", "port": 80}])
    expected = {"group": "", "kind": "Service", "name": "shop", "port": 80, "weight": 1}
    expect(made["spec"]["rules"][0]["backendRefs"] == [expected], "a backendRef was not defaulted")
    path = "/spec/rules/0/backendRefs/0/weight"
    full = api.patch(HTTPROUTES, name, [_replace(path, 1_000_000)])
    expect(
        full["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1_000_000, "the whole weight was not stored"
    )
    for weight in (1_000_001, -1):
        refused(422, "Invalid", api.ask("PATCH", HTTPROUTES, name, [_replace(path, weight)]))


def a_deletion_of_another_uid_is_a_conflict(api: Api) -> None:
    name = api.fresh()
    uid = api.config(name)["metadata"]["uid"]
    stranger = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid[:-4] + "0000"}}
    refused(409, "Conflict", api.ask("DELETE", CONFIGMAPS, name, stranger))
    wanted(200, api.ask("DELETE", CONFIGMAPS, name, {**stranger, "preconditions": {"uid": uid}}))
    refused(404, "NotFound", api.ask("GET", CONFIGMAPS, name))


def a_finalizer_delays_the_end(api: Api) -> None:
    name = api.fresh()
    api.make(CONFIGMAPS, name, metadata={"finalizers": ["example.com/wait"]})
    wanted(200, api.ask("DELETE", CONFIGMAPS, name))
    expect("deletionTimestamp" in api.get(CONFIGMAPS, name)["metadata"], "a deletion was not marked")
    api.patch(CONFIGMAPS, name, {"metadata": {"finalizers": None}})
    refused(404, "NotFound", api.ask("GET", CONFIGMAPS, name))


def selectors_select_by_equality_and_by_set(api: Api) -> None:
    stem = api.fresh("selected")
    for place, color in enumerate(("red", "green", "blue")):
        api.config(f"{stem}-{place}", {"group": stem, "color": color})
    api.config(f"{stem}-3", {"group": stem})
    cases = {
        "color=red": 1,
        "color!=red": 3,
        "color in (red,blue)": 2,
        "color notin (red)": 3,
        "color": 3,
        "!color": 1,
        "color,color!=red": 2,
    }
    for selector, count in cases.items():
        found = len(api.list(CONFIGMAPS, labelSelector=f"group={stem},{selector}")["items"])
        expect(found == count, f"{selector} selected {found} objects, not {count}")


def pages_add_up_to_the_list(api: Api) -> None:
    stem = api.fresh("paged")
    names = [f"{stem}-{number}" for number in range(5)]
    for name in names:
        api.config(name, {"group": stem})
    seen: list[str] = []
    query = {"labelSelector": f"group={stem}", "limit": "2"}
    for _ in range(3):
        page = api.list(CONFIGMAPS, **query)
        expect(len(page["items"]) <= 2, "a page is longer than its limit")
        seen += [item["metadata"]["name"] for item in page["items"]]
        query["continue"] = page["metadata"].get("continue", "")
    expect(seen == names, f"the pages hold {seen}")
    expect(not query["continue"], "the last page names no next one")


def a_watch_tells_what_came_after_a_version(api: Api) -> None:
    stem = api.fresh("watched")
    version = _version(api.list(CONFIGMAPS))
    api.config(stem, {"group": stem})
    api.patch(CONFIGMAPS, stem, {"data": {"key": "two"}})
    api.config(f"{stem}-other", {"group": "other"})
    api.patch(CONFIGMAPS, stem, {"metadata": {"labels": {"group": "other"}}})
    api.patch(CONFIGMAPS, stem, {"metadata": {"labels": {"group": stem}}})
    wanted(200, api.ask("DELETE", CONFIGMAPS, stem))
    seen = [event["type"] for event in api.watch(CONFIGMAPS, version, labelSelector=f"group={stem}")]
    expect(seen == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"], f"the watch told {seen}")


def a_watch_that_ends_leaves_a_bookmark(api: Api) -> None:
    name = api.fresh()
    version = _version(api.config(name))
    events = api.watch(LEASES, version, allowWatchBookmarks="true")
    expect(bool(events) and events[-1]["type"] == "BOOKMARK", "the watch ended without a bookmark")
    expect(int(_version(events[-1]["object"])) >= int(version), "the bookmark lies before the watch")


def an_impossible_object_is_refused_by_its_fields(api: Api) -> None:
    name = api.fresh()
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {}}
    refused(422, "Invalid", api.ask("POST", DEPLOYMENTS, body=body))
    upper = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Upper"}}
    refused(422, "Invalid", api.ask("POST", CONFIGMAPS, body=upper))


def _replace(path: str, value: Any) -> Json:
    return {"op": "replace", "path": path, "value": value}


def _route(api: Api, name: str, backends: list[Json]) -> Json:
    rule = {"backendRefs": backends}
    return api.make(HTTPROUTES, name, spec={"parentRefs": [{"name": "gateway"}], "rules": [rule]})


API_CHECKS = checks_of(__name__, Api)
