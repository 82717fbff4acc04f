"""The hands at the user's Deployment and at the sides: what is there, and the few writes that hold, run and roll it.

`observe` and `observe_side` return evidence with the objects behind it; each other function is one action of the
judge, level-based and safe to repeat. Of the user's Deployment only `spec.paused` and one label are ever written. Our
own objects are recognised by their labels and deleted by uid; a foreign object of the same name is never touched.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from canary.api.change import ChangeAnnotation
from canary.api.marks import TRUE, Mark
from canary.api.policy import Revision
from canary.api.reasons import MissingReason
from canary.core.evidence import Missing, Side, Workload
from canary.errors import ConflictError, RefusedError
from canary.kube.client import AlreadyExistsError, Client, Intent
from canary.kube.digest import ADDED_LABEL, template_hash
from canary.kube.pods import PodRef
from canary.kube.resources import CONTROLLERREVISIONS, DEPLOYMENTS, PDBS, REPLICASETS, SERVICES, Ref
from canary.kube.selectors import text_of
from canary.kube.side import Order, Owner, labels_of_template, side_objects

REVISION = "deployment.kubernetes.io/revision"
VERSION_LABEL = "app.kubernetes.io/version"
MAX_IMAGES = 16

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Observed:
    """The user's Deployment as evidence, with the objects behind it."""

    workload: Workload
    deployment: Json
    replica_sets: tuple[Json, ...]
    stable: Json | None
    """The ReplicaSet whose pods serve."""


def observe(client: Client, namespace: str, name: str) -> Observed | Missing:
    """Look at a Deployment and its ReplicaSets, live."""
    deployment = client.get(DEPLOYMENTS.at(namespace, name))
    if deployment is None:
        return Missing(MissingReason.ABSENT, f"there is no Deployment {namespace}/{name}")
    selector = text_of(deployment["spec"]["selector"])
    replica_sets = client.list(REPLICASETS, namespace, selector=selector)
    return observed(deployment, [each for each in replica_sets if is_owned(each, deployment)])


def observed(deployment: Json, replica_sets: Sequence[Json]) -> Observed:
    """Return what a Deployment and its own ReplicaSets, as stored, say."""
    wanted = template_hash(deployment["spec"]["template"])
    hashed = [(template_hash(each["spec"]["template"]), each) for each in replica_sets]
    stable = stable_of(replica_sets)
    status = deployment.get("status") or {}
    current = next((each for digest, each in hashed if digest == wanted and _count(each, "replicas")), None)
    workload = Workload(
        uid=deployment["metadata"]["uid"],
        template_hash=wanted,
        paused=bool(deployment["spec"].get("paused", False)),
        replicas=int(deployment["spec"].get("replicas", 1)),
        stable_hash=template_hash(stable["spec"]["template"]) if stable is not None else "",
        stable_ready=_count(stable, "readyReplicas"),
        current_ready=sum(_count(each, "readyReplicas") for digest, each in hashed if digest == wanted),
        other_pods=sum(_count(each, "replicas") for digest, each in hashed if digest != wanted),
        settled=int(status.get("observedGeneration", 0)) >= int(deployment["metadata"]["generation"]),
        current_pods=_count(current, "replicas"),
        current_set=current["metadata"]["name"] if current is not None else "",
        stable_set=stable["metadata"]["name"] if stable is not None else "",
    )
    return Observed(workload, deployment, tuple(replica_sets), stable)


def stable_of(replica_sets: Sequence[Json]) -> Json | None:
    """Return the ReplicaSet whose pods serve: the one with the most ready pods, the older one of equals.

    Where none has pods (a Deployment scaled to 0) it is the newest: the one that scaling up would fill.
    """
    with_pods = [each for each in replica_sets if _count(each, "replicas") > 0]
    if with_pods:
        return max(with_pods, key=lambda each: (_count(each, "readyReplicas"), -revision_number(each)))
    return max(replica_sets, key=revision_number, default=None)


def revision_number(obj: Mapping[str, Any]) -> int:
    """Return the roll-out number that the Deployment controller gave; 0: none."""
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def revision_of(template: Mapping[str, Any]) -> Revision:
    """Return a template as a version with its name: the version label, else the first image's tag."""
    images = [container["image"] for container in template["spec"]["containers"]][:MAX_IMAGES]
    tag = images[0].partition("@")[0].rpartition("/")[2].partition(":")[2]
    version = labels_of_template(template).get(VERSION_LABEL) or tag
    return Revision(template_hash=template_hash(template), version=version[:128], images=images)


def annotations_of(deployment: Mapping[str, Any]) -> dict[str, str]:
    """Return a Deployment's annotations and its template's; where both say something, the template's.

    Who wrote it stands on the Deployment alone, where the API server writes it.
    """
    template = (deployment["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    said = {name: text for name, text in template.items() if name != ChangeAnnotation.CHANGED_BY}
    return {**(deployment["metadata"].get("annotations") or {}), **said}


def read_owner(client: Client, deployment: Json, service: str) -> Owner:
    """Gather what a side is derived from. Raise ConflictError where the Service is gone."""
    namespace = deployment["metadata"]["namespace"]
    services, budgets = client.list(SERVICES, namespace), client.list(PDBS, namespace)
    own = [each for each in services if each["metadata"]["name"] == service]
    if not own:
        raise ConflictError(f"Service {namespace}/{service} is gone")
    return Owner(deployment, own[0], (*(each for each in services if each is not own[0]), *budgets))


def observe_side(client: Client, namespace: str, name: str, ready: Sequence[PodRef]) -> Side:
    """Look at a side's Deployment; `ready` are the pods that its Service sends to.

    The tested hash counts only while the template is still the one that was derived from it.
    """
    deployment = client.get(DEPLOYMENTS.at(namespace, name))
    if deployment is None or not _is_ours(deployment, name):
        return Side(exists=False)
    annotations = deployment["metadata"].get("annotations") or {}
    actual = template_hash(deployment["spec"]["template"])
    untouched = annotations.get(Mark.SIDE_HASH) == actual
    return Side(
        exists=True,
        template_hash=annotations.get(Mark.TEMPLATE_HASH, actual) if untouched else actual,
        replicas=int(deployment["spec"].get("replicas", 1)),
        ready=len(ready),
    )


def adopt(client: Client, namespace: str, name: str) -> None:
    """Hold the Deployment's changes from now on: the guard's label and `paused`, in one write."""
    patch = {"metadata": {"labels": {Mark.GUARDED.value: TRUE}}, "spec": {"paused": True}}
    client.merge_patch(DEPLOYMENTS.at(namespace, name), patch, intent=Intent.NEUTRAL)


def release(client: Client, namespace: str, name: str, template: str) -> None:
    """Give a Deployment back that asks for the template of this hash: no records of ours, then no lock and no label.

    They go last: as long as the label is there, all of this is done again.
    """
    deployment = client.get(DEPLOYMENTS.at(namespace, name))
    if deployment is None:
        return
    if template_hash(deployment["spec"]["template"]) != template:
        raise ConflictError(f"Deployment {namespace}/{name} asks for another template by now")
    patch = {
        "metadata": _at_version(deployment) | {"labels": {Mark.GUARDED.value: None}},
        "spec": {"paused": None},
    }
    for record in client.list(CONTROLLERREVISIONS, namespace, selector=f"{Mark.TARGET}={name}"):
        ref = CONTROLLERREVISIONS.at(namespace, record["metadata"]["name"])
        client.delete(ref, uid=record["metadata"]["uid"], intent=Intent.NEUTRAL)
    client.merge_patch(DEPLOYMENTS.at(namespace, name), patch, intent=Intent.NEUTRAL)


def pause(client: Client, namespace: str, name: str) -> None:
    """Hold the Deployment; unconditional and idempotent."""
    client.merge_patch(DEPLOYMENTS.at(namespace, name), {"spec": {"paused": True}}, intent=Intent.LOWERING)


def unpause(client: Client, namespace: str, name: str, tested_hash: str) -> None:
    """Let the native roll run, if the template still is the tested one; else ConflictError and nothing is written."""
    ref = DEPLOYMENTS.at(namespace, name)
    deployment = client.get(ref)
    if deployment is None:
        raise ConflictError(f"{ref} is gone")
    if template_hash(deployment["spec"]["template"]) != tested_hash:
        raise ConflictError(f"the template of {ref} is no longer the tested one")
    patch = {"metadata": _at_version(deployment), "spec": {"paused": None}}
    client.merge_patch(ref, patch, intent=Intent.RAISING)


def create_side(client: Client, order: Order, intent: Intent = Intent.NEUTRAL) -> None:
    """Create what is missing of a side, pods last. Raise RefusedError where a name is taken by a foreign object.

    A left-over of another template is deleted, and ConflictError says to look again. The way back is a lowering.
    """
    for resource, manifest in side_objects(order):
        try:
            client.create(resource, manifest, intent=intent)
        except AlreadyExistsError:
            _compare(
                client, resource.at(manifest["metadata"]["namespace"], manifest["metadata"]["name"]), manifest
            )


def scale_side(client: Client, namespace: str, name: str, replicas: int) -> None:
    """Set a side's pods. Raise ConflictError where it is gone, RefusedError where it is not ours."""
    ref = DEPLOYMENTS.at(namespace, name)
    deployment = client.get(ref)
    if deployment is None:
        raise ConflictError(f"{ref} is gone")
    _refuse_foreign(deployment, ref, name)
    patch = {"metadata": _at_version(deployment), "spec": {"replicas": replicas}}
    client.merge_patch(ref, patch, intent=Intent.NEUTRAL)


def has_left_overs(client: Client, namespace: str, side: tuple[str, str]) -> bool:
    """Tell whether a Service or a budget of a side (its name and its Service's) is there without its Deployment."""
    name, service = side
    found = (client.get(ref) for ref in (SERVICES.at(namespace, service), PDBS.at(namespace, name)))
    return any(obj is not None and _is_ours(obj, name) for obj in found)


def delete_side(client: Client, namespace: str, name: str, service: str) -> None:
    """Delete a side by uid, its Deployment last: as long as that is there, the rest is looked for again."""
    for ref in (SERVICES.at(namespace, service), PDBS.at(namespace, name), DEPLOYMENTS.at(namespace, name)):
        found = client.get(ref)
        if found is not None and _is_ours(found, name):
            client.delete(ref, uid=found["metadata"]["uid"], intent=Intent.NEUTRAL)


def keep_last_good(client: Client, seen: Observed) -> str:
    """Store the serving template beside the Deployment, immutable, and return the record's name; idempotent."""
    if seen.stable is None:
        raise ConflictError(
            f"no pods of {seen.deployment['metadata']['name']} serve; there is nothing to go back to"
        )
    template = _as_asked(seen.stable["spec"]["template"])
    name = last_good_name(seen.deployment["metadata"]["name"], seen.workload.stable_hash)
    labels = {Mark.TARGET.value: seen.deployment["metadata"]["name"]}
    data = {"template": template, "selector": seen.deployment["spec"]["selector"]}
    record = CONTROLLERREVISIONS.at(seen.deployment["metadata"]["namespace"], name).manifest(
        {"labels": labels}, data=data, revision=revision_number(seen.stable)
    )
    with suppress(AlreadyExistsError):  # the name holds the hash of the content
        client.create(CONTROLLERREVISIONS, record, intent=Intent.NEUTRAL)
    return name


def read_last_good(client: Client, namespace: str, name: str, stable_hash: str) -> Json | None:
    """Return the Deployment that served a template of that hash, as far as it is kept: selector and template.

    None where there is no record, or it was tampered with.
    """
    record = client.get(CONTROLLERREVISIONS.at(namespace, last_good_name(name, stable_hash))) or {}
    template: Json | None = (record.get("data") or {}).get("template")
    if template is None or template_hash(template) != stable_hash:
        return None
    selector = record["data"].get("selector") or {"matchLabels": labels_of_template(template)}
    return DEPLOYMENTS.at(namespace, name).manifest(spec={"selector": selector, "template": template})


def good_template(client: Client, seen: Observed, good_hash: str) -> Json | None:
    """Return the template of that hash as the Deployment once asked for it: from a ReplicaSet, or the record kept."""
    for each in seen.replica_sets:
        if template_hash(each["spec"]["template"]) == good_hash:
            return _as_asked(each["spec"]["template"])
    metadata = seen.deployment["metadata"]
    kept = read_last_good(client, metadata["namespace"], metadata["name"], good_hash)
    return kept["spec"]["template"] if kept is not None else None


def put_template(client: Client, seen: Observed, template: Json) -> None:
    """Make the Deployment ask for this template, if nobody wrote it since: a person's write, never the controller's."""
    metadata = seen.deployment["metadata"]
    operations = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "replace", "path": "/spec/template", "value": template},
    ]
    ref = DEPLOYMENTS.at(metadata["namespace"], metadata["name"])
    if client.json_patch(ref, operations, intent=Intent.NEUTRAL) is None:
        raise ConflictError(f"{ref} is gone")


def last_good_name(name: str, stable_hash: str) -> str:
    """Return the name of the record that keeps a template of this Deployment."""
    return f"{name}-lastgood-{stable_hash.removeprefix('sha256:')[:10]}"


def _compare(client: Client, ref: Ref, manifest: Json) -> None:
    """Accept an object of ours that is as wanted; replace one of ours that is not; refuse any other."""
    found = client.get(ref)
    if found is None:
        raise ConflictError(f"{ref} went away while it was read")
    _refuse_foreign(found, ref, manifest["metadata"]["labels"][Mark.SIDE])
    mark, wanted = Mark.TEMPLATE_HASH, manifest["metadata"].get("annotations") or {}
    if mark in wanted and (found["metadata"].get("annotations") or {}).get(mark) != wanted[mark]:
        client.delete(ref, uid=found["metadata"]["uid"], intent=Intent.NEUTRAL)
        raise ConflictError(f"{ref} was left over from another version, and is being deleted")


def _refuse_foreign(found: Json, ref: Ref, side: str) -> None:
    if not _is_ours(found, side):
        raise RefusedError(f"{ref} is not ours, but has the name of the side; rename or delete it")


def _is_ours(obj: Mapping[str, Any], side: str) -> bool:
    return (obj["metadata"].get("labels") or {}).get(Mark.SIDE) == side


def is_owned(replica_set: Json, deployment: Json) -> bool:
    """Tell whether a Deployment controls this ReplicaSet."""
    owners: list[Json] = replica_set["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner["uid"] == deployment["metadata"]["uid"] for owner in owners)


def _as_asked(template: Json) -> Json:
    """Return a ReplicaSet's template as the Deployment asked for it."""
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {
        key: value for key, value in (metadata.get("labels") or {}).items() if key != ADDED_LABEL
    }
    return {**template, "metadata": metadata}


def _at_version(obj: Json) -> Json:
    return {"resourceVersion": obj["metadata"]["resourceVersion"]}


def _count(replica_set: Mapping[str, Any] | None, field: str) -> int:
    return int(((replica_set or {}).get("status") or {}).get(field, 0))
