"""A controller whose watches tell of nothing, or of what was true minutes ago, while the world moves.

The caches then are old and do not know it. What holds all the same: nothing is raised on what they say, what takes
traffic away waits for none of them, and our own writes are not forgotten.
"""

import math
from collections.abc import Callable

import pytest
from sim_faults import Late, asked
from sim_street import COLLAPSE, PLACE, Street, everything_is_back, short_policy

from canary.api.reasons import Phase, Verb
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYPOLICIES, CANARYRUNS, DEPLOYMENTS, HPAS
from canary.kube.transport import Response, Transport
from canary.lab import manifests
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.operator.whole import WHOLE_SECONDS

THREE_STEPS = [{"weight": "5%"}, {"weight": "20%"}, {"weight": "100%", "approval": True}]
STAYS = [{"weight": "5%"}, {"weight": "100%", "approval": True}]


def exposed(late: Late, bug: dict[str, str] | None = None, **policy: object) -> Street:
    """Return a street with a slice, whose watches stand still from then on."""
    street = Street(wire=late.wire, policy=short_policy(**{"steps": STAYS, **policy}))
    late.now = street.clock.monotonic
    street.push(bug)
    assert street.run_until(lambda: street.route_ppm() > 0, 100), street.told()
    street.run_for(8)
    note = {"metadata": {"annotations": {"team": "checkout"}}}
    street.admin.merge_patch(DEPLOYMENTS.at(*PLACE), note, intent=Intent.NEUTRAL)
    street.run_for(4)  # a whole look comes of it, so that the next one is not due when the step ends
    late.behind_seconds = math.inf
    return street


@pytest.mark.parametrize("before", [0.5, 2.0, 3.5, 8.0, 20.0])
def test_no_step_begins_for_a_change_that_was_replaced_unheard(before: float) -> None:
    """The same history twice: once until the second step begins, and once with another change just before that."""
    undisturbed = exposed(Late(), steps=THREE_STEPS)
    begun = undisturbed.clock.monotonic()
    assert undisturbed.run_until(lambda: undisturbed.route_ppm() > 50_000, 300), undisturbed.told()
    street = exposed(Late(), steps=THREE_STEPS)
    street.run_for(undisturbed.clock.monotonic() - begun - before)
    assert street.route_ppm() == 50_000
    street.push(version="v2.32.0")
    seen: list[int] = []
    street.run_until(lambda: bool(seen.append(street.route_ppm())), 2 * WHOLE_SECONDS)
    assert max(seen) == 50_000, street.told()
    assert street.phase_of(street.run) is Phase.SUPERSEDED, street.told()
    assert street.route_ppm() == 0


def test_no_step_begins_beside_an_autoscaler_that_nobody_told_of() -> None:
    late = Late()
    street = exposed(late, steps=THREE_STEPS)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": manifests.NAME}
    scaler = HPAS.at(*PLACE).manifest(spec={"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 9})
    street.admin.create(HPAS, scaler, intent=Intent.NEUTRAL)
    assert street.run_until(lambda: street.route_ppm() > 50_000, 300), street.told()
    frozen = street.stored("HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]
    assert frozen["selectPolicy"] == "Disabled"


def test_a_collapse_is_rolled_back_as_soon_as_with_watches_that_work() -> None:
    lost: list[int] = []
    for behind in (0.0, math.inf):
        late = Late()
        street = exposed(late, {**COLLAPSE, "SHOP_BUG_AFTER": "60"})
        late.behind_seconds = behind
        assert street.run_until(lambda street=street: street.route_ppm() == 0, 120), street.told()
        lost.append(sum(truth.missing for truth in street.shop.truths))
    assert lost[1] <= 1.5 * lost[0]


def test_an_abort_that_no_watch_told_of_is_heard_by_the_next_look() -> None:
    street = exposed(Late())
    street.ask(Verb.ABORT)
    assert street.run_until(lambda: street.route_ppm() == 0, 4), street.told()


def test_a_policy_that_went_unheard_gives_everything_back() -> None:
    late = Late()
    street = exposed(late)
    uid = street.stored("CanaryPolicy")["metadata"]["uid"]
    street.admin.delete(CANARYPOLICIES.at(*PLACE), uid=uid, intent=Intent.NEUTRAL)
    assert street.run_until(lambda: street.route_ppm() == 0, WHOLE_SECONDS + 5), street.told()
    late.behind_seconds = 0.0
    street.until(Phase.ABORTED).tidied()
    everything_is_back(street, manifests.OLD)


def test_our_own_writes_are_known_without_a_watch_and_without_a_conflict() -> None:
    late, conflicts = Late(), list[str]()

    def wire(transport: Transport) -> Transport:
        def ask(method: str, path: str, send: Callable[[], Response]) -> Response:
            response = send()
            if response.status == 409:
                conflicts.append(path)
            return response

        return asked(late.wire(transport), ask)

    street = Street(wire=wire, policy=short_policy(steps=STAYS))
    late.now = street.clock.monotonic
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 100), street.told()
    late.behind_seconds = math.inf
    conflicts.clear()
    street.run_for(2 * WHOLE_SECONDS)
    assert conflicts == []
    sampled = street.run.status.analysis.sampled_at
    assert sampled is not None
    assert (street.clock.now() - sampled).total_seconds() < 4


def test_what_others_wrote_into_the_run_unheard_costs_one_look() -> None:
    street = exposed(Late())
    mark = {"metadata": {"annotations": {"note": "restored from a backup"}}}
    ours = Client(street.cluster.transport(User(CONTROLLER)), clock=street.clock)
    ours.merge_patch(CANARYRUNS.at(street.run.namespace, street.run.name), mark, intent=Intent.NEUTRAL)
    before = street.run.status.checked_at
    street.run_for(8)
    after = street.run.status.checked_at
    assert before is not None
    assert after is not None
    assert (after - before).total_seconds() > 4
    assert (
        street.stored("CanaryRun", street.run.name)["metadata"]["annotations"]["note"]
        == "restored from a backup"
    )


@pytest.mark.parametrize(("bug", "end"), [({}, Phase.PROMOTED), (COLLAPSE, Phase.ROLLED_BACK)])
def test_with_watches_minutes_behind_every_road_ends_where_it_should(bug: dict[str, str], end: Phase) -> None:
    late = Late()
    street = Street(wire=late.wire)
    late.now, late.behind_seconds = street.clock.monotonic, 150.0
    street.push(bug)
    street.until(end, limit=1200).tidied(limit=600)
    everything_is_back(street, manifests.NEW if end is Phase.PROMOTED else manifests.OLD)
