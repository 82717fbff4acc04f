"""The figures of a real control plane: healthy changes, silent collapses, and collapses with every kind of trouble.

Every shop takes 100 requests a second with one order each, through a real gateway, from a namespace and a controller
of its own. One run of each row by default, which is what the checks below can say something of; `REPEATS=full` plays
the repeats of the promise (healthy 20, each collapse 10) and writes docs/reference/cluster-results.md from them.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import troubled_shops as shops
from cluster_bed import Bed
from prometheus_on_bed import SOURCE
from shop_on_bed import COLLAPSE, Shop, failed_at_gateways, spec_is_the_teams
from troubled_shops import RATE, Stage, plain

from canary.api.reasons import Phase
from canary.errors import CanaryError
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
FULL = os.environ.get("REPEATS") == "full"
AT_ONCE = 4 if FULL else 3  # shops that play at the same time; with all repeats nothing else runs
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cluster-results.md"
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
POLICY: Mapping[str, Any] = {"analysis": ANALYSIS, "bake": {"duration": "10s"}, "drain": "5s"}
DEFAULT_STEPS = ("0.5%", "1%", "5%", "10%", "25%", "50%", "100%")
FIRST_AT_5 = ("5%", "10%", "25%", "50%", "100%")
SHORT = ("50%", "100%")
SAME = "99 % at once, default steps, and "


@dataclass(frozen=True, slots=True)
class Row:
    """What is played, how often, and how it must end: a collapse at once in Traefik's default steps, if not said."""

    title: str
    repeats: int = 1
    env: Mapping[str, str] = field(default_factory=lambda: COLLAPSE)
    steps: Sequence[str] = DEFAULT_STEPS
    stage: Stage = plain()
    end: Phase = Phase.ROLLED_BACK
    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    alone: bool = False  # the trouble is the whole bed's
    most_lost: int = 40  # orders, in any one run
    most_broken: int = 0  # requests


@dataclass(frozen=True, slots=True)
class Played:
    """One change, as the customers and the record saw it; seconds, None where there was no such moment."""

    outcome: str
    reason: str
    lost: int = 0
    broken: int = 0  # requests without an answer, or answered with an error of the gateway
    loss_seconds: float | None = None  # from the first lost order to the last request of the new version
    gone_seconds: float | None = None  # from the decision to that request
    left_ppm: int = 0  # of the traffic on the new version at the end
    untouched: bool = False  # the Deployment's spec was written by its team alone, but for the hold


LATER = {**COLLAPSE, "SHOP_BUG_AFTER": "60"}  # seconds of a pod's life
ROWS = {
    "healthy": Row("healthy, 50 % then all", 20, {}, SHORT, end=Phase.PROMOTED, most_lost=0),
    "at once": Row("99 % silent collapse at once, default steps", 10),
    "later": Row("99 % silent collapse after 60 s, default steps", 10, LATER),
    "wide": Row("99 % silent collapse at once, first step 5 %", 10, steps=FIRST_AT_5, most_lost=60),
    "envoy": Row("99 % at once, default steps, behind Envoy", 10, stage=plain(envoy=True)),
    "killed": Row(SAME + "the controller is killed", stage=plain(shops.controller_killed)),
    "asleep": Row(SAME + "the controller freezes, wakes later", stage=plain(shops.controller_frozen)),
    "frozen": Row(SAME + "the API server stands still for 20 s", stage=plain(shops.api_server_frozen), alone=True),
    "blind": Row(
        SAME + "Prometheus, which alone counts, dies",
        stage=shops.watched_by_prometheus,
        end=Phase.PAUSED,
        policy={"source": SOURCE},
    ),
    "crashing": Row(
        "its pods crash again and again",
        env={"SHOP_BUG": "crash-loop"},
        policy={"prepareWithin": "20s"},
        most_lost=0,
    ),
    "node": Row(
        SAME + "a pod of the old version is killed",
        stage=plain(shops.old_pod_killed),
        most_broken=60,
        most_lost=100,
    ),
    "fought": Row(SAME + "a bot applies the route every 2 s", stage=plain(shops.route_applied_again), end=Phase.PAUSED),
    "scaled": Row(SAME + "an autoscaler goes from 3 pods to 6", stage=shops.autoscaled),
    "again": Row(SAME + "another such version is pushed", stage=plain(shops.pushed_again)),
    "agent": Row(
        SAME + "an agent and an administrator try nine roads each, the namespace's deletion too",
        stage=shops.guarded,
        alone=True,
    ),
}  # fmt: skip


def play(bed: Bed, name: str, row: Row) -> Played:
    """Open a shop, protect it, push the row's change, make its trouble, and return what became of it."""
    with row.stage(bed, name) as (shop, trouble):
        shop.protect(steps=[{"weight": weight} for weight in row.steps], **{**POLICY, **row.policy})
        shop.push(row.env)
        if trouble is not shops.nothing:
            shop.reach_slice()
            trouble(shop)
        run = shop.reach(row.end)
        seen = _played(shop, run)
        shop.leave()
        return seen


def _played(shop: Shop, run: dict[str, Any]) -> Played:
    sales, status = shop.close_shop(), run["status"]
    new = sales["by_version"].get(manifests.NEW) or {}
    decided = status.get("decidedAt")
    first, last = new.get("first_lost_at"), new.get("last_at")
    return Played(
        outcome=status["phase"],
        reason=status.get("reason", ""),
        lost=sales["total"]["wanted"] - sales["total"]["placed"],
        broken=sales["total"]["broken"] + failed_at_gateways(sales),
        loss_seconds=last - first if first and last else None,
        gone_seconds=last - datetime.fromisoformat(decided).timestamp() if decided and last else None,
        left_ppm=shop.weight_ppm(),
        untouched=spec_is_the_teams(shop),
    )


@pytest.fixture(scope="module")
def played(bed: Bed) -> dict[str, list[Played]]:
    """Play every row, some shops at a time; write the page when these were the full repeats."""
    asked = [(key, number) for key, row in ROWS.items() for number in range(row.repeats if FULL else 1)]
    results: dict[str, list[Played]] = {key: [] for key in ROWS}

    def one(key: str, number: int) -> None:
        try:
            seen = play(bed, f"r-{key.replace(' ', '-')}-{number}", ROWS[key])
        except (AssertionError, RuntimeError, CanaryError) as error:  # the others are still worth their time
            print(f"{key} {number}: {error}")
            seen = Played("did not end", str(error).splitlines()[0])
        print(f"{key} {number}: {seen}")
        results[key].append(seen)

    for key, number in asked:
        if ROWS[key].alone:
            one(key, number)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="shop") as pool:
        work = [pool.submit(one, *each) for each in asked if not ROWS[each[0]].alone]
        for future in work:
            future.result()
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
        "(or Envoy) as the gateway, pods as real processes, real HTTP load; only the kubelet is ours. Every shop takes "
        f"{RATE:.0f} requests a second with one order each, {AT_ONCE} shops at a time on two cores.\n\n"
        f"{table(results)}\n\n"
        "*Lost* are customers who meant to order and got no order number. *Broken* are requests without an answer, or "
        "with an error that no shop gave, of the whole load from before the push to after the end. "
        "A decision *after* the last request of the new version (less than zero) is what a slice of one request in two "
        "seconds brings along: no further one came before the weight was 0.\n"
    )


@pytest.mark.parametrize("key", ROWS)
def test_every_run_ends_as_it_must_with_everybody_on_the_old_version(
    played: dict[str, list[Played]], key: str
) -> None:
    row, runs = ROWS[key], played[key]
    assert {run.outcome for run in runs} == {row.end.value}
    assert {(run.left_ppm, run.untouched) for run in runs} == {(0, True)}
    assert max(run.lost for run in runs) <= row.most_lost, runs
    assert max(run.broken for run in runs) <= row.most_broken, runs


@pytest.mark.parametrize(("key", "most"), [("at once", 12), ("later", 20)])
def test_a_silent_collapse_is_rolled_back_for_few_orders(
    played: dict[str, list[Played]], key: str, most: int
) -> None:
    """The promise is the median of ten; a single run may cost twice that."""
    assert median(run.lost for run in played[key]) <= (most if FULL else 2 * most), played[key]
    assert {run.reason for run in played[key]} == {"OrdersCollapsed"}


@pytest.mark.parametrize(("key", "most"), [("at once", 1.5), ("later", 1.5), ("wide", 1.5), ("envoy", 1.0)])
def test_the_decision_reaches_the_customers(played: dict[str, list[Played]], key: str, most: float) -> None:
    """Traefik publishes at most every 100 ms here."""
    gone = [run.gone_seconds for run in played[key]]
    assert all(seconds is not None and seconds < most for seconds in gone), gone
