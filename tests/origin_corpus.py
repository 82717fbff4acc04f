"""A corpus of commits that agents signed: every mark of the table, in each layout of a message, in each disguise.

Made from the table itself, so that a signature that is added there is looked for everywhere by the tests.
"""

from collections.abc import Callable, Iterator

from canary.core.rules.origin import Commit
from canary.core.rules.signatures import SIGNATURES

DANA, SHA = "Dana Doe <dana@example.com>", "0123456789abcdef0123456789abcdef01234567"
PROSE = "Move the confirmation call\n\nThe old library is out of support.\n"
LOOKALIKE = str.maketrans({"a": "а", "e": "е", "o": "о", "c": "с", "p": "р", "i": "і", "A": "Α", "C": "С"})
Disguise = Callable[[str], str]

DISGUISES: dict[str, Disguise] = {
    "as it is": str,
    "shouted": str.upper,
    "with lookalike letters": lambda text: text.translate(LOOKALIKE),
    "with wide letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "with invisible characters": "\u200b".join,
    "with accents": lambda text: text.replace("e", "e\u0301").replace("o", "ö"),
}
LAYOUTS: dict[str, Disguise] = {
    "as a trailer": lambda line: f"{PROSE}\n{line}\n",
    "with CRLF": lambda line: f"{PROSE}\n{line}\nSigned-off-by: {DANA}\n".replace("\n", "\r\n"),
    "folded": lambda line: f"{PROSE}\n{line.replace(' ', chr(10) + '  ', 1)}\n",
    "in a squash": lambda line: f"Release 2 (#7)\n\n* First\n\n> {line}\n\n* Second\n\n{PROSE}",
    "in the log of a squash": lambda line: (
        f"Squashed commit of the following:\n\ncommit {SHA}\nAuthor: {DANA}\n\n    First\n\n    {line}\n"
    ),
    "in the middle": lambda line: f"{PROSE}\n{line}\n\n{PROSE}\n\nReviewed-by: {DANA}\n",
}


def commit(message: str = PROSE, author: str = DANA, committer: str = DANA) -> Commit:
    return Commit(SHA, author, committer, message)


def signed_lines() -> Iterator[tuple[str, str]]:
    """Every line by which an agent of the table signs a message, with the agent."""
    for each in SIGNATURES:
        yield from ((each.agent, f"Co-authored-by: Somebody {mark}") for mark in each.marks)
        yield from (
            (each.agent, f"Co-authored-by: X <{number}+x@users.noreply.github.com>")
            for number in each.accounts
        )
        yield from ((each.agent, f"Co-authored-by: {name.rstrip('*')} <>") for name in each.names)
        yield from ((each.agent, f"{trailer.capitalize()}: 42") for trailer in each.trailers)


def people() -> Iterator[tuple[str, str]]:
    """Every author, committer or opener that is an agent."""
    for each in SIGNATURES:
        yield from ((each.agent, mark) for mark in each.marks)
        yield from ((each.agent, f"X <{number}+x@users.noreply.github.com>") for number in each.accounts)
        yield from ((each.agent, f"{name.replace('*', ' 5')} <dana@example.com>") for name in each.names)
        yield from ((each.agent, f"Dana ({name.replace('*', '')}) <dana@example.com>") for name in each.names)


LINES, PEOPLE = list(signed_lines()), list(people())
MESSAGES = [
    (agent, f"{how}, {where}: {line}", lay(disguise(line)))
    for agent, line in LINES
    for how, disguise in DISGUISES.items()
    for where, lay in LAYOUTS.items()
]
