"""From a policy to the detector's settings: what is counted, which promise is made, which weights are planned.

The run pins what leaves here, so a policy that changes half-way changes no running judgement.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from canary.api.policy import CanaryPolicySpec, Step
from canary.api.reasons import PPM
from canary.core.detect.family import ExtraMonitor, MonitorName, Settings


class Floors(NamedTuple):
    """Shares of its two forecasts under which the whole site has fallen."""

    hist: float = 0.5
    recent: float = 0.5


def settings_of(
    policy: CanaryPolicySpec,
    steps: Sequence[Step],
    phi: Mapping[str, float] | None = None,
    *,
    site: Floors | None = None,
) -> Settings:
    """Return the settings that a policy pins. `phi`: noise factors at the start; `site`: None without forecasts."""
    analysis = policy.analysis
    monitors = {MonitorName.ORDERS, MonitorName.ORDERS_BY_WEIGHT, MonitorName.TRAFFIC}
    monitors |= {MonitorName.ERRORS} if analysis.errors else set()
    monitors |= {MonitorName.SLOW} if analysis.slow else set()
    monitors |= {MonitorName.SITE} if site is not None else set()
    floors = site or Floors()
    return Settings(
        false_rollback=analysis.false_rollback,
        settle_seconds=analysis.settle.total_seconds(),
        min_watch_seconds=analysis.min_watch.total_seconds(),
        monitors=frozenset(monitors),
        extra=tuple(
            ExtraMonitor(
                name=extra.name,
                rise=extra.direction == "rise",
                floor=extra.floor / PPM if extra.floor is not None else None,
            )
            for extra in analysis.extra
        ),
        weights_ppm=tuple(step.weight for step in steps),
        phi=dict(phi or {}),
        theta_hist=floors.hist,
        theta_recent=floors.recent,
    )


def monitor_names(policy: CanaryPolicySpec) -> list[str]:
    """Return the names whose noise is measured: each has its own factor."""
    names = [MonitorName.ORDERS.value, MonitorName.TRAFFIC.value]
    names += [MonitorName.ERRORS.value] if policy.analysis.errors else []
    names += [MonitorName.SLOW.value] if policy.analysis.slow else []
    return names + [extra.name for extra in policy.analysis.extra]
