"""The first line of every phase: are customers safe, must somebody act; and what may follow."""

import subprocess
import sys
from copy import deepcopy
from datetime import timedelta

import pytest
from run_story import NOW, a_run, at, exposed, rolled_back

from canary.api.reasons import PPM, Opening, Phase, Reason
from canary.core import intake
from canary.core.telling import explain
from canary.core.telling.arithmetic import explanation
from canary.core.telling.explain import Scene, Tone, effect_text, next_actions, next_sentence, shown, standing
from canary.core.telling.overview import footer, rows
from canary.core.telling.page_texts import Place, Telling, body
from canary.core.telling.screen import status_lines
from canary.core.telling.stored import StoredRun

SCENE = Scene(NOW, "prod-us")
SAFE = Telling(Opening.CUSTOMERS_SAFE, Reason.ROLLED_BACK, "rolled back, nothing to do")


def in_phase(phase, ppm=0, seen=None, **status):
    run = exposed()
    run["status"] |= {"phase": phase, **status}
    run["status"]["traffic"] |= {"weightPpm": ppm, "observedPpm": ppm if seen is None else seen}
    return StoredRun(run)


def with_analysis(run, **analysis):
    run["status"]["analysis"] |= analysis
    return run


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (StoredRun(a_run()), "CUSTOMERS SAFE: v2.30.4 serves 100 %; v2.31.0 has no traffic yet"),
        (StoredRun(exposed()), "WATCHED: 1 % on v2.31.0, no sign of lost orders"),
        (
            StoredRun(with_analysis(exposed(), ordersExpected="0.4")),
            "WATCHED: 1 % on v2.31.0, too few orders at this weight yet to tell",
        ),
        (
            in_phase("Progressing", 10_000, reason="HoldStarted"),
            "WATCHED, DECISION NEEDED: 1 % on v2.31.0, no sign of lost orders",
        ),
        (
            in_phase("Baking", PPM),
            "WATCHED: 100 % on v2.31.0, nobody is left on v2.30.4 to compare with",
        ),
        (in_phase("Paused"), "CUSTOMERS SAFE, DECISION NEEDED: v2.30.4 serves 100 %"),
        (in_phase("Paused", 0, 10_000), "PAUSED: asked 0 %, 1 % still seen on v2.31.0"),
        (
            in_phase("Draining"),
            "ACTION NEEDED: the whole site fell; v2.31.0 has no traffic, the cause is open",
        ),
        (in_phase("Promoted"), "CUSTOMERS SAFE: v2.31.0 serves 100 %, promoted"),
        (
            in_phase("RollingBack", 0, 10_000, reason="RollbackUnverified", decidedAt=at(0)),
            "ACTION NEEDED: rollback not verified for 36 s; asked 0 %, route gives 1 %",
        ),
        (
            in_phase("RolledBack", 0, 10_000),
            "ACTION NEEDED: v2.31.0 still receives 1 % (asked 0 %): `canary abort --now`",
        ),
        (
            StoredRun(rolled_back()),
            "CUSTOMERS SAFE: v2.30.4 serves 100 %, verified 2.1 s after the decision",
        ),
        (in_phase("Sideways", 10_000), "Sideways: 1 % on v2.31.0; this canary is older than the controller"),
    ],
    ids=lambda value: value.phase if isinstance(value, StoredRun) else "",
)
def test_the_first_line_says_whether_customers_are_safe(run, words):
    assert standing(run, SCENE).text == words


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_its_own_first_line(phase):
    assert "older than the controller" not in standing(in_phase(phase.value), SCENE).text


def test_a_dead_controller_with_traffic_on_the_side_is_the_first_thing_said():
    line = standing(StoredRun(exposed()), Scene(NOW, heartbeat_seconds=14.0))
    assert (
        line.text
        == "NOBODY JUDGES: no controller for 14 s, 1 % on v2.31.0. `canary abort --now` works without it"
    )
    assert line.tone is Tone.DANGER
    assert "canary abort checkout --now" in next_sentence(
        StoredRun(exposed()), Scene(NOW, heartbeat_seconds=14.0)
    )


def test_a_dead_controller_harms_nobody_where_nothing_has_traffic():
    assert "NOBODY" not in standing(StoredRun(a_run()), Scene(NOW, heartbeat_seconds=999.0)).text


def test_blindness_at_a_weight_is_said_with_its_age():
    run = exposed()
    run["status"]["analysis"]["blindSince"] = at(-4)
    assert standing(StoredRun(run), SCENE).text == "BLIND: no data for 40 s, 1 % on v2.31.0"
    assert shown(StoredRun(run), NOW)["verdict"] == "blind 40s"


def test_a_suspicion_is_named_before_it_is_proved():
    run = exposed()
    run["status"]["analysis"]["effects"][0] |= {"state": "suspect"}
    assert standing(StoredRun(run), SCENE).text == "SUSPECT: orders -100 % [-100,-81] at 1 % on v2.31.0"


def test_a_preparation_that_does_not_end_asks_for_somebody():
    run = in_phase("Preparing", reason="NoDataYet", phaseStartedAt=at(-300))
    assert next_sentence(run, SCENE).startswith("see to it: nothing begins for")
    quick = in_phase("Preparing", reason="NoDataYet", phaseStartedAt=at(0))
    assert next_sentence(quick, SCENE).startswith("nothing to do")


def test_evidence_is_to_go_only_while_a_step_waits_for_it():
    assert "evidence to go" in next_sentence(in_phase("Progressing", 10_000), SCENE)
    assert "evidence to go" not in next_sentence(in_phase("Baking", PPM), SCENE)


def test_where_nothing_speaks_against_the_change_its_orders_are_explained():
    run = with_analysis(exposed(), worst="errors")
    run["status"]["analysis"]["effects"][1] |= {"evidenceLog10": "-0.6", "state": "clear"}
    assert "become orders as often" in "\n".join(explanation(StoredRun(run)))


def test_a_run_that_reached_its_cap_waits_for_a_person_on_every_surface():
    said = "promoted to 5 % and no further; `canary promote` goes on"
    run = in_phase("Progressing", 10_000, reason="HoldStarted", message=said)
    assert next_sentence(run, SCENE).startswith(
        "`canary promote checkout --reason ...`, or abort: promoted to 5 %"
    )
    assert footer(rows([run], [], SCENE)) == "1 needs you: shop/checkout (promote or abort)"
    assert run.awaits_person


def test_a_few_events_among_none_expected_are_no_effect():
    run = exposed()
    run["status"]["analysis"]["effects"][1] |= {"point": "1.34", "low": "-1.0", "high": "12.5"}
    assert effect_text(StoredRun(run).measured[1]) == "too few to tell"


def test_an_effect_beyond_ten_times_is_told_in_times_on_every_surface():
    run = rolled_back()
    run["status"]["analysis"] |= {"worst": "errors"}
    run["status"]["analysis"]["effects"][1] |= {
        "point": "170.39",
        "low": "94.6",
        "high": "309",
        "state": "crossed",
    }
    run = StoredRun(run)
    assert shown(run, NOW)["verdict"] == "errors 171x"
    assert any("errors 171 times as many [96,310]" in line.text for line in status_lines(run, SCENE))
    assert "errors 171 times as many (95 % CI 96..310)" in body(run, SAFE, Place())
    assert "effect 171 times as many [96,310]" in "\n".join(explanation(run))


def test_a_fall_of_the_whole_site_is_told_as_one():
    run = rolled_back()
    run["status"]["analysis"] |= {"worst": "site"}
    run["status"]["analysis"]["effects"][0] |= {
        "name": "site",
        "point": "-0.98",
        "low": "-0.99",
        "high": "-0.95",
    }
    run = StoredRun(run)
    told = body(run, SAFE, Place())
    assert "the whole site's orders -98 % (95 % CI -99..-95) with 1 % on v2.31.0, 15 s after start" in told
    assert "site: 0 seen, 20 forecast\n" in "\n".join(explanation(run))


def test_the_words_of_kubectl_get_come_from_the_same_author():
    assert shown(StoredRun(rolled_back()), NOW) == {
        "slice": "0 %",
        "step": "1/6",
        "verdict": "orders -100 %",
        "lost": "22",
        "evidence": "3.9/3.0",
        "observed": "0 %",
    }


def test_only_what_the_state_admits_is_offered():
    allowed = {action.verb.value for action in next_actions(StoredRun(exposed())) if action.allowed}
    assert allowed == {"abort", "hold"}
    after = {action.verb.value for action in next_actions(StoredRun(rolled_back())) if action.allowed}
    assert after == {"retry"}
    spent = rolled_back()
    spent["spec"]["attempt"] = 2
    assert not any(action.allowed for action in next_actions(StoredRun(spent)))


def test_the_attempts_told_are_the_attempts_granted():
    assert explain.MAX_ATTEMPTS == intake.MAX_ATTEMPTS


HOSTILE = "\x1b[2J\u202e\n<script>" + "`|" * 400


def poisoned(value):
    """Put hostile text in the place of every text."""
    if isinstance(value, dict):
        return {key: poisoned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner) for inner in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("odd", [{}, [], "text", 7, None, {"x": 1}])
def test_any_record_at_all_makes_a_harmless_screen(odd):
    whole = rolled_back()
    records = [{}, poisoned(whole), {"spec": odd, "status": odd, "metadata": odd}]
    for part in ("spec", "status"):
        for field in whole[part]:
            records.append({**deepcopy(whole), part: {**whole[part], field: odd}})
    for field in whole["status"]["analysis"]:
        broken = deepcopy(whole)
        broken["status"]["analysis"][field] = odd
        records.append(broken)
    for record in records:
        lines = status_lines(StoredRun(record), Scene(NOW + timedelta(days=400), HOSTILE))
        assert all(len(line.text) <= 80 for line in lines)
        assert "\x1b" not in "".join(line.text for line in lines)


def test_the_sentences_need_no_models():
    names = "explain,screen,overview,arithmetic"
    code = f"import sys; from canary.core.telling import {names}; print('pydantic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "False"
