"""`canary judge POLICY < samples.jsonl > verdicts.jsonl`: the judgement alone, offline and deterministic.

Enters: a policy manifest and one JSON object a line. Leaves: one verdict a line, by the same road as in production.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from canary.cli.exits import Exit
from canary.cli.terminal import Terminal
from canary.errors import RefusedError

if TYPE_CHECKING:  # the models are imported when there is something to judge
    from canary.api.policy import CanaryPolicySpec

FORMAT = """\
One JSON object a line in, counts are increments since the previous line:
  {"t": 12.0, "weight_ppm": 10000,
   "canary":   {"orders": 3, "requests": 12, "errors": 0, "slow": 0},
   "baseline": {"orders": 290, "requests": 1180, "errors": 2, "slow": 9},
   "site": {"orders": 293, "expected": 300, "recent": 295}}
Any count may be absent: missing, not zero. "extra": {name: n} may stand in both arms,
"step": true marks a weight change, "phi": {"orders": 2.9} holds from its line on.
One JSON object a line out: t, verdict, reason, evidence_log, limit_log, effect, lost."""


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.epilog = FORMAT
    parser.add_argument("policy", metavar="POLICY", help="a CanaryPolicy manifest")
    parser.add_argument(
        "samples", nargs="?", default="-", metavar="SAMPLES", help="JSON lines; absent: stdin"
    )


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    from canary.api.read import parse_policy
    from canary.cli.manifests import read_manifest

    policy = parse_policy(read_manifest(given.policy, "CanaryPolicy"))
    if given.samples == "-":
        return _judge(policy, sys.stdin or (), terminal)
    try:
        with Path(given.samples).open(encoding="utf-8") as lines:
            return _judge(policy, lines, terminal)
    except BrokenPipeError:  # of the reader of the verdicts, who has read enough
        raise
    except OSError as error:
        raise RefusedError(f"cannot read {given.samples}: {error.strerror}", code="CAN-2005") from error


def _judge(policy: "CanaryPolicySpec", lines: Iterable[str], terminal: Terminal) -> Exit:
    from canary.api.reasons import Origin
    from canary.core.judge import verdicts
    from canary.core.plan import Floors, settings_of

    rest = iter(lines)
    first = next((line for line in rest if line.strip()), "")
    if not first:
        raise RefusedError("there is no sample; give JSON lines in a file or on stdin", code="CAN-2005")
    # The monitors are fixed when a run starts: the site's is one of them only where there are forecasts.
    settings = settings_of(
        policy, policy.resolved_steps(Origin.UNKNOWN), site=Floors() if '"site"' in first else None
    )
    for verdict in verdicts(settings, chain([first], rest)):
        print(verdict, file=terminal.out)
    terminal.out.flush()
    return Exit.DONE
