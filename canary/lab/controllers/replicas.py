"""The ReplicaSet controller: as many pods as the spec says, and a status that counts them.

A missing pod is created from the template, a surplus one deleted, those that do not serve first.
Level-triggered; called by `loop.py`.
"""

from canary.lab.apiserver.objects import Object, clone, is_deleting, is_true, name_of, namespace_of, uid_of
from canary.lab.apiserver.store import STATUS, Store
from canary.lab.controllers.deployments import owner_reference

MAX_BURST = 500  # pods created or deleted in one look, as in Kubernetes


def reconcile(store: Store, namespace: str, name: str) -> None:
    """Create or delete pods, and count them."""
    replica_set = store.find(store.kinds.named("ReplicaSet"), namespace, name)
    if replica_set is None or is_deleting(replica_set):
        return
    pods = _pods(store, replica_set)
    missing = replica_set["spec"]["replicas"] - len(pods)
    for _ in range(min(missing, MAX_BURST)):
        store.create(store.kinds.named("Pod"), _pod(replica_set))
    for pod in sorted(pods, key=_worth)[: min(max(-missing, 0), MAX_BURST)]:
        store.delete(store.kinds.named("Pod"), (namespace, name_of(pod)))
    _count(store, replica_set)


def _pods(store: Store, replica_set: Object) -> list[Object]:
    owned = store.owned_by(uid_of(replica_set))
    return [pod for kind, pod in owned if kind.name == "Pod" and not is_deleting(pod)]


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


def _worth(pod: Object) -> tuple[bool, str]:
    """Order pods for deletion: those that are not ready first, then by name, so that runs repeat."""
    return is_true(pod, "Ready"), name_of(pod)


def _count(store: Store, replica_set: Object) -> None:
    pods = _pods(store, replica_set)
    ready = sum(is_true(pod, "Ready") for pod in pods)
    counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
    status: Object = {field: count for field, count in counts.items() if count}
    status |= {"replicas": len(pods), "observedGeneration": replica_set["metadata"]["generation"]}
    store.rewrite(replica_set, lambda obj: {**obj, "status": status}, STATUS)
