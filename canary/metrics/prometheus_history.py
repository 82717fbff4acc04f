"""Past orders per minute from a Prometheus: raw counters of the shop's pods, differences taken here, series by series.

Enters: a shop and a span of minutes, at most a day. Leaves: one count a minute, or `Missing` with its reason. `rate()`
and `increase()` extrapolate, and a sum over pods hides their restarts, so neither is asked for. Called by
`operator/look.py` while a run is prepared, never while it is exposed; it has a connection of its own, so that no look
at another run waits for a day of samples.
"""

import json
import math
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from canary.api.reasons import MissingReason
from canary.clock import Clock
from canary.core.evidence import Missing
from canary.core.site import MINUTE_SECONDS, Span
from canary.metrics.history import Shop
from canary.metrics.prometheus import MIN_TIMEOUT_SECONDS, PrometheusSettings
from canary.metrics.prometheus_session import QueryInvalidError, connect
from canary.metrics.source import NoCountsError

MAX_MINUTES = 1_440
MAX_GAP = 0.05  # share of the minutes in which no pod was scraped


class PrometheusHistory:
    """A `History` that asks a Prometheus."""

    def __init__(self, settings: PrometheusSettings, clock: Clock) -> None:
        self._clock = clock
        self._client = connect(settings.address, settings.ca_file, settings.token_file)
        self._asking = threading.Lock()

    def orders_per_minute(
        self, shop: Shop, span: Span, *, within_seconds: float
    ) -> Sequence[float] | Missing:
        """Return the orders of each minute; see `History.orders_per_minute`."""
        if span.minutes > MAX_MINUTES:
            return Missing(MissingReason.TOO_LARGE, f"{span.minutes} minutes; at most {MAX_MINUTES} at once")
        deadline = self._clock.monotonic() + within_seconds
        if not self._asking.acquire(timeout=max(0.0, within_seconds)):
            return Missing(MissingReason.TIMED_OUT, "other queries to Prometheus have not ended")
        try:
            rows = self._rows(shop, span, deadline)
            return _per_minute(rows, span)
        except (NoCountsError, QueryInvalidError) as error:
            reason = error.reason if isinstance(error, NoCountsError) else MissingReason.MALFORMED
            return Missing(reason, str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return Missing(MissingReason.MALFORMED, f"past orders cannot be read: {error!r}")
        finally:
            self._asking.release()

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._client.close()

    def _rows(self, shop: Shop, span: Span, deadline: float) -> list[Any]:
        left = max(MIN_TIMEOUT_SECONDS, deadline - self._clock.monotonic())
        begin, end = (datetime.fromtimestamp(at, UTC) for at in (span.begin, span.end))
        return self._client.custom_query_range(
            self._query(shop),
            begin,
            end,
            f"{MINUTE_SECONDS:g}",
            params={"timeout": f"{round(left * 1000)}ms"},
            timeout=left,  # pyright: ignore[reportArgumentType]
        )

    def _query(self, shop: Shop) -> str:
        """Return the selector. A Deployment's pods are called after it: its name, two suffixes of chance."""
        names = "|".join(re.escape(name).replace("\\-", "-") for name in shop.deployments)
        matchers = [
            f"namespace={json.dumps(shop.namespace)}",
            f"pod=~{json.dumps(f'({names})-[a-z0-9]{{1,10}}-[a-z0-9]{{5}}')}",
            *(f"{label}=~{json.dumps(pattern)}" for label, pattern in shop.orders.where),
        ]
        return f"{shop.orders.metric}{{{','.join(matchers)}}}"


def _per_minute(rows: Sequence[Any], span: Span) -> Sequence[float] | Missing:
    """Add up what the series gained in each minute."""
    total, covered = [0.0] * span.minutes, [False] * span.minutes
    scraped_as: dict[str, tuple[str, str]] = {}
    for row in rows:
        labels: dict[str, str] = row["metric"]
        scraped = (labels.get("job", ""), labels.get("instance", ""))
        if scraped_as.setdefault(labels.get("pod", ""), scraped) != scraped:
            return Missing(
                MissingReason.DUPLICATE_SERIES, "a pod is scraped by more than one job or instance"
            )
        for minute, gained in _gains(row["values"], span):
            total[minute] += gained
            covered[minute] = True
    if not all(0.0 <= orders < math.inf for orders in total):
        return Missing(MissingReason.NOT_FINITE, "a past count of orders is not a finite number")
    if covered.count(False) > MAX_GAP * span.minutes:
        return Missing(
            MissingReason.PARTIAL, f"{covered.count(False)} of {span.minutes} minutes have no data"
        )
    return total


def _gains(values: Sequence[Any], span: Span) -> Iterator[tuple[int, float]]:
    """Yield (minute, gain). The first value of a series opens the difference; one that fell began anew at zero."""
    samples = [(round((float(at) - span.begin) / MINUTE_SECONDS), float(text)) for at, text in values]
    for (_, before), (minute, value) in pairwise(samples):
        if 1 <= minute <= span.minutes:
            yield minute - 1, value if value < before else value - before
