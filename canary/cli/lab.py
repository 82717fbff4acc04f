"""`canary demo` and `canary rehearse`: what the embedded cluster is asked to play.

Enter: the flags. Leaves: one frozen value of options for the lab; nothing heavy is imported before that.
"""

from argparse import ArgumentParser, Namespace

from canary.cli.arguments import counting, fraction, positive, seconds
from canary.cli.exits import Exit
from canary.cli.terminal import Terminal
from canary.settings import DemoOptions, Fault, RehearseOptions, Story


def configure(verb: str, parser: ArgumentParser) -> None:
    if verb == "demo":
        _configure_demo(parser)
    else:
        _configure_rehearsal(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    if verb == "demo":
        from canary.lab.demo import play

        return Exit(play.main(demo_options(given)))
    from canary.lab.rehearsal import rehearse

    return Exit(rehearse.main(rehearse_options(given)))


def _configure_demo(parser: ArgumentParser) -> None:
    own = DemoOptions()
    parser.add_argument("--story", choices=[story.value for story in Story], default=own.story.value)
    parser.add_argument(
        "--headless", action="store_true", help="no screen: a line for each thing that happens"
    )
    parser.add_argument("--seed", type=counting, default=own.seed, metavar="N")
    parser.add_argument(
        "--speed", type=positive, metavar="N", help="simulated seconds a second; absent: what the story needs"
    )
    parser.add_argument("--record", default="", metavar="FILE.svg", help="write the last screen as a picture")
    parser.add_argument(
        "--rate",
        type=positive,
        default=own.orders_per_second,
        metavar="N",
        help="orders a second, default 300",
    )
    parser.add_argument(
        "--break-after",
        type=seconds,
        default=own.break_after_seconds,
        metavar="SECONDS",
        help="from the first slice to the fault; 0: broken from the start; default 8",
    )
    parser.add_argument(
        "--drop",
        type=fraction,
        default=own.drop,
        metavar="SHARE",
        help="orders of the new version that vanish",
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="form of the result"
    )


def demo_options(given: Namespace) -> DemoOptions:
    return DemoOptions(
        story=Story(given.story),
        headless=given.headless,
        json=given.output == "json",
        seed=given.seed,
        speed=given.speed,
        record=given.record,
        orders_per_second=given.rate,
        break_after_seconds=given.break_after,
        drop=given.drop,
    )


def _configure_rehearsal(parser: ArgumentParser) -> None:
    own = RehearseOptions(policy="")
    parser.add_argument("policy", metavar="POLICY", help="a CanaryPolicy manifest; - is stdin")
    parser.add_argument(
        "--fault", choices=[fault.value for fault in Fault], default=own.fault.value, help="what is wrong"
    )
    parser.add_argument("--drop", type=fraction, default=own.drop, metavar="SHARE", help="orders that vanish")
    parser.add_argument(
        "--at",
        type=seconds,
        default=own.at_seconds,
        metavar="DURATION",
        help="from the first slice to the fault",
    )
    parser.add_argument(
        "--rate", type=positive, default=own.orders_per_second, metavar="N", help="orders a second"
    )
    parser.add_argument(
        "--for",
        dest="length",
        type=seconds,
        default=own.for_seconds,
        metavar="DURATION",
        help="simulated time of a run",
    )
    parser.add_argument("--seed", type=counting, default=own.seed, metavar="N")
    parser.add_argument(
        "--runs", type=counting, default=own.runs, metavar="N", help="runs with the fault, default 100"
    )
    parser.add_argument(
        "--healthy",
        type=counting,
        metavar="N",
        help="runs without it, which last longer; default a tenth of --runs, at least one",
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="form of the result"
    )


def rehearse_options(given: Namespace) -> RehearseOptions:
    return RehearseOptions(
        policy=given.policy,
        fault=Fault(given.fault),
        drop=given.drop,
        at_seconds=given.at,
        orders_per_second=given.rate,
        for_seconds=given.length,
        seed=given.seed,
        runs=given.runs,
        healthy_runs=max(1, given.runs // 10) if given.healthy is None else given.healthy,
        json=given.output == "json",
    )
