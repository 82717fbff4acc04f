"""Tell people: Events for what happened, pages for what they must know. Always after the route, never before it.

`prepare` runs before the status is written: it adds what became due and what the sinks acknowledged to the notices of
the run, where they outlive us. `tell` runs after the write: it writes the Events and hands due pages to the couriers,
whose threads send them. A sink that fails costs only its own notice; a crash forgets none.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from canary.alerts import outbox
from canary.alerts.sink import Couriers, Incident, Page, page_of
from canary.api.notice import Notice
from canary.api.reasons import Phase, Reason
from canary.api.run import TimelineEntry
from canary.core.decision import Run, change
from canary.core.telling import explain, pages
from canary.core.telling.page_texts import Place
from canary.core.telling.stored import StoredRun
from canary.errors import CanaryError
from canary.kube import events
from canary.operator.hands import Hands

logger = logging.getLogger(__name__)


Subscribe = Callable[[Sequence[str]], list[outbox.Subscription]]
"""From the sinks that a policy names to what the outbox must know of them."""


class Teller:
    """Delivers what a look found out."""

    def __init__(
        self,
        hands: Hands,
        couriers: Couriers,
        subscribe: Subscribe,
        place: Place,
    ) -> None:
        self._hands = hands
        self._couriers = couriers
        self._subscribe = subscribe
        self._place = place
        self._announced: dict[tuple[str, str], datetime] = {}  # sink and page of no run: when it was taken

    def prepare(self, after: Run) -> Run:
        """Return the run with the notices that its state calls for, with the answers of sinks, and its short words."""
        now = self._hands.clock.now()
        stored = stored_form(after)
        shown = after.status.shown.model_copy(update=explain.shown(stored, now))
        notices = pages.with_due_notices(stored, after.status.notices, self._place, now)
        notices = self.collected(notices, self._incident(after))
        return replace(after, status=change(after.status, notices=notices, shown=shown))

    def tell(self, before: Run, after: Run) -> None:
        """Write the Events of this look and hand over the pages that are due."""
        subject = events.Subject("CanaryRun", after.namespace, after.name, after.uid)
        for happening in happenings(before, after):
            try:
                events.tell(self._hands.client, subject, happening)
            except CanaryError as error:
                logger.warning("the Event %s of %s was not written: %s", happening.reason, after.name, error)
        self._hand_over(after.status.notices, self._sinks(after), self._incident(after))

    def announce(self, page: Page) -> None:
        """Hand a page that is of no run to every sink that has not taken it or forgets it; called while it holds."""
        now = self._hands.clock.now()
        for receipt in self._couriers.collect(page.incident):
            if receipt.outcome.acknowledged:
                self._announced = {**self._announced, (receipt.sink, receipt.page.id): now}
        for sink in self._subscribe(()):
            taken = self._announced.get((sink.name, page.id))
            again = sink.repeat_seconds > 0 and taken is not None
            if taken is None or (again and (now - taken).total_seconds() >= sink.repeat_seconds):
                self._couriers.hand_over(sink.name, page)

    def owes(self, run: Run) -> float | None:
        """Return in how many seconds a page is due; None when everybody has been told."""
        return outbox.next_due_seconds(run.status.notices, self._sinks(run), self._hands.clock.now())

    def collected(self, notices: list[Notice], incident: Incident) -> list[Notice]:
        """Return the notices with what the sinks answered since."""
        for receipt in self._couriers.collect(incident):
            notices = outbox.with_receipt(notices, receipt, self._hands.clock.now())
        return notices

    def of_safety_policy(self, name: str, uid: str) -> Incident:
        """Return what pages about a safety policy are about: there is no namespace and no run."""
        return Incident(self._place.cluster, "", f"safetypolicy/{name}", name, uid)

    def of_policy(self, namespace: str, workload: str, uid: str) -> Incident:
        """Return what pages about a policy's target are about, where they are of no run."""
        return Incident(self._place.cluster, namespace, workload, "", uid)

    def send(self, notices: Sequence[Notice], incident: Incident) -> float | None:
        """Hand over what is due to every sink; return in how many seconds more is, None when all is told."""
        sinks = self._subscribe(())
        self._hand_over(notices, sinks, incident)
        return outbox.next_due_seconds(notices, sinks, self._hands.clock.now())

    def _hand_over(
        self, notices: Sequence[Notice], sinks: Sequence[outbox.Subscription], incident: Incident
    ) -> None:
        for delivery in outbox.due(notices, sinks, self._hands.clock.now()):
            self._couriers.hand_over(delivery.sink, page_of(delivery.notice, incident))

    def _sinks(self, run: Run) -> list[outbox.Subscription]:
        return self._subscribe(run.spec.policy.on_call.sinks)

    def _incident(self, run: Run) -> Incident:
        return Incident(self._place.cluster, run.namespace, run.spec.target.name, run.name, run.uid)


def news(before: Run, after: Run) -> list[TimelineEntry]:
    """Return what happened between the two; lengths say nothing, as a timeline forgets its oldest entries."""
    known = before.status.timeline if before.status.started_at else []
    return [entry for entry in after.status.timeline if entry not in known]


_ENTERED = {
    Phase.ROLLING_BACK: (Reason.ROLLBACK_STARTED, "taking all traffic back"),
    Phase.ROLLED_BACK: (Reason.ROLLED_BACK, "all traffic is back"),
    Phase.ABORTED: (Reason.ABORTED, "all traffic is back"),
    Phase.DRAINING: (Reason.DRAINING, "the new version is drained"),
}


def happenings(before: Run, after: Run) -> list[events.Happening]:
    """Return the Events of a look. What takes traffic back is named by what is done; its cause follows."""
    timeline = after.status.timeline
    earlier = dict(zip((entry.at for entry in timeline[1:]), timeline, strict=False))
    told: list[events.Happening] = []
    for entry in news(before, after):
        reason, message = Reason(entry.reason), entry.message
        known = earlier.get(entry.at)
        if entry.phase in _ENTERED and after.status.exposed_at and (not known or known.phase != entry.phase):
            deed, words = _ENTERED[entry.phase]
            reason, message = deed, f"{words} ({reason.value}): {message}"
        told.append(events.Happening(reason, message, entry.at))
    return told


def stored_form(run: Run) -> StoredRun:
    """Return the run as the API server stores it: what all sentences for people are made from."""
    metadata = {"name": run.name, "namespace": run.namespace, "uid": run.uid}
    spec = run.stored_spec if run.stored_spec is not None else run.spec.wire()
    return StoredRun({"metadata": metadata, "spec": spec, "status": run.status.wire()})
