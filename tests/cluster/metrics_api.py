"""The CPU of pods as autoscalers ask for it: an API server of our own for metrics.k8s.io, behind an APIService.

`Metrics(bed)` is registered from its making until `close`. The real API server sends it what the real autoscaler asks,
and `load` says how many thousandths of a core all pods of a question together use now; they share it evenly. Here is,
too, the real autoscaler that obeys these figures.
"""

import json
import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cluster_bed import Bed
from shop_on_bed import Shop

from canary.kube.client import Intent
from canary.kube.pods import SERVICE_LABEL
from canary.kube.resources import ENDPOINTSLICES, HPAS, PODS, SERVICES, Ref, Resource
from canary.lab import manifests

APISERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
GROUP, VERSION = "metrics.k8s.io", "v1beta1"
ROOT = f"/apis/{GROUP}/{VERSION}"
REGISTRATION = APISERVICES.at("", f"{VERSION}.{GROUP}")
ADDRESS, PORT, NAME, HOME = "10.77.0.4", 28443, "pod-metrics", "kube-system"
WINDOW = "1s"
FEW, MANY = 3, 6  # pods; a shop opens with the few
TARGET_MILLIS = 50  # of a core, a pod
QUIET, BUSY = 60, MANY * TARGET_MILLIS  # thousandths of a core of all pods together
WINDOW_SECONDS, SCALED_SECONDS = 5, 60.0
BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": WINDOW_SECONDS}}
Object = dict[str, Any]
DISCOVERED: Object = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [
        {
            "name": "pods",
            "singularName": "",
            "namespaced": True,
            "kind": "PodMetrics",
            "verbs": ["get", "list"],
        }
    ],
}


class Metrics:
    """Serves the figures of every namespace; of one that was not named in `load`, none."""

    def __init__(self, bed: Bed) -> None:
        self.load: dict[str, int] = {}
        self._made: list[tuple[Ref, Object]] = []
        self._bed, self._client = bed, bed.client("admin")
        self._server = ThreadingHTTPServer((ADDRESS, PORT), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own = bed.folder / "certificates"
        context.load_cert_chain(own / "apiserver.crt", own / "apiserver.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._register()

    def close(self) -> None:
        """Take the API away again, for one that does not answer stops the deletion of every namespace."""
        for ref, stored in reversed(self._made):
            self._client.delete(ref, uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _make(self, ref: Ref, **parts: Any) -> None:
        self._made.append((ref, self._bed.make(ref.resource, ref.name, ref.namespace, **parts)))

    def _register(self) -> None:
        port = {"name": "https", "port": 443, "targetPort": PORT}
        self._make(SERVICES.at(HOME, NAME), spec={"ports": [port]})
        endpoints = {
            "metadata": {"labels": {SERVICE_LABEL: NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": PORT}],
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        }
        self._make(ENDPOINTSLICES.at(HOME, NAME), **endpoints)
        spec = {
            "group": GROUP,
            "version": VERSION,
            "service": {"namespace": HOME, "name": NAME},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        }
        self._make(REGISTRATION, spec=spec)
        self._bed.until(self._available, "the API server serves metrics.k8s.io")

    def _available(self) -> bool:
        status = (self._client.get(REGISTRATION) or {}).get("status") or {}
        return any(
            (each["type"], each["status"]) == ("Available", "True") for each in status.get("conditions") or ()
        )

    def answer(self, path: str) -> Object | None:
        """Return what is at a path; None: nothing is."""
        asked = urlsplit(path)
        if asked.path == ROOT:
            return DISCOVERED
        match asked.path.removeprefix(f"{ROOT}/").split("/"):
            case ["namespaces", namespace, "pods"]:
                selector = parse_qs(asked.query).get("labelSelector", [""])[0]
                return self._pods(namespace, selector)
            case _:
                return None

    def _pods(self, namespace: str, selector: str) -> Object:
        pods = self._client.list(PODS, namespace, selector=selector) if namespace in self.load else []
        share = self.load.get(namespace, 0) / max(1, len(pods))
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            {
                "metadata": {"name": pod["metadata"]["name"], "namespace": namespace},
                "timestamp": stamp,
                "window": WINDOW,
                "containers": [
                    {"name": each["name"], "usage": {"cpu": f"{share:.0f}m"}}
                    for each in pod["spec"]["containers"][:1]
                ],
            }
            for pod in pods
        ]
        return {"kind": "PodMetricsList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = metrics.answer(self.path)
                body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "code": 404}).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


@contextmanager
def metrics_open(bed: Bed) -> Generator[Metrics]:
    """Serve figures for a while."""
    metrics = Metrics(bed)
    try:
        yield metrics
    finally:
        metrics.close()


def autoscaler(namespace: str) -> Object:
    """Return the autoscaler of a shop that has the few pods, or the many."""
    cpu = {"name": "cpu", "target": {"type": "AverageValue", "averageValue": f"{TARGET_MILLIS}m"}}
    return HPAS.at(namespace, manifests.NAME).manifest(
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": manifests.NAME},
            "minReplicas": FEW,
            "maxReplicas": MANY,
            "metrics": [{"type": "Resource", "resource": cpu}],
            "behavior": BEHAVIOR,
        }
    )


def wanted(shop: Shop) -> int:
    return int(shop.deployment()["spec"]["replicas"])


def scaled(shop: Shop, metrics: Metrics, millis: int, pods: int) -> float:
    """Report a load, wait until the Deployment wants so many pods, and return how long that took."""
    began = time.monotonic()
    metrics.load[shop.namespace] = millis
    shop.until(lambda: wanted(shop) == pods, f"{millis}m scale the shop to {pods} pods", SCALED_SECONDS)
    return time.monotonic() - began
