"""What all contracts share: a promise that raises where it is broken, and the list of a contract's checks.

A contract is a module of named checks that need no test runner: each takes one thing to try (a server, a router, a
sink) and raises AssertionError with a sentence. The test suite runs them against what is built in, and you against
what you write.
"""

import sys
from collections.abc import Callable
from inspect import isfunction
from typing import TypeVar

T = TypeVar("T")


def expect(holds: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence where a promise is broken."""
    if not holds:
        raise AssertionError(sentence)


def checks_of(module: str, bed: type[T]) -> tuple[Callable[[T], None], ...]:
    """Return the functions of a module that take a `bed` and nothing else, in the order in which they stand there."""
    functions = (value for value in vars(sys.modules[module]).values() if isfunction(value))
    return tuple(each for each in functions if list(each.__annotations__.values()) == [bed, None])
