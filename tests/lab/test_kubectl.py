"""The real kubectl against the embedded server: what people type works, and what the guard refuses is refused."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import require_program
from timed_kubelet import TimedKubelet

from canary.api.crd import crds
from canary.api.reasons import API_VERSION
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.serving import HttpServer
from canary.lab.cluster import RealTimeCluster

TOKENS = {
    "alice": User("alice", ("devs",)),
    "root": User("root", ("system:masters",)),
    "agent": User("system:serviceaccount:ci:agent"),
}
LIMIT_SECONDS = 60  # other tests may keep both processors busy
Object = dict[str, object]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One person's kubectl; `refused` returns what it said on standard error when it failed."""

    program: str
    config: Path
    cache: Path

    def command(self, *words: str) -> list[str]:
        return [self.program, f"--kubeconfig={self.config}", f"--cache-dir={self.cache}", *words]

    def run(self, *words: str, given: object = None) -> subprocess.CompletedProcess[str]:
        text = None if given is None else yaml.safe_dump(given)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.cache)}
        return subprocess.run(
            self.command(*words),
            input=text,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            env=environment,
            check=False,
        )

    def __call__(self, *words: str, given: object = None) -> str:
        done = self.run(*words, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def refused(self, *words: str, given: object = None) -> str:
        done = self.run(*words, given=given)
        assert done.returncode != 0, f"kubectl {' '.join(words)} was expected to fail: {done.stdout}"
        return done.stderr

    def read(self, *words: str) -> dict[str, dict[str, object]]:
        return json.loads(self("get", *words, "-o", "json"))


@dataclass(frozen=True, slots=True)
class Bed:
    cluster: RealTimeCluster
    people: dict[str, Kubectl]

    @property
    def alice(self) -> Kubectl:
        return self.people["alice"]

    def settle(self, name: str) -> None:
        self.alice("rollout", "status", f"deploy/{name}", f"--timeout={LIMIT_SECONDS}s")


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    program = require_program("kubectl")
    cluster = RealTimeCluster(TimedKubelet)
    cluster.install(crds())
    server = HttpServer(cluster.server, TOKENS)
    folder = tmp_path_factory.mktemp("kubectl")
    people = {
        name: Kubectl(program, server.kubeconfig(folder / name, name), folder / "cache") for name in TOKENS
    }
    yield Bed(cluster, people)
    server.stop()
    cluster.stop()


def deployment(name: str, image: str = "registry.invalid/shop:1", **spec: object) -> Object:
    labels = {"app": name}
    container = {"name": "shop", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    shape = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {**shape, **spec},
    }


def apply(kubectl: Kubectl, manifest: Object) -> str:
    return kubectl("apply", "--validate=false", "-f", "-", given=manifest)


def test_apply_creates_then_leaves_alone_then_changes(bed: Bed) -> None:
    assert "created" in apply(bed.alice, deployment("applied"))
    assert "unchanged" in apply(bed.alice, deployment("applied"))
    assert "configured" in apply(bed.alice, deployment("applied", "registry.invalid/shop:2"))
    bed.settle("applied")
    images = bed.alice(
        "get", "pods", "-l", "app=applied", "-o", "jsonpath={.items[*].spec.containers[*].image}"
    )
    assert "registry.invalid/shop:2" in images


def test_get_prints_the_familiar_columns(bed: Bed) -> None:
    apply(bed.alice, deployment("shown"))
    bed.settle("shown")
    header, row = bed.alice("get", "deploy", "shown", "-o", "wide").splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "IMAGES"]
    assert row.split()[:4] == ["shown", "2/2", "2", "2"]
    assert bed.alice("get", "pods", "-l", "app=shown").count("Running") == 2
    assert yaml.safe_load(bed.alice("get", "deploy", "shown", "-o", "yaml"))["metadata"]["name"] == "shown"
    assert "deployment.apps/shown" in bed.alice("get", "all", "-l", "app=shown", "-o", "name")


def test_get_prints_the_columns_of_our_own_kinds(bed: Bed) -> None:
    counters = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}
    policy = {
        "apiVersion": "canary-controller.io/v1alpha1",
        "kind": "CanaryPolicy",
        "metadata": {"name": "checkout"},
        "spec": {
            "target": {"kind": "Deployment", "name": "checkout"},
            "analysis": counters,
            "source": {"scrape": {"port": "metrics"}},
        },
    }
    apply(bed.alice, policy)
    header, row = bed.alice("get", "canarypolicies").splitlines()
    definition = next(entry for entry in crds() if entry["spec"]["names"]["kind"] == "CanaryPolicy")
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    for column in columns:
        assert column["name"].upper() in header or column.get("priority", 0) > 0
    assert "checkout" in row
    policy["spec"]["mode"] = "Enforced"
    assert "Unsupported value" in bed.alice.refused("apply", "--validate=false", "-f", "-", given=policy)


def test_a_watch_prints_a_change_when_it_happens(bed: Bed) -> None:
    bed.alice("apply", "--validate=false", "-f", "-", given=config("watched", "one"))
    words = bed.alice.command("get", "configmap", "watched", "-w", "-o", "jsonpath={.data.key}{'\\n'}")
    watch = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().strip() == "one"
        bed.alice("patch", "configmap", "watched", "--type=merge", "-p", '{"data": {"key": "two"}}')
        assert watch.stdout.readline().strip() == "two"
    finally:
        watch.terminate()
        watch.communicate(timeout=LIMIT_SECONDS)


def config(name: str, value: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}}


def test_labels_annotations_and_patches_reach_the_object(bed: Bed) -> None:
    apply(bed.alice, config("edited", "one"))
    bed.alice("label", "configmap", "edited", "tier=1")
    bed.alice("annotate", "configmap", "edited", "example.com/note=read")
    bed.alice(
        "patch",
        "configmap",
        "edited",
        "--type=json",
        "-p",
        json.dumps([{"op": "remove", "path": "/data/key"}]),
    )
    stored = bed.alice.read("configmap", "edited")
    assert stored["metadata"]["labels"] == {"tier": "1"}
    annotations = stored["metadata"]["annotations"]
    assert isinstance(annotations, dict)
    assert annotations["example.com/note"] == "read"
    assert "data" not in stored or stored["data"] == {}
    failing = json.dumps([{"op": "test", "path": "/metadata/name", "value": "another"}])
    assert "invalid" in bed.alice.refused("patch", "configmap", "edited", "--type=json", "-p", failing)
    bed.alice("delete", "configmap", "edited")
    assert "NotFound" in bed.alice.refused("get", "configmap", "edited")


def test_a_restart_rolls_and_a_paused_deployment_refuses_it(bed: Bed) -> None:
    apply(bed.alice, deployment("restarted"))
    bed.settle("restarted")
    bed.alice("rollout", "restart", "deploy/restarted")
    bed.settle("restarted")
    assert len(bed.alice("get", "rs", "-l", "app=restarted", "-o", "name").split()) == 2
    bed.alice("rollout", "pause", "deploy/restarted")
    assert "can't restart paused deployment" in bed.alice.refused("rollout", "restart", "deploy/restarted")


def test_a_new_image_of_a_paused_deployment_is_held(bed: Bed) -> None:
    apply(bed.alice, deployment("held", paused=None))
    bed.settle("held")
    before = bed.alice("get", "pods", "-l", "app=held", "-o", "name")
    bed.alice("rollout", "pause", "deploy/held")
    bed.alice("set", "image", "deploy/held", "shop=registry.invalid/shop:2")
    waited = bed.alice.run("rollout", "status", "deploy/held", "--timeout=1s")
    assert waited.returncode != 0
    assert "timed out" in waited.stderr
    assert bed.alice("get", "pods", "-l", "app=held", "-o", "name") == before
    assert len(bed.alice("get", "rs", "-l", "app=held", "-o", "name").split()) == 1
    bed.alice("scale", "deploy/held", "--replicas=3")
    bed.alice(
        "wait", "deploy/held", "--for=jsonpath={.status.readyReplicas}=3", f"--timeout={LIMIT_SECONDS}s"
    )
    images = bed.alice("get", "pods", "-l", "app=held", "-o", "jsonpath={.items[*].spec.containers[*].image}")
    assert set(images.split()) == {"registry.invalid/shop:1"}
    bed.alice("rollout", "resume", "deploy/held")
    bed.settle("held")
    assert bed.alice("get", "deploy", "held", "-o", "jsonpath={.status.updatedReplicas}") == "3"


def test_apply_without_paused_keeps_the_hold_and_replace_drops_it(bed: Bed) -> None:
    apply(bed.alice, deployment("kept"))
    bed.alice("rollout", "pause", "deploy/kept")
    apply(bed.alice, deployment("kept", "registry.invalid/shop:2"))
    assert bed.alice("get", "deploy", "kept", "-o", "jsonpath={.spec.paused}") == "true"
    bed.alice("replace", "--validate=false", "-f", "-", given=deployment("kept", "registry.invalid/shop:2"))
    assert bed.alice("get", "deploy", "kept", "-o", "jsonpath={.spec.paused}") == ""


@pytest.fixture(scope="module")
def guarded(bed: Bed) -> str:
    manifest = deployment("guarded", paused=True)
    manifest["metadata"] = {"name": "guarded", "labels": {"canary-controller.io/guarded": "true"}}
    apply(bed.alice, manifest)
    service = {"selector": {"app": "guarded"}, "ports": [{"port": 80, "targetPort": "http"}]}
    apply(
        bed.alice, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "guarded"}, "spec": service}
    )
    return "guarded"


REFUSED = [
    (("rollout", "resume", "deploy/guarded"), "held by canary"),
    (("patch", "deploy", "guarded", "--type=merge", "-p", '{"spec": {"paused": false}}'), "held by canary"),
    (("delete", "deploy", "guarded"), "guarded by canary"),
    (("delete", "deploy", "guarded", "--force", "--grace-period=0"), "guarded by canary"),
    (("delete", "deploy", "-l", "canary-controller.io/guarded=true"), "guarded by canary"),
    (("label", "deploy", "guarded", "canary-controller.io/guarded-"), "is canary's"),
    (("delete", "service", "guarded"), "needs it"),
    (("delete", "namespace", "default"), "needs it"),
]


@pytest.mark.parametrize(
    ("words", "said"), REFUSED, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_the_guard_refuses_an_administrator_too(
    words: tuple[str, ...], said: str, bed: Bed, guarded: str
) -> None:
    assert said in bed.people["root"].refused(*words)
    assert bed.alice("get", "deploy", guarded, "-o", "jsonpath={.spec.paused}") == "true"


def test_the_guard_refuses_a_replace_that_forgets_the_hold(bed: Bed, guarded: str) -> None:
    manifest = deployment(guarded, "registry.invalid/shop:2")
    manifest["metadata"] = {"name": guarded, "labels": {"canary-controller.io/guarded": "true"}}
    assert "held by canary" in bed.people["agent"].refused(
        "replace", "--validate=false", "-f", "-", given=manifest
    )


def test_a_guarded_deployment_still_takes_a_new_template_and_holds_it(bed: Bed, guarded: str) -> None:
    bed.people["agent"]("set", "image", f"deploy/{guarded}", "shop=registry.invalid/shop:3")
    assert "shop:3" in bed.alice("get", "deploy", guarded, "-o", "wide")
    assert "shop:3" not in bed.alice("get", "rs", "-l", f"app={guarded}", "-o", "wide")


def test_a_stranger_is_not_let_in(bed: Bed, tmp_path: Path) -> None:
    text = bed.alice.config.read_text(encoding="utf-8").replace("token: alice", "token: forged")
    config_file = tmp_path / "forged"
    config_file.write_text(text, encoding="utf-8")
    stranger = Kubectl(bed.alice.program, config_file, tmp_path / "cache")
    assert "logged in" in stranger.refused("get", "pods")


def test_apply_without_flags_has_its_fields_checked_by_the_server(bed: Bed) -> None:
    bed.alice("apply", "-f", "-", given=config("checked", "one"))
    counters = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}
    spec = {"target": {"kind": "Deployment", "name": "x"}, "analysis": counters, "stepz": []}
    policy = {
        "apiVersion": "canary-controller.io/v1alpha1",
        "kind": "CanaryPolicy",
        "metadata": {"name": "typo"},
    }
    said = bed.alice.refused("apply", "-f", "-", given={**policy, "spec": spec})
    assert 'unknown field "spec.stepz"' in said
    assert "NotFound" in bed.alice.refused("get", "canarypolicy", "typo")


def test_explain_shows_what_the_fields_of_our_kinds_mean(bed: Bed) -> None:
    told = bed.alice("explain", "canarypolicies.spec.analysis")
    assert "CanaryPolicy" in told
    assert "falseRollback" in told


def test_a_list_is_sorted_by_any_field_of_its_objects(bed: Bed) -> None:
    for name, replicas in (("many", 3), ("few", 1), ("some", 2)):
        apply(bed.alice, deployment(f"sorted-{name}", replicas=replicas))
    printed = bed.alice("get", "deploy", "--sort-by=.spec.replicas").splitlines()
    named = [line.split()[0] for line in printed if line.startswith("sorted-")]
    assert named == ["sorted-few", "sorted-some", "sorted-many"]


def test_a_field_of_the_wrong_type_is_refused_once_and_no_rule_stumbles_over_it(bed: Bed) -> None:
    counters = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}
    spec = {"target": {"name": "shop"}, "analysis": counters, "steps": [{"weight": 10}, {"weight": "100%"}]}
    policy = {"apiVersion": API_VERSION, "kind": "CanaryPolicy", "metadata": {"name": "odd"}, "spec": spec}
    refusal = bed.alice.refused("apply", "--validate=false", "-f", "-", given=policy)
    assert "spec.steps[0].weight: Invalid value: 10: must be of type string" in refusal
    assert "failed rule" not in refusal
