"""Whether the guard is still in place: what is installed, compared with what ought to be.

`differences` asks the API server once; `Fingerprint` is what the controller keeps of it: read every quarter of a
minute, trusted for half a minute, and the reason why nothing is raised when something is missing, changed or unknown.
What it cannot see is an API server that was told to skip a rule.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from canary.api.marks import TRUE, Mark
from canary.clock import Clock
from canary.errors import CanaryError
from canary.guard.mutations import MUTATING, MUTATING_BINDINGS
from canary.guard.policies import guard, version_of
from canary.guard.policy import VALIDATING, VALIDATING_BINDINGS, Json, Settings
from canary.kube.client import Client
from canary.kube.resources import NAMESPACES

READ_SECONDS, TRUSTED_SECONDS = 15.0, 30.0
MAX_TOLD = 3  # differences that are told
KINDS = {each.kind: each for each in (VALIDATING, VALIDATING_BINDINGS, MUTATING, MUTATING_BINDINGS)}


def differences(client: Client, wanted: Sequence[Json]) -> tuple[str, ...]:
    """Return a clause for each manifest that is not installed as it stands there; none is the rule."""
    return tuple(_differences(client, wanted))


def _differences(client: Client, wanted: Sequence[Json]) -> Iterator[str]:
    for kind in dict.fromkeys(each["kind"] for each in wanted):
        stored = {each["metadata"]["name"]: each for each in client.list(KINDS[kind])}
        for manifest in (each for each in wanted if each["kind"] == kind):
            name = manifest["metadata"]["name"]
            if name not in stored:
                yield f"{kind} {name} is missing"
                continue
            now, meant = stored[name]["spec"], manifest["spec"]
            changed = sorted(
                field for field in now.keys() | meant.keys() if now.get(field) != meant.get(field)
            )
            if changed:
                yield f"{kind} {name} was changed (spec.{', spec.'.join(changed)})"


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    """By the monotonic clock."""
    differences: tuple[str, ...]
    namespaces: frozenset[str]
    """Those that the rules about neighbours hold in."""


class Fingerprint:
    """The last reading. Safe between threads: one reads, others ask."""

    def __init__(self, client: Client, settings: Settings, clock: Clock) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._last: _Reading | None = None
        self._trouble = "it was not read yet"

    def read(self) -> None:
        """Look at the API server once. What does not answer leaves the last reading, which grows old."""
        try:
            served = version_of(self._client.server_version())
            found = differences(self._client, guard(self._settings, served))
            guarded = self._client.list(NAMESPACES, selector=f"{Mark.GUARDED}={TRUE}")
        except CanaryError as error:
            with self._lock:
                self._trouble = str(error)
            return
        names = frozenset(each["metadata"]["name"] for each in guarded)
        with self._lock:
            self._last = _Reading(self._clock.monotonic(), found, names)

    def broken(self, namespace: str) -> str:
        """Say why nothing may be raised in a namespace, as a clause; empty: the guard is in place there."""
        with self._lock:
            last, trouble = self._last, self._trouble
        if last is None or self._clock.monotonic() - last.at >= TRUSTED_SECONDS:
            return f"whether the guard is in place is not known: {trouble}"
        if last.differences:
            return f"the guard is broken: {'; '.join(last.differences[:MAX_TOLD])}"
        if namespace not in last.namespaces:
            return (
                "the guard's rules about routes and Services go by the namespace's label: "
                f"kubectl label namespace {namespace} {Mark.GUARDED}={TRUE}"
            )
        return ""
