"""The product's client against a real API server: forgotten versions, expired list tokens, copied labels."""

import json
import urllib.request
from collections.abc import Mapping

from cluster_bed import ETCD_PORT, HOST, Bed

from canary.kube.client import Client, Intent
from canary.kube.pods import SERVICE_LABEL
from canary.kube.resources import CONFIGMAPS, ENDPOINTSLICES, SERVICES, Selection
from canary.kube.transport import Response, Stream, Transport

pytest_plugins = ["cluster_fixtures"]
PAGES = 3
OBJECTS = 200 * PAGES  # as the client pages


def compact(revision: str) -> None:
    """Make etcd forget everything before a revision, as it does by itself every few minutes."""
    request = urllib.request.Request(
        f"http://{HOST}:{ETCD_PORT}/v3/kv/compaction",
        data=json.dumps({"revision": revision, "physical": True}).encode(),
    )
    with urllib.request.urlopen(request, timeout=10.0) as answer:
        assert answer.status == 200


def test_a_watch_from_before_the_servers_start_is_told_so(bed: Bed, namespace: str) -> None:
    bed.restart_apiserver()
    query = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "5"}
    (event,) = bed.transport("admin").stream(CONFIGMAPS.collection(namespace), query)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


class Forgetful:
    """A transport to a server that forgets, after the first page of a list, what the next page stands on."""

    def __init__(self, inner: Transport, bed: Bed, namespace: str) -> None:
        self._inner, self._bed, self._namespace = inner, bed, namespace
        self.statuses: list[int] = []

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        answer = self._inner.request(method, path, query=query, body=body, content_type=content_type)
        self.statuses.append(answer.status)
        if len(self.statuses) == 1:
            late = self._bed.make(CONFIGMAPS, "late", self._namespace)
            compact(late["metadata"]["resourceVersion"])
            self._bed.restart_apiserver()  # a running one keeps what the next page needs in memory
        return answer

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        return self._inner.stream(path, query)


def test_a_list_whose_token_expires_starts_over_and_misses_nothing(bed: Bed, namespace: str) -> None:
    names = {f"thing-{number}" for number in range(OBJECTS)}
    for name in names:
        bed.make(CONFIGMAPS, name, namespace)
    transport = Forgetful(bed.transport("admin"), bed, namespace)
    listed = Client(transport).read(Selection(CONFIGMAPS, namespace)).items
    assert 410 in transport.statuses, transport.statuses
    assert {each["metadata"]["name"] for each in listed} >= names | {"late"}


def test_the_labels_of_a_service_are_copied_to_its_slices(bed: Bed, namespace: str) -> None:
    spec = {"selector": {"app": "none"}, "ports": [{"port": 80}]}
    bed.make(SERVICES, "labelled", namespace, metadata={"labels": {"watched": "yes"}}, spec=spec)

    def labels() -> list[dict[str, str]]:
        slices = bed.admin.list(ENDPOINTSLICES, namespace, selector=f"{SERVICE_LABEL}=labelled")
        return [each["metadata"]["labels"] for each in slices]

    bed.until(
        lambda: [each.get("watched") for each in labels()] == ["yes"], "the slice has the Service's label"
    )
    removed = {"metadata": {"labels": {"watched": None}}}
    bed.admin.merge_patch(SERVICES.at(namespace, "labelled"), removed, intent=Intent.NEUTRAL)
    bed.until(lambda: ["watched" in each for each in labels()] == [False], "and loses it with the Service")
