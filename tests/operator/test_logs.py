"""The log: one JSON object a line whatever is logged, with the word of what happened."""

import io
import json
import logging

import pytest

from canary.api.reasons import Reason
from canary.operator.logs import MAX_TEXT, configure_logs, log_event

LOGGER = logging.getLogger("canary.test")


@pytest.fixture
def lines():
    """Collect what is logged, as objects; nothing stays configured."""
    root = logging.getLogger()
    level, stream = root.level, io.StringIO()
    handler = configure_logs(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


def test_an_event_is_one_line_with_its_word_sentence_and_fields(lines):
    log_event(LOGGER, Reason.ROLLED_BACK, "Back on the old version.", run="checkout-1", lost=12.5)
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "canary.test",
        "event": "RolledBack",
        "message": "Back on the old version.",
        "run": "checkout-1",
        "lost": 12.5,
    }


def test_line_breaks_and_percent_signs_stay_within_their_line(lines):
    log_event(LOGGER, Reason.SUSPECT, 'at 5 % it says "x"\nsecond\r\n', detail="a\nb")
    (line,) = lines()
    assert (line["message"], line["detail"]) == ('at 5 % it says "x"\nsecond\r\n', "a\nb")


def test_a_field_cannot_hide_what_the_line_itself_says(lines):
    log_event(LOGGER, Reason.SUSPECT, "true", logger="forged", time="never")
    (line,) = lines()
    assert line["logger"] == "canary.test"
    assert line["time"] != "never"


def test_plain_logging_of_libraries_has_the_same_shape(lines):
    logging.getLogger("some.library").warning("disk %s", "full")
    (line,) = lines()
    assert (line["level"], line["logger"], line["message"]) == ("warning", "some.library", "disk full")


def test_a_defect_is_logged_with_its_trace(lines):
    try:
        raise ValueError("broken")
    except ValueError:
        LOGGER.exception("a look ended")
    (line,) = lines()
    assert "ValueError: broken" in line["trace"]


def test_a_gigantic_message_is_cut(lines):
    log_event(LOGGER, Reason.SUSPECT, "x" * 100_000, detail="y" * 100_000)
    (line,) = lines()
    assert (len(line["message"]), len(line["detail"])) == (MAX_TEXT, MAX_TEXT)


def test_looks_are_silent_above_debug(lines):
    log_event(LOGGER, Reason.EVIDENCE_GROWING, "one look", level=logging.DEBUG)
    assert lines() == []
