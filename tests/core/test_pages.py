"""What people are told: customers first, then what to do, then numbers; every bad end tells somebody, once."""

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canary.api.policy import Revision
from canary.api.reasons import FINAL_PHASES, Opening, Phase, Reason
from canary.api.run import (
    MAX_NOTICES,
    AnalysisStatus,
    Approval,
    CanaryRunSpec,
    CanaryRunStatus,
    Coordinate,
    Effect,
    Notice,
    PauseStatus,
    SideStatus,
    TimelineEntry,
    TrafficStatus,
)
from canary.core.telling.page_texts import Place, commands
from canary.core.telling.pages import REVIEW_SECONDS, VERIFY_SECONDS, with_due_notices
from canary.core.telling.stored import StoredRun
from canary.lab.apiserver.patch import PATCHES

START = datetime(2026, 3, 5, 3, 12, 4, tzinfo=UTC)
PLACE = Place(
    "prod-us",
    {"report": "https://reports.example/{namespace}/{run}", "runbook": "https://run.example/{workload}"},
)
DIGEST = "sha256:" + "a" * 64
METADATA = {"name": "checkout-7f9c2", "namespace": "shop", "uid": "6f0b0000-0000-0000-0000-000000000001"}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def spec(**change: Any) -> CanaryRunSpec:
    counters = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}
    return CanaryRunSpec.model_validate(
        {
            "policyRef": {"kind": "CanaryPolicy", "name": "checkout"},
            "policy": {"target": {"name": "checkout"}, "analysis": counters},
            "policyDigest": DIGEST,
            "target": {"kind": "Deployment", "name": "checkout"},
            "service": "checkout",
            "revision": Revision(template_hash=DIGEST, version="v2.31.0"),
            "baseline": Revision(template_hash=DIGEST, version="v2.30.4"),
            "change": {"origin": "ai", "agents": ["kiro"], "authors": ["dana"], **change},
            "digest": DIGEST,
            "steps": [{"weight": "1%"}, {"weight": "10%", "approval": True}, {"weight": "100%"}],
            "safety": {"unapprovedMaxPpm": 10_000, "approvals": 2, "seniors": 1},
        }
    )


def exposed(**fields: Any) -> CanaryRunStatus:
    """A run that had 1 % for 15 s, judged 7 s after the likely break."""
    moved = TimelineEntry(
        at=at(0), phase=Phase.PROGRESSING, reason="StepStarted", message="1 %", weight_ppm=10_000
    )
    analysis = AnalysisStatus(
        worst="orders",
        evidence_log10="3.87",
        limit_log10="3.0",
        lost="22",
        lost_low="13",
        lost_high="31",
        likely_start_at=at(8),
        effects=[
            Effect(name="orders", point="-1.0", low="-1.0", high="-0.81", state="crossed"),
            Effect(name="errors", point="0.0", state="clear"),
            Effect(name="slow", point="0.0", state="clear"),
        ],
    )
    known: dict[str, Any] = {
        "phase": Phase.PROGRESSING,
        "reason": "OrdersCollapsed",
        "message": "orders fell",
        "exposed_at": at(0),
        "phase_started_at": at(0),
        "timeline": [moved],
        "analysis": analysis,
        "side": SideStatus(name="checkout-canary", wanted=2, ready=2),
        "traffic": TrafficStatus(weight_ppm=10_000, observed_ppm=10_000),
    }
    return CanaryRunStatus(**{**known, **fields})


def rolled_back(**fields: Any) -> CanaryRunStatus:
    traffic = TrafficStatus(weight_ppm=0, observed_ppm=0, zero_verified_at=at(17.1))
    known = {"phase": Phase.ROLLED_BACK, "decided_at": at(15), "finished_at": at(17.1), "traffic": traffic}
    return exposed(**{**known, **fields})


def leaking(**fields: Any) -> CanaryRunStatus:
    spots = [
        Coordinate(name="checkout", rule=0, canary=1, stable=0),
        Coordinate(name="checkout", rule=1, canary=0, stable=1),
    ]
    traffic = TrafficStatus(weight_ppm=0, observed_ppm=10_000, coordinates=spots)
    known: dict[str, Any] = {
        "phase": Phase.ROLLING_BACK,
        "reason": Reason.ROLLBACK_UNVERIFIED.value,
        "message": 'HTTPRoute write refused: 403 (admission "team-policy")',
        "decided_at": at(15),
        "traffic": traffic,
    }
    return exposed(**{**known, **fields})


def stored(status: CanaryRunStatus, **change: Any) -> StoredRun:
    return StoredRun({"metadata": METADATA, "spec": spec(**change).wire(), "status": status.wire()})


def told(status: CanaryRunStatus, seconds: float = 20.0, **change: Any) -> list[Notice]:
    return with_due_notices(stored(status, **change), [], PLACE, at(seconds))


def test_a_rollback_says_first_that_customers_are_safe() -> None:
    (page,) = told(rolled_back())
    assert page.opening == Opening.CUSTOMERS_SAFE
    assert f"{page.title}\n{page.body}" == (
        "CUSTOMERS SAFE - rolled back, nothing to do\n"
        "checkout v2.31.0 (AI-assisted (kiro), by dana) in prod-us/shop\n"
        "orders -100 % (95 % CI -100..-81) in the 1 % slice, 15 s after start, 7.0 s after it broke\n"
        "all traffic back on v2.30.4, verified in the traffic 2.1 s after the decision; about 22 orders (13..31) lost\n"
        "why: orders, evidence 7.4e3 > limit 1.0e3; errors and slow: no change; pattern KP-014\n"
        "canary explain shop/checkout-7f9c2   report: https://reports.example/shop/checkout-7f9c2"
        "   runbook: https://run.example/checkout"
    )
    assert page.facts["lost"] == "22.0"
    assert page.links["report"].endswith("/shop/checkout-7f9c2")


def test_a_promotion_names_the_numbers_behind_it() -> None:
    orders = Effect(name="orders", seen="1000", expected="990", point="0.01", low="-0.04", high="0.06")
    analysis = AnalysisStatus(evidence_log10="-1.0", limit_log10="3", effects=[orders])
    (note,) = told(finish(Phase.PROMOTED, message="v2.31.0 serves 100 %", analysis=analysis))
    assert note.body.split("\n")[1:3] == [
        "v2.31.0 serves 100 %",
        "promoted with 1,000 orders of 990 expected, +1 % [-4,+6]; evidence 0.1 < limit 1.0e3",
    ]


def test_a_rollback_that_is_not_verified_calls_with_commands_that_need_no_controller() -> None:
    (page,) = told(leaking(), seconds=135)
    assert page.title == "ACTION NEEDED - rollback not verified for 2 min"
    lines = page.body.split("\n")
    assert lines[1] == "it receives 1 % (asked 0 %); v2.30.4 serves the rest"
    assert lines[2] == 'HTTPRoute write refused: 403 (admission "team-policy")'
    assert lines[3] == "do this: canary abort shop/checkout --now"
    assert lines[4].startswith("or:      kubectl -n shop patch httproute checkout --type=json -p '[")
    assert lines[5].startswith("or:      kubectl -n shop scale deployment/checkout-canary --replicas=0")


def route(refs: list[list[str]]) -> dict[str, Any]:
    rules = [{"backendRefs": [{"name": name, "weight": 0} for name in names]} for names in refs]
    return {"metadata": {"name": "checkout"}, "spec": {"rules": rules}}


def patch_of(status: CanaryRunStatus) -> list[dict[str, Any]]:
    command = next(c for c in commands(stored(status), Reason.ROLLBACK_UNVERIFIED) if " patch " in c)
    return json.loads(shlex.split(command)[-1])


def test_the_patch_by_hand_takes_the_canary_out_and_gives_stable_a_weight() -> None:
    apply = PATCHES["application/json-patch+json"]
    patched = apply(
        route([["checkout", "checkout-canary"], ["checkout-canary", "checkout"]]), patch_of(leaking())
    )
    for rule in patched["spec"]["rules"]:
        assert rule["backendRefs"] == [{"name": "checkout", "weight": 1}]


def test_the_patch_by_hand_refuses_a_list_that_was_moved_since() -> None:
    apply = PATCHES["application/json-patch+json"]
    with pytest.raises(Exception, match="test"):
        apply(route([["checkout-canary", "checkout"], ["checkout-canary", "checkout"]]), patch_of(leaking()))


def test_a_command_is_whole_or_not_there() -> None:
    spots = [Coordinate(name="checkout", rule=rule, canary=1, stable=0) for rule in range(64)]
    status = leaking(traffic=TrafficStatus(observed_ppm=10_000, coordinates=spots))
    assert all(" patch " not in command for command in commands(stored(status), Reason.ROLLBACK_FAILED))
    (page,) = told(status, seconds=135)
    assert page.body.count("'") % 2 == 0


def finish(phase: Phase, **fields: Any) -> CanaryRunStatus:
    return rolled_back(phase=phase, **fields)


def entry(reason: Reason, seconds: float = 10.0) -> TimelineEntry:
    return TimelineEntry(
        at=at(seconds), phase=Phase.PROGRESSING, reason=reason.value, message="m", weight_ppm=10_000
    )


NEVER_EXPOSED: dict[str, Any] = {"timeline": [], "exposed_at": None, "analysis": AnalysisStatus()}
PAUSE = PauseStatus(
    since=at(15), reason="Blind", message="no usable data for 10 s", resume_phase=Phase.PREPARING
)
AT_ZERO = TrafficStatus()
HELD = {"held_by": "lee", "timeline": [entry(Reason.HOLD_STARTED, 0)]}
STATES = {
    "rolled back": (rolled_back(), 20, Opening.CUSTOMERS_SAFE),
    "rolled back, never exposed": (rolled_back(**NEVER_EXPOSED), 20, Opening.CUSTOMERS_SAFE),
    "aborted with traffic": (finish(Phase.ABORTED), 20, Opening.CUSTOMERS_SAFE),
    "aborted without": (finish(Phase.ABORTED, **NEVER_EXPOSED), 20, Opening.NONE),
    "rejected": (finish(Phase.REJECTED, **NEVER_EXPOSED), 20, Opening.NONE),
    "promoted": (finish(Phase.PROMOTED), 20, Opening.NONE),
    "superseded": (finish(Phase.SUPERSEDED), 20, Opening.NONE),
    "final and still leaking": (
        leaking(phase=Phase.SUPERSEDED, reason="TemplateChanged"),
        20,
        Opening.ACTION_NEEDED,
    ),
    "rollback unverified": (leaking(), 135, Opening.ACTION_NEEDED),
    "rollback refused": (leaking(reason="RollbackFailed"), 20, Opening.ACTION_NEEDED),
    "paused and still leaking": (
        leaking(phase=Phase.PAUSED, reason="WeightDrift", pause=PAUSE),
        16 + VERIFY_SECONDS,
        Opening.ACTION_NEEDED,
    ),
    "draining": (exposed(phase=Phase.DRAINING, traffic=AT_ZERO), 20, Opening.ACTION_NEEDED),
    "commit stalled": (exposed(phase=Phase.COMMITTING, reason="CommitStalled"), 700, Opening.ACTION_NEEDED),
    "blind with a weight": (exposed(analysis=AnalysisStatus(blind_since=at(0))), 40, Opening.ACTION_NEEDED),
    "paused": (
        exposed(phase=Phase.PAUSED, pause=PAUSE, reason="Blind", traffic=AT_ZERO),
        20,
        Opening.DECISION_NEEDED,
    ),
    "approval too old": (exposed(reason="ApprovalsMissing"), REVIEW_SECONDS + 60, Opening.DECISION_NEEDED),
    "hold too old": (exposed(**HELD), REVIEW_SECONDS + 60, Opening.DECISION_NEEDED),
    "guard gone": (exposed(reason="GuardMissing"), 20, Opening.ACTION_NEEDED),
    "released under way": (
        exposed(phase=Phase.PAUSED, pause=PAUSE, timeline=[entry(Reason.UNPAUSED_BY_OTHERS)]),
        20,
        Opening.ACTION_NEEDED,
    ),
    "audit broken": (exposed(timeline=[entry(Reason.AUDIT_WRITE_FAILED)]), 20, Opening.ACTION_NEEDED),
    "break-glass": (exposed(timeline=[entry(Reason.BYPASS_USED)]), 20, Opening.ACTION_NEEDED),
    "our own defect": (exposed(timeline=[entry(Reason.INVARIANT_BROKEN)]), 20, Opening.ACTION_NEEDED),
    "deleted and recreated": (
        finish(Phase.SUPERSEDED, timeline=[entry(Reason.WORKLOAD_RECREATED)]),
        20,
        Opening.ACTION_NEEDED,
    ),
}


@pytest.mark.parametrize(("status", "seconds", "opening"), STATES.values(), ids=STATES.keys())
def test_every_state_that_concerns_people_tells_them_and_how_loudly(
    status: CanaryRunStatus, seconds: float, opening: Opening
) -> None:
    pages = told(status, seconds)
    assert pages, "nobody is told"
    loudest = pages[-1]
    assert loudest.opening == opening
    assert loudest.title.startswith(f"{opening.value} - " if opening.value else "checkout v2.31.0")
    assert "checkout v2.31.0" in loudest.body
    assert "canary explain shop/checkout-7f9c2" in loudest.body
    if opening is Opening.ACTION_NEEDED:
        assert re.search(r"^do this: (canary|kubectl) ", loudest.body, re.MULTILINE)


def test_every_final_phase_tells_something() -> None:
    for phase in FINAL_PHASES:
        for status in (finish(phase), finish(phase, **NEVER_EXPOSED)):
            assert told(status), phase


QUIET = {
    "held": CanaryRunStatus(phase_started_at=at(0)),
    "preparing": CanaryRunStatus(phase=Phase.PREPARING, phase_started_at=at(0)),
    "taking traffic back": leaking(reason="RollbackStarted"),
    "blind for a moment": exposed(analysis=AnalysisStatus(blind_since=at(0)), exposed_at=None),
    "no data at weight 0": CanaryRunStatus(
        phase=Phase.PREPARING, analysis=AnalysisStatus(blind_since=at(-999))
    ),
    "approval asked just now": CanaryRunStatus(reason="ApprovalsMissing", phase_started_at=at(0)),
    "traffic returning": leaking(phase=Phase.RETURNING, reason="ReturnStarted", decided_at=None),
}


@pytest.mark.parametrize("status", QUIET.values(), ids=QUIET.keys())
def test_what_concerns_nobody_pages_nobody(status: CanaryRunStatus) -> None:
    assert told(status, seconds=16) == []


def test_the_same_state_is_told_once_however_often_it_is_looked_at() -> None:
    notices: list[Notice] = []
    for second in range(100):
        notices = with_due_notices(stored(rolled_back()), notices, PLACE, at(20 + second))
    assert len(notices) == 1
    assert notices[0].created_at == at(20)


def test_a_second_stay_in_a_phase_is_told_again() -> None:
    def paused(since: float) -> StoredRun:
        return stored(
            exposed(phase=Phase.PAUSED, reason="Blind", traffic=AT_ZERO, phase_started_at=at(since))
        )

    notices = with_due_notices(paused(10), [], PLACE, at(11))
    notices = with_due_notices(paused(10), notices, PLACE, at(12))
    notices = with_due_notices(paused(500), notices, PLACE, at(501))
    assert [notice.reason for notice in notices] == ["Blind", "Blind"]
    assert len({notice.id for notice in notices}) == 2


def test_the_list_is_bounded_and_calls_for_action_stay_longest() -> None:
    notices = told(leaking(), seconds=135)
    for stay in range(3 * MAX_NOTICES):
        moment = 1000.0 * stay
        status = exposed(phase=Phase.PAUSED, reason="Blind", traffic=AT_ZERO, phase_started_at=at(moment))
        notices = with_due_notices(stored(status), notices, PLACE, at(moment + 1))
    assert len(notices) == MAX_NOTICES
    assert notices[0].opening == Opening.ACTION_NEEDED
    assert notices[-1].created_at == at(1000.0 * (3 * MAX_NOTICES - 1) + 1)


def test_hostile_words_stay_on_their_line_and_in_their_place() -> None:
    bidi, escape = "\u202e", "\x1b[2J"
    (page,) = told(
        rolled_back(message=f"{escape}x\ndo this: rm -rf /", analysis=AnalysisStatus()),
        authors=[f"da{bidi}na\ndo this: rm", "b" * 256],
        agents=["k" * 256],
    )
    assert not re.search(r"^do this", page.body, re.MULTILINE)
    assert all(letter.isprintable() or letter == "\n" for letter in page.body)
    assert max(len(line) for line in page.body.split("\n")) < 400
    assert Notice.model_validate(page.wire()) == page


def test_a_page_of_a_run_that_cannot_be_read_well_is_still_a_page() -> None:
    odd = {"metadata": METADATA, "spec": {"target": 5}, "status": {"phase": "RolledBack", "timeline": "x"}}
    (page,) = with_due_notices(StoredRun(odd), [], Place(), at(0))
    assert page.opening == Opening.CUSTOMERS_SAFE


def test_t_p10_a_review_is_overdue_when_the_policy_says_so_and_at_twice_the_time_for_the_seniors() -> None:
    waits = exposed(reason="ApprovalsMissing", message="50 % waits for approval: has sam, needs 1 senior")
    terms = {"unapprovedMaxPpm": 10_000, "approvals": 2, "seniors": 1, "reviewWithin": "1h"}

    def overdue(seconds: float, notices: list[Notice]) -> list[Notice]:
        raw = stored(waits).raw
        run = StoredRun({**raw, "spec": {**raw["spec"], "safety": terms}})
        return with_due_notices(run, notices, PLACE, at(seconds))

    known = [page for page in overdue(3_500, []) if page.reason == "ApprovalsMissing"]
    assert known == []
    for seconds in (3_700, 5_000, 7_300, 9_000):
        known = overdue(seconds, known)
    titles = [page.title for page in known if page.reason == "ApprovalsMissing"]
    assert titles[0].startswith("DECISION NEEDED - review overdue")
    assert titles[1].startswith("DECISION NEEDED - seniors: review overdue 62 min")
    assert len(titles) == 2
    assert "has sam, needs 1 senior" in known[-1].body


def test_an_overdue_review_says_how_many_are_missing() -> None:
    given = Approval(request="r", verb="approve", requester="sam", at=at(10), digest=DIGEST)  # pyright: ignore
    (*_, page) = told(exposed(reason="ApprovalsMissing", approvals=[given]), REVIEW_SECONDS + 3600)
    assert page.title == "DECISION NEEDED - review overdue 60 min"
    assert "1 of 2 approvals" in page.body
    assert "canary approve shop/checkout" in page.body


def half_way_back() -> tuple[CanaryRunStatus, dict[str, Any]]:
    """Return a run by pods whose commit was taken back, and its policy."""
    traffic = TrafficStatus(way_back_ppm=1_000_000, zero_verified_at=at(40))
    status = CanaryRunStatus(phase=Phase.ABORTED, reason="ByPerson", traffic=traffic, decided_at=at(20))
    counters = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}
    policy = {
        "target": {"name": "checkout"},
        "analysis": counters,
        "route": {"kind": "EndpointSlice"},
        "tier": 2,
    }
    return status, policy


def test_half_a_way_back_is_never_told_as_safe() -> None:
    status, policy = half_way_back()
    run = {**spec().wire(), "policy": policy}
    stored_run = StoredRun({"metadata": METADATA, "spec": run, "status": status.wire()})
    pages = with_due_notices(stored_run, [], PLACE, at(60))
    page = pages[-1]
    assert page.opening == Opening.ACTION_NEEDED
    assert Opening.CUSTOMERS_SAFE not in {each.opening for each in pages}
    assert "checkout's own pods still serve v2.31.0; apply the manifest of v2.30.4" in page.title
    assert "do this: kubectl -n shop apply -f <the manifest of v2.30.4>" in page.body
    assert "100 %" not in page.body


def test_the_patch_by_hand_empties_a_slice() -> None:
    spot = Coordinate(resource="endpointslices", name="checkout-canary", rule=0, canary=0, stable=0)
    traffic = TrafficStatus(weight_ppm=250_000, observed_ppm=250_000, coordinates=[spot])
    status = CanaryRunStatus(
        phase=Phase.PROGRESSING, traffic=traffic, side=SideStatus(name="checkout-canary")
    )
    (by_hand,) = [each for each in commands(stored(status), Reason.BLIND) if " patch " in each]
    kind, name, *_ = by_hand.partition(" patch ")[2].split()
    assert (kind, name) == ("endpointslices", "checkout-canary")
    steps = json.loads(shlex.split(by_hand)[-1])
    piece = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.7"]}]}
    assert PATCHES["application/json-patch+json"](piece, steps) == {**piece, "endpoints": []}
