"""A route that lost the run's weight: given back, but not where a controller took it and died before it said why."""

from dataclasses import replace
from typing import Any

from ruled_run import situation

from canary.api.reasons import MissingReason, Phase, Reason, Verdict
from canary.core import machine
from canary.core.actions import SetWeight
from canary.core.decision import Decision, change
from canary.core.evidence import Finding, Missing

CALM = Finding(Verdict.CONTINUE, Reason.EVIDENCE_GROWING, "61 of 350 orders")
SUSPECT = Finding(Verdict.HOLD, Reason.EVIDENCE_SUSPECT, "orders is suspect")
UNKNOWN = Missing(MissingReason.TIMED_OUT)


def decided(finding: Any, *, cut: bool, phase: Phase = Phase.PROGRESSING) -> Decision:
    """Decide where the status asks for 1 % and the route gives nothing; `cut`: by a rollback that is in no status."""
    asked = situation(evidence={"finding": finding})
    assert asked.evidence.route is not None
    epoch = asked.status.traffic.epoch + cut
    route = replace(asked.evidence.route, weight_ppm=0, epoch=epoch, last_epoch=epoch)
    placed = replace(asked, evidence=replace(asked.evidence, route=route))
    return machine.decide(placed.with_status(change(placed.status, phase=phase)))


def weights(decision: Decision) -> list[int]:
    return [each.weight_ppm for each in decision.actions if isinstance(each, SetWeight)]


def test_a_weight_that_the_route_lost_is_given_back() -> None:
    for finding in (CALM, SUSPECT, UNKNOWN):
        assert weights(decided(finding, cut=False)) == [10_000]


def test_a_weight_that_a_dead_controller_took_waits_for_evidence() -> None:
    assert weights(decided(UNKNOWN, cut=True)) == []
    assert weights(decided(CALM, cut=True)) == [10_000]


def test_where_nothing_is_judged_nobody_waits_for_evidence() -> None:
    assert weights(decided(UNKNOWN, cut=True, phase=Phase.RETURNING)) == [10_000]


def test_where_the_evidence_is_suspect_its_rollback_is_finished() -> None:
    decision = decided(SUSPECT, cut=True)
    assert decision.status.phase is Phase.ROLLING_BACK
    assert decision.status.traffic.weight_ppm == 0
    assert "ended before it said why. orders is suspect" in decision.status.message
