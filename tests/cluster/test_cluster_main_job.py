"""The main job with nothing faked but the kubelet: real API server, gateway, pods, customers, kubectl, controller.

Two shops, each with a change that says an AI wrote it: one loses orders and is rolled back, one is healthy and is
promoted. They play at the same time; each test reads what stood in the world.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from cluster_bed import USERS, Bed
from controller_rights import granted, rarer, rules_of, used
from shop_on_bed import COLLAPSE, Seen, Shop, failed_at_gateways, shop_open

from canary.api.marks import side_name
from canary.api.reasons import Phase
from canary.kube.resources import DEPLOYMENTS, HTTPROUTES, PDBS, SERVICES
from canary.lab import manifests
from canary.lab.shop.child import Message

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
CALM, BUSY = 40.0, 200.0  # orders a second: the busy shop has the evidence for a promotion in a minute
SIDE = side_name(manifests.NAME)
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
DOOMED = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "drain": "5s",
    "analysis": ANALYSIS,
}
HEALTHY = {
    "steps": [{"weight": "50%"}, {"weight": "100%"}],
    "bake": {"duration": "10s"},
    "drain": "5s",
    "analysis": ANALYSIS,
}


@dataclass(slots=True)
class Notes:
    """What stood in the world when a story was over."""

    before: Object
    pushed: Object
    after: Object
    run: Object
    sales: Message
    weights: list[tuple[float, int]]
    deployments: list[Seen]
    pages: list[str]
    log: str
    exit_code: int | None
    diffs: dict[str, str] = field(default_factory=dict[str, str])
    pods: dict[str, list[Object]] = field(default_factory=dict[str, list[Object]])
    left: list[str] = field(default_factory=list[str])
    route: Object = field(default_factory=dict[str, Any])


def tell(bed: Bed, name: str, rate: float, policy: Object, env: dict[str, str], end: Phase) -> Notes:
    """Open a shop, protect it, push a change, and watch what becomes of it."""
    with shop_open(bed, name, rate) as shop:
        before = shop.deployment()
        pods = {"before": shop.pods()}
        shop.start_controller()
        shop.protect(**policy)
        diffs = {"adopted": shop.diff(*shop.applied)}
        shop.push(env)
        pushed = shop.deployment()
        shop.reach(Phase.PREPARING)
        diffs["preparing"] = shop.diff(shop.applied[0], shop.applied[1])
        shop.reach_slice()
        pods["sliced"] = shop.pods()
        diffs["sliced"] = shop.diff(shop.applied[0], shop.applied[1])
        shop.reach(end)
        tidy(shop)
        pods["after"] = shop.pods()
        diffs["after"] = shop.diff(*shop.applied)
        return Notes(
            before=before,
            pushed=pushed,
            after=shop.deployment(),
            run=shop.run(),
            sales=shop.close_shop(),
            weights=shop.chronicle.weights(),
            deployments=shop.chronicle.of(DEPLOYMENTS.kind),
            pages=shop.page_openings(),
            exit_code=shop.stop_controller(),
            log=shop.log(),
            diffs=diffs,
            pods=pods,
            left=[each.kind for each in (DEPLOYMENTS, SERVICES, PDBS) if shop.exists(each, SIDE)],
            route=bed.admin.get(HTTPROUTES.at(name, manifests.NAME)) or {},
        )


def tidy(shop: Shop) -> None:
    """Wait until the controller has taken away what it made."""
    shop.until(lambda: bool(shop.run()["status"].get("tidiedAt")), "the run is tidied")


@pytest.fixture(scope="module")
def stories(bed: Bed) -> Iterator[dict[str, Future[Notes]]]:
    with ThreadPoolExecutor(2, thread_name_prefix="story") as pool:
        yield {
            "collapse": pool.submit(tell, bed, "collapse", CALM, DOOMED, COLLAPSE, Phase.ROLLED_BACK),
            "healthy": pool.submit(tell, bed, "healthy", BUSY, HEALTHY, {}, Phase.PROMOTED),
        }


@pytest.fixture(scope="module")
def collapse(stories: dict[str, Future[Notes]]) -> Notes:
    return stories["collapse"].result()


@pytest.fixture(scope="module")
def healthy(stories: dict[str, Future[Notes]]) -> Notes:
    return stories["healthy"].result()


def user_spec(stored: Object) -> Object:
    """Return what the team wrote: the spec without the hold."""
    return {name: value for name, value in stored["spec"].items() if name != "paused"}


def uids(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def images(pods: list[Object]) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in pods}


# -- a change that loses orders --------------------------------------------------------------------------------------


def test_a_change_that_loses_orders_is_rolled_back(collapse: Notes) -> None:
    status = collapse.run["status"]
    assert status["phase"] == "RolledBack"
    assert status["reason"] == "OrdersCollapsed"
    assert [ppm for _, ppm in collapse.weights] == [0, 50_000, 0]


def test_the_customers_lost_few_orders_and_met_no_error(collapse: Notes) -> None:
    new, total = collapse.sales["by_version"][manifests.NEW], collapse.sales["total"]
    lost = new["wanted"] - new["placed"]
    assert 0 < lost < 60
    assert total["wanted"] - total["placed"] == lost, "customers of the old version lost orders, too"
    assert (failed_at_gateways(collapse.sales), total["broken"]) == (0, 0)


def test_the_old_pods_served_on_untouched_while_the_change_was_held(collapse: Notes) -> None:
    old = uids(collapse.pods["before"])
    assert len(old) == 3
    assert uids(collapse.pods["sliced"]) == uids(collapse.pods["after"]) == old


@pytest.mark.parametrize("story", ["collapse", "healthy"])
def test_the_users_spec_is_never_written_but_for_the_hold(story: str, request: pytest.FixtureRequest) -> None:
    notes: Notes = request.getfixturevalue(story)
    written = [user_spec(seen.obj) for seen in notes.deployments]
    expected = [user_spec(notes.before), user_spec(notes.pushed)]
    assert all(spec in expected for spec in written)
    assert user_spec(notes.after) == user_spec(notes.pushed)
    assert notes.after["spec"]["paused"] is True


@pytest.mark.parametrize("story", ["collapse", "healthy"])
def test_kubectl_diff_is_empty_in_every_phase(story: str, request: pytest.FixtureRequest) -> None:
    notes: Notes = request.getfixturevalue(story)
    assert notes.diffs == {"adopted": "", "preparing": "", "sliced": "", "after": ""}


@pytest.mark.parametrize("story", ["collapse", "healthy"])
def test_nothing_of_ours_is_left_beside_the_users_objects(story: str, request: pytest.FixtureRequest) -> None:
    notes: Notes = request.getfixturevalue(story)
    assert notes.left == []
    assert [ref["name"] for ref in notes.route["spec"]["rules"][0]["backendRefs"]] == [manifests.NAME]


def test_on_call_is_told_that_customers_are_safe(collapse: Notes) -> None:
    assert "CUSTOMERS SAFE" in collapse.pages


@pytest.mark.parametrize("story", ["collapse", "healthy"])
def test_the_controller_ends_in_order_and_logs_no_defect(story: str, request: pytest.FixtureRequest) -> None:
    notes: Notes = request.getfixturevalue(story)
    assert notes.exit_code == 0
    assert "Traceback" not in notes.log
    assert [line for line in notes.log.splitlines() if '"level": "error"' in line] == []


# -- a healthy change ------------------------------------------------------------------------------------------------


def test_a_healthy_change_is_promoted(healthy: Notes) -> None:
    assert healthy.run["status"]["phase"] == "Promoted"
    weights = [ppm for _, ppm in healthy.weights]
    assert weights[:3] == [0, 500_000, 1_000_000]
    assert weights[2:] == sorted(weights[2:], reverse=True), (
        "the way back to the users' own Deployment only falls"
    )
    assert weights[-1] == 0
    assert images(healthy.pods["after"]) == {f"registry.example/shop:{manifests.NEW}"}
    assert len(healthy.pods["after"]) == 3


def test_a_promotion_loses_no_order_and_no_request(healthy: Notes) -> None:
    total = healthy.sales["total"]
    assert total["requests"] > 1000
    assert total["wanted"] - total["placed"] == 0
    assert (failed_at_gateways(healthy.sales), total["broken"]) == (0, 0)


# -- rights ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("collapse", "healthy")
def test_the_controller_uses_every_right_that_it_has_and_asks_for_no_other(bed: Bed) -> None:
    allowed, denied = used(bed.audit_log, USERS["controller"][0], {"collapse", "healthy"})
    assert denied == set()
    assert allowed | rarer() == granted(rules_of("controller"))
