"""What may go wrong between the controller and the API server: a death at a call, refusals, lost and doubled events.

Each is a transport around the real one, to be given to a `Street` as its wire.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from random import Random

from canary.errors import UnavailableError
from canary.kube.transport import Json, Response, Stream, Transport


class Crash(BaseException):
    """The controller's process ends here: no handler of the product may stop this."""


class Moment(Enum):
    """When the process dies: the call was never sent, or its answer was never read."""

    BEFORE = "before"
    AFTER = "after"


class Dying:
    """Counts the writes of the controllers that use it, and ends the process at one of them."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self._at = 0
        self._moment = Moment.BEFORE
        self._where: Callable[[], str] = lambda: ""
        self._fact: Callable[[], bool] = lambda: False

    def count(
        self, at: int = 0, moment: Moment = Moment.BEFORE, where: Callable[[], str] = lambda: ""
    ) -> None:
        """Count from here, and die at the write of this number; 0: never. `where` names the phase of a write."""
        self.writes.clear()
        self._where = where
        self._at, self._moment = at, moment

    def die_after(self, fact: Callable[[], bool]) -> None:
        """Die after the first write that leaves this so."""
        self._fact = fact

    def wire(self, transport: Transport) -> Transport:
        return _Wire(transport, self._ask)

    def _ask(self, method: str, path: str, send: Callable[[], Response]) -> Response:
        if method == "GET":
            return send()
        self.writes.append(f"{self._where()}: {method} {path}")
        dies = len(self.writes) == self._at
        if dies and self._moment is Moment.BEFORE:
            raise Crash
        response = send()
        if dies or self._fact():
            self._fact = lambda: False
            raise Crash
        return response


@dataclass(frozen=True, slots=True)
class Odds:
    """Chances of each trouble, for one call; `events` is for one watched event."""

    refused: float = 0.0  # 409, 429 or 500, and nothing was done
    unsent: float = 0.0  # no answer, and nothing was done
    unheard: float = 0.0  # no answer, and it was done
    lost: float = 0.0  # a watch ends early, or an event is told twice


class Troubled:
    """A bad network and a busy API server, seeded; `calm` ends it."""

    def __init__(self, seed: int, odds: Odds) -> None:
        self._random = Random(seed)
        self._odds = odds
        self.calm = False
        self.troubles = 0

    def wire(self, transport: Transport) -> Transport:
        return _Wire(transport, self._ask, self._watched)

    def _ask(self, method: str, path: str, send: Callable[[], Response]) -> Response:
        odds, draw = self._odds, self._random.random()
        if self.calm:
            return send()
        self.troubles += draw < odds.refused + odds.unsent + odds.unheard
        if draw < odds.refused:
            return self._refusal()
        if draw < odds.refused + odds.unsent:
            raise UnavailableError(f"{method} {path}: timed out")
        if draw < odds.refused + odds.unsent + odds.unheard:
            send()
            raise UnavailableError(f"{method} {path}: the connection broke before the answer")
        return send()

    def _refusal(self) -> Response:
        code, reason = self._random.choice(
            [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")]
        )
        return Response(code, {"kind": "Status", "code": code, "reason": reason, "message": "as ordered"})

    def _watched(self, events: Iterator[Json]) -> Iterator[Json]:
        for event in events:
            draw = self._random.random()
            if self.calm or draw >= self._odds.lost:
                yield event
            elif draw < self._odds.lost / 2:
                yield event
                yield event
            else:
                return  # the stream breaks; what was not told yet is told by the next one


class Late:
    """Watches that tell of everything some seconds after it happened; infinite: of nothing. Lists are true."""

    def __init__(self) -> None:
        self.behind_seconds = 0.0
        self.now: Callable[[], float] = lambda: 0.0
        self._heard: dict[str, float] = {}

    def wire(self, transport: Transport) -> Transport:
        return _Wire(transport, lambda method, path, send: send(), self._watched)

    def _watched(self, events: Iterator[Json]) -> Iterator[Json]:
        for event in events:
            version = event["object"]["metadata"]["resourceVersion"]
            if self.now() - self._heard.setdefault(version, self.now()) < self.behind_seconds:
                return  # the next stream begins with it again
            yield event


def asked(transport: Transport, ask: Callable[[str, str, Callable[[], Response]], Response]) -> Transport:
    """Return a transport whose every call passes `ask` with its method, its path, and the way to send it."""
    return _Wire(transport, ask)


class _Wire:
    """A transport that asks a fault first."""

    def __init__(
        self,
        transport: Transport,
        ask: Callable[[str, str, Callable[[], Response]], Response],
        watched: Callable[[Iterator[Json]], Iterator[Json]] = iter,
    ) -> None:
        self._transport = transport
        self._ask = ask
        self._watched = watched

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        def send() -> Response:
            return self._transport.request(method, path, query=query, body=body, content_type=content_type)

        return self._ask(method, path, send)

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        return _Stream(self._transport.stream(path, query), self._watched)


class _Stream:
    """A watch whose events pass a fault."""

    def __init__(self, stream: Stream, watched: Callable[[Iterator[Json]], Iterator[Json]]) -> None:
        self._stream = stream
        self._watched = watched

    def __iter__(self) -> Iterator[Json]:
        return self._watched(iter(self._stream))

    def close(self) -> None:
        self._stream.close()
