"""Shops under the troubles that clusters, pipelines and people make: each opens one, and says what befalls it.

A `Stage` opens a shop with its controller at work and yields it with a `Trouble`, which the story calls as soon as the
first customer may meet the new version.
"""

import json
import signal
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

from cluster_bed import Bed
from guarded_shop import guard_in_force, shop_under_guard
from metrics_api import BUSY, MANY, QUIET, autoscaler, metrics_open, scaled
from prometheus_on_bed import PROMETHEUS_URL, prometheus_open, scraped_pods
from shop_on_bed import COLLAPSE, END_SECONDS, Shop, shop_open

from canary.api.marks import side_name
from canary.lab import manifests

RATE = 100.0  # orders a second, one each request
FROZEN_SECONDS, AWAKE_SECONDS = 20.0, 5.0
APPLIES, APPLY_SECONDS = 5, 2.0
TARGET, ROUTE = f"deployment/{manifests.NAME}", f"httproute/{manifests.NAME}"
RAISED = [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 1_000_000}]

Trouble = Callable[[Shop], None]
Stage = Callable[[Bed, str], AbstractContextManager[tuple[Shop, Trouble]]]


def nothing(_: Shop) -> None:
    """Let the run be."""


def controller_killed(shop: Shop) -> None:
    """Kill the leader; the next one has to wait for its Lease."""
    shop.kill_controller()
    shop.start_controller()


def controller_frozen(shop: Shop) -> None:
    """Freeze the leader, let another take the change back, and let the first one go on with what it knew."""
    shop.freeze_controller()
    shop.start_controller()
    shop.until(lambda: shop.weight_ppm() == 0, "the next leader takes the slice away", END_SECONDS)
    shop.wake_controllers(AWAKE_SECONDS)


def api_server_frozen(shop: Shop) -> None:
    shop.bed.apiserver.send(signal.SIGSTOP)
    try:
        time.sleep(FROZEN_SECONDS)
    finally:
        shop.bed.apiserver.send(signal.SIGCONT)


def old_pod_killed(shop: Shop) -> None:
    """Kill the process of a pod of the old version, as a node that runs out of memory does."""
    shop.bed.node.crash(shop.pods(app=manifests.NAME)[0]["metadata"]["name"])


def route_applied_again(shop: Shop) -> None:
    """Apply the team's route every few seconds, as a GitOps controller does."""
    for _ in range(APPLIES):
        shop.apply(*shop.around())
        time.sleep(APPLY_SECONDS)


def pushed_again(shop: Shop) -> None:
    """Push another version that loses orders just the same, and wait for its run."""
    first = shop.run()["metadata"]["name"]
    shop.push({**COLLAPSE, "SHOP_BUG_DROP": "0.98"})
    shop.until(lambda: shop.run()["metadata"]["name"] != first, "the newer version has a run")


def agent_at_work(shop: Shop) -> None:
    """Try, as an agent that will have its change, what takes the run, the way back or everything away."""
    side = f"deployment/{side_name(manifests.NAME)}"
    roads = (
        ("patch", ROUTE, "--type=json", "-p", json.dumps(RAISED)),
        ("delete", ROUTE),
        ("delete", TARGET),
        ("rollout", "resume", TARGET),
        ("scale", TARGET, "--replicas=0"),
        ("set", "image", side, "shop=registry.example/shop:v9"),
        ("delete", f"canaryrun/{shop.run()['metadata']['name']}"),
        ("delete", f"canarypolicy/{manifests.NAME}"),
        ("delete", f"namespace/{shop.namespace}"),
    )
    for who in ("agent", "admin"):
        for words in roads:
            shop.bed.kubectl(who, *words, namespace=shop.namespace)  # what became of it is seen in the world


def plain(trouble: Trouble = nothing, *, envoy: bool = False) -> Stage:
    """Return a shop behind Traefik, or behind Envoy."""

    @contextmanager
    def stage(bed: Bed, name: str) -> Generator[tuple[Shop, Trouble]]:
        with shop_open(bed, name, RATE, envoy=envoy) as shop:
            shop.start_controller()
            yield shop, trouble

    return stage


@contextmanager
def guarded(bed: Bed, name: str) -> Generator[tuple[Shop, Trouble]]:
    """Open a shop under the guard, with an agent and an administrator against it."""
    with guard_in_force(bed), shop_under_guard(bed, name, RATE) as shop:
        yield shop, agent_at_work


@contextmanager
def watched_by_prometheus(bed: Bed, name: str) -> Generator[tuple[Shop, Trouble]]:
    """Open a shop that only a Prometheus counts, which then dies."""
    with prometheus_open(bed, name) as prometheus, shop_open(bed, name, RATE) as shop:
        shop.until(lambda: scraped_pods() == 3, "Prometheus has found the pods")
        shop.start_controller("--prometheus", PROMETHEUS_URL)
        yield shop, lambda _: prometheus.kill()


@contextmanager
def autoscaled(bed: Bed, name: str) -> Generator[tuple[Shop, Trouble]]:
    """Open a shop with a real autoscaler, which then finds that twice the pods are needed."""
    with metrics_open(bed) as metrics, shop_open(bed, name, RATE) as shop:
        metrics.load[name] = QUIET
        shop.apply(autoscaler(name))
        shop.start_controller()
        yield shop, lambda _: print(f"scaled within {scaled(shop, metrics, BUSY, MANY):.1f} s")
