"""The whole site falls, or only seems to: drains, blame, and the demand that must not be mistaken for a fall."""

from dataclasses import replace

import pytest
from past_sales import PastSales

from canary.api.reasons import FINAL_PHASES, Phase, Verb
from canary.core.decision import Limits, Run
from canary.lab.rehearsal.scenario import Scenario, Setting
from canary.lab.shop.worlds import Surge, World

LONG_AGO = -10 * 86_400.0
FALL_AT = 70.0  # the first slice begins about 41 s after the start
QUICK = Limits(drain_window_seconds=60.0, site_healthy_seconds=20.0)
SETTING = Setting(
    policy={"steps": [{"weight": "1%"}, {"weight": "100%"}]}, past=PastSales, limits=QUICK, seed=20_260_305
)


def shop(*surges: Surge, **fields: object) -> Scenario:
    scenario = Scenario(replace(SETTING, world=World(surges=surges), **fields))
    scenario.push()
    return scenario


def run_of(scenario: Scenario) -> Run:
    run = scenario.latest_run()
    assert run is not None
    return run


def at_rest(scenario: Scenario) -> bool:
    run = scenario.latest_run()
    return run is not None and run.status.phase in FINAL_PHASES | {Phase.PAUSED}


def phases(run: Run) -> list[Phase]:
    return [entry.phase for entry in run.status.timeline]


def drained_after(run: Run) -> float:
    """Return the seconds from the fall to the decision."""
    assert run.status.started_at is not None
    drained = next(entry.at for entry in run.status.timeline if entry.phase is Phase.DRAINING)
    return (drained - run.status.started_at).total_seconds() + 10.0 - FALL_AT


def test_a_site_that_recovers_without_the_new_version_blames_it() -> None:
    scenario = shop(Surge(0.01, FALL_AT, FALL_AT + 40.0))
    assert scenario.run_until(lambda: at_rest(scenario), 300.0)
    run = run_of(scenario)
    assert phases(run)[-3:] == [Phase.DRAINING, Phase.ROLLING_BACK, Phase.ROLLED_BACK]
    assert 0.0 < drained_after(run) < 30.0
    assert run.status.traffic.observed_ppm == 0
    assert run.status.analysis.worst == "site"
    drained = next(notice for notice in run.status.notices if notice.reason == Phase.DRAINING)
    assert drained.title.startswith("ACTION NEEDED - the whole site fell")
    blamed = run.status.notices[-1].body
    assert "the whole site's orders -" in blamed
    assert "with 1 % on v2.31.0" in blamed
    assert "slice" not in blamed
    site = next(effect for effect in run.status.analysis.effects if effect.name == "site")
    missing = float(site.expected) - float(site.seen)
    assert float(run.status.analysis.lost) == pytest.approx(missing, rel=1e-3)
    assert f"about {missing:.0f} orders" in blamed


def test_a_site_that_recovers_late_leaves_the_cause_open_and_resume_starts_over() -> None:
    scenario = shop(Surge(0.01, FALL_AT, FALL_AT + 120.0))
    assert scenario.run_until(lambda: at_rest(scenario), 400.0)
    run = run_of(scenario)
    assert phases(run)[-2:] == [Phase.DRAINING, Phase.PAUSED]
    assert run.status.traffic.observed_ppm == 0
    scenario.ask(Verb.RESUME)
    scenario.run_for(60.0)
    resumed = run_of(scenario)
    assert resumed.status.phase is Phase.PROGRESSING
    assert resumed.status.traffic.observed_ppm == 10_000
    assert resumed.status.analysis.site == "history and recent"


def test_the_frozen_forecast_outlives_the_controller() -> None:
    scenario = shop(Surge(0.01, FALL_AT, 1e9))
    scenario.run_for(FALL_AT - scenario.clock.monotonic() - 5.0)
    before = run_of(scenario).status.analysis
    scenario.restart()
    assert scenario.run_until(lambda: Phase.DRAINING in phases(run_of(scenario)), 60.0)
    after = run_of(scenario).status.analysis
    assert before.forecast
    assert (after.forecast, after.site) == (before.forecast, "history and recent")


def test_a_sale_that_begins_or_ends_is_no_fall() -> None:
    begins = shop(Surge(10.0, FALL_AT, 1e9))
    ends = shop(Surge(10.0, LONG_AGO, FALL_AT))
    for scenario in (begins, ends):
        scenario.run_for(FALL_AT + 80.0)
        run = run_of(scenario)
        assert run.status.phase is Phase.PROGRESSING
        assert run.status.analysis.site == "history and recent"
        assert run.status.traffic.observed_ppm == 10_000


def test_a_holiday_is_no_fall() -> None:
    scenario = shop(Surge(0.2, LONG_AGO, 1e9))
    scenario.run_for(180.0)
    run = run_of(scenario)
    site = next(effect for effect in run.status.analysis.effects if effect.name == "site")
    assert run.status.phase is Phase.PROGRESSING
    assert float(site.seen) < 0.4 * float(site.expected)  # history alone would have convicted
    assert float(site.evidence_log10) < 0.0


def test_without_a_history_nothing_is_said_of_the_site_and_status_says_so() -> None:
    scenario = shop(Surge(0.01, FALL_AT, 1e9), past=None)
    scenario.run_for(FALL_AT + 60.0)
    analysis = run_of(scenario).status.analysis
    assert analysis.site == "no history"
    assert Phase.DRAINING not in phases(run_of(scenario))
    assert "site" not in [effect.name for effect in analysis.effects]
