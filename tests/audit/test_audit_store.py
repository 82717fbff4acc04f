"""What a store acknowledged it has: torn, full, slow, shared, and with answers that get lost."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from object_server import Bucket, serving

from canary.audit.chain import MAX_RECORD_BYTES, Head, decoded, verify
from canary.audit.store import Book, FileStore, Store, open_store
from canary.errors import RefusedError, UnavailableError
from canary.lab.clock import SimClock
from canary.operator.auditor import REST_SECONDS, Scribe

Entry = dict[str, Any]


def entry(number: object, **more: object) -> Entry:
    return {"id": f"run/{number}", "kind": "Note", **more}


@pytest.fixture(params=["file", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "file":
        yield open_store(f"file:{tmp_path / 'audit.jsonl'}")
        return
    with serving(Bucket()) as bucket:
        yield open_store(bucket.url)


# -- both ------------------------------------------------------------------------------------------------------------


def test_what_is_written_can_be_read_and_verified(store: Store) -> None:
    book = Book(store)
    heads = [book.append(entry(number)) for number in range(7)]
    found = verify(store.lines(), heads)
    assert (found.records, found.head, found.fault) == (7, heads[-1], "")
    assert [decoded(line) for line in store.tail(2)] == [decoded(line) for line in [*store.lines()][-2:]]


def test_a_store_without_a_record_is_empty_and_well(store: Store) -> None:
    assert (list(store.lines()), store.tail(5), Book(store).head) == ([], [], Head())


def test_another_process_goes_on_where_the_first_one_ended(store: Store) -> None:
    first = Book(store).append(entry(1))
    second = Book(store).append(entry(2))
    assert second.sequence == first.sequence + 1
    assert not verify(store.lines(), [first, second]).fault


def test_an_entry_that_was_written_is_not_written_again_by_whoever_comes_next(store: Store) -> None:
    """A controller died between its record and its raise: the next one decides the same."""
    written = Book(store).append(entry(1))
    again = Book(store)
    assert again.append(entry(1, at="later")) == written
    assert again.append(entry(2)).sequence == 2
    assert len(list(store.lines())) == 2


def test_two_leaders_that_write_at_the_same_time_make_one_chain(store: Store) -> None:
    def write(who: str) -> None:
        book = Book(store)
        for number in range(10):
            for _ in range(20):
                try:
                    book.append(entry(f"{who}/{number}"))
                    break
                except UnavailableError:
                    time.sleep(0.01)

    threads = [threading.Thread(target=write, args=(who,)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(store.lines()).records == 20
    assert not verify(store.lines()).fault


def test_an_entry_that_is_too_large_is_refused_and_the_chain_goes_on(store: Store) -> None:
    book = Book(store)
    with pytest.raises(RefusedError, match="record 1 has more than"):
        book.append(entry(1, why="x" * MAX_RECORD_BYTES))
    assert book.append(entry(2)).sequence == 1


@pytest.mark.parametrize("address", ["", "audit.jsonl", "file:audit.jsonl", "s3://bucket", "/var/audit"])
def test_an_address_that_is_none_says_how_one_is_written(address: str) -> None:
    with pytest.raises(RefusedError, match="write file:/"):
        open_store(address)


# -- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_last_line_that_was_torn_by_a_crash_is_cut_off_and_the_chain_goes_on(
    tmp_path: Path, left: int
) -> None:
    path = tmp_path / "audit.jsonl"
    book = Book(FileStore(path))
    book.append(entry(1))
    whole = path.read_bytes()
    book.append(entry(2))
    path.write_bytes(path.read_bytes()[: len(whole) + left if left > 0 else left])
    assert Book(FileStore(path)).append(entry(2)).sequence == 2
    assert verify(FileStore(path).lines()).records == 2


def test_a_disk_that_is_full_is_an_error_and_leaves_the_chain_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    book = Book(FileStore(path))
    book.append(entry(1))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, hard))
    try:
        with pytest.raises(UnavailableError, match=r"audit\.jsonl"):
            book.append(entry(2))
        assert verify(FileStore(path).lines()).records == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert book.append(entry(2)).sequence == 2
    assert not verify(FileStore(path).lines()).fault


def test_a_file_that_lost_its_end_is_not_written_on_as_if_nothing_were(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    book = Book(FileStore(path))
    for number in range(3):
        book.append(entry(number))
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(UnavailableError, match="had 3 records and has 1"):
        book.append(entry(4))


def test_a_folder_that_is_gone_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="nowhere"):
        Book(FileStore(tmp_path / "nowhere" / "audit.jsonl")).append(entry(1))


def test_a_file_that_another_process_holds_is_waited_for_and_then_an_error(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    Book(FileStore(path)).append(entry(1))
    hold = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UnavailableError, match="held by another process"):
            Book(FileStore(path)).append(entry(2))
        holder.kill()
    assert Book(FileStore(path)).append(entry(2)).sequence == 2


def test_a_writer_that_is_killed_at_any_moment_leaves_what_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    program = (
        "import sys; from pathlib import Path; from canary.audit.store import Book, FileStore\n"
        "book = Book(FileStore(Path(sys.argv[1])))\n"
        "for number in range(100000):\n"
        "    print(book.append({'id': f'{sys.argv[2]}/{number}'}).sequence, flush=True)\n"
    )
    acknowledged = 0
    for turn in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(turn)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert writer.stdout is not None
        for _ in range(20 + turn):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        said = writer.communicate()[0].splitlines()
        acknowledged = max([acknowledged, *(int(line) for line in said if line.isdecimal())])
    assert Book(FileStore(path)).append(entry("last")).sequence > acknowledged
    assert not verify(FileStore(path).lines()).fault


# -- the bucket ------------------------------------------------------------------------------------------------------


def test_a_write_whose_answer_was_lost_is_found_and_not_done_twice() -> None:
    with serving(Bucket()) as bucket:
        book = Book(open_store(bucket.url))
        book.append(entry(1))
        bucket.loses_answers = 1
        with pytest.raises(UnavailableError):
            book.append(entry(2))
        assert book.append(entry(2)).sequence == 2
        assert verify(bucket.lines).records == 2


@pytest.mark.parametrize("status", [403, 500, 503, 507])
def test_a_bucket_that_takes_nothing_is_an_error_with_its_answer(status: int) -> None:
    with serving(Bucket()) as bucket:
        bucket.refuses = status
        with pytest.raises(UnavailableError, match=str(status)):
            Book(open_store(bucket.url)).append(entry(1))
        assert not bucket.objects


def test_the_token_is_a_mounted_file_and_stands_in_no_error(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("planted-token\n")
    with serving(Bucket()) as bucket:
        bucket.token = "planted-token"
        assert Book(open_store(bucket.url, token)).append(entry(1)).sequence == 1
        bucket.token = "another"
        with pytest.raises(UnavailableError, match="401") as caught:
            Book(open_store(bucket.url, token)).append(entry(2))
        assert "planted-token" not in str(caught.value)
    with pytest.raises(UnavailableError, match="no answer"):
        Book(open_store(bucket.url, token)).append(entry(2))


# -- the scribe ------------------------------------------------------------------------------------------------------


def test_a_slow_store_costs_one_wait_and_then_an_answer_at_once_until_it_is_back() -> None:
    with serving(Bucket()) as bucket:
        clock = SimClock()
        scribe = Scribe(Book(open_store(bucket.url)), clock, wait_seconds=0.3)
        bucket.delay_seconds = 1.0
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"did not answer within 0\.3 s"):
            scribe.write([entry(1)])
        for _ in range(100):
            with pytest.raises(UnavailableError):
                scribe.write([entry(1)])
        assert time.monotonic() - began < 0.9
        bucket.delay_seconds = 0.0
        time.sleep(1.0)  # what was under way is over
        clock.run_for(REST_SECONDS)
        assert scribe.write([entry(1)]).sequence == 1
        assert verify(bucket.lines).records == 1
        scribe.close()
