"""How much the controller needs to know a large cluster: memory and processor time, with nothing under way.

The objects are real ones at a real API server, a tenth of the promise's number by default; `REPEATS=full` makes all of
them: 1,000 policies, 5,000 Deployments, no pods. Memory is what the system says of the process, not what we count.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_bed import HOST, Bed

from canary.kube.client import Intent
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS
from canary.lab import manifests

pytest_plugins = ["cluster_fixtures"]
FULL = os.environ.get("REPEATS") == "full"
DEPLOYED, POLICIES = (5_000, 1_000) if FULL else (500, 100)
NAMESPACE, TELEMETRY_PORT = "scale", 29090
READY_SECONDS, SETTLE_SECONDS, IDLE_SECONDS, STOP_SECONDS = 300.0, 30.0, 30.0, 10.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Need:
    """What a controller needed: processor seconds until it was ready, then MiB and processor seconds a second."""

    sync_seconds: float
    resident_mib: float
    idle_cores: float


@pytest.fixture(scope="module")
def need(bed: Bed) -> Need:
    """Fill a namespace, let a controller see it, and leave it alone for a while."""
    fill(bed)
    command = [sys.executable, "-m", "canary.cli.main", "run", "--until-eof"]
    command += ["--kubeconfig", str(bed.kubeconfig("controller")), "--namespace", NAMESPACE]
    command += ["--controller-namespace", NAMESPACE, "--telemetry", f"{HOST}:{TELEMETRY_PORT}"]
    log = (bed.folder / "controller-scale.log").open("wb")
    controller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        bed.until(is_ready, f"the controller is ready; its log is {log.name}", READY_SECONDS)
        synced = processor_seconds(controller.pid)
        time.sleep(SETTLE_SECONDS)
        before = processor_seconds(controller.pid)
        time.sleep(IDLE_SECONDS)
        idle = (processor_seconds(controller.pid) - before) / IDLE_SECONDS
        needed = Need(synced, resident_mib(controller.pid), idle)
    finally:
        controller.terminate()
        controller.wait(STOP_SECONDS)
        log.close()
    print(
        f"\n{POLICIES:,} policies, {DEPLOYED:,} Deployments: {needed.sync_seconds:.1f} s of a processor to be ready, "
        f"{needed.resident_mib:.0f} MiB, then {needed.idle_cores:.2f} of a core"
    )
    return needed


def fill(bed: Bed) -> None:
    """Make the Deployments, which want no pods, and a policy for each of the first."""
    bed.namespace(NAMESPACE)

    def deploy(number: int) -> None:
        manifest = manifests.deployment(0, 8080, manifests.OLD)
        name = f"app-{number}"
        manifest["metadata"] = {**manifest["metadata"], "name": name, "namespace": NAMESPACE}
        manifest["spec"]["paused"] = True  # so that no ReplicaSet is made, either
        bed.admin.create(DEPLOYMENTS, manifest, intent=Intent.NEUTRAL)
        if number < POLICIES:
            policy = manifests.policy({"target": {"kind": "Deployment", "name": name}})
            policy["metadata"] = {"name": name, "namespace": NAMESPACE}
            bed.admin.create(CANARYPOLICIES, policy, intent=Intent.NEUTRAL)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(deploy, range(DEPLOYED)))


def is_ready() -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{TELEMETRY_PORT}/readyz", timeout=2.0) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024.0


def test_a_large_cluster_fits_into_a_small_pod(need: Need) -> None:
    assert need.resident_mib < 96.0


def test_a_large_cluster_is_known_soon(need: Need) -> None:
    assert need.sync_seconds < 5.0
