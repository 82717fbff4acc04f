"""The lab's Gateway controller: what routes, Services and EndpointSlices say, for whoever splits the traffic.

In go the store's writes; out come, a moment later as with a real data plane, a `Snapshot` for the gateway's process
or for the shop on simulated time, and the status that a Gateway controller owes each route. Like the lab's other
controllers it stands behind the API server and writes to the store itself.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from canary.lab.apiserver.api_error import ApiError
from canary.lab.apiserver.history import Event
from canary.lab.apiserver.objects import Object, timestamp
from canary.lab.apiserver.store import STATUS, Store
from canary.lab.clock import Timers
from canary.lab.controllers.routing import Table, build, wanted_status

PROPAGATION_SECONDS = 0.03
_ROUTES = ("HTTPRoute", "GRPCRoute")
_KINDS = (*_ROUTES, "Service", "EndpointSlice")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to route by at one moment."""

    routes: list[Object]
    services: list[Object]
    slices: list[Object]

    def table(self) -> Table:
        return build(self.routes, self.services, self.slices)

    def command(self) -> dict[str, Any]:
        """Return what the gateway's process is told."""
        return {"do": "update", "routes": self.routes, "services": self.services, "slices": self.slices}


class RouteController:
    """Follows the store and tells `changed` every new snapshot."""

    def __init__(
        self,
        store: Store,
        timers: Timers,
        changed: Callable[[Snapshot], None],
        *,
        propagation_seconds: float = PROPAGATION_SECONDS,
    ) -> None:
        self._store = store
        self._timers = timers
        self._changed = changed
        self._propagation_seconds = propagation_seconds
        self._due = False
        *self._routes, self._services, self._slices = (store.kinds.named(kind) for kind in _KINDS)
        store.subscribe(self._note)
        if any(map(store.select, self._routes)):
            self._soon()

    def _note(self, event: Event) -> None:
        if event.kind.name in _KINDS and not self._due:
            self._soon()

    def _soon(self) -> None:
        self._due = True
        self._timers.call_later(self._propagation_seconds, self._refresh)

    def _refresh(self) -> None:
        self._due = False
        select = self._store.select
        routes = [route for kind in self._routes for route in select(kind)]
        seen = Snapshot(routes, select(self._services), select(self._slices))
        self._changed(seen)
        now = timestamp(self._store.clock.now())
        for route in seen.routes:
            status = wanted_status(route, seen.services, now)
            if status is not None:
                with suppress(ApiError):  # gone meanwhile, and that is the next event
                    self._store.rewrite(route, lambda obj, status=status: {**obj, "status": status}, STATUS)
