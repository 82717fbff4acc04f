"""`canary flag` on real repositories: the whole range is read, and nothing but a statement makes a change human."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from clone import DANA, LEE, Canary, Clone
from origin_corpus import LINES, MESSAGES, PEOPLE, PROSE

from canary.api.change import ChangeAnnotation, OriginEvidence
from canary.cli.exits import Exit
from canary.cli.git import Repository
from canary.core.record import record_of
from canary.core.rules.origin import agents_of, evidence_of_commits
from canary.core.rules.signatures import SIGNATURES
from canary.lab import manifests

AGENT, SIGNED = LINES[0]
pytest_plugins = ["clone_fixtures"]


def document(canary: Canary, *words: str) -> dict[str, Any]:
    code, out, err = canary("flag", "--range", "v1..HEAD", "-o", "json", *words)
    assert code == 0, err
    return json.loads(out)


# -- what a range says ----------------------------------------------------------------------------------------------


def test_every_signature_of_the_table_comes_through_git(clone: Clone) -> None:
    kept = [each for each in MESSAGES if "\r" not in each[2]][::5] + [
        each for each in MESSAGES if "\r" in each[2]
    ][::9]
    clone.commit_all([(DANA, message) for _, _, message in kept])
    found = Repository(clone.folder).read("v1..HEAD")
    assert len(found.commits) == len(kept) >= 400
    for commit, (agent, name, _) in zip(reversed(found.commits), kept, strict=True):
        assert agent in agents_of(evidence_of_commits([commit])), name


def test_every_author_of_the_table_comes_through_git(clone: Clone) -> None:
    people = [person for person in PEOPLE if "<" in person[1]]
    clone.commit_all([(person, PROSE) for _, person in people])
    commits = Repository(clone.folder).read("v1..HEAD").commits
    for commit, (agent, person) in zip(reversed(commits), people, strict=True):
        assert agent in agents_of(evidence_of_commits([commit])), person


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda each: each.agent)
def test_one_signed_commit_in_the_middle_of_a_range_is_enough(
    clone: Clone, canary: Canary, signature: Any
) -> None:
    line = next(line for agent, line in LINES if agent == signature.agent)
    clone.commit_all([(DANA, PROSE), (LEE, f"Second\n\n{line}\n"), (DANA, PROSE)])
    assert canary("flag", "--range", "v1..HEAD", "--exit-code")[0] == Exit.IS_AI
    assert canary("flag", "--range", "v1..HEAD")[0] == Exit.DONE
    assert document(canary)["agents"] == [signature.agent]


def test_commits_of_people_alone_are_unknown(clone: Clone, canary: Canary) -> None:
    clone.commit(PROSE)
    assert canary("flag", "--range", "v1..HEAD", "--exit-code", "--label", "human")[0] == Exit.IS_UNKNOWN


def test_a_cherry_pick_a_rebase_and_a_squash_keep_the_signature(clone: Clone, canary: Canary) -> None:
    clone.git("checkout", "--quiet", "-b", "work")
    (clone.folder / "a").write_text("a")
    clone.git("add", "a")
    clone.git("commit", "--quiet", "--no-gpg-sign", "--message", f"Work\n\n{SIGNED}\n")
    picked = clone.git("rev-parse", "HEAD")
    for words in (
        ("cherry-pick", "-x", picked),
        ("-c", "commit.gpgSign=false", "rebase", "--quiet", "--onto", "main", "v1", "work"),
    ):
        clone.git("checkout", "--quiet", "-B", "main", "v1")
        clone.git("commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", "Meanwhile")
        clone.git(*words)
        assert document(canary)["agents"] == [AGENT], words
    clone.git("checkout", "--quiet", "-B", "main", "v1")
    clone.git("merge", "--quiet", "--squash", picked)
    clone.git("commit", "--quiet", "--no-edit", "--no-gpg-sign")
    assert document(canary)["agents"] == [AGENT]


def test_both_sides_of_a_merge_are_read(clone: Clone, canary: Canary) -> None:
    clone.git("checkout", "--quiet", "-b", "work")
    clone.commit(f"Work\n\n{SIGNED}")
    clone.git("checkout", "--quiet", "main")
    clone.commit(PROSE)
    clone.git("merge", "--quiet", "--no-edit", "--no-ff", "--no-gpg-sign", "work")
    assert document(canary)["origin"] == "ai"


def test_a_message_of_ten_megabytes_is_read_whole(clone: Clone, canary: Canary) -> None:
    clone.commit_all([(DANA, "words and words\n" * 650_000 + SIGNED)])
    assert canary("flag", "--range", "v1..HEAD", "--exit-code")[0] == Exit.IS_AI


def test_a_commit_in_another_encoding_is_read(clone: Clone, canary: Canary) -> None:
    clone.git(
        "-c", "i18n.commitEncoding=UTF-16", "commit", "--quiet", "--allow-empty", "--no-gpg-sign", "-m", "x"
    )
    message = f"Größe\n\n{SIGNED}\n".encode("latin-1")
    words = (
        "-c",
        "i18n.commitEncoding=ISO-8859-1",
        "commit",
        "--quiet",
        "--allow-empty",
        "--no-gpg-sign",
        "--file=-",
    )
    clone.git(*words, given=message)
    assert document(canary)["origin"] == "ai"


# -- what cannot be computed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("HEAD", "write BASE..HEAD"),
        ("v1...HEAD", "write BASE..HEAD"),
        ("v0..HEAD", "there is no commit 'v0'"),
        ("0" * 40 + "..HEAD", "there is no commit"),
        ("--output=x..HEAD", "there is no commit"),
        ("v1..--all", "there is no commit"),
    ],
)
def test_a_range_that_is_none_is_refused(clone: Clone, canary: Canary, wanted: str, why: str) -> None:
    code, out, err = canary("flag", f"--range={wanted}", "--exit-code")
    assert (code, out) == (Exit.USAGE, "")
    assert why in err


def test_a_shallow_clone_is_refused_because_commits_may_be_missing(clone: Clone, canary: Canary) -> None:
    clone.commit(f"Second\n\n{SIGNED}")
    clone.commit(PROSE)
    clone.git("clone", "--quiet", "--depth", "1", f"file://{clone.folder}", "shallow")
    code, _, err = canary("flag", "-C", "shallow", "--range", "HEAD..HEAD", "--exit-code")
    assert code == Exit.USAGE
    assert "shallow" in err
    assert canary("flag", "-C", "nowhere", "--range", "v1..HEAD")[0] == Exit.USAGE


def test_a_head_that_takes_commits_away_says_so(clone: Clone, canary: Canary) -> None:
    clone.commit(PROSE)
    clone.git("tag", "v2")
    code, out, err = canary("flag", "--range", "v2..v1", "-o", "json", "--exit-code")
    assert code == Exit.IS_UNKNOWN
    assert "no ancestor" in err + out


# -- what it writes --------------------------------------------------------------------------------------------------


def test_the_patch_is_the_whole_record_and_takes_away_what_stood_there(clone: Clone, canary: Canary) -> None:
    message = f"Move the call (#7)\n\nWhy: the old one is\n  out of support\nRollback-plan: take it back\n{SIGNED}\n"
    head = clone.commit(f"{message}Co-authored-by: {LEE}\n")
    _, out, err = canary("flag", "--range", "v1..HEAD", "--opener", "mo", "--repo", "shop/checkout")
    annotations = yaml.safe_load(out)["metadata"]["annotations"]
    every = {key.value for key in ChangeAnnotation} - {ChangeAnnotation.CHANGED_BY.value}
    assert annotations.keys() == every
    assert annotations[ChangeAnnotation.ATTESTATION] is None
    record = record_of({key: text for key, text in annotations.items() if text})
    assert (record.what, record.why) == ("Move the call (#7)", "the old one is out of support")
    assert (record.rollback_plan, record.source_repo) == ("take it back", "shop/checkout")
    assert record.authors == ["dana@example.com", "lee@example.com", "mo"]
    assert (record.agents, record.origin) == ([AGENT], "ai")
    assert record.source_range == f"{clone.git('rev-parse', 'v1')}..{head}"
    assert f"origin ai; 1 commit by {', '.join(record.authors)}" in err


def test_manifests_come_back_with_the_record_on_the_deployment(clone: Clone, canary: Canary) -> None:
    clone.commit(f"Work\n\n{SIGNED}")
    deployment = manifests.deployment(2, 80)
    old = {ChangeAnnotation.ATTESTATION.value: "of the change before", "note": "stays"}
    deployment["metadata"]["annotations"] = old
    path = clone.folder / "shop.yaml"
    path.write_text(yaml.safe_dump_all([manifests.service(), deployment]))
    _, out, _ = canary("flag", "--range", "v1..HEAD", "-f", str(path), "--why", "it is late")
    service, flagged = yaml.safe_load_all(out)
    assert service == manifests.service()
    assert flagged["spec"] == deployment["spec"]
    annotations = flagged["metadata"]["annotations"]
    assert annotations["note"] == "stays"
    assert ChangeAnnotation.ATTESTATION.value not in annotations
    assert annotations[ChangeAnnotation.WHY] == "it is late"
    path.write_text(yaml.safe_dump(manifests.service()))
    assert canary("flag", "--range", "v1..HEAD", "-f", str(path))[0] == Exit.USAGE


def test_evidence_of_a_hundred_agents_fits_into_its_annotation(clone: Clone, canary: Canary) -> None:
    clone.commit_all([(f"{'x' * 200} <{'y' * 200}@example.com>", f"{line}\n") for _, line in LINES])
    evidence = document(canary)["annotations"][ChangeAnnotation.ORIGIN_EVIDENCE]
    assert len(evidence) <= 4096
    assert all(OriginEvidence.model_validate(item) for item in json.loads(evidence))


def test_more_authors_than_a_record_holds_are_refused(clone: Clone, canary: Canary) -> None:
    clone.commit_all([(f"P <p{number}@example.com>", PROSE) for number in range(70)])
    code, _, err = canary("flag", "--range", "v1..HEAD")
    assert code == Exit.USAGE
    assert "70 authors" in err


# -- what the forge says ---------------------------------------------------------------------------------------------


@pytest.fixture
def pull_request(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Be a job of GitHub Actions for a pull request that differs in the given fields."""

    def be(branch: str = "fix-tax", **fields: Any) -> None:
        pull = {
            "number": 7,
            "title": "Fix tax",
            "body": "Why: it is wrong",
            "user": {"login": "mo"},
            "labels": [],
        }
        event = clone.folder / "event.json"
        event.write_text(json.dumps({"pull_request": {**pull, **fields}}))
        job = {"ACTIONS": "true", "EVENT_PATH": str(event), "REPOSITORY": "shop/checkout", "HEAD_REF": branch}
        for name, text in {**job, "TRIGGERING_ACTOR": "pat"}.items():
            monkeypatch.setenv(f"GITHUB_{name}", text)

    return be


def test_a_pull_request_of_people_gives_its_texts_and_its_people(
    clone: Clone, canary: Canary, pull_request: Callable[..., None]
) -> None:
    clone.commit(PROSE)
    pull_request()
    found = document(canary)
    assert (found["origin"], found["authors"]) == ("unknown", ["dana@example.com", "mo", "pat"])
    annotations = found["annotations"]
    assert annotations[ChangeAnnotation.CHANGE_ID] == "shop/checkout#7"
    assert (annotations[ChangeAnnotation.WHAT], annotations[ChangeAnnotation.WHY]) == (
        "Fix tax",
        "it is wrong",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"branch": "copilot/fix-tax"},
        {"user": {"login": "copilot-swe-agent[bot]"}},
        {"labels": [{"name": "AI generated"}]},
        {"body": f"Text\n\n{SIGNED}"},
        {"title": "Fix tax, assisted-by: none", "body": "Assisted-by: none"},
    ],
)
def test_each_fact_of_the_forge_makes_a_change_ai(
    clone: Clone, canary: Canary, pull_request: Callable[..., None], fields: dict[str, Any]
) -> None:
    clone.commit(PROSE)
    pull_request(**fields)
    found = document(canary)
    assert found["origin"] == "ai"
    assert {item["level"] for item in found["evidence"]} == {"E3"}


def test_an_event_that_cannot_be_read_is_an_error_and_odd_fields_are_none(
    clone: Clone, canary: Canary, pull_request: Callable[..., None]
) -> None:
    clone.commit(PROSE)
    pull_request(user=None, labels=["x", {"name": 4}], body=None, title=5)
    assert document(canary)["origin"] == "unknown"
    (clone.folder / "event.json").write_text("{")
    assert canary("flag", "--range", "v1..HEAD", "--exit-code")[0] == Exit.USAGE


def test_gitlab_is_read_from_its_environment(
    clone: Clone, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.commit(PROSE)
    job = {"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "pat", "CI_PROJECT_PATH": "shop/checkout"}
    request = {"IID": "7", "TITLE": "Fix tax", "DESCRIPTION": "Why: it is wrong", "LABELS": "bug,ai-assisted"}
    branch = {"SOURCE_BRANCH_NAME": "codex/fix"}
    for name, text in {
        **job,
        **{f"CI_MERGE_REQUEST_{key}": text for key, text in {**request, **branch}.items()},
    }.items():
        monkeypatch.setenv(name, text)
    found = document(canary)
    assert sorted(found["agents"]) == ["ai", "openai-codex"]
    assert found["authors"] == ["dana@example.com", "pat"]
    assert found["annotations"][ChangeAnnotation.CHANGE_ID] == "shop/checkout!7"


def test_flags_say_what_ci_does_not(clone: Clone, canary: Canary) -> None:
    clone.commit(PROSE)
    assert document(canary, "--branch", "cursor/fix")["agents"] == ["cursor"]
    assert document(canary, "--label", "bug", "--label", "ai")["agents"] == ["ai"]
