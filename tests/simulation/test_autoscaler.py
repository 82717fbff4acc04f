"""An autoscaler on the target: frozen before the first customer leaves, and as it was when all are back."""

from typing import Any

import pytest
from sim_street import COLLAPSE, Street, everything_is_back

from canary.api.marks import Mark
from canary.api.reasons import Phase
from canary.kube.client import Intent
from canary.kube.resources import CONFIGMAPS, HPAS
from canary.lab import manifests

NAME = "checkout-cpu"
BEHAVIORS: dict[str, Any] = {
    "none": None,
    "down": {"scaleDown": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 1}]}},
    "up": {"scaleUp": {"stabilizationWindowSeconds": 30}},
}


class Scaled(Street):
    """A street whose shop has an autoscaler; `moments` are its states with the side's weight."""

    def scale(self, behavior: Any = None, target: str = manifests.NAME, **metadata: Any) -> "Scaled":
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
        spec = {"scaleTargetRef": ref, "minReplicas": 2, "maxReplicas": 9}
        spec |= {} if behavior is None else {"behavior": behavior}
        obj = HPAS.at(manifests.NAMESPACE, NAME).manifest(metadata, spec=spec)
        self.before = self.admin.create(HPAS, obj, intent=Intent.NEUTRAL)
        self.free_while_exposed = 0
        self.cluster.store.subscribe(lambda _: self._look())
        return self

    def _look(self) -> None:
        self.free_while_exposed += self.route_ppm() > 0 and not self.frozen

    @property
    def hpa(self) -> dict[str, Any]:
        return self.stored(HPAS.kind, NAME)

    @property
    def frozen(self) -> bool:
        down = (self.hpa["spec"].get("behavior") or {}).get("scaleDown") or {}
        return down.get("selectPolicy") == "Disabled"


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_it_may_not_scale_down_while_customers_are_elsewhere_and_is_as_it_was_afterwards(behavior: str):
    street = Scaled().scale(BEHAVIORS[behavior])
    street.push(COLLAPSE)
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    street.until(Phase.ROLLED_BACK).tidied()
    assert street.free_while_exposed == 0
    assert street.frozen, "stable has not carried all traffic for one window yet"
    street.run_for(400)
    assert street.hpa["spec"] == street.before["spec"]
    assert "annotations" not in street.hpa["metadata"]
    everything_is_back(street, manifests.OLD)


def test_the_thaw_waits_for_the_window_of_the_autoscaler_itself():
    street = Scaled().scale(BEHAVIORS["down"])
    street.push()
    street.until(Phase.PROMOTED).tidied()
    street.run_for(30)
    assert street.frozen
    street.run_for(60)
    assert not street.frozen
    assert street.hpa["spec"] == street.before["spec"]


def test_a_behavior_that_somebody_wrote_meanwhile_is_theirs():
    street = Scaled().scale()
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    theirs = {"scaleDown": {"selectPolicy": "Min"}}
    ref = HPAS.at(manifests.NAMESPACE, NAME)
    stored = street.admin.merge_patch(ref, {"spec": {"behavior": theirs}}, intent=Intent.NEUTRAL)
    assert stored is not None
    street.run_for(400)
    assert street.hpa["spec"]["behavior"] == stored["spec"]["behavior"]
    assert Mark.FORMER_BEHAVIOR not in (street.hpa["metadata"].get("annotations") or {})


def test_one_that_another_controller_owns_is_never_written_and_stops_nothing():
    street = Scaled()
    made = CONFIGMAPS.at(manifests.NAMESPACE, "scaled-object").manifest()
    uid = street.admin.create(CONFIGMAPS, made, intent=Intent.NEUTRAL)["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "scaled-object", "uid": uid, "controller": True}
    street.scale(ownerReferences=[owner])
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    assert street.run.status.exposed_at is not None
    assert street.hpa["metadata"]["resourceVersion"] == street.before["metadata"]["resourceVersion"]


def test_one_of_another_deployment_is_none_of_ours():
    street = Scaled().scale(target="cart")
    street.push(COLLAPSE)
    street.until(Phase.ROLLED_BACK).tidied()
    assert street.hpa == street.before


def test_a_change_that_never_had_traffic_freezes_and_thaws_all_the_same():
    street = Scaled().scale(BEHAVIORS["up"])
    street.push()
    street.until(Phase.PREPARING)
    assert street.run_until(lambda: street.frozen, 60)
    assert street.route_ppm() == 0
    street.push(version=manifests.OLD)
    street.run_for(500)
    assert street.hpa["spec"] == street.before["spec"]
