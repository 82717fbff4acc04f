"""The head of the audit, told where a tamperer of one place cannot reach the other: in the cluster, and to the sinks.

With every heartbeat the newest record is written on the heartbeat's Lease, and once an hour it goes to the sinks. What
the Lease said before is held against the audit first. An audit that lacks what the Lease names lost its end or was
written anew: nothing rises. A Lease that lacks what the audit holds is of a cluster that was put back to an earlier
state: approvals and weights there are of the past, so traffic goes to stable and nothing starts until a person agrees.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from canary.alerts.sink import Incident, Page
from canary.api.marks import Mark
from canary.api.reasons import Opening, Reason
from canary.api.types import format_timestamp
from canary.audit.chain import Head, decoded, head_of, parse_head
from canary.audit.store import Store
from canary.core.telling.stored import under
from canary.core.telling.wording import moment
from canary.errors import CanaryError, RefusedError
from canary.kube.client import Intent
from canary.kube.resources import Ref
from canary.operator.hands import Hands

logger = logging.getLogger(__name__)
TOLD_EVERY = timedelta(hours=1)
# A Lease is written every few seconds: records that are newer by more were not lost by a crash.
LAG = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Published:
    """What the Lease says: a head, and when it was written there."""

    head: Head
    at: datetime


@dataclass(frozen=True, slots=True)
class Newest:
    """What the audit holds: its head, when that was decided, and its own record of the published number."""

    head: Head
    at: datetime | None
    same: Head | None


def fault(published: Published, newest: Newest) -> tuple[Reason, str] | None:
    """Return what is wrong between the cluster and the audit, and the sentence; None where they agree."""
    told, held = published.head, newest.head
    if told.sequence > held.sequence:
        text = f"the audit ends with record {held.sequence}, the cluster knows record {told.sequence}: its end is gone"
        return Reason.AUDIT_WRITE_FAILED, text
    if told.sequence and newest.same != told:
        text = (
            f"record {told.sequence} of the audit is not the one that the cluster knows: it was written anew"
        )
        return Reason.AUDIT_WRITE_FAILED, text
    if held.sequence > told.sequence and newest.at is not None and newest.at > published.at + LAG:
        text = f"the cluster knows record {told.sequence}, as of {published.at:%Y-%m-%d %H:%M}; the audit goes on to "
        text += (
            f"{held.sequence}, of {newest.at:%Y-%m-%d %H:%M}: the cluster was put back to an earlier state"
        )
        return Reason.CLUSTER_RESTORED, text
    return None


class Heads:
    """Holds the two places against each other, and tells the head. Not for several threads at a time."""

    def __init__(
        self, hands: Hands, lease: Ref, store: Store, tell: Callable[[Page], None], cluster: str
    ) -> None:
        self._hands = hands
        self._lease = lease
        self._store = store
        self._tell = tell
        self._cluster = cluster
        self._ours = Head()  # as we last wrote it on the Lease
        self._note: Page | None = None
        self.closed: dict[Reason, str] = {}
        """Gates that are closed for what was found, each with its sentence."""

    def beat(self) -> None:
        """Compare, then publish; only where we lead. What is wrong stays so until the Lease's annotation is removed."""
        scribe = self._hands.scribe
        if scribe is None or not self._hands.fence.leads():
            return
        try:
            head = scribe.head()
            published = self._published()
            found = fault(published, self._newest(head, published)) if published is not None else None
            self.closed = dict([found]) if found else {}
            if found is None:
                self._publish(head)
        except CanaryError as error:
            logger.warning("the head of the audit was not told: %s", error)
            return
        page = self._call(found) if found else self._hourly(head)
        if page is not None:
            self._tell(page)

    def _published(self) -> Published | None:
        lease = self._hands.client.get(self._lease)
        text = under(lease, "metadata", "annotations", Mark.AUDIT_HEAD.value)
        head, _, at = text.partition(" ") if isinstance(text, str) else ("", "", "")
        written = moment(at)
        try:
            return Published(parse_head(head), written) if written is not None else None
        except RefusedError:
            return None

    def _newest(self, head: Head, published: Published) -> Newest:
        told, at, same = published.head, None, published.head
        if head.sequence > told.sequence:
            last = [decoded(line) for line in self._store.tail(1)]
            at = moment(under(last[0], "at")) if last else None
        if told != self._ours and 0 < told.sequence <= head.sequence:
            own = decoded(next(iter(self._store.lines(told.sequence - 1)), b""))
            same = head_of(own) if own is not None else None
        return Newest(head, at, same)

    def _publish(self, head: Head) -> None:
        text = f"{head} {format_timestamp(self._hands.clock.now())}"
        patch = {"metadata": {"annotations": {Mark.AUDIT_HEAD.value: text}}}
        if self._hands.client.merge_patch(self._lease, patch, intent=Intent.NEUTRAL) is not None:
            self._ours = head

    def _hourly(self, head: Head) -> Page | None:
        """Return the note that the sinks shall have: another one after an hour, if there is another head."""
        now, note = self._hands.clock.now(), self._note
        text = f"head {head}"
        if head.sequence == 0:
            return None
        if note is None or (now >= note.at + TOLD_EVERY and note.body != text):
            note = self._page(str(head), Opening.NONE, f"the audit has {head.sequence} records", text)
            self._note = note
        return note

    def _call(self, found: tuple[Reason, str]) -> Page:
        lease = (
            f"kubectl -n {self._lease.namespace} annotate lease {self._lease.name} {Mark.AUDIT_HEAD.value}-"
        )
        body = (
            f"{found[1]}\ndo this: canary audit verify --runs\nonce it is understood, this goes on: {lease}"
        )
        what = (
            "traffic is on stable, nothing starts"
            if found[0] is Reason.CLUSTER_RESTORED
            else "raises stopped"
        )
        title = f"{Opening.ACTION_NEEDED.value} - audit and cluster disagree, {what}"
        return self._page(found[1], Opening.ACTION_NEEDED, title, body)

    def _page(self, what: str, opening: Opening, title: str, body: str) -> Page:
        incident = Incident(self._cluster, "", "audit", "", "audit")
        reason = Reason.AUDIT_WRITE_FAILED if opening is Opening.ACTION_NEEDED else Reason.IDLE
        return Page(
            f"audit/{what}"[:128], incident, opening, reason.value, title, body, self._hands.clock.now()
        )
