"""The screen of one run, letter by letter."""

import pytest
from run_story import NOW, a_run, exposed, rolled_back

from canary.core.telling.arithmetic import explanation, timeline
from canary.core.telling.explain import Scene, Tone
from canary.core.telling.overview import COLUMNS, footer, idle_standing, newest, rows
from canary.core.telling.screen import status_lines
from canary.core.telling.stored import StoredRun
from canary.core.telling.wording import table

ROLLED_BACK = """\
checkout  shop@prod-us                                        run checkout-7f9c2
CUSTOMERS SAFE: v2.30.4 serves 100 %, verified 2.1 s after the decision
v2.31.0 ROLLED BACK after 15 s at 1 %     change: AI-assisted (kiro), by dana
because  orders -100 % [-100,-81] since 03:12:12Z  evidence 7.4e3 > limit 1.0e3
  metric    canary    expected  effect (95 %)      evidence     state
  orders    0         20        -100 % [-100,-81]  ########|##  CROSSED
  errors    0         0.4       -100 % [-100,+820] #       |    clear
  slow      2         1.8       +11 % [-87,+301]   #       |    clear
  traffic   180       179       +0.6 % [-14,..]    #       |    clear
steps  1 % x | 5 % | 10 % | 25 % | 50 % | 100 %   asked 0 %, seen 0 %
time   03:12:04Z start :12 likely break :19 decided :19.2 written :21.1 verified
lost   about 22 orders (13..31); losing now: none
next   nothing to do. Fix and push; attempt 1 of 2; `canary retry` tries the
       same change again"""

EXPOSED = """\
checkout  shop                                                run checkout-7f9c2
WATCHED: 1 % on v2.31.0, no sign of lost orders
v2.31.0 PROGRESSING for 36 s at 1 %     change: AI-assisted (kiro), by dana
because  31 of about 350 orders of evidence
  metric    canary    expected  effect (95 %)      evidence     state
  orders    0         20        -100 % [-100,-81]  #       |    clear
  errors    0         0.4       -100 % [-100,+820] #       |    clear
  slow      2         1.8       +11 % [-87,+301]   #       |    clear
  traffic   180       179       +0.6 % [-14,..]    #       |    clear
steps  1 % < | 5 % | 10 % ? | 25 % | 50 % | 100 %   asked 1 %, seen 1 %
time   03:12:04Z start
lost   about 0 orders (0..2); losing now: no sign of it
next   nothing to do: it goes on by itself, about 2 min of evidence to go"""

HELD = """\
checkout  shop                                                run checkout-7f9c2
CUSTOMERS SAFE: v2.30.4 serves 100 %; v2.31.0 has no traffic yet
v2.31.0 HELD     change: AI-assisted (kiro), by dana
because  5 % waits for a person: `canary approve` or `canary promote`
steps  1 % | 5 % | 10 % | 25 % | 50 % | 100 %   asked 0 %, seen 0 %
time   03:11:34Z recorded
lost   none: it never had traffic
next   `canary approve checkout --reason ...`: 5 % waits for a person: `canary
       approve` or `canary promote`"""

LIST = """\
NAMESPACE  WORKLOAD  PHASE       SLICE  STEP  VERDICT        LOST  ORIGIN  AGE
pay        ledger    Held        0 %    0/6   approvals 0/2  0     ai      1m
shop       checkout  RolledBack  0 %    1/6   orders -100 %  22    ai      1m
web        home      Paused      0 %    0/6   blind 40s      0     ai      1m
1 needs you: pay/ledger (senior); 1 blind: web/home"""

EXPLAINED = """\
Decision   ROLLED BACK at 2026-03-05 03:12:19.0Z, fact OrdersCollapsed: orders
           -100 % [-100,-81]
Question   do requests to v2.31.0 become orders as often as on v2.30.4?
Evidence   orders: 0 seen, 20 expected of as many requests on v2.30.4
           effect -100 % [-100,-81], with 95 % limits for this one look
           it probably began at 2026-03-05 03:12:12.0Z
           this monitor 7.4e3; all together evidence 7.4e3 > limit 1.0e3, which
           is at most 1 false rollback in 1,000 healthy runs
Not this   errors -100 % [-100,+820] (clear); slow +11 % [-87,+301] (clear);
           traffic +0.6 % [-14,..] (clear)
Lost       about 22 orders (13..31)
Known      pattern KP-014 "requests succeed, confirmation never happens": follow
           one order to its end: the answers look well, and nothing is confirmed"""


def screen(run, cluster=""):
    return "\n".join(line.text for line in status_lines(StoredRun(run), Scene(NOW, cluster)))


def held_for_approval(name="checkout-7f9c2", namespace="shop", workload="checkout"):
    run = a_run(name, namespace, workload=workload)
    run["spec"]["safety"] = {"approvals": 2, "seniors": 1}
    message = "5 % waits for a person: `canary approve` or `canary promote`"
    run["status"] |= {"reason": "ApprovalsMissing", "message": message}
    return run


def paused_blind():
    run = a_run("home-1", "web", workload="home")
    blind = "2026-03-05T03:12:00Z"
    return {**run, "status": {"phase": "Paused", "reason": "Blind", "analysis": {"blindSince": blind}}}


def test_a_rollback_is_told_on_one_screen():
    assert screen(rolled_back(), "prod-us") == ROLLED_BACK


def test_a_slice_under_way_is_told_on_one_screen():
    run = exposed()
    run["spec"]["steps"][2]["approval"] = True
    assert screen(run) == EXPOSED


def test_a_held_change_says_what_it_waits_for():
    assert screen(held_for_approval()) == HELD


def test_the_crossed_monitor_is_the_only_line_in_alarm():
    tones = {
        line.text.split()[0]: line.tone for line in status_lines(StoredRun(rolled_back()), Scene(NOW))[5:9]
    }
    assert tones.pop("orders") is Tone.DANGER
    assert set(tones.values()) == {Tone.PLAIN}


def test_the_list_ends_with_who_is_needed():
    runs = [
        StoredRun(run)
        for run in (held_for_approval("ledger-1", "pay", "ledger"), rolled_back(), paused_blind())
    ]
    found = rows(runs, [], Scene(NOW))
    text = "\n".join([*table([COLUMNS, *(row.cells(wide=False) for row in found)]), footer(found)])
    assert text == LIST


def test_a_workload_is_shown_by_the_run_under_way_before_the_newest():
    active, newer = exposed(), rolled_back(a_run("checkout-9"))
    newer["metadata"]["creationTimestamp"] = "2026-03-06T00:00:00Z"
    assert [run.name for run in newest([StoredRun(newer), StoredRun(active)])] == ["checkout-7f9c2"]


def test_a_verdict_is_explained_as_arithmetic():
    assert "\n".join(explanation(StoredRun(rolled_back()))) == EXPLAINED


def test_the_evidence_that_decides_the_origin_is_told():
    run = rolled_back()
    found = [
        ("E1", "unknown", "lookalikes", "in the author"),
        ("E1", "ai", "kiro", "noreply@kiro.dev in\x1b[2J it"),
    ]
    keys = ("level", "says", "source", "detail")
    run["spec"]["change"] |= {
        "origin": "ai",
        "evidence": [dict(zip(keys, each, strict=True)) for each in found],
    }
    lines = explanation(StoredRun(run))
    assert "Origin     AI-assisted (kiro), by dana; E1: kiro, noreply@kiro.dev in [2J it" in lines
    run["spec"]["change"]["evidence"] = "odd"
    assert not [line for line in explanation(StoredRun(run)) if line.startswith("Origin")]


def test_another_monitor_can_be_asked_about():
    text = "\n".join(explanation(StoredRun(rolled_back()), "slow"))
    assert "is v2.31.0 slow more often than v2.30.4?" in text
    assert "slow: 2 seen, 1.8 expected" in text


def test_the_timeline_has_a_row_for_each_thing_that_happened():
    rows = timeline(StoredRun(rolled_back()))
    assert [row.split()[2] for row in rows[1:]] == ["Progressing", "RollingBack", "RolledBack"]


def policy(serving="v2.30.4", *, adopted=False, **conditions):
    said = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    return {"status": {"adopted": adopted, "conditions": said, "serving": {"version": serving}}}


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (policy(Ready=("True", "Idle", "")), "CUSTOMERS SAFE: v2.30.4 serves 100 %, no change is held"),
        (
            policy(Stalled=("True", "PolicyInvalid", "spec.steps: 0s is too short")),
            "NOT PROTECTED (policy invalid): spec.steps: 0s is too short",
        ),
        (
            policy(adopted=True, Stalled=("True", "NoDataYet", "no metric orders_totl")),
            "CHANGES ARE HELD, NONE CAN GO OUT (no data yet): no metric orders_totl",
        ),
        (
            policy("", Stalled=("True", "WorkloadGone", "there is no Deployment web")),
            "NOT PROTECTED (workload gone): there is no Deployment web",
        ),
        (
            policy(Ready=("True", "Observing", "mode Observe: nothing is held or touched")),
            "NOT HELD: mode Observe: nothing is held or touched; a change reaches everybody at once",
        ),
        (policy(""), "NOT PROTECTED YET: no controller has looked at this policy"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_workload_without_a_run_is_called_safe_only_where_it_is_protected(stored, words):
    line = idle_standing(stored)
    assert line.text == words
    assert (line.tone is Tone.SAFE) == words.startswith("CUSTOMERS SAFE")


def test_the_list_names_every_policy_that_protects_nothing():
    metadata = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"target": {"name": "web"}}}
    broken = {**metadata, **policy("", Stalled=("True", "WorkloadGone", "there is no Deployment web"))}
    assert footer(rows([], [broken], Scene(NOW))) == "1 needs you: shop/web (workload gone)"
