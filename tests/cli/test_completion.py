"""Completion: verbs, flags, choices and workloads; silence when the cluster is away."""

import pytest
from cli_bed import Bed

from canary.cli import complete
from canary.cli.main import VERBS

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def completed(capsys):
    def ask(*words: str) -> list[str]:
        assert complete.main(list(words)) == 0
        return capsys.readouterr().out.splitlines()

    return ask


def test_verbs_are_completed(completed):
    assert completed("re") == ["resume", "reject", "retry", "rehearse", ":4"]
    assert completed("") == [*VERBS, ":4"]


def test_flags_are_completed(completed):
    assert completed("abort", "--n") == ["--namespace", "--now", ":4"]


def test_choices_are_completed(completed):
    assert completed("status", "-o", "j") == ["json", "junit", ":4"]


def test_files_are_left_to_the_shell(completed):
    assert completed("judge", "") == [":0"]


def test_workloads_are_completed(cli: Bed, completed):
    cli.put_policy()
    cli.put_policy("cart")
    assert completed("status", "--kubeconfig", cli.configs["dana"], "c") == ["cart", "checkout", ":4"]
    assert completed("abort", "--kubeconfig", cli.configs["dana"], "ch") == ["checkout", ":4"]


@pytest.mark.parametrize(
    "words", [("status", "--kubeconfig", "/absent", ""), ("nonsense", "x"), ("status", "--context", "")]
)
def test_whatever_goes_wrong_is_silent(words, capsys):
    assert complete.main(list(words)) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (":4\n", "")
