"""The router where there is none: one EndpointSlice of ours beside those of the Service, k pods of n+k.

The same five verbs as the Gateway API's, over one object that we own. A share is the most whole pods that are not above
it; which pods are ready, and how many of the old version, is read anew in every look from the slices that the cluster's
own controller keeps. Created empty and emptied by a kill, it is only ever deleted by DETACHED.
"""

from collections.abc import Sequence

from canary.api.marks import Mark
from canary.api.run import Coordinate
from canary.errors import ConflictError, RefusedError
from canary.kube.client import Client, Intent
from canary.kube.resources import DEPLOYMENTS, ENDPOINTSLICES, SERVICES, Ref
from canary.traffic import brake, slices
from canary.traffic.brake import Receipt
from canary.traffic.route_hands import ClientHands
from canary.traffic.router import Detached, Outcome, Plan, Seen, Target, Wanted, WayBack


class SliceRouter:
    """Splits traffic by the pods that the slices of a Service name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def plan(self, target: Target) -> Plan:
        pieces = self._pieces(target)
        service = self._client.get(SERVICES.at(target.namespace, target.service))
        writes, warnings = slices.planned(target, pieces)
        return Plan(writes, tuple(slices.refusals(target, service, pieces)), warnings)

    def read(self, target: Target, known: Seen | None = None) -> Seen:
        return slices.see(target, self._pieces(target))

    def write(self, target: Target, wanted: Wanted, seen: Seen) -> Receipt:
        if isinstance(wanted, Detached):
            return self._detach(target, seen)
        found = slices.found_in(target, seen.routes)
        if found.ours is None:
            return self._attach(target, wanted, found)
        if isinstance(wanted, WayBack):
            operations, intent = slices.way_back_operations(found, target, wanted.epoch), Intent.LOWERING
            return self._patch(target, 0, (operations, intent))
        operations, adds = slices.portion_operations(found, target, wanted)
        return self._patch(target, wanted, (operations, Intent.RAISING if adds else Intent.LOWERING))

    def verify(self, target: Target, receipt: Receipt) -> Outcome:
        seen = self.read(target).route
        stored = {each.name: each.version for each in receipt.written}
        known = any(seen.version == f"{name}={version}" for name, version in stored.items())
        ours = known or (seen.drift is None and seen.gives(receipt.weight_ppm))
        return Outcome.ACCEPTED if ours and seen.exists else Outcome.DRIFTED

    def _pieces(self, target: Target) -> list[dict[str, object]]:
        selector = f"{slices.SERVICE_LABEL} in ({','.join(target.services)})"
        return self._client.list(ENDPOINTSLICES, target.namespace, selector=selector)

    def _attach(self, target: Target, wanted: Wanted, found: slices.Found) -> Receipt:
        """Make the slice, empty: whatever raced with us can only meet a name that is taken."""
        if wanted != 0:
            raise ConflictError(f"slice {target.side_service} is gone: {target.side_service} has no traffic")
        side = self._client.get(SERVICES.at(target.namespace, target.side_service)) or {"metadata": {}}
        name = (side["metadata"].get("labels") or {}).get(Mark.SIDE, target.side_service)
        owner = self._client.get(DEPLOYMENTS.at(target.namespace, name))
        if owner is None:
            raise ConflictError(f"Deployment {name} is gone: its slice would have no owner")
        body = slices.new_slice(found, target, owner)
        stored = self._client.create(ENDPOINTSLICES, body, intent=Intent.RAISING)
        return Receipt(0, (brake.written_of(brake.SLICES, stored),))

    def _detach(self, target: Target, seen: Seen) -> Receipt:
        if seen.route.weight_ppm > 0 or seen.route.way_back_ppm > 0:
            raise RefusedError(
                f"{target.side_service} still has traffic; empty its slice before it is taken out"
            )
        ours = slices.found_in(target, seen.routes).ours
        if ours is not None:
            self._client.delete(_ref(target), uid=ours["metadata"]["uid"], intent=Intent.LOWERING)
        return Receipt(0, ())

    def _patch(self, target: Target, ppm: int, change: tuple[Sequence[brake.Operation], Intent]) -> Receipt:
        operations, intent = change
        stored = self._client.json_patch(_ref(target), operations, intent=intent)
        if stored is None:
            raise ConflictError(f"{_ref(target)} is gone")
        return Receipt(ppm, (brake.written_of(brake.SLICES, stored),))


class SliceBrake:
    """The brake for a slice of ours: it has one name, and everything in it goes."""

    def __init__(self, client: Client) -> None:
        self._hands = ClientHands(client)

    def kill(self, target: Target, coordinates: Sequence[Coordinate], epoch: str) -> Receipt:
        cut = brake.Cut(target.namespace, target.service, target.side_service, epoch)
        return brake.kill(self._hands, cut, [brake.slice_place(target.side_service)])


def _ref(target: Target) -> Ref:
    return ENDPOINTSLICES.at(target.namespace, target.side_service)
