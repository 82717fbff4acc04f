"""The chart on a real API server: installed by the real helm, its pods admitted, its programs run by its words alone.

Nobody pulls images here, so two controllers and the sentinel run as processes of this machine: with the flags of the
stored Deployments, and with the tokens of their pods. One namespace is seen to, no right reaches beyond, and the guard
is in force.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chart
import pytest
import yaml
from cluster_bed import ACCOUNTS, INSTALLED, Bed
from controller_rights import REACHES, Right, granted, rules_of, used
from shop_on_bed import Shop, shop_open

from canary.api.marks import TRUE, Mark
from canary.kube.resources import CANARYPOLICIES, CRDS, DEPLOYMENTS, PODS
from canary.lab import manifests
from canary.lab.shop.child import Message

pytest_plugins = ["cluster_fixtures"]
Object = dict[str, Any]
SHOP = "installed"
RATE = 40.0  # orders a second
FIVE_PERCENT = {"steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}]}
BY_PODS = {"route": {"kind": "EndpointSlice"}, "tier": 2, "steps": [{"weight": "25%"}]}
PROMISE_SECONDS, LIMIT_SECONDS, UNDISTURBED_SECONDS = 30.0, 120.0, 30.0
LATE_SECONDS = 15.0  # on a machine that plays other shops at the same time
PROGRAMS = {
    "controller": ["canary.cli.main", "run", "--telemetry=127.0.0.1:0"],
    "sentinel": ["canary.sentinel"],
}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True, slots=True)
class Notes:
    """What stood in the world when the story was over."""

    pods: list[Object]
    undisturbed: list[tuple[float, int]]
    killed_at: float
    weights: list[tuple[float, int]]
    sales: Message
    logs: dict[str, str]
    rights: dict[str, tuple[set[Right], set[Right]]]
    can: dict[tuple[str, str, str], bool]
    refused: str
    crds: set[str]
    policy: Object


class Installation:
    """The chart, installed, and its programs."""

    def __init__(self, shop: Shop, ending: ExitStack, *values: str) -> None:
        self.bed = bed = shop.bed
        self._ending = ending
        self._processes: list[subprocess.Popen[bytes]] = []
        values += (f"namespace={shop.namespace}", "cluster=bed", "uninstall.detach=false")
        values += ("sinks.webhooks[0].name=on-call", f"sinks.webhooks[0].url={shop.pages.url}/page")
        flags = ("--set", ",".join(values))
        self.helm("upgrade", "--install", "canary", str(chart.CHART), "--take-ownership", *flags)
        bed.until(lambda: len(bed.admin.list(PODS, INSTALLED)) == 3, "the chart's pods are admitted")
        words = ("label", "namespace", shop.namespace, f"{Mark.GUARDED}={TRUE}")
        assert bed.kubectl("admin", *words).returncode == 0

    def helm(self, *words: str) -> str:
        kubeconfig = str(self.bed.kubeconfig("admin"))
        return chart.helm(*words, "--namespace", INSTALLED, "--kubeconfig", kubeconfig)

    def start(self, program: str, number: int = 1) -> Path:
        """Start a program as its Deployment says; return its log."""
        stored = self.bed.admin.get(DEPLOYMENTS.at(INSTALLED, f"canary-{program}"))
        assert stored is not None
        flags = stored["spec"]["template"]["spec"]["containers"][0]["args"]
        module, *words = PROGRAMS[program]
        first = [word for word in words if not word.startswith("-")]
        last = [word for word in words if word.startswith("-")]  # the last of two equal flags holds
        command = [sys.executable, "-m", module, *first, *flags, *last]
        path = self.bed.folder / f"installed-{program}-{number}.log"
        with path.open("wb") as log:
            command += ["--kubeconfig", str(self._kubeconfig(program))]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)
        self._ending.callback(process.kill)
        return path

    def kill_controllers(self) -> None:
        """Kill every program but the last one started, as failing nodes would."""
        for process in self._processes[:-1]:
            process.kill()
            process.wait(LIMIT_SECONDS)

    def _kubeconfig(self, program: str) -> Path:
        """Write a kubeconfig with the token that the kubelet would give to the program's pod."""
        name = f"canary-{program}"
        pods = [pod["metadata"]["name"] for pod in self.bed.admin.list(PODS, INSTALLED)]
        pod = next(each for each in pods if each.startswith(name))
        words = ("create", "token", name, "--bound-object-kind=Pod", f"--bound-object-name={pod}")
        minted = self.bed.kubectl("node", *words, namespace=INSTALLED)
        assert minted.returncode == 0, minted.stderr
        config = json.loads(self.bed.kubeconfig("admin").read_text())
        config["users"][0]["user"] = {"token": minted.stdout.strip()}
        path = self.bed.folder / f"installed-{program}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path


ROLES = ("viewer", "operator", "approver", "emergency", "agent")
QUESTIONS = {
    ("get", "canaryruns"): set(ROLES),
    ("create", "canaryrequests"): {"operator", "approver", "emergency", "agent"},
    ("abort", "canaryruns"): {"operator", "approver", "emergency", "agent"},
    ("promote", "canaryruns"): {"operator", "emergency"},
    ("approve", "canaryruns"): {"approver"},
    ("bypass", "canaryruns"): {"emergency"},
    ("patch", "httproutes"): {"operator", "emergency"},
    ("patch", "canaryruns"): set[str](),
    ("update", "canarypolicies"): set[str](),
    ("patch", "deployments"): set[str](),
}


def people(bed: Bed) -> dict[tuple[str, str, str], bool]:
    """Bind each role to somebody, and ask the API server what that one may do."""
    for role in ROLES:
        words = ("create", "rolebinding", role, f"--clusterrole=canary-{role}", f"--user={role}")
        assert bed.kubectl("admin", *words, namespace=SHOP).returncode == 0
    return {
        (role, verb, what): bed.kubectl(
            "admin", "auth", "can-i", verb, what, f"--as={role}", namespace=SHOP
        ).stdout.startswith("yes")
        for role in ROLES
        for verb, what in QUESTIONS
    }


def crds(bed: Bed) -> set[str]:
    return {each["spec"]["names"]["kind"] for each in bed.admin.list(CRDS)}


@pytest.fixture(scope="module")
def notes(bed: Bed) -> Iterator[Notes]:
    with shop_open(bed, SHOP, RATE) as shop, ExitStack() as ending:
        bed.namespace(INSTALLED, RESTRICTED)
        installed = Installation(shop, ending)
        logs = {f"controller {number}": installed.start("controller", number) for number in (1, 2)}
        logs["sentinel"] = installed.start("sentinel")
        shop._log = logs["controller 1"]  # whose last words tell why something did not come
        shop.protect(**FIVE_PERCENT)
        shop.push()
        shop.reach_slice()
        time.sleep(UNDISTURBED_SECONDS)
        undisturbed = shop.chronicle.weights()
        killed_at = time.time()
        installed.kill_controllers()
        shop.until(lambda: shop.weight_ppm() == 0, "the sentinel takes the slice away", LIMIT_SECONDS)
        can = people(bed)
        words = ("delete", f"deployment/{manifests.NAME}", "--wait=false")
        refused = bed.kubectl("alice", *words, namespace=SHOP).stderr
        pods = bed.admin.list(PODS, INSTALLED)
        rights = {name: used(bed.audit_log, user, {SHOP, INSTALLED}) for name, user in ACCOUNTS.items()}
        installed.helm("uninstall", "canary")
        yield Notes(
            pods=pods,
            undisturbed=undisturbed,
            killed_at=killed_at,
            weights=shop.chronicle.weights(),
            sales=shop.close_shop(),
            logs={name: path.read_text() for name, path in logs.items()},
            rights=rights,
            can=can,
            refused=refused,
            crds=crds(bed),
            policy=bed.admin.get(CANARYPOLICIES.at(SHOP, manifests.NAME)) or {},
        )


@pytest.mark.parametrize("preset", chart.presets())
def test_the_api_server_takes_every_preset(bed: Bed, preset: str) -> None:
    theirs = ("PodMonitor", "PrometheusRule")  # of the Prometheus operator, which is not here
    made = [each for each in chart.rendered(*chart.presets()[preset]) if each["kind"] not in theirs]
    words = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
    done = bed.kubectl("admin", *words, given=yaml.safe_dump_all(made))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(made)


def test_a_restricted_namespace_admits_every_pod(notes: Notes) -> None:
    accounts = [pod["spec"]["serviceAccountName"] for pod in notes.pods]
    assert sorted(accounts) == ["canary-controller", "canary-controller", "canary-sentinel"]


def test_a_controller_that_beats_is_never_disturbed(notes: Notes) -> None:
    assert [ppm for _, ppm in notes.undisturbed] == [0, 50_000]


def test_with_every_controller_dead_the_slice_is_gone_within_thirty_seconds(notes: Notes) -> None:
    assert [ppm for _, ppm in notes.weights] == [0, 50_000, 0]
    assert notes.weights[-1][0] - notes.killed_at <= PROMISE_SECONDS + LATE_SECONDS
    assert "no controller beats" in notes.logs["sentinel"]


def test_the_guard_let_the_controller_raise_and_nobody_take_the_shop_away(notes: Notes) -> None:
    assert "canary guards this Deployment: it cannot be deleted" in notes.refused


def test_no_customer_lost_an_order_by_it(notes: Notes) -> None:
    total = notes.sales["total"]
    assert total["requests"] > 1000
    assert (total["wanted"] - total["placed"], total["broken"]) == (0, 0)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_charts_rights_are_enough_in_one_namespace(notes: Notes, account: str) -> None:
    allowed, denied = notes.rights[account]
    assert denied == set()
    assert allowed
    assert allowed <= granted(rules_of(account))


def test_the_sentinel_needs_every_right_that_it_has(notes: Notes) -> None:
    routes, others = "gateway.networking.k8s.io/httproutes", "gateway.networking.k8s.io/grpcroutes"
    rarer = {
        ("get", routes),
        ("get", others),
        ("patch", others),
    }  # where somebody writes in between, or serves gRPC
    assert notes.rights["sentinel"][0] | rarer == granted(rules_of("sentinel"))


@pytest.mark.usefixtures("notes")
def test_with_the_right_to_slices_a_dead_controllers_slice_is_emptied_and_nothing_more_is_asked(
    bed: Bed,
) -> None:
    with shop_open(bed, "by-pods", RATE) as shop, ExitStack() as ending:
        installed = Installation(shop, ending, "endpointSlices=true")
        shop._log = installed.start("controller", 3)
        installed.start("sentinel", 2)
        shop.protect(**BY_PODS)
        shop.push()
        shop.until(lambda: len(shop.sliced()) == 1, "one pod is named")
        time.sleep(UNDISTURBED_SECONDS)
        assert len(shop.sliced()) == 1, "the sentinel disturbs a controller that beats"
        installed.kill_controllers()
        shop.until(lambda: not shop.sliced(), "the sentinel empties the slice", LIMIT_SECONDS)
        rights = {name: used(bed.audit_log, user, {shop.namespace}) for name, user in ACCOUNTS.items()}
        installed.helm("uninstall", "canary")
        total = shop.close_shop()["total"]
    for account, (allowed, denied) in rights.items():
        assert denied == set()
        assert ("patch", "discovery.k8s.io/endpointslices") in allowed
        assert allowed <= granted(rules_of(account, *REACHES, "slices"))
    assert (total["wanted"] - total["placed"], total["broken"]) == (0, 0)


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_each_role_may_do_what_it_is_for(notes: Notes, question: tuple[str, str]) -> None:
    assert {role for role in ROLES if notes.can[role, *question]} == QUESTIONS[question]


def test_an_uninstall_leaves_the_kinds_and_what_was_written_in_them(notes: Notes) -> None:
    assert {"CanaryPolicy", "CanaryRun", "CanaryRequest", "SafetyPolicy"} <= notes.crds
    assert notes.policy["status"]["adopted"] is True
