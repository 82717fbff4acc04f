"""The pattern of an outcome is named where it fits, in the verdict, the explanation and the page."""

from copy import deepcopy
from typing import Any

import pytest
from checkout import ROOT
from pattern_reference import page
from run_story import NOW, a_run, at, effect, exposed, rolled_back

from canary.cli.documents import verdict_document
from canary.core.rules.outcome_patterns import OUTCOMES, outcome_of
from canary.core.telling.arithmetic import explanation
from canary.core.telling.page_texts import Place
from canary.core.telling.pages import with_due_notices
from canary.core.telling.stored import StoredRun


def ended(*effects: Any, **status: Any) -> StoredRun:
    run = rolled_back()
    run["status"]["analysis"]["effects"] = list(effects) or run["status"]["analysis"]["effects"]
    run["status"] |= status
    return StoredRun(run)


def crossed(name: str, point: str = "1") -> dict[str, Any]:
    return effect(name, ("10", "5"), (point, point, point), "4", "crossed")


def clear(name: str, point: str = "0") -> dict[str, Any]:
    return effect(name, ("5", "5"), (point, "-0.1", "0.1"), "0", "clear")


def entry(reason: str, phase: str = "Paused") -> list[dict[str, Any]]:
    return [{"at": at(15), "phase": phase, "reason": reason, "message": "so", "weightPpm": 10_000}]


LATE = {"decidedAt": at(3_600)}
STEPS = [
    {"at": at(n), "phase": "Progressing", "reason": "StepStarted", "message": "", "weightPpm": ppm}
    for n, ppm in enumerate((10_000, 50_000, 100_000, 250_000))
]
FITS = [
    ("KP-014", ended()),
    ("KP-011", ended(clear("orders"), crossed("late-promises"), **LATE)),
    ("KP-012", ended(crossed("orders", "-0.5"), clear("traffic", "1.2"), **LATE)),
    ("KP-013", ended(clear("orders"), phase="Paused", timeline=entry("SideNotReady"))),
    ("KP-013", ended(clear("orders"), timeline=entry("PreparationExpired", "RolledBack"))),
    ("KP-015", ended(crossed("memory-bytes"), **LATE)),
    ("KP-016", ended(crossed("errors"))),
    ("KP-017", ended(clear("orders"), timeline=entry("SideSilent", "RolledBack"))),
    ("KP-018", ended(crossed("site", "-0.9"), timeline=entry("SiteFell", "RolledBack"))),
    ("KP-019", ended(crossed("site", "-0.9"), phase="Draining", timeline=entry("SiteFell", "Draining"))),
    ("KP-020", ended(crossed("slow"), timeline=STEPS, **LATE)),
]
NONE = [
    ended(crossed("orders", "-0.3"), **LATE),
    ended(crossed("errors"), **LATE),
    ended(phase="Promoted"),
    ended(phase="Aborted"),
    StoredRun(exposed()),
    StoredRun(a_run()),
    StoredRun({}),
]


@pytest.mark.parametrize(("name", "run"), FITS, ids=[name for name, _ in FITS])
def test_an_outcome_is_named_by_its_pattern(name: str, run: StoredRun) -> None:
    found = outcome_of(run)
    assert found is not None
    assert found.id == name


@pytest.mark.parametrize("run", NONE)
def test_what_fits_no_pattern_is_given_no_name(run: StoredRun) -> None:
    assert outcome_of(run) is None


def test_every_outcome_pattern_has_a_run_that_fits() -> None:
    assert {each.id for each in OUTCOMES} == {name for name, _ in FITS} == {f"KP-0{n}" for n in range(11, 21)}


def test_the_same_name_stands_in_the_document_the_explanation_and_the_page() -> None:
    run = StoredRun(deepcopy(rolled_back()))
    title = "requests succeed, confirmation never happens"
    assert verdict_document(run)["pattern"] == {"id": "KP-014", "title": title}
    known = [line for line in explanation(run) if line.startswith("Known")]
    assert known == [f'Known      pattern KP-014 "{title}":'] or known[0].startswith(
        "Known      pattern KP-014"
    )
    (notice,) = with_due_notices(run, [], Place("prod-us"), NOW)
    assert "; pattern KP-014" in notice.body


def test_the_page_in_the_docs_is_the_generated_one() -> None:
    assert (ROOT / "docs/reference/patterns.md").read_text() == page(), "write it anew with `make docs`"
