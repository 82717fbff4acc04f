"""README and docs/ do what they say: every command is run, every manifest is read, every link leads somewhere.

A fence names its language, and the language says how it is proved. `console`: lines after "$ " run in bash, one
process a page, in a folder of the page's own; the lines below are what they print, with "..." for anything. `sh`:
commands alone. `python`: a program. `yaml` and `json`: parsed, our kinds against their models, and with a first line
"# file: NAME" laid into the page's folder for the commands to use. `text` and `mermaid` are for reading. A page with
the comment "needs: ..." has that one of `stopped_clusters.py`, by way of KUBECONFIG.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from checkout import ROOT
from conftest import require_helm, require_program
from stopped_clusters import stopped_cluster

from canary.api.read import problems
from canary.api.reasons import API_VERSION

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN, READ = {"console", "sh", "python"}, {"yaml", "json", "text", "mermaid"}
RUN_BY_CI = (
    "make demo",
    "make test",
    "make lint",
)  # too long for here: .ci/run runs them, which a test checks
PROGRAMS = ("kubectl", "git", "ssh-keygen", "openssl")  # that a page may call, besides canary
PAGE_SECONDS = 60
PLAIN_TERMINAL = {"NO_COLOR": "1", "COLUMNS": "80", "LANG": "C.UTF-8"}
NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.MULTILINE)

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.*?)\s*$", re.MULTILINE)
FILE_LINE = re.compile(r"# file: (\S+)\n")
MARK = "\x1e"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str

    def commands(self) -> Iterator[tuple[str, str]]:
        """Split into (command, what it prints); a command goes on over lines that end with a backslash."""
        if self.language == "python":
            yield f"{sys.executable} - <<'END_OF_PROGRAM'\n{self.text}END_OF_PROGRAM", ""
        elif self.language == "sh":
            yield from ((line, "") for line in re.split(r"(?<!\\)\n", self.text) if line.strip())
        elif self.language == "console":
            for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
                command, printed = re.fullmatch(r"((?:.*\\\n)*.*)\n?((?:.*\n?)*)", part).groups()  # pyright: ignore
                yield command, printed


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def runs_elsewhere(command: str) -> bool:
    return any(re.fullmatch(known + r"(?: ARGS=\"[^\"]*\")?(?: +#.*)?", command) for known in RUN_BY_CI)


def commands_of(page: Path) -> list[tuple[str, str]]:
    found = [pair for block in blocks(page) for pair in block.commands()]
    return [(command, printed) for command, printed in found if not runs_elsewhere(command)]


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def matches(said: str, printed: str) -> bool:
    """Tell whether the output is what the page shows; "..." stands for anything, spaces at the ends do not count."""
    lines = [line.rstrip() for line in said.strip("\n").splitlines()]
    pattern = "\n".join(".*?".join(re.escape(part) for part in line.split("...")) for line in lines)
    clean = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, clean, re.DOTALL) is not None


def run_page(commands: list[tuple[str, str]], folder: Path) -> list[tuple[int, str]]:
    """Run the commands in one bash and return (exit code, output) of each; the folder is their home."""
    script = "".join(
        f"{{ {command}\n}} 2>&1 </dev/null\nprintf '{MARK}%d{MARK}' $?\n" for command, _ in commands
    )
    tools = [ROOT / ".venv/bin", Path(sys.executable).parent]
    if any("helm " in command for command, _ in commands):
        tools.append(Path(require_helm()).parent)
    path = ":".join([*map(str, tools), os.environ["PATH"]])
    environment = {
        "PATH": path,
        "HOME": str(folder),
        "KUBECONFIG": str(folder / "kubeconfig"),
        "CHECKOUT": str(ROOT),
        **PLAIN_TERMINAL,
    }
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PAGE_SECONDS,
    )
    parts = done.stdout.split(MARK)
    return [(int(code), output) for output, code in zip(parts[::2], parts[1::2], strict=False)]


def lay_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if name := FILE_LINE.match(block.text):
            (folder / name[1]).write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("page", [p for p in PAGES if commands_of(p)], ids=shown)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    commands = commands_of(page)
    for program in PROGRAMS:
        if any(f"{program} " in command for command, _ in commands):
            require_program(program)
    lay_files(page, tmp_path)
    needed = NEEDS.search(page.read_text(encoding="utf-8"))
    with stopped_cluster(needed[1], tmp_path) if needed else nullcontext():
        results = run_page(commands, tmp_path)
    assert len(results) == len(commands)
    for (command, said), (code, printed) in zip(commands, results, strict=True):
        assert code == 0, f"{shown(page)}: `{command}` ends with {code}:\n{printed}"
        assert not said.strip() or matches(said, printed), (
            f"{shown(page)}: `{command}` prints\n{printed}\nnot\n{said}"
        )


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_the_manifests_of_a_page_are_accepted(page: Path) -> None:
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            for document in yaml.safe_load_all(block.text):
                if isinstance(document, dict) and document.get("apiVersion") == API_VERSION:
                    assert not problems(document), shown(page)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_block_of_a_page_says_what_it_is(page: Path) -> None:
    assert page.read_text(encoding="utf-8").count("\n```") % 2 == 0, f"{shown(page)}: a fence is left open"
    unknown = [block for block in blocks(page) if block.language not in RUN | READ]
    assert not unknown, f"{shown(page)}: name one of {sorted(RUN | READ)} after the fence"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = [
        first or second for first, second in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    ]
    for target in (t for t in targets if not re.match(r"[a-z]+:", t)):
        name, _, anchor = target.partition("#")
        leads_to = (page.parent / name).resolve() if name else page
        assert leads_to.exists(), f"{shown(page)}: {target} is not there"
        assert leads_to.is_relative_to(ROOT), f"{shown(page)}: {target} is outside of the repository"
        assert not anchor or anchor in anchors(leads_to), f"{shown(page)}: {target} has no such heading"


def anchors(page: Path) -> set[str]:
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_what_is_run_elsewhere_is_run_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    steps = [line.partition("||")[0].strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    for command in RUN_BY_CI:
        assert command.removeprefix("make ") in targets
        assert any(runs_elsewhere(step) and step.startswith(command) for step in steps), (
            f".ci/run: no {command}"
        )


def test_the_readme_shows_the_point_on_its_first_screen() -> None:
    screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24]
    assert {"make demo", "make test"} <= {word for line in screen for word in re.findall(r"make \w+", line)}


def test_the_glossary_has_each_word_once_and_in_order() -> None:
    rows = re.findall(
        r"^\| ([^|]+?) \|", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows[1:] == sorted(set(rows[1:]))


def test_the_design_names_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "canary").glob("*/*.py") if path.name != "__init__.py"}
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    assert not {name for name in packages if f"`canary/{name}" not in text}


def test_a_page_that_lies_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ echo a \\\n  b\na b\n$ printf 'x\\n1 s\\n'\nx\n... s\n$ echo c\nd\n```\n```sh\nfalse\n```\n"
    )
    commands = commands_of(page)
    results = run_page(commands, tmp_path)
    assert [code for code, _ in results] == [0, 0, 0, 1]
    told = [matches(said, printed) for (_, said), (_, printed) in zip(commands, results, strict=True)]
    assert told[:3] == [True, True, False]
