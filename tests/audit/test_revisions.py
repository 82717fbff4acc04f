"""Each revision of a Deployment is on record for what it is; who goes round the hold is found, and nobody else."""

from dataclasses import replace

from canary.audit.chain import Head, Record, head_of, linked
from canary.audit.entries import RecordKind
from canary.audit.revisions import Ledger, Rollout, entry_of_revision, serving_without_a_run, unrecorded

A, B, C = "sha256:a", "sha256:b", "sha256:c"
SHOP = Rollout("shop", "checkout", "u1", 1, A, version="v1", pods=4, ready=4)


def run_record(kind: RecordKind, template: str, before: str = A, uid: str = "u1") -> Record:
    body = {"targetUid": uid, "version": {"template": template}, "baseline": {"template": before}}
    return {
        "id": f"{kind}/{template}",
        "kind": kind.value,
        "namespace": "shop",
        "workload": "checkout",
        **body,
    }


def sweep(ledger: Ledger, *seen: Rollout) -> list[tuple[int, RecordKind]]:
    """Put on record what has no record, as the operator does; return the revisions and their kinds."""
    found = list(unrecorded(ledger, seen))
    for rollout, kind, message in found:
        record = linked(entry_of_revision(rollout, kind, message, "2026-03-05T12:00:00Z"), Head())
        assert head_of(record).sequence == 1
        ledger.take(record)
    return [(rollout.revision, kind) for rollout, kind, _ in found]


def known(*records: Record) -> Ledger:
    """A ledger of a shop whose first revision is on record."""
    ledger = Ledger()
    sweep(ledger, SHOP)
    for record in records:
        ledger.take(record)
    return ledger


def test_what_is_there_when_the_audit_begins_is_initial_with_its_whole_history() -> None:
    old = replace(SHOP, pods=0, ready=0, template=B, revision=3)
    assert sweep(Ledger(), replace(SHOP, revision=5), old) == [
        (3, RecordKind.INITIAL),
        (5, RecordKind.INITIAL),
    ]


def test_what_is_on_record_is_not_put_there_again() -> None:
    assert sweep(known(), SHOP) == []


def test_a_workload_that_no_policy_guards_is_on_record_and_calls_nobody() -> None:
    ledger = known()
    other = replace(SHOP, workload="search", uid="u2", guarded=False)
    assert sweep(ledger, SHOP, other) == [(1, RecordKind.UNPOLICED)]
    assert sweep(ledger, SHOP, other, replace(other, revision=2, template=B)) == [(2, RecordKind.UNPOLICED)]
    assert serving_without_a_run(ledger, [other]) == []


def test_a_revision_that_a_run_committed_is_covered_by_it() -> None:
    ledger = known(run_record(RecordKind.START, B), run_record(RecordKind.COMMIT, B))
    new = replace(SHOP, revision=2, template=B)
    assert sweep(ledger, replace(SHOP, pods=0, ready=0), new) == [(2, RecordKind.ROLLED)]
    assert serving_without_a_run(ledger, [new]) == []


def test_a_commit_that_was_taken_back_covers_the_version_that_it_came_from() -> None:
    ledger = known(run_record(RecordKind.COMMIT, B))
    assert sweep(
        ledger, replace(SHOP, revision=3), replace(SHOP, revision=2, template=B, pods=0, ready=0)
    ) == [
        (2, RecordKind.ROLLED),
        (3, RecordKind.ROLLED),
    ]


def test_a_version_that_serves_and_that_no_run_let_through_is_a_bypass() -> None:
    ledger = known(run_record(RecordKind.START, B))
    new = replace(SHOP, revision=2, template=B, ready=1)
    assert sweep(ledger, SHOP, new) == [(2, RecordKind.BYPASS)]
    assert serving_without_a_run(ledger, [SHOP, new]) == [new]
    assert serving_without_a_run(ledger, [SHOP, replace(new, pods=0, ready=0)]) == []


def test_a_commit_of_another_workload_covers_nothing() -> None:
    ledger = known(run_record(RecordKind.COMMIT, B, uid="u9"))
    assert sweep(ledger, replace(SHOP, revision=2, template=B)) == [(2, RecordKind.BYPASS)]


def test_a_workload_that_was_deleted_and_created_anew_is_a_bypass_of_the_same_template() -> None:
    ledger = known()
    again = replace(SHOP, uid="u2")
    assert sweep(ledger, again) == [(1, RecordKind.BYPASS)]
    assert serving_without_a_run(ledger, [again]) == [again]


def test_what_came_and_went_while_nobody_watched_is_a_gap() -> None:
    ledger = known()
    assert sweep(ledger, replace(SHOP, revision=4)) == [
        (2, RecordKind.GAP),
        (3, RecordKind.GAP),
        (4, RecordKind.NOTE),
    ]
    left = replace(SHOP, revision=5, template=C, pods=0, ready=0)
    assert sweep(ledger, left, replace(SHOP, revision=6)) == [(5, RecordKind.GAP), (6, RecordKind.NOTE)]
    assert serving_without_a_run(ledger, [replace(SHOP, revision=6)]) == []


def test_a_history_that_is_pruned_later_leaves_no_gap() -> None:
    ledger = Ledger()
    sweep(ledger, *(replace(SHOP, revision=number, template=f"sha256:{number}") for number in range(1, 5)))
    assert sweep(ledger, replace(SHOP, revision=4, template="sha256:4")) == []


def test_a_change_that_is_held_is_no_revision_yet() -> None:
    ledger = known(run_record(RecordKind.START, B))
    held = replace(SHOP, revision=2, template=B, pods=0, ready=0, held=True)
    assert sweep(ledger, SHOP, held) == []
    assert sweep(ledger, replace(SHOP, revision=3), replace(held, held=False)) == [
        (2, RecordKind.NOTE),
        (3, RecordKind.NOTE),
    ]


def test_a_template_that_served_long_ago_and_serves_again_by_no_run_is_a_bypass() -> None:
    ledger = known(run_record(RecordKind.COMMIT, B, before=C))
    sweep(ledger, replace(SHOP, revision=2, template=B))
    back = replace(SHOP, revision=3)
    assert sweep(ledger, back) == [(3, RecordKind.BYPASS)]


def test_a_version_whose_pods_are_still_coming_is_waited_for() -> None:
    ledger = known()
    coming = replace(SHOP, revision=2, template=B, ready=0)
    assert sweep(ledger, SHOP, coming) == []
    assert sweep(ledger, SHOP, replace(coming, ready=1)) == [(2, RecordKind.BYPASS)]


def test_what_was_taken_for_gone_and_serves_after_all_is_a_bypass() -> None:
    ledger = known()
    gone = replace(SHOP, revision=2, template=B, pods=0, ready=0)
    assert sweep(ledger, SHOP, gone) == [(2, RecordKind.GAP)]
    back = replace(gone, pods=1, ready=1)
    assert sweep(ledger, SHOP, back) == [(2, RecordKind.BYPASS)]
    assert serving_without_a_run(ledger, [SHOP, back]) == [back]
    assert sweep(ledger, SHOP, back) == []


def test_a_version_from_before_the_audit_that_somebody_scales_up_is_a_bypass() -> None:
    ledger = Ledger()
    old = replace(SHOP, revision=1, template=B, pods=0, ready=0)
    serving = replace(SHOP, revision=2)
    assert sweep(ledger, old, serving) == [(1, RecordKind.INITIAL), (2, RecordKind.INITIAL)]
    assert sweep(ledger, replace(old, pods=1, ready=1), serving) == [(1, RecordKind.BYPASS)]


def test_the_old_pods_of_a_roll_are_not_put_on_record_again() -> None:
    ledger = known(run_record(RecordKind.COMMIT, B))
    both = (replace(SHOP, ready=2), replace(SHOP, revision=2, template=B, ready=2))
    assert sweep(ledger, *both) == [(2, RecordKind.ROLLED)]
    assert sweep(ledger, *both) == []


def test_a_bypass_stays_one_under_a_new_number_until_a_run_lets_it_through() -> None:
    ledger = known()
    sweep(ledger, replace(SHOP, revision=2, template=B))
    again = replace(SHOP, revision=4, template=B)
    assert sweep(ledger, again) == [(3, RecordKind.GAP), (4, RecordKind.BYPASS)]
    assert serving_without_a_run(ledger, [again]) == [again]
    ledger.take(run_record(RecordKind.COMMIT, B))
    assert sweep(ledger, replace(again, revision=5)) == [(5, RecordKind.ROLLED)]
