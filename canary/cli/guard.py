"""`canary guard`: the admission policies of the guard for kubectl apply, or whether they are in place.

Without `--kubernetes` the cluster is asked for its version, since a newer one can keep more. `--check` compares what is
installed with what would be printed, rule by rule, and ends with 1 where something is missing or was changed.
`--static` prints what an API server can read from a directory of its own.
"""

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace

from canary.cli.arguments import access_of, add_access, add_switch, options_of
from canary.cli.crds import print_manifests
from canary.cli.exits import Exit
from canary.cli.session import Session
from canary.cli.terminal import Terminal
from canary.errors import RefusedError
from canary.guard.fingerprint import differences
from canary.guard.policies import Version, guard, version_of
from canary.guard.policy import Settings
from canary.guard.static import static


def configure(verb: str, parser: ArgumentParser) -> None:
    add_switch(parser, "--check", help="say what of it is missing in the cluster, or was changed")
    parser.add_argument(
        "--kubernetes", type=version, metavar="VERSION", help="for this one; absent: the cluster's"
    )
    add_switch(parser, "--static", help="as files for the API server's own directory (alpha in 1.36)")
    add_guard_settings(parser)
    parser.add_argument(
        "-o", "--output", choices=("yaml", "json"), default="yaml", help="form of the policies"
    )
    add_access(parser)


def add_guard_settings(parser: ArgumentParser) -> None:
    """Add the flags that say whom the guard knows; the controller takes the same."""
    own, known = Settings(), parser.add_argument_group("whom the guard knows")
    known.add_argument(
        "--platform-group",
        dest="platform_groups",
        action="append",
        default=SUPPRESS,
        metavar="GROUP",
        help=f"may change canary itself; repeat; absent: {', '.join(own.platform_groups)}",
    )
    known.add_argument(
        "--gitops-account",
        dest="gitops_accounts",
        action="append",
        default=SUPPRESS,
        metavar="USER",
        help="a machine that may write policies, as system:serviceaccount:NAMESPACE:NAME; repeat",
    )


def settings_of(given: Namespace) -> Settings:
    return options_of(Settings, given, namespace=given.controller_namespace)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    if given.static:
        if given.check or given.kubernetes:
            raise RefusedError(
                "--static prints files for an API server: neither --check nor --kubernetes goes with it"
            )
        print_manifests(static(settings_of(given)), given.output, terminal)
        return Exit.DONE
    if given.kubernetes and not given.check:
        print_manifests(guard(settings_of(given), given.kubernetes), given.output, terminal)
        return Exit.DONE
    session = Session(access_of(given), terminal)
    with session.asking("get", "the version", None):
        wanted = guard(settings_of(given), given.kubernetes or version_of(session.client.server_version()))
    if not given.check:
        print_manifests(wanted, given.output, terminal)
        return Exit.DONE
    with session.asking("list", "admission policies", None):
        found = differences(session.client, wanted)
    terminal.lines([*found, f"{len(wanted)} objects make the guard; {len(found)} of them are not in place"])
    return Exit.FAILED if found else Exit.DONE


def version(text: str) -> Version:
    try:
        return version_of(text)
    except RefusedError as error:
        raise ArgumentTypeError(str(error)) from error
