"""Stored objects <-> the values of the judge: runs, policies, requests, as read from the API server.

An object that cannot be read is an `InvalidObject` for that object alone; the caller parks it and goes on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from canary.api.people import People
from canary.api.read import (
    Reading,
    parse_approved_policy,
    parse_policy,
    parse_policy_status,
    parse_request,
    parse_run,
    parse_run_status,
)
from canary.api.reasons import Verb
from canary.core.decision import Limits, Run
from canary.core.evidence import Directive
from canary.core.policy_look import Policy
from canary.core.rules.loosening import looser_fields, policy_in_force
from canary.core.rules.reviews import Review
from canary.core.telling.stored import under
from canary.core.telling.wording import moment
from canary.errors import RefusedError

Json = Mapping[str, Any]
T = TypeVar("T")
MAX_KEPT = 4_096  # objects whose last reading is kept
MACHINES = ("system:serviceaccount:", "system:node:", "system:kube-")
MAX_DIRECTIVES = 32  # answered in one look; the rest waits for the next


class Shelf(Generic[T]):
    """Keeps the last reading of each object, so that one that did not change is read once. Safe between threads."""

    def __init__(self, read: Callable[[Json], T]) -> None:
        self._read = read
        self._kept: dict[str, tuple[str, T]] = {}

    def read(self, obj: Json) -> T:
        """Return what `read` makes of the object; raise what it raises."""
        uid, version = obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
        kept = self._kept.get(uid)
        if kept is not None and kept[0] == version:
            return kept[1]
        value = self._read(obj)
        self.keep(obj, value)
        return value

    def keep(self, obj: Json, value: T) -> None:
        """Keep what reading this object would give, where that is known already."""
        if len(self._kept) >= MAX_KEPT:
            self._kept = {}  # the next looks fill it again
        self._kept[obj["metadata"]["uid"]] = (obj["metadata"]["resourceVersion"], value)


def run_of(obj: Json, limits: Limits) -> Run:
    """Read a CanaryRun. Raise InvalidObject where it cannot be."""
    meta = obj["metadata"]
    return Run(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        spec=parse_run(obj, Reading.LENIENT),
        status=parse_run_status(obj),
        limits=limits,
        stored_spec=obj["spec"],
    )


def policy_of(obj: Json) -> Policy:
    """Read a CanaryPolicy. Raise InvalidObject where it cannot be."""
    meta, written, status = obj["metadata"], parse_policy(obj, Reading.LENIENT), parse_policy_status(obj)
    approved = parse_approved_policy(status.effective) if status.effective else None
    spec = policy_in_force(approved, written)
    return Policy(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        spec=spec,
        status=status,
        written=written if approved is not None and looser_fields(approved, written) else None,
    )


class Asked(NamedTuple):
    """What a request is about: a CanaryRun or a CanaryPolicy, its uid and its name."""

    kind: str
    uid: str
    name: str


def _person(people: People, user: str) -> str:
    owner = people.owner(user)
    return owner.name if owner is not None else user


def reviews_of(run: Run, requests: Iterable[Json], people: People) -> Iterator[Review]:
    """Yield the words on a run's bypass since its end: those that were answered with yes, then those that wait."""
    requests, ended = list(requests), run.status.finished_at
    used_by = _person(people, run.status.bypass.requester) if run.status.bypass is not None else ""
    for obj in requests:
        spec, asked = under(obj, "spec"), moment(under(obj, "metadata", "creationTimestamp"))
        about = under(spec, "subject", "uid") == run.uid and under(spec, "verb") == Verb.APPROVE
        since = ended is not None and asked is not None and asked >= ended
        if about and since and under(obj, "status", "outcome") == "Done":
            yield Review(run.name, _person(people, str(under(spec, "requester"))), used_by)
    for directive in directives_for(requests, Asked("CanaryRun", run.uid, run.name)):
        if directive.verb is Verb.APPROVE:
            yield Review(run.name, _person(people, directive.requester), used_by, directive)


def reviews_of_policy(policy: Policy, requests: Iterable[Json], people: People, by: str) -> Iterator[Review]:
    """Yield the words on what went round the policy's hold, written by `by` as far as that is known."""
    passed, requests = policy.status.went_round, list(requests)
    current = passed.revision.template_hash if passed is not None else ""
    asked = Asked("CanaryPolicy", policy.uid, policy.name)
    waiting = {each.uid: each for each in directives_for(requests, asked)}
    used_by = _person(people, by) if by else ""
    for directive, _ in approvals_of(requests, asked):
        about = directive.digest if directive.digest == current else ""
        waits = waiting.get(directive.uid)
        if waits is not None or about:
            yield Review(about, _person(people, directive.requester), used_by, waits)


def approvals_of(requests: Iterable[Json], subject: Asked) -> Iterator[tuple[Directive, datetime]]:
    """Yield every approval of this, with its time, but those that were refused: requests are never edited."""
    for obj in requests:
        directive, at = _directive(obj, subject), moment(under(obj, "metadata", "creationTimestamp"))
        if directive is None or at is None or directive.verb is not Verb.APPROVE:
            continue
        if under(obj, "status", "outcome") != "Refused":
            yield directive, at


def directives_for(requests: Iterable[Json], subject: Asked) -> tuple[Directive, ...]:
    """Return the unanswered requests about this, oldest first. One that cannot be read asks for nothing."""
    found: list[tuple[str, Directive]] = []
    for obj in requests:
        if (obj.get("status") or {}).get("outcome", "Pending") != "Pending":
            continue
        directive = _directive(obj, subject)
        if directive is not None:
            found.append((obj["metadata"].get("creationTimestamp", ""), directive))
    return tuple(directive for _, directive in sorted(found, key=lambda item: item[0]))[:MAX_DIRECTIVES]


def _directive(obj: Json, wanted: Asked) -> Directive | None:
    try:
        spec = parse_request(obj, Reading.LENIENT)
    except RefusedError:
        return None
    subject = spec.subject
    if (subject.kind, subject.name) != (wanted.kind, wanted.name) or subject.uid not in ("", wanted.uid):
        return None
    return Directive(
        uid=obj["metadata"]["uid"],
        name=obj["metadata"]["name"],
        verb=Verb(spec.verb),
        requester=spec.requester,
        groups=tuple(spec.groups),
        reason=spec.reason,
        digest=spec.digest or "",
        to_ppm=spec.to,
        machine=spec.requester.startswith(MACHINES),
        accepts=tuple(spec.accepts),
        expires_at=spec.expires_at,
        signature=spec.signature,
    )
