"""Who wrote a change: evidence from commits, forge, annotations and signed statements becomes ai, human or unknown.

    E0  annotations of the Deployment: anybody may write them, so they count only towards more AI
    E1  the git range      E2  the API writer      E3  what the forge says, as CI reads it
    E4  a signed statement: alone able to prove a human

The most suspicious evidence wins, and no evidence at all is `unknown`, which is treated as AI. `canary flag` and
`canary attest` bring commits and forge facts, the controller annotations and verified statements. Pure.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from canary.api.change import MAX_EVIDENCE, ChangeAnnotation, OriginEvidence
from canary.api.reasons import Origin
from canary.core.rules.folding import disguised, folded, joined, squeezed
from canary.core.rules.signatures import SIGNATURES, Signature

MAX_EVIDENCE_BYTES = 4096
MAX_DETAIL = 160
EARLIER_RUN, LOOKALIKES = "earlier-run", "lookalikes"
_WRITTEN_BY = re.compile(r"^[>* -]{0,8}(co-authored-by|author) ?: ?(.*)$", re.MULTILINE)
_WHO = ("by", "author", "committer")
_SLASHED = re.compile(r"(?<=/)")
_SUSPICION = (Origin.HUMAN, Origin.UNKNOWN, Origin.AI)

Level = Literal["E0", "E1", "E2", "E3", "E4"]


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of the range; people are written "Name <mail>"."""

    sha: str
    author: str
    committer: str
    message: str


@dataclass(frozen=True, slots=True)
class Forge:
    """What the forge says of the change, as an authenticated CI job reads it; empty: it says nothing."""

    branch: str = ""
    opener: str = ""
    labels: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    """Title and description of the pull request."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A signature that was found: whose, and what of it."""

    agent: str
    mark: str


def origin_of(evidence: Iterable[OriginEvidence]) -> Origin:
    """Return the most suspicious thing that any evidence says; only a verified statement proves a human."""
    found = list(evidence)
    if not any(item.says is Origin.HUMAN and item.level == "E4" for item in found):
        found.append(OriginEvidence(level="E0", says=Origin.UNKNOWN, source="nothing"))
    return max((item.says for item in found), key=_SUSPICION.index)


def agents_of(evidence: Iterable[OriginEvidence]) -> list[str]:
    """Return the agents that the evidence names, each once."""
    known = {signature.agent for signature in SIGNATURES}
    return list(
        dict.fromkeys(item.source for item in evidence if item.says is Origin.AI and item.source in known)
    )


# -- where signatures stand -----------------------------------------------------------------------------------------


def hits_in_text(text: str) -> Iterator[Hit]:
    """Find marks and account numbers anywhere, and signing lines ("Key: Name <mail>"), in free text."""
    text = folded(text)
    yield from _marks_in(squeezed(text))
    for signed in _lines(_SIGNING_LINE, text):
        key = signed[1].replace(" ", "-")
        yield from _listed("trailers", key)
        if key.endswith(_WHO):
            yield from hits_in_name(signed[2])


def _lines(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Find lines of a folded text: those that stand there, and those that a fold broke in two."""
    yield from pattern.finditer(text)
    if (whole := joined(text)) != text:
        yield from pattern.finditer(whole)


def hits_in_person(person: str) -> Iterator[Hit]:
    """Find an agent in an author, a committer or the opener of a pull request."""
    yield from _marks_in(squeezed(folded(person)))
    yield from hits_in_name(folded(person))


def hits_in_name(person: str) -> Iterator[Hit]:
    """Find an agent's name in a folded "Name (what) <mail>"."""
    whole = person.partition("<")[0]
    for part in (whole.partition("(")[0], *re.findall(r"\(([^()]*)\)", whole)):
        name = part.strip(" \"'")
        for signature, known in _all("names"):
            if name == known or (known.endswith("*") and name.startswith(known[:-1])):
                yield Hit(signature.agent, name)


def hits_in_branch(branch: str) -> Iterator[Hit]:
    yield from _marks_in(squeezed(folded(branch)))
    parts = _SLASHED.split(folded(branch))
    for start in range(len(parts)):
        rest = "".join(parts[start:])
        for signature, known in _all("branches"):
            if rest.startswith(known):
                yield Hit(signature.agent, known)


def hits_in_label(label: str) -> Iterator[Hit]:
    yield from _listed("labels", re.sub(r"[\s_:]+", "-", folded(label).strip()))


def _marks_in(text: str) -> Iterator[Hit]:
    for needle, hit in _NEEDLES:
        if needle in text:
            yield hit


def _listed(field: str, text: str) -> Iterator[Hit]:
    yield from (Hit(signature.agent, known) for signature, known in _all(field) if text == known)


def _all(field: str) -> Iterator[tuple[Signature, Any]]:
    for signature in SIGNATURES:
        yield from ((signature, known) for known in getattr(signature, field))


_TRAILERS = "|".join(re.escape(trailer).replace("\\-", "[- ]") for _, trailer in _all("trailers"))
_SIGNING_LINE = re.compile(
    rf"^[>* -]{{0,8}}([a-z][a-z -]{{0,39}}by|author|committer|{_TRAILERS}) ?:(.*)$", re.MULTILINE
)
_NEEDLES = (
    *((squeezed(folded(mark)), Hit(signature.agent, mark)) for signature, mark in _all("marks")),
    *((f"{number}+", Hit(signature.agent, f"account {number}")) for signature, number in _all("accounts")),
)


# -- evidence -------------------------------------------------------------------------------------------------------


def evidence_of_commits(commits: Iterable[Commit]) -> list[OriginEvidence]:
    """Return what the commits of a range say: one item an agent, with the first place and how many more there are."""
    first: dict[str, str] = {}
    more: dict[str, int] = {}
    for commit in commits:
        for agent, detail in _agents_in(commit).items():
            if agent in first:
                more[agent] = more.get(agent, 0) + 1
            first.setdefault(agent, detail)
    counted = {agent: f", and in {number} more" for agent, number in more.items()}
    return [
        _item(
            "E1", agent, detail + counted.get(agent, ""), Origin.UNKNOWN if agent == LOOKALIKES else Origin.AI
        )
        for agent, detail in first.items()
    ]


def _agents_in(commit: Commit) -> dict[str, str]:
    """Return agent -> where it signed; a text that was made to look like another is suspicious, too."""
    places = {
        "author": (hits_in_person, commit.author),
        "committer": (hits_in_person, commit.committer),
        "message": (hits_in_text, commit.message),
    }
    found: dict[str, str] = {}
    for place, (hits_in, text) in places.items():
        for hit in hits_in(text):
            found.setdefault(hit.agent, f"{hit.mark} in the {place} of {commit.sha[:12]}")
        if disguised(text):
            found.setdefault(LOOKALIKES, f"letters that look like others in the {place} of {commit.sha[:12]}")
    return found


def evidence_of_forge(forge: Forge) -> list[OriginEvidence]:
    """Return what branch, opener, labels and texts of the pull request say."""
    found = [("branch", hit) for hit in hits_in_branch(forge.branch)]
    found += [("opener", hit) for hit in hits_in_person(forge.opener)]
    found += [("label", hit) for label in forge.labels for hit in hits_in_label(label)]
    found += [("pull request", hit) for text in forge.texts for hit in hits_in_text(text)]
    places = {(hit.agent, place): hit for place, hit in found}
    return [_item("E3", agent, f"{hit.mark} in the {place}") for (agent, place), hit in places.items()]


def evidence_of_annotations(annotations: Mapping[str, str]) -> list[OriginEvidence]:
    """Return what the annotations of a Deployment say. Whatever says `human` here says nothing."""
    found: list[OriginEvidence] = []
    said = annotations.get(ChangeAnnotation.ORIGIN, "").strip()
    if said == Origin.AI:
        found.append(_item("E0", "origin", said))
    elif said and said not in set(Origin):
        found.append(_item("E0", "origin", f"{said[:40]} is none of {', '.join(Origin)}", Origin.UNKNOWN))
    if agents := annotations.get(ChangeAnnotation.AGENTS, "").strip():
        found.append(_item("E0", "agents", agents))
    writer = annotations.get(ChangeAnnotation.CHANGED_BY, "")
    found += [_item("E2", hit.agent, f"{hit.mark} wrote it") for hit in hits_in_person(writer)]
    return [*found, *parse_evidence(annotations.get(ChangeAnnotation.ORIGIN_EVIDENCE, ""))][:MAX_EVIDENCE]


def carried(evidence: Iterable[OriginEvidence], run: str) -> list[OriginEvidence]:
    """Return what an earlier run of the same template still says: AI once is AI for ever."""
    if any(item.says is Origin.AI for item in evidence):
        return [_item("E0", EARLIER_RUN, f"the run {run} of this template found AI")]
    return []


def _item(level: Level, source: str, detail: str, says: Origin = Origin.AI) -> OriginEvidence:
    return OriginEvidence(level=level, says=says, source=source, detail=detail[:MAX_DETAIL])


def authors_of(commits: Iterable[Commit], others: Iterable[str] = ()) -> list[str]:
    """Return the people who wrote the commits, and `others`, by mail or forge login, each once and no agent."""
    written = [person for commit in commits for person in (commit.author, *_co_authors(commit.message))]
    people = [_identity(person) for person in (*written, *others) if not any(hits_in_person(person))]
    return list(dict.fromkeys(person for person in people if person))


def _co_authors(message: str) -> Iterator[str]:
    """Yield who is named as an author; without a mail only a co-author, and only where no fold breaks the line."""
    text = folded(message)
    yield from (person for _, person in _WRITTEN_BY.findall(text) if "<" in person)
    yield from (
        person for key, person in _WRITTEN_BY.findall(joined(text)) if "<" in person or key != "author"
    )


def _identity(person: str) -> str:
    """Return the mail of "Name <mail>", the login in a noreply address of a forge, or the name alone."""
    name, _, rest = person.partition("<")
    mail = rest.partition(">")[0].strip().lower()
    login, found, _ = mail.partition("@users.noreply.")
    return (login.rpartition("+")[2] if found else mail or name.strip()).replace(",", " ")


# -- as an annotation -----------------------------------------------------------------------------------------------


def write_evidence(evidence: Sequence[OriginEvidence]) -> str:
    """Return the evidence as JSON of at most 4 KiB; the least suspicious is cut first."""
    by_suspicion = sorted(evidence, key=lambda item: -_SUSPICION.index(item.says))[:MAX_EVIDENCE]
    while True:
        text = json.dumps([item.wire() for item in by_suspicion], separators=(",", ":"))
        if len(text) <= MAX_EVIDENCE_BYTES:
            return text
        by_suspicion.pop()


def parse_evidence(text: str) -> list[OriginEvidence]:
    """Read what `write_evidence` wrote, from an annotation that anybody may write: suspicion is believed, no more."""
    if not text.strip():
        return []
    try:
        if len(text) > 2 * MAX_EVIDENCE_BYTES:
            raise ValueError("it is too long")
        raw: Any = json.loads(text)
        items = [OriginEvidence.model_validate(each) for each in raw][:MAX_EVIDENCE]
    except (ValueError, TypeError, RecursionError):  # pydantic's error is a ValueError
        source = ChangeAnnotation.ORIGIN_EVIDENCE.value.rpartition("/")[2]
        return [_item("E0", source, "it cannot be read", Origin.UNKNOWN)]
    return [_disarmed(item) for item in items if item.says is not Origin.HUMAN]


def _disarmed(item: OriginEvidence) -> OriginEvidence:
    """Return an item as anybody may state it: not as a verified statement, nor as what an earlier run found."""
    level = "E0" if item.level == "E4" else item.level
    source = "annotation" if item.source == EARLIER_RUN else item.source
    return item.model_copy(update={"level": level, "source": source})
