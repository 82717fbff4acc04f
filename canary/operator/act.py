"""The hands: one function for each action that the judge may name. Level-based, each safe to repeat.

Nothing is decided here. A raise presents what was seen in the look (`Gathered`), so that whoever wrote in between wins;
the brake presents nothing at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from canary.api.marks import ROLE_CANARY, ROLE_LAST_GOOD, side_name, way_back_name
from canary.core import actions as act
from canary.core.decision import Run
from canary.errors import ConflictError
from canary.kube import autoscaler, workload
from canary.kube.client import Intent
from canary.kube.side import Order
from canary.operator.hands import Hands, target_of
from canary.operator.look import Gathered
from canary.traffic.router import DETACHED, Seen, WayBack


@dataclass(frozen=True, slots=True)
class Turn:
    """What a hand needs: the adapters, the run as it now is, and what was seen."""

    hands: Hands
    run: Run
    gathered: Gathered

    @property
    def seen(self) -> Seen:
        if self.gathered.seen is None:
            raise ConflictError("the route could not be read in this look")
        return self.gathered.seen

    @property
    def deployment(self) -> workload.Observed:
        if self.gathered.deployment is None:
            raise ConflictError("the Deployment could not be read in this look")
        return self.gathered.deployment


def do(turn: Turn, actions: Sequence[act.Action]) -> None:
    """Do the actions in order. Raises what the API server answers; what was done stays done."""
    for action in actions:
        _HANDS[type(action)](turn, action)


def _kill(turn: Turn, action: act.Kill) -> None:
    coordinates = turn.run.status.traffic.coordinates
    turn.hands.brake.kill(target_of(turn.run), coordinates, str(action.epoch))


def _pause(turn: Turn, _: act.PauseTarget) -> None:
    workload.pause(turn.hands.client, turn.run.namespace, turn.run.spec.target.name)


def _unpause(turn: Turn, action: act.UnpauseTarget) -> None:
    """The point of no return: take the brake's coordinates off the route first, for stable is stable no more."""
    run = turn.run
    if turn.seen.armed:
        turn.hands.router.write(target_of(run), turn.seen.route.weight_ppm, turn.seen)
    workload.unpause(turn.hands.client, run.namespace, run.spec.target.name, action.template_hash)


def _freeze_scaler(turn: Turn, _: act.FreezeScaler) -> None:
    run, client = turn.run, turn.hands.client
    for each in autoscaler.autoscalers(client, run.namespace, run.spec.target.name):
        if autoscaler.may_shrink(each):
            autoscaler.freeze(client, each)


def _attach(turn: Turn, _: act.AttachRoute) -> None:
    """Keep the last good template first: whoever gets traffic must leave a way back."""
    workload.keep_last_good(turn.hands.client, turn.deployment)
    turn.hands.router.write(target_of(turn.run), 0, turn.seen)


def _set_weight(turn: Turn, action: act.SetWeight | act.LowerWeight) -> None:
    turn.hands.router.write(target_of(turn.run), action.weight_ppm, turn.seen)


def _detach(turn: Turn, _: act.DetachRoute) -> None:
    turn.hands.router.write(target_of(turn.run), DETACHED, turn.seen)


def _shift_to_way_back(turn: Turn, action: act.ShiftToWayBack) -> None:
    turn.hands.router.write(target_of(turn.run), WayBack(str(action.epoch)), turn.seen)


def _leave_way_back(turn: Turn, _: act.LeaveWayBack) -> None:
    turn.hands.router.write(target_of(turn.run), 0, turn.seen)


def _create_side(turn: Turn, action: act.CreateSide) -> None:
    observed = turn.deployment
    if observed.workload.template_hash != turn.run.spec.revision.template_hash:
        raise ConflictError("the template changed since the run was recorded")
    owner = workload.read_owner(turn.hands.client, observed.deployment, turn.run.spec.service)
    template = observed.deployment["spec"]["template"]
    workload.create_side(
        turn.hands.client, Order(owner, template, action.replicas, turn.run.name, ROLE_CANARY)
    )


def _create_way_back(turn: Turn, action: act.CreateWayBack) -> None:
    """Run the last good template beside the Deployment, or, where that is gone, in its place."""
    run, client, seen = turn.run, turn.hands.client, turn.gathered.deployment
    kept = workload.read_last_good(
        client, run.namespace, run.spec.target.name, run.spec.baseline.template_hash
    )
    if kept is None:
        raise ConflictError("the record of the last good template is missing; re-apply the old manifest")
    owner = workload.read_owner(client, seen.deployment if seen is not None else kept, run.spec.service)
    order = Order(owner, kept["spec"]["template"], action.replicas, run.name, ROLE_LAST_GOOD)
    workload.create_side(client, order, Intent.LOWERING)


def _scale_side(turn: Turn, action: act.ScaleSide) -> None:
    name = side_name(turn.run.spec.target.name)
    workload.scale_side(turn.hands.client, turn.run.namespace, name, action.replicas)


def _delete_side(turn: Turn, _: act.DeleteSide) -> None:
    run, client = turn.run, turn.hands.client
    target, service = run.spec.target.name, run.spec.service
    for name_of in (side_name, way_back_name):
        workload.delete_side(client, run.namespace, name_of(target), name_of(service))


_HANDS: dict[type[Any], Callable[[Turn, Any], None]] = {
    act.Kill: _kill,
    act.PauseTarget: _pause,
    act.UnpauseTarget: _unpause,
    act.FreezeScaler: _freeze_scaler,
    act.AttachRoute: _attach,
    act.SetWeight: _set_weight,
    act.LowerWeight: _set_weight,
    act.DetachRoute: _detach,
    act.ShiftToWayBack: _shift_to_way_back,
    act.LeaveWayBack: _leave_way_back,
    act.CreateSide: _create_side,
    act.CreateWayBack: _create_way_back,
    act.ScaleSide: _scale_side,
    act.DeleteSide: _delete_side,
}
