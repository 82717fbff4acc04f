"""The main job behind Envoy, and what a gateway does that says "accepted" and does something else."""

import pytest
from cluster_bed import Bed
from shop_on_bed import COLLAPSE, Shop, shop_open

from canary.api.reasons import Phase
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
pytestmark = pytest.mark.side_by_side
RATE, BUSY = 100.0, 200.0  # orders a second
STEPS = [{"weight": "5%"}, {"weight": "100%"}]
WIDE = [{"weight": "50%"}, {"weight": "100%"}]  # which a healthy change passes in a minute
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
POLICY = {"steps": STEPS, "drain": "5s", "analysis": ANALYSIS, "bake": {"duration": "10s"}}
UNREACHED = ("SideSilent", "ShareBelowWeight", "OrdersLostByWeight", "TrafficLost")
TIMES = 6  # what a gateway that gives too much gives


def lost(shop: Shop) -> tuple[int, int]:
    total = shop.close_shop()["total"]
    return total["wanted"] - total["placed"], total["broken"]


def test_a_healthy_change_is_promoted_behind_envoy_without_a_broken_request(bed: Bed) -> None:
    with shop_open(bed, "envoy-healthy", BUSY, envoy=True) as shop:
        shop.start_controller()
        shop.protect(**{**POLICY, "steps": WIDE})
        shop.push()
        shop.reach(Phase.PROMOTED)
        assert lost(shop) == (0, 0)
        assert {ppm for _, ppm in shop.chronicle.weights()} >= {500_000, 1_000_000}


def test_a_gateway_that_gives_more_than_it_was_told_is_found_and_loses_all_of_it(bed: Bed) -> None:
    with shop_open(bed, "envoy-more", RATE, envoy=True) as shop:
        assert shop.envoy is not None
        shop.envoy.factor = TIMES
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        shop.reach_slice()
        shop.until(lambda: shop.weight_ppm() == 0, "the weight is taken away")
        shop.until(lambda: "DECISION NEEDED" in shop.page_openings(), "people are called")
        assert shop.run()["status"]["reason"] == "ShareAboveWeight"
        assert lost(shop) == (0, 0)


def test_a_gateway_that_accepts_a_route_and_does_not_obey_it_never_gets_another_step(bed: Bed) -> None:
    """Nobody reaches the new version: the run is held, or, where many were due, taken back."""
    with shop_open(bed, "envoy-deaf", RATE, envoy=True) as shop:
        assert shop.envoy is not None
        shop.envoy.deaf = True
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push({**COLLAPSE})
        shop.reach_slice()
        shop.until(lambda: shop.run()["status"].get("reason") in UNREACHED, "silence is no good news")
        assert lost(shop) == (0, 0)
        assert {ppm for _, ppm in shop.chronicle.weights()} <= {0, 50_000}


@pytest.mark.parametrize("after", ["0", "20"])
def test_a_collapse_is_taken_back_behind_envoy(bed: Bed, after: str) -> None:
    with shop_open(bed, f"envoy-collapse-{after}", RATE, envoy=True) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push({**COLLAPSE, "SHOP_BUG_AFTER": after})
        shop.reach(Phase.ROLLED_BACK)
        cost, broken = lost(shop)
        assert 0 < cost < 100
        assert broken == 0
