"""canary audit: the list, one record, the chain, and what an auditor takes home."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_bed import Bed, Said
from run_story import a_run, rolled_back
from security_key import SecurityKey

from canary.audit.chain import Head, head_of, linked
from canary.audit.entries import due, entry_of
from canary.audit.store import Book, FileStore
from canary.cli.auditing import ADDRESS
from canary.core.decision import Limits, Run
from canary.core.rules.approvals import signed_text
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYREQUESTS
from canary.operator.objects import run_of

pytest_plugins = ["cli_fixtures"]
HOSTILE = '=HYPERLINK("https://evil.example","open")'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The audit of one rolled back run and of one bypass a day later."""
    path = tmp_path / "audit.jsonl"
    book = Book(FileStore(path))
    stored = rolled_back(a_run())
    stored["spec"]["change"]["why"] = HOSTILE
    run = run_of(stored, Limits())
    for each in due(run.status):
        book.append(entry_of(run, each))
    revision = {"id": "revision/u2/7", "at": "2026-03-06T09:00:00Z", "kind": "Bypass", "namespace": "shop"}
    book.append({**revision, "workload": "ledger", "revision": 7, "message": "no run decided it"})
    return path


def audit(cli: Bed, path: Path, *words: str) -> Said:
    return cli.canary("audit", *words, "--audit", f"file:{path}")


def test_the_list_says_what_happened_and_what_it_comes_to(cli: Bed, path: Path) -> None:
    said = audit(cli, path, "list")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["SEQ", "TIME", "KIND", "WORKLOAD", "VERSION", "SLICE", "BY", "REASON"]
    assert "Raise" in lines[1]
    assert "0 % -> 1 %" in lines[1]
    assert lines[-1].endswith("1 rolled back; 1 past the rules")


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (["--kind", "Bypass"], ["Bypass"]),
        (["shop/ledger"], ["Bypass"]),
        (["checkout-7f9c2"], ["Raise", "Lower", "RollBack"]),
        (["--from", "2026-03-06"], ["Bypass"]),
        (["--to", "2026-03-05"], ["Raise", "Lower", "RollBack"]),
        (["--from", "2026-03-05T03:12:10Z", "--to", "2026-03-05T03:12:20Z"], ["Lower"]),
        (["nobody"], []),
    ],
)
def test_an_export_has_what_was_asked_for_and_nothing_else(
    cli: Bed, path: Path, words: list[str], kinds: list[str]
) -> None:
    said = audit(cli, path, "export", *words, "-o", "json")
    records: list[dict[str, Any]] = json.loads(said.out)["records"]
    assert [record["kind"] for record in records] == kinds


def test_the_csv_is_whole_and_holds_no_formula(cli: Bed, path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(audit(cli, path, "export", "-o", "csv").out)))
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["rollbackPlan"] == "re-apply v2.30.4"
    assert rows[0]["agents"] == "kiro"
    assert rows[0]["why"] == "'" + HOSTILE
    assert all(row["hash"].startswith("sha256:") for row in rows)


def test_one_record_is_shown_whole(cli: Bed, path: Path) -> None:
    said = audit(cli, path, "show", "3")
    assert said.code == 0
    for fact in ("RollBack", "moves the confirm call behind a flag", "orders -100 % [-100,-81]", "sha256:"):
        assert fact in said.out
    assert audit(cli, path, "show", "99").code == 2
    assert "say which record" in audit(cli, path, "show").err


def test_a_chain_that_holds_is_said_with_its_head(cli: Bed, path: Path) -> None:
    said = audit(cli, path, "verify")
    head = said.out.split("head ")[1].split(";")[0]
    assert said.code == 0
    assert said.out.startswith("4 records hold, head 4:")
    assert "no head from outside" in said.out
    assert audit(cli, path, "verify", "--head", head).out.endswith("1 heads from outside agree\n")


def test_a_chain_that_does_not_hold_is_exit_1_and_the_record(cli: Bed, path: Path) -> None:
    head = audit(cli, path, "verify").out.split("head ")[1].split(";")[0]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"moves the confirm call", b"fixes the confirm call", 1))
    said = audit(cli, path, "verify")
    assert said.code == 1
    assert said.out.startswith("BROKEN: record 1 was edited")
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    assert audit(cli, path, "verify").code == 0
    cut = audit(cli, path, "verify", "--head", head, "-o", "json")
    assert (cut.code, json.loads(cut.out)["records"]) == (1, 2)
    assert "its end is gone" in json.loads(cut.out)["fault"]


def test_an_audit_that_is_empty_or_not_there_proves_nothing(cli: Bed, tmp_path: Path) -> None:
    assert audit(cli, tmp_path / "none.jsonl", "verify").code == 1
    said = cli.canary("audit", "verify")
    assert (said.code, "CAN-2008" in said.err) == (2, True)
    assert audit(cli, tmp_path / "none.jsonl", "verify", "--head", "41").code == 2


def test_the_runs_in_the_cluster_are_heads_from_outside(cli: Bed, path: Path) -> None:
    run = rolled_back(a_run())
    first = head_of(linked({"id": "something else"}, Head()))
    run["status"]["audit"] = {"sequence": 1, "hash": first.hash, "entries": 1}
    cli.put(run)
    assert audit(cli, path, "verify").code == 0
    said = audit(cli, path, "verify", "--runs")
    assert said.code == 1
    assert "record 1 is not the one that was published" in said.out


WHY = "read the plan; the migration is additive"


def asked(cli: Bed, run: Run, name: str, **more: Any) -> dict[str, Any]:
    """Ask as dana; return what of it stands in a status."""
    said = {"verb": "approve", "reason": WHY, **more}
    if said["verb"] == "approve":
        said["digest"] = run.spec.digest
    spec = {"subject": {"kind": "CanaryRun", "name": run.name, "uid": run.uid}, **said}
    dana = Client(cli.cluster.transport(cli.people["dana"]))
    dana.create(CANARYREQUESTS, CANARYREQUESTS.at("shop", name).manifest(spec=spec), intent=Intent.NEUTRAL)
    return {"request": name, "requester": "dana", **said}


def recorded(run: Run, path: Path, **words: Any) -> Path:
    """Put a run on record, each record with these words of people."""
    book = Book(FileStore(path))
    for each in due(run.status):
        book.append({**entry_of(run, each), **words})
    return path


def approved(cli: Bed, tmp_path: Path, **lies: Any) -> Path:
    """An audit whose run was approved by dana, as her request in the cluster says; `lies` are the record's."""
    run = run_of(cli.put(rolled_back(a_run())), Limits())
    word = {**asked(cli, run, "of-dana"), "counts": True, "at": "2026-03-05T00:00:00Z", **lies}
    return recorded(run, tmp_path / "approved.jsonl", approvals=[word])


def bypassed(cli: Bed, tmp_path: Path, **lies: Any) -> Path:
    """An audit whose run was let past the rules by dana, as status and request say; `lies` are put over it."""
    stored = rolled_back(a_run())
    run = run_of(cli.put(stored), Limits())
    word = asked(cli, run, "glass", verb="bypass")
    times = {"at": "2026-03-05T03:12:00Z", "expiresAt": "2026-03-05T04:12:00Z"}
    stored["status"]["bypass"] = {
        **{name: word[name] for name in ("request", "requester", "reason")},
        **times,
        **lies,
    }
    stored["status"]["timeline"][0] |= {"reason": "BypassUsed", "by": "dana"}
    return recorded(
        run_of({**stored, "metadata": {**stored["metadata"], "uid": run.uid}}, Limits()), tmp_path / "b.jsonl"
    )


def test_approvals_on_record_are_held_against_the_requests_that_the_api_server_verified(
    cli: Bed, tmp_path: Path
) -> None:
    path = approved(cli, tmp_path)
    assert audit(cli, path, "verify", "--requests").code == 0


@pytest.mark.parametrize(
    ("on_record", "lie", "says"),
    [
        (
            approved,
            {"requester": "sam"},
            "the approval of sam is not what the request of-dana says (requester)",
        ),
        (
            approved,
            {"request": "of-sam"},
            "the approval of dana names the request of-sam, which is not there",
        ),
        (approved, {"digest": "sha256:" + "0" * 64}, "dana is not what the request of-dana says (digest)"),
        (approved, {"reason": "whatever"}, "dana is not what the request of-dana says (reason)"),
        (bypassed, {"requester": "sam"}, "the bypass of sam is not what the request glass says (requester)"),
        (
            bypassed,
            {"reason": "all is well"},
            "the bypass of dana is not what the request glass says (reason)",
        ),
        (bypassed, {"request": "none"}, "the bypass of dana names the request none, which is not there"),
    ],
)
def test_a_word_that_nobody_gave_is_found_though_the_chain_holds(
    cli: Bed, tmp_path: Path, on_record: Callable[..., Path], lie: dict[str, Any], says: str
) -> None:
    path = on_record(cli, tmp_path, **lie)
    assert audit(cli, path, "verify").code == 0
    said = audit(cli, path, "verify", "--requests")
    assert (said.code, says in said.out) == (1, True), said.out
    assert said.out.splitlines()[0].startswith("BROKEN: record 1: the ")


def test_a_bypass_on_record_is_held_against_its_request(cli: Bed, tmp_path: Path) -> None:
    path = bypassed(cli, tmp_path)
    assert '"bypass":{' in path.read_text()
    assert audit(cli, path, "verify", "--requests").code == 0


def test_a_record_of_a_bypass_that_names_no_request_is_found(cli: Bed, tmp_path: Path) -> None:
    run = run_of(cli.put(rolled_back(a_run())), Limits())
    path = recorded(run, tmp_path / "b.jsonl", kind="Bypass", by="dana")
    said = audit(cli, path, "verify", "--requests")
    assert (said.code, "the bypass of dana names no request" in said.out) == (1, True), said.out


def present(cli: Bed, tmp_path: Path, key: SecurityKey, **altered: str) -> Path:
    """An audit that counts an approval of dana by her key, which signed the text with these parts altered."""
    run = run_of(cli.put(rolled_back(a_run())), Limits())
    ends = "2026-03-05T16:00:00Z"
    parts = {
        "digest": run.spec.digest,
        "requester": "dana",
        "expires": "2026-03-05T16:00:00.000000Z",
        **altered,
    }
    text = signed_text(
        "approve",
        f"{run.namespace}/{run.name}",
        *(parts[name] for name in ("digest", "requester", "expires")),
    )
    word = asked(cli, run, "of-dana", signature=key.sign(text), expiresAt=ends)
    word = {**word, "counts": True, "present": True, "at": "2026-03-05T00:00:00Z"}
    return recorded(run, tmp_path / "present.jsonl", approvals=[word])


def people_of(tmp_path: Path, key: SecurityKey) -> str:
    path = tmp_path / "people.yaml"
    path.write_text(json.dumps({"people": [{"name": "dana", "usernames": ["dana"], "keys": [key.line]}]}))
    return str(path)


def test_the_touch_of_a_key_that_an_approval_counts_by_is_checked_again(cli: Bed, tmp_path: Path) -> None:
    key = SecurityKey()
    path = present(cli, tmp_path, key)
    assert audit(cli, path, "verify", "--requests", "--people", people_of(tmp_path, key)).code == 0
    blind = audit(cli, path, "verify", "--requests")
    assert (blind.code, "(--people)" in blind.out) == (1, True), blind.out
    lost = audit(cli, path, "verify", "--requests", "--people", str(tmp_path / "none.yaml"))
    assert (lost.code, "cannot be read" in lost.err) == (2, True), lost.err


@pytest.mark.parametrize(
    ("flags", "altered", "says"),
    [
        (0, {}, "the key was not touched"),
        (1, {"requester": "sam"}, "not of this text"),
        (1, {"digest": "sha256:" + "0" * 64}, "not of this text"),
        (1, {"expires": ""}, "not of this text"),
    ],
)
def test_a_touch_that_was_for_something_else_is_found(
    cli: Bed, tmp_path: Path, flags: int, altered: dict[str, str], says: str
) -> None:
    key = SecurityKey(flags=flags)
    path = present(cli, tmp_path, key, **altered)
    said = audit(cli, path, "verify", "--requests", "--people", people_of(tmp_path, key))
    assert (said.code, says in said.out) == (1, True), said.out


def test_the_touch_of_a_key_that_is_another_persons_is_found(cli: Bed, tmp_path: Path) -> None:
    path = present(cli, tmp_path, SecurityKey())
    said = audit(cli, path, "verify", "--requests", "--people", people_of(tmp_path, SecurityKey()))
    assert (said.code, "none of this person's" in said.out) == (1, True), said.out


def test_without_an_address_the_runs_of_the_cluster_are_listed_and_called_no_proof(cli: Bed) -> None:
    cli.put(rolled_back(a_run()))
    said = cli.canary("audit", "list")
    assert said.code == 0
    assert "no chain proves them" in said.err
    assert "RollBack" in said.out
    assert [line.split()[0] for line in said.out.splitlines()[1:-1]] == ["-", "-", "-"]


def test_the_address_may_come_from_the_environment(
    cli: Bed, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, f"file:{path}")
    assert cli.canary("audit", "verify").out.startswith("4 records hold")


@pytest.mark.parametrize("words", [["--from", "yesterday"], ["--kind", "Nothing"], ["-o", "html"]])
def test_a_flag_that_cannot_be_read_says_what_is_meant(cli: Bed, path: Path, words: list[str]) -> None:
    assert audit(cli, path, "export", *words).code == 2
