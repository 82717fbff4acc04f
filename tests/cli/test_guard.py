"""`canary guard`: what it prints for a version of Kubernetes, and what it refuses. `--check` needs a real server."""

import json

import pytest
import yaml

from canary.cli.main import main
from canary.guard.policies import guard, version_of
from canary.guard.policy import Settings


def test_the_policies_come_as_yaml_for_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard", "--kubernetes", "v1.36.3"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == guard(Settings(), (1, 36))
    assert {"MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"} <= {each["kind"] for each in printed}


def test_an_older_version_gets_the_rules_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard", "--kubernetes", "1.35", "-o", "json"]) == 0
    kinds = {each["kind"] for each in json.loads(capsys.readouterr().out)["items"]}
    assert kinds == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def test_a_version_that_can_keep_no_rule_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard", "--kubernetes", "1.29"]) == 2
    assert "Kubernetes 1.29 is too old for the guard; it needs 1.30" in capsys.readouterr().err


def test_what_is_no_version_is_refused_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["guard", "--kubernetes", "newest"])
    assert "'newest' is no version of Kubernetes; write for example 1.36" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "version"), [("1.36", (1, 36)), ("v1.30.14-eks-1", (1, 30)), ("1.31+", (1, 31))]
)
def test_versions_are_read_as_vendors_write_them(text: str, version: tuple[int, int]) -> None:
    assert version_of(text) == version


def test_who_is_known_is_in_the_rules_and_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--platform-group", "wardens", "--gitops-account", "system:serviceaccount:argocd:sync"]
    main(["guard", "--kubernetes", "1.36", "--controller-namespace", "elsewhere", *words])
    text = capsys.readouterr().out
    assert "system:serviceaccount:argocd:sync" in text
    assert "system:serviceaccount:elsewhere:canary-controller" in text
    assert "canary-system" not in text


def test_every_rule_says_what_to_do_in_a_sentence_that_the_server_takes() -> None:
    rules = [
        rule for manifest in guard(Settings(), (1, 35)) for rule in manifest["spec"].get("validations", [])
    ]
    assert rules
    assert all(30 < len(rule["message"]) < 400 and "\n" not in rule["message"] for rule in rules)


@pytest.mark.parametrize("other", [["--check"], ["--kubernetes", "1.36"]])
def test_files_for_an_api_server_are_neither_checked_nor_of_a_version(other: list[str]) -> None:
    assert main(["guard", "--static", *other]) == 2
