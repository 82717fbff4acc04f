"""A pytest plugin: one embedded cluster for all tests of the command line; each test finds it empty.

Test modules name it in `pytest_plugins`.
"""

from collections.abc import Iterator

import pytest
from cli_bed import Bed


@pytest.fixture(scope="session")
def whole_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    bed = Bed(tmp_path_factory.mktemp("cli"))
    yield bed
    bed.stop()


@pytest.fixture
def cli(whole_bed: Bed) -> Bed:
    whole_bed.clear()
    return whole_bed
