"""Notices: what people must be told of a run, kept in its status until every sink has acknowledged it.

`core.telling` writes them, `alerts.outbox` decides from them who is told next and records in them what became of it.
Because they are stored before they are sent, a crash tells nobody too little.
"""

from typing import Annotated

from pydantic import Field

from canary.api.change import ShortText
from canary.api.types import Count, Model, Sentence, Timestamp, Word

MAX_NOTICES = 24  # of one run

SinkName = Annotated[str, Field(max_length=64)]
LongText = Annotated[str, Field(max_length=1024)]


class Attempts(Model):
    """How telling one sink goes."""

    count: Count = 0
    """Deliveries tried without success."""
    retry_at: Timestamp | None = None
    """Not before."""
    refused: bool = False
    """The sink will never take it."""
    error: Annotated[str, Field(max_length=256)] = ""
    """What it said last."""


class Notice(Model):
    """One thing that people must be told: due until every sink acknowledged it."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    """Run uid and state: the same notice is never two."""
    opening: Annotated[str, Field(max_length=32)] = ""
    """ACTION NEEDED, CUSTOMERS SAFE, DECISION NEEDED, or none."""
    reason: Word
    """The machine's word."""
    title: Sentence
    """First line."""
    body: Annotated[str, Field(max_length=4096)] = ""
    """The other lines."""
    created_at: Timestamp
    """When it became due."""
    facts: Annotated[dict[Annotated[str, Field(max_length=64)], ShortText], Field(max_length=16)] = {}
    """The numbers of the text, each by its name."""
    links: Annotated[dict[Annotated[str, Field(max_length=64)], LongText], Field(max_length=8)] = {}
    """Where to read more: report, runbook."""
    delivered: Annotated[dict[SinkName, Timestamp], Field(max_length=9)] = {}
    """Sink -> when it last acknowledged."""
    failing: Annotated[dict[SinkName, Attempts], Field(max_length=9)] = {}
    """Sink -> how it goes, where it has not acknowledged."""
    attempts: Count = 0
    """Deliveries tried without success, all sinks."""
    retry_at: Timestamp | None = None
    """Not before: the soonest of the sinks."""
    last_error: Sentence = ""
    """What the last failing sink said."""
