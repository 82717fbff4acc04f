"""The shop's objects as a team would write them: Deployment, Service, HTTPRoute, policy, and changes of the image.

Plain dictionaries of the Kubernetes API; nothing in them knows that the cluster is embedded.
"""

from collections.abc import Mapping
from typing import Any

from canary.api.change import ChangeAnnotation
from canary.api.reasons import Origin
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, HTTPROUTES, NAMESPACES, SERVICES, Resource

Object = dict[str, Any]
NAMESPACE, NAME, OLD, NEW = "shop", "checkout", "v2.30.4", "v2.31.0"
PORT_NAME = "http"


def namespace(name: str = NAMESPACE) -> Object:
    return NAMESPACES.at("", name).manifest()


def shop(replicas: int, port: int) -> list[tuple[Resource, Object]]:
    """Return everything that the shop needs to serve, in the order of its making."""
    return [
        (NAMESPACES, namespace()),
        (SERVICES, service()),
        (DEPLOYMENTS, deployment(replicas, port)),
        (HTTPROUTES, route()),
    ]


def deployment(replicas: int, port: int, version: str = OLD) -> Object:
    """Return the Deployment of the shop at a version."""
    template = {
        "metadata": {"labels": {"app": NAME, "app.kubernetes.io/version": version}},
        "spec": {"containers": [container(version, port)]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": NAME}}, "template": template}
    return DEPLOYMENTS.at(NAMESPACE, NAME).manifest({"labels": {"app": NAME}}, spec=spec)


def container(version: str, port: int, env: Mapping[str, str] | None = None) -> Object:
    """Return the shop's container; its environment may order a bug."""
    return {
        "name": "shop",
        "image": f"registry.example/shop:{version}",
        "ports": [{"name": PORT_NAME, "containerPort": port}],
        "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
    }


def service() -> Object:
    ports = [{"name": PORT_NAME, "port": 80, "targetPort": PORT_NAME}]
    return SERVICES.at(NAMESPACE, NAME).manifest(spec={"selector": {"app": NAME}, "ports": ports})


def route() -> Object:
    rules = [{"backendRefs": [{"name": NAME, "port": 80}]}]
    return HTTPROUTES.at(NAMESPACE, NAME).manifest(spec={"parentRefs": [{"name": "gateway"}], "rules": rules})


def policy(spec: Mapping[str, Any] | None = None) -> Object:
    """Return a policy for the shop; `spec` overrides whole fields of the default one."""
    default: Object = {
        "target": {"name": NAME},
        "analysis": {
            "orders": {"counter": "orders_completed_total"},
            "requests": {"counter": "http_requests_total"},
            "errors": {"counter": "http_requests_total", "where": {"code": "5.."}},
            "slow": {"histogram": "http_request_duration_seconds", "above": "500ms"},
            "extra": [{"name": "late-promises", "counter": "delivery_promise_days_over_10_total"}],
        },
        "source": {"scrape": {"port": PORT_NAME, "path": "/metrics", "every": "1s"}},
    }
    return CANARYPOLICIES.at(NAMESPACE, NAME).manifest(spec={**default, **(spec or {})})


def change(version: str, port: int, env: Mapping[str, str], origin: Origin = Origin.AI) -> Object:
    """Return a merge patch of the Deployment: a new version with its change record."""
    template = {
        "metadata": {"labels": {"app.kubernetes.io/version": version}},
        "spec": {"containers": [container(version, port, env)]},
    }
    return {"metadata": {"annotations": record(origin)}, "spec": {"template": template}}


def record(origin: Origin) -> dict[str, str]:
    """Return the annotations that CI writes for a change."""
    annotations = {
        ChangeAnnotation.CHANGE_ID: "shop-4711",
        ChangeAnnotation.WHAT: "Move the confirmation call to the new client library",
        ChangeAnnotation.WHY: "The old library is out of support at the end of the month",
        ChangeAnnotation.ROLLBACK_PLAN: "Take the slice back; no data is migrated, so nothing else is needed",
        ChangeAnnotation.ORIGIN: origin.value,
        ChangeAnnotation.AUTHORS: "dana",
        ChangeAnnotation.AGENTS: "kiro" if origin is Origin.AI else "",
    }
    return {key.value: text for key, text in annotations.items() if text}
