"""The table of the incidents tells the truth: every test that it names is there, and every row has one."""

import ast
import re

import pytest
from checkout import ROOT

PAGE = ROOT / "docs/explanation/incidents.md"
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
][1:]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(path: str) -> set[str]:
    """Return the names of the tests that a file holds, whatever they are parametrised with."""
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_names_tests_that_are_there_and_says_how_it_stands(row: list[str]) -> None:
    asked, feature, shown_by, today = row
    assert asked
    assert feature
    assert today
    named = NAMED.findall(shown_by)
    assert named
    assert re.sub(r"[\s,]", "", NAMED.sub("", shown_by)) == ""
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    assert not missing


def test_what_an_identity_decides_is_shown_on_a_real_api_server() -> None:
    on_the_bed = {row[0] for row in ROWS if "tests/cluster/" in row[2]}
    for word in ("December", "February", "flagged", "two people", "on paper", "agents"):
        assert any(word in asked for asked in on_the_bed), word
