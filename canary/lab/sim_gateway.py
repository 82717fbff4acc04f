"""The gateway on simulated time: the same routing as the real one, without a request.

In go the store's writes; out come, a moment later as with a real data plane, a new `Table` for whoever splits traffic
by it, and the status that a Gateway controller owes each route. `sim_shop.py` makes one and listens.
"""

from collections.abc import Callable

from canary.lab.clock import Timers
from canary.lab.history import Event
from canary.lab.objects import name_of, namespace_of, timestamp
from canary.lab.routing import Table, build, wanted_status
from canary.lab.store import STATUS, Store

PROPAGATION_SECONDS = 0.03
_KINDS = ("HTTPRoute", "Service", "EndpointSlice")


class SimGateway:
    """Follows the store and tells `changed` every new table."""

    def __init__(
        self,
        store: Store,
        timers: Timers,
        changed: Callable[[Table], None],
        *,
        propagation_seconds: float = PROPAGATION_SECONDS,
    ) -> None:
        self._store = store
        self._timers = timers
        self._changed = changed
        self._propagation_seconds = propagation_seconds
        self._due = False
        self._routes, self._services, self._slices = (store.kinds.named(kind) for kind in _KINDS)
        store.subscribe(self._note)

    def _note(self, event: Event) -> None:
        if event.kind.name in _KINDS and not self._due:
            self._due = True
            self._timers.call_later(self._propagation_seconds, self._refresh)

    def _refresh(self) -> None:
        self._due = False
        routes, services, slices = (
            self._store.select(kind) for kind in (self._routes, self._services, self._slices)
        )
        self._changed(build(routes, services, slices))
        now = timestamp(self._store.clock.now())
        for route in routes:
            status = wanted_status(route, services, now)
            if status is not None:
                place = (namespace_of(route), name_of(route))
                self._store.update(
                    self._routes, place, lambda obj, status=status: {**obj, "status": status}, STATUS
                )
