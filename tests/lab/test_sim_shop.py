"""The shop on simulated time: it follows the route, keeps honest books, and shows what its world lets it show."""

from collections.abc import Sequence

import pytest
from shop_manifests import NAMESPACE, open_shop, set_weight

from canary.core.detect.counters import CountersState, Reading, fold
from canary.core.evidence import Missing
from canary.lab.apiserver.objects import name_of, uid_of
from canary.lab.clock import SimClock
from canary.lab.cluster import Cluster, simulated_cluster
from canary.lab.shop.simulated import SimShop
from canary.lab.shop.worlds import Surge, World
from canary.metrics.source import CounterSpec, PodTarget

SPECS = {name: CounterSpec(name) for name in ("orders", "requests", "errors", "slow", "extra.late")}
STEADY = World(curve=False, level_spread=0.0)


class Stage:
    """A simulated cluster with an open shop."""

    def __init__(self, world: World, canary_ppm: int, seed: int = 1, **bug: object) -> None:
        self.clock = SimClock()
        self.cluster: Cluster = simulated_cluster(
            self.clock, lambda store, timers: SimShop(store, timers, world, seed=seed)
        )
        open_shop(self.cluster.store, canary_ppm, **bug)
        self.clock.run_for(3)  # pods are ready, the gateway knows it
        assert isinstance(self.cluster.kubelet, SimShop)
        self.shop = self.cluster.kubelet

    def targets(self) -> list[PodTarget]:
        pods = self.cluster.store.select(self.cluster.store.kinds.named("Pod"))
        start = self.clock.now().timestamp()
        return [
            PodTarget(
                uid_of(pod),
                name_of(pod),
                NAMESPACE,
                "",
                0,
                "",
                name_of(pod).startswith("checkout-canary"),
                start,
            )
            for pod in pods
        ]

    def look(self, targets: Sequence[PodTarget]) -> list[Reading | Missing]:
        return list(self.shop.read(targets, SPECS, within_seconds=1).values())

    def sold(self, version: str) -> dict[str, int]:
        truths = [truth for truth in self.shop.truths if truth.version == version]
        names = ("requests", "wanted", "orders", "missing", "late")
        return {name: sum(getattr(truth, name) for truth in truths) for name in names}


def test_each_side_gets_its_weight_of_the_demand() -> None:
    stage = Stage(STEADY, 100_000)
    stage.clock.run_for(1000)
    stable, canary = stage.sold("v1"), stage.sold("v2")
    assert stable["orders"] + canary["orders"] == pytest.approx(100_000, rel=0.02)
    assert canary["orders"] == pytest.approx(10_000, rel=0.05)
    assert canary["requests"] == pytest.approx(40_000, rel=0.03)
    assert stage.shop.site_orders == stable["orders"] + canary["orders"]


def test_a_new_weight_holds_from_the_moment_of_its_write_and_no_look_is_needed() -> None:
    stage = Stage(STEADY, 500_000)
    stage.clock.run_for(100)
    before = stage.sold("v2")["requests"]
    set_weight(stage.cluster.store, 0)
    stage.clock.run_for(1000)
    late = [truth.last_request_at for truth in stage.shop.truths if truth.version == "v2"]
    assert stage.sold("v2")["requests"] - before < 40  # those within the gateway's propagation
    assert max(at for at in late if at) < stage.clock.now().timestamp() - 999


def test_what_a_look_reads_is_what_really_happened() -> None:
    stage = Stage(World(), 50_000, SHOP_BUG="order-collapse", SHOP_BUG_AFTER=30)
    targets = stage.targets()
    for _ in range(60):
        stage.clock.run_for(1)
        readings = stage.look(targets)
    read = {reading.pod.split("/")[0]: reading.counts for reading in readings if isinstance(reading, Reading)}
    for truth in stage.shop.truths:
        assert read[truth.uid]["orders"] == truth.orders
        assert read[truth.uid]["requests"] == truth.requests
        assert read[truth.uid]["extra.late"] == truth.late


def test_a_collapse_takes_orders_and_keeps_requests() -> None:
    stage = Stage(STEADY, 100_000, SHOP_BUG="order-collapse", SHOP_BUG_AFTER=100)
    begun = stage.clock.now().timestamp()
    stage.clock.run_for(1000)
    canary = stage.sold("v2")
    assert canary["wanted"] == canary["orders"] + canary["missing"] == pytest.approx(10_000, rel=0.05)
    assert canary["missing"] == pytest.approx(0.99 * 9_000, rel=0.05)
    assert canary["requests"] == pytest.approx(40_000, rel=0.03)
    assert stage.sold("v1")["missing"] == 0
    first = min(truth.first_lost_at for truth in stage.shop.truths if truth.first_lost_at)
    assert 98 <= first - begun <= 103


@pytest.mark.parametrize(
    ("bug", "count", "expected"), [("error-burst", "errors", 8_000), ("late-promises", "extra.late", 9_000)]
)
def test_other_bugs_show_in_their_own_count(bug: str, count: str, expected: int) -> None:
    stage = Stage(STEADY, 100_000, SHOP_BUG=bug)
    targets = [target for target in stage.targets() if target.canary]
    stage.clock.run_for(1000)
    total = sum(reading.counts[count] for reading in stage.look(targets) if isinstance(reading, Reading))
    assert total == pytest.approx(expected, rel=0.05)


def test_a_crash_loop_is_ready_and_not_ready_by_turns() -> None:
    stage = Stage(STEADY, 100_000, SHOP_BUG="crash-loop")
    kind = stage.cluster.store.kinds.named("Pod")
    seen: set[tuple[str, str]] = set()
    for _ in range(40):
        stage.clock.run_for(0.5)
        for pod in stage.cluster.store.select(kind):
            ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
            seen.add((name_of(pod).rsplit("-", 2)[0], ready["status"]))
    assert seen == {("checkout", "True"), ("checkout-canary", "True"), ("checkout-canary", "False")}


def test_the_same_seed_gives_the_same_history_and_another_seed_another() -> None:
    def history(seed: int) -> list[dict[str, float]]:
        stage = Stage(World(cluster_mean=2.0), 100_000, seed)
        stage.clock.run_for(60)
        return [dict(one.counts) for one in stage.look(stage.targets()) if isinstance(one, Reading)]

    assert history(7) == history(7)
    assert history(7) != history(8)


def test_a_canary_that_gets_half_of_its_weight_leaves_the_rest_to_stable() -> None:
    stage = Stage(World(curve=False, level_spread=0.0, canary_share=0.5), 200_000)
    stage.clock.run_for(500)
    stable, canary = stage.sold("v1")["requests"], stage.sold("v2")["requests"]
    assert canary / (stable + canary) == pytest.approx(0.1, rel=0.03)
    assert stable + canary == pytest.approx(200_000, rel=0.02)


@pytest.mark.parametrize("world", [World(missed=0.10), World(late=0.05), World(reset=0.01)])
def test_a_world_that_misleads_never_invents_an_order(world: World) -> None:
    stage = Stage(world, 100_000)
    targets = stage.targets()
    live = {target.key: target.canary for target in targets}
    state, orders, requests, missing = CountersState(), 0.0, 0.0, 0
    for _ in range(1200):
        stage.clock.run_for(1)
        looks = stage.look(targets)
        missing += sum(isinstance(look, Missing) for look in looks)
        folded = fold(state, [look for look in looks if isinstance(look, Reading)], live)
        state = folded.state
        orders += folded.canary.orders or 0
        requests += folded.canary.requests or 0
    truth = stage.sold("v2")
    assert 0.9 * truth["orders"] < orders <= truth["orders"]
    assert 0.9 * truth["requests"] < requests <= truth["requests"]
    assert (missing > 0) == (world.missed > 0)


def test_a_sale_multiplies_demand_while_it_lasts() -> None:
    world = World(surges=(Surge(10.0, 1200.0, 2400.0),))
    assert world.demand(1300) / world.demand(1100) == pytest.approx(10, rel=0.01)
    assert world.demand(2500) / world.demand(1100) == pytest.approx(1, rel=0.05)
