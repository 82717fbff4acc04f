"""The figures of a real control plane: orders lost to a silent collapse, and how quickly it ends; healthy changes.

Every shop takes 100 requests a second with one order each, through a real gateway, from a namespace and a controller
of its own. One run of each row by default, which is what the checks below can say something of; `REPEATS=full` plays
the repeats of the promise (healthy 20, each collapse 10) and writes docs/reference/cluster-results.md from them.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from cluster_bed import Bed
from shop_on_bed import COLLAPSE, Shop, shop_open

from canary.api.reasons import Phase
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
RATE = 100.0  # orders a second, one each request
AT_ONCE = 2  # shops that play at the same time
FULL = os.environ.get("REPEATS") == "full"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cluster-results.md"
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
DEFAULT_STEPS = ["0.5%", "1%", "5%", "10%", "25%", "50%", "100%"]
FIRST_AT_5 = ["5%", "10%", "25%", "50%", "100%"]
SHORT = ["25%", "100%"]
FAULT_AFTER = "60"  # seconds of a pod's life


@dataclass(frozen=True, slots=True)
class Row:
    """What is played, how often, and how it must end."""

    title: str
    steps: Sequence[str]
    env: dict[str, str]
    end: Phase
    repeats: int


@dataclass(frozen=True, slots=True)
class Played:
    """One change, as the customers and the record saw it; seconds, None where there was no such moment."""

    outcome: str
    reason: str
    lost: int
    broken: int  # requests without an answer, or answered with an error of the gateway
    loss_seconds: float | None  # from the first lost order to the last request that the new version answered
    gone_seconds: float | None  # from the decision to that request


LATER = {**COLLAPSE, "SHOP_BUG_AFTER": FAULT_AFTER}
ROWS = {
    "healthy": Row("healthy, 25 % then all", SHORT, {}, Phase.PROMOTED, 20),
    "at once": Row("99 % silent collapse at once, default steps", DEFAULT_STEPS, COLLAPSE, Phase.ROLLED_BACK, 10),
    "later": Row("99 % silent collapse after 60 s, default steps", DEFAULT_STEPS, LATER, Phase.ROLLED_BACK, 10),
    "wide": Row("99 % silent collapse at once, first step 5 %", FIRST_AT_5, COLLAPSE, Phase.ROLLED_BACK, 10),
}  # fmt: skip


def play(bed: Bed, name: str, row: Row) -> Played:
    """Open a shop, protect it, push the row's change, and return what became of it."""
    with shop_open(bed, name, RATE) as shop:
        shop.start_controller()
        shop.protect(
            steps=[{"weight": weight} for weight in row.steps],
            analysis=ANALYSIS,
            bake={"duration": "10s"},
            drain="5s",
        )
        shop.push(row.env)
        run = shop.reach_end()
        return _played(shop, run)


def _played(shop: Shop, run: dict[str, Any]) -> Played:
    sales, status = shop.close_shop(), run["status"]
    new = sales["by_version"].get(manifests.NEW) or {}
    by_shops = sum(each["failed"] for version, each in sales["by_version"].items() if version)
    decided = status.get("decidedAt")
    first, last = new.get("first_lost_at"), new.get("last_at")
    return Played(
        outcome=status["phase"],
        reason=status.get("reason", ""),
        lost=sales["total"]["wanted"] - sales["total"]["placed"],
        broken=sales["total"]["broken"] + sales["total"]["failed"] - by_shops,
        loss_seconds=last - first if first and last else None,
        gone_seconds=last - datetime.fromisoformat(decided).timestamp() if decided and last else None,
    )


@pytest.fixture(scope="module")
def played(bed: Bed) -> dict[str, list[Played]]:
    """Play every row, some shops at a time; write the page when these were the full repeats."""
    asked = [(key, number) for key, row in ROWS.items() for number in range(row.repeats if FULL else 1)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="shop") as pool:
        work = [
            (key, pool.submit(play, bed, f"r-{key.replace(' ', '-')}-{number}", ROWS[key]))
            for key, number in asked
        ]
        results: dict[str, list[Played]] = {key: [] for key in ROWS}
        for key, future in work:
            results[key].append(future.result())
    print("\n" + table(results))
    if FULL:
        PAGE.write_text(page(results), encoding="utf-8")
    return results


def table(results: dict[str, list[Played]]) -> str:
    head = "| change | runs | ended as | orders lost, median (all) | first lost order to last canary request, s | "
    lines = [head + "decision to last canary request, s, median / max | requests broken |", "|---" * 7 + "|"]
    for key, runs in results.items():
        lost = sorted(run.lost for run in runs)
        loss = [run.loss_seconds for run in runs if run.loss_seconds is not None and run.lost]
        gone = [run.gone_seconds for run in runs if run.gone_seconds is not None and run.lost]
        ends = {outcome: sum(run.outcome == outcome for run in runs) for outcome in {r.outcome for r in runs}}
        cells = (
            ROWS[key].title,
            str(len(runs)),
            ", ".join(f"{count} {outcome}" for outcome, count in sorted(ends.items())),
            f"{median(lost):g} ({', '.join(map(str, lost))})" if any(lost) else "0",
            f"{median(loss):.1f}" if loss else "",
            f"{median(gone):.2f} / {max(gone):.2f}" if gone else "",
            str(sum(run.broken for run in runs)),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(results: dict[str, list[Played]]) -> str:
    return (
        "# On a real control plane\n\n"
        "Written by `make test-cluster REPEATS=full`: etcd, kube-apiserver and kube-controller-manager 1.36, Traefik "
        "as the gateway, pods as real processes, real HTTP load; only the kubelet is ours. Every shop takes "
        f"{RATE:.0f} requests a second with one order each, {AT_ONCE} shops at a time on two cores.\n\n"
        f"{table(results)}\n\n"
        "*Lost* are customers who meant to order and got no order number. *Broken* are requests without an answer, or "
        "with an error that no shop gave, of the whole load from before the push to after the end.\n"
    )


def test_healthy_changes_are_promoted_without_a_broken_request(played: dict[str, list[Played]]) -> None:
    assert [(run.outcome, run.lost, run.broken) for run in played["healthy"]] == [
        ("Promoted", 0, 0) for _ in played["healthy"]
    ]


@pytest.mark.parametrize(("key", "most"), [("at once", 12), ("later", 20)])
def test_a_silent_collapse_is_rolled_back_for_few_orders(
    played: dict[str, list[Played]], key: str, most: int
) -> None:
    """The promise is the median of ten; a single run may cost twice that."""
    runs = played[key]
    assert {run.outcome for run in runs} == {"RolledBack"}
    assert sum(run.broken for run in runs) == 0
    assert median(run.lost for run in runs) <= (most if FULL else 2 * most), runs


def test_a_wider_first_step_is_rolled_back_too(played: dict[str, list[Played]]) -> None:
    assert {(run.outcome, run.reason) for run in played["wide"]} == {("RolledBack", "OrdersCollapsed")}


def test_the_decision_reaches_the_customers(played: dict[str, list[Played]]) -> None:
    """Traefik publishes at most every 100 ms here; what is asked of it is 1.5 s."""
    gone = [run.gone_seconds for key in ("at once", "later", "wide") for run in played[key]]
    assert all(seconds is not None and seconds < 1.5 for seconds in gone), gone
