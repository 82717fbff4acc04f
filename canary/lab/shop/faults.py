"""Bugs to order: what a broken version of the shop does to its customers, as a pure function of time.

In goes how long the bug has been at work; out comes an `Effect`. The shop over real HTTP and the shop on simulated
time both apply it, so that a rehearsal and a demo break in the same way. A pod asks for a bug by its environment:
SHOP_BUG, SHOP_BUG_DROP, SHOP_BUG_AFTER.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from canary.errors import RefusedError
from canary.settings import FaultKind

LEAK_SECONDS = 1200.0  # until a memory leak has killed all orders
CRASH_SECONDS = 1.0  # how long a crash-looping pod lives
SLOW_SECONDS = 0.8  # how long a slow request takes
HEALTHY_ERRORS = 0.001  # errors per request of a healthy version
HEALTHY_LATE = 0.005  # promises of more than ten days per order of a healthy version


DEFAULT_DROP = {
    FaultKind.NONE: 0.0,
    FaultKind.ORDER_COLLAPSE: 0.99,
    FaultKind.LATE_PROMISES: 0.9,
    FaultKind.ERROR_BURST: 0.2,
    FaultKind.SLOW: 0.5,
    FaultKind.MEMORY_LEAK: 1.0,
    FaultKind.CRASH_LOOP: 1.0,
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What a customer meets: shares of orders kept, of requests that fail or are slow, of orders promised late."""

    orders_kept: float = 1.0
    errors: float = HEALTHY_ERRORS
    slow: float = 0.0
    late: float = HEALTHY_LATE


HEALTHY = Effect()


@dataclass(frozen=True, slots=True)
class Fault:
    """One bug: `drop` is the share of what it hurts; it begins `after_seconds` of customers' requests."""

    kind: FaultKind = FaultKind.NONE
    drop: float = 0.0
    after_seconds: float = 0.0

    def effect(self, seconds: float) -> Effect:
        """Return what holds `seconds` after the version met its first customer."""
        age = seconds - self.after_seconds
        if age < 0:
            return HEALTHY
        match self.kind:
            case FaultKind.ORDER_COLLAPSE:
                return Effect(orders_kept=1 - self.drop)
            case FaultKind.LATE_PROMISES:
                return Effect(late=max(HEALTHY_LATE, self.drop))
            case FaultKind.ERROR_BURST:
                return Effect(errors=max(HEALTHY_ERRORS, self.drop))
            case FaultKind.SLOW:
                return Effect(slow=self.drop)
            case FaultKind.MEMORY_LEAK:
                return Effect(orders_kept=1 - self.drop * min(1.0, age / LEAK_SECONDS))
            case FaultKind.CRASH_LOOP | FaultKind.NONE:
                return HEALTHY  # what meets customers before it crashes is healthy


def order(kind: str, drop: float | None = None, after_seconds: float = 0.0) -> Fault:
    """Return the bug of that name; raise RefusedError for a name, a drop or a time that makes no sense."""
    try:
        known = FaultKind(kind)
    except ValueError as error:
        names = ", ".join(FaultKind)
        raise RefusedError(f"{kind!r} is not a bug that can be ordered; there are {names}") from error
    share = DEFAULT_DROP[known] if drop is None else drop
    if not 0 <= share <= 1:
        raise RefusedError(f"the drop must be between 0 and 1, but is {share:g}")
    if after_seconds < 0:
        raise RefusedError(f"the bug cannot begin {after_seconds:g} s after the first customer")
    return Fault(known, share, after_seconds)


def fault_of(pod: Mapping[str, Any]) -> Fault:
    """Read the bug of a pod from the environment of its first container."""
    container = pod["spec"]["containers"][0]
    environment = {entry["name"]: entry.get("value", "") for entry in container.get("env") or ()}
    kind = environment.get("SHOP_BUG") or FaultKind.NONE
    drop = _number(environment, "SHOP_BUG_DROP")
    return order(kind, drop, _number(environment, "SHOP_BUG_AFTER") or 0.0)


def _number(environment: Mapping[str, str], name: str) -> float | None:
    text = environment.get(name, "")
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise RefusedError(f"{name} must be a number, but is {text!r}") from error
