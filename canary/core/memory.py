"""What the analysis of a run remembers between looks, and its text forms in the run's status.

One frozen value: the detector's state, the last counters of every pod, the noise of the stable pods, and the requests
counted since the weight was last changed. A controller that starts anew reads it from the status and goes on; the next
counter difference covers the gap.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

from canary.api.run import AnalysisStatus
from canary.core import site
from canary.core.detect.counters import CountersState, Reading
from canary.core.detect.family import Settings, State, StateUnreadable, dump, load
from canary.core.detect.noise import NoiseMeter, Scale
from canary.core.share import Tally
from canary.core.site import SiteMemory
from canary.core.witness import WitnessMemory

PUT_BACK_SECONDS = 60.0  # no reading is late by so much: the clock was put back
SPREAD_SECONDS = 1.0  # between the first and the last pod of one look


@dataclass(frozen=True, slots=True)
class ShareMemory:
    """Requests of both arms since the route's weight last changed (or, at 0, since the side last had one)."""

    tally: Tally = Tally()
    weight_ppm: int = 0
    former_ppm: int = 0
    """The weight before: a rollback is verified against it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """All that one look hands to the next."""

    detector: State | None = None
    """None before the first slice."""
    settings: Settings | None = None
    """The detector's settings: derived from the run, kept because making them takes longer than using them."""
    counters: CountersState = CountersState()
    noise: NoiseMeter = NoiseMeter()
    noise_seconds: float = 0.0
    """How long stable pods have been watched in this run."""
    noise_at: float | None = None
    """Time of the last look that counted for it."""
    share: ShareMemory = ShareMemory()
    site: SiteMemory = SiteMemory()
    step: int = -1
    """The step that the detector was last told of."""
    witness: WitnessMemory = WitnessMemory()
    """Not stored."""
    unreadable: str = ""
    """Why the stored evidence cannot be counted on; empty: it can."""


def by_this_clock(memory: Memory, readings: Sequence[Reading]) -> Memory:
    """Move the last readings behind these, where a clock that was put back left all of them far ahead.

    For readings that the pods themselves gave: those are never old, so their counters go on. An answer of a Prometheus
    may be, and stays refused.
    """
    known = memory.counters
    ahead = known.at - max((reading.at for reading in readings), default=inf)
    if ahead < PUT_BACK_SECONDS:
        return memory
    shift = ahead + SPREAD_SECONDS
    last = {pod: replace(was, at=was.at - shift) for pod, was in known.last.items()}
    moved = replace(known, last=last, at=known.at - shift)
    return replace(memory, counters=moved, site=replace(memory.site, orders=0.0, since=None))


def remember(status: AnalysisStatus) -> Memory:
    """Read the memory from a run's status; what cannot be read is forgotten, which costs evidence and never safety.

    Where the detector's own state is there and not ours, the memory says so: then nothing may advance.
    """
    try:
        detector = load(status.state) if status.state else None
    except StateUnreadable as error:
        return Memory(unreadable=str(error) or "unreadable")
    try:
        stored = json.loads(status.counters) if status.counters else {}
        noise = json.loads(status.noise) if status.noise else {}
        return Memory(
            detector=detector,
            counters=CountersState.load(stored["counters"]) if stored else CountersState(),
            noise=_load_noise(noise.get("scales", {})),
            noise_seconds=float(noise.get("seconds", 0.0)),
            noise_at=noise.get("at"),
            share=_load_share(stored["share"]) if stored else ShareMemory(),
            site=site.load(status.forecast),
            step=int(stored.get("step", -1)),
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return Memory(detector=detector, site=site.load(status.forecast))


def texts(memory: Memory) -> dict[str, str]:
    """Return the text fields of `AnalysisStatus` that hold this memory."""
    counters = {
        "counters": memory.counters.dump(),
        "share": [
            memory.share.tally.canary,
            memory.share.tally.total,
            memory.share.weight_ppm,
            memory.share.former_ppm,
        ],
        "step": memory.step,
    }
    scales = {
        name: [[getattr(scale, field.name) for field in fields(Scale)] for scale in group]
        for name, group in memory.noise.scales.items()
    }
    noise = {"scales": scales, "seconds": memory.noise_seconds, "at": memory.noise_at}
    return {
        "state": dump(memory.detector) if memory.detector is not None else "",
        "counters": _compact(counters),
        "noise": _compact(noise),
        "forecast": site.dump(memory.site),
    }


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _load_noise(data: dict[str, list[list[float]]]) -> NoiseMeter:
    return NoiseMeter({name: tuple(_scale(values) for values in group) for name, group in data.items()})


def _scale(values: list[float]) -> Scale:
    *sums, blocks = values
    surplus, variance, age, chi = (float(value) for value in sums)
    return Scale(surplus, variance, age, chi, int(blocks))


def _load_share(data: list[float]) -> ShareMemory:
    canary, total, weight, former = data
    return ShareMemory(Tally(float(canary), float(total)), int(weight), int(former))
