"""Leaving canary at any moment: exactly the user's Deployment stays, at its last good version, and nobody is lost."""

from typing import Any

import pytest
from sim_street import COLLAPSE, PLACE, Street, bare, everything_is_back, short_policy

from canary.api.marks import Mark
from canary.api.reasons import Phase, Verb
from canary.cli import detaching
from canary.cli.detaching import Choice, Hold
from canary.cli.targets import Found
from canary.core.stored import StoredRun
from canary.errors import RefusedError
from canary.kube.client import Client
from canary.kube.resources import (
    CANARYREQUESTS,
    CONTROLLERREVISIONS,
)
from canary.lab import manifests
from canary.lab.apiserver.history import Event
from canary.lab.controllers.routing import build
from canary.lab.rehearsal.scenario import DANA

BEFORE_COMMIT = (Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING)
AFTER_COMMIT = (Phase.COMMITTING, Phase.RETURNING)
SERVING = {"HTTPRoute", "EndpointSlice", "Service"}


class Leaving(Street):
    """A street that notes every moment at which some request would have found no pod."""

    def open(self) -> "Leaving":
        self.unserved: list[str] = []
        self.dana = Client(self.cluster.transport(DANA), clock=self.clock)
        self.cluster.store.subscribe(self._serve)
        return self

    def _witness_roll(self, event: Event) -> None:
        """A detach opens the lock under traffic: each test says what may roll then."""

    def _serve(self, event: Event) -> None:
        if event.kind.name not in SERVING:
            return
        store = self.cluster.store
        routes, services, slices = (
            store.select(store.kinds.named(kind), manifests.NAMESPACE)
            for kind in ("HTTPRoute", "Service", "EndpointSlice")
        )
        share = sum(build(routes, services, slices).shares("/checkout").values())
        if abs(share - 1) > 1e-9:
            self.unserved.append(f"{event.kind.name}: only {share:.6f} of the requests reach a pod")

    def look(self) -> Hold:
        run = self.latest_run()
        stored = StoredRun(self.stored("CanaryRun", run.name)) if run is not None else None
        policy = self.stored("CanaryPolicy") or None
        return detaching.look(self.dana, Found(*PLACE, stored, policy))

    def detach(self, choice: Choice = Choice.NONE, limit: float = 120.0) -> None:
        """Do what `canary detach` does, on simulated time."""
        hold = self.look()
        detaching.refuse_undecided([hold], choice)
        detaching.begin(self.dana, hold, choice)
        assert self.run_until(lambda: detaching.is_done(self.dana, hold), limit), self.told()
        detaching.finish(self.dana, hold)
        self.run_for(5)


def left_alone(street: Leaving, version: str) -> None:
    """Check that nothing of ours is left, that nobody was lost, and that one version serves all."""
    everything_is_back(street, version)
    assert not street.unserved
    deployment = street.stored("Deployment")
    assert "paused" not in deployment["spec"]
    assert Mark.GUARDED not in (deployment["metadata"].get("labels") or {})
    assert not street.stored("CanaryPolicy")
    assert not street.admin.list(CONTROLLERREVISIONS, manifests.NAMESPACE)


def at(phase: Phase, **spec: Any) -> Leaving:
    """Return a street whose change has come to a phase."""
    street = Leaving(policy=short_policy(**spec) if spec else None).open()
    street.push()
    street.until(phase)
    if phase is Phase.PROGRESSING:
        assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    return street


def test_a_deployment_without_a_held_change_is_given_back_as_it_was():
    street = Leaving().open()
    before = street.deployment_before
    street.detach()
    left_alone(street, manifests.OLD)
    spec = {name: value for name, value in before["spec"].items() if name != "paused"}
    assert street.stored("Deployment")["spec"] == spec
    assert bare(street.stored("HTTPRoute")) == bare(street.route_before)


@pytest.mark.parametrize("phase", BEFORE_COMMIT)
def test_a_held_change_is_decided_before_anything_is_written(phase: Phase):
    street = at(phase)
    version = street.stored("CanaryPolicy")["metadata"]["resourceVersion"]
    with pytest.raises(RefusedError, match=r"--accept .* or --reject"):
        street.detach()
    assert street.stored("CanaryPolicy")["metadata"]["resourceVersion"] == version
    assert street.phase is phase


@pytest.mark.parametrize("phase", BEFORE_COMMIT)
def test_a_rejected_change_goes_at_every_phase_and_no_pod_of_the_old_version_moves(phase: Phase):
    street = Leaving().open()
    pods = {pod["metadata"]["uid"] for pod in stable_pods(street)}
    street.push()
    street.until(phase)
    street.detach(Choice.REJECT)
    left_alone(street, manifests.OLD)
    assert {pod["metadata"]["uid"] for pod in stable_pods(street)} == pods


def stable_pods(street: Street) -> list[Any]:
    store = street.cluster.store
    pods = store.select(store.kinds.named("Pod"), manifests.NAMESPACE)
    return [pod for pod in pods if Mark.SIDE not in pod["metadata"]["labels"]]


@pytest.mark.parametrize("phase", BEFORE_COMMIT)
def test_an_accepted_change_rolls_out_natively_at_every_phase(phase: Phase):
    street = at(phase)
    street.detach(Choice.ACCEPT)
    street.run_for(60)
    left_alone(street, manifests.NEW)


@pytest.mark.parametrize("phase", AFTER_COMMIT)
def test_a_commit_under_way_ends_first_and_needs_no_decision(phase: Phase):
    street = at(phase)
    street.detach()
    assert street.phase is Phase.PROMOTED
    left_alone(street, manifests.NEW)


def test_a_commit_that_was_taken_back_goes_home_with_the_old_template():
    street = at(Phase.RETURNING)
    street.ask(Verb.ABORT)
    street.until(Phase.ABORTED)
    with pytest.raises(RefusedError, match="only --reject"):
        street.detach(Choice.ACCEPT)
    street.detach(Choice.REJECT, 300)
    left_alone(street, manifests.OLD)


def test_a_version_that_was_taken_back_long_ago_is_still_held_and_still_asks_for_a_decision():
    street = Leaving().open()
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    with pytest.raises(RefusedError, match="a change is held"):
        street.detach()
    street.detach(Choice.REJECT)
    left_alone(street, manifests.OLD)


def test_a_change_that_was_pushed_after_the_decision_stays_held():
    street = at(Phase.PROGRESSING)
    hold = street.look()
    detaching.begin(street.dana, hold, Choice.ACCEPT)
    street.push(version="newer")
    street.run_for(60)
    assert not detaching.is_done(street.dana, hold)
    assert street.stored("Deployment")["spec"]["paused"] is True
    (request,) = street.admin.list(CANARYREQUESTS, manifests.NAMESPACE)
    assert request["status"]["outcome"] == "Refused"
    assert {pod["spec"]["containers"][0]["image"][-6:] for pod in stable_pods(street)} == {manifests.OLD[-6:]}
