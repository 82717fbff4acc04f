"""The recipe of the image, which needs a builder: what it takes along is there; what it leaves out is not missed."""

import fnmatch
import re
import subprocess
import sys
import tomllib

import chart
import yaml
from checkout import ROOT

RECIPE = (chart.DEPLOY / "Dockerfile").read_text(encoding="utf-8")
LEFT_OUT = ("kubernetes.aio", "setuptools", "pip", "pkg_resources")
START = f"""
import sys
sys.modules.update(dict.fromkeys({LEFT_OUT!r}))  # to import one of them fails now
import canary.cli.main, canary.operator.run, canary.sentinel, canary.kube.http_transport
from canary.metrics import prometheus, prometheus_history
from canary.audit import store
"""


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    ignored = (chart.DEPLOY / "Dockerfile.dockerignore").read_text().split()
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        path
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", RECIPE, re.MULTILINE)
        for path in line.split()
    }
    assert copied == let_through
    assert all((ROOT / path).exists() for path in copied)


def test_the_programs_need_nothing_that_the_image_leaves_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_what_is_left_out_was_there() -> None:
    assert "rm -r kubernetes/aio" in RECIPE
    done = subprocess.run([sys.executable, "-c", "import kubernetes.aio"], capture_output=True, check=False)
    assert done.returncode == 0, "drop the line from the recipe"


def test_the_image_runs_as_the_user_that_the_chart_asks_for() -> None:
    names = (chart.CHART / "templates" / "_names.tpl").read_text(encoding="utf-8")
    (user,) = re.findall(r"runAsUser: (\d+)", names)
    assert f"\nUSER {user}:{user}\n" in RECIPE


def test_the_commands_of_the_chart_are_installed_with_the_package() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    deployments = yaml.load_all((chart.DEPLOY / "canary.yaml").read_text(), Loader=yaml.CSafeLoader)
    commands = {
        container["command"][0]
        for each in deployments
        if each and each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    assert commands == {"canary", "canary-sentinel"} <= scripts.keys()


def test_no_file_of_the_checkout_but_the_products_is_taken_along() -> None:
    ignored = (chart.DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert not [
        line for line in ignored if fnmatch.fnmatch("tests", line.removeprefix("!")) and line.startswith("!")
    ]
