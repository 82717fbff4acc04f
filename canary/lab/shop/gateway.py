"""The lab's gateway: a real HTTP reverse proxy that draws a backend by HTTPRoute weight for every request.

In go objects (`update`, from `controllers/routes.py`) and customers' requests; out come the backends' answers, as they
came. A backend that is missing or has no ready endpoint fails its share with 503. Runs as a child process
(`child.py`); `stage.py` starts it.
"""

import random

from canary.lab.controllers.routing import Endpoint, Object, Table, build
from canary.lab.shop.child import Tell, run_child
from canary.lab.shop.wire import Message, Pool, Server, WireError, response

HOST = "127.0.0.1"
UPSTREAM_SECONDS = 10.0  # for a whole answer
_BAD_GATEWAY = response(502, b'{"error": "bad gateway"}')
_UNAVAILABLE = response(503, b'{"error": "no backend"}')
_NO_ROUTE = response(404, b'{"error": "no route"}')


class Gateway:
    """The data plane, on one event loop: `run` opens its port, each `update` brings new objects."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._random = random.Random()
        self._table = Table()
        self._pools: dict[Endpoint, Pool] = {}
        self._server = Server(self._forward)
        self.commands = {"run": self._run, "update": self._update}

    async def _run(self, seed: int) -> None:
        self._random.seed(seed)
        self._tell({"event": "listening", "port": await self._server.open(HOST)})

    async def _update(self, routes: list[Object], services: list[Object], slices: list[Object]) -> None:
        self._table = build(routes, services, slices)

    def close(self) -> None:
        """Close the port and every connection."""
        for closing in (self._server, *self._pools.values()):
            closing.close()

    async def _forward(self, request: Message) -> bytes:
        rule = self._table.rule(request.start[1])
        if rule is None:
            return _NO_ROUTE
        backend = rule.pick(self._random)
        if backend is None or not backend.endpoints:
            return _UNAVAILABLE
        endpoint = self._random.choice(backend.endpoints)
        if endpoint not in self._pools:
            self._pools[endpoint] = Pool(*endpoint, UPSTREAM_SECONDS)
        try:
            return (await self._pools[endpoint].ask(request.raw)).raw
        except WireError:
            return _BAD_GATEWAY
        except OSError:
            return _UNAVAILABLE


def main() -> None:
    """Serve until standard input ends."""
    run_child(Gateway)


if __name__ == "__main__":
    main()
