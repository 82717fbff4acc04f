"""Every raise stands on a durable record, whatever happens to store and controller; a lowering never waits."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from object_server import Bucket, serving
from sim_faults import Crash, Dying, Moment
from sim_street import COLLAPSE, Street, everything_is_back, short_policy, side_ppm

from canary.api.reasons import PPM, Opening, Phase, Reason
from canary.audit.chain import Record, parse_head, readable, verify
from canary.audit.store import Store, open_store
from canary.lab import manifests
from canary.lab.apiserver.history import Event
from canary.operator.auditor import WAIT_SECONDS

STRAIGHT = short_policy(steps=[{"weight": "5%"}, {"weight": "100%"}])
OUTAGE_SECONDS = 30.0


class Audited(Street):
    """A street whose every raise is held against the records of that moment."""

    def __init__(self, address: str, **more: Any) -> None:
        self.unrecorded: list[str] = []
        super().__init__(policy=STRAIGHT, audit=address, **more)
        self.cluster.store.subscribe(self._hold_against_records)

    @property
    def kept(self) -> Store:
        return open_store(self.setting.audit)

    @property
    def records(self) -> list[Record]:
        return list(readable(self.kept.lines()))

    def kinds(self) -> list[str]:
        return [record["kind"] for record in self.records]

    def _hold_against_records(self, event: Event) -> None:
        if event.old is None or event.obj["metadata"]["name"] != manifests.NAME:
            return
        if event.kind.name == "HTTPRoute" and side_ppm(event.obj) > side_ppm(event.old):
            top = max((record.get("toPpm", 0) for record in self.records), default=0)
            if side_ppm(event.obj) > top:
                self.unrecorded.append(f"{side_ppm(event.obj)} ppm, the highest record is of {top}")
        rolls = event.kind.name == "Deployment" and event.old["spec"].get("paused")
        if rolls and not event.obj["spec"].get("paused") and "Commit" not in self.kinds():
            self.unrecorded.append("a roll without a record")


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file:{tmp_path / 'audit.jsonl'}"


def test_a_promotion_is_on_record_from_the_hold_to_the_end(address: str):
    street = Audited(address)
    street.push()
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, manifests.NEW)
    assert street.unrecorded == []
    told = [kind for kind in street.kinds() if kind != "Note"]
    assert told == ["Start", "Start", "Raise", "Raise", "Commit", "Lower", "Lower", "Promote"]
    raised = [(each["fromPpm"], each["toPpm"]) for each in street.records if each["kind"] == "Raise"]
    assert raised == [(0, 50_000), (50_000, PPM)]
    audit = street.run.status.audit
    assert audit.sequence == len(street.records)
    assert not verify(street.kept.lines()).fault


def test_a_rollback_is_on_record_with_its_evidence_and_what_it_cost(address: str):
    street = Audited(address)
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    last = street.records[-1]
    run = street.run
    assert (last["kind"], last["reason"], last["run"]) == (
        "RollBack",
        run.status.timeline[-1].reason,
        run.name,
    )
    assert last["evidence"]["verdict"] == "RollBack"
    assert float(last["evidence"]["lost"][0]) > 0
    assert last["digest"] == run.spec.digest
    assert last["change"]["what"] == run.spec.change.what


def test_the_page_at_the_end_carries_the_head_that_proves_the_chain(address: str):
    street = Audited(address)
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    page = street.run.status.notices[-1]
    assert page.reason == Reason.ROLLED_BACK
    head = parse_head(page.facts["auditHead"])
    assert f"audit {head}" in page.body
    assert street.records[head.sequence - 1]["kind"] == "RollBack"
    lines = list(street.kept.lines())
    assert not verify(lines, [head]).fault
    assert "its end is gone" in verify(lines[: head.sequence - 1], [head]).fault


def test_what_was_changed_is_on_record_by_its_place(address: str):
    street = Audited(address)
    street.push({"TAX": "planted-value"})
    street.until(Phase.PREPARING)
    start = next(record for record in street.records if record["kind"] == "Start")
    assert any("[TAX]" in path or path.endswith(".env") for path in start["changes"]), start["changes"]
    assert "planted-value" not in str(street.records)


@pytest.mark.parametrize("road", [{}, COLLAPSE], ids=["promoted", "rolled-back"])
@pytest.mark.parametrize("moment", Moment)
def test_a_controller_that_dies_between_record_and_raise_records_nothing_twice(
    road: dict[str, str], moment: Moment, tmp_path: Path
):
    """It dies at every write in turn, and each of its successors decides for itself."""
    end = Phase.ROLLED_BACK if road else Phase.PROMOTED
    dying = Dying()
    street = Audited(f"file:{tmp_path / 'audit.jsonl'}", wire=dying.wire)
    street.push(road)
    for number in range(1, 200):
        dying.count(2 + number % 5, moment)
        try:
            street.until(end).tidied()
            break
        except Crash:
            street.restart()
    everything_is_back(street, manifests.OLD if road else manifests.NEW)
    ids = [record["id"] for record in street.records]
    assert sorted(ids) == sorted(set(ids))
    assert street.unrecorded == []
    assert not verify(street.kept.lines()).fault
    kinds = [kind for kind in street.kinds() if kind != "Note"]
    assert kinds[-1] == ("RollBack" if road else "Promote")


# -- a store in trouble ----------------------------------------------------------------------------------------------


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving(Bucket()) as bucket:
        yield bucket


def refuses(bucket: Bucket) -> None:
    bucket.refuses = 507


def is_slow(bucket: Bucket) -> None:
    bucket.delay_seconds = WAIT_SECONDS + 0.5


def is_well(bucket: Bucket) -> None:
    slow, bucket.refuses, bucket.delay_seconds = bucket.delay_seconds, 0, 0.0
    time.sleep(slow)  # what is under way ends in real time


@pytest.mark.parametrize("trouble", [refuses, is_slow])
def test_without_a_record_nothing_rises_and_people_are_called_once(
    bucket: Bucket, trouble: Callable[[Bucket], None]
):
    street = Audited(bucket.url)
    street.push()
    assert street.run_until(lambda: street.phase is Phase.PREPARING, 60), street.told()
    trouble(bucket)
    street.run_for(OUTAGE_SECONDS)
    assert street.route_ppm() == 0
    status = street.run.status
    assert status.reason == Reason.AUDIT_WRITE_FAILED, street.told()
    calls = [notice for notice in status.notices if notice.reason == Reason.AUDIT_WRITE_FAILED]
    assert [notice.opening for notice in calls] == [Opening.ACTION_NEEDED]
    is_well(bucket)
    street.until(Phase.PROMOTED, limit=300).tidied()
    everything_is_back(street, manifests.NEW)
    assert street.unrecorded == []
    assert not verify(bucket.lines).fault


@pytest.mark.parametrize("trouble", [refuses, is_slow])
def test_a_rollback_does_not_wait_for_its_record(bucket: Bucket, trouble: Callable[[Bucket], None]):
    street = Audited(bucket.url)
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "5"})
    assert street.run_until(lambda: street.route_ppm() > 0, 120), street.told()
    trouble(bucket)
    street.until(Phase.ROLLED_BACK, limit=60)
    assert street.route_ppm() == 0
    lost = sum(truth.missing for truth in street.shop.truths)
    assert "RollBack" not in street.kinds()
    is_well(bucket)
    street.run_for(60)
    assert street.kinds()[-1] == "RollBack", street.kinds()
    assert street.records[-1]["reason"] == Reason.ORDERS_COLLAPSED
    assert lost < 1_000, f"{lost} orders lost"


def test_a_run_without_an_audit_leaves_none(tmp_path: Path):
    street = Street()
    street.push()
    street.until(Phase.PROMOTED).tidied()
    assert street.run.status.audit.sequence == 0
