"""What a run knows of its own audit: the newest record that was written of it, and how far the records go.

A run that rises names a durable record here, written before. Without an audit store it stays empty.
"""

from canary.api.types import Count, Digest, Model, Timestamp


class AuditStatus(Model):
    """The newest record of this run in the audit, and what of its timeline is on record."""

    sequence: Count = 0
    """Number of the record in the chain; 0: none was written."""
    hash: Digest | None = None
    """Its hash."""
    at: Timestamp | None = None
    """When it was written."""
    entries: Count = 0
    """Entries of the timeline that are on record."""
    through: Timestamp | None = None
    """Time of the newest of them."""
