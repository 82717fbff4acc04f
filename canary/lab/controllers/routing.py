"""From routes, Services and EndpointSlices to a table that says where a request goes: pure, and rebuilt on change.

In go objects as the API server stores them; out come a `Table` (used by `gateway.py` for every request) and, for each
route, the status that a Gateway controller owes it. As with real gateways nothing falls back: the share of a backend
that is missing or has no ready endpoint fails.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

CONTROLLER = "canary-controller.io/lab-gateway"
SERVICE_LABEL = "kubernetes.io/service-name"

Object = Mapping[str, Any]
Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend of a rule: a Service, as namespace/name, and the endpoints that serve it now."""

    name: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Where requests with a path go; `ends` are the cumulative weights of the backends."""

    path: str
    exact: bool
    backends: tuple[Backend, ...]
    ends: tuple[int, ...]

    def matches(self, path: str) -> bool:
        """Tell whether a path, without its query, belongs to this rule."""
        if self.exact or self.path == "/":
            return path == self.path or not self.exact
        return path == self.path or path.startswith(self.path.rstrip("/") + "/")

    def pick(self, random: Random) -> Backend | None:
        """Draw a backend by weight; None if no backend has any."""
        if not self.ends or self.ends[-1] == 0:
            return None
        return self.backends[bisect_right(self.ends, random.randrange(self.ends[-1]))]


@dataclass(frozen=True, slots=True)
class Table:
    """All rules, the most specific first."""

    rules: tuple[Rule, ...] = ()

    def rule(self, path: str) -> Rule | None:
        """Return the rule of a request's path."""
        path = path.partition("?")[0]
        return next((rule for rule in self.rules if rule.matches(path)), None)

    def shares(self, path: str) -> dict[Endpoint, float]:
        """Return the share of a path's requests that each endpoint gets; what is missing to 1 fails."""
        rule = self.rule(path)
        if rule is None or not rule.ends or rule.ends[-1] == 0:
            return {}
        shares: dict[Endpoint, float] = {}
        for backend, end, begin in zip(rule.backends, rule.ends, (0, *rule.ends), strict=False):
            for endpoint in backend.endpoints:
                part = (end - begin) / rule.ends[-1] / len(backend.endpoints)
                shares[endpoint] = shares.get(endpoint, 0.0) + part
        return shares


def build(routes: Iterable[Object], services: Iterable[Object], slices: Iterable[Object]) -> Table:
    """Build the table. Slices of one Service are merged, whoever manages them."""
    by_service = {_key(service): service for service in services}
    by_slice: dict[str, list[Object]] = {}
    for piece in slices:
        name = (piece["metadata"].get("labels") or {}).get(SERVICE_LABEL, "")
        by_slice.setdefault(f"{piece['metadata'].get('namespace', '')}/{name}", []).append(piece)
    rules: list[Rule] = []
    for route in sorted(routes, key=_age):
        for rule in route["spec"].get("rules") or ():
            rules.extend(_rules(route, rule, by_service, by_slice))
    # Exact paths before prefixes, longer prefixes first; equal ones by the age of their route, as the API demands.
    return Table(tuple(sorted(rules, key=lambda rule: (not rule.exact, -len(rule.path)))))


def _age(route: Object) -> tuple[str, str]:
    return route["metadata"].get("creationTimestamp") or "", _key(route)


def _key(thing: Object) -> str:
    return f"{thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def _rules(
    route: Object, rule: Object, services: Mapping[str, Object], slices: Mapping[str, Sequence[Object]]
) -> Iterable[Rule]:
    backends: list[Backend] = []
    weights: list[int] = []
    for ref in rule.get("backendRefs") or ():
        name = _backend_name(route, ref)
        port = _port_name(services.get(name), ref.get("port"))
        pieces = () if port is None else slices.get(name, ())
        backends.append(Backend(name, tuple(_ready(pieces, port or ""))))
        weights.append(int(ref.get("weight", 1)))
    ends = tuple(accumulate(weights))
    for match in rule.get("matches") or ({},):
        path = match.get("path") or _path_of_method(match.get("method"))
        yield Rule(path.get("value", "/"), path.get("type") == "Exact", tuple(backends), ends)


def _path_of_method(method: Object | str | None) -> Object:
    """Return the path of a GRPCRoute's match; HTTP's method is a word, and says nothing of the path."""
    if not isinstance(method, Mapping) or "service" not in method:
        return {}
    exact = {"type": "Exact"} if "method" in method else {}
    return {**exact, "value": "/".join(("", method["service"], *([method["method"]] if exact else [])))}


def _backend_name(route: Object, ref: Object) -> str:
    return f"{ref.get('namespace') or route['metadata'].get('namespace', '')}/{ref['name']}"


def _port_name(service: Object | None, number: object) -> str | None:
    """Return the name of a Service's port, which its slices repeat; None if there is no such Service or port."""
    if service is None:
        return None
    ports = service["spec"].get("ports") or ()
    return next((port.get("name") or "" for port in ports if port["port"] == number), None)


def _ready(slices: Iterable[Object], port_name: str) -> Iterable[Endpoint]:
    for piece in slices:
        port = next((p["port"] for p in piece.get("ports") or () if (p.get("name") or "") == port_name), None)
        if port is None:
            continue
        for endpoint in piece.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:  # absent means ready
                yield from ((address, int(port)) for address in endpoint["addresses"])


def wanted_status(route: Object, services: Iterable[Object], now: str) -> dict[str, Any] | None:
    """Return the status that this controller owes a route, or None if the route has it already.

    Entries of other controllers are kept. `now` becomes the transition time of conditions that changed.
    """
    known = {_key(service): service for service in services}
    missing = sorted(
        name
        for rule in route["spec"].get("rules") or ()
        for ref in rule.get("backendRefs") or ()
        if _port_name(known.get(name := _backend_name(route, ref)), ref.get("port")) is None
    )
    conditions = [
        ("Accepted", "True", "Accepted", "the route is served"),
        ("ResolvedRefs", "False", "BackendNotFound", f"no such Service or port: {', '.join(missing)}")
        if missing
        else ("ResolvedRefs", "True", "ResolvedRefs", "every backend is a Service"),
    ]
    have = (route.get("status") or {}).get("parents") or []
    others = [parent for parent in have if parent.get("controllerName") != CONTROLLER]
    ours = [parent for parent in have if parent.get("controllerName") == CONTROLLER]
    generation = route["metadata"].get("generation", 1)
    wanted = [
        {
            "parentRef": dict(ref),
            "controllerName": CONTROLLER,
            "conditions": [_condition(condition, generation, ours, now) for condition in conditions],
        }
        for ref in route["spec"].get("parentRefs") or ()
    ]
    return None if wanted == ours else {"parents": [*others, *wanted]}


def _condition(
    condition: tuple[str, str, str, str], generation: int, ours: Sequence[Object], now: str
) -> dict[str, Any]:
    kind, status, reason, message = condition
    before = [old for parent in ours for old in parent.get("conditions") or () if old["type"] == kind]
    same = next((old for old in before if old["status"] == status), None)
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": same["lastTransitionTime"] if same else now,
    }
