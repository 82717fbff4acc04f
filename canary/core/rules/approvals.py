"""Whose word counts: the rules by which an approval of a change is counted, and the sentence that says what is missing.

Enter: the approvals of a run as the API server verified them, and the `Electorate`: who wrote the change, who is who,
what the safety policies ask. Leaves: each approval with `counts`, its person and why it does not count. Pure. A rule is
named by what must be true and returns why it is not; the first that fails is told. Silence never approves, and nobody
counts of whom it is not certain that they did not write the change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from canary.api.change import ChangeRecord
from canary.api.people import People
from canary.api.reasons import Verb
from canary.api.run import Approval
from canary.api.safety import ApprovalRules
from canary.core.evidence import Directive
from canary.core.rules.origin import hits_in_person
from canary.core.telling.wording import plain

MACHINE_USERS = ("system:",)  # service accounts, nodes, the control plane's own
MACHINE_GROUPS = frozenset({"system:masters", "system:serviceaccounts", "system:nodes"})
MAX_NAMED = 6


@dataclass(frozen=True, slots=True)
class Electorate:
    """Everything beside an approval itself that decides whether it counts."""

    record: ChangeRecord
    digest: str
    rules: ApprovalRules
    people: People = People()
    may_approve: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Requester -> whether the API server still grants them the verb `approve`; absent: it was not asked."""

    @property
    def authors(self) -> list[str]:
        """Return everybody who wrote the change or had it written; the writer at the API server is one of them."""
        return [name for name in (*self.record.authors, self.record.changed_by) if name]


def approval_of(asked: Directive, at: datetime, step: int = 0) -> Approval:
    """Return a person's request as an approval that was not judged yet."""
    return Approval(
        request=asked.name,
        verb=Verb.PROMOTE if asked.verb is Verb.PROMOTE else Verb.APPROVE,
        requester=asked.requester[:256],
        groups=list(asked.groups[:64]),
        digest=asked.digest or None,
        reason=asked.reason[:1024],
        accepts=list(asked.accepts[:16]),
        expires_at=asked.expires_at,
        present=asked.present,
        step=step,
        at=at,
    )


Rule = Callable[[Approval, Electorate], str]
"""Returns why an approval does not count; empty: nothing speaks against it."""


def signed_text(verb: str, run: str, digest: str, requester: str, expires: str = "") -> str:
    """Return what a person signs by touching a key: nothing of it can be used for another run, change or time."""
    parts = {"verb": verb, "run": run, "digest": digest, "requester": requester, "expires": expires}
    return "".join(f"{name}: {value}\n" for name, value in parts.items())


# -- the rules, in the order in which they are told ----------------------------------------------------------------


def is_of_a_person(approval: Approval, electorate: Electorate) -> str:
    machine = approval.requester.startswith(MACHINE_USERS) or MACHINE_GROUPS & set(approval.groups)
    if machine or not approval.requester or _is_nobody(approval.requester, electorate.people):
        return f"{approval.requester or 'nobody'} is a machine or an administrator's key, and no person"
    return ""


def is_of_an_approver(approval: Approval, electorate: Electorate) -> str:
    denied = sorted(set(approval.groups) & set(electorate.rules.denied_groups))
    if denied:
        return f"members of {denied[0]} never approve"
    wanted = electorate.rules.approver_groups
    if set(approval.groups) & set(wanted):
        return ""
    return f"{approval.requester} is in none of the approver groups: {_listed(wanted) or 'there are none'}"


def may_still_approve(approval: Approval, electorate: Electorate) -> str:
    if electorate.may_approve.get(approval.requester, True):
        return ""
    return f"{approval.requester} may not `approve` here any more (verb approve on canaryruns)"


def is_of_a_known_person(approval: Approval, electorate: Electorate) -> str:
    if electorate.people.owner(approval.requester) is not None:
        return ""
    return f"{approval.requester} is not in the identity map, so nobody knows whether they wrote the change"


def has_known_authors(_: Approval, electorate: Electorate) -> str:
    if not electorate.record.authors:
        return "the change names no author, so nobody can be proved to be another; `canary flag` names them"
    people = electorate.people
    unknown = [name for name in electorate.authors if not people.owner(name) and not _is_nobody(name, people)]
    if not unknown:
        return ""
    return f"its author {_listed(unknown)} is not in the identity map, so nobody can be proved to be another"


def is_of_no_author(approval: Approval, electorate: Electorate) -> str:
    person = _person(approval, electorate)
    wrote = [name for name in electorate.authors if _name_of(name, electorate.people) == person]
    if not wrote:
        return ""
    alias = "" if wrote[0] == approval.requester else f" (as {plain(wrote[0], 64)})"
    return f"you wrote this change{alias}, so your approval does not count"


def is_of_this_change(approval: Approval, electorate: Electorate) -> str:
    if approval.digest == electorate.digest:
        return ""
    return "the digest you approved is not this run's: read the change again"


def was_given_in_presence(approval: Approval, electorate: Electorate) -> str:
    if electorate.rules.presence != "Required" or approval.present:
        return ""
    return "it carries no verified signature of your security key, which the safety policy asks for"


RULES: tuple[Rule, ...] = (
    is_of_a_person,
    is_of_an_approver,
    may_still_approve,
    is_of_a_known_person,
    is_of_no_author,
    has_known_authors,
    is_of_this_change,
    was_given_in_presence,
)


# -- counting ------------------------------------------------------------------------------------------------------


def counted(approvals: Sequence[Approval], electorate: Electorate) -> list[Approval]:
    """Return the approvals as they stand now: one a person, each with its reason where it does not count.

    Time is left out: what expired stops a raise (`in_time`), but takes nothing away that was granted.
    """
    seen: dict[str, str] = {}
    assessed: list[Approval] = []
    for approval in approvals:
        if approval.verb is not Verb.APPROVE:
            assessed.append(approval)
            continue
        found = _assessed(approval, electorate)
        if found.counts and found.person in seen:
            found = _refused(found, f"{found.person} approved already, as {seen[found.person]}")
        if found.counts:
            seen[found.person] = found.requester
        assessed.append(found)
    return assessed


def _assessed(approval: Approval, electorate: Electorate) -> Approval:
    person = _person(approval, electorate)
    why_not = next((why for rule in RULES if (why := rule(approval, electorate))), "")
    senior = not why_not and bool(set(approval.groups) & set(electorate.rules.senior_groups))
    update = {"person": person[:256], "counts": not why_not, "why_not": why_not[:1024], "senior": senior}
    return approval.model_copy(update=update)


def _refused(approval: Approval, why: str) -> Approval:
    return approval.model_copy(update={"counts": False, "senior": False, "why_not": why[:1024]})


def in_time(approval: Approval, rules: ApprovalRules, now: datetime) -> bool:
    """Tell whether a raise may rest on the approval now: given before, and neither it nor the rule's time is over."""
    ends = approval.at + rules.expire_after
    return approval.at <= now < (ends if approval.expires_at is None else min(ends, approval.expires_at))


@dataclass(frozen=True, slots=True)
class Tally:
    """What is there of what is asked."""

    given: tuple[Approval, ...]
    count: int
    senior: int

    @property
    def suffices(self) -> bool:
        return len(self.given) >= self.count and self._seniors >= self.senior

    @property
    def _seniors(self) -> int:
        return sum(approval.senior for approval in self.given)

    def missing(self, electorate: Electorate) -> str:
        """Say what is there, what is missing and who could give it: "has sam, needs 1 senior who is not dana"."""
        names = [approval.person or approval.requester for approval in self.given]
        seniors = max(0, self.senior - self._seniors)
        others = max(0, self.count - len(self.given) - seniors)
        asked = [
            f"{count} {one if count == 1 else one + 's'}"
            for count, one in ((seniors, "senior"), (others, "approver"))
            if count
        ]
        return f"has {_listed(names) or 'none'}, needs {' and '.join(asked)}{_who(electorate)}"


def tally(approvals: Sequence[Approval], asked: tuple[int, int]) -> Tally:
    """Gather the approvals that count out of those `counted`. `asked`: how many people, and seniors among them."""
    given = tuple(each for each in approvals if each.verb is Verb.APPROVE and each.counts)
    return Tally(given, *asked)


def _who(electorate: Electorate) -> str:
    """Name the groups that could give it, and the authors who could not."""
    people, rules = electorate.people, electorate.rules
    authors = sorted({_name_of(name, people) for name in electorate.authors if not _is_nobody(name, people)})
    groups = _listed(sorted({*rules.approver_groups, *rules.senior_groups}))
    return (f" of {groups}" if groups else "") + (
        f" who is not {_listed(authors, ' or ')}" if authors else ""
    )


def _is_nobody(name: str, people: People) -> bool:
    """Tell whether this is a listed bot or account of a machine, or how an AI signs; a person's own name never is."""
    if people.owner(name) is not None:
        return False
    return people.is_machine(name) or next(hits_in_person(name), None) is not None


def _name_of(name: str, people: People) -> str:
    owner = people.owner(name)
    return owner.name if owner is not None else plain(name, 64)


def _person(approval: Approval, electorate: Electorate) -> str:
    return _name_of(approval.requester, electorate.people)


def _listed(names: Sequence[str], between: str = ", ") -> str:
    shown = [plain(name, 64) for name in names[:MAX_NAMED]]
    return between.join([*shown, "..."] if len(names) > MAX_NAMED else shown)
