"""Origin: every signature of the table in every place and disguise; only a signed statement proves a human."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from origin_corpus import LINES, MESSAGES, PEOPLE, PROSE, SHA, commit

from canary.api.change import MAX_EVIDENCE, ChangeAnnotation, OriginEvidence
from canary.api.reasons import Origin
from canary.core.rules.folding import disguised, folded, joined
from canary.core.rules.origin import (
    EARLIER_RUN,
    MAX_EVIDENCE_BYTES,
    Forge,
    agents_of,
    authors_of,
    carried,
    evidence_of_annotations,
    evidence_of_commits,
    evidence_of_forge,
    origin_of,
    parse_evidence,
    write_evidence,
)
from canary.core.rules.signatures import SIGNATURES


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(MESSAGES) >= 2_000
    assert {agent for agent, _, _ in MESSAGES} == {signature.agent for signature in SIGNATURES}


@pytest.mark.parametrize("agent", [signature.agent for signature in SIGNATURES])
def test_each_signature_is_found_in_a_message_in_each_layout_and_disguise(agent: str) -> None:
    missed = []
    for whose, name, message in MESSAGES:
        if whose == agent:
            evidence = evidence_of_commits([commit("First"), commit(message), commit("Last")])
            if agent not in agents_of(evidence) or origin_of(evidence) is not Origin.AI:
                missed.append(name)
    assert not missed


@pytest.mark.parametrize(("agent", "person"), PEOPLE)
def test_each_signature_is_found_as_author_committer_and_opener(agent: str, person: str) -> None:
    for found in (
        evidence_of_commits([commit(author=person)]),
        evidence_of_commits([commit(committer=person)]),
        evidence_of_forge(Forge(opener=person)),
    ):
        assert agent in agents_of(found)
        assert origin_of(found) is Origin.AI


def test_branches_labels_and_the_texts_of_a_pull_request_are_read() -> None:
    for each in SIGNATURES:
        for name in each.branches:
            for branch in (f"{name}fix-tax", f"refs/heads/dana/{name.upper()}fix"):
                assert agents_of(evidence_of_forge(Forge(branch=branch))) == [each.agent]
        for label in each.labels:
            found = evidence_of_forge(Forge(labels=("bug", label.upper().replace("-", " "))))
            assert each.agent in agents_of(found)
    found = evidence_of_forge(Forge(texts=("Title", f"Body\n\n{LINES[0][1]}")))
    assert agents_of(found) == [LINES[0][0]]


def test_people_and_plain_words_are_no_agents() -> None:
    innocent = (
        PROSE,
        "Remove the copilot from the flight plan\n\nraider: a game. Fix cursor position. By kiro, I mean the film.",
        "Say 198982749\n\nReviewed-by: Claudette <c@example.com>\nMail Codexia <x@codex.example.com>",
    )
    assert not evidence_of_commits([commit(text, "Jules Verne <jules@example.com>") for text in innocent])
    assert not evidence_of_forge(Forge("feature/cursor", "dana", ("bug", "maintenance"), innocent))


def test_a_stripped_signature_leaves_unknown_and_never_human() -> None:
    found = evidence_of_commits([commit("Squash\n\n* one\n* two")])
    assert origin_of(found) is Origin.UNKNOWN


def test_no_message_of_the_corpus_and_no_label_makes_a_human() -> None:
    for _, name, message in MESSAGES:
        assert origin_of(evidence_of_commits([commit(message)])) is not Origin.HUMAN, name
    claims = {key.value: "human" for key in ChangeAnnotation}
    assert origin_of(evidence_of_annotations(claims)) is not Origin.HUMAN
    assert origin_of(evidence_of_forge(Forge(labels=("human", "no-ai")))) is Origin.UNKNOWN


def test_letters_that_look_like_others_keep_a_proof_from_counting() -> None:
    proof = OriginEvidence(level="E4", says=Origin.HUMAN, source="attestation")
    for name in ("Kirо Аgеnt", "Сlaude", "Cur\u200bsor", "soft\u00adware"):
        assert disguised(f"Fix, by {name}")
        found = evidence_of_commits([commit(f"Fix, by {name}x and others")])
        assert origin_of([proof, *found]) in (Origin.UNKNOWN, Origin.AI)
    for plain in ("Größe für Žluťoučký", "Сделать заказ быстрее", "naïve café 👩‍🚀", "Δt = 5 µs"):
        assert not disguised(plain)


def test_ten_megabytes_are_read_whole_and_soon() -> None:
    for filler in ("many words and a: colon\n", "ключ: слово\n", "> \r\n"):
        message = filler * (10_000_000 // len(filler)) + "\n" + LINES[0][1]
        started = time.monotonic()
        assert agents_of(evidence_of_commits([commit(message)])) == [LINES[0][0]]
        assert time.monotonic() - started < 30


def test_one_item_an_agent_says_where_it_was_first_seen_and_how_many_more_there_are() -> None:
    agent, line = LINES[0]
    (item,) = evidence_of_commits([commit(), *[commit(f"{PROSE}\n{line}")] * 3])
    assert (item.source, item.level) == (agent, "E1")
    assert SHA[:12] in item.detail
    assert item.detail.endswith("and in 2 more")


def test_the_most_suspicious_evidence_wins() -> None:
    items = {
        says: OriginEvidence(level="E4" if says is Origin.HUMAN else "E1", says=says, source="x")
        for says in Origin
    }
    ai, human, unknown = items[Origin.AI], items[Origin.HUMAN], items[Origin.UNKNOWN]
    assert origin_of([]) is Origin.UNKNOWN
    assert origin_of([human]) is Origin.HUMAN
    assert origin_of([human, unknown]) is Origin.UNKNOWN
    assert origin_of([human, unknown, ai]) is Origin.AI
    forged = [human.model_copy(update={"level": level}) for level in ("E0", "E1", "E2", "E3")]
    assert origin_of(forged) is Origin.UNKNOWN


def test_an_api_writer_that_is_an_agent_counts() -> None:
    (item,) = evidence_of_annotations({ChangeAnnotation.CHANGED_BY.value: SIGNATURES[0].marks[0]})
    assert (item.level, item.says) == ("E2", Origin.AI)


def test_ai_of_an_earlier_run_is_carried_and_human_is_not() -> None:
    said = [OriginEvidence(level="E1", says=Origin.AI, source="kiro")]
    (item,) = carried(said, "shop-1")
    assert (item.says, item.source) == (Origin.AI, EARLIER_RUN)
    assert not carried([OriginEvidence(level="E4", says=Origin.HUMAN, source="attestation")], "shop-1")


def test_evidence_comes_back_from_its_annotation_less_what_only_we_may_say() -> None:
    written = [
        OriginEvidence(level="E1", says=Origin.AI, source="kiro", detail="in the message"),
        OriginEvidence(level="E4", says=Origin.UNKNOWN, source="attestation"),
        OriginEvidence(level="E4", says=Origin.HUMAN, source="attestation"),
    ]
    read = parse_evidence(write_evidence(written))
    assert [(item.level, item.says) for item in read] == [("E1", Origin.AI), ("E0", Origin.UNKNOWN)]


def test_long_evidence_is_cut_to_its_place_and_keeps_the_suspicion() -> None:
    items = [
        OriginEvidence(level="E1", says=Origin.UNKNOWN, source=f"s{i}", detail="é" * 250) for i in range(90)
    ]
    items.append(OriginEvidence(level="E1", says=Origin.AI, source="kiro"))
    text = write_evidence(items)
    assert len(text.encode()) <= MAX_EVIDENCE_BYTES
    assert origin_of(parse_evidence(text)) is Origin.AI


@pytest.mark.parametrize(
    "text", ["{", "[]]", "42", '"x"', "[42]", "[" * 50_000, "[" + "1," * 9_000 + "1]", '[{"a":1}]']
)
def test_evidence_that_cannot_be_read_is_suspicious(text: str) -> None:
    (item,) = parse_evidence(text)
    assert item.says is Origin.UNKNOWN


def test_annotations_never_hold_more_evidence_than_the_record_takes() -> None:
    items: list[Any] = [{"level": "E1", "says": "ai", "source": f"s{i}"} for i in range(60)]
    annotations = {
        ChangeAnnotation.ORIGIN.value: "ai",
        ChangeAnnotation.AGENTS.value: "kiro",
        ChangeAnnotation.ORIGIN_EVIDENCE.value: json.dumps(items),
    }
    assert len(evidence_of_annotations(annotations)) == MAX_EVIDENCE


def test_folding_keeps_lines_and_words() -> None:
    assert folded("A  b\r\n c\nD\te") == "a b\n c\nd e"
    assert joined(folded("A  b\r\n\tc\nD\te")) == "a b c\nd e"


def test_authors_are_everybody_who_wrote_it_and_no_agent() -> None:
    squash = (
        "Squashed\n\nAuthor: Kim <kim@example.com>\n\n    Text\n\n    Co-authored-by: Lee <lee@example.com>\n"
    )
    commits = [
        commit(
            f"{PROSE}\nCo-authored-by: Sam <SAM@example.com>\nCo-Authored-By: Pat\n  Doe <pat@example.com>\n"
        ),
        commit("Words\n\nauthor: of the page, that is\nCo-authored-by: uma\n"),
        commit(squash, author="Mo <12345+mo-dev@users.noreply.github.com>"),
        *(commit(author=person) for _, person in PEOPLE),
    ]
    people = ["dana", "sam", "pat", "lee", "kim"]
    expected = {"mo-dev", *(f"{name}@example.com" for name in people), "uma", "trigger"}
    assert set(authors_of(commits, ("trigger", ""))) == expected


JSON = st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.text() | JSON.map(json.dumps))
def test_no_annotation_breaks_the_reading_or_makes_a_human(text: str) -> None:
    for key in ChangeAnnotation:
        assert origin_of(evidence_of_annotations({key.value: text})) is not Origin.HUMAN


@given(st.text(), st.text(), st.text())
def test_no_commit_breaks_the_reading_or_makes_a_human(author: str, message: str, branch: str) -> None:
    forge = Forge(branch, author, (branch,), (message,))
    found = [*evidence_of_commits([commit(message, author)]), *evidence_of_forge(forge)]
    assert origin_of(parse_evidence(write_evidence(found))) is not Origin.HUMAN
