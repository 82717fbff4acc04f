"""The four stories of the demo, as data: what changes, what breaks, what must happen.

March 5, March 2 and December retell press-reported incidents of a large retailer in 2025 and 2026, each after an
AI-assisted change; `healthy` is the day on which nothing is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from canary.api.reasons import Phase
from canary.settings import DemoOptions, FaultKind, Story


@dataclass(frozen=True, slots=True)
class Plot:
    """One story."""

    title: str
    fault: FaultKind
    policy: Mapping[str, Any]
    ends_well_in: str
    """The outcome that the story should have: a phase, or Restored."""
    last_line: str
    """Said at the end; `{lost}` is what was measured."""


ONE_PERCENT: Mapping[str, Any] = {
    "steps": [{"weight": "1%"}, {"weight": "5%", "approval": True}, {"weight": "100%"}]
}
QUICK: Mapping[str, Any] = {
    "analysis": {
        "minWatch": "0s",
        "orders": {"counter": "orders_completed_total"},
        "requests": {"counter": "http_requests_total"},
        "errors": {"counter": "http_requests_total", "where": {"code": "5.."}},
        "slow": {"histogram": "http_request_duration_seconds", "above": "500ms"},
    },
    "bake": {"duration": "1m"},
}
PLOTS: Mapping[Story, Plot] = {
    Story.MARCH_5: Plot(
        "5 March 2026: HTTP 200, and no order",
        FaultKind.ORDER_COLLAPSE,
        ONE_PERCENT,
        Phase.ROLLED_BACK,
        "{lost} lost orders instead of 6.3 million",
    ),
    Story.MARCH_2: Plot(
        "2 March 2026: orders are taken, with wrong delivery promises",
        FaultKind.LATE_PROMISES,
        ONE_PERCENT,
        Phase.ROLLED_BACK,
        "{late} wrong promises instead of 120,000 orders",
    ),
    Story.HEALTHY: Plot(
        "a good change, written by an AI, is promoted by evidence",
        FaultKind.NONE,
        QUICK,
        Phase.PROMOTED,
        "promoted by evidence; {lost} orders lost",
    ),
    Story.DECEMBER: Plot(
        "December 2025: an agent deletes and recreates the environment",
        FaultKind.NONE,
        ONE_PERCENT,
        "Restored",
        "refused by the guard, and restored where it was passed by; {lost} orders lost instead of 13 hours",
    ),
}


def bug(plot: Plot, options: DemoOptions) -> dict[str, str]:
    """Return the environment that orders the story's bug."""
    if plot.fault is FaultKind.NONE:
        return {}
    return {
        "SHOP_BUG": plot.fault.value,
        "SHOP_BUG_DROP": f"{options.drop:g}",
        "SHOP_BUG_AFTER": f"{options.break_after_seconds:g}",
    }
