"""What a look at stored routes says: shares, acceptance by every parent, and who wrote."""

from typing import Any

import pytest

from canary.api.marks import Mark
from canary.core.evidence import Acceptance, Drift
from canary.traffic.router import Target
from canary.traffic.sight import acceptance_of, last_writer, see

TARGET = Target("shop", "checkout", "checkout-canary")
Json = dict[str, Any]


def route(name: str = "web", weights: tuple[int, int] = (1_000_000, 0), marks: Json | None = None) -> Json:
    refs = [{"name": "checkout", "weight": weights[0]}, {"name": "checkout-canary", "weight": weights[1]}]
    annotations = {Mark.STABLE.value: "checkout", Mark.WEIGHT.value: "0", **(marks or {})}
    metadata = {
        "name": name,
        "namespace": "shop",
        "resourceVersion": "7",
        "generation": 4,
        "annotations": annotations,
    }
    return {
        "metadata": metadata,
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": refs}]},
    }


def parent(name: str = "gateway", *, generation: int = 4, **statuses: str) -> Json:
    conditions = [
        {"type": kind, "status": status, "observedGeneration": generation, "message": f"{kind} says {status}"}
        for kind, status in ({"Accepted": "True", "ResolvedRefs": "True"} | statuses).items()
    ]
    return {"parentRef": {"name": name}, "conditions": conditions}


def answered(*parents: Json, refs: list[Json] | None = None) -> Json:
    made = route()
    made["status"] = {"parents": list(parents)}
    if refs is not None:
        made["spec"]["parentRefs"] = refs
    return made


BOTH = [{"name": "gateway"}, {"name": "inner"}]


@pytest.mark.parametrize(
    ("made", "expected", "words"),
    [
        (answered(parent()), Acceptance.ACCEPTED, ""),
        (answered(), Acceptance.PENDING, "not spoken"),
        (answered(parent(generation=3)), Acceptance.PENDING, "generation 4"),
        (answered(parent(Accepted="False")), Acceptance.REFUSED, "Accepted says False"),
        (answered(parent(ResolvedRefs="False")), Acceptance.REFUSED, "ResolvedRefs"),
        (answered(parent(ResolvedRefs="Unknown")), Acceptance.REFUSED, "Unknown"),
        (answered(parent(generation=3, Accepted="False")), Acceptance.PENDING, "generation 4"),
        (answered({"parentRef": {"name": "gateway"}, "conditions": []}), Acceptance.PENDING, "generation 4"),
        (answered(parent(), refs=BOTH), Acceptance.PENDING, "inner"),
        (answered(parent(), parent("inner"), refs=BOTH), Acceptance.ACCEPTED, ""),
        (answered(parent(), parent("inner", Accepted="False"), refs=BOTH), Acceptance.REFUSED, "inner"),
        (answered(parent(), parent(generation=3)), Acceptance.PENDING, "generation 4"),
        (
            answered(parent(), refs=[{"name": "gateway", "sectionName": "https"}]),
            Acceptance.PENDING,
            "not spoken",
        ),
        (
            answered(parent(), refs=[{"name": "gateway", "namespace": "shop", "kind": "Gateway"}]),
            Acceptance.ACCEPTED,
            "",
        ),
        (answered(parent(), refs=[]), Acceptance.PENDING, "no parent"),
    ],
)
def test_a_route_is_accepted_when_every_parent_accepts_the_stored_generation(
    made: Json, expected: Acceptance, words: str
):
    acceptance, detail = acceptance_of([made])
    assert acceptance is expected
    assert words in detail


def test_one_refusing_route_outweighs_all_that_accept_and_all_that_wait():
    assert (
        acceptance_of([answered(parent()), answered(), answered(parent(Accepted="False"))])[0]
        is Acceptance.REFUSED
    )
    assert acceptance_of([answered(parent()), answered()])[0] is Acceptance.PENDING
    assert acceptance_of([])[0] is Acceptance.PENDING


def test_exposure_is_the_highest_share_of_all_routes():
    marks = {Mark.WEIGHT.value: "100000"}
    seen = see(
        TARGET, "httproutes", [route("a", (900_000, 100_000), marks), route("b", (999_000, 1_000), marks)]
    )
    assert (seen.route.weight_ppm, seen.lowest_ppm) == (100_000, 1_000)
    assert seen.route.drift is Drift.LOWERED
    assert seen.route.version == "a=7,b=7"


def test_shares_count_by_proportion_so_that_other_totals_are_no_drift():
    seen = see(TARGET, "httproutes", [route("a", (9, 1), {Mark.WEIGHT.value: "100000"})])
    assert (seen.route.weight_ppm, seen.route.drift) == (100_000, None)


def test_an_unmarked_route_that_exposes_the_side_was_raised_by_somebody():
    stranger = route("a", (9, 1))
    del stranger["metadata"]["annotations"]
    seen = see(TARGET, "httproutes", [stranger])
    assert seen.route.drift is Drift.RAISED
    assert not seen.route.attached
    assert seen.route.partial


def test_a_rule_in_which_nobody_has_weight_is_an_outage_and_counts_as_raised():
    seen = see(TARGET, "httproutes", [route("a", (0, 0))])
    assert seen.route.drift is Drift.RAISED
    assert "requests fail" in seen.route.detail


def test_the_most_dangerous_drift_is_told_first():
    missing = route("a")
    missing["spec"]["rules"][0]["backendRefs"].pop()
    unknown = route("z")
    del unknown["metadata"]["annotations"]
    raised = route("b", (0, 1))
    lowered = route("c", marks={Mark.WEIGHT.value: "10"})
    order = [
        (Drift.LOWERED, lowered),
        (Drift.REFS_MISSING, missing),
        (Drift.UNKNOWN_ROUTE, unknown),
        (Drift.RAISED, raised),
    ]
    present: list[Json] = []
    for drift, made in order:
        present.append(made)
        assert see(TARGET, "httproutes", present).route.drift is drift


def test_the_epoch_of_several_routes_is_the_oldest_and_foreign_marks_are_none():
    numbered = [route("a", marks={Mark.EPOCH.value: "3"}), route("b", marks={Mark.EPOCH.value: "2"})]
    seen = see(TARGET, "httproutes", numbered).route
    assert (seen.epoch, seen.last_epoch) == (2, 3)
    by_hand = route("c", marks={Mark.EPOCH.value: "alice-1"})
    assert see(TARGET, "httproutes", [*numbered, by_hand]).route.epoch == 0


def test_a_marked_route_without_any_rule_of_ours_still_has_to_be_tidied():
    emptied = route("a")
    emptied["spec"]["rules"] = []
    other = route("b")
    del other["metadata"]["annotations"]
    other["spec"]["rules"] = [{"backendRefs": [{"name": "cart"}]}]
    seen = see(TARGET, "httproutes", [emptied, other])
    assert len(seen.routes) == 1
    assert seen.route.weight_ppm == 0
    assert seen.route.attached or seen.route.partial


def test_no_route_at_all_is_not_attached():
    seen = see(TARGET, "httproutes", [])
    assert not seen.route.attached
    assert not seen.route.partial
    assert seen.route.acceptance is Acceptance.PENDING


def test_the_newest_writer_of_the_routes_themselves_is_named():
    made = route()
    made["metadata"]["managedFields"] = [
        {"manager": "kubectl", "time": "2026-03-05T09:00:00Z"},
        {"manager": "argocd", "time": "2026-03-05T09:00:05Z"},
        {"manager": "gateway", "time": "2026-03-05T09:00:09Z", "subresource": "status"},
    ]
    assert last_writer([route(), made]) == "argocd"
    assert last_writer([route()]) == ""


def test_a_service_of_another_namespace_or_kind_is_not_ours():
    other = route()
    refs = [
        {"name": "checkout", "namespace": "cart"},
        {"name": "checkout", "kind": "ServiceImport", "group": "net"},
    ]
    other["spec"]["rules"] = [{"backendRefs": refs}]
    del other["metadata"]["annotations"]
    assert see(TARGET, "httproutes", [other]).routes == ()


@pytest.mark.parametrize("text", ["9" * 10, "9" * 5_000, "-1", "1e3", "cli-7"])
def test_what_others_write_for_an_epoch_or_a_weight_is_no_number_of_ours(text: str) -> None:
    marks = {Mark.EPOCH.value: text, Mark.WEIGHT.value: text}
    seen = see(TARGET, "httproutes", [route(weights=(990_000, 10_000), marks=marks)])
    assert seen.route.epoch == 0
    assert seen.route.drift is Drift.RAISED
