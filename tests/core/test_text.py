"""Hostile words on every surface: nothing executes, hides, pings or runs on."""

import csv
import html
import io
import json
import unicodedata
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.core.telling.text import MAX_BLOCK, Surface, block, escaped

CORPUS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "]]>",
    "<!channel>",
    "<@U123> @here @everyone",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "`rm -rf /` ```",
    "a | b | c",
    "safe\u202egnp.exe",
    "\u2066hidden\u2069 \u200bzero\ufeff",
    "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "NUL\x00byte",
    "line\r\nbreak\u2028and\u2029more",
    "\ud800 lone",
    "# heading\n- [ ] list\n> quote",
    "![](https://tracker.example/x.png) https://phish.example",
    "n" * 10_000,
]


class Seen(HTMLParser):
    """What a browser would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("surface", list(Surface))
@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
def test_no_surface_gets_a_control_character_a_second_line_or_a_flood(hostile: str, surface: Surface) -> None:
    text = escaped(hostile, surface, 200)
    assert not [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert len(text) <= 200 * 8
    text.encode("utf-8")


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
def test_html_shows_the_words_and_makes_no_element(hostile: str) -> None:
    seen = Seen()
    seen.feed(f'<p title="{escaped(hostile, Surface.HTML)}">{escaped(hostile, Surface.HTML)}</p>')
    seen.close()
    assert seen.tags == ["p"]
    assert seen.text == escaped(hostile, Surface.TERMINAL)


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
def test_xml_stays_well_formed_with_the_words_in_it(hostile: str) -> None:
    text = escaped(hostile, Surface.XML)
    element = ElementTree.fromstring(f'<case name="{text}">{text}</case>')
    assert element.text == element.get("name") == escaped(hostile, Surface.TERMINAL)


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
def test_a_spreadsheet_gets_one_cell_that_is_no_formula(hostile: str) -> None:
    (row,) = csv.reader(io.StringIO(f"1,{escaped(hostile, Surface.CSV)},2"))
    assert len(row) == 3
    assert row[1][:1] not in ("=", "+", "-", "@")
    assert row[1].removeprefix("'") == escaped(hostile, Surface.TERMINAL)


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
def test_a_chat_pings_nobody_and_links_nowhere(hostile: str) -> None:
    text = escaped(hostile, Surface.SLACK)
    assert "<" not in text
    assert ">" not in text
    assert "`" not in text
    assert "@here" not in text
    assert "@everyone" not in text


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
def test_markdown_keeps_its_table_and_renders_no_markup(hostile: str) -> None:
    text = escaped(hostile, Surface.MARKDOWN)
    assert not set(text.replace("&#", "")) & set("<>`*_[]()|@\\!:=")
    assert html.unescape(text) == escaped(hostile, Surface.TERMINAL)


@pytest.mark.parametrize("hostile", CORPUS, ids=range(len(CORPUS)))
def test_a_log_line_is_one_json_string(hostile: str) -> None:
    assert json.loads(escaped(hostile, Surface.LOG)) == escaped(hostile, Surface.TERMINAL)


def test_harmless_words_stay_as_they_are() -> None:
    for words in ("Größe 5 – 7 €", "日本語", "read the plan, it is additive"):
        assert escaped(words, Surface.TERMINAL) == words


def test_a_cut_is_seen() -> None:
    assert escaped("n" * 10_000, Surface.TERMINAL, 10) == "nnnnnnnnn~"
    assert escaped(None, Surface.HTML) == ""
    assert escaped(5, Surface.CSV) == '""'


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=300))
def test_a_block_keeps_its_lines_and_nothing_else_of_the_wild(text: str) -> None:
    shown = block(text)
    assert len(shown) <= MAX_BLOCK
    assert shown.count("\n") <= text.count("\n")
    for line in shown.split("\n"):
        assert " ".join(line.split()) == escaped(line, Surface.TERMINAL)


def test_a_huge_block_is_cut_with_a_mark() -> None:
    assert block("line\n" * 10_000).endswith("~")
    assert len(block("line\n" * 10_000)) == MAX_BLOCK
