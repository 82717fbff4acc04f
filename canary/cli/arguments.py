"""Flags that several verbs share, and the types of flags.

Enters: what the user typed. Leaves: a value, or a refusal with an example of what is meant. The verbs' `configure`
functions call this; nothing here knows a cluster.
"""

import re
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from canary.cli.kubeconfig import Access

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
TARGET_HELP = (
    "[NAMESPACE/]NAME of a policy or Deployment, deploy/NAME, run/NAME; absent: the only run under way"
)
Options = TypeVar("Options")


class Flags(Protocol):
    """A parser, or a group of its flags."""

    def add_argument(self, *names: str, **how: Any) -> Action: ...


def add_text(flags: Flags, flag: str, metavar: str, help: str) -> None:
    """Add a flag that takes a text; absent: empty."""
    flags.add_argument(flag, default="", metavar=metavar, help=help)


def add_texts(flags: Flags, flag: str, metavar: str, help: str) -> None:
    """Add a flag that may be given again and again; absent: an empty list."""
    flags.add_argument(flag, action="append", default=[], metavar=metavar, help=help)


def add_switch(flags: Flags, *names: str, help: str) -> None:
    """Add a flag that is given or not."""
    flags.add_argument(*names, action="store_true", help=help)


def options_of(kind: type[Options], given: Namespace, **further: Any) -> Options:
    """Return the options that the flags fill by their names; one whose flag was not given has its own default."""
    named = {each.name: getattr(given, each.name) for each in fields(kind) if each.name in given}  # pyright: ignore[reportArgumentType]
    taken = {name: tuple(value) if isinstance(value, list) else value for name, value in named.items()}
    return kind(**{**taken, **further})


def add_access(parser: ArgumentParser) -> None:
    """Add the flags that say which cluster, as whom and in which namespace."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "-n", "--namespace", default="", metavar="NAME", help="namespace; absent: the context's"
    )
    add_text(group, "--context", "NAME", "context of the kubeconfig")
    add_text(group, "--kubeconfig", "FILE", "kubeconfig; absent: as kubectl finds it")
    group.add_argument(
        "--controller-namespace", default="canary-system", metavar="NAME", help="where the controller runs"
    )


def access_of(given: Namespace) -> Access:
    return Access(given.kubeconfig, given.context, given.namespace, given.controller_namespace)


def add_output(parser: ArgumentParser, formats: Sequence[str]) -> None:
    """Add -o; the first format is the default."""
    parser.add_argument("-o", "--output", choices=formats, default=formats[0], help="form of the output")


def add_target(parser: ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", default="", metavar="TARGET", help=TARGET_HELP)


def add_patience(parser: ArgumentParser, default: float) -> None:
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=default,
        metavar="DURATION",
        help=f"how long to wait for the controller; default {default:.0f}s",
    )


def seconds(text: str) -> float:
    """Read "90s", "45m", "1h30m" or plain seconds."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        return float(text)
    if not re.fullmatch(r"([0-9]{1,6}(ms|s|m|h|d)){1,5}", text):
        raise ArgumentTypeError(f'{text!r} is no duration; write for example "90s", "45m" or "1h30m"')
    return sum(int(count) * _UNIT_SECONDS[unit] for count, unit in re.findall(r"([0-9]+)(ms|s|m|h|d)", text))


def percentage(text: str) -> str:
    """Read "25%" or "0.5%"; it goes to the API server as written."""
    if not re.fullmatch(r"(100|[0-9]{1,2}(\.[0-9]{1,4})?)%", text):
        raise ArgumentTypeError(f'{text!r} is no percentage; write for example "25%"')
    return text


def fraction(text: str) -> float:
    """Read "0.99" or "99%" as a share from 0 to 1."""
    value = _number(text[:-1]) / 100 if text.endswith("%") else _number(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f'{text!r} is no share; write for example "0.99" or "99%"')
    return value


def positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1e9:
        raise ArgumentTypeError(f"{text!r} is not above 0")
    return value


def counting(text: str) -> int:
    """Read a whole number from 1 to a million."""
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 to 1000000")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no number") from error
