"""What no run decided is found by the sweep: initial versions, bypasses, gaps; and where audit and cluster disagree."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sim_street import COLLAPSE, Street, short_policy

from canary.alerts.sink import Couriers, Page
from canary.api.change import ChangeAnnotation
from canary.api.marks import Mark
from canary.api.reasons import Opening, Phase, Reason
from canary.audit.chain import Record, readable, verify
from canary.audit.store import FileStore, open_store
from canary.core.telling.page_texts import Place
from canary.kube.client import Client, Intent
from canary.kube.lease import HEARTBEAT_LEASE
from canary.kube.resources import DEPLOYMENTS, HTTPROUTES, LEASES, NAMESPACES, REPLICASETS, SERVICES
from canary.lab import manifests
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.rehearsal.scenario import PORT, build_hands
from canary.operator.controller import Controller
from canary.operator.heads import Heads
from canary.operator.inventory import Inventory
from canary.operator.tell import Teller

LEE = User("lee", ("system:masters",))
LEASE = LEASES.at("canary-system", HEARTBEAT_LEASE)
CHECKOUT = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
STEADY = short_policy(steps=[{"weight": "5%"}, {"weight": "100%"}])


class Swept(Street):
    """A street whose audit is kept, whose sweep is called by hand, and whose guard can be passed by."""

    def __init__(self, path: Path) -> None:
        super().__init__(policy=STEADY, audit=f"file:{path}")
        self.pages: list[Page] = []
        self.kept = FileStore(path)
        hands = build_hands(self.cluster, self.clock, self.shop, self.setting)
        self.inventory = Inventory(hands, self.kept, self.pages.append, cluster="lab", namespace=None)
        self.heads = Heads(hands, LEASE, self.kept, self.pages.append, "lab")
        self.lee = Client(InProcessTransport(ApiServer(self.cluster.store), LEE), clock=self.clock)
        self.lee.create(NAMESPACES, {"metadata": {"name": "canary-system"}}, intent=Intent.NEUTRAL)
        self.lee.create(LEASES, LEASE.manifest(spec={}), intent=Intent.NEUTRAL)

    @property
    def records(self) -> list[Record]:
        return list(readable(self.kept.lines()))

    def swept(self) -> list[tuple[int, str]]:
        """Sweep; return what was put on record: revisions and their kinds."""
        before = len(self.records)
        assert self.inventory.sweep()
        return [(each["revision"], each["kind"]) for each in self.records[before:] if "revision" in each]

    def edits(self) -> list[tuple[str, str, str]]:
        """Sweep; return what was put on record of edits: what, by whom, and the sentence."""
        before = len(self.records)
        assert self.inventory.sweep()
        return [
            (each["workload"], each["by"], each["message"])
            for each in self.records[before:]
            if "spec" in each
        ]

    def calls(self) -> list[Page]:
        return [page for page in self.pages if page.opening is Opening.ACTION_NEEDED]

    def without_controller(self, seconds: float = 30.0) -> None:
        """Let time pass for everybody but the controller."""
        for _ in range(int(seconds * 2)):
            self.cluster.controllers.step()
            self.clock.run_for(0.5)

    def roll_out(self, version: str, **annotations: str) -> None:
        """Change the Deployment and release the hold, past the guard."""
        body = manifests.change(version, PORT, {})
        spec = {**body["spec"], "paused": False}
        metadata = {**body.get("metadata", {}), "annotations": annotations}
        self.lee.merge_patch(CHECKOUT, {"metadata": metadata, "spec": spec}, intent=Intent.NEUTRAL)


@pytest.fixture
def street(tmp_path: Path) -> Swept:
    return Swept(tmp_path / "audit.jsonl")


def test_the_version_that_serves_when_the_audit_begins_is_on_record_once(street: Swept) -> None:
    assert street.swept() == [(1, "Initial")]
    assert street.swept() == []
    assert street.records[0]["version"]["version"] == manifests.OLD
    assert street.calls() == []


def test_another_controller_reads_what_the_first_one_recorded(street: Swept) -> None:
    street.swept()
    hands = build_hands(street.cluster, street.clock, street.shop, street.setting)
    assert Inventory(hands, street.kept, street.pages.append, cluster="lab", namespace=None).sweep()
    assert [each["kind"] for each in street.records] == ["Initial", "Route", "Service", "Policy"]


def test_every_edit_of_a_route_a_service_or_a_policy_by_others_is_on_record_and_ours_is_not(
    street: Swept,
) -> None:
    street.swept()
    street.push()
    street.until(Phase.PROMOTED).tidied()
    assert street.edits() == []
    route = HTTPROUTES.at(manifests.NAMESPACE, manifests.NAME)
    street.lee.merge_patch(route, {"spec": {"hostnames": ["b.example"]}}, intent=Intent.NEUTRAL)
    street.lee.create(SERVICES, road(), intent=Intent.NEUTRAL)
    [changed, made] = street.edits()
    assert changed[0] == f"httproute/{manifests.NAME}"
    assert "the spec of httproute/checkout was changed" in changed[2]
    assert made[::2] == ("service/road", "service/road is on record from here on")
    assert street.edits() == []
    stored = street.lee.get(SERVICES.at(manifests.NAMESPACE, "road")) or {}
    street.lee.delete(
        SERVICES.at(manifests.NAMESPACE, "road"), uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL
    )
    assert [each[2] for each in street.edits()] == ["service/road was deleted"]
    assert street.edits() == []
    assert not verify(street.kept.lines()).fault


def road() -> dict[str, Any]:
    spec = {"selector": {"app": "road"}, "ports": [{"port": 80}]}
    return SERVICES.at(manifests.NAMESPACE, "road").manifest(spec=spec)


def test_a_promoted_version_is_covered_by_the_record_of_its_commit(street: Swept) -> None:
    street.swept()
    street.push()
    street.until(Phase.PROMOTED).tidied()
    assert street.swept() == [(2, "Rolled")]
    worse = manifests.change("v2.32.0", PORT, COLLAPSE)
    worse["metadata"]["annotations"][ChangeAnnotation.CHANGE_ID.value] = "shop-4712"
    street.admin.merge_patch(CHECKOUT, worse, intent=Intent.NEUTRAL)
    street.until(Phase.ROLLED_BACK).tidied()
    assert street.swept() == []
    assert street.calls() == []


def test_a_workload_that_no_policy_names_is_on_record_and_calls_nobody(street: Swept) -> None:
    street.swept()
    other: dict[str, Any] = manifests.deployment(2, PORT, "v9")
    other["metadata"] = {"name": "search", "namespace": manifests.NAMESPACE}
    for part in (other["spec"]["selector"]["matchLabels"], other["spec"]["template"]["metadata"]["labels"]):
        part.update({"app": "search", "app.kubernetes.io/name": "search"})
    street.lee.create(DEPLOYMENTS, other, intent=Intent.NEUTRAL)
    street.without_controller()
    assert street.swept() == [(1, "Unpoliced")]
    assert street.records[-1]["workload"] == "search"
    assert street.calls() == []


def test_who_goes_round_the_hold_while_no_controller_runs_is_found_and_people_are_called(
    street: Swept,
) -> None:
    street.swept()
    street.roll_out("v6.6.6", **{Mark.BREAK_GLASS.value: "INC-481 pay hotfix, verified by hand"})
    street.without_controller()
    assert street.swept() == [(2, "Bypass")]
    page = street.calls()[-1]
    assert page.title == "ACTION NEEDED - shop/checkout serves v6.6.6, and no run let it through"
    assert "INC-481" in page.body
    assert "INC-481" in street.records[-1]["message"]
    street.swept()
    assert {page.id for page in street.calls()} == {page.id}
    assert not verify(street.kept.lines()).fault


def test_what_came_and_went_while_no_controller_ran_is_a_gap(street: Swept) -> None:
    street.swept()
    street.roll_out("v6.6.6")
    street.without_controller()
    street.roll_out(manifests.OLD)
    street.without_controller()
    assert street.swept() == [(2, "Gap"), (3, "Note")]
    assert street.calls() == []


def test_a_revision_whose_traces_are_gone_is_a_gap_by_its_number(street: Swept) -> None:
    street.swept()
    street.roll_out("v6.6.6")
    street.without_controller()
    street.roll_out(manifests.OLD)
    street.without_controller()
    for each in street.admin.list(REPLICASETS, manifests.NAMESPACE):
        if not each["spec"]["replicas"]:
            ref = REPLICASETS.at(manifests.NAMESPACE, each["metadata"]["name"])
            street.lee.delete(ref, uid=each["metadata"]["uid"], intent=Intent.NEUTRAL)
    assert street.swept() == [(2, "Gap"), (3, "Note")]
    assert "came and went" in street.records[-2]["message"]


def test_a_workload_that_was_deleted_and_created_anew_is_no_initial_version(street: Swept) -> None:
    street.swept()
    stored = street.lee.get(CHECKOUT)
    assert stored is not None
    street.lee.delete(CHECKOUT, uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL)
    street.without_controller()
    street.lee.create(DEPLOYMENTS, manifests.deployment(4, PORT, manifests.OLD), intent=Intent.NEUTRAL)
    street.without_controller()
    assert street.swept() == [(1, "Bypass")]
    assert "deleted and created anew" in street.records[-1]["message"]


def test_an_audit_that_cannot_be_read_ends_the_sweep_and_not_the_controller(tmp_path: Path) -> None:
    street = Swept(tmp_path / "audit.jsonl")
    (tmp_path / "audit.jsonl").mkdir()
    assert not street.inventory.sweep()


# -- the head in two places ------------------------------------------------------------------------------------------


def lease_of(street: Swept) -> str:
    stored = street.lee.get(LEASE)
    assert stored is not None
    return stored["metadata"].get("annotations", {}).get(Mark.AUDIT_HEAD.value, "")


def put_back(street: Swept, text: str | None) -> None:
    patch = {"metadata": {"annotations": {Mark.AUDIT_HEAD.value: text}}}
    street.lee.merge_patch(LEASE, patch, intent=Intent.NEUTRAL)


def test_the_head_is_told_in_the_cluster_and_once_an_hour_to_the_sinks(street: Swept) -> None:
    street.swept()
    street.heads.beat()
    head = str(verify(street.kept.lines()).head)
    assert lease_of(street).startswith(f"{head} ")
    assert [page.body for page in street.pages] == [f"head {head}"]
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    street.heads.beat()
    assert lease_of(street).startswith(f"{verify(street.kept.lines()).head} ")
    assert {page.body for page in street.pages} == {f"head {head}"}
    street.clock.jump_wall(timedelta(hours=1).total_seconds())
    street.heads.beat()
    assert street.pages[-1].body == f"head {verify(street.kept.lines()).head}"
    assert verify(street.kept.lines()).head.sequence > 1


def test_a_crash_between_a_record_and_the_lease_is_no_alarm(street: Swept) -> None:
    street.swept()
    street.heads.beat()
    street.push(COLLAPSE)
    street.until(Phase.PREPARING)
    street.heads.beat()
    assert (street.heads.closed, street.calls()) == ({}, [])


def test_an_audit_that_lost_its_end_stops_raises_and_calls_people(street: Swept, tmp_path: Path) -> None:
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    street.heads.beat()
    told = lease_of(street)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    heads = after_restart(street)
    heads.beat()
    assert "its end is gone" in heads.closed[Reason.AUDIT_WRITE_FAILED]
    assert lease_of(street) == told
    assert "raises stopped" in street.calls()[-1].title


def test_an_audit_that_was_written_anew_stops_raises_and_calls_people(street: Swept, tmp_path: Path) -> None:
    street.swept()
    street.heads.beat()
    path = tmp_path / "audit.jsonl"
    path.unlink()
    street.push(COLLAPSE)
    street.restart()
    street.until(Phase.ROLLED_BACK).tidied()
    heads = after_restart(street)
    heads.beat()
    assert "written anew" in heads.closed[Reason.AUDIT_WRITE_FAILED]


def after_restart(street: Swept) -> Heads:
    hands = build_hands(street.cluster, street.clock, street.shop, street.setting)
    return Heads(hands, LEASE, open_store(street.setting.audit), street.pages.append, "lab")


def test_a_cluster_that_was_put_back_gives_its_slice_away_until_a_person_agrees(street: Swept) -> None:
    street.swept()
    street.heads.beat()
    before = lease_of(street)
    street.without_controller(120)
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    put_back(street, before)
    street.heads.beat()
    assert "put back to an earlier state" in street.heads.closed[Reason.CLUSTER_RESTORED]
    assert "traffic is on stable" in street.calls()[-1].title
    listening(street)
    assert street.run_until(lambda: street.route_ppm() == 0, 10), street.told()
    street.run_for(60)
    assert (street.phase, street.route_ppm()) == (Phase.PAUSED, 0)
    put_back(street, None)
    street.heads.beat()
    assert street.heads.closed == {}
    assert lease_of(street)


def listening(street: Swept) -> None:
    """Let the controller's looks ask the heads, as the wiring of the process does."""
    hands = build_hands(street.cluster, street.clock, street.shop, street.setting)
    hands = replace(hands, audit_gates=lambda: street.heads.closed)
    teller = Teller(hands, Couriers({}), lambda _: [], place=Place("lab"))
    street.controller = Controller(hands, teller)
