"""A shop in the embedded cluster over real HTTPS, runs written by hand as the controller would, and the CLI in process.

`Bed.canary(...)` is one command line of one person; it returns the exit code and what was printed.
"""

import io
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from run_story import POLICY_SPEC, Json
from timed_kubelet import TimedKubelet

from canary.api.crd import crds
from canary.api.marks import Mark
from canary.api.reasons import API_VERSION
from canary.cli.main import main
from canary.kube.client import Client, Intent
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYREQUESTS,
    CANARYRUNS,
    HTTPROUTES,
    LEASES,
    NAMESPACES,
    SERVICES,
)
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.apiserver.api_error import ApiError
from canary.lab.apiserver.serving import HttpServer
from canary.lab.cluster import RealTimeCluster

PEOPLE = {
    "dana": User("dana", ("devs",)),
    "agent": User("system:serviceaccount:ci:agent"),
    "controller": User(CONTROLLER),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a command line printed, and its exit code."""

    code: int
    out: str
    err: str


class Bed:
    """One cluster for all tests of the command line; `clear` empties it."""

    def __init__(self, folder: Path) -> None:
        self.people = PEOPLE
        self.cluster = RealTimeCluster(TimedKubelet)
        self.cluster.install(crds())
        self.server = HttpServer(self.cluster.server, PEOPLE)
        self.configs = {
            token: str(self.server.kubeconfig(folder / token, token, namespace="shop")) for token in PEOPLE
        }
        self.controller = Client(self.cluster.transport(PEOPLE["controller"]))
        self.namespace("shop")

    def stop(self) -> None:
        self.server.stop()
        self.cluster.stop()

    def namespace(self, name: str) -> None:
        if self.controller.get(NAMESPACES.at("", name)) is None:
            self.controller.create(NAMESPACES, {"metadata": {"name": name}}, intent=Intent.NEUTRAL)

    def clear(self) -> None:
        """Take away what a test left: runs, requests, policies, routes, heartbeats."""
        for resource in (CANARYRUNS, CANARYREQUESTS, CANARYPOLICIES, HTTPROUTES, LEASES, SERVICES):
            kind = self.cluster.store.kinds.find(resource.group, resource.plural)
            assert kind is not None
            for obj in self.cluster.store.select(kind, "", lambda _: True):
                with suppress(ApiError):  # gone with the run that owned it
                    self.cluster.store.delete(kind, (obj["metadata"]["namespace"], obj["metadata"]["name"]))

    def put(self, run: Json) -> Json:
        """Store a run with its status, as the controller writes them."""
        run = deepcopy(run)
        namespace, name = run["metadata"]["namespace"], run["metadata"]["name"]
        self.namespace(namespace)
        ref, status = CANARYRUNS.at(namespace, name), run.pop("status", {})
        if self.controller.get(ref) is None:
            created = {**run, "metadata": {"name": name, "namespace": namespace}}
            self.controller.create(CANARYRUNS, created, intent=Intent.NEUTRAL)
        stored = self.controller.merge_patch(
            ref, {"status": status}, intent=Intent.NEUTRAL, subresource="status"
        )
        assert stored is not None
        return stored

    def put_policy(self, name: str = "checkout", namespace: str = "shop", serving: str = "v2.30.4") -> None:
        self.namespace(namespace)
        spec = deepcopy(POLICY_SPEC)
        spec["target"]["name"] = name
        obj = {
            "apiVersion": API_VERSION,
            "kind": "CanaryPolicy",
            "metadata": {"name": name, "namespace": namespace},
        }
        self.controller.create(CANARYPOLICIES, {**obj, "spec": spec}, intent=Intent.NEUTRAL)
        revision = {"templateHash": "sha256:" + "d" * 64, "version": serving}
        ref, status = CANARYPOLICIES.at(namespace, name), {"serving": revision}
        self.controller.merge_patch(ref, {"status": status}, intent=Intent.NEUTRAL, subresource="status")

    def put_route(self, ppm: int = 10_000, *, armed: bool = True, namespace: str = "shop") -> None:
        """Store a route that gives the side its share, marked as the controller marks it."""
        marks = {Mark.STABLE.value: "checkout", Mark.WEIGHT.value: str(ppm), Mark.RUN.value: "checkout-7f9c2"}
        marks |= {Mark.KILL.value: "[[0, 1, 0]]"} if armed else {}
        for name, labels in (("checkout", {}), ("checkout-canary", {Mark.ROLE.value: "canary"})):
            service = {"metadata": {"name": name, "namespace": namespace, "labels": labels}}
            spec = {"ports": [{"port": 80}], "selector": {"app": name}}
            self.controller.create(SERVICES, {**service, "spec": spec}, intent=Intent.NEUTRAL)
        refs = [
            {"name": "checkout", "port": 80, "weight": 1_000_000 - ppm},
            {"name": "checkout-canary", "port": 80, "weight": ppm},
        ]
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "checkout", "namespace": namespace, "annotations": marks},
            "spec": {"parentRefs": [{"name": "web"}], "rules": [{"backendRefs": refs}]},
        }
        self.controller.create(HTTPROUTES, route, intent=Intent.NEUTRAL)

    def weights(self, namespace: str = "shop") -> list[int]:
        route = self.controller.get(HTTPROUTES.at(namespace, "checkout"))
        assert route is not None
        return [ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]]

    def heartbeat(self, age_seconds: float) -> None:
        self.namespace("canary-system")
        renewed = (datetime.now(UTC) - timedelta(seconds=age_seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {"metadata": {"name": "canary-controller-heartbeat", "namespace": "canary-system"}}
        spec = {"holderIdentity": "c1", "leaseDurationSeconds": 25, "renewTime": renewed}
        self.controller.create(LEASES, {**lease, "spec": spec}, intent=Intent.NEUTRAL)

    def requests(self, namespace: str = "shop") -> list[Json]:
        return self.controller.list(CANARYREQUESTS, namespace)

    def canary(self, *words: str, person: str = "dana") -> Said:
        """Run one command line in this process."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([*words[:1], "--kubeconfig", self.configs[person], *words[1:]])
            except SystemExit as stop:  # argparse's own way to refuse
                code = int(stop.code or 0)
        return Said(code, out.getvalue(), err.getvalue())


class Answering:
    """A controller's voice: answers every new request by a function, until the block ends."""

    def __init__(self, bed: Bed, answer: Callable[[Json], Json | None], namespace: str = "shop") -> None:
        self._bed, self._answer, self._namespace = bed, answer, namespace
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Answering":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._over.is_set():
            for request in self._bed.requests(self._namespace):
                if "outcome" not in (request.get("status") or {}):
                    self._tell(request)
            time.sleep(0.02)

    def _tell(self, request: Json) -> None:
        status = self._answer(request)
        if status is None:
            return
        ref = CANARYREQUESTS.at(self._namespace, request["metadata"]["name"])
        self._bed.controller.merge_patch(
            ref, {"status": status}, intent=Intent.LOWERING, subresource="status"
        )
