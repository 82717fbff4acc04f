"""The embedded cluster, wired: store, API server, controllers, and the port where it is wanted.

`Cluster(clock, timers)` is one in process, in real or simulated time: with a `SimClock` as both, everything
happens when the owner moves the clock. `RealTimeCluster` runs the controllers on a thread. Used by demo,
rehearse, tests.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from canary.clock import Clock, WallClock
from canary.lab.apiserver.admission import User, guard_rules
from canary.lab.apiserver.objects import Object
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock, Timers
from canary.lab.controllers.loop import Controllers
from canary.lab.controllers.pods import Kubelet

KubeletMaker = Callable[[Store, Timers], Kubelet]
STOP_SECONDS = 5.0
DEFAULT_GRACE_SECONDS = 0.5  # a deleted pod serves on for so long, as behind a preStop sleep


class Cluster:
    """A cluster in process. Its controllers run on `timers`."""

    def __init__(self, clock: Clock, timers: Timers, kubelet: KubeletMaker, *, seed: int = 0) -> None:
        self.timers = timers
        self.store = Store(clock, seed=seed)
        self.server = ApiServer(self.store, guard_rules())
        self.kubelet = kubelet(self.store, timers)
        self.controllers = Controllers(self.store, timers, self.kubelet, DEFAULT_GRACE_SECONDS)

    def install(self, definitions: Sequence[Object]) -> None:
        """Create CustomResourceDefinitions."""
        for definition in definitions:
            self.store.create(self.store.kinds.named("CustomResourceDefinition"), definition)

    def transport(self, user: User, *, follow: bool = True) -> InProcessTransport:
        """Return the road of `user` to the API server, without a wire."""
        return InProcessTransport(self.server, user, follow=follow)

    def stop(self) -> None:
        """End every watch and stop every pod."""
        self.store.history.close()
        self.controllers.stop()


def simulated_cluster(clock: SimClock, kubelet: KubeletMaker, *, seed: int = 0) -> Cluster:
    """Return a cluster that lives on simulated time; nothing happens but by moving `clock`."""
    return Cluster(clock, clock, kubelet, seed=seed)


class RealTimeLoop:
    """`Timers` on the wall clock: one thread that runs callbacks when they are due, asked from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the loop after the callback that runs now; idempotent."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_SECONDS)
            self._loop.close()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, callback)


class RealTimeCluster(Cluster):
    """A cluster whose controllers run on a thread of their own, from its making until `stop`."""

    def __init__(self, kubelet: KubeletMaker) -> None:
        self._loop = RealTimeLoop()
        super().__init__(WallClock(), self._loop, kubelet)
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()
        super().stop()
