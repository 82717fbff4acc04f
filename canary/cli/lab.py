"""`canary demo` and `canary rehearse`: what the embedded cluster is asked to play.

Enter: the flags. Leaves: one frozen value of options for the lab; nothing heavy is imported before that.
"""

from argparse import SUPPRESS, ArgumentParser, Namespace
from dataclasses import replace

from canary.cli.arguments import add_output, add_switch, counting, fraction, options_of, positive, seconds
from canary.cli.exits import Exit
from canary.cli.terminal import Terminal
from canary.settings import DemoOptions, FaultKind, RehearseOptions, Story


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.argument_default = SUPPRESS  # what is not given has the default of the options
    (_configure_demo if verb == "demo" else _configure_rehearsal)(parser)
    add_output(parser, ("table", "json"))


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    if verb == "demo":
        from canary.lab.demo import play

        return Exit(play.main(demo_options(given)))
    from canary.cli.manifests import read_manifest
    from canary.lab.rehearsal import rehearse

    policy = read_manifest(given.policy, "CanaryPolicy")
    return Exit(rehearse.main(policy, rehearse_options(given)))


def _configure_demo(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--story", choices=[story.value for story in Story], default=DemoOptions().story.value
    )
    add_switch(parser, "--headless", help="no screen: a line for each thing that happens")
    parser.add_argument("--seed", type=counting, metavar="N")
    parser.add_argument(
        "--speed", type=positive, metavar="N", help="simulated seconds a second; absent: what the story needs"
    )
    parser.add_argument("--record", metavar="FILE.svg", help="write the last screen as a picture")
    _add_rate(parser, "orders a second, default 300")
    parser.add_argument(
        "--break-after",
        dest="break_after_seconds",
        type=seconds,
        metavar="SECONDS",
        help="from the first slice to the fault; 0: broken from the start; default 8",
    )
    parser.add_argument(
        "--drop", type=fraction, metavar="SHARE", help="orders of the new version that vanish"
    )


def demo_options(given: Namespace) -> DemoOptions:
    return options_of(DemoOptions, given, story=Story(given.story), json=given.output == "json")


def _configure_rehearsal(parser: ArgumentParser) -> None:
    parser.add_argument("policy", metavar="POLICY", help="a CanaryPolicy manifest; - is stdin")
    parser.add_argument(
        "--fault",
        choices=[fault.value for fault in FaultKind],
        default=RehearseOptions().fault.value,
        help="what is wrong",
    )
    parser.add_argument("--drop", type=fraction, metavar="SHARE", help="orders that vanish")
    parser.add_argument(
        "--at",
        dest="at_seconds",
        type=seconds,
        metavar="DURATION",
        help="from the first slice to the fault",
    )
    _add_rate(parser, "orders a second")
    parser.add_argument(
        "--for", dest="for_seconds", type=seconds, metavar="DURATION", help="simulated time of a run"
    )
    parser.add_argument(
        "--replicas", type=counting, metavar="N", help="pods of the Deployment, for a slice of whole pods"
    )
    parser.add_argument("--seed", type=counting, metavar="N")
    parser.add_argument("--runs", type=counting, metavar="N", help="runs with the fault, default 100")
    parser.add_argument(
        "--healthy",
        dest="healthy_runs",
        type=counting,
        metavar="N",
        help="runs without it, which last longer; default a tenth of --runs, at least one",
    )


def rehearse_options(given: Namespace) -> RehearseOptions:
    options = options_of(RehearseOptions, given, fault=FaultKind(given.fault), json=given.output == "json")
    return options if "healthy_runs" in given else replace(options, healthy_runs=max(1, options.runs // 10))


def _add_rate(parser: ArgumentParser, help: str) -> None:
    parser.add_argument("--rate", dest="orders_per_second", type=positive, metavar="N", help=help)
