"""The sweep: what serves in the guarded namespaces, held against the audit, once a minute.

A namespace is guarded where a policy is. Every revision of every Deployment there gets its record, also of those that
no policy names and of what happened while no controller ran; what serves customers without a run calls people, for as
long as it serves. The first sweep reads the whole audit, later ones what was added. Called by the schedule.
"""

import logging
from collections.abc import Callable, Iterator

from canary.alerts.sink import Incident, Page
from canary.api.marks import Mark
from canary.api.reasons import Opening, Reason
from canary.api.types import format_timestamp
from canary.audit.chain import decoded
from canary.audit.revisions import Ledger, Rollout, entry_of_revision, serving_without_a_run, unrecorded
from canary.audit.store import Store
from canary.core.telling.stored import under
from canary.core.telling.wording import plain
from canary.errors import CanaryError
from canary.kube import workload
from canary.kube.digest import template_hash
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, REPLICASETS
from canary.operator.auditor import Scribe
from canary.operator.hands import Hands
from canary.operator.objects import Json

logger = logging.getLogger(__name__)
SWEEP_SECONDS = 60.0
WRITTEN_AT_ONCE = 10  # a run that wants to rise waits no longer than these take
MAX_PAGES = 64  # of one sweep


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
                self._sweep(scribe, list(rollouts(self._hands, namespace, targets)))
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
        missing = list(unrecorded(self._ledger, seen))
        for first in range(0, len(missing), WRITTEN_AT_ONCE):
            some = missing[first : first + WRITTEN_AT_ONCE]
            scribe.write([entry_of_revision(*each, now) for each in some])
        self._read()
        for each in serving_without_a_run(self._ledger, seen)[:MAX_PAGES]:
            self._tell(self._page(each))

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
