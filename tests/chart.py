"""The chart as the real helm renders it, and what of it is kept rendered: `make docs` writes it, a test compares.

`python tests/chart.py` writes the chart's CRDs from the code and, where helm is, deploy/ from the chart. All of it is a
pure function of the checkout.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent / "cluster"))

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
    """Return the chart as rendered; the flags of helm are the values."""
    place = ("--namespace", namespace, "--kube-version", KUBERNETES)
    return helm("template", "canary", str(CHART), *place, *words)


def rendered(*words: str, namespace: str = NAMESPACE) -> list[Json]:
    """Return the objects that the chart makes of these values."""
    found = yaml.load_all(template(*words, namespace=namespace), Loader=yaml.CSafeLoader)
    return [each for each in found if each]


def presets() -> dict[str, Sequence[str]]:
    """Return the words for helm of every preset; "default" has none."""
    found = sorted(CHART.glob("values-*.yaml"))
    return {"default": (), **{path.stem.removeprefix("values-"): ("-f", str(path)) for path in found}}


def generated() -> dict[Path, str]:
    """Return the files of the chart that the code says: one for each CRD."""
    texts = [text for text in _printed("crd").split("---\n") if text.strip()]
    named = {yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["names"]["plural"]: text for text in texts}
    return {CHART / "files" / "crds" / f"{name}.yaml": text for name, text in named.items()}


def _printed(*words: str) -> str:
    command = [sys.executable, "-m", "canary.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def manifests() -> dict[Path, str]:
    """Return what deploy/ holds of the chart."""
    return {DEPLOY / "canary.yaml": HEAD + template("--set", "crds.install=false")}


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
