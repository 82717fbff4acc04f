"""The front door: one table of verbs, one place where errors become exit codes.

`canary VERB ...` and `kubectl canary VERB ...` come here. Only the module of the named verb is imported, so that help
and completion are there at once. A verb's module has `configure(verb, parser)` and `run(verb, given, terminal)`.
"""

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Protocol, cast

from canary import __version__
from canary.cli.exits import Exit, exit_of_error
from canary.cli.terminal import Terminal
from canary.errors import CanaryError, InvariantError


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: where it is implemented, what it does in a line, and the group in which help shows it."""

    module: str
    help: str
    group: str


class VerbModule(Protocol):
    def configure(self, verb: str, parser: ArgumentParser) -> None: ...

    def run(self, verb: str, given: Namespace, terminal: Terminal) -> Exit: ...


VERBS = {
    "status": Verb("status", "one run: are customers safe, what is decided, what is next", "see"),
    "list": Verb("listing", "all protected workloads and their newest change", "see"),
    "explain": Verb("explaining", "a verdict as arithmetic, recomputed on request", "see"),
    "audit": Verb("auditing", "what is on record, whether the chain holds, all of it for an auditor", "see"),
    "promote": Verb("acting", "end a hold, an approval step or a cap; never overrules evidence", "act"),
    "abort": Verb("aborting", "take all traffic back, with or without a controller", "act"),
    "hold": Verb("acting", "stay at the present weight", "act"),
    "resume": Verb("acting", "go on after a hold or a pause", "act"),
    "approve": Verb("acting", "approve what you have read", "act"),
    "reject": Verb("acting", "reject what you have read", "act"),
    "retry": Verb("acting", "try a version again that was taken back", "act"),
    "bypass": Verb("acting", "break the glass: past approvals, freezes, limits, for a time; paged", "act"),
    "wait": Verb("waiting", "wait for a verdict on your revision; the exit code is the verdict", "CI"),
    "lint": Verb("linting", "what would be refused, and why, before anything runs", "CI"),
    "flag": Verb("flag", "whose work a change is, as annotations that carry its record", "CI"),
    "attest": Verb("attesting", "sign that people alone wrote a change, or verify it", "CI"),
    "demo": Verb("lab", "watch a bad change being caught, without a cluster", "try"),
    "rehearse": Verb("lab", "what your own policy would do in a collapse, on simulated time", "try"),
    "judge": Verb("judging", "the judgement alone: samples in, verdicts out", "try"),
    "adopt": Verb("adopting", "what a policy would do to your objects, and then do it", "own"),
    "detach": Verb("detaching", "give a Deployment back, and let its policy go", "own"),
    "safety": Verb("safety", "what safety policies ask, whom they cover, who waits; resume", "own"),
    "run": Verb("controller", "start the controller", "own"),
    "crd": Verb("crds", "print the CRDs, or the schema of an output", "own"),
    "guard": Verb("guard", "print the admission policies of the guard, or check them", "own"),
    "version": Verb("version", "versions of this program and of the cluster's controller", "own"),
}
GROUPS = {"see": "See", "act": "Act", "CI": "In CI", "try": "Try", "own": "Own"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return Exit.DONE if words else Exit.USAGE
    if words[0] == "--version":
        words = ["version", "--client"]
    verb = words[0]
    if verb not in VERBS:
        print(_no_such(verb), file=sys.stderr)
        return Exit.USAGE
    module = load(verb)
    given = parser_of(verb, module).parse_args(words[1:])
    return _run(verb, module, given)


def load(verb: str) -> VerbModule:
    """Import the module of a verb."""
    return cast("VerbModule", import_module(f"canary.cli.{VERBS[verb].module}"))


def parser_of(verb: str, module: VerbModule) -> ArgumentParser:
    """Return the parser of one verb."""
    parser = ArgumentParser(
        prog=f"canary {verb}",
        description=VERBS[verb].help,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(verb, parser)
    parser.add_argument("--ascii", action="store_true", default=False, help="print nothing but ASCII")
    return parser


def usage() -> str:
    """Return the text of `canary --help`."""
    lines = ["canary: a change reaches everybody only after proving that it loses no orders", ""]
    lines.append("usage: canary VERB [TARGET] [flags]      (also: kubectl canary VERB ...)")
    for group, title in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<9} {verb.help}" for name, verb in VERBS.items() if verb.group == group]
    return "\n".join([*lines, "", "`canary VERB --help` shows the flags of one verb."])


def _no_such(verb: str) -> str:
    close = get_close_matches(verb, VERBS, 1)
    hint = f"Did you mean `canary {close[0]}`?" if close else "`canary --help` lists them"
    return f"CAN-2003 there is no verb {verb[:40]!r}. {hint}"


def _run(verb: str, module: VerbModule, given: Namespace) -> int:
    terminal = Terminal.of_process(given.ascii)
    try:
        return module.run(verb, given, terminal)
    except CanaryError as error:
        terminal.note(f"{error.code} {error}".strip())
        if isinstance(error, InvariantError):
            terminal.note(
                f"This is a defect of canary {__version__}; please report it with the command and this text"
            )
        return exit_of_error(error)
    except KeyboardInterrupt:
        terminal.note("interrupted; what runs in the cluster goes on")
        return Exit.INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough; a second flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
