"""The sweep: what serves in the guarded namespaces, held against the audit, once a minute.

A namespace is guarded where a policy is. Every revision of every workload there gets its record, also of those that no
policy names and of what happened while no controller ran; what serves customers without a run calls people, for as long
as it serves. So does every edit of the routes, Services and policies, and of the safety policies. The first sweep reads
the whole audit, later ones what was added. Called by the schedule.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from canary.alerts.sink import Incident, Page
from canary.api.marks import Mark
from canary.api.reasons import Opening, Reason
from canary.api.types import format_timestamp
from canary.audit.chain import decoded
from canary.audit.edits import edited, entry_of_edit, unrecorded_edits
from canary.audit.entries import RecordKind
from canary.audit.revisions import Ledger, Rollout, entry_of_revision, serving_without_a_run, unrecorded
from canary.audit.store import Store
from canary.core.telling.stored import under
from canary.core.telling.wording import plain
from canary.errors import CanaryError, RefusedError
from canary.kube import workload
from canary.kube.digest import template_hash
from canary.kube.resources import (
    CANARYPOLICIES,
    CONTROLLERREVISIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    GRPCROUTES,
    HTTPROUTES,
    REPLICASETS,
    SAFETYPOLICIES,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from canary.operator.auditor import Scribe
from canary.operator.hands import Hands
from canary.operator.objects import Json

logger = logging.getLogger(__name__)
SWEEP_SECONDS = 60.0
WRITTEN_AT_ONCE = 10  # a run that wants to rise waits no longer than these take
MAX_PAGES = 64  # of one sweep
EDITED = {
    HTTPROUTES: RecordKind.ROUTE,
    GRPCROUTES: RecordKind.ROUTE,
    SERVICES: RecordKind.SERVICE,
    CANARYPOLICIES: RecordKind.POLICY,
}


class Inventory:
    """Sweeps one cluster, or one namespace of it. Not for several threads at a time."""

    def __init__(
        self, hands: Hands, store: Store, tell: Callable[[Page], None], *, cluster: str, namespace: str | None
    ) -> None:
        self._hands = hands
        self._store = store
        self._tell = tell
        self._cluster = cluster
        self._namespace = namespace
        self._ledger = Ledger()
        self._swept: float | None = None

    def sweep_when_due(self) -> None:
        """Sweep, at most once a minute."""
        now = self._hands.clock.monotonic()
        if self._swept is None or now >= self._swept + SWEEP_SECONDS:
            self._swept = now if self.sweep() else None

    def sweep(self) -> bool:
        """Put on record what has no record, and call people for what serves without a run; False: not, or not all."""
        scribe = self._hands.scribe
        if scribe is None or not self._hands.fence.leads():
            return False
        try:
            self._read()
            for namespace, targets in self._guarded().items():
                self._sweep(
                    scribe, [*rollouts(self._hands, namespace, targets), *sets(self._hands, namespace)]
                )
                for resource, kind in EDITED.items():
                    self._sweep_edits(scribe, resource, kind, namespace)
            self._sweep_edits(scribe, SAFETYPOLICIES, RecordKind.POLICY, None)
        except CanaryError as error:
            logger.warning("the sweep of the audit did not end: %s", error)
            return False
        return True

    def _read(self) -> None:
        for line in self._store.lines(self._ledger.records):
            self._ledger.take(decoded(line) or {})

    def _guarded(self) -> dict[str, set[str]]:
        """Return the guarded namespaces, each with the Deployments that its policies name."""
        found: dict[str, set[str]] = {}
        for policy in self._hands.client.list(CANARYPOLICIES, self._namespace):
            target = under(policy, "spec", "target", "name")
            found.setdefault(policy["metadata"]["namespace"], set()).add(str(target))
        return found

    def _sweep(self, scribe: Scribe, seen: list[Rollout]) -> None:
        now = format_timestamp(self._hands.clock.now())
        self._write(scribe, [entry_of_revision(*each, now) for each in unrecorded(self._ledger, seen)])
        for each in serving_without_a_run(self._ledger, seen)[:MAX_PAGES]:
            self._tell(self._page(each))

    def _sweep_edits(
        self, scribe: Scribe, resource: Resource, kind: RecordKind, namespace: str | None
    ) -> None:
        """Put on record what others wrote to the objects of a kind, where it is served and may be read."""
        try:
            found = self._hands.client.list(resource, namespace)
        except RefusedError:
            return
        seen = [
            edited(kind, {"kind": resource.kind, **each})
            for each in found
            if Mark.SIDE not in (each["metadata"].get("labels") or {})
        ]
        prefix, place = f"{resource.kind.lower()}/", namespace or ""
        known = {
            uid: each
            for uid, each in self._ledger.edits.items()
            if each.namespace == place and each.name.startswith(prefix)
        }
        now = format_timestamp(self._hands.clock.now())
        self._write(scribe, [entry_of_edit(*each, now) for each in unrecorded_edits(known, seen)])

    def _write(self, scribe: Scribe, entries: list[dict[str, Any]]) -> None:
        for first in range(0, len(entries), WRITTEN_AT_ONCE):
            scribe.write(entries[first : first + WRITTEN_AT_ONCE])
        self._read()

    def _page(self, seen: Rollout) -> Page:
        where = f"{seen.namespace}/{seen.workload}"
        what = seen.version or seen.template[7:19]
        undo = f"kubectl -n {seen.namespace} rollout undo deployment/{seen.workload}"
        why = f", for the reason {seen.reason!r}" if seen.reason else ""
        lines = [
            f"revision {seen.revision} serves with {seen.ready} pods; no policy held it, nobody approved it{why}",
            f"do this: canary audit list {where}      then: {undo}, or have it reviewed",
        ]
        return Page(
            id=f"{seen.uid}/revision/{seen.revision}",
            incident=Incident(
                self._cluster, seen.namespace, seen.workload, "", f"{seen.uid}/{seen.revision}"
            ),
            opening=Opening.ACTION_NEEDED,
            reason=Reason.BYPASS_USED.value,
            title=f"{Opening.ACTION_NEEDED.value} - {where} serves {what}, and no run let it through",
            body="\n".join(lines),
            at=self._hands.clock.now(),
        )


def rollouts(hands: Hands, namespace: str, targets: set[str]) -> Iterator[Rollout]:
    """Yield every revision that the Deployments of a namespace show; our own sides are the business of their runs."""
    replica_sets = hands.client.list(REPLICASETS, namespace)
    for deployment in hands.client.list(DEPLOYMENTS, namespace):
        if Mark.SIDE in (deployment["metadata"].get("labels") or {}):
            continue
        for replica_set in replica_sets:
            if workload.is_owned(replica_set, deployment) and workload.revision_number(replica_set):
                yield _rollout(deployment, replica_set, targets)


def sets(hands: Hands, namespace: str) -> Iterator[Rollout]:
    """Yield every revision that the StatefulSets and DaemonSets of a namespace show; no policy can name one."""
    revisions = hands.client.list(CONTROLLERREVISIONS, namespace)
    for resource in (STATEFULSETS, DAEMONSETS):
        for owner in hands.client.list(resource, namespace):
            own = [each for each in revisions if workload.is_owned(each, owner)]
            newest = max((int(each["revision"]) for each in own), default=0)
            for each in own:
                yield _set_rollout(
                    f"{resource.kind.lower()}/{owner['metadata']['name']}", owner, each, newest
                )


def _set_rollout(name: str, owner: Json, revision: Json, newest: int) -> Rollout:
    shown = workload.revision_of(revision["data"]["spec"]["template"])
    status = owner.get("status") or {}
    is_new = int(revision["revision"]) == newest
    if revision["metadata"]["name"] == status.get("currentRevision"):
        pods = status.get("currentReplicas", 0)
    else:
        pods = status.get("updatedReplicas", status.get("updatedNumberScheduled", 0)) if is_new else 0
    return Rollout(
        namespace=owner["metadata"]["namespace"],
        workload=name,
        uid=owner["metadata"]["uid"],
        revision=int(revision["revision"]),
        template=shown.template_hash,
        version=shown.version,
        images=tuple(shown.images),
        pods=int(pods),
        ready=min(int(pods), int(status.get("readyReplicas", status.get("numberReady", 0)))),
        guarded=False,
    )


def _rollout(deployment: Json, replica_set: Json, targets: set[str]) -> Rollout:
    name, template = deployment["metadata"]["name"], replica_set["spec"]["template"]
    shown = workload.revision_of(template)
    asked = template_hash(deployment["spec"]["template"])
    return Rollout(
        namespace=deployment["metadata"]["namespace"],
        workload=name,
        uid=deployment["metadata"]["uid"],
        revision=workload.revision_number(replica_set),
        template=shown.template_hash,
        version=shown.version,
        images=tuple(shown.images),
        pods=int(under(replica_set, "status", "replicas") or 0),
        ready=int(under(replica_set, "status", "readyReplicas") or 0),
        held=bool(deployment["spec"].get("paused")) and shown.template_hash == asked,
        guarded=name in targets,
        reason=plain((deployment["metadata"].get("annotations") or {}).get(Mark.BREAK_GLASS), 512),
    )
