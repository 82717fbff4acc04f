"""Logs for machines: one JSON object a line, on the stream that the process is given.

`event` is a word of `canary.api.reasons`, the same as in the Event, the condition and the page; the
sentence is the message. Nothing is logged for each look above debug. Fields come in through `log_event`;
foreign libraries that use plain logging end up in the same shape, without an event.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from canary.api.reasons import Reason

MAX_TEXT = 4096  # of a message or a field; a traceback is longer and keeps its end
MAX_TRACE = 16_384
QUIET = {"apscheduler": logging.ERROR, "urllib3": logging.ERROR}  # what they say, our metrics say better
RESERVED = frozenset({"time", "level", "logger", "event", "message", "trace"})


class JsonLines(logging.Formatter):
    """Turns a record into one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        event = getattr(record, "event", None)
        if event is not None:
            line["event"] = str(event)
        line["message"] = record.getMessage()[:MAX_TEXT]
        line.update(_fields(getattr(record, "fields", {})))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-MAX_TRACE:]
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logs(stream: TextIO, level: int = logging.INFO) -> logging.Handler:
    """Send every log line of this process to `stream`; return the handler, so that it can be removed again."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)
    return handler


def log_event(
    logger: logging.Logger, event: Reason, message: str, /, *, level: int = logging.INFO, **fields: object
) -> None:
    """Log what happened: its word, its sentence, and further fields (run, namespace, workload, ...)."""
    logger.log(level, "%s", message, extra={"event": event, "fields": fields})


def _fields(fields: object) -> Mapping[str, object]:
    """Return the fields of a record: bounded, and none that would hide the line's own."""
    if not isinstance(fields, dict):
        return {}
    return {name: _bounded(value) for name, value in fields.items() if name not in RESERVED}


def _bounded(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    return str(value)[:MAX_TEXT]
