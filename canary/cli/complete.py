"""`kubectl_complete-canary`: words for the shell, and silence whenever the cluster is slow or the line is odd.

kubectl calls it with the words typed so far, the last one unfinished, and reads one candidate a line, then `:4` (do not
complete file names) or `:0` (do).
"""

import os
import sys
import threading
from argparse import Action, ArgumentError, ArgumentParser
from collections.abc import Sequence

from canary.cli.main import VERBS, load, parser_of
from canary.errors import CanaryError

ANSWER_SECONDS = 1.0  # a shell that waits longer feels broken
NO_FILES, FILES = ":4", ":0"
WITH_TARGET = frozenset(
    {"status", "explain", "promote", "abort", "hold", "resume", "approve", "reject", "retry", "wait"}
)
WITH_FILE = frozenset({"judge", "rehearse"})


def main(argv: Sequence[str] | None = None) -> int:
    """Print the candidates for the last word."""
    words = list(sys.argv[1:] if argv is None else argv) or [""]
    verb, last = words[0], words[-1]
    if len(words) == 1:
        return _print([name for name in VERBS if name.startswith(last)], NO_FILES)
    if verb not in VERBS:
        return _print([], NO_FILES)
    if last.startswith("-"):
        return _print([flag for flag in _flags(verb) if flag.startswith(last)], NO_FILES)
    choices = _choices(verb, words[-2])
    if choices:
        return _print([choice for choice in choices if choice.startswith(last)], NO_FILES)
    if verb in WITH_FILE or words[-2] in ("--kubeconfig", "--record", "--samples"):
        return _print([], FILES)
    names = _names(words) if verb in WITH_TARGET and not words[-2].startswith("-") else []
    return _print([name for name in names if name.startswith(last)], NO_FILES)


def _print(candidates: Sequence[str], directive: str) -> int:
    print("\n".join([*candidates, directive]))
    return 0


def _actions(verb: str) -> list[Action]:
    parser = parser_of(verb, load(verb))
    return parser._actions  # pyright: ignore[reportPrivateUsage]  argparse has no public list of them


def _flags(verb: str) -> list[str]:
    return sorted(option for action in _actions(verb) for option in action.option_strings)


def _choices(verb: str, flag: str) -> list[str]:
    return [
        str(choice)
        for action in _actions(verb)
        if flag in action.option_strings
        for choice in action.choices or []
    ]


def _names(words: Sequence[str]) -> list[str]:
    """Ask the cluster on a thread of its own and leave without it when it takes too long."""
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.extend(_workloads(words)), daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    return list(found)


def _workloads(words: Sequence[str]) -> list[str]:
    from canary.cli.arguments import access_of, add_access
    from canary.cli.session import Session
    from canary.cli.terminal import Terminal
    from canary.core.telling.stored import under

    parser = ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    add_access(parser)
    try:
        given, _ = parser.parse_known_args(list(words[1:-1]))
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            session = Session(access_of(given), Terminal(nowhere, nowhere))
            policies = session.policies(session.namespace)
    except (CanaryError, ArgumentError, OSError):
        return []
    return sorted({str(under(raw, "spec", "target", "name") or "") for raw in policies} - {""})


if __name__ == "__main__":
    sys.exit(main())
