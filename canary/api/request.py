"""CanaryRequest: one directive of one identity. Immutable; the API server stamps or checks who asks.

The CLI's acting verbs create these and nothing else. The controller answers in the request's status.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from canary.api.reasons import MACHINE_VERBS, Verb
from canary.api.types import Digest, Model, Name, Percent, Sentence, Timestamp, Word

MIN_REVIEW_REASON = 20  # characters: an approval says what was read


class Subject(Model):
    """What the request is about."""

    kind: Literal["CanaryRun", "CanaryPolicy", "SafetyPolicy"] = "CanaryRun"
    """A run; for an approval also a policy's new text."""
    name: Name
    """Its name."""
    uid: Annotated[str, Field(max_length=64)] = ""
    """Its uid."""


class CanaryRequestSpec(Model):
    """One directive."""

    verb: Verb
    """promote, abort, hold, resume, retry, bypass, approve or reject."""
    subject: Subject
    """What it is about."""
    digest: Digest | None = None
    """For approve and reject: the digest of what was read."""
    requester: Annotated[str, Field(max_length=256)] = ""
    """Who asks: written by the API server from the authenticated user, never believed otherwise."""
    groups: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = []
    """The requester's groups, written by the API server."""
    reason: Sentence = ""
    """Why; required of everything that raises exposure."""
    to: Percent | None = None
    """promote: go to this weight and no further."""
    seen: Digest | None = None
    """Hash of the evidence that was on the screen."""
    accepts: Annotated[list[Word], Field(max_length=16)] = []
    """Findings of known failure patterns that the approver accepts."""
    expires_at: Timestamp | None = None
    """When an approval or a bypass ends."""
    signature: Annotated[str, Field(max_length=8192)] = ""
    """Presence signature (SSHSIG), where the safety policy asks for one."""

    @model_validator(mode="after")
    def _says_what_its_verb_needs(self) -> Self:
        if self.verb not in MACHINE_VERBS and not self.reason:
            raise ValueError(f"say why: reason is required of {self.verb.value}")
        if self.verb in (Verb.APPROVE, Verb.REJECT):
            if self.digest is None:
                raise ValueError(f"{self.verb.value} names the digest that was read")
            if len(self.reason) < MIN_REVIEW_REASON:
                raise ValueError(
                    f"{self.verb.value} needs a reason of at least {MIN_REVIEW_REASON} characters"
                )
        if self.to is not None and self.verb is not Verb.PROMOTE:
            raise ValueError("to goes with promote only")
        return self


class CanaryRequestStatus(Model):
    """The answer."""

    outcome: Literal["Pending", "Done", "Refused"] = "Pending"
    """Done, Refused, or not looked at yet."""
    reason: Word | None = None
    """The machine's word for why."""
    message: Sentence = ""
    """What was done, or why not and what would help."""
    handled_at: Timestamp | None = None
    """When it was answered."""
