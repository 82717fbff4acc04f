"""What counts as an edit by others: a spec less what canary and the cluster write; made, changed, deleted."""

from typing import Any

from canary.audit.edits import GONE, Edited, edit_of, edited, entry_of_edit, theirs, unrecorded_edits
from canary.audit.entries import RecordKind

Object = dict[str, Any]


def route(*refs: Object, **more: Any) -> Object:
    metadata = {"name": "shop", "namespace": "shop", "uid": "u", "resourceVersion": "7"}
    return {
        "kind": "HTTPRoute",
        "metadata": metadata,
        "spec": {"rules": [{"backendRefs": list(refs), **more}]},
    }


STABLE, SIDE = {"name": "shop", "port": 80}, {"name": "shop-canary", "port": 80, "weight": 50_000}


def seen(obj: Object) -> Edited:
    return edited(RecordKind.ROUTE, obj)


def test_a_slice_its_way_back_and_every_weight_are_no_edit() -> None:
    alone = seen(route(STABLE)).digest
    assert seen(route({**STABLE, "weight": 950_000}, SIDE)).digest == alone
    assert seen(route({**STABLE, "weight": 1}, {"name": "shop-lastgood", "port": 80})).digest == alone


def test_another_backend_match_filter_or_host_is_an_edit() -> None:
    alone = seen(route(STABLE)).digest
    others = [
        route(STABLE, {"name": "other", "port": 80}),
        route({**STABLE, "port": 81}),
        route(STABLE, matches=[{"path": {"value": "/pay"}}]),
        {**route(STABLE), "spec": {**route(STABLE)["spec"], "hostnames": ["b.example"]}},
    ]
    assert len({alone, *(seen(each).digest for each in others)}) == len(others) + 1


def test_what_the_cluster_gives_a_service_is_no_edit_and_its_selector_is() -> None:
    spec = {"selector": {"app": "shop"}, "ports": [{"port": 80}]}
    assert theirs({**spec, "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}) == theirs(spec)
    assert theirs({**spec, "selector": {"app": "x"}}) != theirs(spec)


def test_an_object_is_told_when_it_is_new_changed_or_gone_and_once() -> None:
    first, then = seen(route(STABLE)), seen(route({**STABLE, "port": 81}))
    known: dict[str, Edited] = {}
    for now, said in (
        ([first], "from here on"),
        ([then], "was changed"),
        ([], "was deleted"),
        ([first], "changed"),
    ):
        [(found, message)] = unrecorded_edits(known, now)
        assert said in message
        read = edit_of(entry_of_edit(found, message, "2026-03-05T00:00:00Z"))
        assert read == found
        known = {"u": read}
        assert list(unrecorded_edits(known, now)) == []
    assert known["u"].digest != GONE


def test_the_newest_writer_who_is_not_canary_is_named() -> None:
    written = [
        {"manager": "kubectl-edit", "time": "2026-03-05T02:00:00Z"},
        {"manager": "argocd", "time": "2026-03-05T01:00:00Z"},
        {"manager": "canary-controller", "time": "2026-03-05T03:00:00Z"},
        {"manager": "traefik", "time": "2026-03-05T04:00:00Z", "subresource": "status"},
    ]
    obj = route(STABLE)
    assert seen({**obj, "metadata": {**obj["metadata"], "managedFields": written}}).by == "kubectl-edit"


def test_a_record_of_something_else_is_no_edit() -> None:
    assert edit_of({"kind": "Raise", "spec": "sha256:a"}) is None
    assert edit_of({"kind": "Route", "spec": {"not": "a digest"}}) is None
