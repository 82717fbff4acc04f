"""Clusters that stand still, for the pages whose commands need one: what a reader would have before them at that point.

The whole product runs a shop on simulated time up to a moment; then the clock stops, so that the controller is as good
as dead, and the API server listens on a loopback port. There is no guard, as in a cluster today.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from canary.api.reasons import Phase
from canary.kube.resources import DEPLOYMENTS, PODS
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer
from canary.lab.apiserver.serving import HttpServer
from canary.lab.rehearsal.scenario import Scenario, Setting

TOKEN = "me"
LIMIT_SECONDS = 900.0
POLICY = {"steps": [{"weight": "1%"}, {"weight": "10%", "approval": True}]}


def _exposed(scenario: Scenario) -> bool:
    run = scenario.latest_run()
    return run is not None and run.status.traffic.observed_ppm > 0


def _rolled_back(scenario: Scenario) -> bool:
    run = scenario.latest_run()
    return run is not None and run.status.phase is Phase.ROLLED_BACK and _alone(scenario)


def _alone(scenario: Scenario) -> bool:
    """Tell whether the side is gone: its pods stay a while after the rollback."""
    return len(scenario.admin.list(DEPLOYMENTS, "shop")) == 1 and len(scenario.admin.list(PODS, "shop")) == 4


MOMENTS: Mapping[str, Callable[[Scenario], bool]] = {
    "a run at 1 %, its controller gone": _exposed,
    "a run that was rolled back": _rolled_back,
}


@contextlib.contextmanager
def stopped_cluster(moment: str, folder: Path) -> Iterator[Path]:
    """Yield the path of a kubeconfig for the cluster at that moment of MOMENTS; it ends with the block."""
    scenario = Scenario(Setting(policy=POLICY, audit=f"file:{folder / 'audit.jsonl'}"))
    server = None
    try:
        scenario.push({"SHOP_BUG": "order-collapse"})
        assert scenario.run_until(lambda: MOMENTS[moment](scenario), LIMIT_SECONDS), f"never came: {moment}"
        server = HttpServer(ApiServer(scenario.cluster.store), {TOKEN: User("me", ("system:masters",))})
        yield server.kubeconfig(folder / "kubeconfig", TOKEN, namespace="shop")
    finally:
        if server is not None:
            server.stop()
        scenario.cluster.stop()
