"""A CanaryRun as the API server stores it, read with care and without its model.

Enters: the raw camelCase JSON, perhaps of a newer version, perhaps written by somebody else. Leaves: typed answers;
what is missing or of an odd type is empty, never an exception. The command line and `explain` read runs through this,
so `canary status` needs no pydantic and survives any record.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from canary.api.reasons import TARGET_LOST, Phase, Reason
from canary.core.telling.wording import moment, number, plain

Raw = Mapping[str, Any]
MAX_NAME = 63  # of what gives its name to a Service
MAX_OBJECT_NAME = 253
MAX_VERSION = 24
_DURATION = re.compile(r"([0-9]{1,6})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def under(raw: object, *path: str) -> Any:
    """Return what lies under a path of keys, or None."""
    for key in path:
        if not isinstance(raw, Mapping):
            return None
        raw = raw.get(key)
    return raw


def entries(raw: object, *path: str) -> Sequence[Raw]:
    """Return the objects of the list under a path; what is no object is left out."""
    found = under(raw, *path)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def said_by(raw: object) -> str:
    """Return the first message among an object's conditions; empty: nobody has looked at it yet."""
    messages = (plain(each.get("message")) for each in entries(raw, "status", "conditions"))
    return next((text for text in messages if text), "")


def whole(value: object) -> int:
    """Return a whole number, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


@dataclass(frozen=True, slots=True)
class Measured:
    """One monitor of the analysis; a None is not known."""

    name: str
    seen: float | None
    expected: float | None
    point: float | None
    low: float | None
    high: float | None
    evidence_log10: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Happened:
    """One entry of the timeline."""

    at: datetime | None
    phase: str
    reason: str
    message: str
    weight_ppm: int
    by: str


@dataclass(frozen=True, slots=True)
class Found:
    """A known failure pattern that the change shows."""

    id: str
    strength: str
    message: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of the plan."""

    weight_ppm: int
    approval: bool


class StoredRun:
    """Answers about one run. Built once for a look, never changed."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.name = self.text("metadata", "name", longest=MAX_OBJECT_NAME)
        self.namespace = self.text("metadata", "namespace", longest=MAX_NAME)
        self.uid = self.text("metadata", "uid", longest=MAX_NAME)
        self.created_at = moment(under(raw, "metadata", "creationTimestamp"))
        self.workload = self.text("spec", "target", "name", longest=MAX_NAME)
        self.policy = self.text("spec", "policyRef", "name", longest=MAX_NAME)
        self.service = self.text("spec", "service", longest=MAX_NAME)
        self.origin = self.text("spec", "change", "origin", longest=16) or "unknown"
        self.attempt = self.whole("spec", "attempt") or 1
        self.phase = self.text("status", "phase", longest=32) or Phase.HELD
        self.reason = self.text("status", "reason", longest=64)
        self.message = self.text("status", "message")
        self.held_by = self.text("status", "heldBy", longest=64)
        self.asked_ppm = self.whole("status", "traffic", "weightPpm")
        self.seen_ppm = self.whole("status", "traffic", "observedPpm")
        self.way_back_ppm = self.whole("status", "traffic", "wayBackPpm")
        self.seniors_wanted = self.whole("spec", "safety", "seniors")
        self.review_seconds = seconds_of(under(raw, "spec", "safety", "reviewWithin"))
        """How long the safety policy lets a review wait; 0: it does not say."""

    def text(self, *path: str, longest: int = 1024) -> str:
        return plain(under(self.raw, *path), longest)

    def whole(self, *path: str) -> int:
        return whole(under(self.raw, *path))

    def at(self, *path: str) -> datetime | None:
        return moment(under(self.raw, "status", *path))

    def figure(self, name: str) -> float | None:
        """Return a number of the analysis."""
        return number(under(self.raw, "status", "analysis", name))

    @property
    def new(self) -> str:
        """Return what people call the new version."""
        return self._version("revision", "the new version")

    @property
    def old(self) -> str:
        return self._version("baseline", "the old version")

    def _version(self, which: str, otherwise: str) -> str:
        version = self.text("spec", which, "version", longest=MAX_VERSION)
        return version or self.text("spec", which, "templateHash")[7:19] or otherwise

    @property
    def final(self) -> bool:
        return self.phase in set(Phase) and Phase(self.phase).final

    @property
    def bypassed(self) -> bool:
        """Tell whether somebody broke the glass for this run, now or before."""
        return under(self.raw, "status", "bypass") is not None

    @property
    def awaits_person(self) -> bool:
        """Tell whether the run stands still until a person acts."""
        waits = self.reason in (Reason.APPROVALS_MISSING, Reason.HOLD_STARTED)
        return not self.final and (waits or bool(self.held_by) or self.phase == Phase.PAUSED)

    @property
    def in_pods(self) -> bool:
        """Tell whether shares are whole pods: half of the traffic at most, and customers on the roll of a commit."""
        return self.text("spec", "policy", "route", "kind", longest=32) == "EndpointSlice"

    @property
    def half_way_back(self) -> bool:
        """Tell whether the last good version serves beside pods of the Deployment that run the new one."""
        return self.in_pods and self.way_back_ppm > 0 and self.reason not in TARGET_LOST

    @property
    def exposed(self) -> bool:
        return self.asked_ppm > 0 or self.seen_ppm > 0

    @cached_property
    def steps(self) -> Sequence[Planned]:
        """Return the plan; a weight that cannot be read is 0."""
        return [
            Planned(ppm_of(step.get("weight")), step.get("approval") is True)
            for step in entries(self.raw, "spec", "steps")
        ]

    @cached_property
    def timeline(self) -> Sequence[Happened]:
        return [
            Happened(
                at=moment(entry.get("at")),
                phase=plain(entry.get("phase"), 32),
                reason=plain(entry.get("reason"), 64),
                message=plain(entry.get("message")),
                weight_ppm=whole(entry.get("weightPpm")),
                by=plain(entry.get("by"), 64),
            )
            for entry in entries(self.raw, "status", "timeline")
        ]

    @cached_property
    def measured(self) -> Sequence[Measured]:
        return [
            Measured(
                name=plain(effect.get("name"), 40),
                seen=number(effect.get("seen")),
                expected=number(effect.get("expected")),
                point=number(effect.get("point")),
                low=number(effect.get("low")),
                high=number(effect.get("high")),
                evidence_log10=number(effect.get("evidenceLog10")),
                state=plain(effect.get("state"), 16) or "clear",
            )
            for effect in entries(self.raw, "status", "analysis", "effects")
        ]

    @property
    def worst(self) -> Measured | None:
        """Return the monitor with the most evidence against the new version."""
        name = self.text("status", "analysis", "worst", longest=40)
        return next((effect for effect in self.measured if effect.name == name), None)

    @property
    def begun(self) -> int:
        """Return how many steps have begun, also of a run that is over."""
        index = under(self.raw, "status", "step")
        if isinstance(index, int) and index >= 0:
            return index + 1
        over = self.final or self.phase == Phase.ROLLING_BACK
        return sum(step.weight_ppm <= self.top_ppm for step in self.steps) if over and self.top_ppm else 0

    @property
    def top_ppm(self) -> int:
        """Return the largest weight that the run ever had."""
        judged = (Phase.PROGRESSING, Phase.BAKING, Phase.COMMITTING)
        weights = [entry.weight_ppm for entry in self.timeline if entry.phase in judged]
        return max([*weights, self.asked_ppm if self.phase in judged else 0])

    @property
    def audit_head(self) -> str:
        """Return the newest record of the run, "5:9f86d0...", as `canary audit verify --head` reads it; empty: none."""
        sequence = self.whole("status", "audit", "sequence")
        digest = self.text("status", "audit", "hash").removeprefix("sha256:")
        return f"{sequence}:{digest}" if sequence and digest else ""

    @property
    def approvals(self) -> int:
        """Return how many approvals count."""
        given = entries(self.raw, "status", "approvals")
        return sum(entry.get("verb") != "reject" and entry.get("counts") is not False for entry in given)

    @property
    def approvers(self) -> list[str]:
        """Return whose approvals count."""
        given = entries(self.raw, "status", "approvals")
        counted = [
            each for each in given if each.get("verb") == "approve" and each.get("counts") is not False
        ]
        return [plain(each.get("person"), 64) or plain(each.get("requester"), 64) for each in counted]

    @property
    def findings(self) -> Sequence[Found]:
        return [
            Found(plain(each.get("id"), 40), plain(each.get("strength"), 16), plain(each.get("message")))
            for each in entries(self.raw, "spec", "findings")
        ]

    @property
    def approvals_wanted(self) -> int:
        asked = self.whole("spec", "safety", "approvals")
        return asked or (1 if self.reason == Reason.APPROVALS_MISSING else 0)


def seconds_of(text: object) -> float:
    """Read a duration as it is stored, "1h30m"; one that cannot be read is 0."""
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    return sum(int(amount) * _SECONDS[unit] for amount, unit in parts)


def ppm_of(text: object) -> int:
    """Read a share as it is written, "0.5%"; one that cannot be read is 0."""
    value = number(text[:-1]) if isinstance(text, str) and text.endswith("%") else None
    return round(value * 10_000) if value is not None else 0


def weaker_fields_of(stored: Raw | None) -> list[str]:
    """Return the fields in which a stored policy's text waits for approval."""
    fields = under(stored, "status", "weaker", "fields")
    return [plain(each, 64) for each in fields] if isinstance(fields, list) else []
