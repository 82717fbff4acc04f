"""What reaches the user: data on stdout, talk on stderr, colour only on a terminal, and no character that can do harm.

Verbs hand over lines and objects; this module alone prints. Every line passes `plain_line`, whatever it is made of.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from canary.core.telling.explain import Line, Tone
from canary.core.telling.text import Surface, escaped
from canary.core.telling.wording import is_hostile, table
from canary.errors import RefusedError

MAX_LINE = 4096
_COLOURS = {Tone.SAFE: "32", Tone.CARE: "33", Tone.DANGER: "31;1"}
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where output goes, and how it may look."""

    out: TextIO
    err: TextIO
    colour: bool = False
    ascii: bool = False

    @classmethod
    def of_process(cls, ascii_only: bool) -> "Terminal":
        """Return the process's own streams; `NO_COLOR`, `TERM=dumb` and pipes get no colour."""
        env = os.environ
        colour = sys.stdout.isatty() and not env.get("NO_COLOR") and env.get("TERM", "dumb") != "dumb"
        encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
        return cls(sys.stdout, sys.stderr, colour, ascii_only or not encoding.startswith("utf"))

    @property
    def live(self) -> bool:
        """Tell whether a screen can be drawn over and over."""
        return self.out.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def lines(self, lines: Iterable[Line | str]) -> None:
        for line in lines:
            print(self.styled(line), file=self.out)
        self.out.flush()

    def styled(self, line: Line | str) -> str:
        line = Line(line) if isinstance(line, str) else line
        text = self._plain_line(line.text)
        colour = _COLOURS.get(line.tone) if self.colour else None
        return f"\x1b[{colour}m{text}{_RESET}" if colour else text

    def note(self, text: str) -> None:
        """Say something that is not data."""
        print(self._plain_line(text), file=self.err, flush=True)

    def ask(self, question: str) -> bool:
        """Ask the person; anything but yes is no. Raise RefusedError where nobody can be asked."""
        if not sys.stdin.isatty():
            raise RefusedError(
                "nobody can be asked here: add --yes to go ahead, or --dry-run to see the effect"
            )
        print(self._plain_line(f"{question} [y/N] "), end="", file=self.err, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def show(
        self, form: str, document: Mapping[str, Any], lines: Iterable[Line | str], name: str = ""
    ) -> None:
        """Print an answer in the form that was asked for: a document, the name of an object, else lines for people."""
        match form:
            case "json":
                self.json(document)
            case "yaml":
                self.yaml(document)
            case "name":
                self.lines([name] if name else [])
            case _:
                self.lines(lines)

    def json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object; everything outside ASCII is escaped, so nothing in it can steer a terminal."""
        print(json.dumps(value, indent=2, ensure_ascii=True), file=self.out, flush=True)

    def yaml(self, value: Mapping[str, Any]) -> None:
        import yaml

        print(
            yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=False),
            end="",
            file=self.out,
            flush=True,
        )

    def _plain_line(self, text: str) -> str:
        shown = "".join(" " if is_hostile(character) else character for character in text[:MAX_LINE])
        return shown.encode("ascii", "replace").decode() if self.ascii else shown


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table; whatever Markdown would act on is escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(escaped(cell, Surface.MARKDOWN) for cell in row) + " |" for row in rows]


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return table([header, *rows])
