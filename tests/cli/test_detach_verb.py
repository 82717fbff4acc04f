"""`canary detach`: what it says, what it refuses, and what it writes in the person's own name."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from cli_bed import Bed
from run_story import exposed

from canary.api.marks import TRUE, Mark
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, REPLICASETS
from canary.lab import manifests
from canary.lab.apiserver.api_error import ApiError

pytest_plugins = ["cli_fixtures"]
CHECKOUT = DEPLOYMENTS.at("shop", "checkout")
POLICY = CANARYPOLICIES.at("shop", "checkout")


@pytest.fixture
def held(cli: Bed) -> Iterator[Bed]:
    """A Deployment that holds a change, as after a rollback: no run is under way."""
    cli.put_policy()
    cli.controller.create(DEPLOYMENTS, manifests.deployment(2, 8080), intent=Intent.NEUTRAL)
    deadline = time.monotonic() + 10
    while not cli.controller.list(REPLICASETS, "shop"):
        assert time.monotonic() < deadline, "the Deployment has no ReplicaSet"
        time.sleep(0.05)
    lock = {"metadata": {"labels": {Mark.GUARDED.value: TRUE}}, "spec": {"paused": True}}
    cli.controller.merge_patch(CHECKOUT, lock, intent=Intent.NEUTRAL)
    change(cli, manifests.NEW)
    yield cli
    kinds = cli.cluster.store.kinds
    cli.cluster.store.delete(kinds.named("Deployment"), ("shop", "checkout"))
    for each in cli.controller.list(REPLICASETS, "shop"):
        with suppress(ApiError):  # the garbage collector was quicker
            cli.cluster.store.delete(kinds.named("ReplicaSet"), ("shop", each["metadata"]["name"]))


def change(cli: Bed, version: str) -> None:
    kind = cli.cluster.store.kinds.named("Deployment")
    image = f"registry.example/shop:{version}"

    def asks(obj):
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = image
        return obj

    cli.cluster.store.update(kind, ("shop", "checkout"), asks)


def mode(cli: Bed) -> str:
    policy = cli.controller.get(POLICY)
    assert policy is not None
    return policy["spec"]["mode"]


def image(cli: Bed) -> str:
    deployment = cli.controller.get(CHECKOUT)
    assert deployment is not None
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


@pytest.mark.parametrize("words", [["checkout"], ["--all"], ["deploy/checkout", "--yes"]])
def test_a_held_change_is_decided_by_a_person_before_anything_is_written(held: Bed, words: list[str]):
    said = held.canary("detach", *words)
    assert said.code == 2
    assert said.err.startswith("CAN-5007 shop/checkout: a change is held")
    assert "--accept" in said.err
    assert "--reject" in said.err
    assert mode(held) == "Enforce"


def test_a_dry_run_says_what_would_happen_and_writes_nothing(held: Bed):
    said = held.canary("detach", "checkout", "--reject", "--dry-run")
    assert said.code == 0
    assert "the serving version's template comes back, no pod moves" in said.err
    assert (mode(held), image(held)[-7:]) == ("Enforce", manifests.NEW)


def test_without_a_controller_nothing_is_written(held: Bed):
    held.heartbeat(60.0)
    said = held.canary("detach", "checkout", "--reject", "--yes")
    assert said.code == 1
    assert "CAN-3001 no controller for" in said.err
    assert mode(held) == "Enforce"


def test_a_rejection_asks_for_the_serving_template_in_the_persons_name(held: Bed):
    said = held.canary("detach", "checkout", "--reject", "--yes", "--timeout", "0s")
    assert (said.code, said.out) == (1, "")
    assert "CAN-3005 shop/checkout is not given back yet" in said.err
    assert (mode(held), image(held)[-7:]) == ("Observe", manifests.OLD)
    stored = held.controller.get(CHECKOUT)
    assert stored is not None
    assert stored["spec"]["paused"] is True


def test_an_acceptance_is_a_request_that_names_the_very_template(held: Bed):
    held.canary("detach", "checkout", "--accept", "--yes", "--timeout", "0s")
    (request,) = held.requests()
    assert request["spec"]["verb"] == "bypass"
    assert request["spec"]["subject"]["kind"] == "CanaryPolicy"
    assert request["spec"]["requester"] == "dana"
    assert image(held)[-7:] == manifests.NEW


def test_a_machine_accepts_nothing(held: Bed):
    said = held.canary("detach", "checkout", "--accept", "--yes", "--timeout", "0s", person="agent")
    assert said.code in (2, 4)
    assert held.requests() == []


def test_a_policy_that_is_gone_comes_back_to_let_its_deployment_go(held: Bed):
    stored = held.put(exposed())
    policy = held.controller.get(POLICY)
    assert policy is not None
    held.controller.delete(POLICY, uid=policy["metadata"]["uid"], intent=Intent.NEUTRAL)
    said = held.canary("detach", "checkout", "--reject", "--yes", "--timeout", "0s")
    assert "CAN-3005" in said.err
    assert mode(held) == "Observe"
    again = held.controller.get(POLICY)
    assert again is not None
    assert again["spec"]["target"] == stored["spec"]["policy"]["target"]


def test_what_nothing_of_ours_holds_needs_no_detach(cli: Bed):
    said = cli.canary("detach", "checkout")
    assert said.code == 2
    assert "no policy, Deployment or run is named checkout" in said.err
