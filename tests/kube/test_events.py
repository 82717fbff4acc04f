"""Kubernetes Events of a run: one per transition, however often it is told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from canary.api.reasons import Reason
from canary.kube.client import Client, Intent
from canary.kube.events import Happening, Subject, event_name, tell
from canary.kube.resources import EVENTS, NAMESPACES
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock

RUN = Subject("CanaryRun", "shop", "checkout-r1", "uid-1")
MOMENT = datetime(2026, 3, 5, 12, 0, 0, 250_000, tzinfo=UTC)
STARTED = Happening(Reason.ROLLBACK_STARTED, "v2 serves 100 %: 22 orders lost", MOMENT)


@pytest.fixture
def client() -> Client:
    clock = SimClock()
    client = Client(InProcessTransport(ApiServer(Store(clock)), User("controller")), clock=clock)
    client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
    return client


def test_an_event_says_what_happened_to_which_run(client: Client):
    assert tell(client, RUN, STARTED)
    (event,) = client.list(EVENTS, "shop")
    assert event["involvedObject"]["uid"] == "uid-1"
    assert event["involvedObject"]["kind"] == "CanaryRun"
    assert (event["type"], event["reason"]) == ("Warning", "RollbackStarted")
    assert event["message"] == STARTED.message
    assert event["source"]["component"] == event["reportingComponent"] == "canary-controller"
    assert event["eventTime"] == "2026-03-05T12:00:00.250000Z"
    assert event["lastTimestamp"] == "2026-03-05T12:00:00Z"


def test_telling_it_again_makes_no_second_event(client: Client):
    assert tell(client, RUN, STARTED)
    assert not tell(client, RUN, STARTED)
    assert len(client.list(EVENTS, "shop")) == 1


def test_other_happenings_of_other_runs_are_other_events(client: Client):
    later = replace(STARTED, at=MOMENT + timedelta(milliseconds=1))
    promoted = replace(STARTED, reason=Reason.PROMOTED)
    for happening in (STARTED, later, promoted):
        tell(client, RUN, happening)
    tell(client, replace(RUN, uid="uid-2"), STARTED)
    events = client.list(EVENTS, "shop")
    assert len(events) == 4
    assert {event["type"] for event in events if event["reason"] == "Promoted"} == {"Normal"}


def test_a_long_sentence_or_name_still_makes_a_valid_event(client: Client):
    long_run = replace(RUN, name="r" * 253)
    tell(client, long_run, replace(STARTED, message="x" * 5000))
    (event,) = client.list(EVENTS, "shop")
    assert len(event["message"]) == 1024
    assert len(event_name(long_run, STARTED)) <= 253
