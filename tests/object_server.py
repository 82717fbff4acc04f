"""A small object store over real HTTP: each object is written once, by `If-None-Match: *`; it can be made to fail."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Bucket:
    """The objects by path, and what is wrong with the store."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refuses = 0  # answers every write with this status
        self.delay_seconds = 0.0
        self.loses_answers = 0  # so many writes are done, and their answer is never sent
        self.token = ""
        self.lock = threading.Lock()
        self.url = ""

    @property
    def lines(self) -> list[bytes]:
        return [self.objects[path] for path in sorted(self.objects)]


@contextmanager
def serving(bucket: Bucket) -> Iterator[Bucket]:
    """Serve the bucket on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = bucket.objects.get(self.path)
            self.answer(200 if body is not None else 404, body or b"")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(bucket.delay_seconds)
            if bucket.refuses:
                self.answer(bucket.refuses)
                return
            if self.headers.get("If-None-Match") != "*":
                self.answer(400)
                return
            with bucket.lock:
                there = self.path in bucket.objects
                bucket.objects.setdefault(self.path, body)
            if bucket.loses_answers:
                bucket.loses_answers -= 1
                self.close_connection = True
                return
            self.answer(412 if there else 201)

        def answer(self, status: int, body: bytes = b"") -> None:
            known = not bucket.token or self.headers.get("Authorization") == f"Bearer {bucket.token}"
            self.send_response(status if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    bucket.url = f"http://127.0.0.1:{server.server_port}/audit"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
