"""What is left where nobody looks any more: a run, a policy or our CRDs were deleted while traffic was split.

A route that names a side, and a side itself, belong to the run of their target that is under way. Where there is none,
all traffic goes back at once, then the route is tidied, and the side goes after its drain; in the middle of a commit
the Deployment's own pods have to stand first. The hold stays: only a person says what becomes of a held change, and an
Event on the Deployment tells how. `controller.py` looks here by the clock, and as soon as a run is deleted.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Literal

from canary.api.marks import TRUE, Mark, side_name, way_back_name
from canary.api.policy import RouteRef
from canary.api.reasons import Phase, Reason
from canary.core.evidence import Missing
from canary.errors import RefusedError
from canary.kube import events, workload
from canary.kube.cache import Cache
from canary.kube.client import UnknownKindError
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYRUNS,
    CRDS,
    DEPLOYMENTS,
    SERVICES,
    Resource,
)
from canary.operator.hands import Hands
from canary.traffic.brake import stable_of
from canary.traffic.route_hands import resource_of_kind
from canary.traffic.router import DETACHED, Seen, Target

logger = logging.getLogger(__name__)
LOOK_SECONDS, BUSY_SECONDS = 15.0, 1.0
DRAIN_SECONDS = 60.0  # how long a side stays after its last route; whose policy said how long, is gone, too
RouteKind = Literal["HTTPRoute", "GRPCRoute", "EndpointSlice"]
ROUTE_KINDS: tuple[RouteKind, ...] = ("HTTPRoute", "GRPCRoute", "EndpointSlice")
TELL_SECONDS = 3600.0  # as long as an Event is kept
Json = Mapping[str, Any]
Place = tuple[str, str]  # a namespace, and the name of a Service or a Deployment in it


class Orphans:
    """Gives back what no run looks after. `caches` are those of policies and Deployments, by plural."""

    def __init__(self, hands: Hands, caches: Mapping[str, Cache], namespace: str | None) -> None:
        self._hands = hands
        self._caches = caches
        self._namespace = namespace
        self._since: dict[Place, float] = {}
        self._told: dict[str, float] = {}
        self._epochs = count(1)

    def look(self) -> float:
        """Take the next step for everything that is left alone; return the seconds until the next look."""
        routes, sides = self._attached(), self._labelled(Mark.SIDE)
        homes = {home for home, _, _ in routes} | {side["metadata"]["namespace"] for side in sides}
        acting = {home: [*filter(_is_under_way, self._stored(CANARYRUNS, home))] for home in sorted(homes)}
        served = {(home, run["spec"]["service"]) for home, runs in acting.items() for run in runs}
        targets = {(home, run["spec"]["target"]["name"]) for home, runs in acting.items() for run in runs}
        busy = [
            self._give_back(home, service, kind)
            for home, service, kind in sorted(routes)
            if (home, service) not in served
        ]
        named = {(home, name(service)) for home, service, _ in routes for name in (side_name, way_back_name)}
        for side in sides:
            if (side["metadata"]["namespace"], side["metadata"]["labels"].get(Mark.TARGET)) not in targets:
                self._clear(side, named)
        enforced = _targets(self._caches[CANARYPOLICIES.plural].list(self._namespace))
        for deployment in self._labelled(Mark.GUARDED):
            self._tell_if_nobody_enforces(deployment, enforced)
        return BUSY_SECONDS if any(busy) else LOOK_SECONDS

    # -- what belongs to whom --------------------------------------------------------------------------------------

    def _attached(self) -> set[tuple[str, str, RouteKind]]:
        """Return the namespace and the stable Service of every route that names a side, and the kind of the route."""
        found: set[tuple[str, str, RouteKind]] = set()
        for kind in ROUTE_KINDS:
            with suppress(RefusedError):  # no such kind here, or not ours to read
                resource = resource_of_kind(kind)
                routes = self._hands.client.list(
                    resource, self._namespace, selector=f"{Mark.ATTACHED}={TRUE}"
                )
                found |= {(each["metadata"]["namespace"], stable_of(each), kind) for each in routes}
        return {each for each in found if each[1]}

    def _stored(self, resource: Resource, namespace: str) -> list[dict[str, Any]]:
        """Return the objects of a kind of ours; none where its CRD was surely deleted, and they with it."""
        try:
            return self._hands.client.list(resource, namespace)
        except UnknownKindError:
            if self._hands.client.get(CRDS.at("", f"{resource.plural}.{resource.group}")) is not None:
                raise
            return []

    def _labelled(self, mark: Mark) -> list[Json]:
        deployments = self._caches[DEPLOYMENTS.plural].list(self._namespace)
        return [each for each in deployments if mark in (each["metadata"].get("labels") or {})]

    # -- traffic ---------------------------------------------------------------------------------------------------

    def _give_back(self, namespace: str, service: str, kind: RouteKind) -> bool:
        """Take one step towards a route that names the Service alone; tell whether the next one may follow soon."""
        hands, target = self._hands, Target(namespace, service, side_name(service), RouteRef(kind=kind))
        seen = hands.router.read(target)
        if seen.route.weight_ppm == 0 and seen.route.way_back_ppm == 0:
            hands.router.write(target, DETACHED, seen)
            return True
        logger.warning("no run looks after the split traffic of %s/%s: it goes back", namespace, service)
        if seen.armed:
            hands.brake.kill(
                target, seen.route.coordinates, f"orphan-{seen.route.version}-{next(self._epochs)}"
            )
            return True
        return self._come_home(target, seen)

    def _come_home(self, target: Target, seen: Seen) -> bool:
        """After the point of no return: the Deployment gets its traffic once all its pods run what was tested."""
        client, name = self._hands.client, self._target_beside(target)
        observed = workload.observe(client, target.namespace, name)
        if isinstance(observed, Missing):
            return False
        stands = observed.workload
        whole = stands.settled and stands.current_ready >= max(1, stands.replicas) and stands.other_pods == 0
        if seen.route.way_back_ppm > 0:
            side = client.get(DEPLOYMENTS.at(target.namespace, way_back_name(name))) or {"metadata": {}}
            kept = (side["metadata"].get("annotations") or {}).get(Mark.TEMPLATE_HASH)
            whole = whole and kept == stands.template_hash
        if whole:
            workload.pause(client, target.namespace, name)
            self._hands.router.write(target, 0, seen)
        return whole

    def _target_beside(self, target: Target) -> str:
        """Return the Deployment of a Service's side; where no side tells, it has the Service's name."""
        for service in target.services[1:]:
            found = self._hands.client.get(SERVICES.at(target.namespace, service)) or {"metadata": {}}
            named = (found["metadata"].get("labels") or {}).get(Mark.TARGET)
            if named:
                return named
        return target.service

    def _clear(self, side: Json, named: set[Place]) -> None:
        """Delete a side when no route has named its Service for the time of a drain."""
        place = (side["metadata"]["namespace"], side["metadata"]["name"])
        client, now = self._hands.client, self._hands.clock.monotonic()
        services = client.list(SERVICES, place[0], selector=f"{Mark.SIDE}={place[1]}")
        names = [each["metadata"]["name"] for each in services]
        if any((place[0], each) in named for each in names):
            self._since.pop(place, None)
        elif now - self._since.setdefault(place, now) >= DRAIN_SECONDS:
            workload.delete_side(client, *place, names[0] if names else place[1])
            self._since.pop(place)

    # -- the hold --------------------------------------------------------------------------------------------------

    def _tell_if_nobody_enforces(self, deployment: Json, enforced: set[Place]) -> None:
        """Say on a Deployment that is held, and that no policy speaks of, how its hold ends."""
        namespace, name, uid = (deployment["metadata"][key] for key in ("namespace", "name", "uid"))
        now = self._hands.clock.monotonic()
        if (namespace, name) in enforced:
            self._told.pop(uid, None)
            return
        if now - self._told.get(uid, -TELL_SECONDS) < TELL_SECONDS:
            return
        if (namespace, name) in _targets(self._stored(CANARYPOLICIES, namespace)):
            return
        text = f"no CanaryPolicy speaks of {name}, and its changes stay held (spec.paused): `canary detach "
        text += f"{namespace}/{name}` gives it back, and so does its policy applied again with mode: Observe"
        subject = events.Subject(DEPLOYMENTS.kind, namespace, name, uid, DEPLOYMENTS.api_version)
        events.tell(
            self._hands.client, subject, events.Happening(Reason.DETACHED, text, self._hands.clock.now())
        )
        self._told[uid] = now


def _is_under_way(run: Json) -> bool:
    """Tell whether a run acts: it began to prepare, and has not given everything back."""
    status = run.get("status") or {}
    return status.get("phase", Phase.HELD) != Phase.HELD and not status.get("tidiedAt")


def _targets(policies: Iterable[Json]) -> set[Place]:
    """Return the Deployments that policies speak of."""
    return {
        (each["metadata"]["namespace"], ((each.get("spec") or {}).get("target") or {}).get("name", ""))
        for each in policies
    }
