"""A checkout as values: its modules with their syntax trees, who imports whom, and the text of every file.

The tests that look at the repository itself, `test_tidy.py` and `test_docs.py`, read it through here. Nothing is
imported or executed; a `Tree` can be grown from any folder, so that those tests can be tested too.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".json",
    ".html",
    ".css",
    ".sh",
    ".svg",
    ".tpl",
}


def is_ours(name: str) -> bool:
    return name.split(".")[0] == "canary"


def part_of(name: str) -> str:
    """The second word of a dotted name: `core` for canary.core.machine, empty for canary itself."""
    return name.partition(".")[2].partition(".")[0]


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file: its dotted name, where it is, its text and its tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def part(self) -> str:
        return part_of(self.name)

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}"

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


class Tree:
    """A checkout: the modules of the product and the text of every file in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.product = self._modules(root / "canary")
        self.tests = self._modules(root / "tests")
        self.names = {module.name for module in self.product}

    def _modules(self, folder: Path) -> list[Module]:
        found = []
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Module(name, path, text, ast.parse(text, str(path))))
        return found

    def imports(self, module: Module) -> Iterator[tuple[ast.stmt, str]]:
        """Every import of `module`, at any depth, as the dotted name of the module that it needs."""
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = "." * node.level + (node.module or "")
                for alias in node.names:
                    member = f"{source}.{alias.name}"
                    yield node, member if member in self.names else source

    def requirement_files(self) -> list[Path]:
        return [self.root / "requirements" / f"{name}.txt" for name in ("run", "test", "dev")]

    @cached_property
    def texts(self) -> dict[Path, str]:
        """Every text file of the repository but the tidy test, which has to name what it forbids."""
        loose = ["Makefile", ".ci/run", *(p.name for p in self.root.iterdir() if p.is_file())]
        folders = [self.root / name for name in ("canary", "tests", "docs", "deploy", "charts")]
        paths = [self.root / name for name in loose] + [p for folder in folders for p in folder.rglob("*")]
        texts = (p for p in paths if p.is_file() and (p.suffix in TEXT_SUFFIXES or p.name in loose))
        return {p: p.read_text(encoding="utf-8") for p in texts if p.name not in {".git", "test_tidy.py"}}
