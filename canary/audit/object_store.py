"""The chain as objects in a bucket: one object a record, written once by `PUT` with `If-None-Match: *`.

Any store that keeps this promise will do (S3 and what speaks like it, through a signing proxy or with a bearer token;
a web server with conditional writes). An object that is there is never written again: whoever comes second gets 412
and reads what the first one wrote. Nothing is listed: the newest record is found by doubling and halving. Versioning
or object lock on the bucket makes the records immutable for everybody.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from canary.audit.chain import MAX_RECORD_BYTES
from canary.errors import RefusedError, UnavailableError

CONNECT_SECONDS, READ_SECONDS = 2.0, 5.0
MAX_RECORDS = 10**9
DIGITS = 12


class ObjectStore:
    """Objects BASE/000000000001.json and on. The token is a mounted file, read anew for each request."""

    def __init__(self, base: str, *, token_file: Path | None = None) -> None:
        self._base = base.rstrip("/")
        self._token_file = token_file
        self._last = 0  # where the newest record was when last looked for
        self._host = urlsplit(base).netloc.rpartition("@")[2]
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False, num_pools=1)

    def add(self, sequence: int, line: bytes) -> bool:
        status, _ = self._ask("PUT", sequence, line)
        if status in (409, 412):
            return False
        if 200 <= status < 300:
            return True
        raise UnavailableError(
            f"{self._host} answered {status} to record {sequence}: it may be full or closed"
        )

    def tail(self, count: int) -> list[bytes]:
        newest = self._newest()
        found = (self._get(sequence) for sequence in range(max(1, newest - count + 1), newest + 1))
        return [line for line in found if line is not None]

    def lines(self, after: int = 0) -> Iterator[bytes]:
        for sequence in range(after + 1, MAX_RECORDS):
            line = self._get(sequence)
            if line is None:
                return
            yield line

    def _newest(self) -> int:
        """Return the number of the newest record: the last that is there, of numbers without a hole."""
        there = self._last if self._last and self._get(self._last) is not None else 0
        step = 1
        while self._get(there + step) is not None:
            there, step = there + step, step * 2
        absent = there + step
        while absent - there > 1:
            middle = (there + absent) // 2
            there, absent = (middle, absent) if self._get(middle) is not None else (there, middle)
        self._last = there
        return there

    def _get(self, sequence: int) -> bytes | None:
        status, body = self._ask("GET", sequence)
        if status == 404:
            return None
        if status != 200:
            raise UnavailableError(f"{self._host} answered {status} when asked for record {sequence}")
        return body

    def _ask(self, method: str, sequence: int, body: bytes | None = None) -> tuple[int, bytes]:
        headers = self._authorization()
        if body is not None:
            headers |= {"Content-Type": "application/json", "If-None-Match": "*"}
        url = f"{self._base}/{sequence:0{DIGITS}d}.json"
        try:
            response = self._pool.request(
                method, url, body=body, headers=headers, redirect=False, preload_content=False
            )
            try:
                return response.status, response.read(MAX_RECORD_BYTES + 1)
            finally:
                response.drain_conn()
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"{self._host}: no answer ({type(error).__name__})") from error

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UnavailableError(
                f"the token of the audit store cannot be read: {error.strerror}"
            ) from error
        if not token or not token.isprintable():
            raise RefusedError(f"{self._token_file} holds no token")
        return {"Authorization": f"Bearer {token}"}
