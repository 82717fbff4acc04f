"""What canary relies on at a sink, as named checks that need no test runner: for the built-in ones and for yours.

A check takes a `Bench`: how to make the sink for an address, and how to read the incident out of what it posted. A
broken promise raises AssertionError with a sentence. Every check ends within a few of the sink's own time limits.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from canary.alerts.sink import Incident, Outcome, Page, Sink, deliver
from canary.api.reasons import Opening
from canary.lab.contracts.contract import checks_of, expect
from canary.lab.contracts.receiver import Answer, Received, Receiver

FLOOD_BYTES = 64 * 1024 * 1024
MOST_READ_BYTES = 8 * 1024 * 1024  # of a flood: what may be on its way in the sockets' buffers
SECRET_PATH = "/hook/T0P-S3CR3T"

PAGE = Page(
    id="6f0b/RolledBack",
    incident=Incident("prod-us", "shop", "checkout", "checkout-7f9c2", "6f0b"),
    opening=Opening.CUSTOMERS_SAFE,
    reason="RolledBack",
    title="CUSTOMERS SAFE - rolled back, nothing to do",
    body="checkout v2.31.0 (AI-assisted, by dana) in prod-us/shop\nall traffic back on v2.30.4",
    at=datetime(2026, 3, 5, 3, 12, 21, tzinfo=UTC),
    links={"report": "https://reports.example/checkout-7f9c2"},
    facts={"lost": "22", "metric": "orders"},
)


@dataclass(frozen=True, slots=True)
class Bench:
    """How a sink is tried: `make` for an address, and what tells its incidents apart."""

    make: Callable[[str], Sink]
    incident_of: Callable[[Received], Hashable]


Check = Callable[[Bench], None]


def sent(bench: Bench, answer: Answer, page: Page = PAGE) -> tuple[Outcome, Receiver]:
    """Send one page to a receiver that answers so; return what became of it, and the receiver, closed."""
    with Receiver(answer) as receiver:
        return deliver(bench.make(receiver.url + SECRET_PATH), page), receiver


def an_acknowledged_page_arrives_whole(bench: Bench) -> None:
    outcome, receiver = sent(bench, Answer(202))
    expect(outcome.acknowledged, f"202 counts as {outcome}")
    expect(len(receiver.received) == 1, f"one page made {len(receiver.received)} posts")
    text = receiver.received[0].body.decode()
    for part in (PAGE.title, "all traffic back on v2.30.4", "22", PAGE.links["report"]):
        expect(part in text, f"{part!r} did not arrive")


def the_same_page_twice_is_one_incident(bench: Bench) -> None:
    other = replace(
        PAGE, id="77aa/RolledBack", incident=replace(PAGE.incident, run="checkout-2", run_uid="77aa")
    )
    louder = replace(PAGE, id="6f0b/RollbackUnverified", opening=Opening.ACTION_NEEDED)
    with Receiver() as receiver:
        sink = bench.make(receiver.url + SECRET_PATH)
        for page in (PAGE, PAGE, louder, other):
            expect(deliver(sink, page).acknowledged, f"{page.id} was not acknowledged")
    first, second, same_run, another = [bench.incident_of(post) for post in receiver.received]
    expect(first == second, "the same page twice makes two incidents")
    expect(first == same_run, "another state of the same run makes another incident")
    expect(first != another, "another run is taken for the same incident")


def too_many_requests_are_retried_not_before_it_says(bench: Bench) -> None:
    outcome, _ = sent(bench, Answer(429, {"Retry-After": "7"}))
    expect(not outcome.acknowledged and not outcome.refused, f"429 counts as {outcome}")
    expect(outcome.retry_after_seconds == 7.0, f"Retry-After: 7 is taken for {outcome.retry_after_seconds}")


def a_server_error_is_retried(bench: Bench) -> None:
    for status in (500, 503):
        outcome, _ = sent(bench, Answer(status, body=b"boom"))
        expect(not outcome.acknowledged and not outcome.refused, f"{status} counts as {outcome}")


def a_bad_request_is_final(bench: Bench) -> None:
    for status in (400, 404):
        outcome, _ = sent(bench, Answer(status, body=b"no such key"))
        expect(outcome.refused, f"{status} counts as {outcome}")


def a_redirect_is_not_followed(bench: Bench) -> None:
    with Receiver() as elsewhere:
        outcome, _ = sent(bench, Answer(307, {"Location": elsewhere.url + "/taken"}))
    expect(not outcome.acknowledged, "a redirect counts as acknowledged")
    expect(not elsewhere.received, "the page went to where the redirect pointed")


def a_receiver_that_hangs_is_left_in_time(bench: Bench) -> None:
    outcome, _ = sent(bench, Answer(hang=True))
    expect(not outcome.acknowledged and not outcome.refused, f"silence counts as {outcome}")


def nobody_there_is_retried(bench: Bench) -> None:
    with Receiver() as receiver:
        url = receiver.url
    outcome = deliver(bench.make(url + SECRET_PATH), PAGE)
    expect(not outcome.acknowledged and not outcome.refused, f"a closed port counts as {outcome}")


def a_broken_reply_is_no_traceback(bench: Bench) -> None:
    outcome, _ = sent(bench, Answer(503, body=b"half of", breaks=True))
    expect(not outcome.acknowledged and not outcome.refused, f"half a reply counts as {outcome}")


def a_flood_is_cut(bench: Bench) -> None:
    outcome, receiver = sent(bench, Answer(500, flood_bytes=FLOOD_BYTES))
    expect(not outcome.acknowledged, f"a flood counts as {outcome}")
    expect(receiver.flooded_bytes < MOST_READ_BYTES, f"{receiver.flooded_bytes} bytes of reply were read")


def an_error_does_not_show_the_address(bench: Bench) -> None:
    for answer in (Answer(400), Answer(500), Answer(302, {"Location": "/"}), Answer(hang=True)):
        outcome, _ = sent(bench, answer)
        expect("T0P-S3CR3T" not in outcome.error, f"the secret path stands in {outcome.error!r}")


def an_error_carries_no_control_characters(bench: Bench) -> None:
    outcome, _ = sent(bench, Answer(400, body=b"\x1b[2Jgone\r\n\x00"))
    expect(outcome.error.isprintable(), f"{outcome.error!r} would write on a terminal")


SINK_CHECKS = checks_of(__name__, Bench)
