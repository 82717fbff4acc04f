"""The reference of the command line as Markdown, made from the parsers themselves.

`docs/reference/cli.md` is this text; a test keeps the two equal. `make docs` writes it.
"""

import os
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator

from canary.cli.exits import Exit
from canary.cli.main import GROUPS, VERBS, load, parser_of

_WIDTH = "100"
_INTRODUCTION = """\
# The command line

Generated from the program. `canary VERB` and `kubectl canary VERB` are the same; `-n`, `--context` and `--kubeconfig`
mean what they mean to kubectl. stdout is data, stderr is talk. Colour only on a terminal; `NO_COLOR` is honoured.
"""


def reference() -> str:
    """Return the page: exit codes, then each verb with its flags."""
    return (
        "\n".join([_INTRODUCTION, *_exit_codes(), *(line for group in GROUPS for line in _group(group))])
        + "\n"
    )


def _exit_codes() -> Iterator[str]:
    yield from ("## Exit codes", "", "| code | meaning |", "|---|---|")
    yield from (f"| {int(code)} | {code.meaning} |" for code in Exit)
    yield ""


def _group(group: str) -> Iterator[str]:
    yield from (f"## {GROUPS[group]}", "")
    for name, verb in VERBS.items():
        if verb.group == group:
            yield from (f"### canary {name}", "", f"{verb.help[0].upper()}{verb.help[1:]}.", "")
            yield from _flags(parser_of(name, load(name)))


def _flags(parser: ArgumentParser) -> Iterator[str]:
    os.environ["COLUMNS"] = _WIDTH  # argparse breaks lines by the terminal
    yield from ("```text", " ".join(parser.format_usage().split()), "```", "")
    yield from ("| argument | meaning |", "|---|---|")
    for action in parser._actions:  # argparse has no public list of them
        if action.help != SUPPRESS and "--help" not in action.option_strings:
            yield f"| {_name(action)} | {_meaning(action)} |"
    yield ""
    if parser.epilog:
        yield from ("```text", parser.epilog, "```", "")


def _name(action: Action) -> str:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return ", ".join(f"`{f'{option} {value}'.strip()}`" for option in action.option_strings)


def _meaning(action: Action) -> str:
    text = (action.help or "").replace("|", "\\|")
    if action.choices and "one of" not in text and "only these" not in text:
        text += f" ({', '.join(str(choice) for choice in action.choices)})"
    return text.strip()


if __name__ == "__main__":
    print(reference(), end="")
