"""The review of a bypass: two people other than who used it, after its run is over, before the app's next change.

Enter: the runs of a policy and what was said about their bypasses. Leave: what is still owed, and the answers. Pure;
`intake` asks before it starts a run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from canary.core.decision import Answer, Run
from canary.core.evidence import Directive

REVIEWERS = 2


@dataclass(frozen=True, slots=True)
class Review:
    """Somebody's word on a bypass that is over."""

    run: str
    person: str
    used_by: str
    """The person who used the bypass."""
    asked: Directive | None = None
    """The request that waits for its answer; None: it was answered with yes before."""


def review_owed(runs: Sequence[Run], reviews: Sequence[Review]) -> str:
    """Say which bypass still waits for its reviewers: until then no other change of the app begins."""
    for run in runs:
        bypass = run.status.bypass
        found = {each.person for each in reviews if each.run == run.name and each.asked is None}
        if bypass is not None and run.status.phase.final and len(found) < REVIEWERS:
            text = f"break-glass by {bypass.requester} in {run.name} is reviewed by {len(found)} of {REVIEWERS} people"
            return f"{text}: `canary approve run/{run.name} --reason ...` by others than {bypass.requester}"
    return ""


def answers_to(reviews: Sequence[Review]) -> Iterator[Answer]:
    """Answer who reviews a bypass: each person once, and never who used it."""
    known = {(each.run, each.person) for each in reviews if each.asked is None}
    for each in reviews:
        if each.asked is None:
            continue
        asked, place = each.asked, (each.run, each.person)
        refused = f"{asked.requester} is a machine: a person must review" if asked.machine else ""
        refused = refused or (f"{each.person} reviewed it already" if place in known else "")
        refused = (
            f"{each.person} used the bypass; two others review it" if each.person == each.used_by else refused
        )
        known |= set() if refused else {place}
        count = sum(run == each.run for run, _ in known)
        yield Answer(
            asked.uid, asked.name, not refused, refused or f"reviewed by {count} of {REVIEWERS} people"
        )
