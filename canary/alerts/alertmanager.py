"""Alertmanager, API v2: labels are identity, numbers are annotations, and whoever falls silent is resolved.

A run is one incident with one alert at a time: posting a page ends the run's alerts of other severities in the same
request. Alertmanager forgets an alert at its `endsAt`, so an open one is sent again every 60 s (`REPEAT_SECONDS`), to
every replica, since replicas do not share alerts.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from canary.alerts.posting import Poster, checked_url
from canary.alerts.sink import Page, SinkConfig
from canary.api.reasons import Opening, Severity
from canary.api.types import format_timestamp
from canary.clock import Clock
from canary.errors import RefusedError, UnavailableError

REPEAT_SECONDS = 60.0
OPEN_SECONDS = 240.0  # an alert that is not sent again ends by itself
MAX_REPLICAS = 8
ALERT_NAME = "CanaryRun"
_ALERTING = (Severity.CRITICAL, Severity.ERROR, Severity.WARNING)


class Alertmanager:
    """Posts alerts to all replicas of one Alertmanager; one that took them is enough."""

    repeat_seconds = REPEAT_SECONDS

    def __init__(self, config: SinkConfig, clock: Clock, poster: Poster) -> None:
        if not 1 <= len(config.urls) <= MAX_REPLICAS:
            text = f"{config.name}: give the addresses of 1 to {MAX_REPLICAS} replicas"
            raise RefusedError(text, code="CAN-4301")
        self._name = config.name
        self._urls = [checked_url(url).rstrip("/") + "/api/v2/alerts" for url in config.urls]
        self._clock = clock
        self._poster = poster

    @property
    def name(self) -> str:
        return self._name

    def send(self, page: Page) -> None:
        """Post the page to every replica at once; see `Sink.send`. A note on the way changes no alert."""
        if page.opening is Opening.NONE and not page.resolved:
            return
        body = json.dumps(alerts(page, self._clock.now())).encode()
        with ThreadPoolExecutor(len(self._urls)) as replicas:
            errors = list(replicas.map(lambda url: self._post(url, body), self._urls))
        failed = [error for error in errors if error is not None]
        if len(failed) < len(errors):
            return
        # One that may come back is worth asking again, whatever the others said.
        raise next((error for error in failed if isinstance(error, UnavailableError)), failed[0])

    def _post(self, url: str, body: bytes) -> UnavailableError | RefusedError | None:
        try:
            self._poster.post(url, body, {})
        except (UnavailableError, RefusedError) as error:
            return error
        return None


def alerts(page: Page, now: datetime) -> list[dict[str, Any]]:
    """Return the run's alerts, one a severity: the page's own burns, the others end now."""
    burning = None if page.resolved else page.opening.severity
    return [_alert(page, severity, now, burns=severity is burning) for severity in _ALERTING]


def _alert(page: Page, severity: Severity, now: datetime, *, burns: bool) -> dict[str, Any]:
    ends = now + timedelta(seconds=OPEN_SECONDS) if burns else now
    incident = page.incident
    alert: dict[str, Any] = {
        "labels": {
            "alertname": ALERT_NAME,
            "severity": severity.value,
            "cluster": incident.cluster,
            "workload_namespace": incident.namespace,
            "workload": incident.workload,
            "run": incident.run,
            "incident": page.incident.key,
        },
        "annotations": _annotations(page),
        "startsAt": format_timestamp(min(page.at, ends)),
        "endsAt": format_timestamp(ends),
    }
    address = next((link for link in page.links.values() if link.startswith(("http://", "https://"))), "")
    return {**alert, "generatorURL": address} if address else alert


def _annotations(page: Page) -> dict[str, str]:
    named = {f"{name}_url": link for name, link in page.links.items()} | dict(page.facts)
    texts = {"summary": page.title, "description": page.body, "reason": page.reason}
    return {re.sub(r"[^a-zA-Z0-9_]", "_", name): value for name, value in named.items()} | texts
