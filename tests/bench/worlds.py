"""The worlds of the benchmark, by name: all of them healthy, so that a rollback in any of them is a false alarm.

What a `World` is stands in `canary/lab/shop/worlds.py`.
"""

from collections.abc import Mapping

from canary.lab.shop.worlds import Surge, World

FOREVER = 1e12
WORLDS: Mapping[str, World] = {
    "base": World(),
    "flat": World(curve=False, level_spread=0.0),
    "flash-sale": World(surges=(Surge(10.0, 1200.0, 2400.0),)),
    "flash-sale-end": World(surges=(Surge(10.0, 0.0, 1200.0),)),
    "site-drop": World(surges=(Surge(0.05, 1200.0, FOREVER),)),
    "shared-noise": World(level_spread=0.5),
    "less-than-its-weight": World(canary_share=0.9),
    "half-its-weight": World(canary_share=0.5),
    "bursts-3": World(cluster_mean=2.0),
    "bursts-9": World(cluster_mean=5.0),
    "arm-noise-2": World(pod_spread=0.02),
    "arm-noise-5": World(pod_spread=0.05),
    "missed-scrapes": World(missed=0.10),
    "late-orders": World(late=0.05),
    "counter-resets": World(reset=0.01),
    "edge": World(canary_ratio=0.98),
}
