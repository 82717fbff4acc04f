"""What a demo measured: from the shop's truth, the store's writes and the run's record to the figures that it prints.

Nothing here is a constant: a figure that was not measured is null.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from canary.core.decision import Run
from canary.lab.shop.server import Truth
from canary.settings import DemoOptions

SCHEMA = "canary-controller.io/demo/v1"


@dataclass(frozen=True, slots=True)
class Measured:
    """One demo. Times are Unix seconds (or simulated ones)."""

    story: str
    seed: int
    orders_per_second: float
    slice_ppm: int
    outcome: str
    orders_lost: int
    late_promises: int
    first_lost_at: float | None = None
    decided_at: float | None = None
    written_at: float | None = None
    last_canary_request_at: float | None = None
    verified_at: float | None = None

    def document(self) -> dict[str, Any]:
        """Return it as the object of `-o json`."""
        return {"schema": SCHEMA, **asdict(self)}


def measure(
    options: DemoOptions, rate: float, truths: Sequence[Truth], run: Run | None, zeroed_at: float | None
) -> Measured:
    """Put the figures together; `rate` is what customers wanted a second, `zeroed_at` when the way back was written."""
    new = [truth for truth in truths if run is not None and truth.version == run.spec.revision.version]
    lost = [truth.first_lost_at for truth in new if truth.first_lost_at is not None]
    last = [truth.last_request_at for truth in new if truth.last_request_at is not None]
    status = run.status if run is not None else None
    widest = max((entry.weight_ppm for entry in status.timeline), default=0) if status else 0
    return Measured(
        story=options.story.value,
        seed=options.seed,
        orders_per_second=round(rate, 1),
        slice_ppm=widest,
        outcome=status.phase.value if status else "none",
        orders_lost=sum(truth.missing for truth in truths),
        late_promises=sum(truth.late for truth in new),
        first_lost_at=min(lost, default=None),
        decided_at=_unix(status.decided_at) if status else None,
        written_at=zeroed_at,
        last_canary_request_at=max(last, default=None),
        verified_at=_unix(status.traffic.zero_verified_at) if status else None,
    )


def _unix(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None
