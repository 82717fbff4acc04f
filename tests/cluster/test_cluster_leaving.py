"""What the team's own tools see: `kubectl diff` in every phase, other managers, an autoscaler, and the way out.

One healthy change is watched by a pipeline that diffs and applies all the time, with two tools that own fields of the
same objects; then the Deployment is given back. Another change is taken out at its first slice by a person who leaves.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from cluster_bed import Bed
from shop_on_bed import Shop, shop_open

from canary.api.crd import crds
from canary.api.marks import Mark
from canary.api.reasons import Phase
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYREQUESTS,
    CANARYRUNS,
    CONTROLLERREVISIONS,
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    HPAS,
    HTTPROUTES,
    PDBS,
    SERVICES,
)
from canary.lab import manifests
from canary.lab.shop.child import Message

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
RATE, BUSY = 100.0, 200.0  # orders a second: the busy shop can promote within a minute
POLICY = {
    "steps": [{"weight": "50%"}, {"weight": "100%"}],
    "bake": {"duration": "10s"},
    "drain": "5s",
    "analysis": {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"},
}
SPLIT = {Phase.PREPARING, Phase.PROGRESSING, Phase.BAKING, Phase.COMMITTING, Phase.RETURNING}
OURS = (CANARYPOLICIES, CANARYREQUESTS, CANARYRUNS)
BACK_SECONDS, GONE_SECONDS = 20.0, 150.0
DIFF_SECONDS, WINDOW_SECONDS, DETACH_SECONDS = 1.0, 5, 120


@dataclass(slots=True)
class Notes:
    """What stood in the world."""

    before: dict[str, Object]
    after: dict[str, Object] = field(default_factory=dict[str, Any])
    diffs: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """The phase before a diff, and what it showed."""
    frozen: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])
    """The side's weight, and whether the autoscaler could not scale down then."""
    said: list[str] = field(default_factory=list[str])
    sales: Message = field(default_factory=dict[str, Any])
    pods: list[set[str]] = field(default_factory=list[set[str]])
    left: list[str] = field(default_factory=list[str])
    diff_at_the_end: str = ""


def budget_and_autoscaler(shop: Shop) -> list[Object]:
    labels = {"matchLabels": {"app": manifests.NAME}}
    budget = PDBS.at(shop.namespace, manifests.NAME).manifest(spec={"minAvailable": 1, "selector": labels})
    behavior = {"scaleDown": {"stabilizationWindowSeconds": WINDOW_SECONDS}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": manifests.NAME}
    spec = {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 6, "behavior": behavior}
    return [budget, HPAS.at(shop.namespace, manifests.NAME).manifest(spec=spec)]


def stored(shop: Shop) -> dict[str, Object]:
    kinds = (DEPLOYMENTS, SERVICES, PDBS, HTTPROUTES, HPAS)
    found = {each.kind: shop.bed.admin.get(each.at(shop.namespace, manifests.NAME)) for each in kinds}
    return {kind: obj for kind, obj in found.items() if obj is not None}


class Pipeline:
    """Diffs the team's manifests all the time, and every few seconds applies them as another manager does."""

    def __init__(self, shop: Shop, notes: Notes, documents: list[Object]) -> None:
        self._shop, self._notes, self._documents = shop, notes, documents
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Pipeline":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        turns = 0
        while not self._over.wait(DIFF_SECONDS):
            phase = self._shop.phase()
            self._notes.diffs.append((phase, self._shop.diff(*self._documents)))
            hpa = stored(self._shop)["HorizontalPodAutoscaler"]["spec"]
            down = (hpa.get("behavior") or {}).get("scaleDown") or {}
            if phase in (Phase.PROGRESSING, Phase.BAKING):
                self._notes.frozen.append((self._shop.weight_ppm(), down.get("selectPolicy") == "Disabled"))
            turns += 1
            if turns % 3 == 0:
                apply_as(self._shop, "gitops", self._documents)


def apply_as(shop: Shop, manager: str, documents: list[Object], *flags: str) -> str:
    """Apply on the server in a manager's name; return what went wrong."""
    words = (
        "apply",
        "--server-side",
        f"--field-manager={manager}",
        *(flags or ("--force-conflicts",)),
        "-f",
        "-",
    )
    done = shop.bed.kubectl(
        "alice", *words, namespace=shop.namespace, given=yaml.safe_dump_all(documents, sort_keys=False)
    )
    return done.stderr if done.returncode else ""


def leave(shop: Shop, notes: Notes, *words: str) -> None:
    of = ("--controller-namespace", shop.namespace)  # another story's dead controller is none of ours
    limit = f"{DETACH_SECONDS}s"
    done = shop.canary("admin", "detach", manifests.NAME, "--yes", "--timeout", limit, *of, *words)
    notes.said.append(f"{done.returncode} {done.stdout}{done.stderr}")
    notes.after = stored(shop)
    notes.left = [str(each) for each in shop.bed.admin.list(CONTROLLERREVISIONS, shop.namespace)]
    notes.left += [
        str(each["metadata"]["name"]) for each in shop.bed.admin.list(CANARYPOLICIES, shop.namespace)
    ]
    notes.left += sides(shop)


def sides(shop: Shop) -> list[str]:
    """Return everything that stands beside the shop's own objects."""
    return [
        f"{kind.kind} {each['metadata']['name']}"
        for kind in (DEPLOYMENTS, SERVICES, PDBS)
        for each in shop.bed.admin.list(kind, shop.namespace, selector=Mark.SIDE.value)
    ]


def promoted(bed: Bed) -> Notes:
    with shop_open(bed, "promoted", BUSY) as shop:
        shop.apply(*budget_and_autoscaler(shop))
        notes = Notes(stored(shop))
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        mine = [shop.applied[0], shop.applied[1], budget_and_autoscaler(shop)[0]]
        with Pipeline(shop, notes, mine):
            shop.reach(Phase.PROMOTED)
            shop.until(lambda: bool(shop.run()["status"].get("tidiedAt")), "the run is tidied")
        changed = {**shop.applied[2], "spec": {**shop.applied[2]["spec"], "hostnames": ["shop.example.com"]}}
        notes.said.append(apply_as(shop, "gitops", [changed], "--force-conflicts=false", "--dry-run=server"))
        notes.said.append(apply_as(shop, "gitops", [shop.applied[2]]))
        leave(shop, notes)
        notes.diff_at_the_end = shop.diff(*shop.applied, *budget_and_autoscaler(shop))
        notes.sales = shop.close_shop()
        return notes


def rejected(bed: Bed) -> Notes:
    with shop_open(bed, "rejected", RATE) as shop:
        notes = Notes(stored(shop))
        notes.pods.append({pod["metadata"]["uid"] for pod in shop.pods()})
        shop.start_controller()
        shop.protect(**POLICY | {"steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}]})
        shop.push()
        shop.reach_slice()
        of = ("--controller-namespace", shop.namespace)
        refused = shop.canary("admin", "detach", manifests.NAME, "--yes", *of)
        notes.said.append(f"{refused.returncode} {refused.stderr}")
        leave(shop, notes, "--reject")
        notes.pods.append({pod["metadata"]["uid"] for pod in shop.pods()})
        notes.sales = shop.close_shop()
        return notes


def orphaned(bed: Bed) -> Notes:
    """Delete our CRDs, and with them every policy and run, while customers meet the new version."""
    with shop_open(bed, "orphaned", RATE) as shop:
        notes = Notes(stored(shop))
        shop.start_controller()
        shop.protect(**POLICY | {"steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}]})
        shop.push()
        shop.reach_slice()
        for resource in OURS:
            bed.kubectl("admin", "delete", "crd", f"{resource.plural}.{resource.group}", "--timeout=30s")
        try:
            shop.until(lambda: shop.weight_ppm() == 0, "all traffic is back", BACK_SECONDS)
            shop.until(lambda: not sides(shop), "the side is gone", GONE_SECONDS)
            notes.after = stored(shop)
            notes.sales = shop.close_shop()
            events = bed.admin.list(EVENTS, shop.namespace)
            notes.said = [
                each["message"] for each in events if each["involvedObject"]["kind"] == "Deployment"
            ]
            notes.said.append(f"exit {shop.stop_controller()}")
        finally:
            for definition in crds():
                if bed.admin.get(CRDS.at("", definition["metadata"]["name"])) is None:
                    bed.install_crd(definition)
        return notes


@pytest.fixture(scope="module")
def stories(bed: Bed) -> Iterator[dict[str, Future[Notes]]]:
    with ThreadPoolExecutor(2, thread_name_prefix="story") as pool:
        yield {story.__name__: pool.submit(story, bed) for story in (promoted, rejected)}


@pytest.fixture(scope="module")
def promotion(stories: dict[str, Future[Notes]]) -> Notes:
    return stories["promoted"].result()


@pytest.fixture(scope="module")
def rejection(stories: dict[str, Future[Notes]]) -> Notes:
    return stories["rejected"].result()


def unserved(notes: Notes) -> tuple[int, int]:
    """Return the requests that no pod of the shop answered: a healthy shop itself fails one in a thousand."""
    total = notes.sales["total"]
    by_shops = sum(each["failed"] for version, each in notes.sales["by_version"].items() if version)
    return total["failed"] - by_shops, total["broken"]


def test_kubectl_diff_of_the_teams_objects_is_empty_in_every_phase(promotion: Notes) -> None:
    assert {shown for _, shown in promotion.diffs} == {""}
    assert {phase for phase, _ in promotion.diffs} >= {each.value for each in SPLIT}


def test_an_autoscaler_cannot_scale_down_while_customers_are_elsewhere(promotion: Notes) -> None:
    assert any(weight > 0 for weight, _ in promotion.frozen)
    assert all(frozen for _, frozen in promotion.frozen)


def test_no_field_of_the_route_is_ours_any_more_when_a_pipeline_edits_it(promotion: Notes) -> None:
    conflicts, forced = promotion.said[:2]
    assert "canary" not in conflicts
    assert forced == ""


def test_a_promoted_deployment_is_given_back_and_nobody_is_lost(promotion: Notes) -> None:
    assert promotion.said[2].startswith("0 "), promotion.said[2]
    assert unserved(promotion) == (0, 0)
    assert promotion.left == []
    assert promotion.diff_at_the_end == ""
    deployment = promotion.after["Deployment"]
    assert "paused" not in deployment["spec"]
    assert Mark.GUARDED not in deployment["metadata"]["labels"]
    for kind in ("HTTPRoute", "HorizontalPodAutoscaler", "Service", "PodDisruptionBudget"):
        assert promotion.after[kind]["spec"] == promotion.before[kind]["spec"], kind


def test_a_change_at_its_first_slice_is_decided_before_anything_is_written(rejection: Notes) -> None:
    assert rejection.said[0].startswith("2 CAN-5007"), rejection.said[0]


def test_a_rejected_change_goes_and_no_pod_of_the_old_version_moves(rejection: Notes) -> None:
    assert rejection.said[1].startswith("0 "), rejection.said[1]
    assert "revert it where it comes from" in rejection.said[1]
    before, after = rejection.pods
    assert after == before
    assert unserved(rejection) == (0, 0)
    assert rejection.left == []
    for kind in ("Deployment", "HTTPRoute", "Service"):
        assert rejection.after[kind]["spec"] == rejection.before[kind]["spec"], kind


@pytest.mark.usefixtures("promotion", "rejection")  # they need the CRDs that this one deletes
def test_our_crds_can_be_deleted_under_a_run_and_nobody_is_lost(bed: Bed) -> None:
    notes = orphaned(bed)
    assert unserved(notes) == (0, 0)
    assert notes.after["HTTPRoute"]["spec"] == notes.before["HTTPRoute"]["spec"]
    deployment = notes.after["Deployment"]
    assert deployment["spec"]["paused"] is True, "the hold stays"
    assert any("canary detach orphaned/checkout" in said for said in notes.said), "and says how it ends"
    assert notes.said[-1] == "exit 0"
