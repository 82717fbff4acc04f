"""A CanaryPolicy that is made looser, on a whole simulated cluster: the stronger text judges until a quorum agreed."""

import time
from typing import Any

from sim_street import PLACE, Street
from test_reviews import Called
from test_safety import DANA, PRIYA, RESET, SAM, amended, ruled, until

from canary.api.change import ChangeAnnotation
from canary.api.reasons import Phase, Reason
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, SAFETYPOLICIES

LOOSER = {"steps": [{"weight": "100%"}], "tier": 3}
FREE = {**RESET["exposure"], "unapprovedMax": "100%"}
"""Changes need nobody here: these tests are about the text."""


def a_street(**approvals: int) -> Called:
    street = Called()
    asked = {**RESET["approvals"], **approvals}
    ruled(street, approvals=asked, exposure=FREE, appliesTo={"tiers": [2], "expected": 1})
    street.run_for(20.0)
    return street


def loosened(street: Street, **spec: Any) -> None:
    """Write the policy as dana, whom the API server notes."""
    noted = {"annotations": {ChangeAnnotation.CHANGED_BY.value: "dana"}}
    street.admin.merge_patch(
        CANARYPOLICIES.at(*PLACE), {"metadata": noted, "spec": spec}, intent=Intent.NEUTRAL
    )
    street.run_for(5.0)


def status(street: Street) -> dict[str, Any]:
    return street.stored("CanaryPolicy")["status"]


def pinned(street: Street) -> tuple[list[int], int]:
    """Return the plan and the tier that the run under way is judged by."""
    return [step.weight for step in street.run.spec.steps], street.run.spec.policy.tier


def titles(street: Called) -> list[str]:
    time.sleep(0.2)  # the courier is a thread
    pages = {page.id: page.title for page in street.pager.pages if page.reason == Reason.POLICY_WEAKER}
    return list(pages.values())


def test_a_looser_text_judges_no_run_until_two_people_who_count_have_approved_it():
    street = a_street()
    loosened(street, **LOOSER)
    street.push()
    until(street, Phase.PROGRESSING)
    assert pinned(street) == ([50_000, 1_000_000], 2)
    waits = status(street)["weaker"]
    assert waits["fields"] == ["tier", "steps"]
    assert waits["missing"] == "has none, needs 1 senior and 1 approver of devs, seniors who is not dana"
    assert "a weaker text waits for approval (tier, steps)" in street.said()[1]
    assert "`canary approve shop/policy/checkout`" in street.said()[1]
    assert titles(street) == ["DECISION NEEDED - a looser policy waits: shop/checkout"]

    street.restart()
    first, digest = street.run.name, waits["digest"]
    assert street.review(DANA, digest).startswith("you wrote this change")
    assert street.review(SAM, digest) == "recorded; has sam, needs 1 senior of devs, seniors who is not dana"
    assert street.run.name == first, "the run goes on by the text that it began with"
    assert street.review(PRIYA, digest) == "recorded; that is all: the text is in force"
    assert street.run_until(lambda: street.run.name != first, 60.0), street.told()
    old = street.stored("CanaryRun", first)["status"]
    assert (old["phase"], old["reason"]) == ("Superseded", "PolicyChanged")
    assert "weaker" not in status(street)
    until(street, Phase.PROMOTED)
    assert pinned(street) == ([1_000_000], 3)
    assert not street.breaches


def test_a_text_that_nobody_approves_is_called_for_once_more_and_may_be_taken_back():
    street = a_street()
    loosened(street, drain="1s")
    street.hours_later(5)
    assert len(titles(street)) == 2
    loosened(street, drain="30s")
    assert "weaker" not in status(street)
    street.push()
    until(street, Phase.PROMOTED)


def test_a_policy_that_is_told_to_observe_holds_until_a_quorum_lets_it_go():
    street = a_street()
    loosened(street, mode="Observe")
    street.run_for(40.0)
    stored = street.stored("Deployment")
    assert (stored["spec"]["paused"], status(street)["adopted"]) == (True, True)
    assert (street.admin.get(SAFETYPOLICIES.at("", "reset")) or {})["status"]["covered"] == 1
    digest = status(street)["weaker"]["digest"]
    street.review(SAM, digest)
    street.review(PRIYA, digest)
    street.run_for(40.0)
    assert not (street.admin.get(DEPLOYMENTS.at(*PLACE)) or {})["spec"].get("paused")
    assert status(street)["adopted"] is False


def test_where_nobody_is_asked_a_looser_text_counts_at_once():
    street = a_street(count=0, senior=0)
    street.push()
    until(street, Phase.PROGRESSING)
    first = street.run.name
    loosened(street, **LOOSER)
    assert "weaker" not in status(street)
    assert street.run_until(lambda: street.run.name != first, 60.0), street.told()
    assert pinned(street) == ([1_000_000], 3)


def test_a_text_that_waits_is_asked_of_whom_the_rules_in_force_ask_now():
    street = a_street()
    loosened(street, **LOOSER)
    amended(street, approvals={"count": 3})
    street.run_for(20.0)
    street.hours_later(1)
    assert "needs 1 senior and 2 approvers" in status(street)["weaker"]["missing"]


def test_what_is_stricter_in_a_text_that_waits_holds_at_once():
    street = a_street()
    loosened(street, tier=4, bake={"duration": "2m"})
    street.push()
    until(street, Phase.PROGRESSING)
    policy = street.run.spec.policy
    assert (policy.tier, policy.bake.duration.total_seconds()) == (2, 120.0)


def test_a_second_policy_that_observes_lets_nothing_go_that_another_one_holds():
    street = a_street()
    second = street.stored("CanaryPolicy")["spec"] | {"mode": "Observe"}
    place = CANARYPOLICIES.at(PLACE[0], "second")
    street.admin.create(CANARYPOLICIES, place.manifest(spec=second), intent=Intent.NEUTRAL)
    seen: list[bool] = []
    for _ in range(40):
        street.run_for(0.5)
        seen.append((street.admin.get(DEPLOYMENTS.at(*PLACE)) or {})["spec"].get("paused") is True)
    assert all(seen)
