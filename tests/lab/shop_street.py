"""A whole street over real HTTP for the lab's tests: shop, gateway and customers as child processes."""

import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from shop_manifests import NAMESPACE, route, service

from canary.lab.shop.child import Child, Message
from canary.lab.shop.kubelet import free_port

WAIT_SECONDS = 20.0


class Mailbox:
    """Collects a child's events."""

    def __init__(self) -> None:
        self.events: list[Message] = []
        self._changed = threading.Condition()

    def told(self, event: Message) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, kind: str, count: int = 1) -> Message:
        """Return the count-th event of a kind."""

        def found() -> list[Message]:
            return [event for event in self.events if event["event"] == kind]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, WAIT_SECONDS), (kind, self.events)
            return found()[count - 1]


class Street:
    """Pods of v1 and v2, a gateway between them and customers; nobody shops before `shop`."""

    def __init__(self) -> None:
        self.box = Mailbox()
        self.port = free_port(int(time.time() * 1000))
        self.children = {
            name: Child(f"canary.lab.shop.{name}", self.box.told)
            for name in ("server", "gateway", "customers")
        }
        self.children["gateway"].send({"do": "run", "seed": 1})
        self.gateway = self.box.wait("listening")
        self.ips: dict[str, str] = {}

    def pod(self, uid: str, version: str, fault: str = "none", **other: object) -> str:
        """Start a pod and return its address."""
        self.start_pod(uid, version, fault=fault, **other)
        event = self.box.wait("started", len(self.ips) + 1)
        assert event["uid"] == uid
        self.ips[uid] = event["ip"]
        return event["ip"]

    def start_pod(self, uid: str, version: str, **other: object) -> None:
        command = {"do": "start", "uid": uid, "version": version, "ip": "", "ports": [self.port], "seed": 1}
        self.children["server"].send({**command, "fault": "none", "drop": None, "after": 0.0, **other})

    def route(self, canary_ppm: int, stable: Sequence[str], canary: Sequence[str]) -> None:
        slices = [slice_of("checkout", stable, self.port), slice_of("checkout-canary", canary, self.port)]
        services = [service("checkout"), service("checkout-canary")]
        update = {"routes": [route(canary_ppm)], "services": services, "slices": slices}
        self.children["gateway"].send({"do": "update", **update})

    def shop(self, seconds: float, rate: float = 800.0) -> Message:
        """Let customers come for a while; return what they met."""
        self.start_shopping(rate)
        time.sleep(seconds)
        return self.finish()

    def start_shopping(self, rate: float) -> None:
        run = {"do": "run", "host": "127.0.0.1", "port": self.gateway["port"], "rate": rate, "steady": True}
        self.children["customers"].send({**run, "conversion": 0.25, "seed": 1})

    def finish(self) -> Message:
        """Let nobody else in; return what everybody met."""
        before = sum(event["event"] == "finished" for event in self.box.events)
        self.children["customers"].send({"do": "finish"})
        return self.box.wait("finished", before + 1)

    def truth(self) -> dict[str, dict[str, Any]]:
        before = sum(event["event"] == "truth" for event in self.box.events)
        self.children["server"].send({"do": "truth"})
        return {pod["uid"]: pod for pod in self.box.wait("truth", before + 1)["pods"]}

    def get(self, path: str = "/checkout", port: int = 0, host: str = "127.0.0.1") -> tuple[int, bytes]:
        url = f"http://{host}:{port or self.gateway['port']}{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRaise())
        with opener.open(urllib.request.Request(url), timeout=WAIT_SECONDS) as answer:
            return answer.status, answer.read()

    def close(self) -> None:
        for child in self.children.values():
            child.close()


class NoRaise(urllib.request.HTTPErrorProcessor):
    def http_response(self, request: object, response: Any) -> Any:
        return response


def samples(text: str, name: str, label: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {s.labels.get(label, ""): s.value for family in families for s in family.samples if s.name == name}


def slice_of(name: str, ips: Sequence[str], port: int, ready: bool = True) -> dict[str, Any]:
    endpoints = [{"addresses": [ip], "conditions": {"ready": ready}} for ip in ips]
    return {
        "metadata": {
            "name": f"{name}-1",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": name},
        },
        "ports": [{"name": "http", "port": port}],
        "endpoints": endpoints,
    }


@contextmanager
def street() -> Iterator[Street]:
    opened = Street()
    try:
        yield opened
    finally:
        opened.close()
