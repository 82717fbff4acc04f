"""A tag that is pushed anew under a run: other bytes are another change, in the slice as after the commit."""

from typing import Any

import pytest
from sim_street import Street, everything_is_back

from canary.api.reasons import Phase, Reason
from canary.kube.client import Intent
from canary.kube.resources import DEPLOYMENTS, PODS
from canary.lab import manifests
from canary.lab.rehearsal.scenario import PORT

SIDE = f"{manifests.NAME}-canary"
DEPLOYMENT = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)


def pods_of(street: Street, owner: str, image: str = manifests.NEW) -> list[dict[str, Any]]:
    """Return the pods of a Deployment that run an image of this tag or digest."""
    store = street.cluster.store
    found = store.select(store.kinds.named("Pod"), manifests.NAMESPACE)
    mine = [each for each in found if each["metadata"]["name"].rsplit("-", 2)[0] == owner]
    return [dict(each) for each in mine if each["spec"]["containers"][0]["image"].endswith(image)]


def runs(pods: list[dict[str, Any]]) -> bool:
    """Tell whether the first of them runs."""
    return bool(pods) and "containerStatuses" in (pods[0].get("status") or {})


def run_other_bytes(street: Street, pod: dict[str, Any]) -> None:
    """Let a pod run what somebody pushed under the same tag meanwhile."""
    told = [
        {**each, "imageID": f"docker-pullable://shop@sha256:{'b' * 64}"}
        for each in pod["status"]["containerStatuses"]
    ]
    ref = PODS.at(manifests.NAMESPACE, pod["metadata"]["name"])
    patch = {"status": {"containerStatuses": told}}
    street.admin.merge_patch(ref, patch, intent=Intent.NEUTRAL, subresource="status")


def exposed() -> Street:
    street = Street()
    street.push()
    street.until(Phase.PROGRESSING)
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    return street


def test_what_is_tested_is_fixed_before_the_first_slice() -> None:
    street = exposed()
    image = f"registry.example/shop:{manifests.NEW}"
    assert street.run.status.side.bytes_of_tags == [f"{image}={image}"]


def test_other_bytes_in_the_slice_take_it_away_and_start_a_run_without_approvals() -> None:
    street = exposed()
    first = street.run
    run_other_bytes(street, pods_of(street, SIDE)[0])
    assert street.run_until(lambda: street.run.uid != first.uid, 60), street.told()
    assert street.phase_of(first) is Phase.SUPERSEDED
    ended = street.stored("CanaryRun", first.name)["status"]["timeline"]
    assert Reason.IMAGE_CHANGED in {entry["reason"] for entry in ended}
    assert street.route_ppm() == 0
    assert not street.run.status.approvals
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, manifests.NEW)


def test_pods_that_differ_from_the_start_keep_the_preparation_waiting() -> None:
    street = Street()
    street.push()
    assert street.run_until(lambda: runs(pods_of(street, SIDE)), 60), street.told()
    run_other_bytes(street, pods_of(street, SIDE)[0])
    street.run_for(60)
    assert (street.phase, street.run.status.reason) == (Phase.PREPARING, Reason.IMAGE_CHANGED), street.told()
    assert "different bytes under one tag" in street.run.status.message
    assert street.run.status.exposed_at is None


@pytest.mark.parametrize("phase", [Phase.COMMITTING, Phase.RETURNING])
def test_other_bytes_after_the_commit_bring_the_last_good_version_back(phase: Phase) -> None:
    street = exposed()
    street.until(phase)
    assert street.run_until(lambda: runs(pods_of(street, manifests.NAME)), 30), street.told()
    first = street.run
    run_other_bytes(street, pods_of(street, manifests.NAME)[0])
    assert street.run_until(lambda: street.phase_of(first) is Phase.ROLLED_BACK, 120), street.told()
    assert Reason.IMAGE_CHANGED in {entry.reason for entry in street.run.status.timeline}
    street.run_for(60)
    assert pods_of(street, f"{manifests.NAME}-lastgood", manifests.OLD), street.told()


def test_images_that_a_digest_names_are_not_asked_for() -> None:
    street = Street()
    change = manifests.change(manifests.NEW, PORT, {})
    pinned = f"registry.example/shop@sha256:{'a' * 64}"
    change["spec"]["template"]["spec"]["containers"][0]["image"] = pinned
    street.admin.merge_patch(DEPLOYMENT, change, intent=Intent.NEUTRAL)
    street.until(Phase.PROGRESSING)
    assert street.run.status.side.bytes_of_tags == []
    first = street.run
    run_other_bytes(street, pods_of(street, SIDE, pinned)[0])
    street.until(Phase.PROMOTED)
    assert street.run.uid == first.uid
