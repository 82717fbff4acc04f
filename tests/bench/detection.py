"""How near the judge comes to what any honest test could do, and how others do on the same streams: `make bench`.

Writes docs/reference/benchmark.md and the plots beside it; nothing in that page is typed by hand. `--quick` takes a
few runs of each kind and writes nowhere unless `--out` says where.
"""

import argparse
import pickle
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import measure
import report
from sites import SITE_WORLDS, SiteWorld
from streams import Cell, Fault
from worlds import WORLDS

ROOT = Path(__file__).resolve().parents[2]
RATES, SHARES = (1.0, 10.0, 100.0, 1000.0), (0.005, 0.01, 0.05, 0.10)
CELLS = [Cell(rate, share) for rate in RATES for share in SHARES]
FAULTS = [
    Fault("99 % at once", 0.0, 0.01),
    Fault("99 % at 20 min", 1200.0, 0.01),
    Fault("50 % at 20 min", 1200.0, 0.50),
    Fault("20 % at 20 min", 1200.0, 0.80),
    Fault("10 % at 20 min", 1200.0, 0.90),
]
MAIN, SLOW_SHOP, BIG_SHOP = Cell(100.0, 0.05), Cell(10.0, 0.05), Cell(1000.0, 0.10)
EXTRA_ERRORS = (1.0, 0.2, 0.05, 0.02, 0.01)
RAMPS = {  # orders a second, first slice in ppm -> share of the ramps
    (1000.0, 5_000): 0.04,
    (100.0, 5_000): 1.0,
    (100.0, 50_000): 0.2,
    (10.0, 5_000): 0.08,
    (10.0, 100_000): 0.08,
    (1.0, 5_000): 0.04,
}
KEPT = (0.01, 0.10, 0.30)  # what a site that falls keeps of its orders


@dataclass(frozen=True)
class Size:
    """How many runs of each kind, by default as the goals name them."""

    faults: int = 300
    nulls: int = 10_000
    few: int = 1_000
    ramps: int = 500
    histories: int = 20
    site_runs: int = 100
    site_faults: int = 10
    stride: int = 1  # every so many cells

    @property
    def cells(self) -> list[Cell]:
        return CELLS[:: self.stride]


QUICK = Size(faults=20, nulls=200, few=50, ramps=25, histories=2, site_runs=10, site_faults=10, stride=5)


def figures(size: Size, seed: int, jobs: int) -> dict[str, Any]:
    """Measure everything, `jobs` processes at a time; the cost of an update last, when nothing else runs."""
    with ProcessPoolExecutor(jobs) as pool:
        limits = pool.submit(measure.rival_limits, MAIN, size.nulls, seed).result()
        asked: dict[tuple[Any, ...], Future[Any]] = {}
        for cell in sorted(size.cells, key=lambda cell: -cell.rate):
            asked["cell", str(cell)] = pool.submit(
                measure.collapses, cell, FAULTS, size.faults, size.nulls, seed
            )
        for name in WORLDS:
            asked["world", name, str(MAIN)] = pool.submit(
                measure.healthy_world, name, MAIN, size.nulls, seed, limits
            )
            for cell in (SLOW_SHOP, BIG_SHOP):
                asked["world", name, str(cell)] = pool.submit(
                    measure.healthy_world, name, cell, size.few, seed, {}
                )
        for extra in EXTRA_ERRORS:
            asked["errors", extra] = pool.submit(measure.errors, extra, size.faults, seed)
        for name, world in SITE_WORLDS.items():
            shape = (size.histories, size.site_runs)
            asked["site world", name] = pool.submit(measure.site, world, 100.0, 1.0, 5.0, shape, seed)
        for rate in RATES:
            for kept in KEPT:
                for look in (5.0, 1.0):
                    shape = (size.histories, size.site_faults)
                    asked["site fault", rate, kept, look] = pool.submit(
                        measure.site, SiteWorld(), rate, kept, look, shape, seed
                    )
        for (rate, first), share in RAMPS.items():
            for number in range(max(2, round(size.ramps * share))):
                asked["ramp", rate, first, number] = pool.submit(
                    measure.ramp, rate, first, 3.0, seed + number
                )
        done = {key: _told(key, future) for key, future in asked.items()}
    return {"size": size, "seed": seed, "done": done, "cost": measure.cost()}


def _told(key: tuple[Any, ...], future: Future[Any]) -> Any:
    value = future.result()
    if key[0] != "ramp":
        print(f"{perf_counter() - BEGAN:6.0f} s  {' · '.join(map(str, key))}", file=sys.stderr, flush=True)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few runs of each kind")
    parser.add_argument("--out", type=Path, help="folder of benchmark.md; default docs/reference")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="keep the figures in this file")
    parser.add_argument("--read", type=Path, help="write the page from kept figures, measure nothing")
    given = parser.parse_args()
    if given.read is not None:
        measured = pickle.loads(given.read.read_bytes())
    else:
        measured = figures(QUICK if given.quick else Size(), given.seed, given.jobs)
    if given.keep is not None:
        given.keep.write_bytes(pickle.dumps(measured))
    cells = measured["size"].cells
    out = given.out or (None if given.quick else ROOT / "docs" / "reference")
    page = report.page(measured, FAULTS, cells)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "benchmark.md").write_text(page)
        report.plots(measured, FAULTS, cells, out)
    for goal in report.goals(measured, FAULTS, cells):
        print(f"{'reached' if goal.reached else 'MISSED '}  {goal.text}: {goal.figure}")


BEGAN = perf_counter()
if __name__ == "__main__":
    main()
