"""The chart and the plain manifests: what they hold, what they refuse, and that they are one.

Rendered by the real helm. That a real API server takes them, and that controller and sentinel live with these rights,
is shown in tests/cluster.
"""

import json
import re
import subprocess
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

import chart
import pytest
import yaml
from chart import container, of_kind, only
from conftest import require_helm, require_program
from controller_rights import granted

import canary
from canary import sentinel
from canary.api.read import parse_people
from canary.api.reasons import GROUP
from canary.cli import controller, detaching
from canary.clock import WallClock
from canary.guard.policies import guard, version_of
from canary.guard.policy import Settings
from canary.kube.queue import WorkQueue
from canary.operator.run import AUDIT_TOKEN
from canary.operator.telemetry import Telemetry

Object = dict[str, Any]
PRESETS = chart.presets()
READING = {"get", "list", "watch"}


@pytest.fixture(autouse=True)
def _helm() -> None:
    require_helm()


# -- one source ------------------------------------------------------------------------------------------------------


def test_the_charts_crds_and_guard_are_those_of_the_code() -> None:
    paths = [*(chart.CHART / "files" / "crds").glob("*.yaml"), *(chart.CHART / "files" / "guard").iterdir()]
    assert {path: path.read_text(encoding="utf-8") for path in paths} == chart.generated(), "run `make docs`"


@pytest.mark.parametrize("kubernetes", ["1.30", "1.35", "1.36", "1.37"])
def test_the_guard_is_what_the_controller_looks_for(kubernetes: str) -> None:
    groups, accounts = ("platform", "system:masters"), ("system:serviceaccount:flux-system:kustomize",)
    told = json.dumps({"platformGroups": groups, "gitopsAccounts": accounts})
    leaving = "system:serviceaccount:ops:canary-uninstall"
    for words, known in (
        (("--set", "uninstall.detach=false"), Settings("ops")),
        (("--set-json", f"guard={told}"), Settings("ops", groups, (*accounts, leaving))),
    ):
        objects = chart.rendered(*words, "--kube-version", kubernetes, namespace="ops")
        found = [each for each in objects if "AdmissionPolicy" in each["kind"]]
        assert sorted(found, key=str) == sorted(guard(known, version_of(kubernetes)), key=str)
        parser = ArgumentParser(exit_on_error=False)
        controller.configure("run", parser)
        given = controller.run_options(parser.parse_args(container(objects, "canary-controller")["args"]))
        assert given.guard_required
        assert (given.platform_groups, given.gitops_accounts) == (
            known.platform_groups,
            known.gitops_accounts,
        )


def test_the_plain_manifests_are_the_chart_rendered() -> None:
    for path, text in chart.manifests().items():
        assert path.read_text(encoding="utf-8") == text, "run `make docs`"


def test_kustomize_puts_namespace_crds_and_controller_together() -> None:
    built = subprocess.run(
        [require_program("kubectl"), "kustomize", str(chart.DEPLOY)],
        capture_output=True,
        text=True,
        check=True,
    )
    kinds = Counter(each["kind"] for each in yaml.load_all(built.stdout, Loader=yaml.CSafeLoader))
    assert kinds["ValidatingAdmissionPolicy"] > 5
    assert kinds["MutatingAdmissionPolicy"] > 1
    assert (kinds["Namespace"], kinds["CustomResourceDefinition"], kinds["Deployment"]) == (1, 4, 2)


def test_the_chart_has_the_version_of_the_product() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == canary.__version__


# -- every preset ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_helm_finds_nothing_to_complain_of(preset: str) -> None:
    assert "0 chart(s) failed" in chart.helm("lint", "--strict", str(chart.CHART), *PRESETS[preset])


@pytest.mark.parametrize("preset", PRESETS)
def test_every_pod_is_restricted_and_writes_nowhere(preset: str) -> None:
    for deployment in of_kind(chart.rendered(*PRESETS[preset]), "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in pod["containers"]:
            rules = each["securityContext"]
            assert (rules["allowPrivilegeEscalation"], rules["readOnlyRootFilesystem"]) == (False, True)
            assert rules["capabilities"] == {"drop": ["ALL"]}
            assert each["resources"]["limits"]["memory"] == each["resources"]["requests"]["memory"]


def test_an_uninstall_gives_every_deployment_back_first_and_only_as_a_hook() -> None:
    found = [
        each for each in chart.rendered() if "helm.sh/hook" in (each["metadata"].get("annotations") or {})
    ]
    assert {each["kind"] for each in found} == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"}
    assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in found} == {"pre-delete"}
    spec = only(found, "Job")["spec"]
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    (job,) = spec["template"]["spec"]["containers"]
    parser = ArgumentParser(exit_on_error=False)
    detaching.configure("detach", parser)
    given = parser.parse_args(job["args"][1:])
    assert (job["command"], job["args"][0], given.all, given.yes) == (["canary"], "detach", True, True)
    assert not any((given.accept, given.reject)), "a held change is a person's to decide"
    assert given.timeout < spec["activeDeadlineSeconds"]
    assert job["securityContext"]["readOnlyRootFilesystem"] is True
    assert not any("Job" in path.read_text() for path in chart.manifests())
    assert not [each for each in chart.rendered("--set", "uninstall.detach=false") if each["kind"] == "Job"]


def test_who_gives_back_may_write_policies_and_nothing_else() -> None:
    grants = granted(only(chart.rendered(), "ClusterRole", f"{chart.NAMESPACE}:canary-uninstall")["rules"])
    writes = {right for right in grants if right[0] not in READING}
    assert writes == {(verb, f"{GROUP}/canarypolicies") for verb in ("patch", "delete")}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_flags_are_those_that_the_programs_know(preset: str) -> None:
    objects = chart.rendered(*PRESETS[preset], *FLAGS)
    main, watching = container(objects, "canary-controller"), container(objects, "canary-sentinel")
    parser = ArgumentParser(exit_on_error=False)
    controller.configure("run", parser)
    options = controller.run_options(parser.parse_args(main["args"]))
    assert (main["command"], watching["command"]) == (["canary", "run"], ["canary-sentinel"])
    assert options.controller_namespace == chart.NAMESPACE
    assert options.cluster == "north"
    assert options.prometheus == ("http://prometheus.example:9090",)
    assert [sink.name for sink in options.webhooks] == ["pager"]
    assert [sink.url for sink in options.alertmanagers] == ["http://am.example:9093"]
    port = main["ports"][0]["containerPort"]
    assert options.telemetry == f"0.0.0.0:{port}"
    given = sentinel._options(watching["args"])
    assert given.controller_namespace == chart.NAMESPACE


FLAGS = (
    *("--set", "cluster=north", "--set", "controller.prometheus[0]=http://prometheus.example:9090"),
    *("--set", "sinks.webhooks[0].name=pager", "--set", "sinks.webhooks[0].url=https://pager.example/hook"),
    *("--set", "sinks.webhooks[0].keySecret=pager-key"),
    *(
        "--set",
        "sinks.alertmanagers[0].name=am",
        "--set",
        "sinks.alertmanagers[0].url=http://am.example:9093",
    ),
)


def test_a_webhooks_key_lies_where_the_controller_looks_for_it() -> None:
    objects = chart.rendered(*FLAGS)
    mounts = {each["name"]: each for each in container(objects, "canary-controller")["volumeMounts"]}
    pod = only(objects, "Deployment", "canary-controller")["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert mounts["key-pager"]["mountPath"] == "/etc/canary/sinks/pager.key"
    assert volumes["key-pager"]["secret"]["secretName"] == "pager-key"


def test_the_identity_map_lies_where_the_controller_reads_it() -> None:
    told = {"people": [{"name": "dana", "usernames": ["dana@example.org"]}], "nobody": ["renovate[bot]"]}
    objects = chart.rendered("--set-json", f"people={json.dumps(told)}")
    main = container(objects, "canary-controller")
    (flag,) = [flag.removeprefix("--people=") for flag in main["args"] if flag.startswith("--people=")]
    folder, file = flag.rsplit("/", 1)
    assert folder in {each["mountPath"] for each in main["volumeMounts"]}
    known = parse_people(yaml.safe_load(only(objects, "ConfigMap")["data"][file]))
    assert [person.name for person in known.people] == ["dana"]


def test_an_audit_has_its_address_its_token_and_its_volume() -> None:
    words = (
        "audit.address=file:/var/lib/canary/audit.jsonl",
        "audit.claim=audit",
        "audit.tokenSecret=bucket",
    )
    objects = chart.rendered(*(word for each in words for word in ("--set", each)))
    main = container(objects, "canary-controller")
    assert "--audit=file:/var/lib/canary/audit.jsonl" in main["args"]
    mounts = {each["name"]: each["mountPath"] for each in main["volumeMounts"]}
    assert (mounts["audit"], mounts["audit-token"]) == ("/var/lib/canary", str(AUDIT_TOKEN.parent))
    pod = only(objects, "Deployment", "canary-controller")["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["audit"]["persistentVolumeClaim"]["claimName"] == "audit"
    assert volumes["audit-token"]["secret"]["items"] == [{"key": AUDIT_TOKEN.name, "path": AUDIT_TOKEN.name}]


def test_two_replicas_on_two_nodes_by_default_and_never_none_at_all() -> None:
    objects = chart.rendered()
    deployment = only(objects, "Deployment", "canary-controller")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_one_replica_has_no_budget_that_would_keep_its_node_from_draining() -> None:
    assert of_kind(chart.rendered(*PRESETS["small"]), "PodDisruptionBudget") == []


def test_high_availability_means_three_nodes_two_sentinels_and_somebody_who_watches() -> None:
    objects = chart.rendered(*PRESETS["ha"], "--set", "monitoring.labels.release=prom")
    deployment = only(objects, "Deployment", "canary-controller")["spec"]
    assert deployment["replicas"] == 3
    assert (
        deployment["template"]["spec"]["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
    )
    assert only(objects, "Deployment", "canary-sentinel")["spec"]["replicas"] == 2
    for kind in ("PodMonitor", "PrometheusRule"):
        assert only(objects, kind)["metadata"]["labels"]["release"] == "prom"
    endpoint = only(objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    assert endpoint["port"] == container(objects, "canary-controller")["ports"][0]["name"]


def test_without_a_way_out_only_private_addresses_are_asked() -> None:
    objects = chart.rendered(*PRESETS["airgapped"])
    for policy in of_kind(objects, "NetworkPolicy"):
        (rule,) = policy["spec"]["egress"]
        assert {each["ipBlock"]["cidr"] for each in rule["to"]} == {
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
        }
    assert container(objects, "canary-controller")["imagePullPolicy"] == "Never"


def test_nobody_may_connect_but_to_read_metrics_and_health() -> None:
    objects = chart.rendered("--set-json", 'networkPolicy.metricsFrom=[{"podSelector":{}}]')
    (rule,) = only(objects, "NetworkPolicy", "canary-controller")["spec"]["ingress"]
    assert rule == {"ports": [{"port": "telemetry", "protocol": "TCP"}], "from": [{"podSelector": {}}]}
    assert only(objects, "NetworkPolicy", "canary-sentinel")["spec"]["ingress"] == []


def test_crds_stay_after_an_uninstall_unless_told_otherwise() -> None:
    keep = "helm.sh/resource-policy"
    kept = of_kind(chart.rendered(), "CustomResourceDefinition")
    assert [each["metadata"]["annotations"][keep] for each in kept] == ["keep"] * 4
    gone = of_kind(chart.rendered("--set", "crds.keep=false"), "CustomResourceDefinition")
    assert not any(keep in each["metadata"]["annotations"] for each in gone)
    assert of_kind(chart.rendered("--set", "crds.install=false"), "CustomResourceDefinition") == []


def test_an_image_may_be_pinned_by_its_digest() -> None:
    digest = "sha256:" + "0" * 64
    objects = chart.rendered(
        "--set", f"image.digest={digest}", "--set", "image.repository=registry.example:5000/canary"
    )
    assert container(objects, "canary-sentinel")["image"] == f"registry.example:5000/canary@{digest}"


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ("controler.replicas=2", "controler"),
        ("controller.replica=2", "replica"),
        ("controller.replicas=0", "replicas"),
        ("controller.logLevel=loud", "logLevel"),
        ("controller.prometheus[0]=prometheus:9090", "prometheus"),
        ("controller.flags[0]=guard", "flags"),
        ("sinks.webhooks[0].url=https://pager.example", "webhooks"),
        ("image.digest=latest", "digest"),
        ("image.repository=", "repository"),
        ("namespace=Shop", "namespace"),
        ("networkPolicy.egressTo[0]=example.org", "egressTo"),
        ("guard.gitopsAccounts[0]=flux", "gitopsAccounts"),
        ("guard.platformGroups[0]=it's", "platformGroups"),
    ],
)
def test_a_value_that_is_not_known_is_refused_with_its_place(values: str, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        chart.template("--set", values)


# -- alerts ----------------------------------------------------------------------------------------------------------


def test_the_alerts_are_rules_that_prometheus_takes(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(only(chart.rendered(*PRESETS["ha"]), "PrometheusRule")["spec"]))
    done = subprocess.run(
        [require_program("promtool"), "check", "rules", str(rules)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_comes_when_it_should_and_not_before(tmp_path: Path) -> None:
    for file in (chart.CHART / "files" / "alerts.yaml", Path(__file__).with_name("alerts.test.yaml")):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    command = [require_program("promtool"), "test", "rules", "alerts.test.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_ask_for_what_the_controller_shows() -> None:
    telemetry = Telemetry(WallClock(), "1", "")
    telemetry.watch_queue(WorkQueue(WallClock()))
    telemetry.watch_leader(lambda: True)
    shown = set(re.findall(r"^# HELP (\S+)", telemetry.exposition().decode(), re.MULTILINE))
    asked = set(re.findall(r"canary_\w+", " ".join(alert_expressions())))
    assert asked - shown <= {"canary_watch_contact_age_seconds"}, "shown once there is a reflector"
    assert len(asked) == 5


def alert_expressions() -> list[str]:
    alerts = yaml.safe_load((chart.CHART / "files" / "alerts.yaml").read_text())
    return [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
