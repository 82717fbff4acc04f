"""How much the controller needs: to know a large cluster with nothing under way, and to look at hundreds of slices.

The objects are real ones at a real API server, a tenth of the promise's number by default; `REPEATS=full` makes all of
them: 1,000 policies and 5,000 Deployments without pods, then 200 runs with a slice, each looked at every 5 seconds,
whose pods only count (`crowd.py`). Memory is what the system says of the process, not what we count.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_bed import GATEWAY, HOST, Bed
from crowd import METRICS_PORT, Crowd
from node_agent import CROWD
from prometheus_client.parser import text_string_to_metric_families

from canary.kube.client import Intent
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYRUNS,
    DEPLOYMENTS,
    HTTPROUTES,
    REPLICASETS,
    SERVICES,
    Resource,
)
from canary.lab import manifests
from canary.lab.manifests import Object

pytest_plugins = ["cluster_fixtures"]
FULL = os.environ.get("REPEATS") == "full"
DEPLOYED, POLICIES = (5_000, 1_000) if FULL else (500, 100)
ACTIVE = 200 if FULL else 20  # runs with a slice
HOMES = 10 if FULL else 2  # the namespaces that share what is active, and as many what is at rest
AT_REST, TELEMETRY_PORT = "rest", 29090
READY_SECONDS, SETTLE_SECONDS, IDLE_SECONDS, STOP_SECONDS = 300.0, 30.0, 30.0, 60.0
EXPOSED_SECONDS, BUSY_SECONDS, ASK_SECONDS = 900.0, 60.0, 3.0
REPLICAS, SIDE_PODS, SLICE = 2, 2, "5%"
STEPS = [{"weight": SLICE}, {"weight": "100%", "approval": True}]
SOURCE = {"scrape": {"port": manifests.PORT_NAME, "path": "/metrics", "every": "5s"}}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "scale-results.md"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Need:
    """What a controller needed: processor seconds until it was ready, then MiB and processor seconds a second."""

    sync_seconds: float
    resident_mib: float
    idle_cores: float

    def __str__(self) -> str:
        return (
            f"{POLICIES:,} policies, {DEPLOYED:,} Deployments, nothing under way: {self.sync_seconds:.1f} s of a "
            f"processor to be ready, {self.resident_mib:.0f} MiB, then {self.idle_cores:.2f} of a core"
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """What looks at exposed runs cost. Seconds are from the moment when a look was due to its end."""

    median_seconds: float
    late_seconds: float  # 99 of 100 took no longer
    waited_seconds: float  # of that, until a worker was free: 99 of 100 waited no longer
    looks_a_second: float
    requests_a_look: float
    cores: float
    resident_mib: float
    exposed: int  # runs that still had their slice at the end

    def __str__(self) -> str:
        return (
            f"{ACTIVE} runs with a slice: {self.looks_a_second:.0f} looks a second of {self.requests_a_look:.1f} "
            f"requests each, from due to done {self.median_seconds * 1000:.0f} ms, p99 "
            f"{self.late_seconds * 1000:.0f} ms (of that {self.waited_seconds * 1000:.0f} ms until a worker was free); "
            f"{self.cores:.2f} of a core, {self.resident_mib:.0f} MiB"
        )


@pytest.fixture(scope="module")
def need(bed: Bed) -> Need:
    """Fill a namespace, let a controller see it, and leave it alone for a while."""
    forget_other_stories(bed)
    homes = [bed.namespace(f"{AT_REST}-{number}") for number in range(HOMES)]
    fill(bed, homes)
    with controller_on(bed) as pid:
        synced = processor_seconds(pid)
        bed.until(lambda: held(bed, homes) == POLICIES, "every policy holds its Deployment", READY_SECONDS)
        time.sleep(SETTLE_SECONDS)
        before = processor_seconds(pid)
        time.sleep(IDLE_SECONDS)
        idle = (processor_seconds(pid) - before) / IDLE_SECONDS
        needed = Need(synced, resident_mib(pid), idle)
    print(f"\n{needed}")
    return needed


@pytest.fixture(scope="module")
def pace(bed: Bed) -> Iterator[Pace]:
    """Open shops, give each a change, and watch how the controller looks at all of their slices."""
    forget_other_stories(bed)
    homes = [bed.namespace(f"active-{number}") for number in range(HOMES)]
    bed.gateway(homes[0])
    crowd = Crowd(bed, REPLICAS, SIDE_PODS, float(SLICE.rstrip("%")) / 100)
    try:
        each_of(bed, [*shops(homes)])
        with controller_on(bed) as pid:
            bed.until(lambda: held(bed, homes) == ACTIVE, "all are held", READY_SECONDS)
            push(bed, homes)
            bed.until(lambda: exposed() == ACTIVE, "all have a slice", EXPOSED_SECONDS)
            time.sleep(SETTLE_SECONDS)
            measured = watched(pid)
        print(f"\n{measured}")
        yield measured
    finally:
        crowd.close()


def watched(pid: int) -> Pace:
    before, spent = told(), processor_seconds(pid)
    time.sleep(BUSY_SECONDS)
    after, used = told(), processor_seconds(pid) - spent
    gained = {series: value - before.get(series, 0.0) for series, value in after.items()}
    looks = total(gained, "canary_reconcile_duration_seconds_count", kind="canaryruns")
    waits = buckets(gained, "canary_queue_wait_seconds", lane="quick")
    lasted = buckets(gained, "canary_reconcile_duration_seconds", kind="canaryruns")
    return Pace(
        median_seconds=quantile(waits, 0.5) + quantile(lasted, 0.5),
        late_seconds=quantile(waits, 0.99) + quantile(lasted, 0.99),
        waited_seconds=quantile(waits, 0.99),
        looks_a_second=looks / BUSY_SECONDS,
        requests_a_look=total(gained, "canary_kube_requests_total") / looks,
        cores=used / BUSY_SECONDS,
        resident_mib=resident_mib(pid),
        exposed=exposed(),
    )


# -- what is made ------------------------------------------------------------------------------------------------------


def fill(bed: Bed, homes: list[str]) -> None:
    """Make the Deployments, which want no pods, and what belongs to a guarded one for each of the first."""
    deployment = manifests.deployment(0, 8080, manifests.OLD)
    guarded = [
        (DEPLOYMENTS, deployment),
        (SERVICES, manifests.service()),
        (HTTPROUTES, manifests.route()),
        (CANARYPOLICIES, manifests.policy()),
    ]
    made = [guarded] * POLICIES + [[(DEPLOYMENTS, deployment)]] * (DEPLOYED - POLICIES)
    each_of(
        bed, [named(objects, homes[number % HOMES], f"app-{number}") for number, objects in enumerate(made)]
    )
    bed.until(lambda: ready_to_hold(bed, homes), "every Deployment has its ReplicaSet", READY_SECONDS)


def shops(homes: list[str]) -> Iterator[list[tuple[Resource, Object]]]:
    """Yield what each shop of the crowd consists of; all routes hang on one gateway."""
    route, policy = manifests.route(), manifests.policy({"steps": STEPS, "source": SOURCE})
    route["spec"]["parentRefs"] = [{"name": GATEWAY, "namespace": homes[0]}]
    deployment = manifests.deployment(REPLICAS, METRICS_PORT, manifests.OLD)
    deployment["spec"]["template"]["metadata"]["labels"][CROWD] = manifests.NAME
    objects = [
        (SERVICES, manifests.service()),
        (DEPLOYMENTS, deployment),
        (HTTPROUTES, route),
        (CANARYPOLICIES, policy),
    ]
    for number in range(ACTIVE):
        yield named(objects, homes[number % HOMES], f"app-{number}")


def named(objects: list[tuple[Resource, Object]], home: str, name: str) -> list[tuple[Resource, Object]]:
    """Return the objects of the lab's shop under another name, in another namespace."""
    text = json.dumps([each for _, each in objects]).replace(f'"{manifests.NAME}"', f'"{name}"')
    made: list[Object] = json.loads(text)
    for each in made:
        each["metadata"]["namespace"] = home
    return [(resource, each) for (resource, _), each in zip(objects, made, strict=True)]


def each_of(bed: Bed, groups: list[list[tuple[Resource, Object]]]) -> None:
    def make(group: list[tuple[Resource, Object]]) -> None:
        for resource, obj in group:
            bed.admin.create(resource, obj, intent=Intent.NEUTRAL)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, groups))


def forget_other_stories(bed: Bed) -> None:
    """Delete what earlier stories left on the bed: this controller would take their runs up and count them."""
    for kind in (CANARYPOLICIES, CANARYRUNS):
        for each in bed.admin.list(kind):
            meta = each["metadata"]
            if not meta["namespace"].startswith(AT_REST):
                ref = kind.at(meta["namespace"], meta["name"])
                bed.admin.delete(ref, uid=meta["uid"], intent=Intent.NEUTRAL)


def push(bed: Bed, homes: list[str]) -> None:
    """Change the image of every shop, as a pipeline would."""
    change = manifests.change(manifests.NEW, METRICS_PORT, {})
    for number in range(ACTIVE):
        ref = DEPLOYMENTS.at(homes[number % HOMES], f"app-{number}")
        bed.admin.merge_patch(ref, change, intent=Intent.NEUTRAL)


# -- what is seen ------------------------------------------------------------------------------------------------------


def ready_to_hold(bed: Bed, homes: list[str]) -> bool:
    time.sleep(ASK_SECONDS)
    return sum(len(bed.admin.list(REPLICASETS, home)) for home in homes) == DEPLOYED


def held(bed: Bed, homes: list[str]) -> int:
    time.sleep(ASK_SECONDS)
    policies = [each for home in homes for each in bed.admin.list(CANARYPOLICIES, home)]
    return sum(bool((each.get("status") or {}).get("adopted")) for each in policies)


def exposed() -> int:
    """Return how many runs have a slice, as the controller's metrics say: to list them all would be a load itself."""
    time.sleep(ASK_SECONDS)
    return round(total(told(), "canary_run_phase", phase="Progressing"))


@contextmanager
def controller_on(bed: Bed, *flags: str) -> Iterator[int]:
    """Start `canary run` as a process of its own; yield its id when its caches are filled, and end it."""
    command = [sys.executable, "-m", "canary.cli.main", "run", "--until-eof", *flags]
    command += ["--kubeconfig", str(bed.kubeconfig("controller")), "--log-level", "warning"]
    command += ["--controller-namespace", "default", "--telemetry", f"{HOST}:{TELEMETRY_PORT}"]
    with (bed.folder / "controller-scale.log").open("ab") as log:
        controller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            bed.until(is_ready, f"the controller is ready; its log is {log.name}", READY_SECONDS)
            yield controller.pid
        finally:
            controller.terminate()
            controller.wait(STOP_SECONDS)


def is_ready() -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{TELEMETRY_PORT}/readyz", timeout=2.0) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


Told = dict[tuple[str, frozenset[tuple[str, str]]], float]


def told() -> Told:
    """Return every sample of the controller's own metrics."""
    with urllib.request.urlopen(f"http://{HOST}:{TELEMETRY_PORT}/metrics", timeout=STOP_SECONDS) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = (sample for family in families for sample in family.samples)
    return {(each.name, frozenset(each.labels.items())): each.value for each in samples}


def total(told: Told, name: str, **labels: str) -> float:
    return sum(value for (found, own), value in told.items() if found == name and labels.items() <= own)


def buckets(told: Told, name: str, **labels: str) -> list[tuple[float, float]]:
    """Return the bounds of a histogram, each with how many were at most that."""
    found = [
        (float(dict(own)["le"]), value)
        for (series, own), value in told.items()
        if series == f"{name}_bucket" and labels.items() <= own
    ]
    return sorted(found)


def quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """Return the quantile of a histogram, as if the values of a bucket lay evenly in it."""
    wanted, below, counted = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            return below + (bound - below) * (wanted - counted) / max(1e-9, count - counted)
        below, counted = bound, count
    return float("inf")


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024.0


def page(need: Need, pace: Pace) -> str:
    rows = [
        ("processor time until all is known", "5 s", f"{need.sync_seconds:.1f} s"),
        ("memory at rest", "96 MiB", f"{need.resident_mib:.0f} MiB"),
        ("processor at rest", "0.1 core", f"{need.idle_cores:.2f} core"),
        (
            "slices: from when a look is due to its decision, median",
            "",
            f"{pace.median_seconds * 1000:.0f} ms",
        ),
        ("slices: the same, 99 of 100", "1 s", f"{pace.late_seconds * 1000:.0f} ms"),
        ("slices: processor", "0.5 core", f"{pace.cores:.2f} core"),
        ("slices: memory", "200 MiB", f"{pace.resident_mib:.0f} MiB"),
        ("slices: requests of the API server, a look", "6", f"{pace.requests_a_look:.1f}"),
    ]
    table = "\n".join(f"| {what} | {most} | {found} |" for what, most, found in rows)
    return (
        "# At scale\n\n"
        "Written by `make test-cluster REPEATS=full`: one controller, real objects at a real API server 1.36, all of "
        f"it on two cores. At rest: {POLICIES:,} policies that hold their Deployments and {DEPLOYED:,} Deployments "
        f"without pods. Slices: {ACTIVE} runs more at {SLICE}, each looked at every 5 seconds "
        f"({pace.looks_a_second:.0f} looks a second), each with {REPLICAS + SIDE_PODS} pods that are scraped.\n\n"
        f"| what | at most | measured |\n|---|---|---|\n{table}\n"
    )


# -- what is promised --------------------------------------------------------------------------------------------------


def test_a_large_cluster_fits_into_a_small_pod(need: Need) -> None:
    assert need.resident_mib < 96.0


def test_what_is_held_and_at_rest_costs_next_to_nothing(need: Need) -> None:
    assert need.idle_cores < 0.1


def test_a_large_cluster_is_known_soon(need: Need) -> None:
    assert need.sync_seconds < 5.0


def test_slices_are_judged_in_time(pace: Pace) -> None:
    assert pace.exposed == ACTIVE, "a healthy change lost its slice"
    assert pace.late_seconds < (1.0 if FULL else 3.0)  # the promise is for a machine that does nothing else


def test_a_look_asks_the_api_server_for_little(pace: Pace) -> None:
    assert pace.requests_a_look < 6.0


def test_hundreds_of_slices_fit_into_a_small_pod(pace: Pace) -> None:
    assert pace.resident_mib < 200.0
    assert pace.cores < 0.5


def test_the_figures_are_written_down(need: Need, pace: Pace) -> None:
    text = page(need, pace)
    if FULL:
        PAGE.write_text(text, encoding="utf-8")
    assert f"{ACTIVE} runs" in text
