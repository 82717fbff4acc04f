"""The chart as the real helm renders it, and what of it is kept rendered: `make docs` writes it, a test compares.

`python tests/chart.py` writes the chart's CRDs and guard from the code and, where helm is, deploy/ from the chart. It
is all a pure function of the checkout.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from canary.guard.policies import guard, version_of
from canary.guard.policy import Settings

sys.path.insert(0, str(Path(__file__).resolve().parent / "cluster"))  # where the programs are found

from programs import MissingPrograms, locate

ROOT = Path(__file__).resolve().parents[1]
CHART, DEPLOY = ROOT / "charts" / "canary-controller", ROOT / "deploy"
NAMESPACE, KUBERNETES = "canary-system", "1.36"
HOW = "`python tests/cluster/programs.py helm` builds it (Go 1.26, about two minutes once), or install helm 3"
HEAD = "# Rendered from charts/canary-controller by `make docs`; change it there.\n"
Json = dict[str, Any]


def helm(*words: str) -> str:
    """Run helm; return what it prints. Raise MissingPrograms where there is none, ValueError where it refuses."""
    program = locate("helm")
    if program is None:
        raise MissingPrograms(f"helm is not here: {HOW}")
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def template(*words: str, namespace: str = NAMESPACE) -> str:
    """Return the chart as rendered; the flags of helm are the values, and the last of two equal ones holds."""
    place = ("--namespace", namespace, "--kube-version", KUBERNETES)
    return helm("template", "canary", str(CHART), *place, *words)


def rendered(*words: str, namespace: str = NAMESPACE) -> list[Json]:
    """Return the objects that the chart makes of these values."""
    found = yaml.load_all(template(*words, namespace=namespace), Loader=yaml.CSafeLoader)
    return [each for each in found if each]


def only(objects: list[Json], kind: str, name: str = "") -> Json:
    """Return the one object of a kind, or of this name; it is an error where there are several or none."""
    found = [
        each
        for each in objects
        if each["kind"] == kind and each["metadata"]["name"] == (name or each["metadata"]["name"])
    ]
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    return found[0]


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [each for each in objects if each["kind"] == kind]


def container(objects: list[Json], name: str) -> Json:
    (found,) = only(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return found


def presets() -> dict[str, Sequence[str]]:
    """Return the words for helm of every preset; "default" has none."""
    found = sorted(CHART.glob("values-*.yaml"))
    return {"default": (), **{path.stem.removeprefix("values-"): ("-f", str(path)) for path in found}}


def generated() -> dict[Path, str]:
    """Return the files of the chart that the code says: one for each CRD, and the guard before and after its 1.36."""
    texts = [text for text in _printed("crd").split("---\n") if text.strip()]
    named = {yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["names"]["plural"]: text for text in texts}
    rules, all_of_it = _guard("1.30"), _guard("1.36")
    mutations = [each for each in all_of_it if each not in rules]
    assert [each for each in all_of_it if each in rules] == rules
    folder = CHART / "files"
    return {
        **{folder / "crds" / f"{name}.yaml": text for name, text in named.items()},
        folder / "guard" / "rules.json": json.dumps(rules, indent=1) + "\n",
        folder / "guard" / "mutations.json": json.dumps(mutations, indent=1) + "\n",
    }


def _guard(kubernetes: str) -> list[Json]:
    """Return the guard with the chart's words in the place of names."""
    whom = Settings("RELEASE-NAMESPACE", ("PLATFORM-GROUPS",), ("GITOPS-ACCOUNTS",))
    return guard(whom, version_of(kubernetes))


def _printed(*words: str) -> str:
    command = [sys.executable, "-m", "canary.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def manifests() -> dict[Path, str]:
    """Return what deploy/ holds of the chart; what Kubernetes knows from 1.36 on stands apart."""
    texts = (
        template("--set", "crds.install=false,uninstall.detach=false").removeprefix("---\n").split("\n---\n")
    )
    newer = [text for text in texts if "\nkind: MutatingAdmission" in text]
    rest = [text for text in texts if text not in newer]
    return {
        DEPLOY / "canary.yaml": HEAD + "\n---\n".join(rest),
        DEPLOY / "guard-1.36.yaml": HEAD + "\n---\n".join(newer),
    }


def write(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(generated())
    try:
        write(manifests())
    except MissingPrograms as missing:
        sys.exit(f"deploy/ is not written anew: {missing}")
