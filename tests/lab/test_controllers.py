"""Deployments, ReplicaSets, pods and EndpointSlices of the lab, on simulated time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from timed_kubelet import TimedKubelet

from canary.lab.apiserver.history import Event, EventType
from canary.lab.apiserver.objects import (
    Object,
    condition,
    is_deleting,
    is_true,
    labels_of,
    name_of,
    owners_of,
    uid_of,
)
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock, Timers
from canary.lab.cluster import Cluster, RealTimeCluster
from canary.lab.controllers.deployments import HASH_LABEL, REVISION
from canary.lab.controllers.pods import PodState, report

READY_SECONDS = 2.0
WEB = ("default", "web")


@dataclass
class Bed:
    """A simulated cluster with one Deployment `web`, its Service and a way to look at both."""

    clock: SimClock
    cluster: Cluster
    most_pods: int = 0
    least_available: int = 1_000
    listening: bool = field(default=False)

    @property
    def store(self) -> Store:
        return self.cluster.store

    def create(self, kind: str, name: str, **parts: object) -> Object:
        return self.store.create(
            self.store.kinds.named(kind), {"metadata": {"name": name, "namespace": "default"}, **parts}
        )

    def deploy(self, **spec: object) -> Object:
        labels = {"app": "web"}
        container = {"name": "shop", "image": "shop:1", "ports": [{"name": "http", "containerPort": 8080}]}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        shape = {"replicas": 4, "selector": {"matchLabels": labels}, "template": template}
        made = self.create("Deployment", "web", spec={**shape, **spec})
        self.clock.run_for(10)
        return made

    def change(self, **spec: object) -> None:
        """Change fields of the Deployment's spec; `image` is the container's."""
        image = spec.pop("image", None)

        def edit(obj: Object) -> Object:
            obj["spec"] |= spec
            if image is not None:
                obj["spec"]["template"]["spec"]["containers"][0]["image"] = image
            return obj

        self.store.update(self.store.kinds.named("Deployment"), WEB, edit)

    @property
    def deployment(self) -> Object:
        return self.store.get(self.store.kinds.named("Deployment"), *WEB)

    @property
    def sets(self) -> list[Object]:
        return self.store.select(self.store.kinds.named("ReplicaSet"))

    @property
    def pods(self) -> list[Object]:
        return [pod for pod in self.store.select(self.store.kinds.named("Pod")) if not is_deleting(pod)]

    def images(self) -> set[str]:
        return {pod["spec"]["containers"][0]["image"] for pod in self.pods}

    def ready_addresses(self, service: str) -> set[str]:
        slices = self.store.select(self.store.kinds.named("EndpointSlice"))
        mine = [entry for entry in slices if labels_of(entry)["kubernetes.io/service-name"] == service]
        endpoints = [endpoint for entry in mine for endpoint in entry["endpoints"]]
        return {entry["addresses"][0] for entry in endpoints if entry["conditions"]["ready"]}

    def watch_bounds(self) -> None:
        """From now on note the most pods and the fewest ready ones that ever stood at once."""

        def note(event: Event) -> None:
            if event.kind.name == "Pod":
                self.most_pods = max(self.most_pods, len(self.pods))
                ready = sum(is_true(pod, "Ready") for pod in self.pods)
                self.least_available = min(self.least_available, ready)

        self.store.subscribe(note)


def ready_after(seconds: float) -> Callable[[Store, Timers], TimedKubelet]:
    return lambda store, timers: TimedKubelet(store, timers, seconds)


@pytest.fixture
def bed() -> Bed:
    clock = SimClock()
    return Bed(clock, Cluster(clock, clock, ready_after(READY_SECONDS)))


def progress(bed: Bed) -> tuple[str, str]:
    found = condition(bed.deployment, "Progressing")
    assert found is not None
    return found["status"], found["reason"]


def test_a_deployment_becomes_a_replica_set_and_ready_pods(bed: Bed) -> None:
    bed.deploy()
    (only,) = bed.sets
    assert labels_of(only)[HASH_LABEL] in name_of(only)
    assert owners_of(only)[0]["uid"] == uid_of(bed.deployment)
    assert len(bed.pods) == 4
    assert all(is_true(pod, "Ready") for pod in bed.pods)
    status = bed.deployment["status"]
    assert {status[key] for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")} == {
        4
    }
    assert status["observedGeneration"] == 1
    assert progress(bed) == ("True", "NewReplicaSetAvailable")
    assert bed.deployment["metadata"]["annotations"][REVISION] == "1"


def test_a_roll_stays_within_surge_and_availability(bed: Bed) -> None:
    bed.deploy(replicas=8)
    bed.watch_bounds()
    bed.change(image="shop:2")
    bed.clock.run_for(60)
    assert bed.images() == {"shop:2"}
    assert len(bed.pods) == 8
    assert bed.most_pods == 10
    assert bed.least_available == 6
    assert [entry["spec"]["replicas"] for entry in sorted(bed.sets, key=revision)] == [0, 8]
    assert bed.deployment["metadata"]["annotations"][REVISION] == "2"


def revision(replica_set: Object) -> int:
    return int(replica_set["metadata"]["annotations"][REVISION])


def test_a_roll_of_pods_that_never_start_keeps_the_old_ones(bed: Bed) -> None:
    bed.deploy()
    bed.cluster.kubelet.start = lambda pod: None  # type: ignore[method-assign]  the image cannot be pulled
    bed.change(image="shop:broken")
    bed.clock.run_for(60)
    assert progress(bed) == ("True", "ReplicaSetUpdated")
    ready = [pod for pod in bed.pods if is_true(pod, "Ready")]
    assert len(ready) == 3
    assert {pod["spec"]["containers"][0]["image"] for pod in ready} == {"shop:1"}


def test_a_change_back_takes_the_former_replica_set_again(bed: Bed) -> None:
    bed.deploy()
    first = name_of(bed.sets[0])
    bed.change(image="shop:2")
    bed.clock.run_for(60)
    bed.change(image="shop:1")
    bed.clock.run_for(60)
    assert len(bed.sets) == 2
    assert next(name_of(entry) for entry in bed.sets if entry["spec"]["replicas"]) == first
    assert bed.deployment["metadata"]["annotations"][REVISION] == "3"


def test_a_paused_deployment_keeps_its_pods_and_makes_no_replica_set(bed: Bed) -> None:
    bed.deploy()
    before = [uid_of(pod) for pod in bed.pods]
    bed.change(paused=True, image="shop:2")
    bed.clock.run_for(3_600)
    assert [uid_of(pod) for pod in bed.pods] == before
    assert len(bed.sets) == 1
    assert "updatedReplicas" not in bed.deployment["status"]
    assert bed.deployment["status"]["observedGeneration"] == 2
    assert progress(bed) == ("Unknown", "DeploymentPaused")


def test_a_held_deployment_scales_and_heals_its_old_template(bed: Bed) -> None:
    bed.deploy(replicas=3)
    bed.change(paused=True, image="shop:2")
    for replicas in (5, 0, 4):
        bed.change(replicas=replicas)
        bed.clock.run_for(10)
        assert len(bed.pods) == replicas
        assert bed.images() <= {"shop:1"}
    lost = bed.pods[0]
    bed.store.delete(bed.store.kinds.named("Pod"), ("default", name_of(lost)))
    bed.clock.run_for(10)
    assert len(bed.pods) == 4
    assert uid_of(lost) not in {uid_of(pod) for pod in bed.pods}
    assert bed.images() == {"shop:1"}
    assert len(bed.sets) == 1


def test_a_resumed_deployment_rolls_to_the_held_template(bed: Bed) -> None:
    bed.deploy()
    bed.change(paused=True, image="shop:2")
    bed.clock.run_for(10)
    bed.change(paused=False)
    bed.clock.run_for(60)
    assert bed.images() == {"shop:2"}
    assert bed.deployment["status"]["updatedReplicas"] == 4


def test_a_pause_in_mid_roll_freezes_both_sides(bed: Bed) -> None:
    bed.deploy(replicas=8)
    bed.change(image="shop:2")
    bed.clock.run_for(READY_SECONDS / 2)
    bed.change(paused=True)
    bed.clock.run_for(60)
    assert bed.images() == {"shop:1", "shop:2"}
    before = sorted(uid_of(pod) for pod in bed.pods)
    bed.clock.run_for(60)
    assert sorted(uid_of(pod) for pod in bed.pods) == before


def test_a_service_has_the_addresses_of_its_ready_pods(bed: Bed) -> None:
    bed.deploy(replicas=2)
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    bed.create("Service", "web", spec={"selector": {"app": "web"}, "ports": ports})
    bed.clock.run_for(1)
    assert bed.ready_addresses("web") == {pod["status"]["podIP"] for pod in bed.pods}
    (only,) = bed.store.select(bed.store.kinds.named("EndpointSlice"))
    assert only["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    sick = bed.pods[0]
    report(bed.store, sick, PodState(ready=False, ip=sick["status"]["podIP"], restarts=3))
    bed.clock.run_for(1)
    assert bed.ready_addresses("web") == {bed.pods[1]["status"]["podIP"]}
    bed.store.delete(bed.store.kinds.named("Service"), ("default", "web"))
    bed.clock.run_for(1)
    assert bed.store.select(bed.store.kinds.named("EndpointSlice")) == []


def test_a_deleted_pod_leaves_the_endpoints_first_and_is_stopped_later(bed: Bed) -> None:
    bed.deploy(replicas=1)
    bed.create(
        "Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    )
    bed.clock.run_for(1)
    stopped: list[float] = []
    bed.cluster.kubelet.stop = lambda pod: stopped.append(bed.clock.monotonic())  # type: ignore[method-assign]
    (pod,) = bed.pods
    bed.store.delete(bed.store.kinds.named("Pod"), ("default", name_of(pod)))
    deleted_at = bed.clock.monotonic()
    bed.clock.run_for(0.1)
    assert pod["status"]["podIP"] not in bed.ready_addresses("web")
    assert stopped == []
    bed.clock.run_for(5)
    assert stopped == [deleted_at + 0.5]


def test_a_deleted_deployment_takes_everything_below_it_along(bed: Bed) -> None:
    bed.deploy()
    bed.store.delete(bed.store.kinds.named("Deployment"), WEB)
    bed.clock.run_for(5)
    assert bed.sets == []
    assert bed.store.select(bed.store.kinds.named("Pod")) == []


def test_a_recreated_deployment_does_not_adopt_the_pods_of_its_namesake(bed: Bed) -> None:
    bed.deploy()
    before = {uid_of(pod) for pod in bed.pods}
    bed.store.delete(bed.store.kinds.named("Deployment"), WEB)
    bed.deploy()
    assert len(bed.pods) == 4
    assert not before & {uid_of(pod) for pod in bed.pods}


def test_the_same_seed_makes_the_same_history() -> None:
    def history() -> list[tuple[int, EventType, str]]:
        clock = SimClock()
        bed = Bed(clock, Cluster(clock, clock, ready_after(READY_SECONDS), seed=5))
        bed.deploy()
        bed.change(image="shop:2")
        clock.run_for(60)
        return [(event.version, event.type, uid_of(event.obj)) for event in bed.store.history.after(0)]

    assert history() == history()


def test_in_real_time_the_controllers_follow_by_themselves() -> None:
    cluster = RealTimeCluster(TimedKubelet)
    try:
        bed = Bed(SimClock(), cluster)
        version = cluster.store.version
        bed.deploy(replicas=2)
        for _ in range(200):
            if bed.deployment.get("status", {}).get("availableReplicas") == 2:
                break
            version = cluster.store.version
            cluster.store.history.wait(version, 0.1, lambda: False)
        assert bed.deployment["status"]["availableReplicas"] == 2
    finally:
        cluster.stop()
