"""The arrays say what the product says: look by look, for each run, in every world, to a billionth."""

import numpy as np
import pytest
from measure import _next_looks
from sites import SiteStreams, SiteWorld
from streams import Arm, Cell, Fault, Look, Streams
from vectorised import Family
from worlds import WORLDS

from canary.core.detect import pace
from canary.core.detect.counters import Counts, Sample, SiteCounts
from canary.core.detect.family import Settings, State, judge, start, update

RUNS, LOOKS = 4, 120
FAULT = Fault("half of the orders, some errors, from 5 min on", 300.0, ratio=0.5, errors=0.01)
PHI = {"orders": 2.3, "errors": 1.7, "traffic": 25.0}


def counts(arm: Arm, run: int) -> Counts:
    orders, requests, errors, slow = (float(count[run]) for count in arm.counts)
    return Counts(orders, requests, errors, slow)


def sample(look: Look, run: int, t: float, weight: float, site: SiteCounts | None = None) -> Sample:
    return Sample(
        t,
        round(weight * 1_000_000),
        counts(look.canary, run),
        counts(look.baseline, run),
        site,
        complete=bool(look.complete[run]),
        reset=bool(look.reset[run]),
    )


@pytest.mark.parametrize("share", [0.01, 0.6])
@pytest.mark.parametrize("name", WORLDS)
def test_every_run_has_the_evidence_that_the_product_finds(name: str, share: float) -> None:
    settings, cell = Settings(phi=PHI if "bursts" in name else {}), Cell(100.0, share)
    streams = Streams(cell, WORLDS[name], FAULT, RUNS, np.random.default_rng([3, round(100 * share)]))
    family, states = Family(settings, RUNS, share), [start(settings) for _ in range(RUNS)]
    rng = np.random.default_rng(1)
    for _ in range(LOOKS):
        look = streams.look(rng.uniform(0.25, 5.0, RUNS))
        family.update(look)
        for run in range(RUNS):
            states[run] = update(settings, states[run], sample(look, run, float(streams.t[run]), share))
        assert family.log_f == pytest.approx([state.log_f for state in states], abs=1e-9)
        assert _next_looks(family) == pytest.approx([asked(settings, state) for state in states], abs=1e-9)


def asked(settings: Settings, state: State) -> float:
    said = judge(settings, state, None)
    return pace.next_look(
        5.0,
        step_seconds=state.t,
        gained=said.gained,
        evidence_log=said.evidence_log,
        orders_expected=said.orders.expected,
    )


def test_a_falling_site_has_the_evidence_that_the_product_finds() -> None:
    streams = SiteStreams(Cell(100.0, 0.05), SiteWorld(), 0.1, RUNS, np.random.default_rng(8))
    settings = Settings(theta_hist=streams.forecast.theta_hist, theta_recent=streams.forecast.theta_recent)
    family, states = Family(settings, RUNS, 0.05), [start(settings) for _ in range(RUNS)]
    for _ in range(250):
        look, (orders, expected, level) = streams.look(5.0)
        family.update(look, (orders, expected, level))
        for run in range(RUNS):
            site = SiteCounts(float(orders[run]), float(expected[run]), float(expected[run] * level[run]))
            states[run] = update(settings, states[run], sample(look, run, float(streams.t[run]), 0.05, site))
        assert family.log_f == pytest.approx([state.log_f for state in states], abs=1e-9)
    assert max(family.log_f) > settings.limit_log
