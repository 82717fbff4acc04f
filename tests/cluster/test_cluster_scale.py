"""How much the controller needs to know a large cluster: memory and processor time, with nothing under way.

The objects are real ones at a real API server, a tenth of the promise's number by default; `REPEATS=full` makes all of
them: 1,000 policies, 5,000 Deployments, no pods. Memory is what the system says of the process, not what we count.
"""

import json
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
from canary.kube.resources import CANARYPOLICIES, DEPLOYMENTS, HTTPROUTES, REPLICASETS, SERVICES
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
        bed.until(lambda: held(bed) == POLICIES, "every policy holds its Deployment", READY_SECONDS)
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
    """Make the Deployments, which want no pods, and what belongs to a guarded one for each of the first."""
    bed.namespace(NAMESPACE)
    deployment = manifests.deployment(0, 8080, manifests.OLD)
    guarded = [
        (DEPLOYMENTS, deployment),
        (SERVICES, manifests.service()),
        (HTTPROUTES, manifests.route()),
        (CANARYPOLICIES, manifests.policy()),
    ]

    def make(number: int) -> None:
        for resource, manifest in guarded if number < POLICIES else [(DEPLOYMENTS, deployment)]:
            text = json.dumps(manifest).replace(f'"{manifests.NAME}"', f'"app-{number}"')
            obj = json.loads(text)
            obj["metadata"]["namespace"] = NAMESPACE
            bed.admin.create(resource, obj, intent=Intent.NEUTRAL)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(DEPLOYED)))
    bed.until(lambda: ready_to_hold(bed), "every Deployment has its ReplicaSet", READY_SECONDS)


def ready_to_hold(bed: Bed) -> bool:
    return len(bed.admin.list(REPLICASETS, NAMESPACE)) == DEPLOYED


def held(bed: Bed) -> int:
    policies = bed.admin.list(CANARYPOLICIES, NAMESPACE)
    return sum(bool((each.get("status") or {}).get("adopted")) for each in policies)


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


def test_what_is_held_and_at_rest_costs_next_to_nothing(need: Need) -> None:
    assert need.idle_cores < 0.1


def test_a_large_cluster_is_known_soon(need: Need) -> None:
    assert need.sync_seconds < 5.0
