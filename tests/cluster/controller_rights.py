"""What the controller may do on a bed, and what it did: its ClusterRole here, and the API server's audit log.

The role holds each right that a run from adoption to its end was seen to use, and the few that only rarer roads need,
with the road. Whatever the controller asks beyond it is answered 403 and found by a test.
"""

import json
from pathlib import Path
from typing import Any

from canary.api.reasons import GROUP

Object = dict[str, Any]
Right = tuple[str, str]  # a verb, and a resource as group/plural/subresource

GRANTED: dict[str, str] = {
    "pods": "list",
    "services": "get list create delete",
    "events": "create",
    "apps/deployments": "get list watch create patch delete",
    "apps/replicasets": "list",
    "apps/controllerrevisions": "create",
    "apiextensions.k8s.io/customresourcedefinitions": "get",
    f"{GROUP}/canarypolicies": "get list watch",
    f"{GROUP}/canarypolicies/status": "patch",
    f"{GROUP}/canaryruns": "get list watch create",
    f"{GROUP}/canaryruns/status": "patch",
    f"{GROUP}/canaryrequests": "list watch",
    "coordination.k8s.io/leases": "get create patch",
    "discovery.k8s.io/endpointslices": "list",
    "gateway.networking.k8s.io/httproutes": "get list patch",
    "networking.k8s.io/networkpolicies": "list",
    "policy/poddisruptionbudgets": "get list create delete",
}
RARER: dict[str, str] = {
    f"{GROUP}/canaryrequests/status": "patch",  # a person asks for something
    "apps/controllerrevisions": "get list delete",  # a commit is taken back; a Deployment is given back
}


def rights(table: dict[str, str]) -> set[Right]:
    return {(verb, resource) for resource, verbs in table.items() for verb in verbs.split()}


def cluster_role() -> list[Object]:
    """Return the rules of the controller's role."""
    return [_rule(resource, verbs.split()) for table in (GRANTED, RARER) for resource, verbs in table.items()]


def _rule(resource: str, verbs: list[str]) -> Object:
    first, _, rest = resource.partition("/")
    group, plural = (first, rest) if rest else ("", first)
    return {"apiGroups": [group], "resources": [plural], "verbs": verbs}


def used(audit_log: Path, namespaces: set[str]) -> tuple[set[Right], set[Right]]:
    """Return the rights that the controller used in these namespaces or cluster-wide, and those that it was denied."""
    allowed: set[Right] = set()
    denied: set[Right] = set()
    for line in audit_log.read_text().splitlines():
        event = json.loads(line)
        asked = event.get("objectRef") or {}
        if asked.get("namespace", "") not in {"", *namespaces}:
            continue  # another test in the controller's name
        parts = (asked.get("apiGroup", ""), asked.get("resource", ""), asked.get("subresource", ""))
        right = (event["verb"], "/".join(part for part in parts if part))
        (denied if event["responseStatus"].get("code") == 403 else allowed).add(right)
    return allowed, denied
