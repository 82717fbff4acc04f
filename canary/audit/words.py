"""The words of people that records rest on, held against the CanaryRequests that the API server verified.

Enter: records of runs, the requests of the cluster, and who is who. Leaves: a sentence for each approval that a record
counts, and each bypass, that no request says, or for which no key was touched as the record says. Requests go with
their run, so a record of a run that is no longer stored proves nothing here. Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from canary.api.people import People
from canary.api.reasons import Verb
from canary.api.types import format_timestamp
from canary.audit.chain import Record
from canary.audit.entries import RecordKind
from canary.core.rules.approvals import signed_text
from canary.core.telling.stored import under
from canary.core.telling.wording import moment, plain
from canary.errors import RefusedError

Request = Mapping[str, Any]
Place = tuple[str, str]  # a namespace, and a name in it
SAID = ("verb", "requester", "digest", "reason")


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What the words are held against."""

    requests: Iterable[Request]
    runs: Collection[Place]
    """The runs that are still stored, and so their requests."""
    people: People | None = None
    """Who is who, with their keys; None: not given."""
    _known: dict[Place, Request] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", {_place(each): each for each in self.requests})

    def request(self, place: Place) -> Request | None:
        return self._known.get(place)


def unsaid(records: Iterable[Record], witnesses: Witnesses) -> Iterator[str]:
    """Yield what records say that people said, and their requests do not; each word once."""
    told: set[tuple[Place, str]] = set()
    for record in records:
        home = str(record.get("namespace"))
        if (home, str(record.get("run"))) not in witnesses.runs:
            continue
        for what, word in _words(record):
            place = home, str(under(word, "request"))
            said = _differs(word, witnesses.request(place), record)
            said = said or _untouched(word, witnesses.request(place), record, witnesses.people)
            if said and (place, said) not in told:
                told.add((place, said))
                who = plain(under(word, "requester"), 64)
                yield f"record {record.get('sequence')}: the {what} of {who} {said}"


def _words(record: Record) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each approval that a record counts, and its bypass, with what people call it."""
    approvals, bypass = record.get("approvals"), record.get("bypass")
    for approval in approvals if isinstance(approvals, list) else []:
        if isinstance(approval, Mapping) and approval.get("counts") is True:
            yield "approval", approval
    if isinstance(bypass, Mapping) or record.get("kind") == RecordKind.BYPASS:
        named = bypass if isinstance(bypass, Mapping) else {"requester": record.get("by")}
        yield "bypass", {"verb": Verb.BYPASS.value, **named}


def _differs(word: Mapping[str, Any], request: Request | None, record: Record) -> str:
    """Say how a word differs from its request; empty: it does not. What a word does not have is not compared."""
    name = plain(word.get("request"), 128)
    if request is None:
        return f"names the request {name}, which is not there" if name else "names no request"
    if under(request, "spec", "subject", "name") != record.get("run"):
        return f"names the request {name}, which is about {plain(under(request, 'spec', 'subject', 'name'), 128)}"
    compared = [each for each in SAID if each != "digest" or word["verb"] != Verb.BYPASS]
    other = [each for each in compared if (word.get(each) or "") != (under(request, "spec", each) or "")]
    return f"is not what the request {name} says ({', '.join(other)})" if other else ""


def _untouched(
    word: Mapping[str, Any], request: Request | None, record: Record, people: People | None
) -> str:
    """Say why a word is not signed by its person's security key, though the record says that one was touched."""
    if word.get("present") is not True:
        return ""
    if people is None:
        return "counts by the touch of a security key, and nobody said whose keys are whose (--people)"
    requester, spec = str(word.get("requester")), under(request, "spec")
    person, ends = people.owner(requester), moment(under(spec, "expiresAt"))
    subject = f"{record.get('namespace')}/{record.get('run')}"
    expires = format_timestamp(ends) if ends is not None else ""
    text = signed_text(str(word.get("verb")), subject, str(word.get("digest") or ""), requester, expires)
    from canary.audit import sshsig  # its cryptography is needed only here

    try:
        sshsig.verify(str(under(spec, "signature") or ""), text, person.keys if person is not None else ())
    except RefusedError as error:
        return f"carries no signature of their security key: {error}"
    return ""


def _place(request: Request) -> Place:
    return str(under(request, "metadata", "namespace")), str(under(request, "metadata", "name"))
