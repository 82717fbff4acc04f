"""What all tests share: the rule that a missing program is a skip with a reason, and in CI a failure."""

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """Return the path of `name`; skip the test where it is not installed, fail it in CI."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed, and in CI nothing is skipped")
    pytest.skip(f"needs {name}, which is not installed here")
