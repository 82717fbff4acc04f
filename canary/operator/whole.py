"""What the last whole look at a run found, and for how long the quick looks after it may believe it.

A whole look asks the API server for everything. While customers meet a new version next to nothing of that moves
between two looks, so for up to half a minute `look.glance` takes it over, as long as the watches tell of no other
version of what it rests on. What makes this safe: a cache is never believed about what we wrote ourselves (what our
last write returned is newer), and what is decided on a quick look is nothing but a fall, else `tick.py` looks at
everything first. A watch that stands still so costs half a minute of not knowing, and never a raise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from canary.api.marks import side_name
from canary.core.actions import EXPOSING, Lowering
from canary.core.decision import Decision, Run
from canary.core.guards import JUDGED
from canary.core.memory import Memory
from canary.kube.cache import Cache, version_number
from canary.kube.resources import CANARYPOLICIES, CANARYRUNS, DEPLOYMENTS, Ref
from canary.operator.look import Gathered
from canary.operator.objects import Json

WHOLE_SECONDS = 30.0
Told = Mapping[Ref, str]  # the version of an object, as its watch tells it; empty: it tells of none


@dataclass(frozen=True, slots=True)
class Whole:
    """What a whole look found, what the watches told before it, and until when it may be believed (monotonic)."""

    gathered: Gathered
    told: Told
    until: float


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a run between two looks: its memory, the run as our last read or write left it, a whole look."""

    memory: Memory
    stored: Json
    whole: Whole | None = None

    @property
    def version(self) -> str:
        return self.stored["metadata"]["resourceVersion"]


class Watches:
    """What the caches know, by plural of the kind. They are asked for versions only."""

    def __init__(self, caches: Mapping[str, Cache]) -> None:
        self._caches = caches

    def told(self, run: Run) -> Told:
        """Return the versions of what a whole look at a run rests on; to be asked before it begins."""
        target, home = run.spec.target.name, run.namespace
        refs = (
            DEPLOYMENTS.at(home, target),
            DEPLOYMENTS.at(home, side_name(target)),
            CANARYPOLICIES.at(home, run.spec.policy_ref.name),
        )
        return {ref: self._version(ref) for ref in refs}

    def confirm(self, whole: Whole, now: float) -> bool:
        """Tell whether a whole look may be believed still."""
        return now < whole.until and all(
            version and version == self._version(ref) for ref, version in whole.told.items()
        )

    def confirm_run(self, kept: Json) -> bool:
        """Tell whether a run is still what our last write returned, or our last read, as far as the watch knows."""
        metadata, ours = kept["metadata"], version_number(kept)
        cached = self._cached(CANARYRUNS.at(metadata["namespace"], metadata["name"]))
        if cached is None or cached["metadata"]["uid"] != metadata["uid"]:
            return False
        return 0 < version_number(cached) <= ours

    def _cached(self, ref: Ref) -> Json | None:
        return self._caches[ref.resource.plural].get(ref.key)

    def _version(self, ref: Ref) -> str:
        found = self._cached(ref)
        return found["metadata"]["resourceVersion"] if found is not None else ""


def believed_until(uid: str, now: float) -> float:
    """Return until when (monotonic) a whole look that begins now may be believed.

    Each run has a place of its own in the half minute, or the whole looks at runs that began together come together.
    """
    place = crc32(uid.encode()) % WHOLE_SECONDS
    return now + WHOLE_SECONDS - (now - place) % WHOLE_SECONDS


def only_falls(before: Run, decision: Decision) -> bool:
    """Tell whether a decision may rest on a quick look: it takes traffic away, or moves nothing at all."""
    after = decision.status
    if any(isinstance(action, Lowering) for action in decision.actions):
        return not any(isinstance(action, EXPOSING) for action in decision.actions)
    stays = (after.phase, after.step) == (before.status.phase, before.status.step)
    return stays and not decision.actions and not decision.answers


def worth_keeping(gathered: Gathered, decision: Decision) -> bool:
    """Tell whether the next looks may take this one over: the new version serves, and nothing is being moved."""
    calm = decision.status.phase in JUDGED and not decision.actions and not decision.answers
    return calm and gathered.is_whole
