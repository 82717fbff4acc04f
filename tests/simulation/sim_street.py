"""A short road for simulated runs, and what must be true of the world at its end.

The policy and the limits here are the product's own, only shorter: two slices, a bake of seconds. `Street` is a
scenario that keeps what the world was like before, and watches with every write that exposure stays within what the
run's stored status allows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from canary.api.people import People
from canary.api.reasons import PPM, Phase, Reason, Verb
from canary.core.decision import Limits, Run
from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, CANARYRUNS, DEPLOYMENTS, Resource
from canary.kube.transport import Transport
from canary.lab import manifests
from canary.lab.apiserver.history import Event
from canary.lab.rehearsal.scenario import Scenario, Setting
from canary.lab.shop.worlds import World

SHORT = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "bake": {"duration": "3s"},
    "drain": "2s",
    "source": {"scrape": {"port": "http", "path": "/metrics", "every": "3s"}},
}
QUICK = Limits(baseline_seconds=2.0, return_step_seconds=1.0, verify_seconds=20.0)
BUSY = World(rate=5_000.0, curve=False, level_spread=0.0)
COLLAPSE = {"SHOP_BUG": "order-collapse", "SHOP_BUG_DROP": "0.99", "SHOP_BUG_AFTER": "0"}
PLACE = (manifests.NAMESPACE, manifests.NAME)
OURS = ("Deployment", "Service", "PodDisruptionBudget", "ReplicaSet", "Pod", "EndpointSlice")


def short_policy(**fields: Any) -> dict[str, Any]:
    """Return the short policy; the analysis waits for evidence, not for half an hour."""
    analysis = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
    return {**SHORT, "analysis": analysis, **fields}


class Street(Scenario):
    """A scenario, with what it was like in the beginning and a witness of every write."""

    route_kind = "HTTPRoute"

    def __init__(
        self,
        *,
        seed: int = 1,
        world: World = BUSY,
        policy: Mapping[str, Any] | None = None,
        limits: Limits = QUICK,
        wire: Callable[[Transport], Transport] | None = None,
        people: People | None = None,
        audit: str = "",
    ) -> None:
        setting = Setting(
            world=world,
            policy=short_policy() if policy is None else policy,
            seed=seed,
            limits=limits,
            people=people or People(),
            audit=audit,
        )
        self.breaches: list[str] = []
        super().__init__(setting if wire is None else replace(setting, wire=wire))
        self.route_before = self.stored(self.route_kind)
        self.deployment_before = self.stored("Deployment")
        self.names_before = self.names()
        self.cluster.store.subscribe(self._witness)

    # -- what is there ---------------------------------------------------------------------------------------------

    def stored(self, kind: str, name: str = manifests.NAME) -> dict[str, Any]:
        store = self.cluster.store
        return store.find(store.kinds.named(kind), manifests.NAMESPACE, name) or {}

    def names(self) -> set[tuple[str, str]]:
        """Return kind and name of everything that a run may leave behind, but pods and what owns them by hash."""
        store = self.cluster.store
        return {
            (kind, obj["metadata"]["name"])
            for kind in ("Deployment", "Service", "PodDisruptionBudget", self.route_kind)
            for obj in store.select(store.kinds.named(kind), manifests.NAMESPACE)
        }

    @property
    def run(self) -> Run:
        run = self.latest_run()
        assert run is not None, "no run was started"
        return run

    @property
    def phase(self) -> Phase:
        run = self.latest_run()
        return run.status.phase if run is not None else Phase.HELD

    def phase_of(self, run: Run) -> Phase:
        status = self.stored("CanaryRun", run.name).get("status") or {}
        return Phase(status.get("phase", Phase.HELD))

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        store = self.cluster.store
        kind = store.kinds.find(CANARYRUNS.group, CANARYRUNS.plural)
        return store.select(kind, manifests.NAMESPACE) if kind is not None else []

    def route_ppm(self) -> int:
        return side_ppm(self.stored(self.route_kind))

    # -- going on --------------------------------------------------------------------------------------------------

    def until(self, *phases: Phase, limit: float = 120.0) -> "Street":
        """Go on until the newest run is in one of these phases; approve where the road waits for it."""
        assert self.run_until(lambda: self._reached(phases), limit), self.told()
        return self

    def tidied(self, limit: float = 120.0) -> "Street":
        """Go on until nothing is left to be given back, and the last pod had its grace."""
        assert self.run_until(lambda: self._reached(()) or self._tidy(), limit), self.told()
        self.run_for(2.0)
        return self

    def _tidy(self) -> bool:
        return bool(self.runs) and all((run.get("status") or {}).get("tidiedAt") for run in self.runs)

    def _reached(self, phases: tuple[Phase, ...]) -> bool:
        status = self._newest().get("status") or {}
        if status.get("reason") == Reason.APPROVALS_MISSING and not self._waits_already():
            self.ask(Verb.APPROVE, digest=self.run.spec.digest)
        return status.get("phase", "Held") in phases if status else False

    def _newest(self) -> Mapping[str, Any]:
        return max(self.runs, key=lambda run: run["metadata"]["creationTimestamp"], default={})

    def _waits_already(self) -> bool:
        store = self.cluster.store
        requests = store.select(store.kinds.named("CanaryRequest"), manifests.NAMESPACE)
        return any((each.get("status") or {}).get("outcome", "Pending") == "Pending" for each in requests)

    def told(self) -> str:
        """Return what the run says of itself: for the message of a test that fails."""
        run = self.latest_run()
        if run is None:
            policies = self.stored("CanaryPolicy").get("status")
            return f"seed {self.setting.seed}: no run; {policies}"
        lines = [
            f"{entry.at:%H:%M:%S.%f} {entry.phase} {entry.reason} {entry.message}"
            for entry in run.status.timeline
        ]
        now = f"{run.status.phase} {run.status.reason} {run.status.message}"
        return "\n".join(
            [f"seed {self.setting.seed}", *lines, now, f"route {self.route_ppm()} ppm", *self.breaches]
        )

    def lose_our_objects(self) -> None:
        """Take policies and runs away behind everybody's back, as a restored or emptied store would."""
        store = self.cluster.store
        for kind in map(store.kinds.named, ("CanaryPolicy", "CanaryRun")):
            for obj in store.select(kind, manifests.NAMESPACE):
                store.delete(kind, (manifests.NAMESPACE, obj["metadata"]["name"]))

    # -- the witness -----------------------------------------------------------------------------------------------

    def _witness(self, event: Event) -> None:
        """Note where the route gives the side more than the stored intent of its run."""
        if event.kind.name == self.route_kind and event.old is not None:
            ppm = side_ppm(event.obj)
            allowed = max(
                ((run.get("status") or {}).get("allowedWeightPpm", 0) for run in self.runs), default=0
            )
            if ppm > side_ppm(event.old) and ppm > allowed:
                self.breaches.append(f"the route gives {ppm} ppm, the intent allows {allowed}")
        if event.kind.name == "Deployment" and event.obj["metadata"]["name"] == manifests.NAME:
            self._witness_roll(event)

    def _witness_roll(self, event: Event) -> None:
        """Note where an un-tested template is let go while users are on the Deployment's own pods."""
        if event.old is None or not event.old["spec"].get("paused") or event.obj["spec"].get("paused"):
            return
        weights = side_weights(self.stored(self.route_kind))
        if (
            event.obj["metadata"]["uid"] == event.old["metadata"]["uid"]
            and weights.get(manifests.NAME, 1) > 0
        ):
            self.breaches.append(f"the lock was opened while the route says {weights}")


def patch(street: Street, spec: dict[str, Any], resource: Resource = CANARYPOLICIES) -> None:
    """Change the spec of the shop's policy, route or Deployment, as an administrator."""
    street.admin.merge_patch(resource.at(*PLACE), {"spec": spec}, intent=Intent.NEUTRAL)


def reapply_the_old_manifest(street: Street) -> None:
    """Apply what Git had before the change; the lock is not in it."""
    spec = manifests.deployment(street.setting.replicas, 8080)["spec"]
    body = {"template": {**spec["template"], "spec": {"containers": spec["template"]["spec"]["containers"]}}}
    patch(street, body, DEPLOYMENTS)


def side_weights(route: Mapping[str, Any]) -> dict[str, int]:
    """Return the weight of each backend in the first rule."""
    refs = ((route.get("spec") or {}).get("rules") or [{}])[0].get("backendRefs") or []
    return {ref["name"]: ref.get("weight", 1) for ref in refs}


def side_ppm(route: Mapping[str, Any]) -> int:
    return side_weights(route).get(f"{manifests.NAME}-canary", 0)


def bare(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object less what every write moves: version, generation and status."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "generation")}
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": metadata}


def everything_is_back(street: Street, serving: str) -> None:
    """Check what must hold after every road: the route as it was, nothing of ours left, one version serves all."""
    assert not street.breaches, street.told()
    assert bare(street.stored(street.route_kind)) == bare(street.route_before), street.told()
    assert street.names() == street.names_before, street.told()
    store = street.cluster.store
    pods = store.select(store.kinds.named("Pod"), manifests.NAMESPACE)
    images = {pod["spec"]["containers"][0]["image"] for pod in pods}
    assert images == {f"registry.example/shop:{serving}"}, street.told()
    assert len(pods) == street.setting.replicas
    assert side_weights(street.stored(street.route_kind)).get(manifests.NAME, PPM) > 0


def only_the_lock_and_the_change_moved(street: Street, version: str) -> None:
    """Check that of the user's Deployment nothing moved but what the user asked for, and the lock."""
    before, after = street.deployment_before["spec"], street.stored("Deployment")["spec"]
    assert after["paused"] is True
    rest = {key: value for key, value in after.items() if key not in ("paused", "template")}
    assert rest == {key: value for key, value in before.items() if key not in ("paused", "template")}
    asked = manifests.deployment(street.setting.replicas, 8080, version)["spec"]["template"]
    assert after["template"]["metadata"]["labels"] == asked["metadata"]["labels"]
    assert after["template"]["spec"]["containers"][0]["image"] == asked["spec"]["containers"][0]["image"]
    untouched = {key: value for key, value in after["template"]["spec"].items() if key != "containers"}
    assert untouched == {k: v for k, v in before["template"]["spec"].items() if k != "containers"}
