"""The lab's gateway: a real HTTP reverse proxy that draws a backend by HTTPRoute weight for every request.

In go objects (`update`, from `route_controller.py`) and customers' requests; out come the backends' answers, and on an
admin port how many requests went to which backend and when the last did. A backend that is missing or has no ready
endpoint fails its share with 503. Runs as a child process (`child.py`); `lab/stage.py` starts it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from canary.lab.child import Tell, run_child
from canary.lab.routing import Backend, Endpoint, Table, build
from canary.lab.wire import Request, Respond, ServerConnection, WireError, frame, response

HOST = "127.0.0.1"
BACKLOG = 512
MAX_IDLE = 64  # kept-alive connections to one endpoint
UPSTREAM_SECONDS = 10.0  # for a whole answer
_BAD_GATEWAY = response(502, b'{"error": "bad gateway"}')
_UNAVAILABLE = response(503, b'{"error": "no backend"}')


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
        self._idle: dict[Endpoint, list[_Upstream]] = {}
        self._connections: set[ServerConnection] = set()
        self._servers: list[asyncio.Server] = []
        self._opening: set[asyncio.Task[None]] = set()

    async def listen(self) -> tuple[int, int]:
        """Open the customers' port and the admin port; return both."""
        return await self._serve(self._forward), await self._serve(self._admin)

    def update(self, table: Table) -> None:
        """Route by this table from the next request on."""
        self._table = table

    def close(self) -> None:
        """Close listeners and connections."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.close()
        for idle in self._idle.values():
            for upstream in tuple(idle):
                upstream.close()

    async def _serve(self, handler: Callable[[Request, Respond], None]) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: ServerConnection(handler, self._connections), HOST, 0, backlog=BACKLOG
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _admin(self, request: Request, respond: Respond) -> None:
        if request.path == "/metrics":
            respond(response(200, self.traffic.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4))
        else:
            respond(response(200 if request.path == "/healthz" else 404, b"{}"))

    def _forward(self, request: Request, respond: Respond) -> None:
        rule = self._table.rule(request.path)
        backend = rule.pick(self._random) if rule is not None else None
        if backend is None:
            respond(response(404, b'{"error": "no route"}') if rule is None else _UNAVAILABLE)
            return
        if not backend.endpoints:
            self.traffic.failed(backend.name)
            respond(_UNAVAILABLE)
            return
        self.traffic.sent(backend.name)
        endpoint = self._random.choice(backend.endpoints)
        self._send(_Exchange(self, backend, endpoint, respond), request.raw)

    def _send(self, exchange: "_Exchange", raw: bytes) -> None:
        idle = self._idle.get(exchange.endpoint)
        if idle:
            idle.pop().ask(raw, exchange)
            return
        task = asyncio.ensure_future(self._open(exchange, raw))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, exchange: "_Exchange", raw: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, upstream = await loop.create_connection(lambda: _Upstream(self), *exchange.endpoint)
        except OSError:
            self.traffic.failed(exchange.backend.name)
            exchange.respond(_UNAVAILABLE)
            return
        upstream.ask(raw, exchange)

    def free(self, upstream: "_Upstream", endpoint: Endpoint) -> None:
        """Keep a connection for the next request to its endpoint."""
        idle = self._idle.setdefault(endpoint, [])
        if len(idle) < MAX_IDLE:
            idle.append(upstream)
        else:
            upstream.close()

    def forget(self, upstream: "_Upstream", endpoint: Endpoint) -> None:
        """Drop a connection that ended."""
        idle = self._idle.get(endpoint, [])
        if upstream in idle:
            idle.remove(upstream)


class _Exchange:
    """One request under way."""

    __slots__ = ("backend", "endpoint", "gateway", "respond")

    def __init__(self, gateway: Gateway, backend: Backend, endpoint: Endpoint, respond: Respond) -> None:
        self.gateway = gateway
        self.backend = backend
        self.endpoint = endpoint
        self.respond = respond


class _Upstream(asyncio.Protocol):
    """The gateway's side of a connection to an endpoint: one request at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None
        self._endpoint: Endpoint | None = None
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, raw: bytes, exchange: _Exchange) -> None:
        """Send a request as it came."""
        self._exchange, self._endpoint = exchange, exchange.endpoint
        if self._transport is None:
            self.connection_lost(None)
            return
        self._transport.write(raw)
        self._timer = asyncio.get_running_loop().call_later(UPSTREAM_SECONDS, self.close)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        try:
            found = frame(self._buffer)
        except WireError:
            self.close()
            return
        exchange = self._exchange
        if found is None or exchange is None:
            return
        answer, self._buffer, self._exchange = self._buffer[: found.size], self._buffer[found.size :], None
        self._end_timer()
        self._gateway.free(self, exchange.endpoint)
        exchange.respond(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end_timer()
        if self._endpoint is not None:
            self._gateway.forget(self, self._endpoint)
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            self._gateway.traffic.failed(exchange.backend.name)
            exchange.respond(_BAD_GATEWAY)

    def close(self) -> None:
        """End the connection; whoever waits gets 502."""
        if self._transport is not None:
            self._transport.close()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


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
