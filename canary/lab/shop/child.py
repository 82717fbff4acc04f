"""Both ends of a child process of the lab: lines of JSON in, lines of JSON out, and no child outlives its parent.

A parent starts `Child(module, told)`, sends commands and is told events on a thread of the child's reader. The child
calls `run_child`, which hands each command to the object it makes, and ends when standard input ends: the system
closes it even when the parent is killed. `server.py`, `gateway.py` and `customers.py` run like this.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import canary
from canary.errors import UnavailableError

MAX_LINE_BYTES = 4 * 1024 * 1024
STOP_SECONDS = 3.0

Message = dict[str, Any]
Tell = Callable[[Message], None]


class Obedient(Protocol):
    """What runs inside a child."""

    @property
    def commands(self) -> Mapping[str, Callable[..., Awaitable[None]]]:
        """By name what it does; a command's other fields are the arguments."""
        ...

    def close(self) -> None:
        """Let go of everything: the process ends now."""
        ...


class Child:
    """A child process. `told` is called with each event, on a thread of its own."""

    def __init__(self, module: str, told: Tell) -> None:
        root = str(Path(canary.__file__).parents[1])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C in a terminal reaches the parent only, which ends its children in order.
            start_new_session=True,
        )
        self._told = told
        self._module = module
        self._heard = threading.Condition()
        self._latest: dict[str, Message] = {}
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name=f"{module}-events", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        return self._process.pid

    def send(self, command: Message) -> None:
        """Send a command; a child that has gone is no error here."""
        pipe = self._process.stdin
        with self._sending, contextlib.suppress(BrokenPipeError, ValueError):
            if pipe is not None:
                pipe.write(json.dumps(command).encode() + b"\n")
                pipe.flush()

    def ask(self, command: Message, event: str, within_seconds: float) -> Message:
        """Send a command and return the event that answers it; raise UnavailableError where none comes in time."""
        with self._heard:
            self._latest.pop(event, None)
            self.send(command)
            if not self._heard.wait_for(lambda: event in self._latest, within_seconds):
                raise UnavailableError(f"{self._module} did not say {event!r} within {within_seconds:.0f} s")
            return self._latest[event]

    def close(self) -> None:
        """End the child and wait for it; idempotent."""
        if self._process.stdin is not None:
            with self._sending, contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        if self._process.stdout is not None:
            for event in map(json.loads, self._process.stdout):
                with self._heard:
                    self._latest[event["event"]] = event
                    self._heard.notify_all()
                self._told(event)


def run_child(make: Callable[[Tell], Obedient]) -> None:
    """Run until standard input ends."""
    asyncio.run(_obey(make))


async def _obey(make: Callable[[Tell], Obedient]) -> None:
    commands = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer
    )
    child = make(_tell)
    try:
        while line := await commands.readline():
            fields = json.loads(line)
            await child.commands[fields.pop("do")](**fields)
    finally:
        child.close()


def _tell(event: Message) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(json.dumps(event).encode() + b"\n")
        sys.stdout.buffer.flush()
