"""One user's talk with one cluster: the client, the names, and errors turned into sentences with a next command.

Verbs read runs, policies and the heartbeat through this. Times are compared by the server's clock as its answers tell
it: a laptop's clock may be minutes off.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from canary.cli.kubeconfig import Access, read_connection
from canary.cli.terminal import Terminal
from canary.cli.transport import connect
from canary.core.telling.stored import Raw, StoredRun, under
from canary.core.telling.wording import moment
from canary.errors import CanaryError, RefusedError, UnavailableError
from canary.kube.client import Client, FieldManager
from canary.kube.resources import CANARYPOLICIES, CANARYRUNS, LEASES
from canary.kube.transport import Response, Stream, Transport

HEARTBEAT = "canary-controller-heartbeat"
TOLERATED_SKEW = timedelta(seconds=2)  # the server tells its time in whole seconds


class Attentive:
    """A transport that remembers the last status and how far the server's clock is from ours."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.last_status: int | None = None
        self.skew = timedelta(0)

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        self.last_status = None
        response = self._inner.request(method, path, query=query, body=body, content_type=content_type)
        self.last_status = response.status
        self._compare_clocks(response.headers.get("date", ""))
        return response

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        return self._inner.stream(path, query)

    def _compare_clocks(self, date: str) -> None:
        try:
            skew = parsedate_to_datetime(date) - datetime.now(UTC)
        except (TypeError, ValueError):
            return
        self.skew = skew if abs(skew) > TOLERATED_SKEW else timedelta(0)


class Session:
    """What a verb needs of a cluster."""

    def __init__(self, access: Access, terminal: Terminal) -> None:
        connection = read_connection(access)
        self.wire = Attentive(connect(connection, access, terminal.note))
        self.client = Client(self.wire, manager=FieldManager.CLI)
        self.cluster = connection.cluster
        self.user = connection.identity.name
        self.namespace = access.namespace or connection.namespace
        self.namespace_is_given = bool(access.namespace)
        self.controller_namespace = access.controller_namespace
        self.terminal = terminal

    def now(self) -> datetime:
        """Return the time by the server's clock."""
        return datetime.now(UTC) + self.wire.skew

    def runs(self, namespace: str | None) -> list[StoredRun]:
        """Return the runs of a namespace, or of all."""
        with self.asking("list", "canaryruns", namespace):
            return [StoredRun(raw) for raw in self.client.list(CANARYRUNS, namespace)]

    def run(self, namespace: str, name: str) -> StoredRun | None:
        with self.asking("get", "canaryruns", namespace):
            raw = self.client.get(CANARYRUNS.at(namespace, name))
        return StoredRun(raw) if raw is not None else None

    def policies(self, namespace: str | None) -> list[Raw]:
        with self.asking("list", "canarypolicies", namespace):
            return list(self.client.list(CANARYPOLICIES, namespace))

    def heartbeat_seconds(self) -> float | None:
        """Return the age of the controller's heartbeat; None where it cannot be read or there is none."""
        try:
            lease = self.client.get(LEASES.at(self.controller_namespace, HEARTBEAT))
        except CanaryError:
            return None
        renewed = moment(under(lease, "spec", "renewTime"))
        return (self.now() - renewed).total_seconds() if renewed is not None else None

    @contextmanager
    def asking(self, verb: str, what: str, namespace: str | None) -> Generator[None]:
        """Give every error of the block its number, its sentence and a next command."""
        try:
            yield
        except (RefusedError, UnavailableError) as error:
            raise self._said(error, f"{verb} {what}", namespace) from error

    def _said(self, error: CanaryError, deed: str, namespace: str | None) -> CanaryError:
        where = f"in {namespace}" if namespace else "in all namespaces"
        if error.code:
            return error
        match self.wire.last_status:
            case 401:
                text = f"{self.cluster} does not accept your credentials. Check: `kubectl auth whoami`"
                return RefusedError(text, code="CAN-1202")
            case 403:
                text = f"you may not {deed} {where}: {error}. Check: `kubectl auth can-i {deed}`"
                return RefusedError(text, code="CAN-1203")
            case 404:
                text = "the CRDs of canary-controller.io are not installed here. `canary crd` prints them"
                return RefusedError(text, code="CAN-1101")
            case _:
                return error
