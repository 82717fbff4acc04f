"""The sentinel beside the whole controller on simulated time: who dies, who only seems to, and what it may write.

`Guarded` is a street whose controller beats every 5 s and is watched every 2 s. Killed, the controller does nothing any
more while the cluster goes on.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from sim_street import Street, short_policy, side_ppm

from canary.api.marks import Mark, side_name
from canary.api.reasons import Phase
from canary.errors import ConflictError, UnavailableError
from canary.kube.client import Client, FieldManager, Intent
from canary.kube.lease import HEARTBEAT_LEASE, Heartbeat
from canary.kube.queue import Urgency
from canary.kube.resources import HTTPROUTES, LEASES, NAMESPACES, Key
from canary.kube.transport import Response, Stream, Transport
from canary.lab import manifests
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.apiserver.history import Event
from canary.operator.controller import STUCK_SECONDS
from canary.sentinel import LOOK_SECONDS, NeverOpen, Sentinel

SENTINEL = User("system:serviceaccount:canary-system:canary-sentinel")
BEAT_SECONDS, PROMISE_SECONDS = 5.0, 30.0
SYSTEM = "canary-system"
LONG_BAKE = {"bake": {"duration": "200s"}, "steps": [{"weight": "5%"}, {"weight": "100%"}]}


class Line:
    """The sentinel's way to the API server; `cut` takes it away."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.cut = False
        self.wrote: list[str] = []

    def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: object | None, content_type: str
    ) -> Response:
        if self.cut:
            raise UnavailableError("connection refused")
        if method != "GET":
            self.wrote.append(path)
        return self._inner.request(method, path, query=query, body=body, content_type=content_type)

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        return self._inner.stream(path, query)


class Guarded:
    """A street with a sentinel, brought to its first slice."""

    def __init__(self, env: Mapping[str, str] | None = None, **policy: Any) -> None:
        self.street = Street(policy=short_policy(**policy))
        self.clock = self.street.clock
        self.line = Line(self.street.cluster.transport(SENTINEL))
        self.client = Client(self.line, fence=NeverOpen(), manager=FieldManager.SENTINEL, clock=self.clock)
        self.heartbeat = LEASES.at(SYSTEM, HEARTBEAT_LEASE)
        self.beating = self.watching = True
        self.street.admin.create(NAMESPACES, manifests.namespace(SYSTEM), intent=Intent.NEUTRAL)
        self._beat()
        self.sentinel = Sentinel(self.client, self.heartbeat, self.clock)
        self.weights: list[tuple[float, int]] = []
        self.street.cluster.store.subscribe(self._note)
        self._watch()
        self.street.push(env)

    def _beat(self) -> None:
        if self.beating:
            heartbeat = Heartbeat(self.street.admin, self.heartbeat, "controller", clock=self.clock)
            heartbeat.beat()
        self.clock.call_later(BEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        if self.watching:
            self.sentinel.look()
        self.clock.call_later(LOOK_SECONDS, self._watch)

    def _note(self, event: Event) -> None:
        if event.kind.name == "HTTPRoute":
            self.weights.append((self.clock.monotonic(), side_ppm(event.obj)))

    def sliced(self) -> "Guarded":
        assert self.street.run_until(lambda: self.street.route_ppm() > 0, 120.0), self.street.told()
        return self

    def without_controller(self, seconds: float) -> None:
        """Let time pass in a cluster whose controller is dead."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.street.cluster.controllers.step()
            self.clock.run_for(1.0)

    def die(self, seconds: float) -> float:
        """Kill the controller and let time pass; return after how many seconds the slice was gone."""
        self.beating = False
        began = self.clock.monotonic()
        self.without_controller(seconds)
        return next((at - began for at, ppm in self.weights if at > began and ppm == 0), float("inf"))

    def epoch(self) -> str:
        return self.street.stored("HTTPRoute")["metadata"]["annotations"].get(Mark.EPOCH, "")


def test_the_slice_of_a_dead_controller_is_gone_within_thirty_seconds():
    guarded = Guarded().sliced()
    assert guarded.die(60.0) <= PROMISE_SECONDS
    assert guarded.street.route_ppm() == 0
    assert guarded.epoch().startswith("sentinel-")


def test_a_controller_that_comes_back_goes_on_from_there_within_what_it_was_allowed():
    guarded = Guarded().sliced()
    guarded.die(60.0)
    guarded.beating = True
    guarded.street.restart()
    guarded.street.until(Phase.BAKING)
    assert not guarded.street.breaches, guarded.street.told()


@pytest.mark.parametrize("jump_seconds", [-3600.0, 3600.0])
def test_a_healthy_controller_is_never_disturbed_whatever_its_wall_clock_does(jump_seconds: float):
    guarded = Guarded(**LONG_BAKE).sliced()
    guarded.street.run_for(3.0)
    guarded.clock.jump_wall(jump_seconds)
    guarded.street.run_for(200.0)
    assert guarded.line.wrote == []


def test_an_api_server_that_was_away_is_nobodys_death():
    guarded = Guarded(**LONG_BAKE).sliced()
    guarded.beating = False
    guarded.street.run_for(2 * LOOK_SECONDS)  # the last beat was seen
    guarded.line.cut = True
    guarded.street.run_for(60.0)
    guarded.line.cut = False
    guarded.street.run_for(4.0)  # a new election; the next beat comes within 5 s
    guarded.beating = True
    guarded.street.run_for(60.0)
    assert guarded.line.wrote == []


def test_a_controller_that_died_while_the_api_server_was_away_is_found_out():
    guarded = Guarded().sliced()
    guarded.line.cut = True
    assert guarded.die(60.0) == float("inf")
    guarded.line.cut = False
    assert guarded.die(PROMISE_SECONDS) <= PROMISE_SECONDS


def test_a_sentinel_that_slept_takes_nobody_for_dead():
    guarded = Guarded(**LONG_BAKE).sliced()
    guarded.beating = False
    guarded.street.run_for(2 * LOOK_SECONDS)
    guarded.watching = False
    guarded.street.run_for(100.0)
    guarded.watching = True
    guarded.street.run_for(4.0)
    guarded.beating = True
    guarded.street.run_for(60.0)
    assert guarded.line.wrote == []


def test_a_heartbeat_that_is_deleted_is_a_death():
    guarded = Guarded().sliced()
    lease = guarded.street.admin.get(guarded.heartbeat)
    assert lease is not None
    guarded.beating = False
    guarded.street.admin.delete(guarded.heartbeat, uid=lease["metadata"]["uid"], intent=Intent.NEUTRAL)
    assert guarded.die(60.0) <= PROMISE_SECONDS


def test_a_run_that_nobody_looks_at_loses_its_slice_while_the_controller_beats():
    guarded = Guarded().sliced()
    began = guarded.clock.monotonic()
    guarded.without_controller(150.0)
    zeroed = next(at for at, ppm in guarded.weights if at > began and ppm == 0)
    assert 90.0 <= zeroed - began <= 110.0


def test_a_route_without_traffic_gets_one_epoch_so_that_a_raise_on_its_way_finds_a_new_version():
    guarded = Guarded(steps=[{"weight": "5%", "approval": True}, {"weight": "100%"}])
    assert guarded.street.run_until(
        lambda: Mark.KILL in (guarded.street.stored("HTTPRoute")["metadata"].get("annotations") or {}), 60.0
    )
    guarded.die(90.0)
    assert guarded.epoch().startswith("sentinel-")
    assert len(guarded.line.wrote) == 1


def test_after_the_point_of_no_return_the_brake_is_left_alone():
    guarded = Guarded()
    guarded.street.until(Phase.COMMITTING)
    assert guarded.street.run_until(
        lambda: Mark.KILL not in guarded.street.stored("HTTPRoute")["metadata"]["annotations"], 60.0
    )
    guarded.die(120.0)
    assert guarded.line.wrote == []


def test_a_former_leader_that_wakes_up_and_raises_is_zeroed_again():
    guarded = Guarded().sliced()
    guarded.die(40.0)
    former = Client(guarded.street.cluster.transport(User(CONTROLLER)), clock=guarded.clock)
    weights = [{"name": manifests.NAME, "port": 80}, {"name": side_name(manifests.NAME), "port": 80}]
    rules = {"rules": [{"backendRefs": weights}]}
    former.merge_patch(
        HTTPROUTES.at(manifests.NAMESPACE, manifests.NAME), {"spec": rules}, intent=Intent.RAISING
    )
    assert guarded.street.route_ppm() == 1, "no weight means 1"
    guarded.without_controller(LOOK_SECONDS + 1.0)
    assert guarded.street.route_ppm() == 0


def test_the_sentinel_can_write_nothing_but_what_lowers():
    guarded = Guarded().sliced()
    for write in (_raise, _create):
        with pytest.raises(ConflictError):
            write(guarded.client)
    assert guarded.line.wrote == []


def _raise(client: Client) -> None:
    ref = HTTPROUTES.at(manifests.NAMESPACE, manifests.NAME)
    client.merge_patch(ref, {"metadata": {"labels": {"a": "b"}}}, intent=Intent.RAISING)


def _create(client: Client) -> None:
    client.create(LEASES, LEASES.at(SYSTEM, "mine").manifest(spec={}), intent=Intent.NEUTRAL)


def test_a_sentinel_that_may_not_read_the_heartbeat_takes_the_controller_for_dead():
    guarded = Guarded().sliced()
    refused = Refused(guarded.line)
    client = Client(refused, fence=NeverOpen(), manager=FieldManager.SENTINEL, clock=guarded.clock)
    guarded.sentinel = Sentinel(client, guarded.heartbeat, guarded.clock)
    guarded.street.run_for(40.0)
    assert guarded.line.wrote


class Refused(Line):
    """A server that answers 403 for leases."""

    def request(self, method: str, path: str, **rest: Any) -> Response:
        if "/leases/" in path:
            return Response(403, {"message": "forbidden"})
        return self._inner.request(method, path, **rest)


@pytest.mark.parametrize(("urgency", "ends"), [(Urgency.EXPOSED, True), (Urgency.REST, False)])
def test_the_heartbeat_ends_where_no_worker_takes_a_run_with_traffic(urgency: Urgency, ends: bool):
    street = Street()
    street.controller.queue.add(Key("canaryruns/shop", "checkout-1"), urgency)
    street.clock.run_for(STUCK_SECONDS)
    assert street.controller.behind() == ""
    street.clock.run_for(1.0)
    assert bool(street.controller.behind()) is ends
