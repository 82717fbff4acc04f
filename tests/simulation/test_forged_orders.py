"""A version that forges its own orders, beside an order system that counts what was sold: it is held, and named."""

from collections.abc import Mapping
from dataclasses import replace

from sim_street import COLLAPSE, Street, short_policy

from canary.alerts.sink import Couriers
from canary.api.reasons import MissingReason, Phase, Reason
from canary.core.detect.counters import Reading
from canary.core.evidence import Missing
from canary.core.telling.page_texts import Place
from canary.core.witness import Gained
from canary.lab import manifests
from canary.lab.clock import SimClock
from canary.lab.rehearsal.scenario import OneSource, build_hands
from canary.lab.shop.simulated import SimShop
from canary.metrics.source import Specs
from canary.operator.controller import Controller
from canary.operator.tell import Teller

SOURCE = {
    "scrape": {**manifests.policy()["spec"]["source"]["scrape"], "every": "3s"},
    "prometheus": {"address": "http://prometheus", "every": "5s"},
    "witness": {"orders": {"counter": "orders_stored_total", "where": {"service": "checkout-canary"}}},
}


class OrderSystem:
    """Knows how many orders the new version sold, whatever its pods say; told every five seconds."""

    def __init__(self, shop: SimShop, clock: SimClock) -> None:
        self._shop, self._clock = shop, clock
        self._told: list[tuple[float, float]] = []
        self.trouble = ""

    def gained(self, specs: Specs, since: float, *, within_seconds: float) -> Mapping[str, Gained] | Missing:
        if self.trouble:
            return Missing(MissingReason.UNAVAILABLE, self.trouble)
        assert specs.keys() == {"orders"}
        sold = sum(each.orders for each in self._shop.truths if each.version == manifests.NEW)
        self._told.append((self._clock.now().timestamp(), float(sold)))
        window = [each for each in self._told if each[0] >= since]
        if len(window) < 2:
            return {}
        (begin, low), (end, high) = window[0], window[-1]
        return {"orders": Gained(begin, end, high - low)}

    def close(self) -> None:
        """Nothing is open."""


class Witnessed(Street):
    """A street whose policy names the order system as a witness."""

    def __init__(self) -> None:
        super().__init__(policy=short_policy(source=SOURCE, steps=[{"weight": "5%"}, {"weight": "100%"}]))

    def restart(self) -> None:
        hands = build_hands(self.cluster, self.clock, self.shop, self.setting)
        self.witness = OrderSystem(self.shop, self.clock)
        hands = replace(hands, sources=OneSource(self.shop, None, self.witness))
        self.controller = Controller(hands, Teller(hands, Couriers({}), lambda _: [], place=Place("lab")))


def forged(reading: Reading) -> Reading:
    """Show an order for every fourth request of the new version."""
    if not reading.canary:
        return reading
    return replace(
        reading, counts={**reading.counts, "orders": float(int(reading.counts["requests"] * 0.25))}
    )


def test_a_version_that_forges_its_own_orders_is_held_and_named_and_loses_its_slice():
    street = Witnessed()
    street.shop.show_through(forged)
    street.push(COLLAPSE)
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    first = street.route_ppm()
    seen: set[Reason | str] = set()

    def paused() -> bool:
        seen.add(street.run.status.analysis.reason)
        return street.phase is Phase.PAUSED

    assert street.run_until(paused, 300), street.told()
    assert Reason.SOURCES_DISAGREE in seen
    assert street.route_ppm() == 0
    assert "orders of its own" in street.run.status.message, street.told()
    assert "the witness " in street.run.status.message
    assert first == 50_000
    assert not street.breaches


def test_an_honest_version_is_promoted_beside_a_witness():
    street = Witnessed()
    street.push()
    assert street.run_until(lambda: street.phase is Phase.PROMOTED, 600), street.told()


def test_while_the_witness_is_silent_nothing_rises_and_nothing_is_lost():
    street = Witnessed()
    street.witness.trouble = "503"
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    first = street.route_ppm()
    street.run_for(200)
    assert street.route_ppm() == first, street.told()
    assert "the witness is silent: 503" in street.run.status.message
    street.witness.trouble = ""
    assert street.run_until(lambda: street.phase is Phase.PROMOTED, 600), street.told()
