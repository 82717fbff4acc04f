"""A pytest plugin: one bed for all tests of this folder, and a namespace of its own for whoever asks for one.

Test modules name it in `pytest_plugins`. Tests that are marked `side_by_side` mostly wait: those of a module begin
together, some at a time, and need nothing but the bed, where each opens a shop of its own. Outside the network that
`make test-cluster` makes, or without the programs that it builds, the tests are skipped with the reason; in CI that is
a failure.
"""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
from cluster_bed import Bed
from enter import INSIDE
from programs import MissingPrograms, find

AT_ONCE = 3
MARK = "side_by_side"
_numbers = itertools.count(1)
_playing: dict[pytest.Item, Future[object]] = {}


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


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Wait for the end of a test that is marked, once all of its module have begun; leave any other to pytest."""
    if pyfuncitem.get_closest_marker(MARK) is None:
        return None
    if pyfuncitem not in _playing:
        _begin(pyfuncitem)
    _playing[pyfuncitem].result()
    return True


def _begin(first: pytest.Function) -> None:
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="story")
    for item in first.session.items:
        if (
            isinstance(item, pytest.Function)
            and item.module is first.module
            and item.get_closest_marker(MARK)
        ):
            given = item.callspec.params if hasattr(item, "callspec") else {}
            _playing[item] = pool.submit(item.obj, first.funcargs["bed"], **given)
    pool.shutdown(wait=False)
