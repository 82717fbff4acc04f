"""Read the pods' own metrics endpoints, each look, over kept-alive connections: the fast path, and the default.

In go pod targets that EndpointSlices or a pod list named; out comes for each pod a `Reading` whose time is the start
of its request, or `Missing`. A pod that hangs, answers garbage or never stops sending costs its own entry and
nothing else: everything is bounded by `Limits`, one request is in flight for a pod, and what is late is cut off.
`operator/look.py` calls this; no redirect, no proxy and no token of ours is ever used.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse

from canary.api.reasons import MissingReason
from canary.clock import Clock
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.metrics.exposition import parse
from canary.metrics.source import NoCountsError, PodTarget, Specs, counts

CHUNK_BYTES = 64 * 1024
IDLE_SECONDS = 120.0  # a connection that was not used for this long is closed
CUT_OFF_SECONDS = 0.25  # how long a cut off request may take to end
_HEADERS = {
    "Accept": "text/plain;version=0.0.4",
    "Accept-Encoding": "identity",
    "User-Agent": "canary-controller",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one controller spends on scraping."""

    concurrency: int = 32
    pods: int = 200


class ScrapeSource:
    """A `Source` that reads pods directly."""

    def __init__(self, clock: Clock, limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        # One scale for all readings: the wall clock may jump, the difference of two readings may not.
        self._epoch = clock.now().timestamp() - clock.monotonic()
        self._threads = ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="scrape")
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, int], _Line] = {}

    def read(
        self, targets: Sequence[PodTarget], specs: Specs, *, within_seconds: float
    ) -> Mapping[str, Reading | Missing]:
        """Scrape every target once; see `Source.read`."""
        if len(targets) > self._limits.pods:
            many = Missing(
                MissingReason.TOO_MANY_PODS,
                f"{len(targets)} pods, and at most {self._limits.pods} are scraped; use a Prometheus source",
            )
            return {target.uid: many for target in targets}
        deadline = self._clock.monotonic() + within_seconds
        started = self._start_all(targets, specs, deadline)
        running = [one.future for one in started.values() if isinstance(one, _Running)]
        wait(running, timeout=max(0.0, deadline - self._clock.monotonic()))
        for one in started.values():
            if isinstance(one, _Running) and not one.future.done():
                one.line.cut_off()
        wait(running, timeout=CUT_OFF_SECONDS)
        return {uid: one.result() if isinstance(one, _Running) else one for uid, one in started.items()}

    def close(self) -> None:
        """Close every connection and end the threads; idempotent."""
        with self._lock:
            lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.cut_off()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start_all(
        self, targets: Sequence[PodTarget], specs: Specs, deadline: float
    ) -> "dict[str, _Running | Missing]":
        now = self._clock.monotonic()
        with self._lock:
            self._forget_idle(now)
            lines = [self._line(target) for target in targets]
            # Pods that were late come last, so that hanging ones cannot keep the threads from the others.
            order = sorted(range(len(targets)), key=lambda index: lines[index].late)
            return {
                targets[index].uid: self._start(lines[index], targets[index], specs, deadline)
                for index in order
            }

    def _start(self, line: "_Line", target: PodTarget, specs: Specs, deadline: float) -> "_Running | Missing":
        if line.busy:
            return Missing(MissingReason.TIMED_OUT, "the last request to this pod has not ended")
        line.busy, line.last_used = True, self._clock.monotonic()
        return _Running(self._threads.submit(self._scrape, line, target, specs, deadline), line)

    def _line(self, target: PodTarget) -> "_Line":
        key = (target.ip, target.port)
        if key not in self._lines:
            self._lines[key] = _Line(target.ip, target.port, self._clock)
        return self._lines[key]

    def _forget_idle(self, now: float) -> None:
        idle = [
            key for key, line in self._lines.items() if not line.busy and now - line.last_used > IDLE_SECONDS
        ]
        for key in idle:
            self._lines.pop(key).close()

    def _scrape(self, line: "_Line", target: PodTarget, specs: Specs, deadline: float) -> Reading | Missing:
        names = {spec.family for spec in specs.values()}
        try:
            if self._clock.monotonic() >= deadline:
                return Missing(MissingReason.TIMED_OUT, "no thread was free in time")
            at, response = line.get(target.path, deadline)
            shown = parse(line.body(response, deadline), names)
            taken = counts(specs, shown.families, shown.declared)
            line.late = False
        except NoCountsError as error:
            line.close()
            return Missing(error.reason, str(error))
        except TimeoutError:
            line.close()
            return self._late(line)
        except (OSError, HTTPException) as error:
            line.close()
            if self._clock.monotonic() >= deadline:
                return self._late(line)
            return Missing(MissingReason.UNAVAILABLE, str(error) or type(error).__name__)
        finally:
            line.busy = False
        return taken if isinstance(taken, Missing) else target.reading(self._epoch + at, taken)

    def _late(self, line: "_Line") -> Missing:
        line.late = True
        return Missing(MissingReason.TIMED_OUT, "no whole answer in time")


class _Line:
    """The one connection to a pod: kept alive, used by one request at a time, and cut off from outside when late."""

    def __init__(self, ip: str, port: int, clock: Clock) -> None:
        self._connection = HTTPConnection(ip, port)
        # Kept beside the connection, which forgets it as soon as a server announces that it will close.
        self._socket: socket.socket | None = None
        self._clock = clock
        self.busy = False
        self.late = False
        self.last_used = clock.monotonic()

    def get(self, path: str, deadline: float) -> tuple[float, HTTPResponse]:
        """Send the request and return its start and the answer's head; a connection that idled away is replaced."""
        kept = self._connection.sock is not None
        try:
            return self._send(path, deadline)
        except ConnectionError:
            # RemoteDisconnected is one: a server may close an idle connection at any moment.
            if not kept:
                raise
            self.close()
            return self._send(path, deadline)

    def body(self, response: HTTPResponse, deadline: float) -> Iterator[bytes]:
        """Yield the body as it comes, within the deadline, and keep the connection when it ends well."""
        if response.status != 200:
            self.close()
            raise NoCountsError(MissingReason.UNAVAILABLE, f"the pod answered HTTP {response.status}")
        while True:
            self._give_time(deadline)
            chunk = response.read1(CHUNK_BYTES)
            if not chunk:
                break
            yield chunk
        if self._clock.monotonic() >= deadline:
            raise TimeoutError  # cut off by us, not short
        if response.length:  # read1 does not say that a body was shorter than announced
            raise NoCountsError(MissingReason.MALFORMED, "the body is shorter than announced")
        response.close()  # the answer, not the connection: without it no further request could be sent

    def cut_off(self) -> None:
        """End a request that is late, from another thread: its reader wakes with an error."""
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        self._connection.close()

    def _send(self, path: str, deadline: float) -> tuple[float, HTTPResponse]:
        self._connection.timeout = max(0.001, deadline - self._clock.monotonic())
        if self._connection.sock is None:
            self._connection.connect()
            self._socket = self._connection.sock
        self._give_time(deadline)
        at = self._clock.monotonic()
        self._connection.request("GET", path, headers=_HEADERS)
        return at, self._connection.getresponse()

    def _give_time(self, deadline: float) -> None:
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError
        if self._socket is not None:
            self._socket.settimeout(left)


@dataclass(frozen=True, slots=True)
class _Running:
    future: "Future[Reading | Missing]"
    line: _Line

    def result(self) -> Reading | Missing:
        if not self.future.done() or self.future.cancelled():
            return Missing(MissingReason.TIMED_OUT, "no whole answer in time")
        return self.future.result()
