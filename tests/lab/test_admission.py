"""The lab's guard: who may do what, as a table of identities, writes and answers."""

from typing import Any

import pytest
from timed_kubelet import TimedKubelet

from canary.api.crd import crds
from canary.kube.resources import (
    CANARYREQUESTS,
    CANARYRUNS,
    DEPLOYMENTS,
    HTTPROUTES,
    NAMESPACES,
    SERVICES,
    Resource,
)
from canary.kube.transport import JSON, JSON_PATCH, MERGE_PATCH, Response
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.clock import SimClock
from canary.lab.cluster import Cluster

CANARY = User(CONTROLLER)
ALICE = User("alice", ("devs",))
ROOT = User("root", ("system:masters",))
AGENT = User("system:serviceaccount:ci:agent")
OTHERS = (ALICE, ROOT, AGENT)
GUARDED = {"canary-controller.io/guarded": "true"}
SIDE = {"canary-controller.io/role": "canary"}
Json = dict[str, Any]


class Bed:
    """A namespace with a guarded Deployment, its Service, its side's Service and a route that names both."""

    def __init__(self) -> None:
        clock = SimClock()
        self.cluster = Cluster(clock, clock, TimedKubelet)
        self.cluster.install(crds())
        self.ask(CANARY, "POST", NAMESPACES, body={"metadata": {"name": "shop"}})
        labels = {"app": "checkout"}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "shop:1"}]},
        }
        spec = {"paused": True, "selector": {"matchLabels": labels}, "template": template}
        self.make(DEPLOYMENTS, "checkout", labels=GUARDED, spec=spec)
        self.make(DEPLOYMENTS, "free", spec={**spec, "paused": False})
        self.make(SERVICES, "checkout", spec={"selector": labels, "ports": [{"port": 80}]})
        self.make(SERVICES, "other", spec={"selector": {"app": "other"}, "ports": [{"port": 80}]})
        self.make(
            SERVICES, "checkout-canary", labels=SIDE, spec={"selector": {"app": "x"}, "ports": [{"port": 80}]}
        )
        self.make(HTTPROUTES, "web", spec={"rules": [{"backendRefs": refs(950_000, 50_000)}]})

    def make(self, resource: Resource, name: str, labels: Json | None = None, **parts: Any) -> None:
        body = {"metadata": {"name": name, "labels": labels or {}}, **parts}
        assert self.ask(CANARY, "POST", resource, body=body).status == 201

    def ask(self, user: User, method: str, resource: Resource, name: str = "", body: Any = None) -> Response:
        media = JSON
        if method == "PATCH":
            media = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        path = resource.collection("shop") + (f"/{name}" if name else "")
        return self.cluster.transport(user).request(method, path, query={}, body=body, content_type=media)

    def patch(self, user: User, resource: Resource, name: str, body: Any) -> Response:
        return self.ask(user, "PATCH", resource, name, body)


def refs(stable: int, side: int | None) -> list[Json]:
    mine = [{"name": "checkout", "port": 80, "weight": stable}]
    return mine if side is None else [*mine, {"name": "checkout-canary", "port": 80, "weight": side}]


def rules(backends: list[Json], **more: Any) -> Json:
    return {"spec": {"rules": [{"backendRefs": backends, **more}]}}


@pytest.fixture
def bed() -> Bed:
    return Bed()


def denied(response: Response, *said: str) -> None:
    assert (response.status, response.body["reason"]) == (403, "Forbidden"), response.body
    for words in said:
        assert words in response.body["message"]


@pytest.mark.parametrize("user", OTHERS, ids=lambda user: user.name)
def test_nobody_else_ends_a_hold(user: User, bed: Bed) -> None:
    for paused in (False, None):
        denied(bed.patch(user, DEPLOYMENTS, "checkout", {"spec": {"paused": paused}}), "canary promote")
    denied(bed.ask(user, "DELETE", DEPLOYMENTS, "checkout"), "mode: Observe")
    denied(bed.patch(user, DEPLOYMENTS, "checkout", {"metadata": {"labels": {next(iter(GUARDED)): None}}}))
    denied(bed.patch(user, DEPLOYMENTS, "checkout", {"metadata": {"labels": {next(iter(GUARDED)): "false"}}}))
    assert bed.ask(user, "GET", DEPLOYMENTS, "checkout").body["spec"]["paused"] is True


@pytest.mark.parametrize("user", OTHERS, ids=lambda user: user.name)
def test_everybody_may_change_what_is_held_and_scale_it(user: User, bed: Bed) -> None:
    container = {"name": "c", "image": "shop:2"}
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    assert bed.patch(user, DEPLOYMENTS, "checkout", change).status == 200
    assert (
        bed.patch(user, DEPLOYMENTS, "checkout/scale", {"spec": {"replicas": 5}}).body["spec"]["replicas"]
        == 5
    )


def test_an_unguarded_deployment_belongs_to_its_people(bed: Bed) -> None:
    assert bed.patch(ALICE, DEPLOYMENTS, "free", {"spec": {"paused": True}}).status == 200
    assert bed.patch(ALICE, DEPLOYMENTS, "free", {"spec": {"paused": False}}).status == 200
    assert bed.ask(ALICE, "DELETE", DEPLOYMENTS, "free").status == 200


def test_the_controller_moves_the_pause_and_nothing_else_of_the_spec(bed: Bed) -> None:
    assert bed.patch(CANARY, DEPLOYMENTS, "checkout", {"spec": {"paused": False}}).status == 200
    denied(bed.patch(CANARY, DEPLOYMENTS, "checkout", {"spec": {"replicas": 9}}), "nothing")
    denied(bed.ask(CANARY, "DELETE", DEPLOYMENTS, "checkout"), "never")


def test_a_template_changes_only_together_with_the_pause(bed: Bed) -> None:
    bed.patch(CANARY, DEPLOYMENTS, "checkout", {"spec": {"paused": False}})
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "shop:2"}]}}}}
    denied(bed.patch(ALICE, DEPLOYMENTS, "checkout", change), "spec.paused: true")
    change["spec"]["paused"] = True
    assert bed.patch(ALICE, DEPLOYMENTS, "checkout", change).status == 200


@pytest.mark.parametrize("user", OTHERS, ids=lambda user: user.name)
def test_what_a_guarded_deployment_serves_through_is_not_deleted(user: User, bed: Bed) -> None:
    denied(bed.ask(user, "DELETE", NAMESPACES, "shop"), "needs it")
    denied(bed.ask(user, "DELETE", SERVICES, "checkout"), "needs it")
    denied(bed.ask(user, "DELETE", HTTPROUTES, "web"), "needs it")
    denied(bed.ask(user, "DELETE", SERVICES, "checkout-canary"), "canary abort")
    assert bed.ask(user, "DELETE", SERVICES, "other").status == 200


MIRROR = {
    "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "checkout-canary"}}}]
}
ROUTE_WRITES = [
    ("the side taken out", rules(refs(1, None)), True),
    ("the side at weight 0", rules(refs(1_000_000, 0)), True),
    ("annotations only", {"metadata": {"annotations": {"a": "b"}}}, True),
    ("a raise", rules(refs(900_000, 100_000)), False),
    ("a small side", rules(refs(999_999, 1)), False),
    ("a side without a weight", rules([{"name": "checkout-canary", "port": 80}]), False),
    ("the side twice", rules([*refs(1, 0), {"name": "checkout-canary", "port": 80}]), False),
    ("stable at 0", rules(refs(0, 0)), False),
    ("a mirror to the side", rules(refs(1, None), **MIRROR), False),
    ("a mirror below a backend", rules([{**refs(1, None)[0], **MIRROR}]), False),
]


@pytest.mark.parametrize(
    ("what", "patch", "admitted"), ROUTE_WRITES, ids=[entry[0] for entry in ROUTE_WRITES]
)
@pytest.mark.parametrize("user", OTHERS, ids=lambda user: user.name)
def test_others_may_only_take_the_side_out(
    user: User, what: str, patch: Json, admitted: bool, bed: Bed
) -> None:
    response = bed.patch(user, HTTPROUTES, "web", patch)
    assert (response.status == 200) is admitted, f"{what}: {response.body}"
    assert response.status in (200, 403)


def test_a_new_route_to_a_side_is_refused_and_the_controllers_raise_is_not(bed: Bed) -> None:
    body = {"metadata": {"name": "second"}, **rules(refs(1, 1))}
    denied(bed.ask(ALICE, "POST", HTTPROUTES, body=body), "leave the side out")
    assert bed.patch(CANARY, HTTPROUTES, "web", rules(refs(500_000, 500_000))).status == 200


def request(verb: str, **spec: Any) -> Json:
    said = {"reason": "the orders were checked by hand", "digest": f"sha256:{'0' * 64}"}
    subject = {"kind": "CanaryRun", "name": "checkout-1"}
    return {"metadata": {"name": verb}, "spec": {"verb": verb, "subject": subject, **said, **spec}}


def test_who_asks_is_written_by_the_server(bed: Bed) -> None:
    forged = request("abort", requester="root", groups=["system:masters"])
    stored = bed.ask(ALICE, "POST", CANARYREQUESTS, body=forged).body
    assert stored["spec"]["requester"] == "alice"
    assert stored["spec"]["groups"] == ["devs", "system:authenticated"]


@pytest.mark.parametrize(
    "verb", ["promote", "abort", "hold", "resume", "retry", "bypass", "approve", "reject"]
)
def test_machines_ask_for_less_exposure_only(verb: str, bed: Bed) -> None:
    assert bed.ask(ALICE, "POST", CANARYREQUESTS, body=request(verb)).status == 201
    body = request(verb)
    body["metadata"]["name"] += "-by-agent"
    response = bed.ask(AGENT, "POST", CANARYREQUESTS, body=body)
    if verb in ("abort", "hold"):
        assert response.status == 201
    else:
        denied(response, "a person has to ask")


@pytest.mark.parametrize("user", [*OTHERS, CANARY], ids=lambda user: user.name)
def test_a_request_is_neither_changed_nor_deleted(user: User, bed: Bed) -> None:
    bed.ask(ALICE, "POST", CANARYREQUESTS, body=request("hold"))
    response = bed.patch(user, CANARYREQUESTS, "hold", {"spec": {"verb": "promote"}})
    assert response.status in (403, 422)
    denied(bed.ask(user, "DELETE", CANARYREQUESTS, "hold"), "record")
    assert bed.ask(user, "GET", CANARYREQUESTS, "hold").body["spec"]["verb"] == "hold"


@pytest.mark.parametrize("user", OTHERS, ids=lambda user: user.name)
def test_runs_and_statuses_are_the_controllers(user: User, bed: Bed) -> None:
    denied(
        bed.ask(user, "POST", CANARYRUNS, body={"metadata": {"name": "mine"}, "spec": {}}), "canary promote"
    )
    bed.ask(ALICE, "POST", CANARYREQUESTS, body=request("hold"))
    denied(
        bed.patch(user, CANARYREQUESTS, "hold/status", {"status": {"outcome": "Done"}}), "only the controller"
    )
    assert bed.patch(CANARY, CANARYREQUESTS, "hold/status", {"status": {"outcome": "Done"}}).status == 200
