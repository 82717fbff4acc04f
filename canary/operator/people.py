"""Who is who, read from a mounted file: the controller's identity map, read anew whenever the file changes.

A file that cannot be read makes everybody a stranger: no approval counts until it can, and the log says why.
"""

import logging
from pathlib import Path
from threading import Lock

import yaml

from canary.api.people import People
from canary.api.read import parse_people
from canary.errors import RefusedError

logger = logging.getLogger(__name__)
MAX_BYTES = 4 * 1024 * 1024


class PeopleFile:
    """Calling it returns the people of the file as it is now; safe between threads."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = Lock()
        self._read: tuple[float, int] | None = None
        self._people = People()

    def __call__(self) -> People:
        with self._lock:
            stamp = self._stamp()
            if stamp is None or stamp != self._read:
                self._people = self._fresh() if stamp is not None else People()
                self._read = stamp
            return self._people

    def _stamp(self) -> tuple[float, int] | None:
        try:
            found = self._path.stat()
        except OSError as error:
            if self._read is not None:
                logger.error("the identity map is gone, no approval counts: %s", error)
            return None
        return found.st_mtime, found.st_size

    def _fresh(self) -> People:
        try:
            return read_people(self._path)
        except RefusedError as error:
            logger.error("%s; no approval counts", error)
            return People()


def read_people(path: Path) -> People:
    """Read an identity map. Raise RefusedError, with its path and what is wrong, where that cannot be done."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise RefusedError(f"it has more than {MAX_BYTES} bytes")
        return parse_people(yaml.safe_load(text))
    except (OSError, yaml.YAMLError, RefusedError) as error:
        raise RefusedError(f"the identity map {path} cannot be read: {error}") from error
