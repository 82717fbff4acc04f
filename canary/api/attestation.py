"""The signed statement about a change's origin: an in-toto statement of our predicate, inside a DSSE envelope.

`canary attest` writes it, the controller reads it from an annotation. Strict: a field that is not known here makes the
statement unreadable, and what cannot be read proves nothing. Signing and verifying are in `audit/attest.py`.
"""

from typing import Annotated, Literal

from pydantic import Field

from canary.api.change import ShortText
from canary.api.types import Model, Timestamp, Word

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "canary-controller.io/change-origin/v1"
MAX_ENVELOPE_BYTES = 16 * 1024
MAX_COMMITS = 100  # more do not fit into an envelope

Sha = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Shorts = Annotated[list[ShortText], Field(max_length=64)]


class ImageDigest(Model):
    """The digest of an image's manifest."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Its SHA-256, in hexadecimal."""


class Subject(Model):
    """An image that the statement is about."""

    name: Annotated[str, Field(min_length=1, max_length=512)]
    """Its name, for people."""
    digest: ImageDigest
    """Its digest, which alone counts."""


class SignedCommit(Model):
    """A commit, and the key of the person who signed it."""

    sha: Sha
    """The commit."""
    author: ShortText
    """Its author."""
    key: ShortText = ""
    """Fingerprint of the key of a known person; empty: nobody's signature verified."""
    presence: bool = False
    """The key is one that has to be touched."""


class ChangeOrigin(Model):
    """What is stated: whose work the commits between two releases are."""

    repo: ShortText
    """Where the source is."""
    base: Sha
    """The commit of the last release."""
    head: Sha
    """The commit that the images are built from."""
    commits: Annotated[list[SignedCommit], Field(min_length=1, max_length=MAX_COMMITS)]
    """Every commit from base to head."""
    agents: Shorts = []
    """AI agents that took part."""
    tools: Shorts = []
    """Tools that wrote code."""
    reviewers: Shorts = []
    """People who read it."""
    fields: Annotated[list[ShortText], Field(max_length=128)] = []
    """Fields of the pod template that the change means to alter, beyond the images."""
    expires_at: Timestamp
    """From then on it proves nothing."""


class Statement(Model):
    """An in-toto statement."""

    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")] = (
        "https://in-toto.io/Statement/v1"
    )
    """The version of in-toto."""
    subject: Annotated[list[Subject], Field(min_length=1, max_length=32)]
    """The images."""
    predicate_type: Literal["canary-controller.io/change-origin/v1"] = PREDICATE_TYPE
    """What is stated about them."""
    predicate: ChangeOrigin
    """The statement."""


class Signature(Model):
    """A signature of the envelope."""

    keyid: Word
    """What the key is called where it is trusted."""
    sig: Annotated[str, Field(max_length=1024)]
    """The signature, in base64."""


class Envelope(Model):
    """A DSSE envelope."""

    payload_type: Literal["application/vnd.in-toto+json"] = PAYLOAD_TYPE
    """What the payload is."""
    payload: Annotated[str, Field(max_length=MAX_ENVELOPE_BYTES)]
    """The statement, in base64."""
    signatures: Annotated[list[Signature], Field(min_length=1, max_length=8)]
    """Who stands for it."""
