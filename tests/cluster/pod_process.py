"""One pod's container: the lab's shop as a process of its own, told by a line of JSON what to be.

`told` is called with each of its events on a thread of the reader. The process ends with `kill`, or by itself; what it
was told last is of no matter then.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Message = dict[str, Any]


class PodProcess:
    """A running container, from its making until `kill`."""

    def __init__(self, command: Message, told: Callable[[Message], None]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "canary.lab.shop.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for whoever started the bed
        )
        self._told = told
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal; a process that has gone is no error."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a node does when its grace is over, and wait; idempotent."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._told(json.loads(line))
