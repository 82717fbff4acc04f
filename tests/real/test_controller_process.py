"""The real controller as a process, under real traffic: rolled back, killed, aborted without it, ended in order."""

import json
import re
from typing import Any

import pytest
from conftest import require_program
from real_play import Notes
from real_stories import STORIES, Playbill

from canary.api.reasons import Phase
from canary.kube.lease import ELECTION_LEASE

pytest_plugins = ["real_fixtures"]
KILLED = [name for name in STORIES if name.startswith("killed")]
ABORTED = [name for name in STORIES if name.startswith("aborted")]
Object = dict[str, Any]


@pytest.fixture(scope="module")
def collapse(playbill: Playbill) -> Notes:
    return playbill.notes("collapse")


# -- a collapse ------------------------------------------------------------------------------------------------------


def test_a_change_that_loses_orders_is_rolled_back(collapse: Notes) -> None:
    assert collapse.run.status.phase is Phase.ROLLED_BACK
    assert collapse.weights == [0, 50_000, 0]
    assert collapse.run.status.traffic.zero_verified_at is not None
    assert sum(truth.missing for truth in collapse.new_version()) > 0


def test_no_customer_reaches_the_new_version_after_the_rollback_was_seen(collapse: Notes) -> None:
    verified = collapse.run.status.traffic.zero_verified_at
    assert verified is not None
    last = max(truth.last_request_at or 0.0 for truth in collapse.new_version())
    assert last <= verified.timestamp()


def test_people_are_told_that_customers_are_safe_only_after_the_route_was_written(collapse: Notes) -> None:
    safe = [page.at for page in collapse.pages if b"CUSTOMERS SAFE" in page.body]
    assert safe
    assert collapse.zeroed_at > 0
    assert min(safe) > collapse.zeroed_at


def test_events_tell_the_story(collapse: Notes) -> None:
    told = {event["reason"]: event["message"] for event in collapse.stored["events"]}
    assert {"RunStarted", "StepStarted", "RollbackStarted", "RolledBack"} <= told.keys()
    assert "OrdersCollapsed" in told["RollbackStarted"]
    assert {event["involvedObject"]["name"] for event in collapse.stored["events"]} == {collapse.run.name}


def test_the_users_deployment_is_as_the_user_wrote_it_but_for_the_hold(collapse: Notes) -> None:
    (pushed,), (after,) = collapse.stored["pushed"], collapse.stored["deployment"]
    assert after["spec"]["paused"] is True
    assert {**after["spec"], "paused": None} == {**pushed["spec"], "paused": None}


# -- kubectl ---------------------------------------------------------------------------------------------------------


def test_kubectl_shows_a_run_in_one_line(collapse: Notes) -> None:
    require_program("kubectl")
    header, row = collapse.said["get"].out.splitlines()
    assert header.startswith("NAME")
    assert row.startswith(collapse.run.name)
    assert "RolledBack" in row


def test_kubectl_follows_a_run_from_phase_to_phase(collapse: Notes) -> None:
    require_program("kubectl")
    seen = collapse.said["get -w"].out
    places = [seen.find(phase) for phase in ("Preparing", "Progressing", "RolledBack")]
    assert -1 not in places
    assert places == sorted(places)


def test_kubectl_describes_a_run(collapse: Notes) -> None:
    require_program("kubectl")
    told = collapse.said["describe"]
    assert told.code == 0, told.err
    assert re.search(r"^Name:\s+" + collapse.run.name, told.out, re.MULTILINE)
    assert "OrdersCollapsed" in told.out


def test_a_manifest_that_is_applied_again_keeps_the_hold(collapse: Notes) -> None:
    require_program("kubectl")
    assert collapse.said["apply"].code == 0, collapse.said["apply"].err
    (applied,) = collapse.stored["applied"]
    assert applied["spec"]["paused"] is True


def test_a_manifest_that_releases_the_hold_is_refused(collapse: Notes) -> None:
    require_program("kubectl")
    assert collapse.said["release"].code != 0
    assert "held by canary" in collapse.said["release"].err


# -- telemetry and the end of the process ----------------------------------------------------------------------------


def test_the_probes_answer_while_the_controller_works(collapse: Notes) -> None:
    assert collapse.said["healthz"].code == 200
    assert collapse.said["readyz"].code == 200


def test_the_metrics_show_the_run_under_way_and_its_end(collapse: Notes) -> None:
    under_way, ended = collapse.said["metrics under way"].out, collapse.said["metrics"].out
    assert series(under_way, "canary_run_phase", 'phase="Progressing"') == 1.0
    assert series(ended, "canary_run_weight_ratio", 'kind="asked"') == 0.0
    assert series(ended, "canary_run_phase", 'phase="RolledBack"') == 1.0
    assert series(ended, "canary_runs_total", 'outcome="rolled_back"') == 1.0


def series(text: str, name: str, label: str) -> float | None:
    """Return the value of the one series of this name with this label."""
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and label in line]
    assert len(lines) == 1, lines
    return float(lines[0].rpartition(" ")[2])


def test_a_controller_that_is_asked_to_end_ends_in_order(collapse: Notes) -> None:
    assert collapse.said["SIGTERM"].code == 0
    assert "Traceback" not in collapse.log


def test_a_controller_that_ends_in_order_leaves_the_lease_to_the_next_one(collapse: Notes) -> None:
    holders = {each["metadata"]["name"]: each["spec"]["holderIdentity"] for each in collapse.stored["leases"]}
    assert holders[ELECTION_LEASE] == ""


def test_an_undisturbed_story_logs_no_defect(collapse: Notes) -> None:
    assert [line for line in collapse.log.splitlines() if '"level": "error"' in line] == []


# -- a controller that is killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", KILLED)
def test_a_killed_controller_goes_on_to_the_rollback(playbill: Playbill, story: str) -> None:
    notes = playbill.notes(story)
    assert notes.run.status.phase is Phase.ROLLED_BACK, notes.run.status.message
    if story != "killed at the rollback write":  # the next controller's look may only suspect
        assert notes.run.status.reason == "OrdersCollapsed"
    assert notes.weights == [0, 50_000, 0]


@pytest.mark.parametrize("story", KILLED)
def test_a_killed_controller_counts_nothing_twice(playbill: Playbill, story: str) -> None:
    notes = playbill.notes(story)
    wanted = sum(truth.wanted for truth in notes.new_version())
    lost = sum(truth.missing for truth in notes.new_version())
    orders = next(effect for effect in notes.run.status.analysis.effects if effect.name == "orders")
    assert float(orders.seen) <= sum(truth.orders for truth in notes.new_version())
    assert float(orders.expected) < 1.5 * wanted + 10
    assert float(notes.run.status.analysis.lost) < 1.5 * lost + 10


@pytest.mark.parametrize("story", KILLED)
def test_a_killed_controller_tells_each_thing_once(playbill: Playbill, story: str) -> None:
    notes = playbill.notes(story)
    pages = {page["id"] for page in notes.page_bodies() if page["data"]["opening"] == "CUSTOMERS SAFE"}
    assert len(pages) == 1
    entered = [entry.phase for entry in notes.run.status.timeline]
    assert entered.count(Phase.ROLLED_BACK) == 1
    assert len(notes.stored["runs"]) == 1


# -- a controller that is dead ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", ABORTED)
def test_an_abort_moves_the_traffic_without_a_controller(playbill: Playbill, story: str) -> None:
    notes = playbill.notes(story)
    told = notes.said["abort"]
    assert told.code == 0, told.err
    assert json.loads(told.out)["by"] == "this command"
    (dead,) = notes.stored["dead"]
    assert dead["status"]["phase"] == "Progressing"
    assert notes.weights == [0, 10_000, 0]


@pytest.mark.parametrize("story", ABORTED)
def test_a_controller_that_comes_back_ends_the_aborted_run(playbill: Playbill, story: str) -> None:
    notes = playbill.notes(story)
    assert notes.run.status.phase is Phase.ABORTED
    (request,) = notes.stored["requests"]
    assert request["status"]["outcome"] == "Done"
    assert sum(truth.missing for truth in notes.truths) == 0


def test_an_abort_now_writes_the_route_before_it_tells_the_controller(playbill: Playbill) -> None:
    notes = playbill.notes("aborted by an agent")
    asked = next(write for write in notes.writes if write.kind == "CanaryRequest")
    assert asked.weight_ppm == 0


def test_an_abort_asks_the_controller_first(playbill: Playbill) -> None:
    notes = playbill.notes("aborted by dana")
    asked = next(write for write in notes.writes if write.kind == "CanaryRequest")
    assert asked.weight_ppm == 10_000


def test_an_agent_may_abort_and_not_promote(playbill: Playbill) -> None:
    notes = playbill.notes("aborted by an agent")
    refused = notes.said["promote"]
    assert refused.code == 4, refused.out + refused.err
    assert "machines may abort and hold only" in refused.err
    (request,) = notes.stored["requests"]
    assert request["spec"]["verb"] == "abort"
    assert request["spec"]["requester"] == "system:serviceaccount:ci:kiro"
