"""The hands at Deployments, at the embedded cluster with its controllers on simulated time."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from timed_kubelet import TimedKubelet

from canary.api.marks import ROLE_LAST_GOOD, Mark
from canary.core.evidence import Missing
from canary.errors import ConflictError, RefusedError
from canary.kube.client import Client, Intent
from canary.kube.digest import template_hash
from canary.kube.pods import Arms, Pods, list_pods
from canary.kube.resources import (
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    NAMESPACES,
    PDBS,
    PODS,
    REPLICASETS,
    SERVICES,
)
from canary.kube.selectors import text_of
from canary.kube.side import Order
from canary.kube.workload import (
    Observed,
    adopt,
    annotations_of,
    create_side,
    delete_side,
    keep_last_good,
    observe,
    observe_side,
    pause,
    read_last_good,
    read_owner,
    release,
    revision_of,
    scale_side,
    unpause,
)
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.clock import SimClock
from canary.lab.cluster import Cluster, simulated_cluster

OLD, NEW = "registry.invalid/shop:1", "registry.invalid/shop:2"


class World:
    """A namespace with one Deployment of three pods behind a Service."""

    def __init__(self, cluster: Cluster, clock: SimClock) -> None:
        self.clock = clock
        self.client = Client(cluster.transport(User(CONTROLLER)), clock=clock)
        self.person = Client(cluster.transport(User("alice", ("devs",))), clock=clock)
        self.make(NAMESPACES, {"name": "shop"})
        ports = [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}]
        template = {
            "metadata": {"labels": {"app": "checkout"}},
            "spec": {"containers": [{"name": "shop", "image": OLD, "ports": ports}]},
        }
        selector = {"matchLabels": {"app": "checkout"}}
        self.make(
            DEPLOYMENTS, {"name": "checkout"}, {"replicas": 3, "selector": selector, "template": template}
        )
        self.make(SERVICES, {"name": "checkout"}, {"selector": {"app": "checkout"}, "ports": [{"port": 80}]})
        self.settle()

    def make(self, resource: Any, metadata: dict[str, Any], spec: dict[str, Any] | None = None) -> None:
        named = {**metadata, "namespace": "shop"} if resource.namespaced else metadata
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": named}
        self.person.create(resource, obj if spec is None else {**obj, "spec": spec}, intent=Intent.NEUTRAL)

    def settle(self, seconds: float = 5.0) -> None:
        self.clock.run_for(seconds)

    def edit(self, name: str, spec: dict[str, Any]) -> None:
        self.person.merge_patch(DEPLOYMENTS.at("shop", name), {"spec": spec}, intent=Intent.NEUTRAL)

    def change_image(self, image: str = NEW) -> None:
        containers = self.deployment()["spec"]["template"]["spec"]["containers"]
        self.edit("checkout", {"template": {"spec": {"containers": [{**containers[0], "image": image}]}}})

    def deployment(self, name: str = "checkout") -> dict[str, Any]:
        found = self.client.get(DEPLOYMENTS.at("shop", name))
        assert found is not None
        return found

    def images(self, selector: str = "app=checkout") -> list[str]:
        pods = self.client.list(PODS, "shop", selector=selector)
        return sorted(pod["spec"]["containers"][0]["image"] for pod in pods)

    def seen(self) -> Observed:
        seen = observe(self.client, "shop", "checkout")
        assert isinstance(seen, Observed)
        return seen

    def pods(self) -> Pods:
        arms = Arms(
            "shop",
            text_of(self.deployment()["spec"]["selector"]),
            "checkout",
            "checkout-canary",
            "checkout-canary",
            "metrics",
        )
        found = list_pods(self.client, arms)
        assert isinstance(found, Pods)
        return found

    def order(self, **fields: Any) -> Order:
        deployment = self.deployment()
        owner = read_owner(self.client, deployment, "checkout")
        wanted = {"template": deployment["spec"]["template"], "replicas": 2, "run": "checkout-r1"}
        return Order(owner, **{**wanted, **fields})


@pytest.fixture
def world() -> Iterator[World]:
    clock = SimClock()
    cluster = simulated_cluster(clock, TimedKubelet)
    yield World(cluster, clock)
    cluster.stop()


def test_an_idle_deployment_serves_what_it_asks_for(world: World):
    workload = world.seen().workload
    assert (
        workload.stable_hash
        == workload.template_hash
        == template_hash(world.deployment()["spec"]["template"])
    )
    assert (workload.replicas, workload.stable_ready, workload.current_ready, workload.other_pods) == (
        3,
        3,
        3,
        0,
    )
    assert workload.settled
    assert not workload.paused


def test_a_deployment_that_is_not_there_is_missing(world: World):
    assert isinstance(observe(world.client, "shop", "cart"), Missing)


def test_a_held_change_waits_while_the_old_template_serves(world: World):
    before = world.seen().workload
    adopt(world.client, "shop", "checkout")
    world.change_image()
    assert not world.seen().workload.settled  # the Deployment's controller has not looked yet
    world.settle()
    held = world.seen().workload
    assert (held.paused, held.settled) == (True, True)
    assert held.stable_hash == before.stable_hash != held.template_hash
    assert (held.stable_ready, held.current_ready, held.other_pods) == (3, 0, 3)
    assert world.images() == [OLD] * 3
    assert world.deployment()["metadata"]["labels"][Mark.GUARDED] == "true"


def test_a_deployment_scaled_to_zero_still_has_a_stable_version(world: World):
    stable = world.seen().workload.stable_hash
    world.edit("checkout", {"replicas": 0})
    world.settle()
    idle = world.seen().workload
    assert (idle.stable_hash, idle.stable_ready, idle.other_pods) == (stable, 0, 0)


def test_scaled_to_zero_after_a_roll_the_newest_version_is_the_stable_one(world: World):
    world.change_image()
    world.settle()
    world.edit("checkout", {"replicas": 0})
    world.settle()
    idle = world.seen().workload
    assert idle.stable_hash == idle.template_hash


def test_a_replica_set_of_somebody_else_is_not_counted(world: World):
    service = world.client.get(SERVICES.at("shop", "checkout"))
    assert service is not None
    uid = service["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Service", "name": "checkout", "uid": uid, "controller": True}
    labels = {"app": "checkout", "mine": "yes"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "shop", "image": NEW}]}}
    metadata = {"name": "other", "labels": labels, "ownerReferences": [owner]}
    world.make(
        REPLICASETS, metadata, {"replicas": 5, "selector": {"matchLabels": labels}, "template": template}
    )
    world.settle()
    seen = world.seen()
    assert len(seen.replica_sets) == 1
    assert (seen.workload.stable_ready, seen.workload.other_pods) == (3, 0)


def test_a_pod_s_clock_starts_with_the_container_that_has_the_port(world: World):
    (pod, *_) = world.client.list(PODS, "shop", selector="app=checkout")
    running = {"state": {"running": {"startedAt": "2026-03-05T09:10:00Z"}}}
    statuses = [{"name": "helper", "state": {}}, {"name": "shop", **running}]
    world.person.merge_patch(
        PODS.at("shop", pod["metadata"]["name"]),
        {"status": {"containerStatuses": statuses}},
        subresource="status",
        intent=Intent.NEUTRAL,
    )
    (found,) = [each for each in world.pods().stable if each.uid == pod["metadata"]["uid"]]
    started = datetime(2026, 3, 5, 9, 10, tzinfo=UTC).timestamp()
    assert found.started == started


def test_only_the_tested_template_may_roll(world: World):
    adopt(world.client, "shop", "checkout")
    world.change_image()
    world.settle()
    tested = world.seen().workload.template_hash
    world.change_image("registry.invalid/shop:3")
    with pytest.raises(ConflictError, match="tested"):
        unpause(world.client, "shop", "checkout", tested)
    assert world.seen().workload.paused
    unpause(world.client, "shop", "checkout", world.seen().workload.template_hash)
    world.settle()
    rolled = world.seen().workload
    assert (rolled.current_ready, rolled.other_pods, rolled.paused) == (3, 0, False)
    assert rolled.stable_hash == rolled.template_hash
    pause(world.client, "shop", "checkout")
    assert world.seen().workload.paused


def test_our_hold_leaves_the_spec_as_it_was(world: World):
    spec = world.deployment()["spec"]
    adopt(world.client, "shop", "checkout")
    keep_last_good(world.client, world.seen())
    release(world.client, "shop", "checkout", world.seen().workload.template_hash)
    assert not world.client.list(CONTROLLERREVISIONS, "shop")
    assert world.deployment()["spec"] == spec
    assert Mark.GUARDED not in (world.deployment()["metadata"].get("labels") or {})


def test_a_deployment_that_asks_for_another_template_by_now_is_not_released(world: World):
    adopt(world.client, "shop", "checkout")
    decided = world.seen().workload.template_hash
    world.change_image()
    world.settle()
    with pytest.raises(ConflictError, match="another template"):
        release(world.client, "shop", "checkout", decided)
    assert world.seen().workload.paused
    assert world.images() == [OLD] * 3


def test_a_side_runs_the_held_template_beside_the_old_pods(world: World):
    adopt(world.client, "shop", "checkout")
    world.change_image()
    world.settle()
    assert not observe_side(world.client, "shop", "checkout-canary", ()).exists
    create_side(world.client, world.order())
    world.settle()
    pods = world.pods()
    assert (len(pods.stable), len(pods.side)) == (3, 2)
    assert {pod.port for pod in (*pods.stable, *pods.side)} == {9090}
    assert not {pod.uid for pod in pods.stable} & {pod.uid for pod in pods.side}
    assert not {pod.ip for pod in pods.stable} & {pod.ip for pod in pods.side}
    assert world.images() == [OLD] * 3
    assert world.images(f"{Mark.ROLE}=canary") == [NEW] * 2
    side = observe_side(world.client, "shop", "checkout-canary", pods.side)
    assert (side.exists, side.replicas, side.ready) == (True, 2, 2)
    assert side.template_hash == world.seen().workload.template_hash
    assert world.seen().workload.stable_ready == 3


def test_creating_a_side_again_changes_nothing_and_fills_what_is_missing(world: World):
    create_side(world.client, world.order())
    first = world.deployment("checkout-canary")
    budget = world.client.get(PDBS.at("shop", "checkout-canary"))
    assert budget is not None
    world.client.delete(
        PDBS.at("shop", "checkout-canary"), uid=budget["metadata"]["uid"], intent=Intent.NEUTRAL
    )
    create_side(world.client, world.order())
    assert world.deployment("checkout-canary")["metadata"]["uid"] == first["metadata"]["uid"]
    assert world.client.get(PDBS.at("shop", "checkout-canary")) is not None


def test_a_left_over_side_of_another_version_is_replaced(world: World):
    create_side(world.client, world.order())
    adopt(world.client, "shop", "checkout")
    world.change_image()
    world.settle()
    with pytest.raises(ConflictError, match="left over"):
        create_side(world.client, world.order())
    world.settle()
    create_side(world.client, world.order())
    world.settle()
    assert world.images(f"{Mark.ROLE}=canary") == [NEW] * 2


def test_a_foreign_object_of_the_side_s_name_is_refused_and_left_alone(world: World):
    world.make(SERVICES, {"name": "checkout-canary"}, {"selector": {"app": "other"}, "ports": [{"port": 80}]})
    with pytest.raises(RefusedError, match="rename or delete"):
        create_side(world.client, world.order())
    delete_side(world.client, "shop", "checkout-canary", "checkout-canary")
    assert world.client.get(SERVICES.at("shop", "checkout-canary")) is not None
    assert world.client.get(DEPLOYMENTS.at("shop", "checkout-canary")) is None


def test_a_foreign_deployment_is_neither_observed_nor_scaled_as_a_side(world: World):
    spec = world.deployment()["spec"]
    selector = {"matchLabels": {"app": "z"}}
    template = {**spec["template"], "metadata": {"labels": {"app": "z"}}}
    world.make(
        DEPLOYMENTS, {"name": "checkout-canary"}, {"replicas": 1, "selector": selector, "template": template}
    )
    assert not observe_side(world.client, "shop", "checkout-canary", ()).exists
    with pytest.raises(RefusedError):
        scale_side(world.client, "shop", "checkout-canary", 5)
    assert world.deployment("checkout-canary")["spec"]["replicas"] == 1


def test_a_side_is_scaled_and_deleted_with_all_that_is_its(world: World):
    create_side(world.client, world.order())
    scale_side(world.client, "shop", "checkout-canary", 3)
    world.settle()
    assert len(world.pods().side) == 3
    delete_side(world.client, "shop", "checkout-canary", "checkout-canary")
    world.settle()
    for resource in (DEPLOYMENTS, SERVICES, PDBS):
        assert world.client.get(resource.at("shop", "checkout-canary")) is None
    assert world.images(f"{Mark.ROLE}=canary") == []
    assert len(world.images()) == 3
    delete_side(world.client, "shop", "checkout-canary", "checkout-canary")
    with pytest.raises(ConflictError):
        scale_side(world.client, "shop", "checkout-canary", 1)


def test_a_side_edited_by_hand_no_longer_counts_as_the_tested_one(world: World):
    create_side(world.client, world.order())
    tested = world.seen().workload.template_hash
    assert observe_side(world.client, "shop", "checkout-canary", ()).template_hash == tested
    template = world.deployment("checkout-canary")["spec"]["template"]
    containers = [{**template["spec"]["containers"][0], "image": "registry.invalid/shop:evil"}]
    world.edit("checkout-canary", {"template": {"spec": {"containers": containers}}})
    edited = observe_side(world.client, "shop", "checkout-canary", ())
    assert edited.exists
    assert edited.template_hash != tested


def test_the_last_good_template_is_kept_and_can_stand_again(world: World):
    good = world.seen()
    name = keep_last_good(world.client, good)
    assert keep_last_good(world.client, good) == name
    world.change_image()
    world.settle()
    kept = read_last_good(world.client, "shop", "checkout", good.workload.stable_hash)
    assert kept is not None
    assert kept["spec"]["selector"] == good.deployment["spec"]["selector"]
    template = kept["spec"]["template"]
    assert template_hash(template) == good.workload.stable_hash
    create_side(world.client, world.order(template=template, role=ROLE_LAST_GOOD))
    create_side(world.client, world.order())
    world.settle()
    assert world.images(f"{Mark.ROLE}=lastgood") == [OLD] * 2
    assert world.images(f"{Mark.ROLE}=canary") == [NEW] * 2
    assert len(world.pods().side) == 2


def test_a_last_good_record_that_was_tampered_with_is_not_used(world: World):
    good = world.seen()
    ref = CONTROLLERREVISIONS.at("shop", keep_last_good(world.client, good))
    record = world.client.get(ref)
    assert record is not None
    world.person.delete(ref, uid=record["metadata"]["uid"], intent=Intent.NEUTRAL)
    other = {"template": {"spec": {"containers": [{"name": "shop", "image": "registry.invalid/shop:evil"}]}}}
    forged = {**record, "metadata": {"name": ref.name, "namespace": "shop"}, "data": other}
    world.person.create(CONTROLLERREVISIONS, forged, intent=Intent.NEUTRAL)
    assert read_last_good(world.client, "shop", "checkout", good.workload.stable_hash) is None
    assert read_last_good(world.client, "shop", "checkout", "sha256:" + "0" * 64) is None


def test_a_pod_that_does_not_serve_is_in_no_arm(world: World):
    world.edit("checkout", {"replicas": 0})
    world.settle()
    assert world.pods().stable == ()


def test_a_pod_without_the_metrics_port_makes_the_look_missing_and_a_number_needs_no_name(world: World):
    deployment = world.deployment()
    absent = list_pods(
        world.client,
        Arms(
            "shop",
            text_of(deployment["spec"]["selector"]),
            "checkout",
            "checkout-canary",
            "checkout-canary",
            "admin",
        ),
    )
    assert isinstance(absent, Missing)
    assert "admin" in absent.detail
    found = list_pods(
        world.client,
        Arms(
            "shop",
            text_of(deployment["spec"]["selector"]),
            "checkout",
            "checkout-canary",
            "checkout-canary",
            "7070",
        ),
    )
    assert isinstance(found, Pods)
    assert {pod.port for pod in found.stable} == {7070}


def test_pods_that_nobody_scrapes_need_no_port(world: World):
    """A Prometheus reads them: the policy names no port, and the pods need none."""
    selector = text_of(world.deployment()["spec"]["selector"])
    found = list_pods(
        world.client, Arms("shop", selector, "checkout", "checkout-canary", "checkout-canary", "")
    )
    assert isinstance(found, Pods)
    assert {pod.port for pod in found.stable} == {0}


def test_a_version_is_called_by_its_label_or_its_image_s_tag(world: World):
    template = world.deployment()["spec"]["template"]
    assert revision_of(template).version == "1"
    labelled = {**template, "metadata": {"labels": {"app": "checkout", "app.kubernetes.io/version": "v2.30"}}}
    assert revision_of(labelled).version == "v2.30"
    digest = {"containers": [{"name": "shop", "image": "host:5000/shop@sha256:0000"}]}
    assert revision_of({**template, "spec": digest}).version == ""
    assert revision_of(template).images == [OLD]


def test_a_template_does_not_say_who_wrote_it():
    of_template = {
        "annotations": {"canary-controller.io/changed-by": "sam", "canary-controller.io/what": "a fix"}
    }
    deployment = {"metadata": {}, "spec": {"template": {"metadata": of_template}}}
    assert annotations_of(deployment) == {"canary-controller.io/what": "a fix"}
    stamped = {"annotations": {"canary-controller.io/changed-by": "dana"}}
    said = annotations_of({**deployment, "metadata": stamped})
    assert said == {"canary-controller.io/what": "a fix", "canary-controller.io/changed-by": "dana"}
