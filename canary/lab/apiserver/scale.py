"""The scale sub-resource: a Deployment's or ReplicaSet's replica count as an object of its own.

`kubectl scale` and autoscalers read and write it. Called by `protocol.py`; pure.
"""

from collections.abc import Callable
from typing import Any

from canary.lab.apiserver.objects import Object, canonical


def read(workload: Object) -> Object:
    """Return the Scale of a workload."""
    meta = workload["metadata"]
    labels = workload["spec"]["selector"].get("matchLabels") or {}
    kept = {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": kept,
        "spec": {"replicas": workload["spec"]["replicas"]},
        "status": {
            "replicas": (workload.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def through(change: Callable[[Object], Any]) -> Callable[[Object], Object]:
    """Return a change of a Scale as a change of its workload: only the replica count moves."""

    def change_workload(workload: Object) -> Object:
        wanted = change(read(workload))
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        if canonical(replicas) != canonical(workload["spec"]["replicas"]):
            workload["spec"]["replicas"] = replicas
        version = wanted["metadata"].get("resourceVersion")
        workload["metadata"]["resourceVersion"] = version
        return workload

    return change_workload
