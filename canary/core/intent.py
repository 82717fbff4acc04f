"""From intent to actions: the difference between what the status asks and what was observed.

Each rule looks at one thing (the lock, the side, the route, the way back) and names the action that would bring the
world one step nearer. Nothing is remembered between looks, so a crash, a lost write or a second leader needs no code:
the next look sees the difference again.
"""

from collections.abc import Callable, Iterator

from canary.api.reasons import PPM, Phase
from canary.core.actions import (
    Action,
    AttachRoute,
    CreateSide,
    CreateWayBack,
    DeleteSide,
    DetachRoute,
    FreezeScaler,
    Kill,
    LeaveWayBack,
    LowerWeight,
    PauseTarget,
    Raising,
    ScaleSide,
    SetWeight,
    ShiftToWayBack,
    UnpauseTarget,
)
from canary.core.decision import Situation
from canary.core.evidence import Acceptance, Missing

WITH_SIDE = frozenset(
    {
        Phase.PREPARING,
        Phase.PROGRESSING,
        Phase.BAKING,
        Phase.COMMITTING,
        Phase.RETURNING,
        Phase.PAUSED,
        Phase.DRAINING,
    }
)
SPLIT = frozenset({Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING})


def plan(situation: Situation) -> tuple[Action, ...]:
    """Return the actions of this look, lowering first; no raise stands beside a kill.

    A run that gave everything back acts no more, even while its pages are still owed: the route is the next one's.
    """
    if situation.status.tidied_at is not None:
        return ()
    actions = [action for rule in _RULES for action in rule(situation)]
    if any(isinstance(action, Kill) for action in actions):
        actions = [
            action for action in actions if not isinstance(action, SetWeight | AttachRoute | UnpauseTarget)
        ]
    return tuple(sorted(actions, key=lambda action: isinstance(action, Raising)))


def brake(situation: Situation) -> Iterator[Action]:
    """Write zero until the stored route carries our newest epoch and no weight.

    The first epoch belongs to the preparation: nobody gains traffic before their own rollback write was seen to work.
    """
    status, route = situation.status, situation.route
    traffic = status.traffic
    if traffic.weight_ppm > 0 or traffic.way_back_ppm > 0 or traffic.epoch == 0 or status.phase is Phase.HELD:
        return
    exposed = route is not None and route.weight_ppm > 0
    if status.phase.final or status.phase is Phase.RETURNING:
        if exposed and status.phase is not Phase.RETURNING:
            yield Kill(traffic.epoch, status.message)
        return
    if status.phase is Phase.PREPARING and (route is None or not route.attached):
        return
    if route is None or exposed or route.epoch < traffic.epoch:
        yield Kill(traffic.epoch, status.message)


def lock(situation: Situation) -> Iterator[Action]:
    """Keep the Deployment paused, but for the one roll whose template was tested (or was the last good one)."""
    workload, status = situation.workload, situation.status
    if workload is None:
        return
    template = template_to_roll(situation)
    if template is None:
        if not workload.paused and (not status.phase.final or status.traffic.way_back_ppm > 0):
            yield PauseTarget("its change is held")
        return
    done = situation.runs_whole(template)
    if done and not workload.paused:
        yield PauseTarget("every pod runs the template that was let through")
    if not done and workload.paused:
        yield UnpauseTarget(template)


def template_to_roll(situation: Situation) -> str | None:
    """Return the template hash that may roll now, with no user traffic on the Deployment's pods; else None.

    Where shares are whole pods, nobody can be kept off them: there the roll waits for its phase alone.
    """
    workload, status, route = situation.workload, situation.status, situation.route
    if workload is None or route is None or route.acceptance is not Acceptance.ACCEPTED:
        return None
    spread = situation.since(status.traffic.written_at) >= situation.run.limits.propagation_seconds
    tested = situation.spec.revision.template_hash
    if status.phase is Phase.COMMITTING and (situation.in_pods or route.weight_ppm == PPM) and spread:
        return tested if workload.template_hash == tested else None
    if status.phase.final and route.way_back_ppm == PPM and spread:
        return workload.template_hash if situation.is_good_again else None
    return None


def side(situation: Situation) -> Iterator[Action]:
    """The new version's own Deployment: there while it is needed, never cut while it may have traffic."""
    observed, status = situation.side, situation.status
    if observed is None:
        return
    if status.phase in WITH_SIDE or (status.phase is Phase.ROLLING_BACK and status.traffic.weight_ppm > 0):
        if not observed.exists:
            yield CreateSide(status.side.wanted)
        elif observed.replicas < status.side.wanted:
            yield ScaleSide(status.side.wanted)


def autoscaler(situation: Situation) -> Iterator[Action]:
    """Keep the old version's pods from being scaled away while customers are, or may soon be, elsewhere."""
    if situation.phase in SPLIT and situation.evidence.may_shrink is True:
        yield FreezeScaler()


def way_back(situation: Situation) -> Iterator[Action]:
    """After a commit was taken back: the last good version's own pods, then all traffic, and later home again."""
    status, route, observed = situation.status, situation.route, situation.way_back
    if status.way_back.wanted == 0:
        return
    if status.phase is Phase.ROLLING_BACK and observed is not None and not observed.exists:
        yield CreateWayBack(status.way_back.wanted)
    if route is None:
        return
    if status.traffic.way_back_ppm > 0 and (route.way_back_ppm < PPM or route.epoch < status.traffic.epoch):
        yield ShiftToWayBack(status.traffic.epoch)
    if status.phase.final and status.traffic.way_back_ppm == 0 and route.way_back_ppm > 0:
        yield LeaveWayBack(route.version)


def route(situation: Situation) -> Iterator[Action]:
    """Name the side at weight 0, then give it what the status asks, always against the version that was seen."""
    status, seen, observed = situation.status, situation.route, situation.side
    if seen is None or observed is None:
        return
    if status.phase is Phase.PREPARING and not seen.attached:
        if observed.exists and observed.ready >= status.side.wanted:
            yield AttachRoute(seen.version)
        return
    asked = status.traffic.weight_ppm
    if not status.phase.may_expose:
        return
    if seen.excess and seen.attached:
        yield LowerWeight(asked, seen.version)
        return
    if seen.gives(asked) and not seen.uneven:
        return
    if asked > seen.weight_ppm and observed.ready < situation.pods_for(asked) and not situation.in_pods:
        return
    if situation.was_cut and status.phase in SPLIT and isinstance(situation.evidence.finding, Missing):
        return
    if seen.attached or status.phase in (Phase.COMMITTING, Phase.RETURNING):
        yield SetWeight(asked, seen.version)


def tidy(situation: Situation) -> Iterator[Action]:
    """After the end: the route names stable alone; the side goes, after the drain where it ever had traffic."""
    status, seen = situation.status, situation.route
    if not status.phase.final or status.tidied_at is not None or seen is None:
        return
    if seen.weight_ppm > 0 or seen.way_back_ppm > 0 or status.traffic.way_back_ppm > 0:
        return
    if seen.attached or seen.partial:
        yield DetachRoute()
        return
    drain = situation.spec.policy.drain.total_seconds() if status.exposed_at is not None else 0.0
    drained = situation.since(status.traffic.detached_at) >= drain
    sides = (situation.side, situation.way_back)
    if status.traffic.detached_at is not None and drained and any(s is not None and s.exists for s in sides):
        yield DeleteSide()


_RULES: tuple[Callable[[Situation], Iterator[Action]], ...] = (
    brake,
    lock,
    autoscaler,
    way_back,
    side,
    route,
    tidy,
)
