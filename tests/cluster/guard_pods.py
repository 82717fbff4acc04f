"""Roads of the guard to what runs (G7): pods, their ReplicaSets, and what is run within them.

Tables as in `guard_roads`, of the same world. `pods_of_the_world` makes a pod as the ReplicaSet controller does, by a
name that a table can write down, and others that have nothing to do with the guarded Deployment.
"""

from typing import Any

from cluster_bed import Bed
from guard_on_bed import EVERYBODY, PEOPLE, STRATEGIC, Road, apply, create, delete, merge, operations
from guard_roads import GLASS, GLASS_BREAKERS, LABELS, PLAIN, SHOP, SIDE_LABELS, SIDE_PODS, unnamed

from canary.api.marks import Mark
from canary.kube.client import Intent
from canary.kube.resources import PODS, REPLICASETS
from canary.kube.transport import JSON

Object = dict[str, Any]
HASH = "pod-template-hash"
KEPT, OTHER, SIDES = "shop-kept-abcde", "other", "shop-canary-kept-abcde"
SPEC: Object = {"containers": [{"name": "c", "image": "x.invalid/x:1"}]}
ALL_PODS, POD, OTHER_POD = PODS.collection(SHOP), PODS.at(SHOP, KEPT).path(), PODS.at(SHOP, OTHER).path()
SIDE_POD = PODS.at(SHOP, SIDES).path()
SET, OTHER_SET = REPLICASETS.at(SHOP, "shop-kept"), REPLICASETS.at(SHOP, "other-kept")
SPARE_SET, SIDE_SET = REPLICASETS.at(SHOP, "shop-spare"), REPLICASETS.at(SHOP, "shop-canary-kept")
IMAGE = [{"op": "replace", "path": "/spec/containers/0/image", "value": "x.invalid/x:2"}]


def pod(labels: Object, name: str = "road", owner: str = "", **metadata: Any) -> Object:
    """Return a pod; `owner` is a ReplicaSet that it says to belong to."""
    of = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "u", "controller": True}
    named = {"name": name, "namespace": SHOP, "labels": labels, **metadata}
    return PODS.at(SHOP, name).manifest({**named, **({"ownerReferences": [of]} if owner else {})}, spec=SPEC)


HASHED = {**LABELS, HASH: "kept"}
POD_ROADS: dict[str, Road] = {
    "one with the Service's labels": create("pods", ALL_PODS, pod(LABELS)),
    "one that says who owns it": create("pods", ALL_PODS, pod(HASHED, owner="shop-kept")),
    "one of another Deployment": create("pods", ALL_PODS, pod(HASHED, owner="evil-kept")),
    "one with a wrong hash": create("pods", ALL_PODS, pod({**LABELS, HASH: "x"}, owner="shop-kept")),
    "one by a generated name": create("pods", ALL_PODS, unnamed(pod(LABELS), "shop-kept-")),
    "one with a reason": create("pods", ALL_PODS, pod(LABELS, **GLASS), *GLASS_BREAKERS),
    "one with the side's label": create("pods", ALL_PODS, pod(SIDE_PODS)),
    "one with the label of the last good": create("pods", ALL_PODS, pod({Mark.SIDE.value: "shop-lastgood"})),
    "one with both": create("pods", ALL_PODS, pod({**HASHED, **SIDE_LABELS}, owner="shop-kept")),
    "one of another side": create("pods", ALL_PODS, pod({Mark.SIDE.value: "pay-canary"}), *EVERYBODY),
    "one with other labels": create("pods", ALL_PODS, pod({"app": "job"}), *EVERYBODY),
    "one without labels": create("pods", ALL_PODS, pod({}), *EVERYBODY),
    "one by force": apply("pods", PODS.at(SHOP, "road").path(), pod(LABELS)),
    "another image": operations("pods", POD, IMAGE),
    "another image by force": apply(
        "pods", POD, PODS.at(SHOP, KEPT).manifest(spec={"containers": [{"name": "c", "image": "x.invalid/x:2"}]})
    ),
    "another image strategically": Road(
        "pods", "PATCH", POD, {"spec": {"containers": [{"name": "c", "image": "x.invalid/x:2"}]}}, STRATEGIC
    ),
    "another image, the glass broken": operations(
        "pods", POD, [*IMAGE, {"op": "add", "path": "/metadata/annotations", "value": GLASS["annotations"]}],
        *GLASS_BREAKERS,
    ),
    "another image of the side": operations("pods", SIDE_POD, IMAGE),
    "another image of a stranger": operations("pods", OTHER_POD, IMAGE, *EVERYBODY),
    "its label taken off": merge("pods", POD, {"metadata": {"labels": {"app": None}}}),
    "all labels taken off": merge("pods", POD, {"metadata": {"labels": None}}),
    "its label turned": merge("pods", POD, {"metadata": {"labels": {"app": "quarantine"}}}),
    "its hash turned": merge("pods", POD, {"metadata": {"labels": {HASH: "x"}}}),
    "given to nobody": merge("pods", POD, {"metadata": {"ownerReferences": None}}),
    "one more label": merge("pods", POD, {"metadata": {"labels": {"zone": "a"}}}, *EVERYBODY),
    "a note": merge("pods", POD, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "a stranger given the labels": merge("pods", OTHER_POD, {"metadata": {"labels": LABELS}}),
    "a stranger given the side's label": merge("pods", OTHER_POD, {"metadata": {"labels": SIDE_LABELS}}),
    "a stranger annotated": merge("pods", OTHER_POD, {"metadata": {"annotations": {"a": "b"}}}, *EVERYBODY),
    "the side given the serving labels": merge("pods", SIDE_POD, {"metadata": {"labels": LABELS}}),
    "deleted": delete("pods", POD),
    "deleted by force": delete("pods", POD, gracePeriodSeconds=0),
    "all deleted": delete("pods", ALL_PODS),
    "a stranger deleted": delete("pods", OTHER_POD, *PEOPLE, "agent"),
    "one of the side deleted": delete("pods", SIDE_POD, *PEOPLE, "agent"),
    "evicted": create(
        "pods",
        PODS.at(SHOP, KEPT).path("eviction"),
        {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": KEPT, "namespace": SHOP}},
        *EVERYBODY,
    ),
    "one in another namespace": create(
        "pods", PODS.collection(PLAIN), {**pod(LABELS), "metadata": {"name": "road", "labels": LABELS}}, *EVERYBODY
    ),
}  # fmt: skip


def replica_set(name: str, labels: Object, **metadata: Any) -> Object:
    template = {"metadata": {"labels": labels}, "spec": SPEC}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return REPLICASETS.at(SHOP, name).manifest({"labels": {"kept": "1"}, **metadata}, spec=spec)


def labelled(labels: Object) -> Object:
    return {"spec": {"template": {"metadata": {"labels": labels}}}}


ALL_SETS = REPLICASETS.collection(SHOP)
SETS: dict[str, Road] = {
    "one for the Service": create("replicasets", ALL_SETS, replica_set("shop-road", LABELS)),
    "one by a generated name": create("replicasets", ALL_SETS, unnamed(replica_set("x", HASHED), "shop-")),
    "one for the side": create("replicasets", ALL_SETS, replica_set("road", {Mark.SIDE.value: "shop-canary"})),
    "one for others": create("replicasets", ALL_SETS, replica_set("road", {"app": "job"}), *EVERYBODY),
    "one by force": apply("replicasets", REPLICASETS.at(SHOP, "shop-road").path(), replica_set("shop-road", LABELS)),
    "one with a reason": create("replicasets", ALL_SETS, replica_set("shop-road", LABELS, **GLASS), *GLASS_BREAKERS),
    "no pods": merge("replicasets", SET.path(), {"spec": {"replicas": 0}}),
    "no number of pods": merge("replicasets", SET.path(), {"spec": {"replicas": None}}),
    "another image": merge("replicasets", SET.path(), {"spec": {"template": {"spec": {
        "containers": [{"name": "c", "image": "x.invalid/x:2"}]}}}}),
    "another number of the roll-out": merge(
        "replicasets", SET.path(), {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "9"}}}
    ),
    "its owner taken off": merge("replicasets", SET.path(), {"metadata": {"ownerReferences": None, "labels": None}}),
    "the glass broken": merge("replicasets", SET.path(), {"metadata": GLASS, "spec": {"replicas": 2}}, *GLASS_BREAKERS),
    "the labels given to a stranger": merge(
        "replicasets", OTHER_SET.path(), labelled(LABELS)
    ),
    "a note on a stranger": merge("replicasets", OTHER_SET.path(), {"metadata": {"labels": {"a": "b"}}}, *EVERYBODY),
    "deleted": delete("replicasets", SET.path()),
    "deleted, its pods left": delete("replicasets", SET.path(), propagationPolicy="Orphan"),
    "all deleted": delete("replicasets", ALL_SETS),
    "a stranger deleted": delete("replicasets", OTHER_SET.path(), *PEOPLE, "agent"),
}  # fmt: skip
UNNUMBERED = {
    "apiVersion": "autoscaling/v1",
    "kind": "Scale",
    "metadata": {"name": "shop-kept", "namespace": SHOP},
}


def scaled(number: int) -> Object:
    return {"spec": {"replicas": number}}


SET_SCALES: dict[str, Road] = {
    "the serving one to nothing": merge("replicasets-scale", SET.path("scale"), scaled(0)),
    "the serving one without a number": Road("replicasets-scale", "PUT", SET.path("scale"), UNNUMBERED, JSON),
    "the serving one to more": merge("replicasets-scale", SET.path("scale"), scaled(9)),
    "the serving one to as many": merge("replicasets-scale", SET.path("scale"), scaled(1), *EVERYBODY),
    "the serving one to nothing, with a reason": merge(
        "replicasets-scale", SET.path("scale"), {"metadata": GLASS, **scaled(0)}
    ),
    "another one to nothing": merge("replicasets-scale", SPARE_SET.path("scale"), scaled(0), *EVERYBODY),
    "another one to more": merge("replicasets-scale", SPARE_SET.path("scale"), scaled(2)),
    "one of the side to nothing": merge("replicasets-scale", SIDE_SET.path("scale"), scaled(0), *EVERYBODY),
    "a stranger to nothing": merge("replicasets-scale", OTHER_SET.path("scale"), scaled(0), *EVERYBODY),
}
NOBODY = "shop-kept-nobody"  # no such pod, so that who is let in finds nothing


def entering(
    what: str, *open_to: str, name: str = NOBODY, namespace: str = SHOP, method: str = "POST"
) -> Road:
    query = {"command": "id", "container": "c", "stdout": "true"}
    return Road("entered", method, PODS.at(namespace, name).path(what), None, JSON, open_to, query, found=404)


DEBUGGER = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "x.invalid/debug:1"}]}}
ENTRIES: dict[str, Road] = {
    "a command": entering("exec", *PEOPLE),
    "a command by an old client": entering("exec", *PEOPLE, method="GET"),
    "a terminal": entering("attach", *PEOPLE),
    "a terminal by an old client": entering("attach", *PEOPLE, method="GET"),
    "a command in the side": entering("exec", *PEOPLE, name="shop-canary-kept-nobody"),
    "a command in a stranger": entering("exec", *EVERYBODY, name="other-nobody"),
    "a command in another namespace": entering("exec", *EVERYBODY, namespace=PLAIN),
    "a debugger": Road(
        "entered", "PATCH", PODS.at(SHOP, KEPT).path("ephemeralcontainers"), DEBUGGER, STRATEGIC, PEOPLE
    ),
    "a debugger in a stranger": Road(
        "entered", "PATCH", PODS.at(SHOP, OTHER).path("ephemeralcontainers"), DEBUGGER, STRATEGIC, EVERYBODY
    ),
}
ROADS = {"pods": POD_ROADS, "ReplicaSets": SETS, "their scale": SET_SCALES, "entries": ENTRIES}


def pods_of_the_world(bed: Bed) -> None:
    """Make pods that ReplicaSets of known names own: the guarded Deployment's, its side's, and a stranger's."""
    bed.admin.create(PODS, pod({"app": OTHER}, OTHER), intent=Intent.NEUTRAL)
    sides = {Mark.SIDE.value: "shop-canary", HASH: "kept"}
    for name, owner, labels in ((KEPT, SET, HASHED), (SIDES, SIDE_SET, sides)):
        bed.admin.create(PODS, pod(labels, name), intent=Intent.NEUTRAL)
        bed.admin.create(REPLICASETS, replica_set(owner.name, labels), intent=Intent.NEUTRAL)

        def owned(name: str = name) -> bool:
            stored = bed.admin.get(PODS.at(SHOP, name)) or {"metadata": {}}
            return bool(stored["metadata"].get("ownerReferences"))

        bed.until(owned, f"{owner} owns {name}")
    for ref, labels in ((SPARE_SET, {"app": "spare"}), (OTHER_SET, {"kept": "stranger"})):
        bed.admin.create(REPLICASETS, replica_set(ref.name, labels), intent=Intent.NEUTRAL)
