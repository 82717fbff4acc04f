"""A policy of either kind that is made weaker waits for the people whom the rules in force ask for.

Enter: the text as written and the last one that was approved. Leaves: the text that rules, which is nowhere weaker than
the approved one (a stronger one holds at once), and, where the written one is, who still has to approve it. Pure; it is
asked at every reading, so no moment lies between the edit and the hold, and the approved text is kept in the policy's
status. What is weaker: `effective.weaker_fields` of a SafetyPolicy, `loosening.looser_fields` of a CanaryPolicy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import TypeVar

from canary.api.approved import ApprovedText, WeakerText
from canary.api.change import ChangeRecord
from canary.api.people import People
from canary.api.run import Approval
from canary.api.safety import ApprovalRules, SafetyPolicySpec
from canary.api.types import Model
from canary.core.decision import Answer
from canary.core.evidence import Directive
from canary.core.record import record_of, sha256_of
from canary.core.rules.approvals import Electorate, Tally, counted, in_time, tally
from canary.core.rules.effective import effective, stricter, weaker_fields

MAX_FIELDS = 32
S = TypeVar("S", bound=ApprovedText)


def text_in_force(approved: SafetyPolicySpec | None, written: SafetyPolicySpec) -> SafetyPolicySpec:
    """Return the text that rules: what is written, or, where that is weaker somewhere, the stricter of both."""
    if approved is None or not weaker_fields(approved, written):
        return written
    both = stricter(approved, written)
    begins, ends = (
        [each.effective_from for each in (approved, written)],
        [each.expires_at for each in (approved, written)],
    )
    times = {
        "effective_from": None if None in begins else min(filter(None, begins)),
        "expires_at": None if None in ends else max(filter(None, ends)),
        "on_expiry": approved.on_expiry or written.on_expiry,
    }
    applies = both.applies_to.model_copy(update={"expected": written.applies_to.expected})
    return both.model_copy(update={**times, "applies_to": applies})


def digest_of(written: Model) -> str:
    """Return what an approval of this text names."""
    return sha256_of(written.wire())


def record_of_text(annotations: Mapping[str, str], people: People) -> ChangeRecord:
    """Return who wrote the text: whom the annotations name, and who wrote it at the API server.

    A person who wrote it there is an author, so nobody has to be named besides; a pipeline is none.
    """
    record = record_of(annotations)
    if people.owner(record.changed_by) is None:
        return record
    return record.model_copy(update={"authors": [*record.authors, record.changed_by]})


def rules_of_weakening(
    name: str, approved: SafetyPolicySpec, others: Mapping[str, SafetyPolicySpec], now: datetime
) -> ApprovalRules:
    """Return whose approval a weaker text needs: that of a change in the strictest tier that the approved one rules."""
    known = {**others, name: approved}
    ruling = [effective(known, tier, now) for tier in approved.applies_to.tiers]
    return reduce(stricter, [each.spec for each in ruling if each is not None], approved).approvals


@dataclass(frozen=True, slots=True)
class Weaker:
    """What a text takes away, and whose approval that needs."""

    fields: Sequence[str]
    digest: str
    rules: ApprovalRules


@dataclass(frozen=True, slots=True)
class Weakening:
    """A text that is weaker than the approved one, and what people said of it."""

    fields: Sequence[str]
    electorate: Electorate
    """Asks for this text by its digest."""
    approvals: Sequence[Approval] = ()

    def found(self, now: datetime) -> tuple[list[Approval], Tally]:
        """Return every word as it counts now, and what is there of what is asked."""
        rules = self.electorate.rules
        given = counted([each for each in self.approvals if in_time(each, rules, now)], self.electorate)
        return given, tally(given, (rules.count, rules.senior))

    def answer(self, asked: Directive, now: datetime) -> Answer:
        """Answer one approval of the text: what counts is kept by its request."""
        given, found = self.found(now)
        own = next((each for each in given if each.request == asked.name), None)
        missing = "" if found.suffices else found.missing(self.electorate)
        if own is None or not own.counts:
            why = own.why_not if own is not None else "it is no longer in time"
            return Answer(asked.uid, asked.name, False, f"{why}. Now: {missing}" if missing else why)
        text = f"recorded; {missing or 'that is all: the text is in force'}"
        return Answer(asked.uid, asked.name, True, text)


def weighed(status: S, written: Model, weakening: Weakening | None, now: datetime) -> S:
    """Return the status with the text that is approved by now, and with what waits."""
    digest = digest_of(written)
    tally = weakening.found(now)[1] if weakening is not None else None
    if weakening is None or tally is None or tally.suffices:
        text = written.model_dump_json(by_alias=True, exclude_none=True)
        return status.model_copy(update={"effective": text, "effective_digest": digest, "weaker": None})
    known = status.weaker if status.weaker is not None and status.weaker.digest == digest else None
    weaker = WeakerText(
        digest=digest,
        since=known.since if known is not None else now,
        fields=list(weakening.fields[:MAX_FIELDS]),
        missing=tally.missing(weakening.electorate)[:1024],
    )
    return status.model_copy(update={"weaker": weaker})


def waits(weaker: WeakerText) -> str:
    """Return the sentence about a text that waits."""
    text = f"a weaker text waits for approval ({', '.join(weaker.fields)}): {weaker.missing}"
    return f"{text}; the approved one stays in force"


def late(weaker: WeakerText, rules: ApprovalRules, now: datetime) -> str:
    """Tell whether it waits for longer than a review may: the end of a page's name, by which it is told anew."""
    return "/overdue" if now - weaker.since >= rules.review_within else ""
