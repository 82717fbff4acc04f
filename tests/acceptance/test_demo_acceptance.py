"""The promise of the demo, over 20 seeds: what a change that is broken costs in orders, and how soon it is taken back.

Minutes long, so not a part of `make test`: `make acceptance`, which prints a table of what was measured.
CANARY_ACCEPTANCE_SUMMARY names a file for the figures as JSON; CANARY_ACCEPTANCE_AT_ONCE says how many demos share the
machine.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(1, 21)
DEMO_SECONDS = 300.0
SUMMARY = os.environ.get("CANARY_ACCEPTANCE_SUMMARY", "")
AT_ONCE = int(os.environ.get("CANARY_ACCEPTANCE_AT_ONCE", "2"))
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Promise:
    """One way to be broken, and what it may cost; each bound is a 95th percentile over the seeds."""

    name: str
    flags: tuple[str, ...]
    orders_lost: float
    decided_seconds: float


PROMISES = (
    Promise("broken from the start", ("--break-after", "0"), orders_lost=20, decided_seconds=8.0),
    Promise("broken after 60 s", ("--break-after", "60"), orders_lost=30, decided_seconds=12.0),
)
WRITTEN_SECONDS, VERIFIED_SECONDS = 1.0, 3.0


def demo(promise: Promise, seed: int) -> Figures:
    """Tell the story once, as a process of its own; return the figures that it printed, and its exit code."""
    command = [sys.executable, "-m", "canary.cli.main", "demo", "--headless", "-o", "json"]
    done = subprocess.run(
        [*command, "--seed", str(seed), *promise.flags],
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        cwd=ROOT,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines, f"seed {seed}: the demo said nothing. {done.stderr[-2000:]}"
    return {**json.loads(lines[-1]), "exit_code": done.returncode}


def percentile_95(values: Sequence[float]) -> float:
    """Return the least of the values that 95 % of them do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def seconds(figures: Figures, since: str, until: str) -> float:
    return float(figures[until]) - float(figures[since])


def decided(figures: Figures) -> float:
    return seconds(figures, "first_lost_at", "decided_at")


def written(figures: Figures) -> float:
    return seconds(figures, "decided_at", "written_at")


def verified(figures: Figures) -> float:
    return seconds(figures, "decided_at", "verified_at")


def lost(figures: Figures) -> float:
    return float(figures["orders_lost"])


COLUMNS: dict[str, Callable[[Figures], float]] = {
    "orders lost": lost,
    "decided after, s": decided,
    "written after, s": written,
    "verified after, s": verified,
    "orders/s": lambda figures: float(figures["orders_per_second"]),
}


@pytest.fixture(scope="module")
def told(pytestconfig: pytest.Config) -> dict[str, list[Figures]]:
    """Every demo, a few at a time; what they measured is printed."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        under_way = {
            promise.name: [pool.submit(demo, promise, seed) for seed in SEEDS] for promise in PROMISES
        }
        told = {name: [each.result() for each in demos] for name, demos in under_way.items()}
    if SUMMARY:
        Path(SUMMARY).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{table(told)}")
    return told


def table(told: dict[str, list[Figures]]) -> str:
    """Return median, 95th percentile and worst of every figure as Markdown."""
    lines = ["| | figure | median | p95 | worst |", "|---|---|---|---|---|"]
    for name, demos in told.items():
        for column, figure in COLUMNS.items():
            values = sorted(figure(each) for each in demos)
            shown = (values[len(values) // 2], percentile_95(values), values[-1])
            lines.append(f"| {name} | {column} | " + " | ".join(f"{value:.4g}" for value in shown) + " |")
    return "\n".join(lines) + "\n"


each_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)


@each_promise
def test_every_broken_change_is_rolled_back(told: dict[str, list[Figures]], promise: Promise) -> None:
    for figures in told[promise.name]:
        assert figures["outcome"] == "RolledBack", figures
        assert figures["exit_code"] == 0
        assert figures["slice_ppm"] == 10_000


@each_promise
def test_few_orders_are_lost(told: dict[str, list[Figures]], promise: Promise) -> None:
    assert percentile_95([lost(figures) for figures in told[promise.name]]) <= promise.orders_lost


@each_promise
def test_the_decision_comes_soon(told: dict[str, list[Figures]], promise: Promise) -> None:
    assert percentile_95([decided(figures) for figures in told[promise.name]]) <= promise.decided_seconds


@each_promise
def test_the_route_is_written_at_once_and_seen_to_be_obeyed(
    told: dict[str, list[Figures]], promise: Promise
) -> None:
    demos = told[promise.name]
    assert percentile_95([written(figures) for figures in demos]) <= WRITTEN_SECONDS
    assert percentile_95([verified(figures) for figures in demos]) <= VERIFIED_SECONDS
    for figures in demos:
        assert figures["last_canary_request_at"] <= figures["verified_at"]
