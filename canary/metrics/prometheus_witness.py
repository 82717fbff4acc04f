"""What somebody who is not the pods counted, from a Prometheus: raw counters, differences taken here, series by series.

Enters: what to count and since when. Leaves: for each count the time that it covers and what was gained in it, or
`Missing` with its reason. Series of several scrape targets begin and end at moments of their own; the time told is
their mean. A series that comes after the others began at zero. Called by `operator/look.py`.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from canary.api.reasons import MissingReason
from canary.clock import Clock
from canary.core.evidence import Missing
from canary.core.witness import Gained
from canary.metrics.prometheus import MIN_TIMEOUT_SECONDS, WINDOW_INTERVALS, PrometheusSettings
from canary.metrics.prometheus_session import QueryInvalidError, connect
from canary.metrics.source import CounterSpec, NoCountsError, Specs

LATE_INTERVALS = 2.0  # a first sample later than this after the others' is a birth


class PrometheusWitness:
    """A `Witness` that asks a Prometheus."""

    def __init__(self, settings: PrometheusSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._client = connect(settings.address, settings.ca_file, settings.token_file)
        self._asking = threading.Lock()

    def gained(self, specs: Specs, since: float, *, within_seconds: float) -> Mapping[str, Gained] | Missing:
        """Return what was gained since a moment (Unix seconds); see `Witness.gained`."""
        deadline = self._clock.monotonic() + within_seconds
        if not self._asking.acquire(timeout=max(0.0, within_seconds)):
            return Missing(MissingReason.TIMED_OUT, "other queries to Prometheus have not ended")
        try:
            found = {name: self._gained(spec, since, deadline) for name, spec in specs.items()}
        except (NoCountsError, QueryInvalidError) as error:
            reason = error.reason if isinstance(error, NoCountsError) else MissingReason.MALFORMED
            return Missing(reason, str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return Missing(MissingReason.MALFORMED, f"the witness's counts cannot be read: {error!r}")
        finally:
            self._asking.release()
        return {name: each for name, each in found.items() if each is not None}

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._client.close()

    def _gained(self, spec: CounterSpec, since: float, deadline: float) -> Gained | None:
        now = self._clock.now().timestamp()
        left = max(MIN_TIMEOUT_SECONDS, deadline - self._clock.monotonic())
        matchers = ",".join(f"{label}=~{json.dumps(pattern)}" for label, pattern in spec.where)
        window = max(now - since, WINDOW_INTERVALS * self._settings.every_seconds)
        query = f"{spec.metric}{{{matchers}}}[{round(window * 1000)}ms]"
        params = {"time": f"{now:.3f}", "timeout": f"{round(left * 1000)}ms"}
        rows = self._client.custom_query(query, params=params, timeout=left)  # pyright: ignore[reportArgumentType]
        if not rows:
            raise NoCountsError(MissingReason.ABSENT, f"the witness has no {spec.metric} of the new version")
        read = ([(float(at), float(text)) for at, text in row["values"]] for row in rows)
        tracks = [[each for each in track if each[0] >= since] for track in read]
        return total_gain([track for track in tracks if track], LATE_INTERVALS * self._settings.every_seconds)


def total_gain(tracks: Sequence[Sequence[tuple[float, float]]], late_seconds: float) -> Gained | None:
    """Add up what the series gained; None where none has two samples. One that fell began anew at zero."""
    first = min((track[0][0] for track in tracks), default=0.0)
    gains: list[Gained] = []
    for track in tracks:
        born = track[0][0] > first + late_seconds
        values: list[Any] = [0.0] * born + [value for _, value in track]
        gain = sum(new if new < old else new - old for old, new in pairwise(values))
        if len(values) > 1:
            gains.append(Gained(first if born else track[0][0], track[-1][0], gain))
    if not gains:
        return None
    count = sum(each.count for each in gains)
    weights = [each.count / count if count else 1 / len(gains) for each in gains]
    begin = sum(weight * each.begin for weight, each in zip(weights, gains, strict=True))
    return Gained(begin, sum(weight * each.end for weight, each in zip(weights, gains, strict=True)), count)
