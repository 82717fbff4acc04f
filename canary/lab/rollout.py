"""The Deployment controller: from a Deployment to its ReplicaSets, as Kubernetes does it.

What canary stands on is what a *paused* Deployment does: it finds, but never creates, the ReplicaSet of a new
template; scaling and lost pods go to the old one; the progress deadline stops. Un-paused it rolls natively,
within maxSurge and maxUnavailable. Level-triggered: each look takes one step, and the events of that step
bring the next. Called by `controllers.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from canary.lab.conditions import Condition, with_condition, without_condition
from canary.lab.objects import (
    Object,
    annotations_of,
    clone,
    condition,
    is_deleting,
    moment,
    name_of,
    namespace_of,
    short_hash,
    uid_of,
)
from canary.lab.store import STATUS, Store

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = (REVISION, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration")
_TIMED_OUT = "ProgressDeadlineExceeded"
_COMPLETE = "NewReplicaSetAvailable"


@dataclass(frozen=True, slots=True)
class Rollout:
    """One look at a Deployment: its new ReplicaSet, if there is one, and the old ones, oldest first."""

    store: Store
    now: datetime
    deployment: Object
    new: Object | None
    old: tuple[Object, ...]

    @property
    def spec(self) -> Object:
        return self.deployment["spec"]

    @property
    def replicas(self) -> int:
        return self.spec["replicas"]

    @property
    def all(self) -> tuple[Object, ...]:
        return self.old if self.new is None else (*self.old, self.new)

    @property
    def surge(self) -> int:
        return _bounds(self.spec)[0]

    @property
    def max_unavailable(self) -> int:
        return _bounds(self.spec)[1]


def reconcile(store: Store, now: datetime, namespace: str, name: str) -> float | None:
    """Take one step towards the Deployment's spec; return in how many seconds to look again, or None."""
    deployment = store.find(store.kinds.named("Deployment"), namespace, name)
    if deployment is None or is_deleting(deployment):
        return None
    rollout = _look(store, now, _with_pause_condition(store, now, deployment))
    _record_revision(rollout)
    paused = bool(rollout.spec.get("paused"))
    rolls = not paused and not _was_scaled(rollout)
    if not rolls:
        _scale(rollout)
    elif rollout.new is None:
        _create(rollout)
    else:
        _roll(rollout)
    if not rolls or _is_complete(rollout):
        _forget_history(rollout)
    return _write_status(
        _look(store, now, store.get(store.kinds.named("Deployment"), namespace, name)), rolls
    )


def _look(store: Store, now: datetime, deployment: Object) -> Rollout:
    kind = store.kinds.named("ReplicaSet")
    owned = [obj for owned_kind, obj in store.owned_by(uid_of(deployment)) if owned_kind.key == kind.key]
    wanted = _bare(deployment["spec"]["template"])
    sets = sorted(owned, key=lambda entry: (entry["metadata"]["creationTimestamp"], _revision(entry)))
    new = next((entry for entry in sets if _bare(entry["spec"]["template"]) == wanted), None)
    return Rollout(store, now, deployment, new, tuple(entry for entry in sets if entry is not new))


def _bare(template: Object) -> Object:
    meta = template.get("metadata") or {}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}


def _revision(workload: Object) -> int:
    return int(annotations_of(workload).get(REVISION, "0"))


def _bounds(spec: Object) -> tuple[int, int]:
    """Return how many pods may stand above the wanted count, and how many may be missing."""
    rolling: Object = spec["strategy"].get("rollingUpdate") or {}
    if spec["strategy"]["type"] == "Recreate":
        return 0, spec["replicas"]
    surge = _share(rolling.get("maxSurge", 0), spec["replicas"], math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", 0), spec["replicas"], math.floor)
    return surge, min(1 if surge == unavailable == 0 else unavailable, spec["replicas"])


def _share(bound: int | str, replicas: int, rounded: Callable[[float], int]) -> int:
    return bound if isinstance(bound, int) else rounded(replicas * int(bound.removesuffix("%")) / 100)


def _status_of(workload: Object, field: str) -> int:
    return (workload.get("status") or {}).get(field, 0)


def _wanted(*sets: Object) -> int:
    return sum(entry["spec"]["replicas"] for entry in sets)


def _available(*sets: Object) -> int:
    return sum(_status_of(entry, "availableReplicas") for entry in sets)


def _with_pause_condition(store: Store, now: datetime, deployment: Object) -> Object:
    """Stop or restart the progress deadline when the Deployment was paused or resumed."""
    current = condition(deployment, "Progressing")
    paused = bool(deployment["spec"].get("paused"))
    reason = current["reason"] if current else ""
    if "progressDeadlineSeconds" not in deployment["spec"] or reason == _TIMED_OUT:
        return deployment
    if paused == (reason == "DeploymentPaused"):
        return deployment
    said = (
        ("DeploymentPaused", "Deployment is paused")
        if paused
        else ("DeploymentResumed", "Deployment is resumed")
    )
    entry = Condition("Progressing", "Unknown", *said)
    return _update(store, deployment, partial(with_condition, entry=entry, now=now), status=True)


def _update(store: Store, obj: Object, change: Callable[[Object], Object], *, status: bool = False) -> Object:
    kind, place = store.kinds.named(obj["kind"]), (namespace_of(obj), name_of(obj))
    return store.update(kind, place, change, STATUS) if status else store.update(kind, place, change)


def _annotated(obj: Object, annotations: dict[str, str]) -> Object:
    obj["metadata"]["annotations"] = {**annotations_of(obj), **annotations}
    return obj


def _record_revision(rollout: Rollout) -> None:
    if rollout.new is None:
        return
    highest = max((_revision(entry) for entry in rollout.old), default=0)
    revision = str(max(_revision(rollout.new), highest + 1))
    for obj in (rollout.new, rollout.deployment):
        if annotations_of(obj).get(REVISION) != revision:
            _update(rollout.store, obj, partial(_annotated, annotations={REVISION: revision}))


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
        "annotations": {**kept, REVISION: str(revision), **_size_annotations(rollout)},
        "ownerReferences": [owner_reference(deployment)],
    }
    spec: Object = {"replicas": _room(rollout, 0), "selector": selector, "template": template}
    if "minReadySeconds" in rollout.spec:
        spec["minReadySeconds"] = rollout.spec["minReadySeconds"]
    rollout.store.create(rollout.store.kinds.named("ReplicaSet"), {"metadata": meta, "spec": spec})
    said = f'Created new replica set "{meta["name"]}"'
    entry = Condition("Progressing", "True", "NewReplicaSetCreated", said)
    if "progressDeadlineSeconds" in rollout.spec:
        _update(rollout.store, deployment, partial(with_condition, entry=entry, now=rollout.now), status=True)


def owner_reference(owner: Object) -> Object:
    """Return the reference that makes `owner` the controller of another object."""
    meta = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
    }
    return {**reference, "controller": True, "blockOwnerDeletion": True}


def _size_annotations(rollout: Rollout) -> dict[str, str]:
    return {DESIRED: str(rollout.replicas), MAXIMUM: str(rollout.replicas + rollout.surge)}


def _room(rollout: Rollout, present: int) -> int:
    """Return the size that the new ReplicaSet may have now, given that it has `present`."""
    if rollout.spec["strategy"]["type"] == "Recreate":
        return present if any(_status_of(entry, "replicas") for entry in rollout.old) else rollout.replicas
    free = rollout.replicas + rollout.surge - _wanted(*rollout.all)
    return present + max(0, min(free, rollout.replicas - present))


def _resize(rollout: Rollout, replica_set: Object, replicas: int) -> None:
    def change(obj: Object) -> Object:
        obj["spec"]["replicas"] = max(replicas, 0)
        return _annotated(obj, _size_annotations(rollout))

    _update(rollout.store, replica_set, change)


def _was_scaled(rollout: Rollout) -> bool:
    active = [entry for entry in rollout.all if entry["spec"]["replicas"] > 0]
    return any(annotations_of(entry).get(DESIRED, "") != str(rollout.replicas) for entry in active)


def _scale(rollout: Rollout) -> None:
    """Bring the size, and nothing else, to what the spec says: the one active ReplicaSet, or all in proportion."""
    active = [entry for entry in rollout.all if entry["spec"]["replicas"] > 0]
    if len(active) > 1:
        _scale_in_proportion(rollout, active)
        return
    latest = rollout.new or (rollout.old[-1] if rollout.old else None)
    only = active[0] if active else latest
    if only is not None:
        _resize(rollout, only, rollout.replicas)


def _scale_in_proportion(rollout: Rollout, active: list[Object]) -> None:
    new = rollout.new
    if new is not None and new["spec"]["replicas"] == _available(new) == rollout.replicas:
        for entry in rollout.old:
            _resize(rollout, entry, 0)
        return
    allowed = rollout.replicas + rollout.surge if rollout.replicas else 0
    difference = allowed - _wanted(*active)
    sizes = {uid_of(entry): entry["spec"]["replicas"] for entry in active}
    left = difference
    for entry in sorted(active, key=lambda entry: -entry["spec"]["replicas"]):
        size = entry["spec"]["replicas"]
        former = int(annotations_of(entry).get(MAXIMUM, str(rollout.replicas + rollout.surge)))
        share = -size if rollout.replicas == 0 else round(size * allowed / max(former, 1)) - size
        share = max(min(share, left), 0) if difference > 0 else min(max(share, left), 0)
        sizes[uid_of(entry)] += share
        left -= share
    largest = max(active, key=lambda entry: entry["spec"]["replicas"])
    sizes[uid_of(largest)] += left
    for entry in active:
        _resize(rollout, entry, sizes[uid_of(entry)])


def _roll(rollout: Rollout) -> None:
    """Take one step of the native roll: grow the new, or shrink the old as far as enough pods are available."""
    assert rollout.new is not None, "a roll needs its new ReplicaSet"
    present = rollout.new["spec"]["replicas"]
    target = rollout.replicas if present > rollout.replicas else _room(rollout, present)
    if target != present:
        _resize(rollout, rollout.new, target)
        return
    old = [entry for entry in rollout.old if entry["spec"]["replicas"] > 0]
    least = rollout.replicas - rollout.max_unavailable
    spare = _wanted(*rollout.all) - least - (present - _available(rollout.new))
    sizes = {uid_of(entry): entry["spec"]["replicas"] for entry in old}
    for entry in old:  # pods that do not serve go first
        sick = entry["spec"]["replicas"] - _available(entry)
        cut = max(min(sick, spare), 0)
        sizes[uid_of(entry)] -= cut
        spare -= cut
    healthy = min(_available(*rollout.all) - least, spare)
    for entry in old:
        cut = max(min(sizes[uid_of(entry)], healthy), 0)
        sizes[uid_of(entry)] -= cut
        healthy -= cut
    for entry in old:
        if sizes[uid_of(entry)] != entry["spec"]["replicas"]:
            _resize(rollout, entry, sizes[uid_of(entry)])


def _is_complete(rollout: Rollout) -> bool:
    pods = sum(_status_of(entry, "replicas") for entry in rollout.all)
    new = rollout.new
    return new is not None and pods == _status_of(new, "replicas") == _available(new) == rollout.replicas


def _forget_history(rollout: Rollout) -> None:
    """Delete the oldest empty ReplicaSets beyond the history limit."""
    limit = rollout.spec.get("revisionHistoryLimit")
    if limit is None:
        return
    empty = [
        entry for entry in rollout.old if not entry["spec"]["replicas"] and not _status_of(entry, "replicas")
    ]
    excess = max(len(rollout.old) - limit, 0)
    for entry in sorted(empty, key=_revision)[:excess]:
        kind = rollout.store.kinds.named("ReplicaSet")
        rollout.store.delete(kind, (namespace_of(entry), name_of(entry)))


def _write_status(rollout: Rollout, rolls: bool) -> float | None:
    before: Object = rollout.deployment.get("status") or {}
    counts = _counts(rollout)
    status = {**counts, "conditions": before.get("conditions") or []}
    draft: Object = {**rollout.deployment, "status": status}
    draft = with_condition(draft, _availability(rollout), rollout.now)
    wait = None
    if rolls and "progressDeadlineSeconds" in rollout.spec:
        draft, wait = _with_progress(rollout, draft, before)
    elif "progressDeadlineSeconds" not in rollout.spec:
        draft = without_condition(draft, "Progressing")
    _update(rollout.store, rollout.deployment, lambda obj: {**obj, "status": draft["status"]}, status=True)
    return wait


def _counts(rollout: Rollout) -> Object:
    everything: dict[str, int] = {
        "replicas": sum(_status_of(entry, "replicas") for entry in rollout.all),
        "updatedReplicas": _status_of(rollout.new, "replicas") if rollout.new else 0,
        "readyReplicas": sum(_status_of(entry, "readyReplicas") for entry in rollout.all),
        "availableReplicas": _available(*rollout.all),
        "unavailableReplicas": max(_wanted(*rollout.all) - _available(*rollout.all), 0),
    }
    counts: Object = {field: count for field, count in everything.items() if count}
    return {**counts, "observedGeneration": rollout.deployment["metadata"]["generation"]}


def _availability(rollout: Rollout) -> Condition:
    if _available(*rollout.all) >= rollout.replicas - rollout.max_unavailable:
        said = "Deployment has minimum availability."
        return Condition("Available", "True", "MinimumReplicasAvailable", said)
    said = "Deployment does not have minimum availability."
    return Condition("Available", "False", "MinimumReplicasUnavailable", said)


def _with_progress(rollout: Rollout, draft: Object, before: Object) -> tuple[Object, float | None]:
    current = condition(draft, "Progressing")
    name = name_of(rollout.new) if rollout.new else name_of(rollout.deployment)
    if _is_complete(rollout):
        entry = Condition(
            "Progressing", "True", _COMPLETE, f'ReplicaSet "{name}" has successfully progressed.'
        )
        return with_condition(draft, entry, rollout.now), None
    if current is None or _moved(draft["status"], before):
        entry = Condition("Progressing", "True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
        return with_condition(draft, entry, rollout.now), float(rollout.spec["progressDeadlineSeconds"]) + 1
    if current["reason"] in (_COMPLETE, _TIMED_OUT):
        return draft, None
    waited = (rollout.now - moment(current["lastUpdateTime"])).total_seconds()
    left = rollout.spec["progressDeadlineSeconds"] - waited
    if left >= 0:
        return draft, left + 1
    entry = Condition("Progressing", "False", _TIMED_OUT, f'ReplicaSet "{name}" has timed out progressing.')
    return with_condition(draft, entry, rollout.now), None


def _moved(status: Object, before: Object) -> bool:
    def count(source: Object, field: str) -> int:
        return source.get(field, 0)

    def left(source: Object) -> int:
        return count(source, "replicas") - count(source, "updatedReplicas")

    grew = any(
        count(status, f) > count(before, f) for f in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return grew or left(status) < left(before)
