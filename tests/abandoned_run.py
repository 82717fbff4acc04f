"""A cluster in which a change to `shop/checkout` has 1 % of the traffic, and no controller is alive.

For the pages that tell what to do then: the objects are made by the product's own parts, the API server listens on a
loopback port, and a kubeconfig says where. No guard is installed, as in a cluster today.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import yaml

from canary.api.crd import crds
from canary.clock import WallClock
from canary.kube.client import Client, Intent
from canary.kube.resources import DEPLOYMENTS, HTTPROUTES, NAMESPACES, SERVICES, Resource
from canary.kube.side import Order, Owner, side_objects
from canary.lab.admission import User
from canary.lab.cluster import RealTimeCluster
from canary.lab.serving import HttpServer
from canary.traffic.httproute import HTTPRouteRouter
from canary.traffic.router import Target

TOKEN = "me"
SLICE_PPM = 10_000
SHOP: list[tuple[Resource, str]] = [
    (
        DEPLOYMENTS,
        "{replicas: 2, selector: {matchLabels: {app: checkout}}, template: {metadata: {labels: {app: checkout}}, "
        "spec: {containers: [{name: shop, image: 'shop:1'}]}}}",
    ),
    (SERVICES, "{selector: {app: checkout}, ports: [{name: http, port: 80}]}"),
    (HTTPROUTES, "{parentRefs: [{name: front}], rules: [{backendRefs: [{name: checkout, port: 80}]}]}"),
]


@contextlib.contextmanager
def abandoned_run(folder: Path) -> Iterator[Path]:
    """Yield the path of a kubeconfig for such a cluster; it ends with the block."""
    cluster = RealTimeCluster(rules=())
    server = HttpServer(cluster.server, {TOKEN: User("me", ("system:masters",))})
    try:
        cluster.install(crds())
        _expose(Client(cluster.transport(User("controller")), clock=WallClock()))
        yield server.kubeconfig(folder / "kubeconfig", TOKEN)
    finally:
        server.stop()
        cluster.stop()


def _expose(client: Client) -> None:
    client.create(NAMESPACES, {"metadata": {"name": "shop"}}, intent=Intent.NEUTRAL)
    named = {"metadata": {"name": "checkout", "namespace": "shop"}}
    made = [
        client.create(kind, {**named, "spec": yaml.safe_load(spec)}, intent=Intent.NEUTRAL)
        for kind, spec in SHOP
    ]
    deployment = client.merge_patch(
        DEPLOYMENTS.at("shop", "checkout"), {"spec": {"paused": True}}, intent=Intent.NEUTRAL
    )
    assert deployment is not None
    template = deployment["spec"]["template"]
    for kind, manifest in side_objects(Order(Owner(deployment, made[1]), template, 2, run="checkout-1")):
        client.create(kind, manifest, intent=Intent.NEUTRAL)
    router, target = HTTPRouteRouter(client), Target("shop", "checkout", "checkout-canary", run="checkout-1")
    for weight in (0, SLICE_PPM):
        router.write(target, weight, router.read(target))
