"""A bed: one real control plane, a gateway and a node, in the network that `enter.py` made; the kubelet alone is ours.

`Bed(programs)` starts etcd, kube-apiserver, kube-controller-manager, the CRDs, Traefik and the node's agent, and
returns when all of them are ready; `close` ends them. Users are tokens. Every tool listens on a high loopback port, for
a wildcard listener would take its port on the address of every pod.
"""

import base64
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import yaml
from controller_rights import rules_of
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from node_agent import NodeAgent
from programs import Programs
from servers import Server

from canary.api.crd import crds
from canary.api.reasons import GROUP
from canary.errors import CanaryError, UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.http_transport import HttpTransport, Limits, from_kubeconfig
from canary.kube.resources import CRDS, NAMESPACES, Resource
from canary.kube.transport import JSON, Json

HOST = "127.0.0.1"
ETCD_PORT, ETCD_PEER_PORT, API_PORT, TRAEFIK_PORT, FIRST_LANE = 22379, 22380, 26443, 28080, 28100
LANES = 96  # gateways, each with a port of its own
ADVERTISED = "10.77.0.1"  # the API server refuses loopback addresses in EndpointSlices
CLUSTER_IPS = "10.78.0.0/16"  # nobody serves them: the gateway sends to the pods themselves
READY_SECONDS = 60.0
PATIENT = Limits(
    connect_seconds=60.0, read_seconds=60.0
)  # a busy machine makes tests slow, and no more than that
SYSTEM = "canary-system"
GATEWAY = "gateway"
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
    "endpointslice-controller",
    "endpoints-controller",
    "horizontal-pod-autoscaler-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "disruption-controller",
    "validatingadmissionpolicy-status-controller",
    "clusterrole-aggregation-controller",  # without it the built-in role `edit` stays empty
)
SERVICEACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
GATEWAYCLASSES = Resource(
    "gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", namespaced=False
)
CLUSTERROLEBINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
CLUSTERROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
USERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("admin", ("system:masters",)),
    "node": ("system:node:node-1", ("system:masters",)),
    "alice": ("alice", ("devs",)),
    "bob": ("bob", ("devs", "seniors")),
    "carol": ("carol", ("devs",)),
    "agent": ("system:serviceaccount:ci:agent", ("system:serviceaccounts", "system:serviceaccounts:ci")),
    "controller": (
        f"system:serviceaccount:{SYSTEM}:canary-controller",
        ("system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}"),
    ),
}
INSTALLED = "canary-two"  # where a test installs the chart, beside what every bed has
ACCOUNTS = {name: f"system:serviceaccount:{INSTALLED}:canary-{name}" for name in ("controller", "sentinel")}
AUDITED = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": [USERS["controller"][0], *ACCOUNTS.values()]},
        {"level": "None"},
    ],
}
DEVELOPERS = ("alice", "bob", "carol", "agent")


class Bed:
    """Everything that runs, from its making until `close`."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.started_in: dict[str, float] = {}
        self._begun = time.monotonic()
        self._ending = ExitStack()
        self._lanes = iter(range(LANES))
        self._transports: dict[str, HttpTransport] = {}
        self._leader: Callable[[], object] = bool
        self._tokens = {name: token(name) for name in USERS}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything; idempotent."""
        self._ending.close()

    # -- setting up ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="canary-bed-")))
        self._write_keys()
        self.etcd = self.start("etcd", self._etcd_command())
        self.apiserver = self.start("kube-apiserver", self.apiserver_command())
        self.apiserver.wait_until(self._api_ready, READY_SECONDS)
        self._note("API server")
        self.admin = self.client("admin")
        self._ending.callback(self._close_transports)
        self.controller_manager = self.start("kube-controller-manager", self._manager_command())
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(self.install_crd, [*crds(), *self._gateway_crds()]))
        self._note("CRDs")
        self._install_rights()
        self.traefik = self.start(
            "traefik", self._traefik_command(), KUBECONFIG=str(self.kubeconfig("admin"))
        )
        self.make(GATEWAYCLASSES, "traefik", spec={"controllerName": "traefik.io/gateway-controller"})
        self.node = NodeAgent(self.transport("node"))
        self._ending.callback(self.node.close)
        self.traefik.wait_until(lambda: _answers(f"http://{HOST}:{TRAEFIK_PORT}/ping"), READY_SECONDS)
        self.namespace(SYSTEM)
        self._note("everything")

    def _note(self, what: str) -> None:
        self.started_in[what] = time.monotonic() - self._begun

    def start(self, name: str, command: list[str | Path], **environment: str) -> Server:
        """Start a server that ends with the bed at the latest."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment}
        server = Server(name, command, self.folder / f"{name}.log", env)
        self._ending.callback(server.stop)
        return server

    def _write_keys(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "accounts.key").write_bytes(private)
        rows = [f'{token(name)},{user},{name},"{",".join(groups)}"' for name, (user, groups) in USERS.items()]
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(AUDITED))
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")

    def _etcd_command(self) -> list[str | Path]:
        client, peer = f"http://{HOST}:{ETCD_PORT}", f"http://{HOST}:{ETCD_PEER_PORT}"
        return [
            self.programs.etcd,
            "--name=bed",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=bed={peer}",
            "--unsafe-no-fsync",
        ]

    def apiserver_command(self) -> list[str | Path]:
        """Return how the API server is started, or another one on its etcd."""
        return [
            self.programs.apiserver,
            f"--etcd-servers=http://{HOST}:{ETCD_PORT}",
            f"--bind-address={HOST}",
            f"--secure-port={API_PORT}",
            f"--advertise-address={ADVERTISED}",
            "--endpoint-reconciler-type=none",
            "--enable-aggregator-routing=true",  # to the address of an API server behind a Service
            f"--cert-dir={self.folder / 'certificates'}",
            f"--service-cluster-ip-range={CLUSTER_IPS}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.key'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--audit-policy-file={self.folder / 'audit.yaml'}",
            f"--audit-log-path={self.audit_log}",
        ]

    def _manager_command(self) -> list[str | Path]:
        return [
            self.programs.controller_manager,
            f"--kubeconfig={self.kubeconfig('admin')}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--horizontal-pod-autoscaler-sync-period=2s",
            "--kube-api-qps=400",  # by default 20: five thousand Deployments would take a quarter of an hour
            "--kube-api-burst=800",
            "--secure-port=0",
        ]

    def _traefik_command(self) -> list[str | Path]:
        lanes = [f"--entryPoints.lane{each}.address={HOST}:{FIRST_LANE + each}" for each in range(LANES)]
        return [
            self.programs.traefik,
            *lanes,
            f"--entryPoints.traefik.address={HOST}:{TRAEFIK_PORT}",
            "--ping=true",
            "--providers.kubernetesgateway=true",
            "--providers.providersThrottleDuration=100ms",
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
        ]

    def restart_controller_manager(self) -> None:
        """Kill the controller-manager and start it anew."""
        self.controller_manager.kill()
        self.controller_manager = self.start("kube-controller-manager", self._manager_command())

    def restart_apiserver(self) -> None:
        """Kill the API server and start it anew; return when it answers."""
        self.apiserver.kill()
        self.apiserver = self.start("kube-apiserver", self.apiserver_command())
        self.apiserver.wait_until(self._api_ready, READY_SECONDS)

    def _api_ready(self) -> bool:
        certificate = self.folder / "certificates" / "apiserver.crt"
        if not certificate.exists():
            return False
        request = urllib.request.Request(f"https://{HOST}:{API_PORT}/readyz")
        request.add_header("Authorization", f"Bearer {token('admin')}")
        return _answers(request, ssl.create_default_context(cafile=str(certificate)))

    def _gateway_crds(self) -> list[Json]:
        found = [
            document
            for path in sorted(self.programs.gateway_crds.glob("*.yaml"))
            for document in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
        ]
        return [each for each in found if each and each["kind"] == CRDS.kind]

    def install_crd(self, manifest: Json) -> None:
        self.admin.create(CRDS, manifest, intent=Intent.NEUTRAL)
        ref = CRDS.at("", manifest["metadata"]["name"])

        def established() -> bool:
            status = (self.admin.get(ref) or {}).get("status") or {}
            conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
            return conditions.get("Established") == "True"

        self.until(established, f"the CRD {ref} is established")

    def _install_rights(self) -> None:
        """Give developers what a namespace's editors have, and our kinds; the controller, what the chart grants."""
        verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
        rules = [{"apiGroups": [GROUP, GATEWAYS.group], "resources": ["*"], "verbs": verbs}]
        aggregated = {"labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}
        self.make(CLUSTERROLES, "bed-developers", metadata=aggregated, rules=rules)
        self.make(CLUSTERROLES, "canary-controller", rules=rules_of("controller"))
        for role, names in {"edit": DEVELOPERS, "canary-controller": ("controller",)}.items():
            subjects = [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USERS[name][0]}
                for name in names
            ]
            ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
            self.make(CLUSTERROLEBINDINGS, f"bed-{role}", subjects=subjects, roleRef=ref)

    @property
    def audit_log(self) -> Path:
        """Where the API server writes down every request of the controller, one JSON document a line."""
        return self.folder / "audit.log"

    # -- acting ----------------------------------------------------------------------------------------------------

    def transport(self, user: str) -> HttpTransport:
        """Return the product's own transport, as a user."""
        if user not in self._transports:
            self._transports[user] = from_kubeconfig(str(self.kubeconfig(user)), limits=PATIENT)
        return self._transports[user]

    def _close_transports(self) -> None:
        for transport in self._transports.values():
            transport.close()

    def lead(self, end: Callable[[], object]) -> None:
        """Make room for a controller that leads in canary-system, where there is one: end the one before."""
        self._leader()
        self._leader = end

    def welcome(self, user: str, bearer: str) -> None:
        """Know a token as one more user."""
        self._tokens[user] = bearer

    def client(self, user: str) -> Client:
        return Client(self.transport(user))

    def kubeconfig(self, user: str, namespace: str = "default") -> Path:
        """Write the kubeconfig of a user and return its path."""
        path = self.folder / f"{user}-{namespace}.kubeconfig"
        if path.exists():
            return path
        certificate = (self.folder / "certificates" / "apiserver.crt").read_bytes()
        trust = base64.b64encode(certificate).decode()
        context = {"cluster": "bed", "user": "me", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "bed",
                    "cluster": {"server": f"https://{HOST}:{API_PORT}", "certificate-authority-data": trust},
                }
            ],
            "users": [{"name": "me", "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "bed", "context": context}],
            "current-context": "bed",
        }
        draft = path.with_suffix(
            f".{threading.get_ident()}"
        )  # stories that play at the same time never see a half
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(config))
        return draft.rename(path)

    def kubectl(
        self, user: str, *words: str, namespace: str = "default", given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl as a user; its exit code is the test's to judge."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        environment["KUBECONFIG"] = str(self.kubeconfig(user, namespace))
        return subprocess.run(
            [str(self.programs.kubectl), *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            env=environment,
            cwd=self.folder,
            check=False,
        )

    def make(self, resource: Resource, name: str, namespace: str = "", **parts: Any) -> Json:
        """Create an object as the administrator."""
        metadata = {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **parts.pop("metadata", {}),
        }
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **parts}
        return self.admin.create(resource, body, intent=Intent.NEUTRAL)

    def apply(self, *manifests: Json) -> None:
        """Create objects as the administrator, with kubectl, in order."""
        text = yaml.safe_dump_all(manifests)
        done = self.kubectl("admin", "create", "-f", "-", given=text)
        assert done.returncode == 0, done.stderr

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """Create a namespace and wait until pods can be made in it."""
        self.make(NAMESPACES, name, metadata={"labels": dict(labels or {})})
        account = SERVICEACCOUNTS.at(name, "default")
        self.until(lambda: self.admin.get(account) is not None, f"namespace {name} has its default account")
        return name

    def gateway(self, namespace: str) -> int:
        """Create a Gateway in a namespace, for routes of any; return the port on which it listens, on loopback."""
        port = FIRST_LANE + next(self._lanes)
        anybody = {"namespaces": {"from": "All"}}
        listener = {"name": "web", "protocol": "HTTP", "port": port, "allowedRoutes": anybody}
        self.make(GATEWAYS, GATEWAY, namespace, spec={"gatewayClassName": "traefik", "listeners": [listener]})
        return port

    def until(self, holds: Callable[[], bool], what: str, limit_seconds: float = READY_SECONDS) -> None:
        """Wait until something holds; an API server that does not answer is asked again. Raise UnavailableError."""
        end = time.monotonic() + limit_seconds
        while time.monotonic() < end:
            with suppress(UnavailableError):
                if holds():
                    return
            time.sleep(0.05)
        raise UnavailableError(f"not within {limit_seconds:.0f} s: {what}")

    def ask(
        self, user: str, method: str, path: str, body: object | None = None, media: str = JSON, **query: str
    ) -> tuple[int, Json]:
        """Send one raw request as a user; return its status and its body."""
        answer = self.transport(user).request(method, path, query=query, body=body, content_type=media)
        return answer.status, answer.body


def token(user: str) -> str:
    return f"{user}-token"


def _answers(request: str | urllib.request.Request, context: ssl.SSLContext | None = None) -> bool:
    try:
        with urllib.request.urlopen(request, timeout=2.0, context=context) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError, CanaryError):
        return False
