"""`canary crd`: the CRDs for kubectl apply, or the schema of one of our JSON outputs.

Nothing is asked of a cluster. The CRDs come from the models, the schemas from `schemas.py`.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from canary.cli.exits import Exit
from canary.cli.schemas import SCHEMAS
from canary.cli.terminal import Terminal

MAX_COLUMNS = 10_000  # no sentence is folded


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.add_argument(
        "--schema", choices=sorted(SCHEMAS), metavar="NAME", help=f"one of {', '.join(sorted(SCHEMAS))}"
    )
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="form of the CRDs")


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    if given.schema:
        terminal.json(SCHEMAS[given.schema])
        return Exit.DONE
    from canary.api.crd import crds

    print_manifests(crds(), given.output, terminal)
    return Exit.DONE


def print_manifests(manifests: Sequence[Mapping[str, Any]], output: str, terminal: Terminal) -> None:
    """Print objects as kubectl takes them: YAML documents, or a List in JSON."""
    if output == "json":
        terminal.json({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return
    import yaml

    apart = json.loads(json.dumps(manifests))  # of what two places share, YAML would write a reference
    yaml.safe_dump_all(
        apart,
        terminal.out,
        sort_keys=False,
        default_flow_style=None,  # what holds no further object or list stands on the line of its name
        width=MAX_COLUMNS,
        explicit_start=True,
    )
