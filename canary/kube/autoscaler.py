"""The freeze of an autoscaler: while customers meet the new version, it may not scale the old one down.

With part of the traffic elsewhere an autoscaler sees idle pods, and takes away what a rollback needs. Scaling up stays
allowed. The former `spec.behavior` is kept in an annotation and comes back whole, since the API server fills in what
was left out. An autoscaler that another controller owns (KEDA's, for example) is never written.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from canary.api.marks import Mark
from canary.errors import ConflictError
from canary.kube.client import Client, Intent
from canary.kube.resources import DEPLOYMENTS, HPAS, Ref

DISABLED = "Disabled"
WINDOW_SECONDS = 300.0  # for how long an autoscaler remembers, where its behavior says nothing
MARK_PATH = "/metadata/annotations/" + Mark.FORMER_BEHAVIOR.replace("/", "~1")

Json = dict[str, Any]


def autoscalers(client: Client, namespace: str, deployment: str) -> list[Json]:
    """Return the autoscalers that scale a Deployment."""
    return [each for each in client.list(HPAS, namespace) if _scales(each, deployment)]


def may_shrink(hpa: Mapping[str, Any]) -> bool:
    """Tell whether it may scale down and is ours to freeze."""
    owners = hpa["metadata"].get("ownerReferences") or []
    return not any(owner.get("controller") for owner in owners) and not _is_disabled(hpa)


def is_frozen(hpa: Mapping[str, Any]) -> bool:
    """Tell whether we froze it."""
    return Mark.FORMER_BEHAVIOR in (hpa["metadata"].get("annotations") or {})


def window_seconds(hpas: Sequence[Mapping[str, Any]]) -> float:
    """Return for how long stable has to carry all traffic before these may scale down again."""
    down = [((_former(each) or {}).get("scaleDown") or {}).get("stabilizationWindowSeconds") for each in hpas]
    return max((WINDOW_SECONDS if each is None else float(each) for each in down), default=0.0)


def freeze(client: Client, hpa: Mapping[str, Any]) -> None:
    """Forbid scaling down, and keep the former behavior beside it; a second freeze keeps the first's."""
    former = _former(hpa) if is_frozen(hpa) else hpa["spec"].get("behavior")
    patch = {
        "metadata": {
            "resourceVersion": hpa["metadata"]["resourceVersion"],
            "annotations": {Mark.FORMER_BEHAVIOR.value: json.dumps(former, separators=(",", ":"))},
        },
        "spec": {"behavior": {"scaleDown": {"selectPolicy": DISABLED}}},
    }
    if client.merge_patch(_ref(hpa), patch, intent=Intent.NEUTRAL) is None:
        raise ConflictError(f"{_ref(hpa)} is gone")


def thaw(client: Client, hpa: Mapping[str, Any]) -> None:
    """Put the former behavior back whole, unless somebody wrote another one since; then drop our mark and ownership."""
    metadata, former = hpa["metadata"], _former(hpa)
    at, only = metadata["resourceVersion"], len(metadata["annotations"]) == 1
    operations: list[Json] = [{"op": "replace", "path": "/metadata/resourceVersion", "value": at}]
    operations.append({"op": "remove", "path": "/metadata/annotations" if only else MARK_PATH})
    if _is_disabled(hpa):
        behavior = {"op": "remove"} if former is None else {"op": "replace", "value": former}
        operations.append({**behavior, "path": "/spec/behavior"})
    client.json_patch(_ref(hpa), operations, intent=Intent.NEUTRAL)
    client.disown(_ref(hpa))


def _former(hpa: Mapping[str, Any]) -> Json | None:
    """Read what we kept; where somebody rewrote it, the autoscaler's own defaults come back."""
    try:
        kept = json.loads((hpa["metadata"].get("annotations") or {}).get(Mark.FORMER_BEHAVIOR, "null"))
    except ValueError:
        return None
    return kept if isinstance(kept, dict) else None


def _is_disabled(hpa: Mapping[str, Any]) -> bool:
    down = (hpa["spec"].get("behavior") or {}).get("scaleDown") or {}
    return down.get("selectPolicy") == DISABLED


def _scales(hpa: Mapping[str, Any], deployment: str) -> bool:
    target = hpa["spec"].get("scaleTargetRef") or {}
    group = str(target.get("apiVersion", DEPLOYMENTS.api_version)).partition("/")[0]
    return (target.get("kind"), target.get("name"), group) == (
        DEPLOYMENTS.kind,
        deployment,
        DEPLOYMENTS.group,
    )


def _ref(hpa: Mapping[str, Any]) -> Ref:
    return HPAS.at(hpa["metadata"]["namespace"], hpa["metadata"]["name"])
