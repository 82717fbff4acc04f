"""A bad network between the product and the real API server: cut, frozen, slow, corrupted.

The rows of the fault matrix that matter most, on the real server behind a wire that obeys the test; `tests/kube` has
all rows, against a server of our own.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from bad_wire import BadWire, bad_wire, cut_every
from cluster_bed import Bed
from shop_on_bed import COLLAPSE, shop_open

from canary.api.reasons import Phase
from canary.clock import WallClock
from canary.errors import ConflictError, UnavailableError
from canary.kube.cache import Change, What
from canary.kube.client import Client, Intent
from canary.kube.http_transport import Limits, from_kubeconfig
from canary.kube.lease import ELECTION_LEASE, Elector, Term
from canary.kube.resources import CONFIGMAPS, LEASES, Key, Selection
from canary.kube.watch import Options, Pace, Reflector
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
READ_SECONDS = 2.0
LATE_SECONDS = 3.0
PACE = Pace(watch_seconds=20, healthy_seconds=0.5, first_wait_seconds=0.05, longest_wait_seconds=1.0)
TERM = Term(lease_seconds=8.0, renew_seconds=5.0, retry_seconds=0.4)
POLICY = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "drain": "5s",
    "analysis": {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"},
}
RATE = 40.0  # orders a second


@pytest.fixture
def wire() -> Generator[BadWire]:
    with bad_wire() as made:
        yield made


@contextmanager
def client_through(wire: BadWire, bed: Bed, folder: Path, fence: Elector | None = None) -> Generator[Client]:
    limits = Limits(connect_seconds=READ_SECONDS, read_seconds=READ_SECONDS)
    transport = from_kubeconfig(str(wire.kubeconfig(bed, "admin", folder)), None, limits)
    try:
        yield Client(transport, fence=fence)
    finally:
        transport.close()


@contextmanager
def elector_of(client: Client, namespace: str, identity: str) -> Generator[Elector]:
    elector = Elector(client, LEASES.at(namespace, ELECTION_LEASE), identity, clock=WallClock(), term=TERM)
    elector.start()
    try:
        yield elector
    finally:
        elector.stop()


def test_a_watch_that_is_cut_again_and_again_misses_nothing_and_tells_nothing_twice(
    bed: Bed, namespace: str, wire: BadWire, tmp_path: Path
) -> None:
    told: list[Change] = []
    with client_through(wire, bed, tmp_path) as client:
        options = Options(pace=PACE, random=Random(7))
        selection = Selection(CONFIGMAPS, namespace)
        reflector = Reflector(client, selection, told.append, clock=WallClock(), options=options)
        reflector.start()
        try:
            bed.until(lambda: reflector.synced, "the reflector has listed")
            with cut_every(wire, 0.3) as cuts:
                change_much(bed, namespace)
            bed.until(lambda: versions(reflector.list(namespace)) == stored(bed, namespace), "it caught up")
        finally:
            reflector.stop()
    assert sum(cuts) >= 3, "the watch was never cut"
    added = [change.uid for change in told if change.what is What.ADDED]
    assert len(added) == len(set(added)), "an object was told as new twice"
    deleted = {change.uid for change in told if change.what is What.DELETED}
    assert set(added) - deleted == set(stored(bed, namespace))


def change_much(bed: Bed, namespace: str) -> None:
    for number in range(30):
        bed.make(CONFIGMAPS, f"thing-{number}", namespace)
        if number % 3 == 0:
            thing = bed.admin.get(CONFIGMAPS.at(namespace, f"thing-{number // 2}")) or {}
            ref = CONFIGMAPS.at(namespace, f"thing-{number // 2}")
            bed.admin.delete(ref, uid=thing["metadata"]["uid"], intent=Intent.NEUTRAL)
            bed.make(CONFIGMAPS, f"thing-{number // 2}", namespace)
        time.sleep(0.1)


def versions(objects: object) -> dict[str, str]:
    return {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in objects}  # type: ignore[attr-defined]


def stored(bed: Bed, namespace: str) -> dict[str, str]:
    return versions(bed.admin.list(CONFIGMAPS, namespace))


def test_a_write_that_landed_after_our_time_limit_is_seen_by_the_next_look_and_not_done_twice(
    bed: Bed, namespace: str, wire: BadWire, tmp_path: Path
) -> None:
    bed.make(CONFIGMAPS, "weight", namespace)
    ref, patch = CONFIGMAPS.at(namespace, "weight"), {"data": {"ppm": "50000"}}
    with client_through(wire, bed, tmp_path) as client:
        assert client.get(ref) is not None  # the connection stands
        wire.answer_delay_seconds = LATE_SECONDS
        with pytest.raises(UnavailableError):
            client.merge_patch(ref, patch, intent=Intent.NEUTRAL)
        wire.answer_delay_seconds = 0.0
        landed = client.get(ref) or {}
        again = client.merge_patch(ref, patch, intent=Intent.NEUTRAL) or {}
    assert landed["data"] == {"ppm": "50000"}
    assert again["metadata"]["resourceVersion"] == landed["metadata"]["resourceVersion"]


def test_a_byte_that_is_turned_round_on_the_way_never_becomes_an_object(
    bed: Bed, namespace: str, wire: BadWire, tmp_path: Path
) -> None:
    bed.make(CONFIGMAPS, "whole", namespace)
    ref = CONFIGMAPS.at(namespace, "whole")
    with client_through(wire, bed, tmp_path) as client:
        whole = client.get(ref)
        for _ in range(5):
            wire.corrupt = 1
            with pytest.raises(UnavailableError):
                client.get(ref)
            wire.corrupt = 0
            assert client.get(ref) == whole


def test_a_leader_behind_a_frozen_wire_stops_leading_and_raises_nothing_and_the_other_one_follows(
    bed: Bed, namespace: str, wire: BadWire, tmp_path: Path
) -> None:
    bed.make(CONFIGMAPS, "weight", namespace)
    ref, patch = CONFIGMAPS.at(namespace, "weight"), {"data": {"ppm": "50000"}}
    with (
        client_through(wire, bed, tmp_path) as way,
        elector_of(way, namespace, "first") as first,
        client_through(wire, bed, tmp_path, fence=first) as hands,
    ):
        bed.until(first.leads, "the first one leads")
        assert hands.get(ref) is not None
        with elector_of(bed.client("admin"), namespace, "second") as second:
            with watched(lambda: first.leads() and second.leads()) as both:
                frozen_at = time.monotonic()
                wire.frozen = True
                bed.until(lambda: not first.leads(), "the first one gives up")
                gave_up = time.monotonic() - frozen_at
                with pytest.raises(ConflictError):
                    hands.merge_patch(ref, patch, intent=Intent.RAISING)
                bed.until(second.leads, "the second one leads")
                wire.frozen = False
                bed.until(lambda: not first.trouble or "held by" in first.trouble, "the first one is back")
                with pytest.raises(ConflictError):
                    hands.merge_patch(ref, patch, intent=Intent.RAISING)
                hands.merge_patch(ref, {"data": {"ppm": "0"}}, intent=Intent.LOWERING)
            assert not both, "two led at the same time"
            assert gave_up <= TERM.renew_seconds + 1.0
    assert (bed.admin.get(ref) or {})["data"] == {"ppm": "0"}


@contextmanager
def watched(bad: Callable[[], bool]) -> Generator[list[float]]:
    """Ask all the time whether something bad holds; what is yielded lists when it did."""
    over, found = threading.Event(), list[float]()

    def run() -> None:
        while not over.wait(0.01):
            if bad():
                found.append(time.monotonic())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join(5.0)


def test_a_lease_that_is_deleted_or_a_strangers_is_made_again_or_waited_for(bed: Bed, namespace: str) -> None:
    ref = LEASES.at(namespace, ELECTION_LEASE)
    with elector_of(bed.client("admin"), namespace, "ours") as elector:
        bed.until(elector.leads, "it leads")
        lease = bed.admin.get(ref) or {}
        bed.admin.delete(ref, uid=lease["metadata"]["uid"], intent=Intent.NEUTRAL)
        bed.until(lambda: holder(bed, namespace) == "ours", "it makes the Lease again")
        stranger = {"spec": {"holderIdentity": "stranger", "leaseDurationSeconds": round(TERM.lease_seconds)}}
        bed.admin.merge_patch(ref, stranger, intent=Intent.NEUTRAL)
        taken = time.monotonic()
        bed.until(lambda: not elector.leads(), "it does not lead beside a stranger")
        bed.until(elector.leads, "a stranger that never renews is followed")
        assert time.monotonic() - taken >= TERM.lease_seconds - 0.5
    assert holder(bed, namespace) == ""


def holder(bed: Bed, namespace: str) -> str:
    lease = bed.admin.get(LEASES.at(namespace, ELECTION_LEASE)) or {}
    return (lease.get("spec") or {}).get("holderIdentity") or ""


def test_an_object_that_is_made_anew_while_the_watch_is_cut_is_deleted_and_added(
    bed: Bed, namespace: str, wire: BadWire, tmp_path: Path
) -> None:
    told: list[Change] = []
    old = bed.make(CONFIGMAPS, "phoenix", namespace)
    with client_through(wire, bed, tmp_path) as client:
        options = Options(pace=PACE, random=Random(7))
        reflector = Reflector(
            client, Selection(CONFIGMAPS, namespace), told.append, clock=WallClock(), options=options
        )
        reflector.start()
        try:
            bed.until(lambda: reflector.get(Key(namespace, "phoenix")) is not None, "it was listed")
            wire.frozen = True
            wire.cut()
            ref = CONFIGMAPS.at(namespace, "phoenix")
            bed.admin.delete(ref, uid=old["metadata"]["uid"], intent=Intent.NEUTRAL)
            new = bed.make(CONFIGMAPS, "phoenix", namespace)
            wire.frozen = False
            bed.until(
                lambda: uid(reflector.get(Key(namespace, "phoenix"))) == new["metadata"]["uid"], "it is known"
            )
        finally:
            reflector.stop()
    about = [change.what for change in told if change.key.name == "phoenix"]
    assert about == [What.ADDED, What.DELETED, What.ADDED]


def uid(obj: object) -> str:
    return obj["metadata"]["uid"] if obj is not None else ""  # type: ignore[index]


def test_a_collapse_is_taken_back_over_a_network_that_is_cut_every_second(
    bed: Bed, wire: BadWire, tmp_path: Path
) -> None:
    with shop_open(bed, "cut", RATE) as shop:
        shop.start_controller("--kubeconfig", str(wire.kubeconfig(bed, "controller", tmp_path)))
        shop.protect(**POLICY)
        with cut_every(wire, 1.0) as cuts:
            shop.push(COLLAPSE)
            shop.reach_slice()
            shop.reach(Phase.ROLLED_BACK)
        sales = shop.close_shop()
        shop.stop_controller()
    assert sum(cuts) > 5, "nothing was cut"
    assert [ppm for _, ppm in shop.chronicle.weights()] == [0, 50_000, 0]
    assert 0 < sales["total"]["wanted"] - sales["total"]["placed"] < 60  # 2 a second at this slice
    assert sales["total"]["broken"] == 0
