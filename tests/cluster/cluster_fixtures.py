"""A pytest plugin: one bed for all tests of this folder, and a namespace of its own for whoever asks for one.

Test modules name it in `pytest_plugins`. Outside the network that `make test-cluster` makes, or without the programs
that it builds, the tests are skipped with the reason; in CI that is a failure.
"""

import itertools
import os
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from cluster_bed import Bed
from enter import INSIDE
from programs import MissingPrograms, find

_numbers = itertools.count(1)


def go_without(why: str) -> NoReturn:
    """Skip, or in CI fail, with the reason."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{why}; in CI nothing is skipped")
    pytest.skip(why)


@pytest.fixture(scope="session")
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    if INSIDE not in os.environ:
        go_without("needs a network of its own: make test-cluster")
    try:
        programs = find()
    except MissingPrograms as error:
        go_without(str(error))
    bed = Bed(programs)
    terminal: Any = request.config.pluginmanager.getplugin("capturemanager")
    with terminal.global_and_fixture_disabled():
        took = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in bed.started_in.items())
        print(f"\nthe bed is ready: {took}")
    yield bed
    bed.close()


@pytest.fixture
def namespace(bed: Bed) -> str:
    return bed.namespace(f"test-{next(_numbers)}")
