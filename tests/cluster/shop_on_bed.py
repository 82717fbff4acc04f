"""A shop as a team runs it on a bed: manifests that they apply, customers over real HTTP, and the controller's process.

`Shop` notes every version of the route, of the Deployment and of the run that the API server tells of, and what the
customers met: a test reads the state of the world from there, never from what the controller says of itself.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import yaml
from cluster_bed import Bed
from envoy_gateway import EnvoyGateway, open_envoy

from canary.api.marks import side_name
from canary.api.reasons import Phase
from canary.errors import CanaryError, UnavailableError
from canary.kube.client import FieldManager, Intent
from canary.kube.http_transport import from_kubeconfig
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYRUNS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    PODS,
    Ref,
    Resource,
)
from canary.lab import manifests
from canary.lab.contracts.receiver import Receiver
from canary.lab.shop.child import Child, Message

Object = dict[str, Any]
POD_PORT, METRICS_PORT = 18080, 18081
CONVERSION = 1.0  # every request orders: the most evidence for the load
SLICE_SECONDS, END_SECONDS, STOP_SECONDS = 240.0, 900.0, 10.0
LAST_WORDS = 3000
RETRY_SECONDS, CLI_SECONDS = 0.2, 60.0
COLLAPSE = {"SHOP_BUG": "order-collapse", "SHOP_BUG_DROP": "0.99"}
PROBE = {"httpGet": {"path": "/readyz", "port": manifests.PORT_NAME}, "periodSeconds": 1}
WATCHED = (HTTPROUTES, DEPLOYMENTS, CANARYRUNS)


@dataclass(frozen=True, slots=True)
class Seen:
    """One version of an object, when the API server told of it (Unix seconds)."""

    at: float
    obj: Object


class Chronicle:
    """Every version of the objects of some kinds in a namespace, in order, from its making until `close`."""

    def __init__(self, bed: Bed, namespace: str, resources: tuple[Resource, ...] = WATCHED) -> None:
        self._transport = from_kubeconfig(str(bed.kubeconfig("admin")))
        self._namespace = namespace
        self._seen: dict[str, list[Seen]] = {each.kind: [] for each in resources}
        self._streams: dict[str, Any] = {}
        self._closing = False
        self._threads = [
            threading.Thread(target=self._follow, args=(each,), daemon=True) for each in resources
        ]
        for thread in self._threads:
            thread.start()

    def of(self, kind: str, name: str = manifests.NAME) -> list[Seen]:
        """Return the versions of an object; of a run, those of every run."""
        versions = list(self._seen[kind])
        return (
            versions
            if kind == CANARYRUNS.kind
            else [s for s in versions if s.obj["metadata"]["name"] == name]
        )

    def weights(self) -> list[tuple[float, int]]:
        """Return when the side's weight changed, and to what."""
        changes: list[tuple[float, int]] = []
        for seen in self.of(HTTPROUTES.kind):
            weight = side_ppm(seen.obj)
            if not changes or changes[-1][1] != weight:
                changes.append((seen.at, weight))
        return changes

    def close(self) -> None:
        self._closing = True
        for stream in list(self._streams.values()):
            stream.close()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        self._transport.close()

    def _follow(self, resource: Resource) -> None:
        version = "0"
        while not self._closing:
            query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "300"}
            with suppress(CanaryError):
                stream = self._transport.stream(resource.collection(self._namespace), query)
                self._streams[resource.kind] = stream
                for event in stream:
                    if event["type"] == "ERROR":  # too old, or the server's cache is not filled yet
                        version = "0"
                        time.sleep(RETRY_SECONDS)
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._seen[resource.kind].append(Seen(time.time(), event["object"]))


class Shop:
    """One shop in a namespace of its own."""

    def __init__(self, bed: Bed, namespace: str, ending: ExitStack, envoy: bool = False) -> None:
        self.bed = bed
        self.namespace = bed.namespace(namespace)
        self.envoy: EnvoyGateway | None = None
        if envoy:
            self.envoy = open_envoy(bed, namespace)
            self.port = self.envoy.port
            ending.callback(self.envoy.close)
        else:
            self.port = bed.gateway(namespace)
        self.chronicle = Chronicle(bed, namespace)
        ending.callback(self.chronicle.close)
        self.pages = Receiver()
        ending.callback(self.pages.close)
        self._sales: list[Message] = []
        self._finished = threading.Event()
        self._customers = Child("canary.lab.shop.customers", self._hear)
        ending.callback(self._customers.close)
        ending.callback(self.stop_controller)
        ending.callback(self.wake_controllers)
        self._controller: subprocess.Popen[bytes] | None = None
        self._asleep: list[subprocess.Popen[bytes]] = []
        self._log = bed.folder / f"controller-{namespace}.log"

    # -- what the team does ------------------------------------------------------------------------------------------

    def manifest(
        self, version: str = manifests.OLD, env: Mapping[str, str] | None = None, replicas: int = 3
    ) -> Object:
        """Return the team's Deployment as it stands in their repository: nothing in it knows of canary."""
        deployment = manifests.deployment(replicas, POD_PORT, version)
        deployment["metadata"]["namespace"] = self.namespace
        container = manifests.container(version, POD_PORT, env)
        container["ports"].append({"name": "metrics", "containerPort": METRICS_PORT})
        container["readinessProbe"] = PROBE
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": 3}}}
        deployment["spec"]["template"]["spec"]["containers"] = [container]
        if version != manifests.OLD:
            deployment["metadata"]["annotations"] = manifests.record(manifests.Origin.AI)
        return deployment

    def around(self) -> list[Object]:
        """Return the team's Service and route."""
        found = [manifests.service(), manifests.route()]
        for each in found:
            each["metadata"]["namespace"] = self.namespace
        return found

    def open(self, orders_per_second: float, replicas: int = 3) -> None:
        """Apply the shop's manifests as alice, wait until it serves, and let the customers in."""
        self.applied = [self.manifest(replicas=replicas), *self.around()]
        self.apply(*self.applied)
        self.until(lambda: self.ready_pods() == replicas, "the shop's pods are ready")
        self.until(self._route_accepted, "the gateway accepts the route")
        command: Message = {"do": "run", "host": "127.0.0.1", "port": self.port, "seed": 1, "steady": True}
        rate = {"rate": orders_per_second / CONVERSION, "conversion": CONVERSION}
        time.sleep(1.0)  # until the gateway's own configuration has the route, which no condition tells
        self._customers.send({**command, **rate})

    def apply(self, *documents: Object) -> None:
        """Apply manifests with kubectl, as alice's pipeline does."""
        text = yaml.safe_dump_all(documents, sort_keys=False)
        done = self.bed.kubectl("alice", "apply", "-f", "-", namespace=self.namespace, given=text)
        assert done.returncode == 0, done.stderr

    def diff(self, *documents: Object) -> str:
        """Return what `kubectl diff` shows between the team's manifests and the cluster; empty: nothing."""
        text = yaml.safe_dump_all(documents, sort_keys=False)
        done = self.bed.kubectl("alice", "diff", "-f", "-", namespace=self.namespace, given=text)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def push(self, env: Mapping[str, str] | None = None) -> Object:
        """Apply the new version, as alice's pipeline does; return the manifest."""
        changed = self.manifest(manifests.NEW, env)
        self.applied = [changed, *self.around()]
        self.apply(changed)
        return changed

    def canary(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user, as a process of its own; its exit code is the test's to judge."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.bed.folder)}
        environment["KUBECONFIG"] = str(self.bed.kubeconfig(user, self.namespace))
        return subprocess.run(
            [sys.executable, "-m", "canary.cli.main", *words],
            capture_output=True,
            text=True,
            timeout=CLI_SECONDS,
            env=environment,
            check=False,
        )

    def protect(self, **spec: Any) -> None:
        """Write the policy, and wait until the Deployment is held."""
        policy = manifests.policy(spec)
        policy["metadata"]["namespace"] = self.namespace
        self.bed.admin.create(CANARYPOLICIES, policy, intent=Intent.NEUTRAL)
        self.until(self._adopted, "the controller holds the shop")

    # -- the controller ----------------------------------------------------------------------------------------------

    def start_controller(self, *flags: str) -> None:
        """Start `canary run` as a process of its own, for this namespace and with its leases there."""
        command = [sys.executable, "-m", "canary.cli.main", "run", "--until-eof"]
        command += ["--kubeconfig", str(self.bed.kubeconfig("controller")), "--namespace", self.namespace]
        command += [
            "--controller-namespace",
            self.namespace,
            "--cluster",
            "bed",
            "--telemetry",
            "127.0.0.1:0",
        ]
        command += ["--webhook", f"on-call={self.pages.url}/page", *flags]
        with self._log.open("ab") as log:
            self._controller = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def kill_controller(self) -> None:
        """Kill it as a failing node would."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.kill()
            controller.wait(STOP_SECONDS)

    def freeze_controller(self) -> None:
        """Stop its process in mid-work, as a machine that is paused does; another may be started."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.send_signal(signal.SIGSTOP)
            self._asleep.append(controller)

    def wake_controllers(self, stay_seconds: float = 0.0) -> None:
        """Let the frozen ones go on for a while with what they knew, then end them."""
        asleep, self._asleep = self._asleep, []
        for controller in asleep:
            controller.send_signal(signal.SIGCONT)
        time.sleep(stay_seconds)
        for controller in asleep:
            controller.kill()
            controller.wait(STOP_SECONDS)

    def stop_controller(self) -> int | None:
        """End it in order; return its exit code, None where none runs."""
        controller, self._controller = self._controller, None
        if controller is None:
            return None
        controller.terminate()
        try:
            return controller.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            controller.kill()
            return controller.wait()

    # -- seeing ------------------------------------------------------------------------------------------------------

    def deployment(self) -> Object:
        stored = self.bed.admin.get(DEPLOYMENTS.at(self.namespace, manifests.NAME))
        assert stored is not None
        return stored

    def run(self) -> Object:
        """Return the newest run as stored; empty: there is none."""
        stored = self.bed.admin.list(CANARYRUNS, self.namespace)
        return max(stored, key=lambda each: each["metadata"]["creationTimestamp"], default={})

    def phase(self) -> str:
        return (self.run().get("status") or {}).get("phase", "")

    def reach(self, phase: Phase, limit_seconds: float = END_SECONDS) -> Object:
        """Wait until the run is in a phase; return it."""
        self.until(lambda: self.phase() == phase.value, f"the run is {phase.value}", limit_seconds)
        return self.run()

    def reach_end(self, limit_seconds: float = END_SECONDS) -> Object:
        """Wait until the run has ended, one way or another; return it."""
        finals = {phase.value for phase in Phase if phase.final}
        self.until(lambda: self.phase() in finals, "the run has ended", limit_seconds)
        return self.run()

    def reach_slice(self) -> None:
        self.until(lambda: self.weight_ppm() > 0, "the first slice is written", SLICE_SECONDS)

    def weight_ppm(self) -> int:
        weights = self.chronicle.weights()
        return weights[-1][1] if weights else 0

    def sliced(self) -> list[str]:
        """Return the pods that canary's EndpointSlice names, where a policy splits by pods."""
        stored = self.bed.admin.get(ENDPOINTSLICES.at(self.namespace, side_name(manifests.NAME))) or {}
        return [each["targetRef"]["name"] for each in stored.get("endpoints") or []]

    def pods(self, **labels: str) -> list[Object]:
        """Return the pods that are not ending, of the Deployment or with these labels."""
        selector = ",".join(f"{name}={value}" for name, value in (labels or {"app": manifests.NAME}).items())
        found = self.bed.admin.list(PODS, self.namespace, selector=selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self) -> int:
        return int((self.deployment().get("status") or {}).get("readyReplicas", 0))

    def exists(self, resource: Resource, name: str) -> bool:
        return self.bed.admin.get(Ref(resource, self.namespace, name)) is not None

    def page_openings(self) -> list[str]:
        return [json.loads(page.body)["data"]["opening"] for page in list(self.pages.received)]

    def close_shop(self) -> Message:
        """Let nobody else in, and return what customers met in all: `total`, and `by_version`."""
        self._customers.send({"do": "finish"})
        assert self._finished.wait(STOP_SECONDS), "the customers do not end"
        return self._sales[-1]

    def leave(self) -> None:
        """End the controller, and let no pod of the shop cost other shops anything; a guard may refuse that."""
        self.stop_controller()
        self.bed.kubectl("admin", "scale", "deployments", "--all", "--replicas=0", namespace=self.namespace)

    def sales(self) -> Message:
        return self._sales[-1] if self._sales else {"total": {}, "by_version": {}}

    def until(self, holds: Any, what: str, limit_seconds: float = 120.0) -> None:
        """Wait until something holds. Raise UnavailableError, with the controller's last words, where it does not."""
        try:
            self.bed.until(holds, what, limit_seconds)
        except UnavailableError as error:
            policy = self.bed.admin.get(CANARYPOLICIES.at(self.namespace, manifests.NAME)) or {}
            told = [json.dumps(each.get("status"), indent=1)[:LAST_WORDS] for each in (policy, self.run())]
            raise UnavailableError("\n".join([str(error), *told, self.last_words()])) from error

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-LAST_WORDS:] if self._log.exists() else ""

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _hear(self, event: Message) -> None:
        self._sales.append(event)
        if event["event"] == "finished":
            self._finished.set()

    def _adopted(self) -> bool:
        stored = self.bed.admin.get(CANARYPOLICIES.at(self.namespace, manifests.NAME)) or {}
        return bool((stored.get("status") or {}).get("adopted")) and bool(
            self.deployment()["spec"].get("paused")
        )

    def _route_accepted(self) -> bool:
        route = self.bed.admin.get(HTTPROUTES.at(self.namespace, manifests.NAME)) or {}
        parents = (route.get("status") or {}).get("parents") or []
        said = {each["type"]: each["status"] for parent in parents for each in parent["conditions"]}
        return said.get("Accepted") == said.get("ResolvedRefs") == "True"


@contextmanager
def shop_open(bed: Bed, namespace: str, orders_per_second: float, *, envoy: bool = False) -> Generator[Shop]:
    """Open a shop behind Traefik or Envoy, and end everything of it: what stands at the API server stays."""
    with ExitStack() as ending:
        shop = Shop(bed, namespace, ending, envoy)
        shop.open(orders_per_second)
        yield shop


def side_ppm(route: Object) -> int:
    """Return the side's share of the first rule of a stored route, in parts per million."""
    refs = route["spec"]["rules"][0].get("backendRefs") or []
    side = sum(int(ref.get("weight", 1)) for ref in refs if ref["name"] == side_name(manifests.NAME))
    whole = sum(int(ref.get("weight", 1)) for ref in refs)
    return round(side * 1_000_000 / whole) if whole else 0


def failed_at_gateways(sales: Message) -> int:
    """Return the requests that no pod answered; a healthy shop itself answers one in a thousand with an error."""
    by_shops = sum(each["failed"] for version, each in sales["by_version"].items() if version)
    return sales["total"]["failed"] - by_shops


def spec_is_the_teams(shop: Shop) -> bool:
    """Tell whether every version of the Deployment says that canary wrote nothing of its spec but the hold."""
    written = [
        entry["fieldsV1"].get("f:spec", {})
        for version in shop.chronicle.of(DEPLOYMENTS.kind)
        for entry in version.obj["metadata"]["managedFields"]
        if entry["manager"] in set(FieldManager)
    ]
    return any(written) and all(set(spec) <= {"f:paused"} for spec in written)
