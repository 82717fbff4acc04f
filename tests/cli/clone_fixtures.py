"""A pytest plugin: `clone` is a repository in which a test runs, `canary` is one command line in process.

Test modules name it in `pytest_plugins`.
"""

import os
from pathlib import Path

import pytest
from clone import Canary, Clone

from canary.cli.main import main


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A repository in which the test runs, outside of any CI."""
    for name in [each for each in os.environ if each.startswith(("GITHUB_", "GITLAB_", "CI_"))]:
        monkeypatch.delenv(name)
    made = Clone(tmp_path / "clone")
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def canary(capsys: pytest.CaptureFixture[str]) -> Canary:
    """Run one command line; return the exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as ending:  # of argparse
            code = int(ending.code or 0)
        return code, *capsys.readouterr()

    return run
