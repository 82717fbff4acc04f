"""A shop under the whole guard: what identities may do to it, with the controller at work beside them.

The controller runs with exactly the chart's rights and with a token that was issued to its pod, as a kubelet mounts it.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager

from cluster_bed import SYSTEM, Bed
from guard_on_bed import SETTINGS, create, fate, give_pod, installed
from guard_roads import run_spec
from shop_on_bed import Shop, shop_open

from canary.api.marks import TRUE, Mark
from canary.guard.policies import guard, version_of
from canary.kube.client import Intent
from canary.kube.resources import CANARYRUNS, NAMESPACES

KNOWN = ("--platform-group", *SETTINGS.platform_groups, "--gitops-account", *SETTINGS.gitops_accounts)


@contextmanager
def guard_in_force(bed: Bed) -> Generator[Bed]:
    """Hold the cluster to the whole guard of its version."""
    give_pod(bed)
    run = CANARYRUNS.at("default", "forged").manifest(spec=run_spec())
    probe = create("runs", CANARYRUNS.collection("default"), run)

    def not_yet() -> str:
        said = fate(bed, probe, "admin")
        return "" if said == "refused" else said

    served = version_of(bed.admin.server_version())
    with installed(bed, guard(SETTINGS, served), not_yet):
        yield bed


@contextmanager
def shop_under_guard(bed: Bed, name: str, rate: float, *flags: str) -> Generator[Shop]:
    """Open a shop in a guarded namespace, with a controller that asks for the guard and nothing to protect yet."""
    with shop_open(bed, name, rate) as shop:
        label = {"metadata": {"labels": {Mark.GUARDED.value: TRUE}}}
        bed.admin.merge_patch(NAMESPACES.at("", name), label, intent=Intent.NEUTRAL)
        bed.lead(shop.stop_controller)
        words = ("--kubeconfig", str(bed.kubeconfig("pod")), "--controller-namespace", SYSTEM)
        shop.start_controller(*words, "--guard", "required", *KNOWN, *flags)
        yield shop
        shop.stop_controller()


def replaced_without_paused(shop: Shop) -> tuple[str, ...]:
    """Return the words of a `kubectl replace` that forgets the hold."""
    stored = shop.deployment()
    metadata = {name: stored["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    spec = {name: value for name, value in stored["spec"].items() if name != "paused"}
    path = shop.bed.folder / f"{shop.namespace}.json"
    path.write_text(json.dumps({**stored, "metadata": metadata, "spec": spec}))
    return ("replace", "-f", str(path))
