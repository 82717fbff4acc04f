"""What the store promises beyond the contract: compaction, snapshots, determinism, its own CRDs, concurrency."""

import contextlib
import threading
from collections.abc import Callable

import pytest

from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.history import EventType
from canary.lab.apiserver.objects import Object, clone
from canary.lab.apiserver.store import STATUS, Delete, Store
from canary.lab.clock import SimClock

CRD = {
    "metadata": {"name": "shops.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Shop", "plural": "shops"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["owner"],
                                "properties": {
                                    "owner": {
                                        "type": "string",
                                        "pattern": "^[a-z]+$",
                                        "x-kubernetes-validations": [
                                            {"rule": "self == oldSelf", "message": "the owner stays"}
                                        ],
                                    },
                                    "size": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
                                    "mode": {"type": "string", "enum": ["Open", "Closed"], "default": "Open"},
                                    "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
                                },
                            },
                            "status": {"type": "object", "properties": {"sold": {"type": "integer"}}},
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def store() -> Store:
    return Store(SimClock())


def make(store: Store, name: str = "a", **spec: object) -> Object:
    return store.create(shops(store), {"metadata": {"name": name, "namespace": "default"}, "spec": spec})


def shops(store: Store):
    if store.kinds.find("example.com", "shops") is None:
        store.create(store.kinds.named("CustomResourceDefinition"), CRD)
    return store.kinds.named("Shop")


def write(field: str, value: object) -> Callable[[Object], Object]:
    def change(obj: Object) -> Object:
        obj["spec"][field] = value
        return obj

    return change


def test_a_custom_object_is_defaulted_and_pruned(store: Store) -> None:
    made = make(store, owner="dana", unknown=1)
    assert made["spec"] == {"owner": "dana", "size": 3, "mode": "Open"}
    assert made["apiVersion"] == "example.com/v1"
    assert made["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "spec.owner: Required value"),
        ({"owner": "DANA"}, "should match"),
        ({"owner": "dana", "size": 0}, "greater than or equal to 1"),
        ({"owner": "dana", "size": 10}, "less than or equal to 9"),
        ({"owner": "dana", "size": "3"}, "must be of type integer"),
        ({"owner": "dana", "size": True}, "must be of type integer"),
        ({"owner": "dana", "mode": "Ajar"}, 'supported values: "Open", "Closed"'),
        ({"owner": "dana", "tags": ["a", "b", "c"]}, "must have at most 2 items"),
        ({"owner": "dana", "tags": ["a", 1]}, "spec.tags[1]"),
    ],
)
def test_a_breach_of_the_schema_is_refused_with_its_path(
    spec: dict[str, object], said: str, store: Store
) -> None:
    with pytest.raises(ApiError) as refusal:
        make(store, **spec)
    assert refusal.value.reason is StatusReason.INVALID
    assert said in refusal.value.message
    assert store.select(shops(store)) == []


def test_a_rule_about_a_change_holds_for_changes_only(store: Store) -> None:
    make(store, owner="dana")
    with pytest.raises(ApiError, match="the owner stays"):
        store.update(shops(store), ("default", "a"), write("owner", "lee"))
    changed = store.update(shops(store), ("default", "a"), write("size", 5))
    assert changed["metadata"]["generation"] == 2


def test_a_status_write_moves_no_generation_and_no_spec(store: Store) -> None:
    made = make(store, owner="dana")
    written = store.update(
        shops(store),
        ("default", "a"),
        lambda obj: {**obj, "spec": {}, "status": {"sold": 7, "odd": 1}},
        STATUS,
    )
    assert written["status"] == {"sold": 7}
    assert written["spec"] == made["spec"]
    assert written["metadata"]["generation"] == 1
    assert written["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


def test_a_definition_with_a_rule_that_cannot_be_evaluated_is_refused(store: Store) -> None:
    definition = clone(CRD)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["x-kubernetes-validations"] = [{"rule": "quantity(self.spec.size).isGreaterThan(3)"}]
    with pytest.raises(ApiError, match="the function quantity is not known here"):
        store.create(store.kinds.named("CustomResourceDefinition"), definition)
    assert store.kinds.find("example.com", "shops") is None


def test_a_deleted_definition_takes_its_objects_along(store: Store) -> None:
    make(store, owner="dana")
    store.delete(store.kinds.named("CustomResourceDefinition"), ("", "shops.example.com"))
    assert store.kinds.find("example.com", "shops") is None
    store.create(store.kinds.named("CustomResourceDefinition"), CRD)
    assert store.select(shops(store)) == []


def test_what_a_reader_holds_never_changes(store: Store) -> None:
    kind, place = shops(store), ("default", "a")
    held = [make(store, owner="dana")]
    before = [clone(held[0])]
    for act in (
        lambda: store.update(kind, place, write("size", 5)),
        lambda: store.update(kind, place, lambda obj: {**obj, "status": {"sold": 1}}, STATUS),
        lambda: store.update(kind, place, lambda obj: {**obj, "status": {"sold": 2}}, STATUS),
        lambda: store.delete(kind, place),
    ):
        held.append(act())
        before.append(clone(held[-1]))
    assert held == before
    assert len({obj["metadata"]["resourceVersion"] for obj in held}) == len(held)


def test_what_a_writer_keeps_does_not_reach_the_store(store: Store) -> None:
    mine = {"metadata": {"name": "a", "namespace": "default"}, "spec": {"owner": "dana", "tags": ["x"]}}
    store.create(shops(store), mine)
    mine["spec"]["tags"].append("y")
    assert store.get(shops(store), "default", "a")["spec"]["tags"] == ["x"]


def test_each_write_is_one_event_with_one_version(store: Store) -> None:
    kind, start = shops(store), store.version
    make(store, owner="dana")
    store.update(kind, ("default", "a"), write("size", 5))
    store.update(kind, ("default", "a"), write("size", 5))
    store.delete(kind, ("default", "a"))
    events = store.history.after(start)
    assert [event.type for event in events] == [EventType.ADDED, EventType.MODIFIED, EventType.DELETED]
    assert [event.version for event in events] == [start + 1, start + 2, start + 3]
    assert [event.obj["metadata"]["resourceVersion"] for event in events] == [
        str(event.version) for event in events
    ]


def test_a_forgotten_version_is_410_and_the_next_one_is_not() -> None:
    store = Store(SimClock(), history=4)
    for number in range(20):
        make(store, f"shop-{number}", owner="dana")
    with pytest.raises(ApiError) as refusal:
        store.history.after(1)
    assert refusal.value.code == 410
    assert store.history.after(store.version - 4)[-1].version == store.version


def test_the_same_seed_makes_the_same_uids_and_names() -> None:
    def history(seed: int) -> list[str]:
        store = Store(SimClock(), seed=seed)
        for _ in range(3):
            store.create(
                store.kinds.named("ConfigMap"), {"metadata": {"generateName": "x-", "namespace": "default"}}
            )
        maps = store.select(store.kinds.named("ConfigMap"))
        return [obj["metadata"]["name"] + obj["metadata"]["uid"] for obj in maps]

    assert history(7) == history(7)
    assert history(7) != history(8)


def test_a_recreated_object_has_another_uid(store: Store) -> None:
    first = make(store, owner="dana")
    store.delete(shops(store), ("default", "a"), Delete(uid=first["metadata"]["uid"]))
    second = make(store, owner="dana")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    with pytest.raises(ApiError, match="Precondition failed"):
        store.delete(shops(store), ("default", "a"), Delete(uid=first["metadata"]["uid"]))


def test_a_namespace_has_to_exist_and_takes_its_content_along(store: Store) -> None:
    maps = store.kinds.named("ConfigMap")
    config = {"metadata": {"name": "a", "namespace": "shop"}}
    with pytest.raises(ApiError, match='namespaces "shop" not found'):
        store.create(maps, config)
    namespaces = store.kinds.named("Namespace")
    store.create(namespaces, {"metadata": {"name": "shop"}})
    store.create(maps, config)
    store.delete(namespaces, ("", "shop"))
    assert store.select(maps) == []


def test_concurrent_compare_and_sets_lose_no_count(store: Store) -> None:
    maps = store.kinds.named("ConfigMap")
    store.create(maps, {"metadata": {"name": "n", "namespace": "default"}, "data": {"n": "0"}})

    def count_up() -> None:
        done = 0
        while done < 50:
            seen = clone(store.get(maps, "default", "n"))
            seen["data"]["n"] = str(int(seen["data"]["n"]) + 1)
            with contextlib.suppress(ApiError):  # somebody was quicker: read again
                store.update(maps, ("default", "n"), lambda _, seen=seen: seen)
                done += 1

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert store.get(maps, "default", "n")["data"] == {"n": "200"}


def test_a_tightened_schema_does_not_lock_what_it_finds(store: Store) -> None:
    make(store, owner="dana", size=9)
    definition = store.kinds.named("CustomResourceDefinition")

    def tighten(obj: Object) -> Object:
        schema = obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"]["size"]["maximum"] = 5
        return obj

    store.update(definition, ("", "shops.example.com"), tighten)
    store.update(shops(store), ("default", "a"), write("mode", "Closed"))
    with pytest.raises(ApiError, match="less than or equal to 5"):
        store.update(shops(store), ("default", "a"), write("size", 8))
