"""How much wilder than Poisson healthy counts are (phi), measured on stable pods; and how far one look is trusted.

Enters: increments of the stable pods, look after look. Leaves: phi per metric, by which evidence is divided. Only
stable pods are compared with each other, so a fault of the canary cannot inflate its own noise. The slow scales turn
lasting differences between pods into phi. `operator` keeps one `NoiseMeter` a workload; `winsor` bounds a burst of the
baseline within one look and is called by `looks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, sqrt

from canary.core.detect.counters import EXTRA_PREFIX, REQUESTS

TRAFFIC = "traffic"  # the monitor that counts requests

ASSUMED_PHI = 3.0
SCALE_SECONDS = (0.0, 60.0, 300.0)  # 0: every look is a block of its own
MIN_BLOCKS = 20
MIN_VARIANCE = 1.0
SIGMAS = 3.0
WINSOR_FACTOR = 1.5
WINSOR_MEMORY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Block:
    """Of `total` events, `first` fell to group 1, which had `share` of the exposure."""

    first: float
    total: float
    share: float


@dataclass(frozen=True, slots=True)
class Scale:
    """One time scale of one metric: the open block, and the sum over closed ones."""

    surplus: float = 0.0  # of group 1 over its share, open block
    variance: float = 0.0
    age: float = 0.0
    chi: float = 0.0
    blocks: int = 0

    def add(self, block: Block, dt: float) -> "Scale":
        """Add one look to the open block."""
        surplus = self.surplus + block.first - block.total * block.share
        variance = self.variance + block.total * block.share * (1.0 - block.share)
        return Scale(surplus, variance, self.age + dt, self.chi, self.blocks)

    def close(self) -> "Scale":
        """Close the open block; one of too little variance says nothing and is dropped."""
        if self.variance < MIN_VARIANCE:
            return Scale(chi=self.chi, blocks=self.blocks)
        return Scale(chi=self.chi + self.surplus**2 / self.variance, blocks=self.blocks + 1)

    @property
    def measured(self) -> bool:
        return self.blocks >= MIN_BLOCKS

    @property
    def phi(self) -> float:
        """Return the dispersion where it is significant, else 1."""
        if not self.measured:
            return 1.0
        ratio = self.chi / self.blocks
        return ratio if ratio > 1.0 + SIGMAS * sqrt(2.0 / self.blocks) else 1.0


@dataclass(frozen=True, slots=True)
class Phi:
    """The noise factor of a metric; `assumed`: there was not enough to measure it."""

    value: float
    assumed: bool


_FRESH = (Scale(),) * len(SCALE_SECONDS)


@dataclass(frozen=True, slots=True)
class NoiseMeter:
    """A fold over looks at stable pods; a value, of constant size."""

    scales: Mapping[str, tuple[Scale, ...]] = field(default_factory=dict[str, tuple[Scale, ...]])

    def add(self, pods: Mapping[str, Mapping[str, float]], group: int, dt: float) -> "NoiseMeter":
        """Fold one look of dt seconds: increments of each stable pod, and how many pods the canary has.

        A group of that many stable pods is compared with the rest. With fewer than two pods, or without requests,
        nothing can be compared and the meter stays as it is.
        """
        if len(pods) < 2 or dt <= 0:
            return self
        order = sorted(pods)
        first = order[: group if 0 < group < len(order) else len(order) // 2]
        scales = dict(self.scales)
        for name in set.intersection(*(set(counts) for counts in pods.values())):
            block = _block(pods, first, name)
            if block is not None:
                monitor = TRAFFIC if name == REQUESTS else name.removeprefix(EXTRA_PREFIX)
                scales[monitor] = tuple(
                    _closed_if_due(scale.add(block, dt), seconds)
                    for scale, seconds in zip(scales.get(monitor, _FRESH), SCALE_SECONDS, strict=True)
                )
        return NoiseMeter(scales)

    def phi(self, name: str) -> Phi:
        """Return the noise factor of one monitor: orders, errors, slow, traffic or the name of an extra."""
        scales = self.scales.get(name, _FRESH)
        if not any(scale.measured for scale in scales):
            return Phi(ASSUMED_PHI, True)
        return Phi(max(scale.phi for scale in scales), False)

    def measured(self) -> dict[str, float]:
        """Return the factors that were measured, none that is assumed: what a running judgement may be told."""
        known = {name: self.phi(name) for name in sorted(self.scales)}
        return {name: phi.value for name, phi in known.items() if not phi.assumed}


def _block(pods: Mapping[str, Mapping[str, float]], first: Sequence[str], name: str) -> Block | None:
    """Compare group 1 with all: by requests, and requests themselves by the number of pods."""
    total = sum(counts[name] for counts in pods.values())
    part = sum(pods[pod][name] for pod in first)
    if name == REQUESTS:
        return Block(part, total, len(first) / len(pods))
    if any(REQUESTS not in counts for counts in pods.values()):
        return None
    exposure = sum(counts[REQUESTS] for counts in pods.values())
    if exposure <= 0:
        return None
    return Block(part, total, sum(pods[pod][REQUESTS] for pod in first) / exposure)


def _closed_if_due(scale: Scale, seconds: float) -> Scale:
    return scale.close() if scale.age >= seconds else scale


@dataclass(frozen=True, slots=True)
class Clipped:
    """A count bounded by what the baseline's rate allows, and the rate learnt from it."""

    events: float
    rate: float


def winsor(rate: float, arm: tuple[float, float], dt: float, phi: float) -> Clipped:
    """Bound the baseline's (events, exposure) of one look of dt seconds; `rate` 0: nothing is known yet.

    A smaller baseline only lowers the evidence for a drop, so the promise stands. Never use it for a rise or an
    interval: there it flatters the canary.
    """
    events, exposure = arm
    if exposure <= 0:
        return Clipped(events, rate)
    if rate <= 0:
        return Clipped(events, events / exposure)
    usual = WINSOR_FACTOR * rate * exposure
    clipped = min(events, usual + 4.0 * sqrt(usual * phi) + 3.0)
    keep = exp(-dt / WINSOR_MEMORY_SECONDS)
    return Clipped(clipped, keep * rate + (1.0 - keep) * clipped / exposure)
