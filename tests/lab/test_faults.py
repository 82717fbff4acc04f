"""Bugs to order: how a pod asks for one, and what each does to customers."""

import pytest

from canary.errors import RefusedError
from canary.lab.shop.faults import HEALTHY, LEAK_SECONDS, Fault, FaultKind, fault_of, order


def pod(**environment: str) -> dict[str, object]:
    env = [{"name": name, "value": value} for name, value in environment.items()]
    return {"spec": {"containers": [{"env": env}]}}


def test_a_pod_without_a_bug_is_healthy() -> None:
    assert fault_of(pod()).effect(10_000) == HEALTHY


def test_the_environment_orders_a_bug() -> None:
    environment = {"SHOP_BUG": "slow", "SHOP_BUG_DROP": "0.25", "SHOP_BUG_AFTER": "60"}
    assert fault_of(pod(**environment)) == Fault(FaultKind.SLOW, 0.25, 60.0)
    assert fault_of(pod(SHOP_BUG="order-collapse")) == Fault(FaultKind.ORDER_COLLAPSE, 0.99, 0.0)


@pytest.mark.parametrize(
    "environment",
    [{"SHOP_BUG": "gremlins"}, {"SHOP_BUG": "slow", "SHOP_BUG_DROP": "2"}, {"SHOP_BUG_AFTER": "soon"}],
)
def test_a_bug_that_makes_no_sense_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(RefusedError):
        fault_of(pod(**environment))


def test_an_unknown_bug_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(RefusedError, match="order-collapse, late-promises"):
        order("order-colapse")


def test_a_bug_begins_at_its_time() -> None:
    fault = order("order-collapse", 0.99, 60)
    assert fault.effect(59.9) == HEALTHY
    assert fault.effect(60).orders_kept == pytest.approx(0.01)


def test_a_leak_kills_orders_little_by_little() -> None:
    fault = order("memory-leak", after_seconds=100)
    kept = [fault.effect(100 + share * LEAK_SECONDS).orders_kept for share in (0, 0.25, 0.5, 1, 2)]
    assert kept == pytest.approx([1, 0.75, 0.5, 0, 0])


def test_each_bug_hurts_what_it_is_named_for() -> None:
    def changed(kind: FaultKind) -> set[str]:
        effect = order(kind).effect(1_000)
        return {name for name in HEALTHY.__slots__ if getattr(effect, name) != getattr(HEALTHY, name)}

    assert {kind: changed(kind) for kind in FaultKind} == {
        FaultKind.NONE: set(),
        FaultKind.ORDER_COLLAPSE: {"orders_kept"},
        FaultKind.LATE_PROMISES: {"late"},
        FaultKind.ERROR_BURST: {"errors"},
        FaultKind.SLOW: {"slow"},
        FaultKind.MEMORY_LEAK: {"orders_kept"},
        FaultKind.CRASH_LOOP: set(),
    }
