"""The sweep of the audit against the real Deployment controller: how it numbers, what it leaves, what a hold shows."""

from pathlib import Path
from typing import Any

import pytest
from cluster_bed import Bed
from shop_on_bed import POD_PORT

from canary.alerts.sink import Page
from canary.audit.chain import readable, verify
from canary.audit.store import Book, FileStore
from canary.clock import WallClock
from canary.kube.client import Client, Intent
from canary.kube.lease import HEARTBEAT_LEASE
from canary.kube.resources import CANARYPOLICIES, DAEMONSETS, DEPLOYMENTS, LEASES, STATEFULSETS, Resource
from canary.lab import manifests
from canary.lab.rehearsal.scenario import Alone
from canary.metrics.scrape import ScrapeSource
from canary.operator.auditor import Scribe
from canary.operator.hands import Hands
from canary.operator.heads import Heads
from canary.operator.inventory import Inventory
from canary.operator.run import PolicySources
from canary.traffic.httproute import HTTPRouteRouter, RouteBrake

pytest_plugins = ["cluster_fixtures"]
REPLICAS = 2


class SweptShop:
    """A Deployment of real pods with a policy, no controller beside it, and a sweep that is called by hand."""

    def __init__(self, bed: Bed, namespace: str, path: Path) -> None:
        self.bed = bed
        self.namespace = namespace
        self.ref = DEPLOYMENTS.at(namespace, manifests.NAME)
        self.kept = FileStore(path)
        self.pages: list[Page] = []
        client = Client(bed.transport("controller"))
        self.scribe = Scribe(Book(self.kept), WallClock())
        self.hands = Hands(
            client=client,
            router=HTTPRouteRouter(client),
            brake=RouteBrake(client),
            sources=PolicySources(ScrapeSource(WallClock()), (), WallClock()),
            fence=Alone(),
            clock=WallClock(),
            scribe=self.scribe,
        )
        self.inventory = Inventory(
            self.hands, self.kept, self.pages.append, cluster="bed", namespace=namespace
        )
        for resource, obj in (
            (DEPLOYMENTS, manifests.deployment(REPLICAS, POD_PORT, "v1")),
            (CANARYPOLICIES, manifests.policy()),
        ):
            obj["metadata"]["namespace"] = namespace
            bed.admin.create(resource, obj, intent=Intent.NEUTRAL)
        self.serves("v1")

    def push(self, version: str, *, paused: bool) -> None:
        spec = {
            "paused": paused,
            "template": manifests.deployment(REPLICAS, POD_PORT, version)["spec"]["template"],
        }
        self.bed.admin.merge_patch(self.ref, {"spec": spec}, intent=Intent.NEUTRAL)

    def status(self) -> dict[str, int]:
        """Return what the Deployment controller says of the newest edit; nothing before it has looked."""
        stored = self.bed.admin.get(self.ref) or {}
        status = stored.get("status") or {}
        return status if status.get("observedGeneration") == stored["metadata"]["generation"] else {}

    def looked_at(self) -> None:
        self.bed.until(lambda: bool(self.status()), "the Deployment controller has looked")

    def serves(self, version: str) -> None:
        """Wait until every pod runs a version."""

        def all_new() -> bool:
            counts = [self.status().get(name) for name in ("readyReplicas", "updatedReplicas", "replicas")]
            return counts == [REPLICAS] * 3

        self.bed.until(all_new, f"{version} serves")

    def swept(self) -> list[tuple[int, str]]:
        before = len(list(self.kept.lines()))
        assert self.inventory.sweep()
        return [
            (each["revision"], each["kind"])
            for each in readable(self.kept.lines(before))
            if "revision" in each and each["workload"] == self.ref.name
        ]


@pytest.fixture
def shop(bed: Bed, namespace: str, tmp_path: Path) -> SweptShop:
    return SweptShop(bed, namespace, tmp_path / "audit.jsonl")


def test_what_goes_round_the_hold_is_found_by_the_numbers_of_the_real_controller(shop: SweptShop) -> None:
    assert shop.swept() == [(1, "Initial")]
    shop.push("v2", paused=True)
    assert shop.swept() == []
    shop.push("v1", paused=True)
    assert shop.swept() == []
    shop.push("v2", paused=False)
    shop.serves("v2")
    assert shop.swept() == [(2, "Bypass")]
    assert "serves v2, and no run let it through" in shop.pages[-1].title
    shop.push("v3", paused=False)
    shop.serves("v3")
    shop.push("v2", paused=False)
    shop.serves("v2")
    assert shop.swept() == [(3, "Gap"), (4, "Bypass")]
    assert shop.swept() == []
    assert not verify(shop.kept.lines()).fault


def test_an_old_template_that_is_held_is_numbered_anew_and_is_no_change(shop: SweptShop) -> None:
    shop.push("v2", paused=False)
    shop.serves("v2")
    assert shop.swept() == [(1, "Initial"), (2, "Initial")]
    shop.push("v1", paused=True)
    shop.looked_at()
    assert shop.swept() == []
    shop.push("v2", paused=True)
    shop.looked_at()
    assert {kind for _, kind in shop.swept()} <= {"Gap", "Note"}
    assert [page for page in shop.pages if page.opening] == []


def test_a_stateful_set_and_a_daemon_set_are_on_record_by_their_revisions(shop: SweptShop) -> None:
    bed, before = shop.bed, len(list(shop.kept.lines()))
    kinds = {STATEFULSETS: {"replicas": 1, "serviceName": "none"}, DAEMONSETS: {}}
    for resource, spec in kinds.items():
        bed.make(resource, "store", shop.namespace, spec={**spec, **store("v1")})
    bed.until(lambda: all(serving(shop, each, "v1") for each in kinds), "both serve v1")
    shop.swept()
    for resource in kinds:
        changed = {"spec": {"template": store("v2")["template"]}}
        bed.admin.merge_patch(resource.at(shop.namespace, "store"), changed, intent=Intent.NEUTRAL)
    bed.until(lambda: all(serving(shop, each, "v2") for each in kinds), "both serve v2")
    shop.swept()
    shop.swept()
    found = [
        (each["workload"], each["kind"], each["version"]["version"])
        for each in readable(shop.kept.lines(before))
        if str(each["workload"]).endswith("/store") and "revision" in each
    ]
    assert sorted(found) == [
        (f"{kind}/store", "Unpoliced", version)
        for kind in ("daemonset", "statefulset")
        for version in ("v1", "v2")
    ]


def store(version: str) -> dict[str, Any]:
    labels = {"app": "store", "app.kubernetes.io/version": version}
    pod = {"containers": [manifests.container(version, POD_PORT)], "tolerations": [{"operator": "Exists"}]}
    return {
        "selector": {"matchLabels": {"app": "store"}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def serving(shop: SweptShop, resource: Resource, version: str) -> bool:
    """Tell whether every pod of a set runs a version, and its controller has said so."""
    stored = shop.bed.admin.get(resource.at(shop.namespace, "store")) or {}
    status = stored.get("status") or {}
    counts = [
        status.get(name)
        for name in ("updatedReplicas", "readyReplicas", "updatedNumberScheduled", "numberReady")
    ]
    seen = status.get("observedGeneration") == stored["metadata"]["generation"]
    wanted = stored["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == version
    settled = status.get("currentRevision") == status.get("updateRevision")
    return seen and wanted and settled and [each for each in counts if each is not None] == [1, 1]


def test_the_head_stands_on_the_heartbeats_lease_and_is_held_against_the_audit(
    shop: SweptShop, bed: Bed
) -> None:
    lease = LEASES.at(shop.namespace, HEARTBEAT_LEASE)
    bed.make(LEASES, HEARTBEAT_LEASE, shop.namespace, spec={})
    heads = Heads(shop.hands, lease, shop.kept, shop.pages.append, "bed")
    shop.swept()
    heads.beat()
    stored = bed.admin.get(lease)
    assert stored is not None
    head = str(verify(shop.kept.lines()).head)
    assert head in str(stored["metadata"]["annotations"])
    later = f"9:{'a' * 64} 2026-03-05T12:00:00Z"
    old = {"metadata": {"annotations": dict.fromkeys(stored["metadata"]["annotations"], later)}}
    bed.admin.merge_patch(lease, old, intent=Intent.NEUTRAL)
    heads.beat()
    assert "its end is gone" in str(heads.closed)
