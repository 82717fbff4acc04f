"""What the EndpointSlices of a Service say of a target, and what a write does to ours: pure.

Whoever sends requests to a Service merges all of its slices, so one slice of ours, with k pods of the side beside the n
of the Service's own slices, is a share of k/(n+k). The slice is made empty, holds ready pods only, and remembers on
itself what we last wrote, so that somebody else's hand is told from a pod that went. A write takes away or adds, never
both: what takes away needs nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from canary.api.marks import TRUE, Mark
from canary.api.reasons import GROUP, PPM
from canary.api.run import Coordinate
from canary.core.evidence import Acceptance, Drift, Route
from canary.core.portions import pods_within, share_ppm
from canary.core.telling.wording import share
from canary.kube.resources import ENDPOINTSLICES
from canary.traffic.brake import SLICES, Object, Operation, set_mark, stable_of
from canary.traffic.router import Seen, Target
from canary.traffic.rules import annotations_of, at_version, compact, removed_marks
from canary.traffic.sight import NO_ROUTE_EPOCH, last_writer, name_of, number_on

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
KEPT_FIELDS = ("addresses", "targetRef", "nodeName", "zone")
READY = {"ready": True, "serving": True, "terminating": False}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The slices of a look, by what they are to the target."""

    ours: Object | None
    stable: int
    """Ready addresses of the Service that are not ours."""
    side: tuple[Json, ...]
    """Ready endpoints of the new version, as our slice would name them."""
    way_back: tuple[Json, ...]
    ports: tuple[Json, ...]
    """Ports of the side's own slices; those of the way back are the same, by name."""
    address_type: str

    @property
    def named(self) -> list[Json]:
        return list((self.ours or {}).get("endpoints") or [])

    def within(self, ppm: int) -> int:
        """Return how many of the side's ready pods make up a share."""
        return min(pods_within(ppm, self.stable), len(self.side))


def found_in(target: Target, slices: Iterable[Json]) -> Found:
    """Sort the slices of the target's three Services."""
    by_service: dict[str, list[Json]] = {service: [] for service in target.services}
    ours: Json | None = None
    for each in sorted(slices, key=name_of):
        service = (each["metadata"].get("labels") or {}).get(SERVICE_LABEL, "")
        if is_ours(each, target):
            ours = each
        elif service in by_service:
            by_service[service].append(each)
    stable, side, back = (by_service[service] for service in target.services)
    kind = str((ours or next(iter([*stable, *side]), {})).get("addressType", "IPv4"))
    beside = [each for each in (*side, *back) if each.get("addressType") == kind]
    ports = next((each.get("ports") or [] for each in beside if _ready(each)), [])
    return Found(
        ours=ours,
        stable=len(
            {address for each in stable if each.get("addressType") == kind for address in _addresses(each)}
        ),
        side=_named(side, kind, ports),
        way_back=_named(back, kind, ports),
        ports=tuple(ports),
        address_type=kind,
    )


def is_ours(piece: Object, target: Target) -> bool:
    """Tell whether a slice is the one that we made for the target."""
    labels = piece["metadata"].get("labels") or {}
    return name_of(piece) == target.side_service and labels.get(MANAGER_LABEL) == GROUP


def see(target: Target, slices: Sequence[Json]) -> Seen:
    """Return what the slices say; nobody accepts a slice, so what is stored counts as accepted."""
    found = found_in(target, slices)
    ours = found.ours
    if ours is None:
        route = Route(False, 0, "", Acceptance.ACCEPTED, epoch=NO_ROUTE_EPOCH)
        return Seen(route, routes=tuple(slices))
    marks = annotations_of(ours)
    back, asked = Mark.WAY_BACK in marks, number_on(ours, Mark.WEIGHT)
    drift, detail = _drift(found)
    ppm = 0 if back else share_ppm(len(found.named), found.stable)
    beyond = _kept(found, asked) != found.named
    epoch = number_on(ours, Mark.EPOCH)
    route = Route(
        attached=stable_of(ours) == target.service,
        weight_ppm=ppm,
        version=f"{name_of(ours)}={ours['metadata']['resourceVersion']}",
        acceptance=Acceptance.ACCEPTED,
        drift=drift,
        detail=detail,
        last_writer=last_writer([ours]),
        epoch=epoch,
        last_epoch=epoch,
        way_back_ppm=PPM if back and found.way_back and _uids(found.named) == _uids(found.way_back) else 0,
        coordinates=(Coordinate(resource=SLICES, name=name_of(ours), rule=0, canary=0, stable=0),),
        nearest_ppm=None if back or beyond or len(found.named) < found.within(asked) else asked,
        excess=beyond and not back,
    )
    return Seen(route, ppm, Mark.KILL in marks, tuple(slices))


def portion_operations(found: Found, target: Target, ppm: int) -> tuple[list[Operation], bool]:
    """Return the patch towards a share, and whether it adds a pod: what has to go, goes by a write of its own."""
    assert found.ours is not None
    kept = _kept(found, ppm)
    adds = [each for each in found.side if _uid(each) not in _uids(kept)][: found.within(ppm) - len(kept)]
    wanted = kept if kept != found.named else [*kept, *adds]
    marks = _marks(target, wanted) | {Mark.WEIGHT: str(ppm)}
    marks |= {Mark.KILL: compact([(0, 0, 0)])} if target.armed else {}
    unset = (Mark.WAY_BACK,) if target.armed else (Mark.WAY_BACK, Mark.KILL)
    operations = [
        *at_version(found.ours),
        *(set_mark(mark, text) for mark, text in marks.items()),
        *removed_marks(found.ours, unset),
        *_filled(found, wanted),
    ]
    return operations, len(wanted) > len(kept)


def way_back_operations(found: Found, target: Target, epoch: str) -> list[Operation]:
    """Name every ready pod of the last good version, and no other: as much as can be had of the traffic."""
    assert found.ours is not None
    marks = _marks(target, found.way_back)
    marks |= {Mark.EPOCH: epoch, Mark.WEIGHT: "0", Mark.WAY_BACK: str(PPM)}
    return [
        *(set_mark(mark, text) for mark, text in marks.items()),
        *removed_marks(found.ours, (Mark.KILL,)),
        *_filled(found, found.way_back),
    ]


def new_slice(found: Found, target: Target, owner: Object) -> Json:
    """Return our slice as it is made: empty, and gone with the Deployment of the side."""
    metadata = owner["metadata"]
    reference = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    marks = _marks(target, ()) | {Mark.WEIGHT: "0"}
    marks |= {Mark.KILL: compact([(0, 0, 0)])} if target.armed else {}
    body = try_out(target)
    body["metadata"]["annotations"] = {mark.value: text for mark, text in marks.items()}
    body["metadata"]["ownerReferences"] = [reference]
    return {**body, "addressType": found.address_type, "ports": list(found.ports)}


def try_out(target: Target) -> Json:
    """Return the least that our slice has to be: whether it could be made is asked of the API server by this."""
    labels = {SERVICE_LABEL: target.service, MANAGER_LABEL: GROUP, Mark.ATTACHED.value: TRUE}
    ref = ENDPOINTSLICES.at(target.namespace, target.side_service)
    return ref.manifest({"labels": labels}, addressType="IPv4", endpoints=[])


def _marks(target: Target, endpoints: Sequence[Json]) -> dict[Mark, str]:
    named = {Mark.STABLE: target.service, Mark.ADDRESSES: ",".join(_address(each) for each in endpoints)}
    return named | ({Mark.RUN: target.run} if target.run else {})


def _filled(found: Found, endpoints: Sequence[Json]) -> list[Operation]:
    operations: list[Operation] = [{"op": "add", "path": "/endpoints", "value": list(endpoints)}]
    if found.ports:
        operations.append({"op": "add", "path": "/ports", "value": list(found.ports)})
    return operations


def _kept(found: Found, ppm: int) -> list[Json]:
    """Return what may stay of what our slice names: pods that are ready, and no more than the share allows."""
    ready = _uids(found.side)
    return [each for each in found.named if _uid(each) in ready][: found.within(ppm)]


def _drift(found: Found) -> tuple[Drift | None, str]:
    """Compare what our slice names with what we last wrote; a pod that went since moves neither."""
    assert found.ours is not None
    wrote = set(filter(None, annotations_of(found.ours).get(Mark.ADDRESSES, "").split(",")))
    names, where = {_address(each) for each in found.named}, f"slice {name_of(found.ours)}"
    if names - wrote:
        return Drift.RAISED, f"{where} names {sorted(names - wrote)[0]}, which was not written"
    if wrote - names:
        return Drift.LOWERED, f"{where} no longer names {sorted(wrote - names)[0]}"
    return None, ""


def _named(pieces: Sequence[Json], kind: str, ports: Sequence[Json]) -> tuple[Json, ...]:
    """Return the ready endpoints of a Service as our slice names them, those of other ports left out."""
    usable = [
        each for each in pieces if each.get("addressType") == kind and (each.get("ports") or []) == ports
    ]
    found = {_uid(each): each for piece in usable for each in _ready(piece)}
    return tuple(
        {**{field: each[field] for field in KEPT_FIELDS if field in each}, "conditions": READY}
        for _, each in sorted(found.items())
    )


def _ready(piece: Object) -> list[Json]:
    return [
        each
        for each in piece.get("endpoints") or []
        if (each.get("conditions") or {}).get("ready") is not False and each.get("addresses")
    ]


def _addresses(piece: Object) -> list[str]:
    return [_address(each) for each in _ready(piece)]


def _address(endpoint: Object) -> str:
    return str((endpoint.get("addresses") or [""])[0])


def _uid(endpoint: Object) -> str:
    """Return what names the pod behind an endpoint."""
    return str((endpoint.get("targetRef") or {}).get("uid") or _address(endpoint))


def _uids(endpoints: Iterable[Object]) -> set[str]:
    return {_uid(each) for each in endpoints}


# -- may a Service be split so -----------------------------------------------------------------------------------------


def refusals(target: Target, service: Object | None, slices: Sequence[Json]) -> list[str]:
    """Say why this Service's requests cannot be split by a slice, each with its remedy."""
    who = f"Service {target.service}"
    if service is None:
        return [f"{who} does not exist; create it"]
    spec, said = service["spec"], annotations_of(service)
    found: list[str] = []
    if target.route.name is not None:
        found.append("route.name names a route, and with route.kind EndpointSlice there is none; remove it")
    if spec.get("clusterIP") == "None":
        found.append(f"{who} is headless: its clients choose a pod by DNS and keep it; give it a cluster IP")
    if spec.get("sessionAffinity", "None") != "None":
        found.append(f"{who} keeps sessions, so users would stay on the new version; remove sessionAffinity")
    for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if spec.get(field, "Cluster") != "Cluster":
            found.append(f"{who} says {field}: {spec[field]}, so each node has a share of its own; remove it")
    zones = [key for key in ZONE_HINTS if said.get(key, "Disabled").lower() != "disabled"]
    zones += ["trafficDistribution"] if spec.get("trafficDistribution") else []
    found += [
        f"{who} prefers near pods ({each}), so each zone has a share of its own; remove it" for each in zones
    ]
    if len(spec.get("ipFamilies") or []) > 1:
        found.append(
            f"{who} has two address families, and only one could be split; set ipFamilyPolicy: SingleStack"
        )
    foreign = [each for each in slices if _is_foreign(each, target)]
    found += [
        f"slice {name_of(each)} adds addresses to {who} that its selector does not find; remove it"
        for each in foreign
    ]
    return found


ZONE_HINTS = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")


def _is_foreign(piece: Object, target: Target) -> bool:
    labels = piece["metadata"].get("labels") or {}
    own = labels.get(MANAGER_LABEL) == "endpointslice-controller.k8s.io" or is_ours(piece, target)
    return labels.get(SERVICE_LABEL) == target.service and not own


def planned(target: Target, slices: Sequence[Json]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return in words what would be written, and what to know of a split by pods."""
    stable = found_in(target, slices).stable
    least = share(share_ppm(1, stable)) if stable else "all of the traffic"
    return (
        (
            f"EndpointSlice {target.side_service}: created empty beside those of {target.service}, owned by the side's "
            "Deployment; each step names so many of its ready pods",
        ),
        (
            f"shares are whole pods: beside {stable} ready ones the least is {least}, and 50 % is the most",
            "the commit is a native roll with customers on it: it begins after the last step and the bake, and from "
            "then on no single write takes everything back",
            "requests split evenly over the addresses of the Service: clients that hold connections, and readers of "
            "the older Endpoints object, do not",
        ),
    )
