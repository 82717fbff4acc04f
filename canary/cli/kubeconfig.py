"""Kubeconfig files and the service account of a pod: where the API server is, and who we are to it.

Enter: the flags and the environment. Leaves: one frozen `Connection`. Files of $KUBECONFIG are merged as kubectl does
(the first to name a thing wins). An exec plug-in runs only when a token is asked for. What this does not know (an
`auth-provider`) is said by `Connection.unknown`, and the transport then asks the kubernetes package instead.
"""

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canary.errors import RefusedError, UnavailableError

MAX_FILE_BYTES = 4 * 1024 * 1024
EXEC_SECONDS = 60.0  # a plug-in may open a browser
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CHECK = "Check: `kubectl config view`"


@dataclass(frozen=True, slots=True)
class Access:
    """The flags of every verb that speaks to a cluster."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    controller_namespace: str = "canary-system"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom we believe to be the server."""

    ca: bytes = b""  # PEM; empty: the system's authorities
    skip: bool = False
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are: at most one of token, token file and plug-in, and perhaps a client certificate."""

    name: str = ""
    token: str = ""
    token_file: str = ""
    certificate: bytes = b""  # PEM
    key: bytes = b""  # PEM
    plugin: Mapping[str, Any] = field(default_factory=dict[str, Any])
    impersonate: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that a transport needs. `unknown` names authentication that only the kubernetes package knows."""

    server: str
    cluster: str
    namespace: str
    trust: Trust
    identity: Identity
    proxy: str = ""
    unknown: str = ""


def read_connection(
    access: Access, environment: Mapping[str, str] | None = None, account: Path = IN_CLUSTER
) -> Connection:
    """Return the connection that flags and environment name; in a pod without a kubeconfig, the pod's own account."""
    environment = os.environ if environment is None else environment
    paths = [path for path in _paths(access, environment) if path.is_file()]
    if not paths and not access.kubeconfig and "KUBERNETES_SERVICE_HOST" in environment:
        return _in_cluster(environment, account)
    if not paths:
        raise RefusedError(
            f"no kubeconfig found at {', '.join(map(str, _paths(access, environment)))}. Name one: --kubeconfig",
            code="CAN-1002",
        )
    return _of(_merge(paths), access)


def _paths(access: Access, environment: Mapping[str, str]) -> list[Path]:
    if access.kubeconfig:
        return [Path(access.kubeconfig).expanduser()]
    named = environment.get("KUBECONFIG", "")
    home = environment.get("HOME", "~")
    return [Path(name) for name in named.split(os.pathsep) if name] or [
        Path(home).expanduser() / ".kube" / "config"
    ]


def _in_cluster(environment: Mapping[str, str], account: Path) -> Connection:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    namespace = account / "namespace"
    return Connection(
        server=f"https://{host}:{port}",
        cluster="in-cluster",
        namespace=namespace.read_text().strip() if namespace.is_file() else "default",
        trust=Trust(ca=_file(account / "ca.crt")),
        identity=Identity(name="serviceaccount", token_file=str(account / "token")),
    )


class _Merged:
    """Several kubeconfig files as one: of each name the first, with the folder that its relative paths start at."""

    def __init__(self) -> None:
        self.current = ""
        self._named: dict[tuple[str, str], tuple[Mapping[str, Any], Path]] = {}

    def add(self, raw: object, folder: Path) -> None:
        if not isinstance(raw, Mapping):
            return
        self.current = self.current or str(raw.get("current-context") or "")
        for kind in ("cluster", "user", "context"):
            for entry in raw.get(f"{kind}s") or []:
                if isinstance(entry, Mapping) and isinstance(entry.get(kind), Mapping):
                    self._named.setdefault((kind, str(entry.get("name"))), (entry[kind], folder))

    def get(self, kind: str, name: str) -> tuple[Mapping[str, Any], Path]:
        found = self._named.get((kind, name))
        if found is None:
            known = ", ".join(sorted(own for other, own in self._named if other == kind)) or "none"
            raise RefusedError(
                f"the kubeconfig has no {kind} {name!r}; it has: {known}. {CHECK}", code="CAN-1002"
            )
        return found


def _merge(paths: Sequence[Path]) -> _Merged:
    import yaml  # only the verbs that speak to a cluster pay for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    merged = _Merged()
    for path in paths:
        try:
            merged.add(yaml.load(_file(path), loader), path.parent)
        except yaml.YAMLError as error:
            raise RefusedError(f"{path} is not YAML: {error}", code="CAN-1002") from error
    return merged


def _of(merged: _Merged, access: Access) -> Connection:
    context_name = access.context or merged.current
    if not context_name:
        raise RefusedError(
            f"the kubeconfig has no current context; name one: --context. {CHECK}", code="CAN-1002"
        )
    context, _ = merged.get("context", context_name)
    cluster, home = merged.get("cluster", str(context.get("cluster", "")))
    user_name = str(context.get("user") or "")
    user, user_home = merged.get("user", user_name) if user_name else ({}, home)
    server = str(cluster.get("server") or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise RefusedError(
            f"the server of context {context_name!r} is not a URL: {server!r}. {CHECK}", code="CAN-1002"
        )
    return Connection(
        server=server,
        cluster=context_name,
        namespace=str(context.get("namespace") or "default"),
        trust=_trust(cluster, home),
        identity=_identity(user_name, user, user_home),
        proxy=str(cluster.get("proxy-url") or ""),
        unknown="auth-provider" if user.get("auth-provider") else "",
    )


def _trust(cluster: Mapping[str, Any], home: Path) -> Trust:
    return Trust(
        ca=_pem(cluster, "certificate-authority", home),
        skip=cluster.get("insecure-skip-tls-verify") is True,
        server_name=str(cluster.get("tls-server-name") or ""),
    )


def _identity(name: str, user: Mapping[str, Any], home: Path) -> Identity:
    token_file = str(user.get("tokenFile") or "")
    plugin = user.get("exec")
    return Identity(
        name=name,
        token=str(user.get("token") or ""),
        token_file=str(home / token_file) if token_file else "",
        certificate=_pem(user, "client-certificate", home),
        key=_pem(user, "client-key", home),
        plugin=_plugin(plugin, home) if isinstance(plugin, Mapping) else {},
        impersonate=_impersonate(user),
    )


def _impersonate(user: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    headers = [("Impersonate-User", str(user["as"]))] if user.get("as") else []
    return (*headers, *(("Impersonate-Group", str(group)) for group in user.get("as-groups") or []))


def _plugin(plugin: Mapping[str, Any], home: Path) -> Mapping[str, Any]:
    command = str(plugin.get("command") or "")
    relative = os.sep in command and not os.path.isabs(command)
    return {**plugin, "command": str(home / command) if relative else command}


def _pem(raw: Mapping[str, Any], name: str, home: Path) -> bytes:
    data = raw.get(f"{name}-data")
    if data:
        try:
            return base64.b64decode(str(data), validate=True)
        except binascii.Error as error:
            raise RefusedError(
                f"{name}-data in the kubeconfig is not base64. {CHECK}", code="CAN-1002"
            ) from error
    return _file(home / str(raw[name])) if raw.get(name) else b""


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise RefusedError(f"cannot read {path}: {error.strerror}. {CHECK}", code="CAN-1002") from error


def ask_plugin(plugin: Mapping[str, Any], server: str) -> Identity:
    """Run an exec plug-in and return what it says we are. It may ask on the terminal, for a minute at most."""
    version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
    command = [str(plugin["command"]), *(str(argument) for argument in plugin.get("args") or [])]
    spec = {"interactive": plugin.get("interactiveMode") != "Never", "cluster": {"server": server}}
    request = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    added = {str(entry["name"]): str(entry["value"]) for entry in plugin.get("env") or []}
    environment = {**os.environ, **added, "KUBERNETES_EXEC_INFO": json.dumps(request)}
    hint = str(plugin.get("installHint") or f"run it yourself: `{command[0]}`")
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, timeout=EXEC_SECONDS, check=True
        )
        status = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            f"the credential plug-in {command[0]} failed: {error}. {hint}", code="CAN-1202"
        ) from error
    return Identity(
        token=str(status.get("token") or ""),
        certificate=str(status.get("clientCertificateData") or "").encode(),
        key=str(status.get("clientKeyData") or "").encode(),
    )
