"""A wire to the real API server that can be cut, frozen, slowed and corrupted; TLS goes through it untouched.

`with bad_wire(port) as wire` listens on loopback and passes bytes both ways. A client that is given `wire.port` instead
of the server's own meets what a network does to it; the server is the real one. All threads end with the wire.
"""

import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from cluster_bed import API_PORT, HOST, Bed

CHUNK_BYTES = 65_536
POLL_SECONDS = 0.02
LINGER_NOTHING = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close with a reset


class BadWire:
    """Passes bytes to the API server. Its faults are attributes: they hold until they are set back."""

    def __init__(self) -> None:
        self.frozen = False
        """No byte passes, and new connections are taken and left without an answer."""
        self.answer_delay_seconds = 0.0
        """What the server says arrives so much later."""
        self.corrupt = 0
        """So many of the next pieces from the server have a byte turned round."""
        self.sent_bytes = 0
        """From the clients, passed on so far."""
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._begin(self._accept)

    def cut(self) -> int:
        """Reset every connection that stands; return how many these were."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)
        return len(pairs)

    def close(self) -> None:
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5.0)

    def kubeconfig(self, bed: Bed, user: str, folder: Path) -> Path:
        """Write the kubeconfig of a user whose requests go through here; return its path."""
        config = yaml.safe_load(bed.kubeconfig(user).read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://{HOST}:{self.port}"
        path = folder / f"{user}-{self.port}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def _begin(self, what: object, *given: object) -> None:
        thread = threading.Thread(target=what, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection((HOST, API_PORT))
            except OSError:
                continue
            self._pairs.append((near, far))
            self._begin(self._pass, near, far, False)
            self._begin(self._pass, far, near, True)

    def _pass(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(CHUNK_BYTES):
                while self.frozen and not self._closing:
                    time.sleep(POLL_SECONDS)
                sink.sendall(self._worsened(piece) if is_answer else piece)
                self.sent_bytes += 0 if is_answer else len(piece)
        for end in (source, sink):
            _reset(end)

    def _worsened(self, piece: bytes) -> bytes:
        time.sleep(self.answer_delay_seconds)
        if self.corrupt <= 0:
            return piece
        self.corrupt -= 1
        middle = len(piece) // 2
        return piece[:middle] + bytes([piece[middle] ^ 0xFF]) + piece[middle + 1 :]


@contextmanager
def bad_wire() -> Generator[BadWire]:
    wire = BadWire()
    try:
        yield wire
    finally:
        wire.close()


@contextmanager
def cut_every(wire: BadWire, seconds: float) -> Generator[Sequence[int]]:
    """Cut the wire again and again; what is yielded lists how many connections each cut met."""
    over, met = threading.Event(), list[int]()

    def run() -> None:
        while not over.wait(seconds):
            met.append(wire.cut())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield met
    finally:
        over.set()
        thread.join(5.0)


def _reset(end: socket.socket) -> None:
    """Close one end as a network does that lost it. A recv under way in another thread ends, too."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        end.close()
