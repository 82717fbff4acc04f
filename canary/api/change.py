"""The change record: what, why and how to go back, who wrote it, and how we know.

It is read from the annotations of the Deployment (CI writes them with `canary flag`) when a run starts, and pinned in
the run. Texts come from people and agents: they are shown, capped and escaped, and never executed.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from canary.api.reasons import GROUP, Origin
from canary.api.types import Model, Text, Word

MAX_EVIDENCE, MAX_AGENTS, MAX_AUTHORS = 32, 16, 64

ShortText = Annotated[str, Field(max_length=256)]


class ChangeAnnotation(StrEnum):
    """The annotations of a change, all under our prefix."""

    CHANGE_ID = f"{GROUP}/change-id"
    WHAT = f"{GROUP}/what"
    WHY = f"{GROUP}/why"
    ROLLBACK_PLAN = f"{GROUP}/rollback-plan"
    SECURITY_IMPACT = f"{GROUP}/security-impact"
    ORIGIN = f"{GROUP}/origin"
    ORIGIN_EVIDENCE = f"{GROUP}/origin-evidence"
    AGENTS = f"{GROUP}/agents"
    AUTHORS = f"{GROUP}/authors"
    SOURCE_REPO = f"{GROUP}/source-repo"
    SOURCE_RANGE = f"{GROUP}/source-range"
    ATTESTATION = f"{GROUP}/attestation"
    CHANGED_BY = f"{GROUP}/changed-by"


class OriginEvidence(Model):
    """One piece of evidence about who wrote the change."""

    level: Literal["E0", "E1", "E2", "E3", "E4"]
    """E0 annotation, E1 git range, E2 API writer, E3 forge facts, E4 signed attestation."""
    says: Origin
    """What it says."""
    source: Word
    """Where it was found: a signature's id, a trailer, an annotation."""
    detail: ShortText = ""
    """What was found, capped."""


class ChangeRecord(Model):
    """What, why, how to go back, and whose work it is."""

    change_id: ShortText = ""
    """The change's own id: a pull request, a ticket."""
    what: Text = ""
    """What changes."""
    why: Text = ""
    """Why."""
    rollback_plan: Text = ""
    """How to go back, and what cannot be taken back."""
    security_impact: Text = ""
    """What it means for security."""
    origin: Origin = Origin.UNKNOWN
    """ai, human (proved) or unknown, which is treated as ai."""
    evidence: Annotated[list[OriginEvidence], Field(max_length=MAX_EVIDENCE)] = []
    """Why the origin is what it is."""
    agents: Annotated[list[ShortText], Field(max_length=MAX_AGENTS)] = []
    """AI tools that took part."""
    authors: Annotated[list[ShortText], Field(max_length=MAX_AUTHORS)] = []
    """Everybody who wrote it or had it written."""
    source_repo: ShortText = ""
    """Where the source is."""
    source_range: ShortText = ""
    """The range of commits since the last release."""
    changed_by: ShortText = ""
    """The user that the API server saw write it."""
