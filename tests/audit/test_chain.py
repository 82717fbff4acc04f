"""The chain shows what was done to it: every tamper, a hundred of each, by itself or with the head from outside."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.audit.chain import Head, decoded, encoded, head_of, linked, parse_head, verify
from canary.errors import RefusedError

SEEDS = range(100)
Lines = list[bytes]


def chain(length: int, seed: int = 0) -> Lines:
    """Return a chain of records about a shop's changes."""
    rng, head, lines = random.Random(seed), Head(), list[bytes]()
    for number in range(length):
        kind = rng.choice(["Start", "Raise", "Lower", "RollBack"])
        entry = {"id": f"run/{number}", "kind": kind, "by": "dana", "toPpm": rng.randrange(1_000_000)}
        record = linked(entry, head)
        head = head_of(record)
        lines.append(encoded(record))
    return lines


def head_of_lines(lines: Lines) -> Head:
    record = decoded(lines[-1])
    assert record is not None
    return head_of(record)


def edit(lines: Lines, rng: random.Random) -> int:
    """Change one field and hash the record anew, as somebody would who knows how records are made."""
    at = rng.randrange(len(lines) - 1)
    record = dict(decoded(lines[at]) or {})
    entry = {name: value for name, value in record.items() if name not in ("sequence", "prev", "hash")}
    entry[rng.choice(["by", "kind"])] = "somebody else"
    lines[at] = encoded(linked(entry, Head(record["sequence"] - 1, record["prev"])))
    return at + 2  # its own hash is right: the one behind it does not follow any more


def edit_in_place(lines: Lines, rng: random.Random) -> int:
    at = rng.randrange(len(lines))
    lines[at] = lines[at].replace(b'"by":"dana"', b'"by":"demo"')
    return at + 1


def delete_a_middle(lines: Lines, rng: random.Random) -> int:
    at = rng.randrange(len(lines) - 1)
    del lines[at]
    return at + 1


def swap(lines: Lines, rng: random.Random) -> int:
    at = rng.randrange(len(lines) - 1)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    return at + 1


def truncate(lines: Lines, rng: random.Random) -> int:
    del lines[rng.randrange(len(lines)) :]
    return len(lines) + 1


def rewrite_all(lines: Lines, rng: random.Random) -> int:
    lines[:] = chain(len(lines), seed=rng.randrange(1_000, 2_000))
    return len(lines)


@pytest.mark.parametrize("tamper", [edit, edit_in_place, delete_a_middle, swap])
def test_what_happens_within_a_chain_is_found_by_the_chain_alone(
    tamper: Callable[[Lines, random.Random], int],
) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        lines = chain(rng.randrange(3, 30), seed)
        broken = tamper(lines, rng)
        found = verify(lines)
        assert f"record {broken} " in found.fault, f"seed {seed}: {found.fault or 'nothing found'}"
        assert found.records == broken - 1, f"seed {seed}"


@pytest.mark.parametrize("tamper", [truncate, rewrite_all])
def test_what_is_done_to_its_end_is_found_with_the_head_from_outside(
    tamper: Callable[[Lines, random.Random], int],
) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        lines = chain(rng.randrange(3, 30), seed)
        published = head_of_lines(lines)
        tamper(lines, rng)
        assert not verify(lines).fault, f"seed {seed}: found without the head, which no chain can"
        assert f"record {published.sequence} " in verify(lines, [published]).fault, f"seed {seed}"


def test_a_chain_that_nobody_touched_holds_with_every_head_that_it_ever_had() -> None:
    lines = chain(40)
    heads = [head_of(record) for line in lines if (record := decoded(line)) is not None]
    assert verify(lines, heads).records == 40
    assert verify([*lines, *()], heads).fault == ""
    assert str(verify(lines).head) == str(heads[-1])
    assert parse_head(f" {heads[-1]}\n") == heads[-1]


@given(st.binary(max_size=200))
def test_no_line_breaks_the_verification(line: bytes) -> None:
    assert verify([line]).fault
    assert verify([*chain(2), line]).records == 2


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"sequence":1,"hash":"\\ud800","prev":""}', b"{}", b"\xff"]
)
def test_a_line_that_is_no_record_is_a_fault_of_that_record(line: bytes) -> None:
    assert "record 1 " in verify([line]).fault


@pytest.mark.parametrize("text", ["", "41", "41:xyz", "-1:" + "0" * 64, "1:" + "0" * 63])
def test_a_head_that_is_none_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(RefusedError, match="copy it whole"):
        parse_head(text)


def test_an_entry_with_half_a_character_is_kept_without_it() -> None:
    record = linked({"id": "x", "what": "half \ud800 of it"}, Head())
    assert not verify([encoded(record)]).fault


@pytest.mark.parametrize("own", ["sequence", "prev", "hash"])
def test_an_entry_cannot_bring_what_the_chain_gives_it(own: str) -> None:
    entry: dict[str, Any] = {"id": "x", own: "mine"}
    with pytest.raises(RefusedError):
        linked(entry, Head())
