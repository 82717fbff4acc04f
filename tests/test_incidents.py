"""The tables of the incidents and of the attacks tell the truth: what they name is there, and every row has a test."""

import ast
import re

import pytest
from checkout import ROOT

EXPLANATION = ROOT / "docs/explanation"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ON_THE_BED = "tests/cluster/test_cluster_attacks.py"


def rows(page: str) -> list[list[str]]:
    """Return the cells of a page's table, without its head."""
    lines = (EXPLANATION / page).read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("| \n").split(" | ")] for line in lines if line.startswith("| ")
    ][1:]


INCIDENTS = [(row[0], row[2]) for row in rows("incidents.md")]
ATTACKS = [(row[0], row[3]) for row in rows("attacks.md")]


def functions_of(path: str) -> set[str]:
    """Return the names of the tests that a file holds, whatever they are parametrised with."""
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", rows("incidents.md") + rows("attacks.md"), ids=lambda row: row[0][:40])
def test_a_row_has_four_cells_that_say_something(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row)


@pytest.mark.parametrize(("what", "shown_by"), INCIDENTS + ATTACKS, ids=lambda cell: cell[:40])
def test_a_row_names_tests_that_are_there(what: str, shown_by: str) -> None:
    named = NAMED.findall(shown_by)
    assert named, what
    assert re.sub(r"[\s,]", "", NAMED.sub("", shown_by)) == ""
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    assert not missing


def test_what_an_identity_decides_is_shown_on_a_real_api_server() -> None:
    on_the_bed = {asked for asked, shown_by in INCIDENTS if "tests/cluster/" in shown_by}
    for word in ("December", "February", "flagged", "two people", "on paper", "agents"):
        assert any(word in asked for asked in on_the_bed), word


def test_all_attacks_are_in_the_table_each_with_its_own_test_on_a_real_api_server() -> None:
    assert [number for number, _ in ATTACKS] == [f"A{number}" for number in range(1, 23)]
    named = {
        (number, name)
        for number, shown_by in ATTACKS
        for path, name in NAMED.findall(shown_by)
        if path == ON_THE_BED
    }
    there = {name for name in functions_of(ON_THE_BED) if re.match(r"test_a\d\d_", name)}
    assert {(f"A{int(name[6:8])}", name) for name in there} == named
    assert {number for number, _ in named} == {number for number, _ in ATTACKS}
