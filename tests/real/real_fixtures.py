"""A pytest plugin: the stories with real processes, begun once and played while other tests of this folder run.

Test modules name it in `pytest_plugins`.
"""

from collections.abc import Iterator

import pytest
from real_stories import Playbill


@pytest.fixture(scope="session")
def playbill() -> Iterator[Playbill]:
    playbill = Playbill()
    yield playbill
    playbill.close()


@pytest.fixture(scope="session")
def meanwhile(request: pytest.FixtureRequest) -> None:
    """Let the stories begin now, if any test was collected that will ask for them."""
    if any("playbill" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("playbill")
