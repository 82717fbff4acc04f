"""The house style, checked on the syntax tree: layers, purity, sizes, prose, and what the repository never says.

Each rule is a generator that takes a `Tree` and yields findings; its docstring says what to do about one. `RULES` below
gives it the name that a failing test shows. The second half plants one violation for each rule, because a rule that
cannot fail is worth nothing.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import ROOT, Module, Tree, is_ours, part_of

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 40, 5
MAX_TEST_FILE_LINES = 600  # tables of cases are long
PROSE_LINES = range(2, 11)
PACKAGE_PROSE_LINES = range(2, 31)
AIM_PRODUCT_LINES, MAX_PRODUCT_LINES = 9_000, 42_802

CONTRACT = {"errors", "api", "core"}
ADAPTERS = {"kube", "metrics", "traffic", "guard", "audit", "alerts", "report"}
BELOW_THE_SHELL = CONTRACT | ADAPTERS | {"clock", "settings"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "clock": {"errors"},
    "settings": CONTRACT | {"clock"},
    "api": {"errors"},
    "core": {"errors", "api"},
    **{adapter: CONTRACT | {"clock"} for adapter in ADAPTERS},
    "operator": BELOW_THE_SHELL,
    "sentinel": BELOW_THE_SHELL,
    "lab": BELOW_THE_SHELL | {"operator", "sentinel"},
    "cli": BELOW_THE_SHELL | {"operator", "sentinel", "lab"},
}
KUBE_FOR_ADAPTERS = {"canary.kube.client", "canary.kube.resources"}
ADAPTERS_WITH_KUBE = {"traffic", "guard", "audit"}

# fmt: off
PURE_LIBRARY = {
    "abc", "base64", "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "difflib",
    "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "html", "ipaddress", "itertools", "json",
    "keyword", "math", "operator", "re", "statistics", "string", "struct", "textwrap", "types", "typing",
    "unicodedata",
}
# fmt: on
PURE_OUTSIDERS = {"api": {"pydantic", "pydantic_core", "canary"}, "core": {"canary"}}
CLOCK_READINGS = {"now", "utcnow", "today"}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "__import__"}
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "manager", "misc"}
THE_ONE_NET = "canary.operator.controller"
# The product does without these: they are there for people who write a router, a source or a sink of their own.
PUBLISHED = re.compile(r"canary\.lab\.contracts\.\w+")

DISTRIBUTION = {
    "yaml": "pyyaml",
    "pydantic_core": "pydantic",
    "prometheus_api_client": "prometheus-api-client",
}

NOT_THE_PRODUCT = re.compile(
    r"(?<![\w.~])/work/|/opt/wheels|/tmp/(brief|task)|\bclaude\b|anthropic|chatgpt|\bsub-?agents?\b|\bissues? 3\b"
    r"|(?<!/)\b(architecture|detection|experience|governance|testbed|features|traffic|kubernetes)\.md\b"
    r"|files\.pythonhosted\.org|pypi\.org/simple|registry\.npmjs|proxy\.golang",
    re.IGNORECASE,
)
AGENTS_BY_NAME = (
    "canary/core/rules/signatures.py"  # the table by which their work is recognised has to name them
)
ADDRESS = re.compile(r"://|--(extra-)?index-url|--find-links|--trusted-host|^-[if] | @ ", re.MULTILINE)
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


# --- layers and purity --------------------------------------------------------------------------------------


def imports_go_up(tree: Tree) -> Iterator[str]:
    """Move the code to the layer that may know it, or hand the value in from the layer above (MAY_IMPORT)."""
    for module in tree.product:
        allowed = MAY_IMPORT.get(module.part, set()) | {module.part, ""}
        for node, target in tree.imports(module):
            if module.part in ADAPTERS_WITH_KUBE and target in KUBE_FOR_ADAPTERS:
                continue
            if target.startswith(".") or (is_ours(target) and part_of(target) not in allowed):
                yield f"{module.at(node)} imports {target}"


def unknown_parts(tree: Tree) -> Iterator[str]:
    """A new package needs a place in the table of layers: add it to MAY_IMPORT, and to docs/design.md."""
    yield from (m.name for m in tree.product if m.part and m.part not in MAY_IMPORT)


def import_cycles(tree: Tree) -> Iterator[str]:
    """Two modules that need each other are one module, or lack a third that both may know."""
    needs = {m.name: {t for _, t in tree.imports(m) if t in tree.names and t != m.name} for m in tree.product}
    while free := {name for name, targets in needs.items() if not targets & needs.keys()}:
        needs = {name: targets for name, targets in needs.items() if name not in free}
    for name, targets in sorted(needs.items()):
        yield f"{name} and {', '.join(sorted(targets & needs.keys()))} need each other, perhaps through a third"


def impure_judgement(tree: Tree) -> Iterator[str]:
    """The judgement reads no clock, file, socket or chance: take the value as a parameter instead."""
    for module in (m for m in tree.product if m.part in PURE_OUTSIDERS):
        for node, target in tree.imports(module):
            if target.split(".")[0] not in PURE_LIBRARY | PURE_OUTSIDERS[module.part]:
                yield f"{module.at(node)} imports {target}"
        for call in (n for n in ast.walk(module.tree) if isinstance(n, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in CLOCK_READINGS:
                yield f"{module.at(call)} reads a clock with .{call.func.attr}()"
            if isinstance(call.func, ast.Name) and call.func.id in IMPURE_BUILTINS:
                yield f"{module.at(call)} calls {call.func.id}()"


# --- sizes, prose, nets -------------------------------------------------------------------------------------


def long_files(tree: Tree) -> Iterator[str]:
    """Split the file where its subject changes."""
    for module in tree.product + tree.tests:
        limit = MAX_TEST_FILE_LINES if module.name.startswith("tests.") else MAX_FILE_LINES
        if (lines := module.text.count("\n")) > limit:
            yield f"{module.name} has {lines} lines, more than {limit}"


def long_functions(tree: Tree) -> Iterator[str]:
    """Name a part of the function and take it out."""
    for module in tree.product:
        for function in module.functions():
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{module.at(function)} {function.name} has {lines} lines, more than {MAX_FUNCTION_LINES}"


def many_parameters(tree: Tree) -> Iterator[str]:
    """Parameters that travel together are a value without a name: give it one, frozen."""
    for module in tree.product:
        for function in module.functions():
            given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            count = len(given) - (bool(given) and given[0].arg in {"self", "cls"})
            if count > MAX_PARAMETERS:
                yield f"{module.at(function)} {function.name} takes {count}, more than {MAX_PARAMETERS}"


def missing_prose(tree: Tree) -> Iterator[str]:
    """Open the module with 2-10 lines of prose: what enters, what leaves, who calls. Indented drawings are free."""
    for module in tree.product:
        lines = [
            s for s in (ast.get_docstring(module.tree) or "").splitlines() if s and not s.startswith(" ")
        ]
        asked = PACKAGE_PROSE_LINES if module.name == "canary" else PROSE_LINES
        if len(lines) not in asked:
            yield f"{module.name} opens with {len(lines)} lines of prose"
    yield from (f"{m.name} has no docstring" for m in tree.tests if not ast.get_docstring(m.tree))


def wide_nets(tree: Tree) -> Iterator[str]:
    """Catch the error that you can answer, or raise again. The one wide net of the product is around a look."""
    for module in tree.product:
        wide = [h for h in ast.walk(module.tree) if isinstance(h, ast.ExceptHandler) and _is_wide(h)]
        allowed = 1 if module.name == THE_ONE_NET else 0
        yield from (f"{module.at(handler)} catches everything" for handler in wide[allowed:])


def _is_wide(handler: ast.ExceptHandler) -> bool:
    caught = [handler.type] if handler.type else []
    names = {n.id for c in caught for n in ast.walk(c) if isinstance(n, ast.Name)}
    raises_again = isinstance(last := handler.body[-1], ast.Raise) and last.exc is None
    return not raises_again and (not caught or bool(names & {"Exception", "BaseException"}))


def stray_prints(tree: Tree) -> Iterator[str]:
    """stdout belongs to the command line: return the text, or log it."""
    for module in (m for m in tree.product if m.part != "cli"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield module.at(node)


def vague_names(tree: Tree) -> Iterator[str]:
    """A thing lives with its noun: name the module after what it holds."""
    yield from (m.name for m in tree.product + tree.tests if set(m.name.split(".")) & VAGUE_NAMES)


# --- nothing unused, nothing foreign ------------------------------------------------------------------------


def unused_modules(tree: Tree) -> Iterator[str]:
    """Nothing leads there from an entry point, the Makefile, or a table of import strings: remove it."""
    scripts = tomllib.loads((tree.root / "pyproject.toml").read_text())["project"]["scripts"].values()
    commands = re.findall(r"canary(?:\.\w+)+", (tree.root / "Makefile").read_text())
    modules, reached = {m.name: m for m in tree.product}, set[str]()
    waiting = (
        [script.split(":")[0] for script in scripts] + commands + list(filter(PUBLISHED.fullmatch, modules))
    )
    while waiting:
        name = waiting.pop()
        if name in modules and name not in reached:
            reached.add(name)
            waiting += [name.rpartition(".")[0], *(t for _, t in tree.imports(modules[name]))]
            waiting += _named_in_strings(modules[name])
    yield from sorted(modules.keys() - reached)


def _named_in_strings(module: Module) -> Iterator[str]:
    """Modules that strings may name: "canary.x.y:z", or a bare "y" where a string f"canary.x.{...}" is built."""
    texts = {
        n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    prefixes = {text for text in texts if re.fullmatch(r"canary(\.\w+)*\.", text)}
    yield from (text.split(":")[0] for text in texts if text.startswith("canary."))
    yield from (prefix + text for prefix in prefixes for text in texts if text.isidentifier())


def foreign_words(tree: Tree) -> Iterator[str]:
    """The repository speaks of the product alone: say the fact, not where or by whom it was worked out."""
    texts = {path: text for path, text in tree.texts.items() if path != tree.root / AGENTS_BY_NAME}
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), start=1):
            if found := NOT_THE_PRODUCT.search(line):
                yield f"{path.relative_to(tree.root)}:{number} says {found.group()!r}"


def undeclared_libraries(tree: Tree) -> Iterator[str]:
    """Declare what is imported, and only that, in pyproject.toml, with a row in docs/dependencies.md."""
    project = tomllib.loads((tree.root / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in project.get("dependencies", [])}
    imported = {target.split(".")[0] for m in tree.product for _, target in tree.imports(m)} - {"canary", ""}
    used = {DISTRIBUTION.get(name, name) for name in imported - sys.stdlib_module_names}
    yield from (f"{name} is imported, not declared" for name in sorted(used - declared))
    yield from (f"{name} is declared, not imported" for name in sorted(declared - used))
    explained = (tree.root / "docs/dependencies.md").read_text().lower() if declared else ""
    yield from (f"{name} is not explained" for name in sorted(declared) if f"`{name}`" not in explained)


def addresses_in_requirements(tree: Tree) -> Iterator[str]:
    """Where packages come from is the user's configuration: run `make lock`, which writes no address."""
    for path in tree.requirement_files():
        yield from (f"{path.name}: {found.group()!r}" for found in ADDRESS.finditer(path.read_text()))


def loose_requirements(tree: Tree) -> Iterator[str]:
    """Run `make lock`: every line is name==version with its hashes, and the three files agree."""
    smaller: dict[str, str] = {}
    for path in tree.requirement_files():
        text = path.read_text()
        pins = {name: version for name, version, _ in PIN.findall(text)}
        loose = [
            line for line in PIN.sub("", text).splitlines() if line and not line.lstrip().startswith("#")
        ]
        yield from (f"{path.name}: {line!r} is not pinned by a hash" for line in loose)
        yield from (f"{path.name}: {n} is not {v}" for n, v in smaller.items() if pins.get(n) != v)
        smaller = pins


RULES: dict[str, Callable[[Tree], Iterator[str]]] = {
    "imports go downwards only": imports_go_up,
    "every package has its layer": unknown_parts,
    "no modules import each other": import_cycles,
    "the judgement is pure": impure_judgement,
    "no file is long": long_files,
    "no function is long": long_functions,
    "no function takes many parameters": many_parameters,
    "every module opens with prose": missing_prose,
    "errors are caught by name": wide_nets,
    "only the command line prints": stray_prints,
    "no module has a vague name": vague_names,
    "every module is used": unused_modules,
    "the repository speaks of the product": foreign_words,
    "every library is declared and explained": undeclared_libraries,
    "requirements name no address": addresses_in_requirements,
    "requirements are pinned by hash": loose_requirements,
}


@pytest.fixture(scope="module")
def checkout() -> Tree:
    return Tree(ROOT)


@pytest.mark.parametrize("name", RULES)
def test_house_rule(name: str, checkout: Tree) -> None:
    findings = list(RULES[name](checkout))
    assert not findings, f"{name}. {RULES[name].__doc__}\n  " + "\n  ".join(findings)


def test_the_product_stays_small(checkout: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    lines = sum(module.text.count("\n") for module in checkout.product)
    with capsys.disabled():
        print(
            f"\ncanary/ has {lines:,} lines; the aim is {AIM_PRODUCT_LINES:,}, the end {MAX_PRODUCT_LINES:,}"
        )
    assert lines <= MAX_PRODUCT_LINES


# --- each rule catches what it is for -----------------------------------------------------------------------

PROSE = '"""What enters.\n\nWhat leaves.\n"""\n'
TIDY = {
    "pyproject.toml": '[project.scripts]\ncanary = "canary.cli.main:main"\n',
    "Makefile": "test:\n\tpython -m pytest\n",
    "canary/__init__.py": PROSE,
    "canary/errors.py": PROSE + "try: ...\nexcept BaseException:\n    raise\n",
    "canary/core/__init__.py": PROSE,
    "canary/core/machine.py": PROSE + "from datetime import datetime\nfrom canary import errors\n",
    "canary/cli/__init__.py": PROSE,
    "canary/cli/main.py": PROSE
    + 'from canary.core import machine\nAT = ["canary.operator.controller:run", "listing"]\nprint(f"canary.cli.{1}")\n',
    "canary/cli/listing.py": PROSE,
    "canary/operator/__init__.py": PROSE,
    "canary/operator/controller.py": PROSE + "try:\n    pass\nexcept Exception:\n    pass\n",
    **{
        f"requirements/{name}.txt": f"a==1 \\\n    --hash=sha256:{'0' * 64}\n"
        for name in ("run", "test", "dev")
    },
}
MACHINE, NET = TIDY["canary/core/machine.py"], TIDY["canary/operator/controller.py"]
PLANTED: list[tuple[str, str, str]] = [
    (
        "imports go downwards only",
        "canary/core/machine.py",
        MACHINE + "def f():\n    from canary.operator import controller\n",
    ),
    ("imports go downwards only", "canary/core/machine.py", MACHINE + "from . import errors\n"),
    ("imports go downwards only", "canary/metrics/scrape.py", PROSE + "import canary.kube.client\n"),
    ("every package has its layer", "canary/extras/__init__.py", PROSE),
    ("no modules import each other", "canary/errors.py", PROSE + "import canary.core.machine\n"),
    ("the judgement is pure", "canary/core/machine.py", MACHINE + "import logging\n"),
    ("the judgement is pure", "canary/core/machine.py", MACHINE + "NOW = datetime.now()\n"),
    ("the judgement is pure", "canary/core/machine.py", MACHINE + "open('x')\n"),
    ("no file is long", "canary/errors.py", PROSE + "\n" * 400),
    ("no function is long", "canary/errors.py", PROSE + "def f():\n" + "    pass\n" * 40),
    ("no function takes many parameters", "canary/errors.py", PROSE + "def f(a, b, c, d, e, *, f): ...\n"),
    ("every module opens with prose", "canary/errors.py", '"""Errors."""\n'),
    ("every module opens with prose", "tests/test_errors.py", "import os\n"),
    ("errors are caught by name", "canary/errors.py", PROSE + "try:\n    raise\nexcept:\n    pass\n"),
    ("errors are caught by name", "canary/errors.py", PROSE + "try: ...\nexcept (OSError, Exception): ...\n"),
    ("errors are caught by name", "canary/operator/controller.py", NET + NET.removeprefix(PROSE)),
    ("only the command line prints", "canary/errors.py", PROSE + "print('hello')\n"),
    ("no module has a vague name", "canary/core/utils.py", PROSE),
    ("every module is used", "canary/core/forgotten.py", PROSE),
    ("the repository speaks of the product", "docs/design.md", "See detection.md for the formula.\n"),
    ("the repository speaks of the product", "canary/errors.py", PROSE + "# found in /work/main\n"),
    ("every library is declared and explained", "canary/errors.py", PROSE + "import numpy\n"),
    ("requirements name no address", "requirements/run.txt", "--index-url https://example.com\n"),
    ("requirements are pinned by hash", "requirements/test.txt", "a==1\n"),
    ("requirements are pinned by hash", "requirements/dev.txt", f"a==2 \\\n    --hash=sha256:{'0' * 64}\n"),
]


def grow(root: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return Tree(root)


def test_a_tidy_tree_has_no_findings(tmp_path: Path) -> None:
    tree = grow(tmp_path, TIDY)
    assert not [finding for rule in RULES.values() for finding in rule(tree)]


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED)
def test_a_planted_violation_is_found(rule: str, path: str, text: str, tmp_path: Path) -> None:
    assert list(RULES[rule](grow(tmp_path, TIDY | {path: text})))


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _ in PLANTED} == RULES.keys()
