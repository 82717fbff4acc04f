"""The ReplicaSet controller: as many pods as the spec says, and a status that counts them.

A missing pod is created from the template, a surplus one deleted, those that do not serve first.
Level-triggered; called by `controllers.py`.
"""

from datetime import datetime

from canary.lab.objects import (
    Object,
    clone,
    condition,
    is_deleting,
    is_true,
    moment,
    name_of,
    namespace_of,
    uid_of,
)
from canary.lab.rollout import owner_reference
from canary.lab.store import STATUS, Store

MAX_BURST = 500  # pods created or deleted in one look, as in Kubernetes


def reconcile(store: Store, now: datetime, namespace: str, name: str) -> float | None:
    """Create or delete pods and count them; return in how many seconds to look again, or None."""
    kind = store.kinds.named("ReplicaSet")
    replica_set = store.find(kind, namespace, name)
    if replica_set is None or is_deleting(replica_set):
        return None
    pods = [pod for pod_kind, pod in store.owned_by(uid_of(replica_set)) if pod_kind.name == "Pod"]
    active = [pod for pod in pods if not is_deleting(pod)]
    missing = replica_set["spec"]["replicas"] - len(active)
    for _ in range(min(missing, MAX_BURST)):
        store.create(store.kinds.named("Pod"), _pod(replica_set))
    for pod in sorted(active, key=_worth)[: min(max(-missing, 0), MAX_BURST)]:
        store.delete(store.kinds.named("Pod"), (namespace, name_of(pod)))
    return _count(store, now, replica_set)


def _pod(replica_set: Object) -> Object:
    template: Object = clone(replica_set["spec"]["template"])
    meta = template.get("metadata") or {}
    kept = {field: meta[field] for field in ("labels", "annotations") if field in meta}
    owner = {
        "generateName": f"{name_of(replica_set)}-",
        "namespace": namespace_of(replica_set),
        "ownerReferences": [owner_reference(replica_set)],
    }
    return {"metadata": {**kept, **owner}, "spec": template["spec"], "status": {"phase": "Pending"}}


def _worth(pod: Object) -> tuple[bool, str, str]:
    """Order pods for deletion: those that are not ready first, then by name, so that runs repeat."""
    return (is_true(pod, "Ready"), "", name_of(pod))


def _count(store: Store, now: datetime, replica_set: Object) -> float | None:
    kind = store.kinds.named("ReplicaSet")
    owned = [pod for pod_kind, pod in store.owned_by(uid_of(replica_set)) if pod_kind.name == "Pod"]
    pods = [pod for pod in owned if not is_deleting(pod)]
    ready = [pod for pod in pods if is_true(pod, "Ready")]
    least = replica_set["spec"].get("minReadySeconds", 0)
    waits = [least - _ready_for(pod, now) for pod in ready]
    counts = {
        "fullyLabeledReplicas": len(pods),
        "readyReplicas": len(ready),
        "availableReplicas": sum(wait <= 0 for wait in waits),
    }
    status: Object = {field: count for field, count in counts.items() if count}
    status |= {"replicas": len(pods), "observedGeneration": replica_set["metadata"]["generation"]}
    place = (namespace_of(replica_set), name_of(replica_set))
    store.update(kind, place, lambda obj: {**obj, "status": status}, STATUS)
    return min((wait for wait in waits if wait > 0), default=None)


def _ready_for(pod: Object, now: datetime) -> float:
    since = condition(pod, "Ready")
    return (now - moment(since["lastTransitionTime"])).total_seconds() if since else 0.0
