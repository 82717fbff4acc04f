"""The guard's files on an API server that reads them by itself: in force with nothing stored, and out of reach.

A second API server on the bed's etcd, with the feature gate and the directory that the page of the guard names. What it
refuses, the first one, which has no such files and no guard stored, lets pass.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import guard_roads as roads
import pytest
import urllib3
import yaml
from cluster_bed import HOST, READY_SECONDS, USERS, Bed, token
from guard_on_bed import SETTINGS, rights_given

from canary.api.marks import TRUE, Mark
from canary.guard.policy import VALIDATING, VALIDATING_BINDINGS, manifests
from canary.guard.static import SUFFIX, static
from canary.guard.workload import HOLD
from canary.kube.client import Intent
from canary.kube.resources import DEPLOYMENTS

pytest_plugins = ["cluster_fixtures"]
PORT = 26444
GATE = "ManifestBasedAdmissionControlConfig"
STORED = VALIDATING.at("", "canary-guard-workload")
BOUND = VALIDATING_BINDINGS.at("", "canary-guard-workload")
MERGE = "application/merge-patch+json"


class Second:
    """The second API server, as people ask it."""

    def __init__(self, bed: Bed) -> None:
        folder = Path(bed.folder)
        self._certificate = folder / "second" / "apiserver.crt"
        self._pool = urllib3.PoolManager(ca_certs=str(self._certificate))
        self.files = folder / "static"
        self.files.mkdir()
        printed = _printed("--platform-group", "platform", "--gitops-account", *SETTINGS.gitops_accounts)
        assert list(yaml.safe_load_all(printed)) == json.loads(json.dumps(static(SETTINGS)))
        (self.files / "guard.yaml").write_text(printed)
        policy = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyConfiguration",
        }
        plugin = {
            "name": "ValidatingAdmissionPolicy",
            "configuration": {**policy, "staticManifestsDir": str(self.files)},
        }
        config = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AdmissionConfiguration",
            "plugins": [plugin],
        }
        (folder / "admission.yaml").write_text(yaml.safe_dump(config))
        command = [
            word
            for word in map(str, bed.apiserver_command())
            if not word.startswith(("--secure-port", "--cert-dir", "--audit-log-path", "--token-auth-file"))
        ]
        rows = [f'{token(name)},{user},{name},"{",".join(groups)}"' for name, (user, groups) in USERS.items()]
        rows.append('ops-token,ops,ops,"platform,system:masters"')
        (folder / "second.csv").write_text("\n".join(rows) + "\n")
        own = [
            f"--secure-port={PORT}",
            f"--cert-dir={self._certificate.parent}",
            f"--token-auth-file={folder / 'second.csv'}",
            f"--feature-gates={GATE}=true",
            f"--admission-control-config-file={folder / 'admission.yaml'}",
        ]
        server = bed.start("kube-apiserver-2", [*command, *own])
        server.wait_until(self._ready, READY_SECONDS)

    def _ready(self) -> bool:
        try:
            return self._certificate.exists() and self.ask("admin", "GET", "/readyz")[0] == 200
        except (urllib3.exceptions.HTTPError, ValueError):
            return False

    def ask(
        self, user: str, method: str, path: str, body: object = None, media: str = "application/json"
    ) -> tuple[int, Any]:
        secret = "ops-token" if user == "ops" else token(user)
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": media}
        dry = "" if method == "GET" else "?dryRun=All"
        data = json.dumps(body) if body is not None else None
        answer = self._pool.request(
            method, f"https://{HOST}:{PORT}{path}{dry}", body=data, headers=headers, retries=False
        )
        text = answer.data.decode()
        return answer.status, json.loads(text) if text.startswith("{") else text


def _printed(*words: str) -> str:
    command = [sys.executable, "-m", "canary.cli.main", "guard", "--static", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def second(bed: Bed) -> Iterator[Second]:
    bed.namespace("static-shop", {Mark.GUARDED.value: TRUE})
    held = {"labels": {Mark.GUARDED.value: TRUE}}
    bed.make(DEPLOYMENTS, "shop", "static-shop", metadata=held, spec={**roads.pods_of(), "paused": True})
    for ref, manifest in zip((STORED, BOUND), manifests(HOLD, SETTINGS), strict=True):
        off = {"matchConditions": [{"name": "never", "expression": "false"}]} if ref is STORED else {}
        toothless = {**manifest, "spec": {**manifest["spec"], **off}}
        bed.admin.create(ref.resource, toothless, intent=Intent.NEUTRAL)
    with rights_given(bed):
        yield Second(bed)
    for ref in (BOUND, STORED):
        stored = bed.admin.get(ref) or {}
        bed.admin.delete(ref, uid=stored["metadata"]["uid"], intent=Intent.NEUTRAL)


SHOP = DEPLOYMENTS.at("static-shop", "shop").path()


@pytest.mark.parametrize("user", ["alice", "agent", "admin"])
def test_the_files_hold_a_deployment_with_no_rule_stored(bed: Bed, second: Second, user: str) -> None:
    for method, body in (("PATCH", {"spec": {"paused": False}}), ("DELETE", {"dryRun": ["All"]})):
        status, said = second.ask(
            user, method, SHOP, body, MERGE if method == "PATCH" else "application/json"
        )
        assert status == 403, said
        assert f"canary-guard-workload{SUFFIX}" in said["message"]
        media = {"media": MERGE} if method == "PATCH" else {}
        assert bed.ask(user, method, SHOP, body, **media, dryRun="All")[0] == 200


@pytest.mark.parametrize("user", ["alice", "agent", "admin"])
@pytest.mark.parametrize("ref", [STORED, BOUND], ids=["rule", "binding"])
def test_the_rules_that_are_stored_are_kept_from_everybody_but_a_platform_group(
    second: Second, ref: Any, user: str
) -> None:
    note = {"metadata": {"annotations": {"a": "b"}}}
    for method, body in (("PATCH", note), ("DELETE", {"dryRun": ["All"]})):
        media = MERGE if method == "PATCH" else "application/json"
        status, said = second.ask(user, method, ref.path(), body, media)
        assert (status, "a rule of canary's guard" in said["message"]) == (403, True), said
        assert second.ask("ops", method, ref.path(), body, media)[0] == 200


def test_rules_of_others_are_none_of_its_business(second: Second) -> None:
    spec = manifests(HOLD, SETTINGS)[0]["spec"]
    manifest = VALIDATING.at("", "somebody-elses").manifest(spec=spec)
    status, said = second.ask("alice", "POST", VALIDATING.collection(""), manifest)
    assert status == 201, said
    forged = VALIDATING.at("", "canary-guard-more").manifest(spec=spec)
    assert second.ask("alice", "POST", VALIDATING.collection(""), forged)[0] == 403


def test_no_file_reads_another_object_and_all_have_the_name_that_is_demanded() -> None:
    for each in static(SETTINGS):
        assert each["metadata"]["name"].endswith(SUFFIX)
        assert not {"paramKind", "paramRef"} & each["spec"].keys()
