"""Where the chain is kept: a file that is flushed to the disk, or objects that are written once; and who writes on it.

A `Store` adds a record behind the newest one, durably, or says that somebody was quicker; what it acknowledged it has.
`Book` is the one writer of a process: it knows the head, links entries, and writes an entry of the same `id` once,
whoever died in between. A `FileStore` is locked for each record, so that an old leader and a new one may both live.
"""

import fcntl
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from canary.audit.chain import MAX_RECORD_BYTES, Head, Record, decoded, encoded, head_of, linked
from canary.errors import RefusedError, UnavailableError

REMEMBERED = 512  # newest records whose ids a book knows
MAX_ATTEMPTS = 5  # where others write, too
LOCK_SECONDS, LOCK_STEP_SECONDS = 1.0, 0.01
TAIL_BYTES = 4 * 1024 * 1024


class Store(Protocol):
    """Keeps lines in the order in which they were added. Every method raises UnavailableError where it cannot."""

    def add(self, sequence: int, line: bytes) -> bool:
        """Keep a line durably, behind the record `sequence` - 1; False, and nothing is kept, where that is not last."""
        ...

    def tail(self, count: int) -> list[bytes]:
        """Return the newest lines, at most so many, oldest first."""
        ...

    def lines(self, after: int = 0) -> Iterator[bytes]:
        """Yield every line behind the first `after`, oldest first."""
        ...


def open_store(address: str, token_file: Path | None = None) -> Store:
    """Return the store of an address: file:/path, or an http or https URL. Raise RefusedError for anything else."""
    if address.startswith(("http://", "https://")):
        from canary.audit.object_store import ObjectStore  # urllib3 only where it is used

        return ObjectStore(address, token_file=token_file)
    path = Path(address.removeprefix("file:"))
    if not address.startswith("file:") or not path.is_absolute():
        text = f"{address[:80]!r} is no place for an audit; write file:/var/lib/canary/audit.jsonl or an https URL"
        raise RefusedError(text, code="CAN-2008")
    return FileStore(path)


class FileStore:
    """One file of JSON Lines. A last line that was torn by a crash was never acknowledged, and is cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, sequence: int, line: bytes) -> bool:
        with self._opened(os.O_RDWR | os.O_CREAT) as file, _locked(file, self._path):
            size = self._mended(file)
            newest = decoded(_last_line(file, size)) if size else None
            if (newest["sequence"] if newest else 0) != sequence - 1:
                return False
            self._append(file, size, line)
            return True

    def tail(self, count: int) -> list[bytes]:
        if not self._path.exists():
            return []
        with self._opened(os.O_RDONLY) as file:
            size = os.fstat(file).st_size
            begin = max(0, size - min(TAIL_BYTES, 2 * MAX_RECORD_BYTES * count))
            lines = os.pread(file, size - begin, begin).splitlines(keepends=True)
        whole = [line for line in lines[1 if begin else 0 :] if line.endswith(b"\n")]
        return whole[-count:]

    def lines(self, after: int = 0) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._opened(os.O_RDONLY) as file, os.fdopen(os.dup(file), "rb") as stream:
            while line := stream.readline(2 * MAX_RECORD_BYTES):
                after -= 1
                if after < 0 and (line.endswith(b"\n") or len(line) == 2 * MAX_RECORD_BYTES):
                    yield line

    @contextmanager
    def _opened(self, flags: int) -> Generator[int]:
        try:
            file = os.open(self._path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"{self._path}: {error.strerror}") from error
        try:
            yield file
        except OSError as error:
            raise UnavailableError(f"{self._path}: {error.strerror}") from error
        finally:
            os.close(file)

    def _mended(self, file: int) -> int:
        """Cut a torn last line off; return the size that is left."""
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            size -= len(_last_line(file, size))
            os.ftruncate(file, size)
        return size

    def _append(self, file: int, size: int, line: bytes) -> None:
        """Write the line and wait until the disk has it; one that came half is taken away again."""
        try:
            if os.pwrite(file, line, size) != len(line):
                raise UnavailableError(f"{self._path} is full")
            os.fsync(file)
            if size == 0:
                _flush_folder(self._path.parent)
        except (OSError, UnavailableError):
            with suppress(OSError):
                os.ftruncate(file, size)
            raise


@contextmanager
def _locked(file: int, path: Path) -> Generator[None]:
    """Hold the file alone; the system lets go of it when a process dies."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise UnavailableError(f"{path} is held by another process") from error
            time.sleep(LOCK_STEP_SECONDS)
    yield  # closing the file unlocks it


def _last_line(file: int, size: int) -> bytes:
    """Return the last line, with its newline where it has one."""
    begin = max(0, size - 2 * MAX_RECORD_BYTES)
    end = os.pread(file, size - begin, begin)
    return end[end.rfind(b"\n", 0, len(end) - 1) + 1 :]


def _flush_folder(folder: Path) -> None:
    """A new file is durable when its folder's entry is."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class Book:
    """Writes entries on a store, each once by its `id`. Not for several threads at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._head: Head | None = None
        self._seen = 0  # no later look may find fewer records
        self._known: dict[str, Head] = {}

    @property
    def head(self) -> Head:
        """Return the head as this process last saw or wrote it, reading it where it knows none."""
        return self._head or self._read()

    def refreshed(self) -> Head:
        """Return the head as the store has it now: another leader may have written since."""
        newest = [decoded(line) for line in self.store.tail(1)]
        if self._head is None or (head_of(newest[0]) if newest and newest[0] else Head()) != self._head:
            return self._read()
        return self._head

    def append(self, entry: Mapping[str, Any]) -> Head:
        """Return the head of the entry's record, which is durable then. Raise UnavailableError where it is not."""
        for _ in range(MAX_ATTEMPTS):
            head = self.head
            if entry["id"] in self._known:
                return self._known[entry["id"]]
            record = linked(entry, head)
            if self._add(record):
                return self._take(record)
            self._head = None
        raise UnavailableError("others write on the same audit all the time")

    def _add(self, record: Record) -> bool:
        try:
            return self.store.add(record["sequence"], encoded(record))
        except UnavailableError:
            self._head = None  # it may have come through: read again before the next
            raise

    def _read(self) -> Head:
        head = Head()
        for line in self.store.tail(REMEMBERED):
            record = decoded(line)
            if record is None:
                text = "the newest records of the audit cannot be read; `canary audit verify` says where"
                raise UnavailableError(text)
            head = self._take(record)
        if head.sequence < self._seen:
            text = f"the audit had {self._seen} records and has {head.sequence}: its end is gone"
            raise UnavailableError(text)
        self._head = head
        return head

    def _take(self, record: Record) -> Head:
        self._head = head_of(record)
        self._seen = max(self._seen, self._head.sequence)
        self._known[str(record.get("id"))] = self._head
        while len(self._known) > 2 * REMEMBERED:
            del self._known[next(iter(self._known))]
        return self._head
