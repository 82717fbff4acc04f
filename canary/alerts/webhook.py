"""The generic webhook: a page as a CloudEvent 1.0, signed, so that any receiver can trust and de-duplicate it.

The event's `id` is the page's and its body does not change between attempts; only the signature's time does. A
receiver checks `Canary-Signature: v1=<hex>`, HMAC-SHA256 with the shared secret over `<Canary-Timestamp>.<body>`.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from canary.alerts.posting import Poster, checked_url
from canary.alerts.sink import Page, SinkConfig
from canary.api.types import format_timestamp
from canary.clock import Clock
from canary.errors import RefusedError, UnavailableError

EVENT_TYPE = "io.canary-controller.page.v1"
TIMESTAMP_HEADER, SIGNATURE_HEADER = "Canary-Timestamp", "Canary-Signature"


class Webhook:
    """Posts CloudEvents to one address. The secret is a mounted file, read anew for each page: it may be rotated."""

    repeat_seconds = 0.0

    def __init__(self, config: SinkConfig, clock: Clock, poster: Poster) -> None:
        if len(config.urls) != 1:
            raise RefusedError(f"{config.name}: a webhook has one address", code="CAN-4301")
        self._name = config.name
        self._url = checked_url(config.urls[0])
        self._clock = clock
        self._secret_file = config.secret_file
        self._poster = poster

    @property
    def name(self) -> str:
        return self._name

    def send(self, page: Page) -> None:
        """Post the page; see `Sink.send`."""
        body = json.dumps(cloud_event(page), separators=(",", ":"), sort_keys=True).encode()
        headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
        if self._secret_file is not None:
            timestamp = str(int(self._clock.now().timestamp()))
            signed = signature(self._secret(self._secret_file), timestamp, body)
            headers |= {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signed}
        self._poster.post(self._url, body, headers)

    def _secret(self, path: Path) -> bytes:
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            raise UnavailableError(f"the secret of {self._name} cannot be read: {error.strerror}") from error
        if not secret:
            raise UnavailableError(f"the secret of {self._name} is empty; nothing is sent unsigned")
        return secret


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the signature header of a body sent at `timestamp` (seconds since 1970, as text)."""
    mac = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={mac.hexdigest()}"


def cloud_event(page: Page) -> dict[str, Any]:
    """Return the page as a CloudEvent in structured mode."""
    incident = page.incident
    return {
        "specversion": "1.0",
        "id": page.id,
        "source": f"/canary-controller/{quote(incident.cluster, safe='')}",
        "type": EVENT_TYPE,
        "subject": f"{incident.namespace}/{incident.workload}",
        "time": format_timestamp(page.at),
        "datacontenttype": "application/json",
        "data": {
            "key": page.incident.key,
            "opening": page.opening.value,
            "severity": page.opening.severity.value,
            "resolved": page.resolved,
            "reason": page.reason,
            "title": page.title,
            "body": page.body,
            "cluster": incident.cluster,
            "namespace": incident.namespace,
            "workload": incident.workload,
            "run": incident.run,
            "links": dict(page.links),
            "facts": dict(page.facts),
        },
    }
