"""The servers of a bed as child processes: started with a log, waited for, ended in the reverse order.

A server that ends by itself before it was asked to is an error with its last words, never a test that hangs.
"""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LAST_WORDS = 3000
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02


class ServerFailed(Exception):
    """A server ended, or was not ready in time; its last words are in the message."""


class Server:
    """One process, from its making until `stop`."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(env),
                start_new_session=True,  # Ctrl-C is for whoever started the bed, who ends its servers in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, holds: Callable[[], bool], limit_seconds: float) -> None:
        """Wait for the server to be ready. Raise ServerFailed where it ends or takes longer."""
        end = time.monotonic() + limit_seconds
        while not holds():
            if not self.alive:
                raise ServerFailed(
                    f"{self.name} ended with code {self._process.returncode}:\n{self.last_words()}"
                )
            if time.monotonic() > end:
                raise ServerFailed(
                    f"{self.name} was not ready within {limit_seconds:.0f} s:\n{self.last_words()}"
                )
            time.sleep(POLL_SECONDS)

    def send(self, number: int) -> None:
        """Send a signal: SIGSTOP freezes a server, SIGCONT lets it go on."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in order, and not in order where that takes too long. Idempotent."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-LAST_WORDS:]
