"""Pods by the hundred that are only told of: the API server believes that they run, and one server answers for all.

In go the pods that carry the label `crowd`, with the name of their app; out come bindings and Ready statuses, each with
an address of its own. On every one of these addresses counters are shown, as a healthy shop with steady customers would
count them: the side's begin when its route gives it a weight. No request is ever served.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from cluster_bed import Bed
from node_agent import CROWD, NODE, NODE_ADDRESS, now

from canary.api.marks import Mark
from canary.errors import CanaryError
from canary.kube.resources import HTTPROUTES, PODS, Selection
from canary.kube.transport import JSON, MERGE_PATCH, Json, Stream

METRICS_PORT = 18082
REQUESTS, CONVERSION = 2_000.0, 0.3  # of each app, a second; orders of a request
WATCH_SECONDS, JOIN_SECONDS = 300, 5.0
App = tuple[str, str]  # namespace and name


@dataclass(frozen=True, slots=True)
class Member:
    """One pod of the crowd."""

    app: App
    side: bool
    since: float


class Crowd:
    """All pods with the label, from its making until `close`; `replicas` are those of a Deployment."""

    def __init__(self, bed: Bed, replicas: int, side_pods: int, share: float) -> None:
        self._client = bed.client("node")
        self._transport = bed.transport("node")
        self._per_pod = (REQUESTS * (1 - share) / replicas, REQUESTS * share / side_pods)
        self._members: dict[str, Member] = {}
        self._exposed: dict[App, float] = {}
        self._known: set[str] = set()
        self._addresses = addresses()
        self._closing = threading.Event()
        self._streams: list[Stream] = []
        follow = (
            (Selection(PODS, None, CROWD), self._see),
            (Selection(HTTPROUTES, None, Mark.ATTACHED.value), self._see_route),
        )
        self._threads = [threading.Thread(target=self._follow, args=each, daemon=True) for each in follow]
        self._loop = asyncio.new_event_loop()
        serving = self._loop.create_server(lambda: _Connection(self._exposition), "0.0.0.0", METRICS_PORT)
        self._server = self._loop.run_until_complete(serving)
        self._threads.append(threading.Thread(target=self._loop.run_forever, daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Show nothing any more."""
        self._closing.set()
        for stream in tuple(self._streams):
            stream.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._server.close()

    def _follow(self, selection: Selection, see: Callable[[Json], None]) -> None:
        while not self._closing.is_set():
            with suppress(CanaryError):
                listing = self._client.read(selection)
                for obj in listing.items:
                    see(obj)
                stream = self._client.watch(selection, listing.version, timeout_seconds=WATCH_SECONDS)
                self._streams.append(stream)
                for event in stream:
                    if event["type"] in ("ADDED", "MODIFIED"):
                        see(event["object"])
            self._closing.wait(0.1)

    def _see_route(self, route: Json) -> None:
        metadata = route["metadata"]
        if (metadata.get("annotations") or {}).get(Mark.WEIGHT, "0") != "0":
            self._exposed.setdefault((metadata["namespace"], metadata["name"]), time.time())

    def _see(self, pod: Json) -> None:
        metadata = pod["metadata"]
        if metadata["uid"] in self._known:
            return
        self._known.add(metadata["uid"])
        ip, app = next(self._addresses), (metadata["namespace"], metadata["labels"][CROWD])
        self._members[ip] = Member(app, Mark.SIDE in metadata["labels"], time.time())
        path = PODS.at(metadata["namespace"], metadata["name"]).path()
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}}
        self._call("POST", f"{path}/binding", {**binding, "target": target})
        self._call("PATCH", f"{path}/status", {"status": ready_status(pod, ip)})

    def _call(self, method: str, path: str, body: Json) -> None:
        media = MERGE_PATCH if method == "PATCH" else JSON
        answer = self._transport.request(method, path, query={}, body=body, content_type=media)
        assert answer.status < 300, answer.body

    def _exposition(self, ip: str) -> bytes:
        """Return what the pod of an address has counted by now."""
        member = self._members[ip]
        since = self._exposed.get(member.app, time.time()) if member.side else member.since
        requests = int(self._per_pod[member.side] * (time.time() - since))
        return EXPOSITION.format(requests=requests, orders=int(requests * CONVERSION)).encode()


class _Connection(asyncio.Protocol):
    """One kept connection of a scraper: each request is answered at once, whatever it asks."""

    def __init__(self, exposition: Callable[[str], bytes]) -> None:
        self._exposition = exposition

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ip: str = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        body = self._exposition(self._ip)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def addresses() -> Iterator[str]:
    """Yield addresses for the crowd, far from those that the node gives."""
    for third, last in itertools.product(range(200, 256), range(1, 255)):
        yield f"10.77.{third}.{last}"


def ready_status(pod: Json, ip: str) -> Json:
    """Return the status of a pod that runs and is ready."""
    since = now()
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    containers = [
        {
            "name": each["name"],
            "image": each["image"],
            "imageID": each["image"],
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": since}},
        }
        for each in pod["spec"]["containers"]
    ]
    return {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": since} for kind in kinds],
        "containerStatuses": containers,
        "startTime": since,
        "hostIP": NODE_ADDRESS,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
    }


EXPOSITION = """# TYPE http_requests_total counter
http_requests_total{{code="200"}} {requests}
http_requests_total{{code="500"}} 0
# TYPE orders_completed_total counter
orders_completed_total {orders}
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{{le="0.1"}} {requests}
http_request_duration_seconds_bucket{{le="0.5"}} {requests}
http_request_duration_seconds_bucket{{le="+Inf"}} {requests}
http_request_duration_seconds_sum {requests}
http_request_duration_seconds_count {requests}
# TYPE delivery_promise_days_over_10_total counter
delivery_promise_days_over_10_total 0
"""
