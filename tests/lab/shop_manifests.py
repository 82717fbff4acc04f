"""The objects of a small shop, as a team would write them: Deployments, Services and a route, for the lab's tests."""

from typing import Any

from canary.api.marks import ROLE_CANARY, Mark
from canary.lab.apiserver.store import Store

NAMESPACE = "shop"


def deployment(name: str, port: int, version: str, replicas: int = 2, **bug: object) -> dict[str, Any]:
    labels = {"app": name, "app.kubernetes.io/version": version}
    if name.endswith("-canary"):
        labels[Mark.ROLE.value] = ROLE_CANARY
    container = {
        "name": "shop",
        "image": f"example/shop:{version}",
        "ports": [{"name": "http", "containerPort": port}],
        "env": [{"name": name, "value": str(value)} for name, value in bug.items()],
    }
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def service(name: str) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def route(canary_ppm: int) -> dict[str, Any]:
    refs = [
        {"name": "checkout", "port": 80, "weight": 1_000_000 - canary_ppm},
        {"name": "checkout-canary", "port": 80, "weight": canary_ppm},
    ]
    return {
        "metadata": {"name": "checkout", "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": refs}]},
    }


def open_shop(store: Store, canary_ppm: int, port: int = 8080, **bug: object) -> None:
    """Create a stable side of two pods, a canary side of two with a bug, and a route between them."""
    store.create(store.kinds.named("Namespace"), {"metadata": {"name": NAMESPACE}})
    for name, version, its in (("checkout", "v1", {}), ("checkout-canary", "v2", bug)):
        store.create(store.kinds.named("Deployment"), deployment(name, port, version, **its))
        store.create(store.kinds.named("Service"), service(name))
    store.create(store.kinds.named("HTTPRoute"), route(canary_ppm))


def set_weight(store: Store, canary_ppm: int) -> None:
    store.update(
        store.kinds.named("HTTPRoute"),
        (NAMESPACE, "checkout"),
        lambda obj: {**obj, "spec": route(canary_ppm)["spec"]},
    )
