"""Other people's words on each surface: plans, commit subjects and names are shown, and never act.

`wording.plain` takes away what no surface may carry: control, direction and separator characters, and length. What is
left still means something to some reader: `escaped` makes it inert for one of them. Nothing here ever loses a word
silently: a cut ends with `~`. Called wherever text leaves canary for a place that reads markup.
"""

import html
import json
import re
from enum import StrEnum

from canary.core.telling.wording import MAX_PLAIN, plain

MAX_BLOCK = 4096
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-!|~&@:=])")
_MENTION = re.compile(r"@(?=\w)")
_FORMULA = ("=", "+", "-", "@", "\t")


class Surface(StrEnum):
    """Who reads the text."""

    TERMINAL = "terminal"
    LOG = "log"  # one JSON string
    HTML = "html"
    XML = "xml"  # JUnit, SVG
    MARKDOWN = "markdown"
    SLACK = "slack"
    CSV = "csv"


def escaped(text: object, surface: Surface, longest: int = MAX_PLAIN) -> str:
    """Return one line of `text` that is inert on `surface`. The cap counts what is shown, not the escapes."""
    line = plain(text, longest)
    match surface:
        case Surface.TERMINAL:
            return line
        case Surface.LOG:
            return json.dumps(line)
        case Surface.HTML | Surface.XML:
            return html.escape(line, quote=True)
        case Surface.MARKDOWN:
            return _MARKDOWN.sub(lambda found: f"&#{ord(found[1])};", line)
        case Surface.SLACK:
            return _MENTION.sub("@ ", html.escape(line, quote=False)).replace("`", "'")
        case Surface.CSV:
            quoted = line.replace('"', '""')
            return f'"\'{quoted}"' if line.startswith(_FORMULA) else f'"{quoted}"'


def block(text: object, longest: int = MAX_BLOCK) -> str:
    """Return several harmless lines, their spaces kept; empty ones at the end are gone, a cut ends with `~`."""
    lines = [_plain_with_spaces(line, longest) for line in text.split("\n")] if isinstance(text, str) else []
    joined = "\n".join(lines).rstrip()
    return joined if len(joined) <= longest else joined[: longest - 1] + "~"


def _plain_with_spaces(line: str, longest: int) -> str:
    pieces = re.split(r"( +)", line[: 2 * longest])
    return "".join(piece if piece.startswith(" ") else plain(piece, longest) for piece in pieces)
