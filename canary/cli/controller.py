"""`canary run`: the controller's flags into one frozen value.

Enters: the flags. Leaves: `RunOptions`, which `operator.run` receives; nothing of the controller is imported before.
"""

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from urllib.parse import urlsplit

from canary.cli.arguments import Flags, add_switch, counting, options_of
from canary.cli.exits import Exit
from canary.cli.guard import add_guard_settings, settings_of
from canary.cli.terminal import Terminal
from canary.errors import RefusedError
from canary.settings import RunOptions, SinkAddress


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.argument_default = SUPPRESS  # what is not given has the default of `RunOptions`
    _add_cluster(parser.add_argument_group("cluster"))
    _add_telling(parser.add_argument_group("telling people"))
    _add_working(parser)
    parser.add_argument(
        "--guard",
        choices=("required", "absent"),
        default="absent",
        help="required: nothing is raised where its admission policies are missing or changed; absent: not asked",
    )
    add_guard_settings(parser)


def _add_cluster(cluster: Flags) -> None:
    cluster.add_argument("--kubeconfig", metavar="FILE", help="absent: the pod's own account")
    cluster.add_argument("--context", metavar="NAME")
    cluster.add_argument(
        "-n", "--namespace", action="append", default=[], metavar="NAME", help="watch this one; absent: all"
    )
    cluster.add_argument(
        "--controller-namespace",
        default=RunOptions().controller_namespace,
        metavar="NAME",
        help="where the leases are",
    )
    cluster.add_argument("--cluster", metavar="NAME", help="what people call the cluster, in pages")
    cluster.add_argument("--identity", metavar="NAME", help="name in the lease; absent: host and chance")


def _add_telling(telling: Flags) -> None:
    for kind, help in (
        ("webhook", "CloudEvents; repeat for more"),
        ("alertmanager", "v2; repeat for replicas"),
    ):
        telling.add_argument(
            f"--{kind}", dest=f"{kind}s", action="append", type=sink, metavar="NAME=URL", help=help
        )
    telling.add_argument("--telemetry", metavar="HOST:PORT", help="/metrics, /healthz, /readyz")
    telling.add_argument("--log-level", choices=("debug", "info", "warning", "error"))


def _add_working(parser: ArgumentParser) -> None:
    add_switch(parser, "--until-eof", help="end when standard input ends: for a parent process")
    parser.add_argument(
        "--people", metavar="FILE", help="identity map; absent: nobody is known, no approval counts"
    )
    parser.add_argument(
        "--audit",
        metavar="ADDRESS",
        help="where every decision goes on record: file:/path or an https URL; absent: in the CanaryRuns alone",
    )
    reading = parser.add_argument_group("reading and working")
    reading.add_argument(
        "--prometheus", action="append", type=address, metavar="URL", help="that policies may name; repeat"
    )
    reading.add_argument("--workers", type=counting, metavar="N", help="looks at once")
    reading.add_argument("--scrape-workers", type=counting, metavar="N")


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    from canary.operator import run as controller

    return Exit(controller.main(run_options(given)))


def run_options(given: Namespace) -> RunOptions:
    return options_of(
        RunOptions,
        given,
        namespace=_only(given.namespace),
        guard_required=given.guard == "required",
        platform_groups=settings_of(given).platform_groups,
    )


def _only(namespaces: list[str]) -> str:
    if len(namespaces) > 1:
        raise RefusedError(f"one namespace or all, not {', '.join(namespaces)}: run a controller for each")
    return "".join(namespaces)


def sink(text: str) -> SinkAddress:
    """Read NAME=URL."""
    name, equals, url = text.partition("=")
    if not equals or not name:
        raise ArgumentTypeError(f"{text!r} is not NAME=URL; write for example pager=https://example.org/hook")
    return SinkAddress(name, address(url))


def address(text: str) -> str:
    """Read an http or https URL."""
    split = urlsplit(text)
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ArgumentTypeError(f"{text!r} is no http or https URL")
    return text.rstrip("/")
