"""The words of people that records rest on, held against the CanaryRequests that the API server verified.

Enter: records of runs, and the requests of the cluster. Leaves: a sentence for each approval that a record counts and
no request says. Requests go with their run, so a record of a run that is no longer stored proves nothing here. Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from canary.audit.chain import Record
from canary.core.telling.stored import under
from canary.core.telling.wording import plain

Request = Mapping[str, Any]
Place = tuple[str, str]  # a namespace, and a name in it
SAID = ("verb", "requester", "digest", "reason")


def unsaid(records: Iterable[Record], requests: Iterable[Request], runs: Collection[Place]) -> Iterator[str]:
    """Yield what records say that people said, and their requests do not; each approval once."""
    known = {_place(each): each for each in requests}
    told: set[tuple[Place, str]] = set()
    for record in records:
        home, approvals = str(record.get("namespace")), record.get("approvals")
        if (home, str(record.get("run"))) not in runs or not isinstance(approvals, list):
            continue
        for approval in approvals:
            name = str(under(approval, "request"))
            said = _differs(approval, known.get((home, name)), str(record.get("run")))
            if said and under(approval, "counts") is True and ((home, name), said) not in told:
                told.add(((home, name), said))
                who = plain(under(approval, "requester"), 64)
                yield f"record {record.get('sequence')}: the approval of {who} {said}"


def _differs(approval: object, request: Request | None, run: str) -> str:
    """Say how an approval differs from its request; empty: it does not."""
    name = plain(under(approval, "request"), 128)
    if request is None:
        return f"names the request {name}, which is not there"
    if under(request, "spec", "subject", "name") != run:
        return f"names the request {name}, which is about {plain(under(request, 'spec', 'subject', 'name'), 128)}"
    other = [each for each in SAID if (under(approval, each) or "") != (under(request, "spec", each) or "")]
    return f"is not what the request {name} says ({', '.join(other)})" if other else ""


def _place(request: Request) -> Place:
    return str(under(request, "metadata", "namespace")), str(under(request, "metadata", "name"))
