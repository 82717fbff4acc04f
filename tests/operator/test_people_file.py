"""The identity map is read anew when it changes, and a map that cannot be read makes everybody a stranger."""

import logging
import os
from pathlib import Path

import pytest

from canary.operator.people import PeopleFile

DANA = "people: [{name: dana, usernames: [dana]}]\n"


def written(path: Path, text: str, at: int) -> None:
    path.write_text(text)
    os.utime(path, (at, at))


def test_people_are_those_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "people.yaml"
    written(path, DANA, 1)
    people = PeopleFile(str(path))
    assert people().owner("dana") is not None
    written(path, DANA + "nobody: [bot]\n", 2)
    assert people().is_machine("BOT")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("people: [", "cannot be read"),
        ("people: [{name: dana, surname: d}]", "surname: is not a known field"),
        (
            "people: [{name: a, usernames: [x]}, {name: b, logins: [X]}]",
            "'x' belongs to two people; an identity is one person's, so merge them",
        ),
        ("people: [{name: a, usernames: [x]}]\nnobody: [x]", "'x' is a person's and nobody's"),
        ("- 1", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_knows_nobody_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, says: str
) -> None:
    path = tmp_path / "people.yaml"
    written(path, DANA, 1)
    people = PeopleFile(str(path))
    assert people().people
    written(path, text, 2)
    with caplog.at_level(logging.ERROR):
        assert people().people == []
        assert people().people == []
    (record,) = caplog.records
    assert says in record.getMessage()
    written(path, DANA, 3)
    assert people().people


def test_a_file_that_is_not_there_knows_nobody_until_it_is(tmp_path: Path) -> None:
    path = tmp_path / "people.yaml"
    people = PeopleFile(str(path))
    assert people().people == []
    written(path, DANA, 1)
    assert people().people
    path.unlink()
    assert people().people == []
    written(path, DANA, 1)
    assert people().people
