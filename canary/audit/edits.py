"""What others wrote to the roads and the rules: routes, Services, policies, each against what is on record of it.

An `Edited` is one object as it stands, with the digest of its spec less what canary itself writes there: the weights
and the sides of a route. `unrecorded_edits` yields what is new, another than on record, or gone. The API server's own
audit log knows the person; here stands the manager of the newest write. Pure: the operator lists and writes.
"""

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from canary.api.marks import SIDE_SUFFIX, WAY_BACK_SUFFIX
from canary.audit.entries import RecordKind
from canary.core.record import sha256_of
from canary.core.telling.wording import plain

OURS = "canary"  # how the managers of our own writes begin
GONE = ""
UNKNOWN = "unknown"
SHAPED_BY_CLUSTER = ("clusterIP", "clusterIPs", "ipFamilies", "healthCheckNodePort")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Edited:
    """One object of those that decide where customers go, or what may change."""

    kind: RecordKind
    namespace: str
    name: str
    uid: str
    version: str
    """Its resource version."""
    digest: str
    """Of its spec, less what canary writes there; GONE where it was deleted."""
    by: str = UNKNOWN
    """The manager of the newest write that is not ours."""


def edited(kind: RecordKind, obj: Json) -> Edited:
    """Return a stored object as the audit keeps it."""
    metadata = obj["metadata"]
    return Edited(
        kind=kind,
        namespace=metadata.get("namespace", ""),
        name=f"{obj['kind'].lower()}/{metadata['name']}",
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        digest=sha256_of(theirs(obj.get("spec") or {})),
        by=_writer(metadata),
    )


def theirs(spec: Json) -> Json:
    """Return a spec less what canary and the cluster write: weights and sides of a route, addresses of a Service."""
    found = copy.deepcopy({name: part for name, part in spec.items() if name not in SHAPED_BY_CLUSTER})
    for rule in found.get("rules") or ():
        refs = [{**ref, "weight": None} for ref in rule.get("backendRefs") or () if not _is_side(ref)]
        rule["backendRefs"] = refs
    return found


def unrecorded_edits(known: Mapping[str, Edited], seen: Collection[Edited]) -> Iterator[tuple[Edited, str]]:
    """Yield what has no record, with the sentence; `known` is what is on record of the same kind and place, by uid."""
    for each in seen:
        before = known.get(each.uid)
        if before is None:
            yield each, f"{each.name} is on record from here on"
        elif before.digest != each.digest:
            yield each, f"the spec of {each.name} was changed, last by {each.by}"
    there = {each.uid for each in seen}
    for uid, each in known.items():
        if uid not in there and each.digest != GONE:
            yield (
                Edited(each.kind, each.namespace, each.name, uid, each.version, GONE),
                f"{each.name} was deleted",
            )


def entry_of_edit(seen: Edited, message: str, at: str) -> dict[str, Any]:
    """Return the entry of an edit that the sweep found."""
    return {
        "id": f"{seen.uid}/edit/{seen.version}/{seen.digest[7:19] or 'deleted'}",
        "at": at,
        "kind": seen.kind.value,
        "namespace": seen.namespace,
        "workload": seen.name,
        "targetUid": seen.uid,
        "resourceVersion": seen.version,
        "spec": seen.digest,
        "by": seen.by,
        "message": message,
    }


def edit_of(record: Json) -> Edited | None:
    """Return what a record says of an object, None where it is about something else."""
    if not isinstance(record.get("spec"), str) or record.get("kind") not in EDITS:
        return None
    namespace, name, version = (str(record.get(key)) for key in ("namespace", "workload", "resourceVersion"))
    kind, uid = RecordKind(record["kind"]), str(record.get("targetUid"))
    return Edited(kind, namespace, name, uid, version, record["spec"], str(record.get("by")))


EDITS = frozenset({RecordKind.ROUTE, RecordKind.SERVICE, RecordKind.POLICY})


def _is_side(ref: Json) -> bool:
    return str(ref.get("name")).endswith((SIDE_SUFFIX, WAY_BACK_SUFFIX))


def _writer(metadata: Json) -> str:
    written = [
        each
        for each in metadata.get("managedFields") or ()
        if not each.get("subresource") and not str(each.get("manager")).startswith(OURS)
    ]
    newest = max(written, key=lambda each: str(each.get("time")), default={})
    return plain(newest.get("manager"), 128) or UNKNOWN
