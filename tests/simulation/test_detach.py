"""Leaving canary at any moment: exactly the user's Deployment stays, at its last good version, and nobody is lost."""

from collections.abc import Callable
from typing import Any

import pytest
from sim_faults import Crash, Dying, Moment
from sim_street import COLLAPSE, PLACE, Street, bare, everything_is_back, short_policy

from canary.api.marks import Mark
from canary.api.reasons import AFTER_COMMIT, Phase, Verb
from canary.cli import detaching
from canary.cli.detaching import Choice, Hold
from canary.cli.targets import Found
from canary.core.telling.stored import StoredRun
from canary.errors import RefusedError
from canary.kube.client import Client, Intent
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYREQUESTS,
    CANARYRUNS,
    CONTROLLERREVISIONS,
    HPAS,
    HTTPROUTES,
    Resource,
)
from canary.lab import manifests
from canary.lab.apiserver.history import Event
from canary.lab.controllers.routing import build
from canary.lab.rehearsal.scenario import DANA

BEFORE_COMMIT = (Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING)
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


@pytest.mark.parametrize("phase", sorted(AFTER_COMMIT))
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


def leave_through_deaths(at: int) -> list[str]:
    """Leave from the first slice, with an autoscaler that is frozen; the controller dies at one of its writes."""
    dying = Dying()
    street = Leaving(wire=dying.wire).open()
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": manifests.NAME}
    soon = {"scaleDown": {"stabilizationWindowSeconds": 5}}
    scaler = HPAS.at(*PLACE).manifest(spec={"scaleTargetRef": target, "maxReplicas": 9, "behavior": soon})
    before = street.admin.create(HPAS, scaler, intent=Intent.NEUTRAL)
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    hold = street.look()
    dying.count(at, Moment.AFTER, lambda: street.phase)
    detaching.begin(street.dana, hold, Choice.REJECT)
    for _ in range(2):
        try:
            assert street.run_until(lambda: detaching.is_done(street.dana, hold), 700), street.told()
            break
        except Crash:
            street.restart()
    detaching.finish(street.dana, hold)
    street.run_for(5)
    left_alone(street, manifests.OLD)
    assert street.stored(HPAS.kind)["spec"] == before["spec"]
    return dying.writes


def test_a_controller_that_dies_at_any_write_of_a_detach_still_gives_everything_back():
    writes = leave_through_deaths(0)
    first = {write: number for number, write in reversed([*enumerate(writes, 1)])}
    assert len(first) > 6
    for number in first.values():
        leave_through_deaths(number)


# -- what is deleted under a run ---------------------------------------------------------------------------------------


def delete(street: Leaving, *resources: Resource) -> None:
    """Delete objects of ours as somebody with the right to do so does."""
    for resource in resources:
        kind = street.cluster.store.kinds.find(resource.group, resource.plural)
        assert kind is not None
        for obj in street.cluster.store.select(kind, manifests.NAMESPACE):
            street.cluster.store.delete(kind, (manifests.NAMESPACE, obj["metadata"]["name"]))


def delete_crds(street: Leaving, *resources: Resource) -> None:
    kind = street.cluster.store.kinds.named("CustomResourceDefinition")
    for resource in resources:
        street.cluster.store.delete(kind, ("", f"{resource.plural}.{resource.group}"))


DELETIONS: dict[str, Callable[[Leaving], None]] = {
    "policy": lambda street: delete(street, CANARYPOLICIES),
    "policy and run": lambda street: delete(street, CANARYPOLICIES, CANARYRUNS),
    "run": lambda street: delete(street, CANARYRUNS),
    "CRD of policies": lambda street: delete_crds(street, CANARYPOLICIES),
    "CRD of runs": lambda street: delete_crds(street, CANARYRUNS),
    "CRD of requests": lambda street: delete_crds(street, CANARYREQUESTS),
    "all CRDs": lambda street: delete_crds(street, CANARYREQUESTS, CANARYRUNS, CANARYPOLICIES),
}
GOES_ON = {"run", "CRD of requests"}  # the policy starts another run, or nothing was needed
PHASES = (*BEFORE_COMMIT, *sorted(AFTER_COMMIT), Phase.PAUSED)


def come_to(phase: Phase) -> Leaving:
    if phase is not Phase.PAUSED:
        return at(phase)
    street = at(Phase.PROGRESSING)
    rules = street.route_before["spec"]["rules"]
    street.admin.merge_patch(HTTPROUTES.at(*PLACE), {"spec": {"rules": rules}}, intent=Intent.NEUTRAL)
    return street.until(Phase.PAUSED)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("what", DELETIONS)
def test_whatever_of_ours_is_deleted_no_request_is_lost_and_the_hold_stays(what: str, phase: Phase):
    street = come_to(phase)
    asked = street.stored("Deployment")["spec"]["template"]
    DELETIONS[what](street)
    street.run_for(3)
    if phase not in AFTER_COMMIT and what not in GOES_ON:
        assert street.route_ppm() == 0, "traffic waits for somebody"
    street.run_for(100)
    assert not street.unserved
    deployment = street.stored("Deployment")
    assert deployment["spec"]["paused"] is True
    assert deployment["spec"]["template"] == asked
    assert deployment["metadata"]["labels"][Mark.GUARDED] == "true"
    if what not in GOES_ON:
        assert bare(street.stored("HTTPRoute"))["spec"] == bare(street.route_before)["spec"]
        assert street.names() == street.names_before


@pytest.mark.parametrize("what", ["policy", "all CRDs"])
def test_a_hold_that_nobody_enforces_says_on_the_deployment_how_it_ends(what: str):
    street = Leaving().open()
    DELETIONS[what](street)
    street.run_for(60)
    store = street.cluster.store
    said = [
        event["message"]
        for event in store.select(store.kinds.named("Event"), manifests.NAMESPACE)
        if event["involvedObject"]["kind"] == "Deployment" and event["reason"] == "Detached"
    ]
    assert len(said) == 1
    assert "canary detach shop/checkout" in said[0]
    assert "mode: Observe" in said[0]


def test_a_policy_that_is_gone_comes_back_to_let_its_deployment_go():
    street = at(Phase.PROGRESSING)
    delete(street, CANARYPOLICIES)
    street.tidied()
    street.detach(Choice.REJECT)
    left_alone(street, manifests.OLD)
