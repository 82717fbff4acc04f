"""The past of the shop on simulated time: fourteen days that it never simulated, and the minutes that it did.

Enters: the shop and the setting of its scenario. Leaves: orders per minute, as a Prometheus of the shop would have them
(`History`). Past days follow the world's curve, each at a level of its own that wanders over half an hour and over a
minute; surges belong to today. A `Setting` that names it gives the controller a past.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from canary.core.site import DAY_SECONDS, MINUTE_SECONDS, Span
from canary.lab.rehearsal.scenario import Setting
from canary.lab.shop.demand import Wander, poisson
from canary.lab.shop.simulated import SimShop
from canary.metrics.history import Shop

DAY_SPREAD = 0.10
SLOW_SPREAD, SLOW_MEMORY_SECONDS = 0.08, 1800.0
QUICK_SPREAD, QUICK_MEMORY_SECONDS = 0.05, 60.0


class PastSales:
    """A `History` of the simulated shop."""

    def __init__(self, shop: SimShop, setting: Setting) -> None:
        self._shop = shop
        self._today = setting.world
        self._usual = replace(setting.world, surges=())
        self._seed = setting.seed

    def orders_per_minute(self, shop: Shop, span: Span, *, within_seconds: float) -> Sequence[float]:
        """Return the orders of each minute; see `History.orders_per_minute`."""
        sold, begun_at = self._shop.sold_by_minute(), self._shop.begun_at
        midnight = begun_at - begun_at % DAY_SECONDS
        draw = Random(f"{self._seed} {span.begin}")
        slow, quick = (
            Wander(draw, SLOW_SPREAD, SLOW_MEMORY_SECONDS),
            Wander(draw, QUICK_SPREAD, QUICK_MEMORY_SECONDS),
        )
        level = math.exp(draw.gauss(0.0, DAY_SPREAD)) if span.end <= midnight else 1.0
        world = self._usual if span.end <= midnight else self._today
        orders: list[float] = []
        for minute in range(span.minutes):
            at = span.begin + minute * MINUTE_SECONDS
            known = sold.get(int(at // MINUTE_SECONDS))
            wanted = world.demand(at - begun_at + MINUTE_SECONDS / 2) * MINUTE_SECONDS
            mean = wanted * level * slow.advance(MINUTE_SECONDS) * quick.advance(MINUTE_SECONDS)
            orders.append(poisson(draw, mean) if known is None else known)
        return orders

    def close(self) -> None:
        """There is nothing to release."""
