"""A gateway for one namespace: the real Envoy, and a small controller that feeds it from the HTTPRoutes there.

It knows what the shop's routes use: weights of Services, one rule for every path. Configuration reaches Envoy through
files that are moved into a folder that it watches. Because the controller is ours, it can be told to do badly what
gateways do badly: `deaf` (routes are accepted and not obeyed), `factor` (the side gets a multiple of its weight).
"""

import itertools
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cluster_bed import GATEWAY, GATEWAYCLASSES, GATEWAYS, HOST, READY_SECONDS, Bed

from canary.api.marks import side_name
from canary.clock import WallClock
from canary.errors import CanaryError, ConflictError
from canary.kube.cache import Change
from canary.kube.client import Intent
from canary.kube.pods import SERVICE_LABEL
from canary.kube.resources import ENDPOINTSLICES, HTTPROUTES, Selection
from canary.kube.watch import Reflector
from canary.lab import manifests

Object = Mapping[str, Any]
CLASS, CONTROLLER = "envoy", "canary-controller.io/tests-envoy"
TYPES = "type.googleapis.com/envoy"
ROUTER = f"{TYPES}.extensions.filters.http.router.v3.Router"
CONNECTIONS = f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
RETRIES = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 3}
_ports = itertools.count(28200)  # beside those that Traefik listens on
WAIT_SECONDS = 1.0  # without a change, everything is compared again


class EnvoyGateway:
    """Runs from its making until `close`."""

    def __init__(self, bed: Bed, namespace: str, port: int) -> None:
        self.port = port
        self.deaf = False
        self.factor = 1
        self._bed, self._namespace = bed, namespace
        self._folder = bed.folder / f"envoy-{namespace}"
        self._folder.mkdir()
        self._changed, self._closing = threading.Event(), False
        self._watches = [self._watch(kind) for kind in (HTTPROUTES, ENDPOINTSLICES)]
        for watch in self._watches:
            assert watch.wait_synced(READY_SECONDS)
        self._apply()
        (self._folder / "bootstrap.json").write_text(json.dumps(self._bootstrap(port)))
        flags = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        command = [bed.programs.envoy, "--config-path", self._folder / "bootstrap.json", *flags]
        self._server = bed.start(f"envoy-{namespace}", command)
        self._server.wait_until(lambda: _listens(port), READY_SECONDS)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._changed.set()
        self._thread.join(READY_SECONDS)
        for watch in self._watches:
            watch.stop()
        self._server.stop()

    def _watch(self, kind: Any) -> Reflector:
        def wake(_: Change) -> None:
            self._changed.set()

        watch = Reflector(
            self._bed.client("admin"), Selection(kind, self._namespace), wake, clock=WallClock()
        )
        watch.start()
        return watch

    def _run(self) -> None:
        while not self._closing:
            self._changed.wait(WAIT_SECONDS)
            self._changed.clear()
            with suppress(CanaryError):  # the next round comes
                self._apply()

    def _apply(self) -> None:
        """Give Envoy what the routes say now, in the order in which it needs it; then tell so on the routes."""
        routes, slices = self._watches[0].list(), self._watches[1].list()
        services = sorted({ref["name"] for route in routes for ref in _refs(route)})
        for service in services:
            self._give(f"eds-{service}", [_endpoints(service, slices)])
        self._give("cds", [self._cluster(service) for service in services])
        if not self.deaf:
            self._give("rds", [self._route_table(routes)])
        for route in routes:
            self._accept(route)

    def _give(self, name: str, resources: Sequence[Object]) -> None:
        path, text = self._folder / f"{name}.json", json.dumps({"resources": resources})
        if path.exists() and path.read_text() == text:
            return
        draft = path.with_suffix(".draft")
        draft.write_text(text)
        draft.rename(path)

    def _source(self, name: str) -> Object:
        file = {"path": str(self._folder / f"{name}.json"), "watched_directory": {"path": str(self._folder)}}
        return {"path_config_source": file, "resource_api_version": "V3"}

    def _cluster(self, service: str) -> Object:
        return {
            "@type": f"{TYPES}.config.cluster.v3.Cluster",
            "name": service,
            "type": "EDS",
            "connect_timeout": "1s",
            "eds_cluster_config": {"eds_config": self._source(f"eds-{service}")},
        }

    def _route_table(self, routes: Sequence[Object]) -> Object:
        hosts = [{"name": "web", "domains": ["*"], "routes": [self._rule(route) for route in routes]}]
        return {
            "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
            "name": "web",
            "virtual_hosts": hosts,
        }

    def _rule(self, route: Object) -> Object:
        side = side_name(manifests.NAME)
        weights = {
            ref["name"]: ref.get("weight", 1) * (self.factor if ref["name"] == side else 1)
            for ref in _refs(route)
        }
        clusters = [{"name": name, "weight": weight} for name, weight in weights.items()]
        to = {"weighted_clusters": {"clusters": clusters}, "retry_policy": RETRIES}
        return {"match": {"prefix": "/"}, "route": to}

    def _bootstrap(self, port: int) -> Object:
        web = {
            "@type": CONNECTIONS,
            "stat_prefix": "web",
            "rds": {"route_config_name": "web", "config_source": self._source("rds")},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
        }
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": web}]
        address = {"socket_address": {"address": HOST, "port_value": port}}
        listener = {"name": "web", "address": address, "filter_chains": [{"filters": filters}]}
        return {
            "node": {"id": "bed", "cluster": "bed"},
            "dynamic_resources": {"cds_config": self._source("cds")},
            "static_resources": {"listeners": [listener]},
        }

    def _accept(self, route: Object) -> None:
        """Say on the route that it is accepted, as every gateway does."""
        generation = route["metadata"]["generation"]
        told = (route.get("status") or {}).get("parents") or []
        if [each["observedGeneration"] for one in told for each in one["conditions"]] == [generation] * 2:
            return
        parents = [
            {
                "parentRef": {"name": GATEWAY},
                "controllerName": CONTROLLER,
                "conditions": [_condition(kind, generation) for kind in ("Accepted", "ResolvedRefs")],
            }
        ]
        ref = HTTPROUTES.at(self._namespace, route["metadata"]["name"])
        with suppress(ConflictError):
            patch = {"status": {"parents": parents}}
            self._bed.admin.merge_patch(ref, patch, intent=Intent.NEUTRAL, subresource="status")


def open_envoy(bed: Bed, namespace: str) -> EnvoyGateway:
    """Make a Gateway of class `envoy` in a namespace, on a loopback port of its own, and serve it."""
    port = next(_ports)
    if bed.admin.get(GATEWAYCLASSES.at("", CLASS)) is None:
        with suppress(ConflictError):
            bed.make(GATEWAYCLASSES, CLASS, spec={"controllerName": CONTROLLER})
    listener = {"name": "web", "protocol": "HTTP", "port": port}
    bed.make(GATEWAYS, GATEWAY, namespace, spec={"gatewayClassName": CLASS, "listeners": [listener]})
    return EnvoyGateway(bed, namespace, port)


def _refs(route: Object) -> list[Object]:
    (rule,) = route["spec"]["rules"]
    return list(rule.get("backendRefs") or ())


def _endpoints(service: str, slices: Sequence[Object]) -> Object:
    ready = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port["port"]}}}}
        for each in slices
        if each["metadata"]["labels"].get(SERVICE_LABEL) == service
        for port in (each.get("ports") or ())[:1]
        for endpoint in each.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint["addresses"]
    ]
    return {
        "@type": f"{TYPES}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": service,
        "endpoints": [{"lb_endpoints": ready}],
    }


def _condition(kind: str, generation: int) -> Object:
    return {
        "type": kind,
        "status": "True",
        "reason": kind,
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1.0):
        return True
    return False
