"""What the status of a policy keeps of its text: the one that people approved, and a weaker one that waits for them.

Part of the status of both kinds of policy; written by the controller alone, so that an edit of the spec is compared
with what ruled before it, whoever restarts when.
"""

from typing import Annotated

from pydantic import Field

from canary.api.types import Digest, Model, Sentence, Timestamp, Word


class WeakerText(Model):
    """A weaker text that waits for approval; the last approved one stays in force."""

    digest: Digest
    """Digest of the weaker text: what an approval of it names."""
    since: Timestamp
    """Since when it waits."""
    fields: Annotated[list[Word], Field(max_length=32)] = []
    """Fields that became weaker."""
    missing: Sentence = ""
    """Who approved it, and who still has to."""


class ApprovedText(Model):
    """What rules while people have not agreed to less."""

    effective_digest: Digest | None = None
    """Digest of the last approved text."""
    effective: Annotated[str, Field(max_length=65536)] = ""
    """The last approved text, as JSON: while a weaker one waits, nothing is weaker than this."""
    weaker: WeakerText | None = None
    """A weaker text that waits for approval."""
