"""The Deployment controller: from a Deployment to its ReplicaSets, as far as canary relies on it.

What it stands on is what a *paused* Deployment does: it finds, but never creates, the ReplicaSet of a new template;
scaling and lost pods go to the old one. Un-paused it rolls natively, within maxSurge and maxUnavailable. Left out are
the strategy Recreate (its Deployments cannot be adopted), the progress deadline and the history limit. Level-triggered:
each look takes one step, and the events of that step bring the next. Called by `loop.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from canary.lab.apiserver.objects import (
    Condition,
    Object,
    annotations_of,
    clone,
    is_deleting,
    name_of,
    namespace_of,
    short_hash,
    uid_of,
    with_condition,
)
from canary.lab.apiserver.store import STATUS, Store

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_NOT_COPIED = (REVISION, "kubectl.kubernetes.io/last-applied-configuration")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One look at a Deployment: its new ReplicaSet, if there is one, and the old ones, oldest first."""

    store: Store
    deployment: Object
    new: Object | None
    old: tuple[Object, ...]

    @property
    def spec(self) -> Object:
        return self.deployment["spec"]

    @property
    def paused(self) -> bool:
        return bool(self.spec.get("paused"))

    @property
    def replicas(self) -> int:
        return self.spec["replicas"]

    @property
    def all(self) -> tuple[Object, ...]:
        return self.old if self.new is None else (*self.old, self.new)

    @property
    def most(self) -> int:
        """How many pods there may be in mid-roll."""
        return self.replicas + _bounds(self.spec)[0]

    @property
    def least(self) -> int:
        """How many pods have to be available in mid-roll."""
        return self.replicas - _bounds(self.spec)[1]


def reconcile(store: Store, namespace: str, name: str) -> None:
    """Take one step towards the Deployment's spec, and say in its status how far it is."""
    kind = store.kinds.named("Deployment")
    deployment = store.find(kind, namespace, name)
    if deployment is None or is_deleting(deployment):
        return
    rollout = _look(store, deployment)
    _record_revision(rollout)
    if rollout.paused:
        _scale(rollout)
    elif rollout.new is None:
        _create(rollout)
    else:
        _roll(rollout, rollout.new)
    _write_status(_look(store, store.get(kind, namespace, name)))


def _look(store: Store, deployment: Object) -> Rollout:
    kind = store.kinds.named("ReplicaSet")
    owned = [obj for owned_kind, obj in store.owned_by(uid_of(deployment)) if owned_kind.key == kind.key]
    wanted = _bare(deployment["spec"]["template"])
    sets = sorted(owned, key=lambda entry: (entry["metadata"]["creationTimestamp"], _revision(entry)))
    new = next((entry for entry in sets if _bare(entry["spec"]["template"]) == wanted), None)
    return Rollout(store, deployment, new, tuple(entry for entry in sets if entry is not new))


def _bare(template: Object) -> Object:
    meta = template.get("metadata") or {}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}


def _revision(workload: Object) -> int:
    return int(annotations_of(workload).get(REVISION, "0"))


def _bounds(spec: Object) -> tuple[int, int]:
    """Return how many pods may stand above the wanted count, and how many may be missing."""
    rolling: Object = spec["strategy"].get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", 0), spec["replicas"], math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", 0), spec["replicas"], math.floor)
    return surge, min(1 if surge == unavailable == 0 else unavailable, spec["replicas"])


def _share(bound: int | str, replicas: int, rounded: Callable[[float], int]) -> int:
    return bound if isinstance(bound, int) else rounded(replicas * int(bound.removesuffix("%")) / 100)


def _counted(field: str, *sets: Object) -> int:
    return sum((entry.get("status") or {}).get(field, 0) for entry in sets)


def _available(*sets: Object) -> int:
    return _counted("availableReplicas", *sets)


def _wanted(*sets: Object) -> int:
    return sum(entry["spec"]["replicas"] for entry in sets)


def _record_revision(rollout: Rollout) -> None:
    if rollout.new is None:
        return
    highest = max((_revision(entry) for entry in rollout.old), default=0)
    revision = str(max(_revision(rollout.new), highest + 1))

    def change(obj: Object) -> Object:
        obj["metadata"]["annotations"] = {**annotations_of(obj), REVISION: revision}
        return obj

    for obj in (rollout.new, rollout.deployment):
        if annotations_of(obj).get(REVISION) != revision:
            rollout.store.rewrite(obj, change)


def _create(rollout: Rollout) -> None:
    """Create the ReplicaSet of the new template, as large as the surge allows."""
    deployment, template = rollout.deployment, clone(rollout.spec["template"])
    digest = short_hash(_bare(template))
    template.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = digest
    selector: Object = clone(rollout.spec["selector"])
    selector.setdefault("matchLabels", {})[HASH_LABEL] = digest
    kept = {key: value for key, value in annotations_of(deployment).items() if key not in _NOT_COPIED}
    revision = max((_revision(entry) for entry in rollout.old), default=0) + 1
    meta: Object = {
        "name": f"{name_of(deployment)}-{digest}",
        "namespace": namespace_of(deployment),
        "labels": dict(template["metadata"]["labels"]),
        "annotations": {**kept, REVISION: str(revision)},
        "ownerReferences": [owner_reference(deployment)],
    }
    spec: Object = {"replicas": _room(rollout, 0), "selector": selector, "template": template}
    rollout.store.create(rollout.store.kinds.named("ReplicaSet"), {"metadata": meta, "spec": spec})


def owner_reference(owner: Object) -> Object:
    """Return the reference that makes `owner` the controller of another object."""
    named = {field: owner["metadata"][field] for field in ("name", "uid")}
    typed = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    return {**typed, **named, "controller": True, "blockOwnerDeletion": True}


def _room(rollout: Rollout, present: int) -> int:
    """Return the size that the new ReplicaSet may have now, given that it has `present`."""
    return min(rollout.replicas, present + max(rollout.most - _wanted(*rollout.all), 0))


def _resize(rollout: Rollout, replica_set: Object, replicas: int) -> None:
    if replicas != replica_set["spec"]["replicas"]:
        rollout.store.rewrite(replica_set, lambda obj: {**obj, "spec": {**obj["spec"], "replicas": replicas}})


def _scale(rollout: Rollout) -> None:
    """Bring the one active ReplicaSet to the size in the spec; what was paused in mid-roll stays as it is."""
    active = [entry for entry in rollout.all if entry["spec"]["replicas"] > 0]
    candidates = active or [*rollout.all][-1:]
    if len(candidates) == 1:
        _resize(rollout, candidates[0], rollout.replicas)


def _roll(rollout: Rollout, new: Object) -> None:
    """Take one step of the native roll: grow the new, or shrink the old as far as enough pods are available."""
    present = new["spec"]["replicas"]
    if (target := _room(rollout, present)) != present:
        _resize(rollout, new, target)
        return
    spare = _wanted(*rollout.all) - rollout.least - (present - _available(new))
    idle = _available(*rollout.all) - rollout.least
    for entry in sorted(rollout.old, key=_available):  # pods that do not serve go first
        size = entry["spec"]["replicas"]
        sick = max(min(size - _available(entry), spare), 0)
        sound = max(min(size - sick, spare - sick, idle), 0)
        spare, idle = spare - sick - sound, idle - sound
        _resize(rollout, entry, size - sick - sound)


def _write_status(rollout: Rollout) -> None:
    before: Object = rollout.deployment.get("status") or {}
    status = {**_counts(rollout), "conditions": before.get("conditions") or []}
    told: Object = {**rollout.deployment, "status": status}
    for entry in (_availability(rollout), _progress(rollout)):
        told = with_condition(told, entry, rollout.store.clock.now())
    rollout.store.rewrite(told, lambda obj: {**obj, "status": told["status"]}, STATUS)


def _counts(rollout: Rollout) -> Object:
    every, new = rollout.all, [rollout.new] if rollout.new else []
    counts = {
        "replicas": _counted("replicas", *every),
        "updatedReplicas": _counted("replicas", *new),
        "readyReplicas": _counted("readyReplicas", *every),
        "availableReplicas": _available(*every),
        "unavailableReplicas": max(_wanted(*every) - _available(*every), 0),
    }
    told: Object = {field: count for field, count in counts.items() if count}
    return {**told, "observedGeneration": rollout.deployment["metadata"]["generation"]}


def _availability(rollout: Rollout) -> Condition:
    if _available(*rollout.all) >= rollout.least:
        said = "Deployment has minimum availability."
        return Condition("Available", "True", "MinimumReplicasAvailable", said)
    said = "Deployment does not have minimum availability."
    return Condition("Available", "False", "MinimumReplicasUnavailable", said)


def _progress(rollout: Rollout) -> Condition:
    if rollout.paused:
        return Condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    name = name_of(rollout.new or rollout.deployment)
    if _is_complete(rollout):
        said = f'ReplicaSet "{name}" has successfully progressed.'
        return Condition("Progressing", "True", "NewReplicaSetAvailable", said)
    return Condition("Progressing", "True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')


def _is_complete(rollout: Rollout) -> bool:
    new, pods = rollout.new, _counted("replicas", *rollout.all)
    return new is not None and pods == _counted("replicas", new) == _available(new) == rollout.replicas
