"""A loopback server that answers as badly as a test asks, and counts what reached it."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[["FaultHandler"], None]


class FaultServer(socketserver.ThreadingTCPServer):
    """`answer` is called for each request; `released` ends every hang when the test is over."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), FaultHandler)
        self.answer = answer
        self.released = threading.Event()
        self.connections = 0
        self.requests: list[str] = []
        self.heads: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class FaultHandler(socketserver.StreamRequestHandler):
    server: FaultServer
    wbufsize = 0

    def handle(self) -> None:
        self.server.connections += 1
        while line := self.rfile.readline():
            head = ""
            while (header := self.rfile.readline()).strip():
                head += header.decode()
            self.server.requests.append(line.decode().split()[1])
            self.server.heads.append(head)
            try:
                self.server.answer(self)
            except OSError:
                return

    def send(self, body: bytes, status: str = "200 OK", **headers: str) -> None:
        """Answer with a whole, well-formed response."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        self.wfile.write(head.encode() + body)

    def hang(self, seconds: float = 30.0) -> None:
        self.server.released.wait(seconds)
        raise OSError("released")

    def drip(self, data: bytes, every: float) -> None:
        for index in range(len(data)):
            self.wfile.write(data[index : index + 1])
            if self.server.released.wait(every):
                raise OSError("released")


@contextmanager
def serving(answer: Answer) -> Iterator[FaultServer]:
    server = FaultServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        # Handlers that wait for the next request of a kept-alive connection end when their client does.
        server.block_on_close = False
        server.server_close()


def text(body: str) -> Answer:
    return lambda handler: handler.send(body.encode())
