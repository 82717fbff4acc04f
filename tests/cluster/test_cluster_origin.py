"""Who wrote a change, and what people read of it, on a real control plane: neither is altered under a run for free."""

import time

from cluster_bed import Bed
from shop_on_bed import Shop, shop_open

from canary.api.change import ChangeAnnotation
from canary.api.reasons import Phase
from canary.kube.resources import CANARYRUNS
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
RATE = 40.0  # orders a second
POLICY = {
    "steps": [{"weight": "5%", "approval": True}, {"weight": "100%"}],
    "drain": "2s",
    "analysis": {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"},
    "source": {"scrape": {"port": "metrics", "path": "/metrics", "every": "1s"}},
}
WAIT_SECONDS = 10.0
READ = "read the plan, and the change is small"


def annotate(shop: Shop, **texts: str) -> None:
    """Alter the record as whoever may edit the Deployment does; an empty text takes it away."""
    words = [
        f"{ChangeAnnotation[key.upper()].value}{f'={text}' if text else '-'}" for key, text in texts.items()
    ]
    done = shop.bed.kubectl(
        "alice", "annotate", "deployment", manifests.NAME, "--overwrite", *words, namespace=shop.namespace
    )
    assert done.returncode == 0, done.stderr


def next_run(shop: Shop, before: str) -> str:
    """Wait until another run stands; return its name."""
    shop.until(lambda: shop.run()["metadata"]["name"] != before, "another run begins")
    return shop.run()["metadata"]["name"]


def test_a_record_that_is_altered_in_the_slice_costs_the_approval_and_ai_is_never_taken_back(
    bed: Bed,
) -> None:
    with shop_open(bed, "altered", RATE) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.push()
        shop.reach(Phase.PREPARING)
        told = shop.canary("alice", "approve", manifests.NAME, "--reason", READ, "--yes")
        assert told.returncode == 0, told.stderr
        shop.reach_slice()
        first = shop.run()
        annotate(shop, what="Move the confirmation call, and drop a table", origin="human", agents="")
        second = next_run(shop, first["metadata"]["name"])
        shop.until(lambda: shop.weight_ppm() == 0, "the slice is taken away")
        shop.reach(Phase.PREPARING)
        time.sleep(WAIT_SECONDS)
        run, sales = shop.run(), shop.close_shop()
        ended = shop.bed.admin.get(CANARYRUNS.at(shop.namespace, first["metadata"]["name"]))
        shop.stop_controller()
    assert run["metadata"]["name"] == second, "the altered record is read once"
    assert ended is not None
    assert ended["status"]["phase"] == Phase.SUPERSEDED
    assert "record was altered (what" in ended["status"]["timeline"][-1]["message"]
    assert run["spec"]["digest"] != first["spec"]["digest"]
    assert not run["status"].get("approvals")
    assert [ppm for _, ppm in shop.chronicle.weights()] == [0, 50_000, 0]
    assert (first["spec"]["change"]["origin"], run["spec"]["change"]["origin"]) == ("ai", "ai")
    assert sales["total"]["wanted"] - sales["total"]["placed"] == 0
