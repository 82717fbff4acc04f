"""`canary attest` on real repositories with real SSH signatures, and `canary flag` that believes it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from clone import DANA, LEE, Canary, Clone, allowed_signers, new_key
from conftest import require_program
from origin_corpus import LINES, PROSE

from canary.api.change import ChangeAnnotation
from canary.cli.exits import Exit
from canary.lab import manifests

pytest_plugins = ["clone_fixtures"]
IMAGE = "registry.example/shop@sha256:" + "a" * 64
SAFETY: dict[str, Any] = {
    "apiVersion": "canary-controller.io/v1alpha1",
    "kind": "SafetyPolicy",
    "metadata": {"name": "tier-1"},
    "spec": {"approvals": {"approverGroups": ["devs"], "seniorGroups": ["seniors"]}},
}


class Office:
    """Dana's and Lee's keys, CI's key, and the SafetyPolicy that trusts it."""

    def __init__(self, folder: Path, clone: Clone, canary: Canary) -> None:
        folder.mkdir()
        self.clone, self.canary = clone, canary
        self.keys = {name: new_key(folder / name) for name in ("dana", "lee", "mallory")}
        people = {"dana@example.com": self.keys["dana"], "lee@example.com": self.keys["lee"]}
        self.people = allowed_signers(folder / "people", people)
        self.ci = folder / "ci.pem"
        openssl = require_program("openssl")
        subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", str(self.ci)], check=True)
        self.trusted = folder / "safety.yaml"
        self.statement = folder / "statement.json"
        self.trust(self.public_key())

    def public_key(self) -> str:
        code, out, _ = self.canary("attest", "--public-key", "--key", str(self.ci))
        assert code == 0
        return out.strip()

    def trust(self, key: str) -> None:
        spec = {**SAFETY["spec"], "trustedKeys": [{"id": "ci-main", "publicKey": key}]}
        self.trusted.write_text(yaml.safe_dump({**SAFETY, "spec": spec}))

    def attest(self, *words: str) -> tuple[int, str]:
        """Sign the range since v1; keep the statement."""
        options = ["--range", "v1..HEAD", "--image", IMAGE, "--key-id", "ci-main"]
        files = ["--key", str(self.ci), "--allowed-signers", str(self.people)]
        code, out, err = self.canary("attest", *options, *files, *words)
        self.statement.write_text(out)
        return code, err

    def verify(self) -> tuple[int, str, str]:
        return self.canary("attest", "--verify", str(self.statement), "--trusted", str(self.trusted))

    def flag(self, *words: str) -> tuple[int, str, str]:
        proof = ["--attestation", str(self.statement), "--trusted", str(self.trusted)]
        return self.canary("flag", "--range", "v1..HEAD", "--exit-code", *proof, *words)


@pytest.fixture
def office(tmp_path: Path, clone: Clone, canary: Canary) -> Office:
    made = Office(tmp_path / "office", clone, canary)
    clone.commit(PROSE, key=made.keys["dana"])
    return made


def test_commits_that_people_signed_are_proved_human_and_the_record_carries_the_proof(office: Office) -> None:
    office.clone.commit("Second", LEE, office.keys["lee"])
    code, err = office.attest("--reviewer", "sam", "--field", "spec.volumes[v]", "--repo", "shop/checkout")
    assert code == Exit.DONE, err
    code, out, _ = office.verify()
    assert code == Exit.DONE
    for text in (IMAGE, "Dana Doe", "Lee Low", "spec.volumes[v]", "shop/checkout", "SHA256:"):
        assert text in out
    code, out, err = office.flag("-o", "json")
    assert code == Exit.DONE, err
    found = json.loads(out)
    assert (found["origin"], found["evidence"][0]["level"]) == ("human", "E4")
    assert found["annotations"][ChangeAnnotation.ATTESTATION] == office.statement.read_text().strip()


def test_a_key_on_the_curve_p256_serves_as_well(office: Office) -> None:
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "genpkey", *curve, "-out", str(office.ci)], check=True)
    office.attest()
    assert office.flag()[0] == Exit.IS_UNKNOWN
    office.trust(office.public_key())
    assert office.flag()[0] == Exit.DONE


def test_nothing_is_signed_where_a_commit_is_not(office: Office) -> None:
    unsigned = office.clone.commit("Second")
    code, err = office.attest()
    assert (code, office.statement.read_text()) == (Exit.USAGE, "")
    assert unsigned[:12] in err
    assert "Dana Doe" in err


def test_a_signature_of_nobody_we_know_is_none(office: Office) -> None:
    office.clone.commit("Second", LEE, office.keys["mallory"])
    code, err = office.attest()
    assert code == Exit.USAGE
    assert "no person among the allowed signers" in err


@pytest.mark.parametrize("message", [f"Work\n\n{LINES[0][1]}", "Fix, by Kirо"])
def test_nothing_is_signed_where_an_agent_signed_or_letters_are_disguised(
    office: Office, message: str
) -> None:
    office.clone.commit(message, key=office.keys["dana"])
    code, err = office.attest()
    assert code == Exit.USAGE
    assert "nothing was signed" in err


def test_a_statement_proves_its_own_commits_only(office: Office) -> None:
    assert office.attest()[0] == Exit.DONE
    office.clone.commit("A commit more", DANA, office.keys["dana"])
    code, _, err = office.flag()
    assert code == Exit.IS_UNKNOWN
    assert "another range" in err


def test_a_statement_proves_the_images_of_the_manifest_only(office: Office) -> None:
    assert office.attest()[0] == Exit.DONE
    path = office.clone.folder / "shop.yaml"
    deployment = manifests.deployment(2, 80)
    for image, code in (
        (IMAGE, Exit.DONE),
        (IMAGE[:-1] + "b", Exit.IS_UNKNOWN),
        ("shop:v2", Exit.IS_UNKNOWN),
    ):
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
        path.write_text(yaml.safe_dump(deployment))
        assert office.flag("-f", str(path))[0] == code
    path.write_text(yaml.safe_dump({**deployment, "spec": {"template": {}}}))
    code, _, err = office.flag("-f", str(path))
    assert code == Exit.USAGE
    assert "names no image" in err


def test_evidence_of_an_agent_beats_a_statement(office: Office) -> None:
    assert office.attest()[0] == Exit.DONE
    assert office.flag("--label", "ai-generated")[0] == Exit.IS_AI


def test_a_statement_that_is_over_or_of_another_key_proves_nothing(office: Office) -> None:
    assert office.attest("--valid", "0s")[0] == Exit.DONE
    assert office.verify()[0] == Exit.FAILED
    assert office.flag()[0] == Exit.IS_UNKNOWN
    office.attest()
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(office.ci)], check=True)
    office.trust(office.public_key())
    code, _, err = office.verify()
    assert code == Exit.FAILED
    assert "no trusted key" in err
    assert office.flag()[0] == Exit.IS_UNKNOWN


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "--range, --image, --key, --key-id, --allowed-signers must be given"),
        (("--public-key",), "--key must be given"),
        (("--verify", "x"), "--trusted must be given"),
    ],
)
def test_what_is_missing_is_named(canary: Canary, words: tuple[str, ...], text: str) -> None:
    code, _, err = canary("attest", *words)
    assert code == Exit.USAGE
    assert text in err


def test_an_image_without_a_digest_and_a_key_that_is_none_are_refused(office: Office) -> None:
    assert "has no digest" in office.attest("--image", "shop:v2")[1]
    office.ci.write_text("x")
    assert "no unencrypted private key" in office.attest()[1]
    office.ci.unlink()
    assert "cannot read" in office.attest()[1]
