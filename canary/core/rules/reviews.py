"""The review of a bypass: two people other than who used it, when it is over, before the app's next change.

Enter: the runs of a policy, what went round its hold, and what was said of both. Leave: what is still owed, since when,
and the answers. Pure; `intake` asks before it starts a run, the policy's look calls people when a review is overdue.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from canary.api.policy import CanaryPolicyStatus
from canary.core.decision import Answer, Run
from canary.core.evidence import Directive

REVIEWERS = 2
REVIEW_WITHIN = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Review:
    """Somebody's word on a bypass that is over."""

    about: str
    """The run, or the hash of the template that went round the hold; empty: nothing that waits for a review."""
    person: str
    used_by: str
    """The person who used the bypass; empty: not known."""
    asked: Directive | None = None
    """The request that waits for its answer; None: it was answered with yes before."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A review that is still owed: of what, since when, and the sentence with the command."""

    about: str
    since: datetime
    message: str

    def overdue(self, now: datetime) -> timedelta:
        """Return for how long it should have been done; nothing or less: it is in time."""
        return now - self.since - REVIEW_WITHIN


def reviewed_by(about: str, reviews: Sequence[Review]) -> int:
    """Return how many people reviewed it."""
    return len({each.person for each in reviews if each.about == about and each.asked is None})


def review_owed(status: CanaryPolicyStatus, runs: Sequence[Run], reviews: Sequence[Review]) -> Owed | None:
    """Return the bypass that still waits for its reviewers: until then no other change of the app begins."""
    for run in runs:
        bypass, found = run.status.bypass, reviewed_by(run.name, reviews)
        if bypass is not None and run.status.phase.final and found < REVIEWERS:
            text = f"break-glass by {bypass.requester} in {run.name} is reviewed by {found} of {REVIEWERS} people"
            text += f": `canary approve run/{run.name} --reason ...` by others than {bypass.requester}"
            return Owed(run.name, bypass.at, text)
    passed = status.went_round
    if passed is None:
        return None
    name, version = (
        passed.revision.template_hash,
        passed.revision.version or passed.revision.template_hash[7:19],
    )
    text = f"{version} serves, and nobody let it through; reviewed by {reviewed_by(name, reviews)} of {REVIEWERS} "
    return Owed(
        name, passed.since, f"{text}people: `canary approve` of its workload, or apply the last good manifest"
    )


def answers_to(reviews: Sequence[Review]) -> Iterator[Answer]:
    """Answer who reviews a bypass: each person once, and never who used it."""
    known = {(each.about, each.person) for each in reviews if each.asked is None}
    for each in reviews:
        if each.asked is None:
            continue
        asked, place = each.asked, (each.about, each.person)
        refused = f"{asked.requester} is a machine: a person must review" if asked.machine else ""
        refused = refused or ("" if each.about else "nothing that went round the hold waits for this review")
        refused = refused or (f"{each.person} reviewed it already" if place in known else "")
        refused = (
            f"{each.person} used the bypass; two others review it" if each.person == each.used_by else refused
        )
        known |= set() if refused else {place}
        count = sum(about == each.about for about, _ in known)
        yield Answer(
            asked.uid, asked.name, not refused, refused or f"reviewed by {count} of {REVIEWERS} people"
        )
