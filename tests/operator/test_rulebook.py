"""The facts of the rulebook: who takes a place, also before the cache knows, and what a run of the past still means."""

from copy import deepcopy
from typing import Any

from run_story import a_run, exposed, rolled_back
from timed_kubelet import TimedKubelet

from canary.api.crd import crds
from canary.api.reasons import Origin, Phase
from canary.core.decision import Limits, Run
from canary.core.evidence import Neighbour
from canary.kube.cache import ObjectStore
from canary.kube.client import Client, Listing
from canary.kube.resources import CANARYRUNS, SAFETYPOLICIES
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.clock import SimClock
from canary.lab.cluster import simulated_cluster
from canary.lab.rehearsal.scenario import Alone, OneSource
from canary.lab.shop.simulated import SimShop
from canary.lab.shop.worlds import World
from canary.operator.hands import Hands
from canary.operator.objects import run_of
from canary.operator.rulebook import Caches, Rulebook
from canary.traffic.httproute import HTTPRouteRouter, RouteBrake


class Desk:
    """A rulebook over caches that the test fills, on simulated time."""

    def __init__(self) -> None:
        self.clock = SimClock()
        cluster = simulated_cluster(self.clock, TimedKubelet)
        cluster.install(crds())
        client = Client(cluster.transport(User(CONTROLLER), follow=False), clock=self.clock)
        shop = SimShop(cluster.store, self.clock, World())
        hands = Hands(
            client, HTTPRouteRouter(client), RouteBrake(client), OneSource(shop), Alone(), self.clock
        )
        self.runs = ObjectStore(CANARYRUNS)
        self.book = Rulebook(hands, Caches(ObjectStore(SAFETYPOLICIES), self.runs))  # type: ignore[arg-type]

    def stored(self, *runs: dict[str, Any]) -> None:
        """Let the cache hold these runs, and a second pass."""
        version = f"{self.clock.monotonic():.0f}"
        items = [
            {**deepcopy(run), "metadata": {**run["metadata"], "resourceVersion": version}} for run in runs
        ]
        self.runs.replace(Listing(items, version))
        self.clock.run_for(1.0)

    def of(self, workload: str, own: str = "") -> Neighbour:
        return next(each for each in self.book.neighbours(own) if each.workload == workload)


def run_at(phase: Phase, origin: Origin = Origin.AI) -> Run:
    raw = a_run()
    raw["spec"]["change"]["origin"] = origin.value
    raw["status"]["phase"] = phase.value
    return run_of(raw, Limits())


def test_a_run_takes_its_place_before_the_cache_knows_and_gives_it_back_when_it_is_over() -> None:
    desk = Desk()
    desk.stored(a_run())
    assert not desk.of("shop/checkout").active
    desk.book.began(run_at(Phase.HELD), run_at(Phase.PREPARING))
    assert desk.of("shop/checkout").active
    desk.stored(a_run())  # the watch is late
    assert desk.of("shop/checkout").active
    desk.stored(exposed())
    assert desk.of("shop/checkout").active
    desk.stored(rolled_back())
    assert not desk.of("shop/checkout").active


def test_only_what_leaves_held_for_traffic_and_is_not_proved_human_takes_a_place() -> None:
    desk = Desk()
    desk.stored(a_run())
    for before, after, origin in (
        (Phase.HELD, Phase.HELD, Origin.AI),
        (Phase.HELD, Phase.SUPERSEDED, Origin.AI),
        (Phase.PROGRESSING, Phase.ROLLED_BACK, Origin.AI),
        (Phase.HELD, Phase.PREPARING, Origin.HUMAN),
    ):
        desk.book.began(run_at(before, origin=origin), run_at(after, origin=origin))
        assert not desk.of("shop/checkout").active
    human = exposed()
    human["spec"]["change"]["origin"] = "human"
    desk.stored(human)
    assert not desk.of("shop/checkout").active


def test_a_run_is_no_neighbour_of_itself() -> None:
    desk = Desk()
    desk.stored(exposed(), exposed(a_run("ledger-1b77", "pay", workload="ledger")))
    assert [each.workload for each in desk.book.neighbours("uid-ledger-1b77")] == ["shop/checkout"]


def test_a_rollback_counts_with_what_it_lost_for_a_week() -> None:
    desk = Desk()
    desk.stored(rolled_back())
    found = desk.of("shop/checkout")
    assert found.rolled_back_at is not None
    assert found.lost == 22.0
    desk.clock.run_for(8 * 86_400)
    assert desk.book.neighbours("") == ()


def test_what_was_taken_back_before_it_had_traffic_or_by_a_person_starts_no_cool_down() -> None:
    desk = Desk()
    never, aborted = rolled_back(), rolled_back()
    del never["status"]["exposedAt"]
    aborted["status"]["phase"] = "Aborted"
    for run in (never, aborted):
        desk.stored(run)
        assert desk.of("shop/checkout").rolled_back_at is None
