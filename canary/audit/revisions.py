"""Every revision that ever served has a record: what the cluster shows, held against the chain.

Deployments number their roll-outs without a hole, and so do StatefulSets and DaemonSets. A revision that a run let
through is covered by the record of its commit; every other one is put on record here for what it is: it served before
the audit began, nobody guards the workload, somebody went round us, or it came and went unseen. `Ledger` is what the
chain knows, folded record by record; `unrecorded` names what it lacks. Pure: the operator lists, writes and calls
people.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from canary.audit.chain import Record
from canary.audit.edits import Edited, edit_of
from canary.audit.entries import RecordKind
from canary.core.telling.stored import under

Serving = tuple[str, str]  # uid of a workload, hash of a template


@dataclass(frozen=True, slots=True)
class Rollout:
    """One revision of one workload, as its ReplicaSet or ControllerRevision shows it."""

    namespace: str
    workload: str
    uid: str
    """Of the workload."""
    revision: int
    template: str
    version: str = ""
    images: tuple[str, ...] = ()
    pods: int = 0
    """Pods, ready or not."""
    ready: int = 0
    """Those that serve."""
    held: bool = False
    """The Deployment is paused and asks for this template: it waits for a run."""
    guarded: bool = True
    """A policy guards the Deployment."""
    reason: str = ""
    """Why somebody broke the glass, as the Deployment says."""


@dataclass(slots=True)
class Ledger:
    """What the chain knows of revisions. Grows with every record; `records` says how many it has taken."""

    records: int = 0
    names: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Workloads of which a revision is on record: namespace and name."""
    newest: dict[str, int] = field(default_factory=dict[str, int])
    """uid -> the highest revision on record."""
    served: dict[str, str] = field(default_factory=dict[str, str])
    """uid -> the template that was last seen to serve."""
    kinds: dict[tuple[str, int], RecordKind] = field(default_factory=dict[tuple[str, int], RecordKind])
    """uid and revision -> what the record says."""
    idle: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """uid and revision of what was never seen to serve."""
    bypassed: set[Serving] = field(default_factory=set[Serving])
    """What served and no run had let through."""
    held: set[Serving] = field(default_factory=set[Serving])
    """What a run held."""
    let_through: set[Serving] = field(default_factory=set[Serving])
    """What a run committed, and what such a run would go back to."""
    edits: dict[str, Edited] = field(default_factory=dict[str, Edited])
    """uid -> a route, Service or policy as it was last written."""

    def take(self, record: Record) -> None:
        """Learn from one record; what it lacks teaches nothing."""
        self.records += 1
        uid, kind, revision = record.get("targetUid"), record.get("kind"), record.get("revision")
        template, before = under(record, "version", "template"), under(record, "baseline", "template")
        if not isinstance(uid, str):
            return
        edit = edit_of(record)
        self.edits |= {uid: edit} if edit else {}
        if kind == RecordKind.START:
            self.held.add((uid, str(template)))
        elif kind == RecordKind.COMMIT:
            self.let_through |= {(uid, str(template)), (uid, str(before))}
        if isinstance(revision, int) and kind in set(RecordKind):
            self.names.add((str(record.get("namespace")), str(record.get("workload"))))
            self.newest[uid] = max(revision, self.newest.get(uid, 0))
            self.kinds[uid, revision] = RecordKind(kind)
            self.bypassed |= {(uid, str(template))} if kind == RecordKind.BYPASS else set()
            self.idle.add((uid, revision))
            if record.get("ready"):
                self.served[uid] = str(template)
                self.idle.remove((uid, revision))


def unrecorded(ledger: Ledger, seen: Collection[Rollout]) -> Iterator[tuple[Rollout, RecordKind, str]]:
    """Yield what has no record: the revision, what it is on record from now on, and the sentence."""
    for uid in sorted({each.uid for each in seen}):
        rollouts = sorted((each for each in seen if each.uid == uid), key=lambda each: each.revision)
        yield from _holes(ledger, rollouts)
        served = ledger.served.get(uid, "")
        for each in rollouts:
            if not _is_settled(ledger, each):
                yield each, *_kind_of(ledger, each, served)
            served = each.template if each.ready else served


def _is_settled(ledger: Ledger, seen: Rollout) -> bool:
    """Tell whether there is nothing to put on record: it is there, or pods are still to come."""
    if seen.ready == 0 and (seen.held or seen.pods > 0):
        return True
    number = (seen.uid, seen.revision)
    return number in ledger.kinds and not (number in ledger.idle and seen.ready > 0)


def _holes(ledger: Ledger, rollouts: Sequence[Rollout]) -> Iterator[tuple[Rollout, RecordKind, str]]:
    """Yield the numbers behind the newest on record that no ReplicaSet has any more."""
    first = rollouts[0]
    known = ledger.newest.get(first.uid)
    there = {each.revision for each in rollouts}
    for revision in range(known + 1, max(there)) if known is not None else ():
        if revision not in there:
            gone = Rollout(first.namespace, first.workload, first.uid, revision, "", guarded=first.guarded)
            yield gone, RecordKind.GAP, f"revision {revision} came and went while nobody watched"


def _kind_of(ledger: Ledger, seen: Rollout, served: str) -> tuple[RecordKind, str]:
    first_sight = (seen.namespace, seen.workload) not in ledger.names
    recreated = seen.uid not in ledger.newest
    if (seen.uid, seen.template) in ledger.let_through:
        return RecordKind.ROLLED, "a run let this template through"
    if not seen.guarded:
        return RecordKind.UNPOLICED, "no policy guards this workload"
    if first_sight:
        return RecordKind.INITIAL, "it was there when the audit began"
    if seen.template == served and (seen.uid, seen.template) not in ledger.bypassed and not recreated:
        return RecordKind.NOTE, "the template that served before, with a new number"
    if seen.ready == 0 and (seen.uid, seen.template) in ledger.held:
        return RecordKind.NOTE, "a run held this template; it has no ready pod"
    if seen.ready == 0:
        return RecordKind.GAP, "it has no ready pod, and whether it had one nobody saw"
    how = "the workload was deleted and created anew" if recreated else "somebody went round the hold"
    why = f", for the reason {seen.reason!r}" if seen.reason else ""
    return RecordKind.BYPASS, f"it serves customers, and no run let it through: {how}{why}"


def entry_of_revision(seen: Rollout, kind: RecordKind, message: str, at: str) -> dict[str, Any]:
    """Return the entry of a revision that the sweep found."""
    return {
        "id": f"{seen.uid}/revision/{seen.revision}/{'serving' if seen.ready else 'idle'}",
        "at": at,
        "kind": kind.value,
        "namespace": seen.namespace,
        "workload": seen.workload,
        "targetUid": seen.uid,
        "revision": seen.revision,
        "ready": seen.ready,
        "message": message,
        "version": {"version": seen.version, "template": seen.template, "images": list(seen.images)},
    }


def serving_without_a_run(ledger: Ledger, seen: Iterable[Rollout]) -> list[Rollout]:
    """Return the revisions that serve customers although no run let them through: people must know."""
    return [
        each
        for each in seen
        if each.ready > 0 and ledger.kinds.get((each.uid, each.revision)) is RecordKind.BYPASS
    ]
