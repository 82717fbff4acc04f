"""What canary relies on at the controllers behind an API server, as named checks that need no test runner.

Above all the hold: a paused Deployment keeps its old pods whatever is asked of it, and rolls when it is resumed. A
check takes an `Api` of `api.py`, in a namespace of its own, and waits a bounded time for what controllers
do later.
"""

from canary.kube.resources import CONFIGMAPS, DEPLOYMENTS, PODS, REPLICASETS
from canary.kube.transport import Json
from canary.lab.contracts.api import Api, generation_of, wanted
from canary.lab.contracts.contract import checks_of, expect

OLD_IMAGE = "registry.invalid/shop:1"
NEW_IMAGE = "registry.invalid/shop:2"


def a_paused_deployment_holds_its_new_template(api: Api) -> None:
    name = api.fresh("held")
    old = _hold(api, name)
    status = api.get(DEPLOYMENTS, name)["status"]
    expect("updatedReplicas" not in status, "a held template counts as updated")
    progress = next(entry for entry in status["conditions"] if entry["type"] == "Progressing")
    said = (progress["status"], progress["reason"])
    expect(said == ("Unknown", "DeploymentPaused"), f"a paused Deployment says {said}")
    expect(_replica_sets(api, name) == old, "the new template has a ReplicaSet")


def a_held_deployment_scales_its_old_template(api: Api) -> None:
    name = api.fresh("scaled")
    old = _hold(api, name)
    for count in (3, 0, 2):
        api.patch(DEPLOYMENTS, name, {"spec": {"replicas": count}})
        api.eventually(lambda count=count: len(_pods(api, name)) == count, f"never scaled to {count} pods")
        images = {pod["spec"]["containers"][0]["image"] for pod in _pods(api, name)}
        expect(images <= {OLD_IMAGE}, f"a held Deployment made pods of {images}")
    expect(_replica_sets(api, name) == old, "scaling made a ReplicaSet of the held template")


def a_resumed_deployment_rolls(api: Api) -> None:
    name = api.fresh("rolled")
    _hold(api, name)
    api.patch(DEPLOYMENTS, name, {"spec": {"paused": None}})
    api.eventually(lambda: len(_replica_sets(api, name)) == 2, "a resumed Deployment made no new ReplicaSet")
    images = {item["spec"]["template"]["spec"]["containers"][0]["image"] for item in _sets(api, name)}
    expect(images == {OLD_IMAGE, NEW_IMAGE}, f"it rolls {images}")


def what_an_owner_leaves_is_collected_by_uid(api: Api) -> None:
    owner, name = api.fresh("owner"), api.fresh("owned")
    uid = api.config(owner)["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid}
    api.make(CONFIGMAPS, name, metadata={"ownerReferences": [reference]})
    wanted(200, api.ask("DELETE", CONFIGMAPS, owner))
    api.config(owner)  # a namesake of the owner keeps nothing alive
    api.eventually(
        lambda: api.ask("GET", CONFIGMAPS, name).status == 404, "what was owned by a deleted uid stays"
    )


def _deploy(api: Api, name: str) -> None:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "shop", "image": OLD_IMAGE}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    api.make(DEPLOYMENTS, name, spec=spec)


def _sets(api: Api, app: str) -> list[Json]:
    return api.list(REPLICASETS, labelSelector=f"app={app}")["items"]


def _replica_sets(api: Api, app: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in _sets(api, app))


def _pods(api: Api, app: str) -> list[Json]:
    items: list[Json] = api.list(PODS, labelSelector=f"app={app}")["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def _hold(api: Api, name: str) -> list[str]:
    """Bring a Deployment up, pause it, change its template; return the names of its ReplicaSets before that."""
    _deploy(api, name)
    api.eventually(lambda: len(_pods(api, name)) == 2, "the Deployment made no pods")
    before = _replica_sets(api, name)
    container = {"name": "shop", "image": NEW_IMAGE}
    spec = {"paused": True, "template": {"spec": {"containers": [container]}}}
    generation = generation_of(api.patch(DEPLOYMENTS, name, {"spec": spec}))
    api.eventually(
        lambda: api.get(DEPLOYMENTS, name).get("status", {}).get("observedGeneration", 0) >= generation,
        "the Deployment controller did not look at the paused Deployment",
    )
    return before


WORKLOAD_CHECKS = checks_of(__name__, Api)
