"""Pods without a process, for tests of whatever is not a shop: the simplest `Kubelet`."""

from canary.lab.apiserver.objects import Object
from canary.lab.apiserver.store import Store
from canary.lab.clock import Timers
from canary.lab.controllers.pods import PodState, report

POD_ADDRESSES = 65_000  # of 10.77.0.0/16, handed out in turn


class TimedKubelet:
    """Pods without a process: ready, each under its own address, `delay_seconds` after their start."""

    def __init__(self, store: Store, timers: Timers, delay_seconds: float = 0.0) -> None:
        self._store = store
        self._timers = timers
        self._delay_seconds = delay_seconds
        self._started = 0

    def start(self, pod: Object) -> None:
        self._started = self._started % POD_ADDRESSES + 1
        address = f"10.77.{self._started // 250}.{self._started % 250 + 1}"
        state = PodState(ready=True, ip=address)
        self._timers.call_later(self._delay_seconds, lambda: report(self._store, pod, state))

    def stop(self, pod: Object) -> None:
        """There is no process to stop."""
