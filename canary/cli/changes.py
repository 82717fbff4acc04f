"""The change record of a git range: who wrote it, on what evidence, and what its authors say of it.

Enter: the commits, the CI job, a verified statement, and what was given on the command line. Leaves: the annotations
of a Deployment, all of them, so that nothing of the change before stays. `canary flag` prints them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canary.api.change import MAX_AUTHORS, ChangeAnnotation, OriginEvidence
from canary.api.reasons import Origin
from canary.cli.documents import titled
from canary.cli.forge import Job
from canary.cli.git import Range
from canary.core.rules.origin import (
    agents_of,
    authors_of,
    evidence_of_commits,
    evidence_of_forge,
    origin_of,
    write_evidence,
)
from canary.errors import RefusedError

MAX_TEXT = 4096
_FOLD = re.compile(r"\r?\n[ \t]+")
_SAID = {
    ChangeAnnotation.WHY: "why",
    ChangeAnnotation.ROLLBACK_PLAN: "rollback-plan",
    ChangeAnnotation.SECURITY_IMPACT: "security-impact",
}


@dataclass(frozen=True, slots=True)
class Flagged:
    """What is known of a change."""

    range: Range
    evidence: tuple[OriginEvidence, ...]
    authors: tuple[str, ...]
    texts: Mapping[ChangeAnnotation, str]

    @property
    def origin(self) -> Origin:
        return origin_of(self.evidence)

    @property
    def agents(self) -> list[str]:
        return agents_of(self.evidence)

    def annotations(self) -> dict[str, str | None]:
        """Return every annotation of the record that CI writes; None: the change has none, an older one must go."""
        if len(self.authors) > MAX_AUTHORS:
            text = f"{len(self.authors)} authors are more than {MAX_AUTHORS}: release fewer commits at once"
            raise RefusedError(text, code="CAN-2302")
        found = {
            **self.texts,
            ChangeAnnotation.ORIGIN: self.origin.value,
            ChangeAnnotation.ORIGIN_EVIDENCE: write_evidence(self.evidence),
            ChangeAnnotation.AGENTS: ",".join(self.agents),
            ChangeAnnotation.AUTHORS: ",".join(self.authors),
            ChangeAnnotation.SOURCE_RANGE: str(self.range),
        }
        keys = [key for key in ChangeAnnotation if key is not ChangeAnnotation.CHANGED_BY]
        return {key.value: found.get(key) or None for key in keys}

    def document(self) -> dict[str, Any]:
        """Return `canary flag -o json`."""
        return titled(
            "flag",
            origin=self.origin.value,
            agents=self.agents,
            authors=list(self.authors),
            range={"base": self.range.base, "head": self.range.head, "commits": len(self.range.commits)},
            evidence=[item.wire() for item in self.evidence],
            annotations=self.annotations(),
        )


def flagged(
    wanted: Range, job: Job, given: Mapping[ChangeAnnotation, str], proof: Sequence[OriginEvidence]
) -> Flagged:
    """Gather what is known of a range. `given`: texts of the command line, which win over those of commits."""
    evidence = [*evidence_of_commits(wanted.commits), *evidence_of_forge(job.forge), *proof]
    if not wanted.straight:
        detail = "the base is no ancestor of the head: commits are taken away, too"
        evidence.append(OriginEvidence(level="E1", says=Origin.UNKNOWN, source="range", detail=detail))
    authors = authors_of(wanted.commits, (job.forge.opener, job.trigger))
    return Flagged(wanted, tuple(evidence), tuple(authors), _texts(wanted, job, given))


def _texts(wanted: Range, job: Job, given: Mapping[ChangeAnnotation, str]) -> dict[ChangeAnnotation, str]:
    messages = [*job.forge.texts, *(commit.message for commit in wanted.commits)]
    title = next((text for text in messages if text.strip()), "").strip().partition("\n")[0]
    said = {key: next(_lines_of(messages, name), "") for key, name in _SAID.items()}
    found = {
        ChangeAnnotation.CHANGE_ID: job.change_id or wanted.head[:12],
        ChangeAnnotation.WHAT: title,
        ChangeAnnotation.SOURCE_REPO: job.repo,
        **said,
        **{key: text for key, text in given.items() if text},
    }
    return {key: text.strip()[:MAX_TEXT] for key, text in found.items()}


def _lines_of(texts: Sequence[str], name: str) -> Iterator[str]:
    """Yield what stands after "Name:" at the beginning of a line, in the order of the texts."""
    line = re.compile(rf"^{name}[ \t]*:[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
    for text in texts:
        yield from (found.strip() for found in line.findall(_FOLD.sub(" ", text)))


def annotated(manifests: Sequence[Any], annotations: Mapping[str, str | None]) -> list[Any]:
    """Return the manifests with the annotations on each Deployment. Raise RefusedError where there is none."""
    if not all(isinstance(each, Mapping) for each in manifests):
        raise RefusedError("a document of this file is no Kubernetes object", code="CAN-4202")
    if not any(_is_deployment(each) for each in manifests):
        raise RefusedError(
            "there is no Deployment in this file; its annotations carry the record", code="CAN-2303"
        )
    return [_with(each, annotations) if _is_deployment(each) else each for each in manifests]


def _is_deployment(manifest: Any) -> bool:
    return isinstance(manifest, Mapping) and manifest.get("kind") == "Deployment"


def _with(deployment: Mapping[str, Any], annotations: Mapping[str, str | None]) -> dict[str, Any]:
    metadata = dict(deployment.get("metadata") or {})
    kept = {key: text for key, text in (metadata.get("annotations") or {}).items() if key not in annotations}
    metadata["annotations"] = {**kept, **{key: text for key, text in annotations.items() if text is not None}}
    return {**deployment, "metadata": metadata}
