"""Pods that answer badly over real HTTP: their run gets no traffic and says why, and no other run waits for them."""

import time
from collections.abc import Iterator

import pytest
from poisoned_pods import (
    ORDERS,
    Answer,
    Shop,
    Town,
    below_zero,
    honestly,
    never,
    with_far_too_much,
    with_garbage,
    with_nan,
    without_orders,
    without_zeros,
)

from canary.api.reasons import Phase
from canary.core.decision import Run
from canary.operator.telemetry import Result

pytest_plugins = ["real_fixtures"]
POISONS: dict[str, tuple[Answer, str]] = {
    "garbage": (with_garbage, "not the Prometheus text format"),
    "gigantic": (with_far_too_much, "the body is larger than"),
    "hanging": (never, "no whole answer in time"),
    "nan": (with_nan, "orders_completed_total is nan"),
    "negative": (below_zero, "below zero"),
}
MOST_ORDERS_LOST = 75  # 15 s of the slice; undisturbed it is about a third


@pytest.fixture(scope="module")
def town(meanwhile: None) -> Iterator[Town]:
    """A town in which most shops have bad pods, from the start or from the first slice on."""
    shops = {f"poisoned-{name}": Shop(answer) for name, (answer, _) in POISONS.items()}
    shops |= {f"blinded-{name}": Shop(honestly, answer) for name, (answer, _) in POISONS.items()}
    shops |= {"collapsing": Shop(without_orders), "sparse": Shop(without_zeros)}
    town = Town(shops, seed=211)
    try:
        town.push_everywhere()
        town.until(lambda: town.phase_in("collapsing") is Phase.ROLLED_BACK, "the collapse is rolled back")
        for name in POISONS:
            town.until(
                lambda name=name: town.phase_in(f"blinded-{name}") is Phase.PAUSED, f"{name} is paused"
            )
        yield town
    finally:
        town.close()


def run_in(town: Town, namespace: str) -> Run:
    run = town.run_in(namespace)
    assert run is not None
    return run


@pytest.mark.parametrize("name", POISONS)
def test_a_new_version_that_cannot_be_read_gets_no_traffic(town: Town, name: str) -> None:
    run = run_in(town, f"poisoned-{name}")
    assert run.status.phase is Phase.PREPARING, run.status.message
    assert not town.shops[f"poisoned-{name}"].was_exposed


@pytest.mark.parametrize("name", POISONS)
def test_the_run_says_what_is_wrong_with_its_pods(town: Town, name: str) -> None:
    assert POISONS[name][1] in run_in(town, f"poisoned-{name}").status.message


@pytest.mark.parametrize("name", POISONS)
def test_a_new_version_that_turns_unreadable_loses_its_traffic(town: Town, name: str) -> None:
    run = run_in(town, f"blinded-{name}")
    assert run.status.phase is Phase.PAUSED
    assert run.status.reason == "Blind"
    assert POISONS[name][1] in run.status.message
    assert town.shops[f"blinded-{name}"].share == 0


def test_a_counter_that_shows_only_after_its_first_event_does_not_keep_the_slice_away(town: Town) -> None:
    assert town.shops["sparse"].share > 0
    assert run_in(town, "sparse").status.phase is Phase.PROGRESSING


def test_another_runs_rollback_does_not_wait_for_bad_pods(town: Town) -> None:
    shop = town.shops["collapsing"]
    assert run_in(town, "collapsing").status.phase is Phase.ROLLED_BACK
    assert shop.exposed_seconds(0.0, time.monotonic()) * ORDERS <= MOST_ORDERS_LOST


def test_no_look_ends_in_a_defect(town: Town) -> None:
    assert Result.DONE in town.looks.results
    assert Result.DEFECT not in town.looks.results
    assert Result.REFUSED not in town.looks.results


@pytest.mark.parametrize("name", POISONS)
def test_pods_that_answer_again_let_their_run_go_on(town: Town, name: str) -> None:
    shop = town.shops[f"poisoned-{name}"]
    shop.answer = honestly
    town.until(lambda: shop.was_exposed, f"the healed {name} gets its slice")
