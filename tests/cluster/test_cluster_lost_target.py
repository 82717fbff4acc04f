"""A held Deployment that somebody deletes, where no guard keeps him, and creates anew with what nobody approved.

The real controllers delete its pods and make others; the shop's own last good version serves from pods of its own
until the team applies it again.
"""

import json
import time

from cluster_bed import Bed
from shop_on_bed import Shop, shop_open

from canary.api.reasons import PPM
from canary.kube.resources import CONTROLLERREVISIONS, DEPLOYMENTS, HTTPROUTES
from canary.lab import manifests
from canary.lab.shop.child import Message

pytest_plugins = ["cluster_fixtures"]
RATE = 40.0  # orders a second
EVIL = "v6.6.6"
LAST_GOOD = f"{manifests.NAME}-lastgood"
POLICY = {"analysis": {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}, "drain": "5s"}
SERVED_SECONDS, WATCHED_SECONDS = 120.0, 10.0


def weights(shop: Shop) -> dict[str, int]:
    route = shop.bed.admin.get(HTTPROUTES.at(shop.namespace, manifests.NAME)) or {}
    return {ref["name"]: ref.get("weight", 1) for ref in route["spec"]["rules"][0]["backendRefs"]}


def placed(sales: Message) -> dict[str, int]:
    return {version: each["placed"] for version, each in sales["by_version"].items()}


def not_served(sales: Message) -> int:
    return sales["total"]["wanted"] - sales["total"]["placed"] + sales["total"]["broken"]


def is_tidied(shop: Shop) -> bool:
    return bool((shop.run().get("status") or {}).get("tidiedAt"))


def test_what_is_deleted_and_created_anew_is_held_and_the_last_good_version_serves(bed: Bed) -> None:
    with shop_open(bed, "recreated", RATE) as shop:
        shop.start_controller()
        shop.protect(**POLICY)
        shop.until(
            lambda: bool(bed.admin.list(CONTROLLERREVISIONS, shop.namespace)), "the good template is kept"
        )
        done = bed.kubectl("alice", "delete", "deployment", manifests.NAME, namespace=shop.namespace)
        assert done.returncode == 0, done.stderr
        shop.apply(shop.manifest(EVIL))
        shop.until(
            lambda: weights(shop).get(LAST_GOOD) == PPM, "the last good version serves", SERVED_SECONDS
        )
        time.sleep(2.0)  # until the gateway has it
        before = shop.sales()
        time.sleep(WATCHED_SECONDS)
        after = shop.sales()
        sold = {name: count - placed(before).get(name, 0) for name, count in placed(after).items()}
        assert {name for name, count in sold.items() if count} == {manifests.OLD}
        assert sold[manifests.OLD] > 0.8 * RATE * WATCHED_SECONDS
        assert not_served(after) - not_served(before) == 0
        assert shop.deployment()["spec"]["paused"] is True
        titles = [json.loads(page.body)["data"]["title"] for page in list(shop.pages.received)]
        assert titles[0].startswith("ACTION NEEDED - the workload was deleted")
        shop.apply(shop.manifest())
        shop.until(lambda: is_tidied(shop), "the traffic is home again", SERVED_SECONDS)
        images = {pod["spec"]["containers"][0]["image"] for pod in shop.pods()}
        assert images == {f"registry.example/shop:{manifests.OLD}"}
        assert set(weights(shop)) == {manifests.NAME}
        assert not shop.exists(DEPLOYMENTS, LAST_GOOD)
        assert shop.deployment()["spec"]["paused"] is True
        shop.stop_controller()
