"""The benchmark's page: figures in, Markdown and SVG out. Every number on the page comes from the run that wrote it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import rules
from measure import EARLY, OURS, Healthy, Result
from sites import SITE_WORLDS
from streams import Cell, Fault
from worlds import WORLDS

mpl.use("svg")
from matplotlib import pyplot as plt

RULES = (
    EARLY, OURS, "orders alone, calibrated", "oracle", "CUSUM", "plain e-process",
    "naive ratio", "Argo-like", "Flagger-like 5", "Kayenta-like, stock",
)  # fmt: skip
SHOWN = (EARLY, OURS, "oracle", "CUSUM", "plain e-process", "naive ratio", "Argo-like", "Flagger-like 5",
         "Kayenta-like, stock")  # fmt: skip
CAUGHT = 0.99
LIMIT = 0.001
Figures = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """Something that was set out to be reached, and what came out."""

    text: str
    figure: str
    reached: bool


@dataclass(frozen=True)
class Mean:
    """Geometric mean over the cells in which the rule catches 99 %, and how many these are."""

    value: float
    cells: int


def mean(figures: Figures, fault: Fault, rule: str, cells: Sequence[Cell]) -> Mean:
    logs = []
    for cell in cells:
        found: Result = figures["done"]["cell", str(cell)][fault.name][rule]
        if found.caught >= CAUGHT:
            logs.append(log(found.lost / rules.floor(cell, fault.ratio)))
    return Mean(exp(sum(logs) / len(logs)), len(logs)) if logs else Mean(0.0, 0)


def goals(figures: Figures, faults: Sequence[Fault], cells: Sequence[Cell]) -> list[Goal]:
    """Say what was aimed at and what came out."""
    out = []
    for fault, rule, aim in (
        (faults[0], OURS, 2.3), (faults[1], OURS, 2.9), (faults[2], OURS, 2.8), (faults[3], OURS, 3.0),
        (faults[0], EARLY, 1.8), (faults[1], EARLY, 2.4), (faults[2], EARLY, 2.5), (faults[3], EARLY, 3.0),
    ):  # fmt: skip
        got = mean(figures, fault, rule, cells)
        text = f"loss of {fault.name}, {rule}: at most {aim} times the bound"
        out.append(Goal(text, f"{got.value:.2f} ({got.cells} cells)", 0 < round(got.value, 1) <= aim))
    worst = max(_false_shares(figures), key=lambda pair: pair[1])
    out.append(Goal("false rollbacks in every healthy world, at most 0.1 %", f"{100 * worst[1]:.3g} % in {worst[0]}",
                    worst[1] <= LIMIT))  # fmt: skip
    ramps = _ramps(figures)
    false = sum(ramp.verdict != "" for runs in ramps.values() for ramp in runs)
    count = sum(map(len, ramps.values()))
    out.append(
        Goal("false verdicts in healthy ramps of up to 3 h, at most 1", f"{false} of {count}", false <= 1)
    )
    for rate, first, aim in (
        (100.0, 5_000, 10.0), (100.0, 50_000, 10.0), (10.0, 5_000, 60.0), (10.0, 100_000, 60.0),
    ):  # fmt: skip
        middle = median(ramp.seconds or 1e9 for ramp in ramps[rate, first]) / 60.0
        text = f"healthy ramp to 25 % at {rate:g}/s in {aim:g} min, median, from {first / 1e4:g} %"
        out.append(Goal(text, _minutes(middle), middle <= aim))
    seconds = figures["done"]["errors", 0.01].seconds[OURS]
    out.append(Goal("1 % more errors rolled back in 30 s (median)", f"{seconds:.0f} s", 0 < seconds <= 30.0))
    for look, aim in ((5.0, 20.0), (1.0, 6.0)):
        slowest = max(
            figures["done"]["site fault", rate, 0.01, look].seconds for rate in (10.0, 100.0, 1000.0)
        )
        text = f"site collapse of 99 % at 10/s and more drained in {aim:g} s, looks every {look:g} s"
        out.append(Goal(text, f"{slowest:.1f} s", 0 < slowest <= aim))
    drains = sum(
        figures["done"]["site world", name].false for name in ("flash sale", "end of a flash sale", "holiday")
    )
    out.append(Goal("false drains in flash sale, its end, holiday: none", str(drains), drains == 0))
    return out


def _minutes(value: float) -> str:
    return f"{value:.1f} min" if value < 1e6 else "not within 3 h"


def _false_shares(figures: Figures) -> Iterable[tuple[str, float]]:
    for key, world in figures["done"].items():
        if key[0] == "world":
            for watched in (world.fixed, world.early):
                yield f"{key[1]}, {key[2]}", watched.alarms / world.runs


def _ramps(figures: Figures) -> dict[tuple[float, int], list[Any]]:
    out: dict[tuple[float, int], list[Any]] = {}
    for key, value in figures["done"].items():
        if key[0] == "ramp":
            out.setdefault(key[1:3], []).append(value)
    return out


def page(figures: Figures, faults: Sequence[Fault], cells: Sequence[Cell]) -> str:
    size, seed = figures["size"], figures["seed"]
    runs = f"{size.faults} runs a cell, thresholds of the rivals from {size.nulls:,} healthy runs a cell, seed {seed}"
    parts = [
        "# Benchmark: how near to the bound",
        "Written by `make bench`; nothing here is typed by hand. The worlds, the faults and the rules of others are "
        "described in `tests/bench/`; why the promise holds is told in [the verdict](../explanation/verdict.md).",
        "*Lost* are orders that the canary's customers did not get, up to the end of the look that raised the alarm. "
        "The *bound* is what any test must lose that rolls back at most 0.1 % of healthy runs, even if it knew when "
        "the fault begins and how large it is. Both **canary** rows are the whole family of monitors at its promised "
        "limit. The rivals judge orders per request here, each with the threshold that 0.1 % of healthy runs exceed; "
        "what they ship looks at HTTP success and never sees a lost order.",
        "## Goals",
        _table(("goal", "figure", ""), [(g.text, g.figure, "reached" if g.reached else "**missed**") for g in
                                        goals(figures, faults, cells)]),
        "The goals are given to one decimal, and compared so. Why some are missed is told in "
        "[the verdict](../explanation/verdict.md#what-it-costs-at-best).",
        "## Orders lost, as a multiple of the bound",
        "![Orders lost as a multiple of the bound](benchmark-bound.svg)",
        f"Geometric mean of lost / max(bound, half a look of 5 s) over the {len(cells)} cells of 1, 10, 100, 1,000 "
        f"orders/s with 0.5, 1, 5, 10 % in which the rule catches 99 %, and in brackets how many these are. {runs}.",
        _table(("rule", *(fault.name for fault in faults)),
               [(rule, *(_mean(mean(figures, fault, rule, cells)) for fault in faults)) for rule in RULES]),
        *(_collapse(figures, fault, cells) for fault in faults),
        _worlds(figures), _errors(figures), _site(figures), _ramp_part(figures), _cost(figures),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _mean(value: Mean) -> str:
    return f"{value.value:.2g} ({value.cells})" if value.cells else "never"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _collapse(figures: Figures, fault: Fault, cells: Sequence[Cell]) -> str:
    rows = []
    for cell in cells:
        found = figures["done"]["cell", str(cell)][fault.name]
        least = rules.bound(cell, fault.ratio)
        seconds = least / (cell.rate * cell.share * (1.0 - fault.ratio))
        rows.append((str(cell), f"{least:.3g} / {seconds:.2g}", *(_lost(found[rule]) for rule in SHOWN)))
    text = "Orders lost / seconds to the alarm, means; a share: of the runs that were caught, if below 99 %."
    return f"## Loss of {fault.name}\n\n{text}\n\n" + _table(("orders/s, slice", "bound", *SHOWN), rows)


def _lost(found: Result) -> str:
    if found.caught == 0.0:
        return "never"
    share = "" if found.caught >= CAUGHT else f", {100 * found.caught:.0f} %"
    return f"{_number(found.lost)} / {_number(found.seconds)}{share}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _share(part: float) -> str:
    if part == 0:
        return "0"
    return f"{100 * part:.0f} %" if part >= 0.1 else f"{100 * part:.2g} %"


def _worlds(figures: Figures) -> str:
    size, seed, done = figures["size"], figures["seed"], figures["done"]
    rivals = ("CUSUM", "naive ratio", "Argo-like", "Flagger-like 10", "Kayenta-like, stock")
    rows = []
    for name in WORLDS:
        world: Healthy = done["world", name, "100/s, 5 %"]
        others = [done["world", name, str(cell)] for cell in (Cell(10.0, 0.05), Cell(1000.0, 0.10))]
        rows.append((
            name.replace("-", " "), f"{world.phi:.3g}",
            *(_share(watched.alarms / world.runs) for watched in (world.fixed, world.early)),
            *(" · ".join(_share(w.alarms / other.runs) for w in (other.fixed, other.early)) for other in others),
            _share(world.early.held / world.runs), f"{world.early.looks:,.0f}",
            *(_share(world.rivals[rival]) for rival in rivals),
        ))  # fmt: skip
    head = ("world", "φ", "looks every 5 s", "early looks", "10/s, 5 %: 5 s · early", "1,000/s, 10 %: 5 s · early",
            "ever held", "looks in the hour", *rivals)  # fmt: skip
    return (
        "## Healthy hours that are rolled back\n\n![False rollbacks by world](benchmark-worlds.svg)\n\n"
        f"At 100 orders/s and 5 %, {size.nulls:,} runs a world and column (Kayenta-like 300); at 10/s and 1,000/s "
        f"{size.few:,} runs. φ is the noise factor of orders, measured on stable pods as in production. "
        f"The rivals keep their threshold of the base world. Seed {seed}.\n\n" + _table(head, rows)
    )


def _errors(figures: Figures) -> str:
    done = figures["done"]
    extras = [key[1] for key in done if key[0] == "errors"]
    names = list(done["errors", extras[0]].seconds)
    rows = [
        (f"+{100 * extra:g} %", *(_seconds(done["errors", extra], name) for name in names))
        for extra in extras
    ]
    text = (
        f"A share of requests more fails from 20 min on, at 100 orders/s (5,000 requests/s) and 5 %; seconds, median "
        f"of {figures['size'].faults} runs."
    )
    return f"## Errors\n\n{text}\n\n" + _table(("errors", *names), rows)


def _seconds(found: Any, name: str) -> str:
    return f"{found.seconds[name]:.0f}" if found.caught[name] > 0 else "never"


def _site(figures: Figures) -> str:
    done, size = figures["done"], figures["size"]
    worlds = [
        (name, f"{done['site world', name].false} of {done['site world', name].runs:,}")
        for name in SITE_WORLDS
    ]
    faults = [key for key in done if key[0] == "site fault"]
    rates, kept = sorted({key[1] for key in faults}), sorted({key[2] for key in faults})
    rows = [
        (
            f"{rate:,.0f}/s",
            *(
                " · ".join(_drain(done["site fault", rate, part, look]) for look in (5.0, 1.0))
                for part in kept
            ),
        )
        for rate in rates
    ]
    count = size.histories * size.site_faults
    return (
        "## Falls of the whole site\n\nSeconds from the fall to the drain, median, with looks every 5 s · 1 s; in "
        f"brackets the share that was drained. {count} runs a cell, {size.histories} histories of 14 days.\n\n"
        + _table(("orders/s", *(f"-{100 * (1 - part):.0f} %" for part in kept)), rows)
        + "\n\nHealthy days of 100 orders/s that were drained or rolled back:\n\n"
        + _table(("day", "false"), worlds)
    )


def _drain(found: Any) -> str:
    return f"{found.seconds:.1f} ({100 * found.drained:.0f} %)" if found.drained else "never"


def _ramp_part(figures: Figures) -> str:
    rows = []
    for (rate, first), runs in sorted(_ramps(figures).items(), key=lambda pair: (-pair[0][0], pair[0][1])):
        reached = [ramp.seconds / 60.0 for ramp in runs if ramp.seconds]
        words = Counter(ramp.verdict for ramp in runs if ramp.verdict)
        rows.append((
            f"{rate:,.0f}/s", f"{first / 1e4:g} %", str(len(runs)), f"{len(reached)}",
            f"{median(reached):.1f} min" if reached else "not within 3 h",
            ", ".join(f"{count} {word}" for word, count in words.items()) or "none",
        ))  # fmt: skip
    head = ("orders/s", "first slice", "runs of 3 h", "reached 25 %", "median time", "false verdicts")
    return (
        "## Healthy ramps\n\nThrough the product's own judge, looks every 5 s: 0.5, 1, 5, 10, 25 % by evidence "
        "alone, or the same plan begun with a larger slice. In a small shop a collapse costs about as many orders at "
        "5 % as at 0.5 % (tables above), so a larger first slice saves hours there and loses little. A shop of one "
        "order a second stays at its first slices, and the status says how many orders are still needed.\n\n"
        + _table(head, rows)
    )


def _cost(figures: Figures) -> str:
    cost = figures["cost"]
    return (
        f"## Cost\n\nThe whole family, pure Python, one core of the machine that wrote this page, best of five: "
        f"{cost['update']:.0f} µs to fold a look, {cost['judge']:.0f} µs to judge it; {cost['characters']:,.0f} "
        "characters of stored state."
    )


def plots(figures: Figures, faults: Sequence[Fault], cells: Sequence[Cell], out: Path) -> None:
    """Draw the two pictures of the page; the same figures give the same bytes."""
    mpl.rcParams.update(
        {"svg.hashsalt": "canary", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    )
    _bound_plot(figures, faults[:3], cells, out / "benchmark-bound.svg")
    _worlds_plot(figures, out / "benchmark-worlds.svg")


def _bound_plot(figures: Figures, faults: Sequence[Fault], cells: Sequence[Cell], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8.5, 5.2), layout="constrained")
    colours = ("#1f6f8b", "#d1495b", "#8d99ae")
    for row, fault in enumerate(faults):
        for at, rule in enumerate(SHOWN):
            value = mean(figures, fault, rule, cells)
            if value.cells:
                y = at + (row - 1) * 0.26
                axes.barh(y, value.value, 0.24, color=colours[row], label=fault.name if at == 0 else None)
                axes.text(value.value * 1.05, y, f"{value.value:.2g}", va="center", fontsize=8)
    axes.set_yticks(range(len(SHOWN)), SHOWN)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, 300)
    axes.set_xticks(
        [0.5, 1, 2, 5, 10, 20, 50, 100, 200], ["0.5", "1", "2", "5", "10", "20", "50", "100", "200"]
    )
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("orders lost / the bound (or half a look of 5 s), geometric mean; 1 is the bound")
    axes.legend(title="loss of orders", frameon=False, loc="upper right")
    _save(figure, path)


def _worlds_plot(figures: Figures, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8.5, 5.2), layout="constrained")
    runs = figures["size"].nulls
    for rule, colour, mark in (
        ("naive ratio", "#8d99ae", "s"), ("Argo-like", "#edae49", "^"), ("Flagger-like 10", "#d1495b", "v"),
        (EARLY, "#1f6f8b", "o"),
    ):  # fmt: skip
        shares = []
        for name in WORLDS:
            world: Healthy = figures["done"]["world", name, "100/s, 5 %"]
            shares.append(world.early.alarms / world.runs if rule == EARLY else world.rivals[rule])
        floor = 0.3 / runs
        axes.plot(
            [max(share, floor) * 100 for share in shares], range(len(WORLDS)), mark, color=colour, label=rule
        )
    axes.set_yticks(range(len(WORLDS)), [name.replace("-", " ") for name in WORLDS])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(0.1, color="black", linewidth=1, linestyle="--")
    axes.text(0.105, len(WORLDS) - 0.5, "the promise", fontsize=8)
    axes.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    axes.set_xlabel(f"healthy hours rolled back, %; the leftmost column is none of {runs:,}")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")
