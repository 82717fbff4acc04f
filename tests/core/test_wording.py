"""Numbers, times and other people's words as people read them; nothing hostile passes."""

from datetime import UTC, datetime

import pytest

from canary.core.telling import wording

HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "line\nline\r\ttab",
    "\u202eright-to-left",
    "nul\x00nul",
    "\u2028separator",
    "\ud800lonely",
    "x" * 10_000,
    "\x9b31mcsi",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_could_steer_a_terminal_never_passes(text):
    shown = wording.plain(text, 80)
    assert len(shown) <= 80
    assert not any(wording.is_hostile(character) for character in shown)


def test_ordinary_text_of_any_language_is_left_as_it_is():
    assert wording.plain("Größe 5 %, 確認 <b>ok</b>") == "Größe 5 %, 確認 <b>ok</b>"


def test_a_cut_says_that_it_is_one():
    assert wording.plain("abcdef", 4) == "abc~"


@pytest.mark.parametrize(
    ("stored", "read"),
    [("", None), ("NaN", None), ("-inf", None), ("1e3", 1000.0), (True, None), (None, None)],
)
def test_a_number_that_is_none_is_not_known(stored, read):
    assert wording.number(stored) == read


@pytest.mark.parametrize(
    ("log10", "text"),
    [(3.87, "7.4e3"), (3.0, "1.0e3"), (2.5, "316"), (-0.3, "0.5"), (40.0, "1e40"), (None, "?")],
)
def test_evidence_is_written_as_people_compare_it(log10, text):
    assert wording.power(log10) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(-1.0, "-100"), (0.006, "+0.6"), (0.0, "0"), (-0.00001, "0"), (3.01, "+301"), (90.0, ">999")],
)
def test_a_change_keeps_its_sign_and_loses_what_nobody_reads(ratio, text):
    assert wording.signed_percent(ratio) == text


@pytest.mark.parametrize(
    ("ends", "written"),
    [
        ((-0.99, -1.0, -0.81), ("-99 %", "-100", "-81")),
        ((3.0, None, 20.0), ("+300 %", "..", ">999")),
        ((170.39, 94.6, 309.0), ("171 times as many", "96", "310")),
        ((11.0, 3.2, None), ("12 times as many", "4.2", "..")),
    ],
)
def test_a_rise_beyond_ten_times_is_told_in_times_with_its_whole_interval(ends, written):
    change = wording.change(*ends)
    assert (change.text, change.low, change.high) == written


@pytest.mark.parametrize(
    ("ratio", "text"), [(-1.0, "-100 %"), (8.9, "+890 %"), (170.39, "171x"), (None, "? %")]
)
def test_a_column_tells_a_change_briefly(ratio, text):
    assert wording.brief_change(ratio) == text


def test_a_weight_is_written_with_the_digits_that_it_has():
    assert [wording.share(ppm) for ppm in (5_000, 10_000, 995_000, 0, 1_000_000)] == [
        "0.5 %",
        "1 %",
        "99.5 %",
        "0 %",
        "100 %",
    ]


def test_the_bar_crosses_the_limit_exactly_when_the_evidence_does():
    assert wording.bar(3.87, 3.0) == "########|##"
    assert wording.bar(2.99, 3.0) == "####### |"
    assert wording.bar(-5.0, 3.0) == "#       |"
    assert wording.bar(None, 3.0) == "        |"


def test_a_time_in_the_same_minute_is_short():
    before = datetime(2026, 3, 5, 3, 12, 4, tzinfo=UTC)
    assert wording.clock(before, None) == "03:12:04Z"
    assert wording.clock(before.replace(second=19, microsecond=200_000), before) == ":19.2"
    assert wording.clock(before.replace(minute=13), before) == "03:13:04"


def test_a_table_is_as_wide_as_its_cells():
    assert wording.table([["A", "LONG"], ["wide cell", "x"]]) == ["A          LONG", "wide cell  x"]
