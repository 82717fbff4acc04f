"""The gateway: it obeys weights, falls back on nothing, follows the API server, and owes each route its status."""

import http.client
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from shop_manifests import NAMESPACE, open_shop, route, service, set_weight
from shop_street import Mailbox, Street, slice_of, street

from canary.lab.cluster import RealTimeCluster
from canary.lab.controllers.routes import RouteController
from canary.lab.controllers.routing import Table, build, wanted_status
from canary.lab.shop.child import Child
from canary.lab.shop.kubelet import ShopKubelet, free_port

NOW = "2026-03-05T09:00:00Z"
LATER = "2026-03-05T09:01:00Z"
SERVICES = [service("checkout"), service("checkout-canary")]
SLICES = [
    slice_of("checkout", ["10.0.0.1", "10.0.0.2"], 8080),
    slice_of("checkout-canary", ["10.0.0.3"], 8080),
]


def table(canary_ppm: int, **changed: Any) -> Table:
    return build([{**route(canary_ppm), **changed}], SERVICES, SLICES)


# routing, pure


@pytest.mark.parametrize("ppm", [0, 1, 100, 10_000, 500_000, 1_000_000])
def test_shares_are_the_weights_to_the_millionth(ppm: int) -> None:
    shares = table(ppm).shares("/checkout")
    assert shares[("10.0.0.3", 8080)] == pytest.approx(ppm / 1e6)
    assert shares[("10.0.0.1", 8080)] == shares[("10.0.0.2", 8080)] == pytest.approx((1 - ppm / 1e6) / 2)


def test_draws_follow_the_weights() -> None:
    draw, rule = random.Random(5), table(10_000).rule("/checkout")
    assert rule is not None
    picked = [backend.name for backend in (rule.pick(draw) for _ in range(50_000)) if backend]
    assert picked.count("shop/checkout-canary") == pytest.approx(500, abs=5 * 500**0.5)


def test_a_backend_of_weight_zero_is_never_drawn() -> None:
    draw, rule = random.Random(5), table(0).rule("/")
    assert rule is not None
    assert {backend.name for backend in (rule.pick(draw) for _ in range(5_000)) if backend} == {
        "shop/checkout"
    }


def test_without_any_weight_nothing_is_drawn() -> None:
    none = route(0)
    for ref in none["spec"]["rules"][0]["backendRefs"]:
        ref["weight"] = 0
    rule = build([none], SERVICES, SLICES).rule("/")
    assert rule is not None
    assert rule.pick(random.Random(1)) is None


def test_a_weight_that_is_not_written_is_one() -> None:
    plain = route(0)
    for ref in plain["spec"]["rules"][0]["backendRefs"]:
        del ref["weight"]
    assert build([plain], SERVICES, SLICES).shares("/")[("10.0.0.3", 8080)] == 0.5


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "root"),
        ("/cart", "cart"),
        ("/cart/7?x=1", "cart"),
        ("/cartoon", "root"),
        ("/cart/exact", "exact"),
    ],
)
def test_the_most_specific_path_wins(path: str, expected: str) -> None:
    def rule(name: str, kind: str, value: str) -> dict[str, Any]:
        return {
            "matches": [{"path": {"type": kind, "value": value}}],
            "backendRefs": [{"name": name, "port": 80}],
        }

    rules = [
        rule("root", "PathPrefix", "/"),
        rule("cart", "PathPrefix", "/cart"),
        rule("exact", "Exact", "/cart/exact"),
    ]
    found = build([{**route(0), "spec": {"rules": rules}}], [], []).rule(path)
    assert found is not None
    assert found.backends[0].name == f"{NAMESPACE}/{expected}"


def test_slices_of_one_service_are_merged_and_unready_endpoints_left_out() -> None:
    ours = slice_of("checkout", ["10.0.0.9"], 8080)
    gone = slice_of("checkout", ["10.0.0.8"], 8080, ready=False)
    shares = build([route(0)], SERVICES, [SLICES[0], ours, gone]).shares("/")
    assert {ip for (ip, _), share in shares.items() if share > 0} == {"10.0.0.1", "10.0.0.2", "10.0.0.9"}


def test_a_missing_service_is_said_in_the_status_and_the_other_backend_is_served() -> None:
    status = wanted_status(route(10_000), SERVICES[:1], NOW)
    assert status is not None
    conditions = {one["type"]: (one["status"], one["reason"]) for one in status["parents"][0]["conditions"]}
    assert conditions == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("False", "BackendNotFound")}
    shares = build([route(10_000)], SERVICES[:1], SLICES).shares("/")
    assert sum(shares.values()) == pytest.approx(0.99)


def test_a_status_is_written_once_and_keeps_the_entries_of_others() -> None:
    other = {"controllerName": "example.com/gateway", "parentRef": {"name": "other"}, "conditions": []}
    fresh = {**route(0), "status": {"parents": [other]}}
    fresh["metadata"] = {**fresh["metadata"], "generation": 3}
    status = wanted_status(fresh, SERVICES, NOW)
    assert status is not None
    assert status["parents"][0] == other
    assert [one["observedGeneration"] for one in status["parents"][1]["conditions"]] == [3, 3]
    assert wanted_status({**fresh, "status": status}, SERVICES, LATER) is None


def test_a_new_generation_is_observed_without_moving_the_transition_time() -> None:
    first = wanted_status(
        {**route(0), "metadata": {"name": "r", "namespace": "shop", "generation": 1}}, SERVICES, NOW
    )
    again = {**route(0), "metadata": {"name": "r", "namespace": "shop", "generation": 2}, "status": first}
    second = wanted_status(again, SERVICES, LATER)
    assert second is not None
    assert {one["lastTransitionTime"] for one in second["parents"][0]["conditions"]} == {NOW}
    assert {one["observedGeneration"] for one in second["parents"][0]["conditions"]} == {2}


# the data plane, over real HTTP


@pytest.fixture
def shop() -> Iterator[Street]:
    with street() as opened:
        yield opened


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.005)


def test_nothing_falls_back(shop: Street) -> None:
    shop.pod("stable-1", "v1")
    shop.route(500_000, [shop.ips["stable-1"]], [])
    until(lambda: shop.get("/healthz")[0] in (200, 503))
    answers = [shop.get("/healthz")[0] for _ in range(200)]
    assert set(answers) == {200, 503}
    assert 60 <= answers.count(503) <= 140


def test_an_endpoint_that_refuses_fails_its_share(shop: Street) -> None:
    shop.pod("stable-1", "v1")
    shop.route(1_000_000, [shop.ips["stable-1"]], ["127.77.255.254"])
    until(lambda: shop.get("/healthz")[0] == 503)


def test_a_path_without_a_rule_is_not_found(shop: Street) -> None:
    assert shop.get("/anything")[0] == 404


def test_a_pod_that_dies_in_the_middle_of_a_request_is_a_bad_gateway(shop: Street) -> None:
    ip = shop.pod("stable-1", "v1", "slow", drop=1.0)
    shop.route(0, [ip], [])
    until(lambda: shop.get("/healthz")[0] == 200)
    shop.start_shopping(rate=200)
    until(lambda: shop.truth()["stable-1"]["requests"] > 10)
    shop.children["server"].send({"do": "stop", "uid": "stable-1", "grace": 0.0})
    shop.box.wait("stopped")
    total = shop.finish()["total"]
    assert total["failed"] > 0
    assert total["broken"] == 0


# behind the API server


class Town:
    """The embedded cluster, real pods, and the gateway following it."""

    def __init__(self, **bug: object) -> None:
        self.cluster = RealTimeCluster(ShopKubelet)
        self.box = Mailbox()
        self.gateway = Child("canary.lab.shop.gateway", self.box.told)
        open_shop(self.cluster.store, 0, free_port(int(time.time() * 1000)), **bug)
        self.gateway.send({"do": "run", "seed": 1})
        self.ports = self.box.wait("listening")
        store, timers = self.cluster.store, self.cluster.timers
        RouteController(
            store, timers, lambda seen: self.gateway.send(seen.command()), propagation_seconds=0.0
        )

    def stored_route(self) -> dict[str, Any]:
        kinds = self.cluster.store.kinds
        return self.cluster.store.get(kinds.named("HTTPRoute"), NAMESPACE, "checkout")

    def close(self) -> None:
        self.gateway.close()
        self.cluster.stop()
        kubelet = self.cluster.kubelet
        assert isinstance(kubelet, ShopKubelet)
        kubelet.close()


@pytest.fixture
def town() -> Iterator[Town]:
    built = Town()
    yield built
    built.close()


def version(town: Town) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", town.ports["port"], timeout=10)
    connection.request("POST", "/checkout", b'{"buy": true}')
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.headers.get("X-Shop-Version", str(answer.status))


def test_the_gateway_follows_the_route_in_the_api_server(town: Town) -> None:
    until(lambda: version(town) == "v1")
    assert {version(town) for _ in range(30)} == {"v1"}
    set_weight(town.cluster.store, 1_000_000)
    until(lambda: version(town) == "v2")
    assert {version(town) for _ in range(30)} == {"v2"}
    set_weight(town.cluster.store, 0)
    until(lambda: version(town) == "v1")
    assert {version(town) for _ in range(30)} == {"v1"}


def test_the_gateway_writes_the_status_of_each_generation(town: Town) -> None:
    def observed() -> bool:
        stored = town.stored_route()
        parents = (stored.get("status") or {}).get("parents") or []
        seen = {one["observedGeneration"] for parent in parents for one in parent["conditions"]}
        return seen == {stored["metadata"]["generation"]}

    until(observed)
    set_weight(town.cluster.store, 10_000)
    assert town.stored_route()["metadata"]["generation"] == 2
    until(observed)
    statuses = {one["status"] for one in town.stored_route()["status"]["parents"][0]["conditions"]}
    assert statuses == {"True"}


def test_pods_that_go_lose_their_share_and_new_ones_get_it(town: Town) -> None:
    until(lambda: version(town) == "v1")
    kind = town.cluster.store.kinds.named("Deployment")

    def scale(replicas: int) -> None:
        town.cluster.store.update(
            kind,
            (NAMESPACE, "checkout"),
            lambda obj: {**obj, "spec": {**obj["spec"], "replicas": replicas}},
        )

    scale(0)
    until(lambda: version(town) == "503")
    scale(1)
    until(lambda: version(town) == "v1")


def test_a_crashing_pod_is_restarted_with_a_count() -> None:
    town = Town(SHOP_BUG="crash-loop")
    try:
        kind = town.cluster.store.kinds.named("Pod")

        def restarted() -> bool:
            pods = [pod for pod in town.cluster.store.select(kind) if "canary" in pod["metadata"]["name"]]
            statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
            return bool(statuses) and all(one["restartCount"] >= 1 and one["ready"] for one in statuses)

        until(restarted)
    finally:
        town.close()
