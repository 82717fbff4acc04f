"""The lab's gateway: a real HTTP reverse proxy that draws a backend by HTTPRoute weight for every request.

In go objects (`update`, from `route_controller.py`) and customers' requests; out come the backends' answers, and on an
admin port how many requests went to which backend and when the last did. A backend that is missing or has no ready
endpoint fails its share with 503. Runs as a child process (`child.py`); `lab/stage.py` starts it.
"""

import random
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from canary.lab.child import Tell, run_child
from canary.lab.routing import Endpoint, Table, build
from canary.lab.wire import Message, Pool, Server, WireError, response

HOST = "127.0.0.1"
UPSTREAM_SECONDS = 10.0  # for a whole answer
_BAD_GATEWAY = response(502, b'{"error": "bad gateway"}')
_UNAVAILABLE = response(503, b'{"error": "no backend"}')
_NO_ROUTE = response(404, b'{"error": "no route"}')


class Traffic:
    """What the gateway did, by backend."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ["backend"]
        self._requests = Counter("gateway_requests", "Requests by backend.", names, registry=self._registry)
        self._failures = Counter("gateway_failures", "Answers of our own.", names, registry=self._registry)
        self._last = Gauge(
            "gateway_last_request_timestamp_seconds", "Last request.", names, registry=self._registry
        )

    def sent(self, backend: str) -> None:
        """Count a request that was given to a backend."""
        self._requests.labels(backend).inc()
        self._last.labels(backend).set(time.time())

    def failed(self, backend: str) -> None:
        """Count a request that no endpoint of the backend answered."""
        self._failures.labels(backend).inc()

    def text(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self._registry)


class Gateway:
    """The data plane, on one event loop."""

    def __init__(self, seed: int) -> None:
        self.traffic = Traffic()
        self._random = random.Random(seed)
        self._table = Table()
        self._pools: dict[Endpoint, Pool] = {}
        self._servers = (Server(self._forward), Server(self._admin))

    async def listen(self) -> tuple[int, int]:
        """Open the customers' port and the admin port; return both."""
        customers, admin = self._servers
        return await customers.open(HOST), await admin.open(HOST)

    def update(self, table: Table) -> None:
        """Route by this table from the next request on."""
        self._table = table

    def close(self) -> None:
        """Close listeners and connections."""
        for closing in (*self._servers, *self._pools.values()):
            closing.close()

    async def _admin(self, request: Message) -> bytes:
        if request.start[1] == "/metrics":
            return response(200, self.traffic.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
        return response(200 if request.start[1] == "/healthz" else 404, b"{}")

    async def _forward(self, request: Message) -> bytes:
        rule = self._table.rule(request.start[1])
        if rule is None:
            return _NO_ROUTE
        backend = rule.pick(self._random)
        if backend is None:
            return _UNAVAILABLE
        if not backend.endpoints:
            self.traffic.failed(backend.name)
            return _UNAVAILABLE
        self.traffic.sent(backend.name)
        try:
            answer = await self._pool(self._random.choice(backend.endpoints)).ask(request.raw)
        except (OSError, WireError) as error:
            self.traffic.failed(backend.name)
            return _BAD_GATEWAY if isinstance(error, WireError) else _UNAVAILABLE
        return answer.raw

    def _pool(self, endpoint: Endpoint) -> Pool:
        if endpoint not in self._pools:
            self._pools[endpoint] = Pool(*endpoint, UPSTREAM_SECONDS)
        return self._pools[endpoint]


class GatewayProcess:
    """The gateway as a child process: `run` opens its ports, each `update` brings new objects."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._gateway: Gateway | None = None

    async def obey(self, command: Mapping[str, Any]) -> None:
        """Do one command: run, once, or update."""
        if command["do"] == "run" and self._gateway is None:
            self._gateway = Gateway(int(command["seed"]))
            port, admin = await self._gateway.listen()
            self._tell({"event": "listening", "port": port, "admin": admin})
        elif command["do"] == "update" and self._gateway is not None:
            self._gateway.update(build(command["routes"], command["services"], command["slices"]))
        else:
            self._tell({"event": "refused", "detail": f"cannot do {command['do']!r}"})

    def close(self) -> None:
        """Stop serving."""
        if self._gateway is not None:
            self._gateway.close()


def main() -> None:
    """Serve until standard input ends."""
    run_child(GatewayProcess)


if __name__ == "__main__":
    main()
