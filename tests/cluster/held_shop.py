"""Deployments for tests of what the API server and its controllers promise: pods that never run, so they cost nothing.

`HeldShop` is one Deployment in a namespace of its own, written and asked about with the real kubectl by real users.
"""

import copy
import json
from subprocess import CompletedProcess
from typing import Any

import yaml
from cluster_bed import Bed

from canary.api.marks import TRUE, Mark
from canary.kube.client import Intent
from canary.kube.resources import DEPLOYMENTS, PODS, REPLICASETS

OLD_IMAGE, NEW_IMAGE, NEWER_IMAGE = (f"registry.invalid/shop:{number}" for number in (1, 2, 3))
NAME = "shop"
Object = dict[str, Any]
Done = CompletedProcess[str]


class HeldShop:
    """One Deployment of two pods in its own namespace."""

    def __init__(self, bed: Bed, namespace: str, labels: dict[str, str] | None = None) -> None:
        self.bed = bed
        self.namespace = namespace
        self.ref = DEPLOYMENTS.at(namespace, NAME)
        self._labels = labels or {}
        done = self.kubectl("alice", "apply", "-f", "-", given=self.manifest(OLD_IMAGE))
        assert done.returncode == 0, done.stderr
        bed.until(lambda: len(self.pods()) == 2, "the Deployment has its pods")

    def manifest(self, image: str, **spec: Any) -> str:
        """Return the manifest as its team keeps it: without `paused`."""
        labels = {"app": NAME}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "shop", "image": image}]},
        }
        whole = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template, **spec}
        metadata = {"name": NAME, "namespace": self.namespace, "labels": self._labels}
        return yaml.safe_dump(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": whole}
        )

    def kubectl(self, user: str, *words: str, given: str | None = None) -> Done:
        return self.bed.kubectl(user, *words, namespace=self.namespace, given=given)

    def stored(self) -> Object:
        stored = self.bed.admin.get(self.ref)
        assert stored is not None
        return stored

    def write(self, patch: Object, user: str = "admin") -> Object:
        """Merge a patch into the Deployment, and wait until its controller has looked at it."""
        stored = self.bed.client(user).merge_patch(self.ref, patch, intent=Intent.NEUTRAL)
        assert stored is not None
        self.observed()
        return stored

    def hold(self, image: str = NEW_IMAGE) -> None:
        """Pause the Deployment, then let its team apply a new template."""
        self.write({"metadata": {"labels": {Mark.GUARDED.value: TRUE}}, "spec": {"paused": True}})
        done = self.kubectl("alice", "apply", "-f", "-", given=self.manifest(image))
        assert done.returncode == 0, done.stderr
        self.observed()

    def observed(self) -> None:
        def looked() -> bool:
            stored = self.stored()
            return (stored.get("status") or {}).get("observedGeneration", 0) >= stored["metadata"][
                "generation"
            ]

        self.bed.until(looked, "the Deployment controller has looked")

    def is_paused(self) -> bool:
        return bool(self.stored()["spec"].get("paused", False))

    def replica_sets(self) -> list[Object]:
        return self.bed.admin.list(REPLICASETS, self.namespace, selector=f"app={NAME}")

    def replica_set_names(self) -> list[str]:
        return sorted(each["metadata"]["name"] for each in self.replica_sets())

    def pods(self) -> list[Object]:
        found = self.bed.admin.list(PODS, self.namespace, selector=f"app={NAME}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def images(self) -> set[str]:
        return {pod["spec"]["containers"][0]["image"] for pod in self.pods()}

    def replace_manifest(self, **spec: Any) -> str:
        """Return what `kubectl replace` sends: the stored object as JSON, with these fields of the spec changed."""
        stored = copy.deepcopy(self.stored())
        stored["spec"].pop("paused", None)
        stored["spec"].update(spec)
        stored["metadata"] = {
            name: value
            for name, value in stored["metadata"].items()
            if name in ("name", "namespace", "labels")
        }
        stored.pop("status", None)
        return json.dumps(stored)
