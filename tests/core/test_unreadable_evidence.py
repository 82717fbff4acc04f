"""Stored evidence that is not ours to read: the slice goes, nothing advances, and a person starts over."""

from datetime import UTC, datetime

import pytest
from machine_world import SPEC

from canary.api.reasons import Phase, Reason, Verdict
from canary.api.run import AnalysisStatus, CanaryRunStatus, TrafficStatus
from canary.core.analysis import Looked, analyse
from canary.core.decision import Run
from canary.core.detect.counters import Reading
from canary.core.evidence import Finding
from canary.core.memory import remember, texts

START = datetime(2026, 3, 5, tzinfo=UTC)


def run(phase: Phase, weight_ppm: int) -> Run:
    status = CanaryRunStatus(
        phase=phase, started_at=START, step=0, traffic=TrafficStatus(weight_ppm=weight_ppm)
    )
    return Run("shop", "run", "uid", 1, SPEC, with_start(status))


def with_start(status: CanaryRunStatus) -> CanaryRunStatus:
    analysis = AnalysisStatus(started_at=START)
    return status.model_copy(update={"analysis": analysis, "step_started_at": START, "exposed_at": START})


def look(at: float, requests: float) -> Looked:
    counts = {"orders": requests / 4, "requests": requests}
    readings = [Reading("old/1", False, at, -100.0, counts), Reading("new/1", True, at, -100.0, counts)]
    return Looked(at, readings, {"old/1": False, "new/1": True}, route_ppm=10_000)


def judged(stored: str) -> Finding:
    exposed = run(Phase.PROGRESSING, 10_000)
    memory = remember(AnalysisStatus(state=stored))
    for at in range(1, 4):
        analysed = analyse(exposed, memory, look(float(at), 400.0 * at))
        memory = analysed.memory
    assert isinstance(analysed.finding, Finding)
    return analysed.finding


@pytest.mark.parametrize("stored", ['{"v": 99}', "{", "[]", '{"v": 1, "monitors": {}}', "null"])
def test_an_unreadable_state_holds_and_counts_as_blind(stored: str) -> None:
    finding = judged(stored)
    assert (finding.verdict, finding.reason) == (Verdict.HOLD, Reason.STATE_UNREADABLE)
    assert finding.blind_seconds >= run(Phase.PROGRESSING, 0).limits.blind_seconds
    assert "canary resume" in finding.message


def test_a_readable_state_is_judged() -> None:
    exposed = run(Phase.PROGRESSING, 10_000)
    memory = remember(AnalysisStatus())
    for at in range(1, 4):
        memory = analyse(exposed, memory, look(float(at), 400.0 * at)).memory
    assert judged(texts(memory)["state"]).reason is not Reason.STATE_UNREADABLE


def test_a_person_who_resumes_starts_with_fresh_evidence() -> None:
    memory = remember(AnalysisStatus(state="{"))
    assert memory.unreadable
    again = analyse(run(Phase.PREPARING, 0), memory, look(5.0, 100.0)).memory
    assert again.unreadable == ""
    assert analyse(run(Phase.PROGRESSING, 10_000), again, look(6.0, 500.0)).memory.detector is not None


def test_a_state_that_is_older_than_the_run_is_not_counted_twice() -> None:
    """What was kept between writes is lost with the process; the next difference covers the gap, once."""
    exposed = run(Phase.PROGRESSING, 10_000)
    memory = remember(AnalysisStatus())
    for at in range(1, 4):
        memory = analyse(exposed, memory, look(float(at), 400.0 * at)).memory
    written = AnalysisStatus(**texts(memory), started_at=START)
    kept = memory
    for at in range(4, 9):
        kept = analyse(exposed, kept, look(float(at), 400.0 * at)).memory
    reborn = analyse(exposed, remember(written), look(8.0, 3_200.0)).memory
    assert kept.detector is not None
    assert reborn.detector is not None
    assert reborn.detector.step.requests == pytest.approx(kept.detector.step.requests)
