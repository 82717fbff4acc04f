"""The seam of the past: what the whole site sold in each minute, before a run.

In goes which pods were the shop's, which counter counts orders, and a span of minutes; out comes one count a minute,
or `Missing`. Asked by `operator/look.py` while a run is prepared, a part at a time; `core/site.py` knows what for.
`prometheus_history.py` and the lab implement it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from canary.core.evidence import Missing
from canary.core.site import Span
from canary.metrics.source import CounterSpec


@dataclass(frozen=True, slots=True)
class Shop:
    """Whose orders: those counted by the pods of these Deployments, whatever the pods were called."""

    namespace: str
    deployments: tuple[str, ...]
    orders: CounterSpec


class History(Protocol):
    """Where past orders come from."""

    def orders_per_minute(
        self, shop: Shop, span: Span, *, within_seconds: float
    ) -> Sequence[float] | Missing:
        """Return the orders of every minute of the span, the oldest first: finite, not negative, none left out.

        What was counted is never extrapolated: a restart loses orders, it never invents any. Too little or too much to
        answer within the time is `Missing`. Safe to call from several threads.
        """
        ...

    def close(self) -> None:
        """Release connections; idempotent."""
        ...
