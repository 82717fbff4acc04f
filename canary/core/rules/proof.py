"""Does a verified statement prove that people alone wrote this change? Every gap has a name; any gap is `unknown`.

A statement whose signature `audit/attest.py` verified comes in, with what would be released; one piece of evidence of
level E4 comes out. A statement proves only the very images, commits and fields that it names, and only for a while.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canary.api.attestation import ChangeOrigin, Statement
from canary.api.change import OriginEvidence
from canary.api.reasons import GROUP, Origin
from canary.core.rules.origin import MAX_DETAIL
from canary.core.rules.templates import differences

SOURCE = "attestation"
AT_DIGEST = "@sha256:"
_FREE = re.compile(
    rf"spec\.(initContainers|containers)\[[^]]*\]\.image$|metadata\.(creationTimestamp$|annotations\[{GROUP}/)"
)
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """What a statement has to cover."""

    images: tuple[str, ...]
    """Of every container of the new template."""
    fields: tuple[str, ...]
    """Of the template, other than images, that differ from the serving one."""
    base: str
    """The commit of the serving version; empty: no run on record says which."""
    range: str
    """The range that the change's record names."""
    now: datetime
    commits: frozenset[str] = frozenset()
    """All of that range, where somebody can look; empty: nobody can."""


def evidence_of_statement(statement: Statement, release: Release) -> OriginEvidence:
    """Return what a verified statement proves: ai where it names an agent, human where nothing is left open."""
    origin = statement.predicate
    if origin.agents:
        return evidence(Origin.AI, f"it names {', '.join(origin.agents)}")
    gap = next(gaps(statement, release), None)
    if gap is not None:
        return evidence(Origin.UNKNOWN, gap)
    text = f"commits up to {origin.head[:12]}: {len(origin.commits)}, each signed by a person"
    return evidence(Origin.HUMAN, text)


def evidence(says: Origin, detail: str) -> OriginEvidence:
    return OriginEvidence(level="E4", says=says, source=SOURCE, detail=detail[:MAX_DETAIL])


def gaps(statement: Statement, release: Release) -> Iterator[str]:
    """Say everything that the statement leaves unproved."""
    origin, subjects = statement.predicate, {each.digest.sha256 for each in statement.subject}
    if origin.expires_at <= release.now:
        yield f"it expired at {origin.expires_at:%Y-%m-%d %H:%M}Z"
    yield from unsigned(origin)
    for image in release.images:
        name, pinned, digest = image.partition(AT_DIGEST)
        if not pinned:
            yield f"the image {image} is not named by its digest"
        elif digest not in subjects:
            yield f"it does not speak of the image {name}"
    if origin.base != release.base:
        serving = f"the serving version is {release.base[:12]}" if release.base else "no run says what serves"
        yield f"it counts commits from {origin.base[:12]}; {serving}"
    if release.range != f"{origin.base}..{origin.head}":
        yield f"it speaks of {origin.base[:12]}..{origin.head[:12]}, the record of another range"
    if release.commits and release.commits != frozenset(commit.sha for commit in origin.commits):
        yield "it does not list the commits of its range"
    for path in release.fields:
        if not any(
            path == listed or path.startswith((f"{listed}.", f"{listed}[")) for listed in origin.fields
        ):
            yield f"it does not list {path}, which changes"


def unsigned(origin: ChangeOrigin) -> Iterator[str]:
    """Say which commits no known person signed."""
    for commit in origin.commits:
        if not commit.key:
            yield f"no known person signed {commit.sha[:12]} by {commit.author}"


def head_of(source_range: str) -> str:
    """Return the commit that a range "BASE..HEAD" ends with, or nothing."""
    return source_range.partition("..")[2]


def images_of(template: Json) -> tuple[str, ...]:
    """Return the image of every container, those that run before included."""
    spec: Json = template["spec"]
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    return tuple(container["image"] for container in containers)


def changed_paths(old: Json, new: Json) -> tuple[str, ...]:
    """Return the paths at which two pod templates differ, less images and what others note in annotations of ours."""
    return tuple(path for path in differences(old, new) if not _FREE.match(path))
