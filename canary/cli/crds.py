"""`canary crd`: the CRDs for kubectl apply, or the schema of one of our JSON outputs.

Nothing is asked of a cluster. The CRDs come from the models, the schemas from `schemas.py`.
"""

from argparse import ArgumentParser, Namespace

from canary.cli.exits import Exit
from canary.cli.schemas import SCHEMAS
from canary.cli.terminal import Terminal


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.add_argument(
        "--schema", choices=sorted(SCHEMAS), metavar="NAME", help=f"one of {', '.join(sorted(SCHEMAS))}"
    )
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="form of the CRDs")


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    if given.schema:
        terminal.json(SCHEMAS[given.schema])
        return Exit.DONE
    from canary.api.crd import crds, to_yaml

    if given.output == "yaml":
        print(to_yaml(crds()), end="", file=terminal.out)
        return Exit.DONE
    terminal.json({"apiVersion": "v1", "kind": "List", "items": crds()})
    return Exit.DONE
