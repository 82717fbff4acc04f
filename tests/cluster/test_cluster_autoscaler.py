"""A real autoscaler with figures to obey: it scales the shop up and down, and not down while a change has customers.

The figures are the test's (`metrics_api.py`); the autoscaler, the Deployment's controller and the freeze are real. That
it scales down within seconds before the change shows what the freeze holds back.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cluster_bed import Bed
from metrics_api import (
    BUSY,
    FEW,
    MANY,
    QUIET,
    SCALED_SECONDS,
    Metrics,
    autoscaler,
    metrics_open,
    scaled,
    wanted,
)
from shop_on_bed import Shop, shop_open

from canary.api.reasons import Phase
from canary.kube.resources import DEPLOYMENTS, HPAS
from canary.lab import manifests
from canary.lab.shop.child import Message

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
NAMESPACE = "autoscaled"
RATE = 40.0  # orders a second
WATCHED_SECONDS = 20.0  # several times the window, and ten looks of the autoscaler
POLICY = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "drain": "2s",
    "analysis": {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"},
}


@dataclass(slots=True)
class Notes:
    """What stood in the world."""

    down_seconds: float = 0.0
    behavior: list[Object] = field(default_factory=list[Object])
    """Of the autoscaler: before the change, while it had customers, after."""
    wished: Object = field(default_factory=dict[str, Any])
    """What the autoscaler said of itself at the end of the freeze."""
    frozen: list[int] = field(default_factory=list[int])
    """How many pods the Deployment wanted, at every version of it while the change had customers."""
    after: int = 0
    sales: Message = field(default_factory=dict[str, Any])


def stored(shop: Shop) -> Object:
    return shop.bed.admin.get(HPAS.at(NAMESPACE, manifests.NAME)) or {}


@pytest.fixture(scope="module")
def notes(bed: Bed) -> Iterator[Notes]:
    with metrics_open(bed) as metrics, shop_open(bed, NAMESPACE, RATE) as shop:
        yield play(shop, metrics)


def play(shop: Shop, metrics: Metrics) -> Notes:
    notes = Notes()
    shop.apply(autoscaler(NAMESPACE))
    shop.start_controller()
    shop.protect(**POLICY)
    scaled(shop, metrics, BUSY, MANY)
    notes.down_seconds = scaled(shop, metrics, QUIET, FEW)
    scaled(shop, metrics, BUSY, MANY)
    shop.until(lambda: shop.ready_pods() == MANY, "all pods are ready")
    notes.behavior.append(stored(shop)["spec"]["behavior"])
    shop.apply(shop.manifest(manifests.NEW, replicas=MANY))
    shop.reach_slice()
    since = time.time()
    metrics.load[NAMESPACE] = QUIET
    time.sleep(WATCHED_SECONDS)
    hpa = stored(shop)
    notes.wished = hpa["status"]
    notes.behavior.append(hpa["spec"]["behavior"])
    seen = [each.obj["spec"]["replicas"] for each in shop.chronicle.of(DEPLOYMENTS.kind) if each.at > since]
    notes.frozen = [*seen, wanted(shop)]
    told = shop.canary("alice", "abort", manifests.NAME, "--reason", "enough was seen")
    assert told.returncode == 0, told.stderr
    shop.reach(Phase.ABORTED)
    shop.until(lambda: wanted(shop) == FEW, "it scales down once the change is gone", SCALED_SECONDS)
    notes.after = wanted(shop)
    notes.behavior.append(stored(shop)["spec"]["behavior"])
    notes.sales = shop.close_shop()
    return notes


def test_an_autoscaler_that_has_figures_scales_down_within_seconds(notes: Notes) -> None:
    assert notes.down_seconds < WATCHED_SECONDS


def test_it_wants_to_scale_down_and_does_not_while_customers_meet_a_change(notes: Notes) -> None:
    assert notes.behavior[1]["scaleDown"]["selectPolicy"] == "Disabled"
    assert set(notes.frozen) == {MANY}
    (figure,) = notes.wished["currentMetrics"]
    assert figure["resource"]["current"]["averageValue"] == f"{QUIET / MANY:.0f}m"
    limited = next(each for each in notes.wished["conditions"] if each["type"] == "ScalingLimited")
    assert (limited["status"], limited["reason"]) == ("True", "ScaleDownLimit")


def test_it_scales_down_again_when_the_change_is_gone_and_behaves_as_before(notes: Notes) -> None:
    assert notes.after == FEW
    before, _, after = notes.behavior
    assert after == before


def test_no_customer_lost_an_order_by_it(notes: Notes) -> None:
    total = notes.sales["total"]
    assert total["requests"] > 1000
    assert (total["wanted"] - total["placed"], total["broken"]) == (0, 0)
