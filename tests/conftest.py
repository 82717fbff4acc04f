"""What all tests share: a missing program is a skip with a reason, and in CI a failure; Ctrl-C reaches our children.

A shell starts what it puts in the background with SIGINT ignored, and a program hands that on to all that it starts.
Then no test could interrupt anything.
"""

import os
import shutil
import signal
from typing import NoReturn

import chart
import pytest
from programs import locate

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = (
    "tests/core/test_machine_exhaustive.py",
    "tests/simulation/",
    "tests/lab/test_demo_record.py",
    "tests/test_docs.py",
    "tests/metrics/",
    "tests/cluster/test_cluster_results.py",
    "tests/cluster/test_cluster_attacks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take a minute each, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def require_program(name: str) -> str:
    """Return the path of `name`; skip the test where it is not installed, fail it in CI."""
    path = shutil.which(name)
    return path if path is not None else go_without(f"{name}, which is not installed here")


def require_helm() -> str:
    """Return the path of helm, installed or built for the tests; skip the test where it is neither, fail it in CI."""
    path = locate("helm")
    return str(path) if path is not None else go_without(f"helm: {chart.HOW}")


def go_without(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}; in CI nothing is skipped")
    pytest.skip(f"needs {what}")
