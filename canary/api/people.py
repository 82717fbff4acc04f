"""People: who is behind the logins, mails and accounts that a cluster and a forge know. The controller's identity map.

A file that is mounted in the controller, written by those who answer for identities. Two logins of one person are one
person; an approval is counted only where it is certain that its person did not write the change.
"""

import unicodedata
from collections import Counter
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, model_validator

from canary.api.types import Model, Word

Identity = Annotated[str, Field(min_length=1, max_length=256)]
Identities = Annotated[list[Identity], Field(max_length=32)]


def plain_identity(text: str) -> str:
    """Return an identity as it is compared: of "Dana <dana@example.com>" the mail, in one spelling and case."""
    text = unicodedata.normalize("NFKC", text)
    _, bracket, rest = text.rpartition("<")
    return (rest.partition(">")[0] if bracket else text).strip().casefold()


class Person(Model):
    """One human being."""

    name: Word
    """What people call them."""
    usernames: Identities = []
    """Users of the cluster, as the API server sees them."""
    mails: Identities = []
    """Addresses that they commit with."""
    logins: Identities = []
    """Accounts at the forge."""
    keys: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=8)] = []
    """Public halves of their security keys, as ssh-keygen writes them: sk-ssh-ed25519@openssh.com AAAA..."""


class People(Model):
    """The identity map."""

    people: Annotated[list[Person], Field(max_length=10_000)] = []
    """Everybody who writes or approves changes."""
    nobody: Annotated[list[Identity], Field(max_length=1_000)] = []
    """Bots and accounts of machines: as an author they are no person, and they never approve."""

    @model_validator(mode="after")
    def _everybody_is_one(self) -> Self:
        names = [person.name for person in self.people]
        owned = [name for person in self.people for name in _identities(person)]
        twice = [name for name, count in Counter(owned).items() if count > 1] or [
            name for name, count in Counter(names).items() if count > 1
        ]
        if twice:
            raise ValueError(
                f"{twice[0]!r} belongs to two people; an identity is one person's, so merge them"
            )
        both = set(owned) & self._machines
        if both:
            raise ValueError(f"{min(both)!r} is a person's and nobody's; keep it in one of the two lists")
        return self

    @cached_property
    def _owners(self) -> dict[str, Person]:
        return {name: person for person in self.people for name in _identities(person)}

    @cached_property
    def _machines(self) -> frozenset[str]:
        return frozenset(plain_identity(name) for name in self.nobody)

    def owner(self, identity: str) -> Person | None:
        """Return whose this user, mail or login is; None where nobody's that is known."""
        return self._owners.get(plain_identity(identity))

    def is_machine(self, identity: str) -> bool:
        return plain_identity(identity) in self._machines


def _identities(person: Person) -> set[str]:
    return {plain_identity(name) for name in (*person.usernames, *person.mails, *person.logins)}
