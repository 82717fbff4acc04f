"""The brake's two verbs by way of the API client, for the controller and for `canary abort --now` alike.

Enter: the plural of a route's kind, a namespace and a name, as coordinates keep them. Every patch is a lowering write,
so no lease is asked for. Imports no pydantic, so that the command line stays quick.
"""

from collections.abc import Sequence

from canary.errors import RefusedError
from canary.kube.client import Client, Intent
from canary.kube.resources import ENDPOINTSLICES, GRPCROUTES, HTTPROUTES, Ref, Resource
from canary.traffic.brake import Object, Operation

ROUTE_RESOURCES = {
    each.plural: each for each in (HTTPROUTES, GRPCROUTES)
}  # by the word that coordinates keep
BRAKED = {**ROUTE_RESOURCES, ENDPOINTSLICES.plural: ENDPOINTSLICES}
"""Everything that may lead to a side: routes, and a slice of ours where shares are whole pods."""


class ClientHands:
    """Reads and lowers routes. Raises RefusedError for a kind of route that is not known here."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._client.get(route_ref(resource, namespace, name))

    def patch(
        self, resource: str, namespace: str, name: str, operations: Sequence[Operation]
    ) -> Object | None:
        ref = route_ref(resource, namespace, name)
        return self._client.json_patch(ref, operations, intent=Intent.LOWERING)


def resource_of_kind(kind: str) -> Resource:
    """Return the resource of a policy's `spec.route.kind`. Raise RefusedError for a kind that is no route."""
    for each in BRAKED.values():
        if each.kind == kind:
            return each
    raise RefusedError(f"{kind[:40]!r} is no kind of route that is known here", code="CAN-3003")


def route_ref(resource: str, namespace: str, name: str) -> Ref:
    """Return the reference of a route by the plural of its kind."""
    if resource not in BRAKED:
        raise RefusedError(f"the brake does not know routes of the kind {resource[:40]!r}", code="CAN-3003")
    return BRAKED[resource].at(namespace, name)
