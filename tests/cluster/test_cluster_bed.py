"""The bed itself: it is up soon, its node runs and loses pods as a real one does, and nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_bed import Bed
from enter import SCRATCH
from shop_on_bed import POD_PORT, Shop, shop_open

from canary.kube.client import Intent
from canary.kube.pods import SERVICE_LABEL
from canary.kube.resources import ENDPOINTSLICES, PODS
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
HERE = Path(__file__).resolve().parent
START_SECONDS, GONE_SECONDS = 60.0, 15.0  # 20 s on a quiet machine
BED = "import contextlib, time, cluster_bed, programs\nwith contextlib.closing(cluster_bed.Bed(programs.find())):\n"
SLEEP = "import time\nif True:\n"
THEN = "    print('ready', flush=True)\n    time.sleep(600)\n"


def test_the_bed_is_ready_soon(bed: Bed) -> None:
    assert bed.started_in["everything"] < START_SECONDS


# -- nothing is left behind ------------------------------------------------------------------------------------------


def network_of(pid: int | str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def strangers() -> list[int]:
    """Return the processes in networks other than ours, the ones that an inner bed has."""
    ours = network_of("self")
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if network_of(pid) not in ("", ours)]


@pytest.mark.usefixtures("bed")
@pytest.mark.parametrize(
    ("program", "end"),
    [
        (BED, lambda outer: os.killpg(outer.pid, signal.SIGINT)),  # Ctrl-C
        (SLEEP, subprocess.Popen.terminate),
        (SLEEP, subprocess.Popen.kill),
    ],
    ids=["a bed by Ctrl-C", "by SIGTERM", "by SIGKILL"],
)
def test_nothing_is_left_behind(program: str, end: Callable[[subprocess.Popen[str]], None]) -> None:
    folders = set(Path(SCRATCH).iterdir())
    command = [sys.executable, str(HERE / "enter.py"), sys.executable, "-c", program + THEN]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as outer:
        assert outer.stdout is not None
        try:
            assert outer.stdout.readline() == "ready\n"
            assert strangers()
        finally:
            end(outer)
        outer.wait(GONE_SECONDS)
    deadline = time.monotonic() + GONE_SECONDS
    while strangers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert strangers() == []
    assert set(Path(SCRATCH).iterdir()) == folders


# -- the node --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(bed: Bed) -> Iterator[Shop]:
    with shop_open(bed, "node", orders_per_second=10.0) as shop:
        yield shop


def status_of(bed: Bed, shop: Shop, name: str) -> Object:
    return (bed.admin.get(PODS.at(shop.namespace, name)) or {}).get("status") or {}


def is_ready(bed: Bed, shop: Shop, name: str) -> bool:
    conditions = status_of(bed, shop, name).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def in_service(bed: Bed, shop: Shop, name: str) -> bool:
    """Tell whether the gateway is told to send requests to the pod."""
    slices = bed.admin.list(ENDPOINTSLICES, shop.namespace, selector=f"{SERVICE_LABEL}={manifests.NAME}")
    endpoints = [endpoint for each in slices for endpoint in each.get("endpoints") or []]
    return any(each["targetRef"]["name"] == name and each["conditions"]["ready"] for each in endpoints)


def victim_of(shop: Shop) -> str:
    return shop.pods()[0]["metadata"]["name"]


def test_each_pod_is_a_process_with_an_address_of_its_own(bed: Bed, shop: Shop) -> None:
    names = {pod["metadata"]["name"] for pod in shop.pods()}
    processes = bed.node.process_ids()
    addresses = {pod["status"]["podIP"] for pod in shop.pods()}
    assert len({processes[name] for name in names}) == len(addresses) == 3
    for address in addresses:
        with urllib.request.urlopen(f"http://{address}:{POD_PORT}/readyz", timeout=5.0) as answer:
            assert answer.status == 200


def test_a_pod_that_crashes_is_restarted_and_counted(bed: Bed, shop: Shop) -> None:
    name = victim_of(shop)
    bed.node.crash(name)

    def again() -> bool:
        containers = status_of(bed, shop, name).get("containerStatuses") or [{}]
        return containers[0].get("restartCount") == 1 and is_ready(bed, shop, name)

    bed.until(again, "the pod is ready after one restart")


def test_a_pod_that_hangs_leaves_service_and_comes_back(bed: Bed, shop: Shop) -> None:
    name = victim_of(shop)
    bed.node.hang(name)
    bed.until(lambda: not in_service(bed, shop, name), "a hung pod is out of service")
    assert not is_ready(bed, shop, name)
    bed.node.wake(name)
    bed.until(lambda: in_service(bed, shop, name), "the pod is back in service")


def test_a_pod_can_be_made_slow(bed: Bed, shop: Shop) -> None:
    address = shop.pods()[0]["status"]["podIP"]
    bed.node.slow(victim_of(shop), share=0.9, seconds=3.0)
    assert slowest_answer(address) > 0.05


def slowest_answer(address: str, requests: int = 20) -> float:
    longest = 0.0
    for _ in range(requests):
        asked = time.monotonic()
        with urllib.request.urlopen(f"http://{address}:{POD_PORT}/healthz", timeout=5.0) as answer:
            assert answer.status == 200
        longest = max(longest, time.monotonic() - asked)
    return longest


def test_a_pod_that_is_deleted_serves_until_the_gateway_knows(bed: Bed) -> None:
    with shop_open(bed, "graceful", orders_per_second=20.0) as shop:
        for pod in shop.pods()[:2]:
            ref = PODS.at(shop.namespace, pod["metadata"]["name"])
            bed.admin.delete(ref, uid=pod["metadata"]["uid"], intent=Intent.NEUTRAL)
            bed.until(lambda ref=ref: bed.admin.get(ref) is None, "the pod is gone")
        shop.until(lambda: shop.ready_pods() == 3, "both are replaced")
        sales = shop.close_shop()
    assert sales["total"]["requests"] > 0
    assert sales["total"]["broken"] == 0
    assert set(sales["by_version"]) == {manifests.OLD}, "the gateway itself answered somebody"
