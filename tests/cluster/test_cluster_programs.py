"""Finding and making the programs of a bed: what is tried, what is kept, and what is said where something is missing.

The compiler is a script here that writes down what it was asked; the real one is run by `make test-cluster` itself.
"""

from pathlib import Path

import programs
import pytest

GO = """#!/bin/sh
[ "$1" = version ] && echo go version go{version} linux/amd64 && exit
echo "$@" >> {log}
while [ "$1" != -o ]; do shift; done
for name in kube-apiserver kube-controller-manager; do echo > "$2$name"; chmod +x "$2$name"; {then}; done
"""


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it but what a test puts into the folder `bin`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def compiler(folder: Path, then: str = ":", version: str = "1.26.0") -> Path:
    """Install a compiler; return where it writes what it was asked."""
    program, log = folder / "bin" / "go", folder / "asked"
    program.write_text(GO.format(log=log, then=then, version=version))
    program.chmod(0o755)
    return log


def test_everything_that_is_missing_is_said_at_once_with_how_to_get_it(empty: Path) -> None:
    with pytest.raises(programs.MissingPrograms) as caught:
        programs.find()
    for name in ("kube-apiserver", "kube-controller-manager", "traefik", "Gateway API"):
        assert name in str(caught.value)
    assert "make test-cluster" in str(caught.value)
    assert "KUBEBUILDER_ASSETS" in str(caught.value)


def test_what_was_built_is_kept_and_found(empty: Path) -> None:
    log = compiler(empty)
    programs.whole(programs.kubernetes_folder(), programs.build_kubernetes)
    asked = log.read_text()
    assert "k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager" in asked
    assert f"version.gitVersion={programs.pinned('k8s.io/kubernetes')}" in asked
    assert programs.locate("kube-apiserver") == programs.kubernetes_folder() / "kube-apiserver"


def test_a_build_that_breaks_off_leaves_nothing_that_could_be_taken_for_whole(empty: Path) -> None:
    compiler(empty, then="echo no space left >&2; exit 1")
    with pytest.raises(programs.MissingPrograms, match="no space left"):
        programs.whole(programs.kubernetes_folder(), programs.build_kubernetes)
    assert programs.locate("kube-apiserver") is None
    assert list(programs.cache().iterdir()) == []


def test_without_a_compiler_its_name_and_the_other_way_are_said_where_none_can_be_fetched(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(empty / "bin"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(programs.MissingPrograms, match=r"go is not installed.*KUBEBUILDER_ASSETS"):
        programs.whole(programs.kubernetes_folder(), programs.build_kubernetes)
    assert list(programs.cache().iterdir()) == []


def test_a_compiler_that_is_too_old_is_not_asked(empty: Path) -> None:
    log = compiler(empty, version="1.19.8")
    fetched = programs.wheels_folder(programs.GO_TOOLS) / "go" / "bin" / "go"
    fetched.parent.mkdir(parents=True)
    assert programs.go() == str(fetched)
    assert not log.exists()


def test_without_a_compiler_somebody_who_needs_helm_is_told_of_helm(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(empty / "bin"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert programs.main(["helm"]) == 1
    assert "go is not installed: install Go 1.26, or install helm 3" in capsys.readouterr().err


def test_a_folder_of_programs_that_people_have_comes_first(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(empty)
    programs.whole(programs.kubernetes_folder(), programs.build_kubernetes)
    theirs = empty / "assets" / "kube-apiserver"
    theirs.parent.mkdir()
    theirs.write_text("")
    theirs.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(theirs.parent))
    assert programs.locate("kube-apiserver") == theirs
    manager = programs.locate("kube-controller-manager")
    assert manager == programs.kubernetes_folder() / "kube-controller-manager"


def test_an_api_server_of_another_version_on_the_path_is_not_taken(empty: Path) -> None:
    other = empty / "bin" / "kube-apiserver"
    other.write_text("")
    other.chmod(0o755)
    assert programs.locate("kube-apiserver") is None
