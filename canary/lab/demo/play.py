"""`canary demo`: one story, told by the real parts, with figures that were measured.

On the stage everything is real: HTTP requests, the API server's port, the controller's process. `--speed` and the
healthy story use simulated time instead (a good change needs minutes of evidence); the screen says so. The exit code is
0 when the story ended as it should.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from canary.api.reasons import PPM, Phase
from canary.audit.chain import Record, head_of, readable, verify
from canary.audit.entries import RecordKind
from canary.audit.sheet import cells
from canary.audit.store import open_store
from canary.core.decision import Run
from canary.errors import CanaryError, UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.resources import DEPLOYMENTS, HTTPROUTES, NAMESPACES, Ref
from canary.lab import manifests
from canary.lab.demo.measured import Measured, measure
from canary.lab.demo.plot import Point
from canary.lab.demo.showing import Show
from canary.lab.demo.stage import TOKENS, Stage, StageSetting
from canary.lab.demo.stories import PLOTS, bug
from canary.lab.rehearsal.scenario import Scenario, Setting
from canary.lab.shop.worlds import World
from canary.operator.tell import stored_form
from canary.settings import DemoOptions, Story

LIMIT_SECONDS = 240.0
SIMULATED_LIMIT_SECONDS = 4 * 3600.0
LOOK_SECONDS = 0.1
PAGE_SECONDS = 3.0
RECORD_SECONDS = 10.0
OPENING_SECONDS = 3.0  # customers are counted for so long before the change arrives
SMALLER = 0.85
WATCH_SECONDS = 5.0  # how long December's customers are watched afterwards
INTERRUPTED, FAILED = 130, 1


def main(options: DemoOptions) -> int:
    """Tell the story; return the exit code."""
    show = Show(options)
    try:
        measured = _simulated(options, show) if _on_simulated_time(options) else _staged(options, show)
    except KeyboardInterrupt:
        show.say("interrupted; everything that was started has been ended")
        return INTERRUPTED
    except CanaryError as error:
        show.say(f"the demo could not be told: {error}")
        return FAILED
    finally:
        show.close()
    plot = PLOTS[options.story]
    show.end(measured, plot)
    if options.json:
        sys.stdout.write(json.dumps(measured.document()) + "\n")
    return 0 if measured.outcome == plot.ends_well_in else FAILED


def _on_simulated_time(options: DemoOptions) -> bool:
    if options.speed is not None:
        return options.speed != 1
    return options.story is Story.HEALTHY


# -- real time -----------------------------------------------------------------------------------------------------


def _staged(options: DemoOptions, show: Show) -> Measured:
    plot = PLOTS[options.story]
    show.say(f"{plot.title}")
    show.say(
        f"a shop with {options.orders_per_second:g} orders a second opens on this machine; real HTTP, no cluster"
    )
    stage = Stage(StageSetting(options.seed, options.orders_per_second, policy=plot.policy))
    try:
        stage.open_shop()
        show.say(f"a second terminal:  export KUBECONFIG={stage.kubeconfig('dana')}")
        show.say("                    canary status -w     canary abort")
        if options.story is Story.DECEMBER:
            return _december(options, show, stage)
        _say_if_smaller(options, show, stage)
        show.say(
            f"an AI-assisted change arrives: {manifests.OLD} -> {manifests.NEW}. It is held, and watched first"
        )
        stage.push(bug(plot, options))
        _follow(show, stage.latest_run, _real_pause, LIMIT_SECONDS)
        _await_page(show, stage)
        _say_record(show, stage.audit, RecordKind.ROLL_BACK)
        return _measured_on(stage, options)
    finally:
        stage.close()


def _say_if_smaller(options: DemoOptions, show: Show, stage: Stage) -> None:
    """Say so where the machine cannot serve as many customers as the story has."""
    time.sleep(OPENING_SECONDS)
    rate = stage.orders_per_second()
    if rate < SMALLER * options.orders_per_second:
        show.say(f"this machine serves {rate:.0f} orders a second, so the shop is that small")


def _real_pause() -> float:
    time.sleep(LOOK_SECONDS)
    return time.time()


def _follow(
    show: Show, latest: Callable[[], Run | None], pause: Callable[[], float], limit: float
) -> Run | None:
    """Show every look until the run is over."""
    begun = now = pause()
    while now - begun < limit:
        run = latest()
        if run is not None and run.status.started_at is not None:
            show.run(stored_form(run), point_of(run), datetime.fromtimestamp(now, UTC))
            if run.status.phase.final:
                return run
        now = pause()
    return None


def point_of(run: Run) -> Point | None:
    """Return the run's newest look as a point of the curves; None before the first slice."""
    analysis, exposed = run.status.analysis, run.status.exposed_at
    if exposed is None or analysis.sampled_at is None:
        return None
    with suppress(ValueError):
        return Point(
            seconds=max(0.0, (analysis.sampled_at - exposed).total_seconds()),
            seen=float(analysis.orders),
            expected=float(analysis.orders_expected),
            evidence_log10=float(analysis.evidence_log10),
            limit_log10=float(analysis.limit_log10),
        )
    return None


def _await_page(show: Show, stage: Stage) -> None:
    """The page comes after the rollback: show it as the pager got it."""
    end = time.monotonic() + PAGE_SECONDS
    while time.monotonic() < end:
        pages = [json.loads(each.body)["data"] for each in list(stage.pages.received)]
        safe = [page for page in pages if page["opening"]]
        if safe:
            show.page(safe[-1])
            return
        time.sleep(LOOK_SECONDS)


def _say_record(show: Show, address: str, wanted: RecordKind) -> None:
    """Say the last record of the story and that the chain holds; raise UnavailableError where it does not."""
    end, store = time.monotonic() + RECORD_SECONDS, open_store(address)
    found: list[Record] = []
    while not found and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        found = [record for record in readable(store.lines()) if record["kind"] == wanted]
    verified = verify(store.lines(), [head_of(record) for record in found])
    if not found or verified.fault:
        raise UnavailableError(verified.fault or f"the audit has no record of the kind {wanted.value}")
    sequence, _, kind, workload, version, *_, reason = cells(found[-1])
    last = " ".join(filter(None, (sequence, kind, workload, version, reason)))
    show.say(f"on record: {last}; the chain of {verified.records} holds, head {str(verified.head)[:12]}...")


def _measured_on(stage: Stage, options: DemoOptions) -> Measured:
    exposed = [write for write in stage.weights if write.weight_ppm > 0]
    zeroed = [w.at for w in stage.weights if exposed and w.weight_ppm == 0 and w.at > exposed[-1].at]
    first = zeroed[0] if zeroed else None
    return measure(options, stage.orders_per_second(), stage.truth(), stage.latest_run(), first)


# -- December ------------------------------------------------------------------------------------------------------


def _december(options: DemoOptions, show: Show, stage: Stage) -> Measured:
    """An agent tries to delete and recreate the environment, first against the guard, then where that is taken away."""
    agent = Client(stage.cluster.transport(TOKENS["agent-token"]))
    ref = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
    deployment = stage.admin.get(ref) or {}
    uid = deployment["metadata"]["uid"]
    route, namespace = (
        HTTPROUTES.at(manifests.NAMESPACE, manifests.NAME),
        NAMESPACES.at("", manifests.NAMESPACE),
    )
    resume = {"spec": {"paused": False}}
    attempts: Mapping[str, Callable[[], object]] = {
        "delete the Deployment": lambda: _delete(agent, stage, ref),
        "delete the HTTPRoute": lambda: _delete(agent, stage, route),
        "delete the namespace": lambda: _delete(agent, stage, namespace),
        "un-pause the Deployment": lambda: agent.merge_patch(ref, resume, intent=Intent.NEUTRAL),
    }
    refused = [_tried(show, what, attempt) for what, attempt in attempts.items()]
    time.sleep(WATCH_SECONDS)
    after = stage.admin.get(ref) or {}
    same = after.get("metadata", {}).get("uid") == uid and after["spec"].get("paused") is True
    show.say("the environment is the same one, and serves on" if same else "the environment was changed")
    restored = _past_the_guard(show, stage)
    _await_page(show, stage)
    _say_record(show, stage.audit, RecordKind.ABORT)
    measured = measure(options, stage.orders_per_second(), stage.truth(), None, None)
    outcome = "Restored" if all(refused) and same and restored else "Changed"
    return replace(measured, outcome=outcome, orders_lost=stage.orders_lost())


def _past_the_guard(show: Show, stage: Stage) -> bool:
    """Without its guard the Deployment is deleted, and created anew; return whether the last good version serves."""
    ref = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
    with stage.unguarded():
        _delete(stage.admin, stage, ref)
        anew = manifests.deployment(stage.setting.replicas, stage.port, manifests.NEW)
        stage.admin.create(DEPLOYMENTS, anew, intent=Intent.NEUTRAL)
    show.say(
        f"where the guard is taken away: deleted, and created anew with {manifests.NEW}, which nobody approved"
    )
    stage.until(lambda: stage.way_back_ppm() == PPM, f"{manifests.OLD} serves from pods of its own")
    time.sleep(WATCH_SECONDS)
    held = (stage.admin.get(ref) or {}).get("spec", {}).get("paused") is True
    show.say(
        f"{manifests.OLD} serves again, from pods of its own; {manifests.NEW} is held until a person decides"
    )
    return held and stage.way_back_ppm() == PPM


def _delete(agent: Client, stage: Stage, ref: Ref) -> None:
    stored = stage.admin.get(ref)
    if stored is not None:
        agent.delete(ref, uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL)


def _tried(show: Show, what: str, attempt: Callable[[], object]) -> bool:
    """Let the agent try; return whether it was refused."""
    try:
        attempt()
    except CanaryError as error:
        show.say(f"the agent tries to {what}: refused. {error}")
        return True
    show.say(f"the agent tries to {what}: DONE, which must not be")
    return False


# -- simulated time ------------------------------------------------------------------------------------------------


def _simulated(options: DemoOptions, show: Show) -> Measured:
    with TemporaryDirectory(prefix="canary-demo-") as folder:
        return _simulated_in(Path(folder), options, show)


def _simulated_in(folder: Path, options: DemoOptions, show: Show) -> Measured:
    plot = PLOTS[options.story]
    speed = options.speed
    pace = f"{speed:g} times as fast as real" if speed else "as fast as this machine can"
    show.say(f"{plot.title}")
    show.say(
        f"simulated clock, {pace}: the same controller, cluster and judge; shop and gateway are simulated"
    )
    world = World(rate=options.orders_per_second)
    audit = f"file:{folder / 'audit.jsonl'}"
    scenario = Scenario(Setting(world=world, policy=plot.policy, seed=options.seed, audit=audit))
    if options.story is not Story.DECEMBER:
        scenario.push(bug(plot, options))

    def pause() -> float:
        scenario.run_for(1.0)
        if speed:
            time.sleep(1.0 / speed)
        return scenario.clock.now().timestamp()

    ended = _follow(show, scenario.latest_run, pause, SIMULATED_LIMIT_SECONDS)
    if ended is not None:
        pause()  # its end goes on record
        promoted = ended.status.phase is Phase.PROMOTED
        _say_record(show, audit, RecordKind.PROMOTE if promoted else RecordKind.ROLL_BACK)
    truths = scenario.shop.truths
    rate = sum(truth.wanted for truth in truths) / max(scenario.clock.monotonic(), 1.0)
    run = scenario.latest_run()
    zeroed = run.status.decided_at.timestamp() if run is not None and run.status.decided_at else None
    return measure(options, rate, truths, run, zeroed)
