"""The election: one leader whatever happens to network, processes, clocks and the Lease itself."""

import time
from datetime import timedelta

import pytest
from fault_server import until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from canary.clock import WallClock
from canary.errors import ConflictError, RefusedError, UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.http_transport import Limits, from_kubeconfig
from canary.kube.lease import ELECTION_LEASE, HEARTBEAT_LEASE, Elector, Heartbeat, Term, new_identity
from canary.kube.resources import CONFIGMAPS, LEASES
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.apiserver.serving import HttpServer
from canary.lab.apiserver.store import Store
from canary.lab.clock import SimClock

TERM = Term()
REF = LEASES.at("default", ELECTION_LEASE)
ADMIN = User("admin")
CUT_SECONDS = TERM.renew_seconds / 3  # the elector's request limit


class Network:
    """One process's way to the API server, with faults to order; on simulated time a hang takes its time at once."""

    def __init__(self, clock, server):
        self.clock = clock
        self.inner = InProcessTransport(server, ADMIN, follow=False)
        self.killed = self.frozen = False
        self.lost_answers = 0
        self.before_write = None
        self.sent = []

    def request(self, method, path, *, query, body, content_type):
        if self.killed:
            raise UnavailableError("connection refused")
        if self.frozen:
            self.clock.sleep(CUT_SECONDS)
            raise UnavailableError("timed out")
        if method != "GET" and self.before_write:
            interruption, self.before_write = self.before_write, None
            interruption()
        self.sent.append((method, path))
        response = self.inner.request(method, path, query=query, body=body, content_type=content_type)
        if self.lost_answers:
            self.lost_answers -= 1
            self.clock.sleep(CUT_SECONDS)
            raise UnavailableError("the answer came too late")
        return response

    def stream(self, path, query):
        return self.inner.stream(path, query)


class ShiftedClock:
    """A machine whose wall clock somebody sets."""

    def __init__(self, clock):
        self.clock = clock
        self.monotonic, self.sleep = clock.monotonic, clock.sleep
        self.shift = 0.0

    def now(self):
        return self.clock.now() + timedelta(seconds=self.shift)


class Controller:
    """One process: an elector, and a client behind its fence."""

    def __init__(self, clock, server, name):
        self.clock = ShiftedClock(clock)
        self.network = Network(clock, server)
        client = Client(self.network, clock=self.clock)
        self.elector = Elector(client, REF, name, clock=self.clock, term=TERM)
        self.client = Client(self.network, fence=self.elector, clock=self.clock)

    def write(self, intent):
        return self.client.merge_patch(CONFIGMAPS.at("default", "weight"), {"data": {}}, intent=intent)


class World:
    def __init__(self, names="ab"):
        self.clock = SimClock()
        self.server = ApiServer(Store(self.clock))
        self.all = [Controller(self.clock, self.server, name) for name in names]
        self.admin = Client(InProcessTransport(self.server, ADMIN), clock=self.clock)

    def run(self, seconds, *controllers):
        """Let the electors try every retry period for so long."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            for controller in controllers:
                controller.elector.try_once()
            self.clock.sleep(TERM.retry_seconds)

    def leaders(self):
        return [controller for controller in self.all if controller.elector.leads()]

    def spec(self):
        return self.admin.get(REF)["spec"]


def test_one_leads_and_the_other_waits():
    world = World()
    world.run(60, *world.all)
    assert world.leaders() == [world.all[0]]
    assert world.spec()["holderIdentity"] == "a"
    assert world.spec()["leaseTransitions"] == 0


def test_a_dead_leader_is_followed_within_twelve_seconds():
    world = World()
    first, second = world.all
    world.run(20, first, second)
    died = world.clock.monotonic()
    while not second.elector.leads():
        world.run(TERM.retry_seconds, second)
        assert world.clock.monotonic() - died <= 13.5
    assert not first.elector.leads()
    assert world.spec()["leaseTransitions"] == 1
    assert world.spec()["acquireTime"] == world.spec()["renewTime"]


def test_a_released_lease_is_taken_at_the_next_try():
    world = World()
    first, second = world.all
    world.run(6, first, second)
    first.elector.release()
    assert (world.spec()["holderIdentity"], world.spec()["leaseDurationSeconds"]) == ("", 1)
    assert not first.elector.leads()
    assert second.elector.try_once()


def test_a_try_that_was_under_way_at_the_stop_does_not_lead():
    (leader,) = World("a").all
    assert leader.elector.try_once()
    leader.elector.stop()
    assert not leader.elector.try_once()


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_without_the_api_server_the_lead_ends_at_the_deadline_and_no_raise_leaves(fault):
    world = World("a")
    (leader,) = world.all
    world.run(5, leader)
    renewed = world.clock.monotonic()
    leader.elector.try_once()
    setattr(leader.network, fault, True)
    while leader.elector.leads():
        world.clock.sleep(0.1)
        leader.elector.try_once()
    assert world.clock.monotonic() - renewed <= TERM.renew_seconds + CUT_SECONDS
    setattr(leader.network, fault, False)
    sent = len(leader.network.sent)
    for intent in (Intent.RAISING, Intent.NEUTRAL):
        with pytest.raises(ConflictError):
            leader.write(intent)
    assert len(leader.network.sent) == sent
    leader.write(Intent.LOWERING)
    assert len(leader.network.sent) == sent + 1
    assert leader.elector.try_once()


def test_the_lead_is_over_while_a_renewal_still_hangs():
    world = World("a")
    (leader,) = world.all
    leader.elector.try_once()
    renewed = world.clock.monotonic()
    leads_after = {}
    for after in (6.9, 7.1):
        world.clock.call_at(
            renewed + after, lambda after=after: leads_after.update({after: leader.elector.leads()})
        )
    leader.network.frozen = True
    world.run(8, leader)
    assert leads_after == {6.9: True, 7.1: False}


def test_a_raise_needs_half_of_the_deadline():
    world = World("a")
    (leader,) = world.all
    leader.elector.try_once()
    world.clock.sleep(TERM.renew_seconds / 2 - 0.1)
    assert leader.elector.may_raise()
    world.clock.sleep(0.2)
    assert leader.elector.leads()
    assert not leader.elector.may_raise()


def test_a_renewal_counts_from_before_it_was_sent():
    world = World("a")
    (leader,) = world.all
    leader.elector.try_once()
    leader.network.before_write = lambda: world.clock.sleep(5)
    leader.elector.try_once()
    world.clock.sleep(2.1)
    assert not leader.elector.leads()


def test_a_process_that_slept_for_ten_minutes_sends_no_raise_and_does_not_lead():
    world = World()
    sleeper, other = world.all
    world.run(10, sleeper, other)
    assert sleeper.elector.leads()
    world.run(600, other)
    sent = len(sleeper.network.sent)
    with pytest.raises(ConflictError):
        sleeper.write(Intent.RAISING)
    assert len(sleeper.network.sent) == sent
    assert not sleeper.elector.try_once()
    assert world.leaders() == [other]


@pytest.mark.parametrize("shift", [3600.0, -3600.0])
@pytest.mark.parametrize("whose", [0, 1])
def test_a_wall_clock_that_is_set_makes_no_second_leader(shift, whose):
    world = World()
    world.run(10, *world.all)
    world.all[whose].clock.shift = shift
    for _ in range(20):
        world.run(TERM.retry_seconds, *world.all)
        assert world.leaders() == [world.all[0]]


@pytest.mark.parametrize("second_is_quicker", [True, False])
def test_a_deleted_lease_is_made_again_by_its_holder_or_else_waited_for(second_is_quicker):
    world = World()
    first, second = world.all
    world.run(6, first, second)
    lease = world.admin.get(REF)
    world.admin.delete(REF, uid=lease["metadata"]["uid"], intent=Intent.NEUTRAL)
    if second_is_quicker:
        assert not second.elector.try_once()
        assert not first.elector.try_once()
    assert first.elector.try_once() != second_is_quicker
    world.run(TERM.lease_seconds + 3, *world.all)
    assert len(world.leaders()) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"holderIdentity": "stranger", "leaseDurationSeconds": 1, "renewTime": "1999-01-01T00:00:00.000000Z"},
        {},
        {"leaseDurationSeconds": 10},
    ],
    ids=["stranger", "empty", "nobody named"],
)
def test_a_lease_of_somebody_else_is_waited_for_and_then_taken(spec):
    world = World("a")
    lease = {"metadata": {"namespace": "default", "name": ELECTION_LEASE}, "spec": spec}
    world.admin.create(LEASES, lease, intent=Intent.NEUTRAL)
    (candidate,) = world.all
    world.run(TERM.lease_seconds - 1, candidate)
    assert not candidate.elector.leads()
    world.run(3, candidate)
    assert candidate.elector.leads()


def test_a_stranger_who_renews_is_never_overtaken():
    world = World("a")
    lease = {
        "metadata": {"namespace": "default", "name": ELECTION_LEASE},
        "spec": {"holderIdentity": "stranger"},
    }
    world.admin.create(LEASES, lease, intent=Intent.NEUTRAL)
    for number in range(10):
        spec = {"renewTime": f"2026-01-01T00:00:{number:02}.000000Z"}
        world.admin.merge_patch(REF, {"spec": spec}, intent=Intent.NEUTRAL)
        world.run(6, *world.all)
        assert world.leaders() == []


def test_a_takeover_whose_answer_was_lost_is_recognised_at_the_next_try():
    world = World("a")
    (candidate,) = world.all
    candidate.elector.try_once()
    candidate.elector.release()
    candidate.network.before_write = lambda: setattr(candidate.network, "lost_answers", 1)
    assert not candidate.elector.try_once()
    assert "too late" in candidate.elector.trouble
    assert candidate.elector.try_once()


class ElectionMachine(RuleBasedStateMachine):
    """Three controllers under arbitrary faults and interleavings: never two leaders at one moment."""

    def __init__(self):
        super().__init__()
        self.world = World("abc")
        for controller in self.world.all:
            controller.elector.try_once()

    who = st.integers(0, 2)

    @rule(who=who)
    def try_once(self, who):
        self.world.all[who].elector.try_once()

    @rule(who=who, other=who, seconds=st.sampled_from([0.0, 3.0, 8.0, 12.0]))
    def try_once_with_another_between_read_and_write(self, who, other, seconds):
        def interruption():
            self.world.clock.sleep(seconds)
            if other != who:
                self.world.all[other].elector.try_once()

        self.world.all[who].network.before_write = interruption
        self.world.all[who].elector.try_once()

    @rule(seconds=st.sampled_from([0.5, 1.5, 3.0, 6.0, 11.0]))
    def pass_time(self, seconds):
        self.world.clock.sleep(seconds)

    @rule(who=who, fault=st.sampled_from(["killed", "frozen"]), on=st.booleans())
    def break_or_mend(self, who, fault, on):
        setattr(self.world.all[who].network, fault, on)

    @rule(who=who)
    def lose_an_answer(self, who):
        self.world.all[who].network.lost_answers = 1

    @rule(who=who, shift=st.sampled_from([-3600.0, 0.0, 3600.0]))
    def set_the_wall_clock(self, who, shift):
        self.world.all[who].clock.shift = shift

    @rule(who=who)
    def release(self, who):
        self.world.all[who].elector.release()

    @rule()
    def delete_the_lease(self):
        lease = self.world.admin.get(REF)
        if lease is not None:
            self.world.admin.delete(REF, uid=lease["metadata"]["uid"], intent=Intent.NEUTRAL)

    @invariant()
    def at_most_one_leads(self):
        assert len(self.world.leaders()) <= 1

    def teardown(self):
        for controller in self.world.all:
            controller.network.killed = controller.network.frozen = False
            controller.network.lost_answers = 0
            controller.network.before_write = None
        self.world.run(3 * TERM.lease_seconds, *self.world.all)
        assert len(self.world.leaders()) == 1


ElectionMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestElection = ElectionMachine.TestCase


def test_terms_that_cannot_be_kept_are_refused():
    for term in (
        {"renew_seconds": 10.0},
        {"retry_seconds": 4.0},
        {"lease_seconds": 5.0},
        {"retry_seconds": 0.0},
    ):
        with pytest.raises(RefusedError):
            Term(**term)


def test_no_two_identities_are_the_same():
    assert new_identity("pod-0") != new_identity("pod-0")


SHORT = Term(lease_seconds=1.5, renew_seconds=0.9, retry_seconds=0.1)


@pytest.fixture
def cluster(tmp_path):
    server = ApiServer(Store(WallClock()))
    http = HttpServer(server, {"secret": ADMIN})
    http.path = str(http.kubeconfig(tmp_path / "kubeconfig", "secret"))
    http.api = server
    yield http
    http.stop()


def elector_over(http, identity):
    limits = Limits(connect_seconds=0.3, read_seconds=0.3)
    client = Client(from_kubeconfig(http.path, None, limits))
    return Elector(client, REF, identity, clock=WallClock(), term=SHORT)


def test_threads_elect_over_https_and_a_stopped_leader_hands_over(cluster):
    first, second = elector_over(cluster, "a"), elector_over(cluster, "b")
    first.start()
    assert until(first.leads)
    second.start()
    time.sleep(0.3)
    assert not second.leads()
    first.stop()
    assert not first.leads()
    assert until(second.leads)
    second.stop()
    assert not second.leads()


def test_a_frozen_api_server_ends_the_lead_by_the_request_limit(cluster):
    elector = elector_over(cluster, "a")
    elector.start()
    assert until(elector.leads)
    with cluster.api.store.lock:  # every request hangs from here on
        assert until(lambda: not elector.leads())
        assert until(lambda: "timed out" in elector.trouble)
    assert until(elector.leads)
    elector.stop()


def test_the_heartbeat_is_made_renewed_and_only_written_by_a_leader():
    world = World()
    leader, other = world.all
    leader.elector.try_once()
    ref = LEASES.at("default", HEARTBEAT_LEASE)
    beats = []
    for _ in range(2):
        Heartbeat(leader.client, ref, "a", clock=world.clock).beat()
        beats.append(world.admin.get(ref)["spec"]["renewTime"])
        world.clock.sleep(2)
    assert beats[0] < beats[1]
    with pytest.raises(ConflictError):
        Heartbeat(other.client, ref, "b", clock=world.clock).beat()
    assert world.admin.get(ref)["spec"]["holderIdentity"] == "a"
