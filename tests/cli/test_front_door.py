"""The front door: help at once, every verb with its flags, the terminal's rules, and live views in a real terminal."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from cli_bed import Bed, Said
from cli_reference import reference
from run_story import POLICY_SPEC, exposed, rolled_back

from canary import __version__
from canary.api.reasons import API_VERSION
from canary.cli.exits import Exit, exit_of_error
from canary.cli.main import GROUPS, VERBS, load, main, parser_of, usage
from canary.errors import ConflictError, InvariantError, RefusedError, UnavailableError

pytest_plugins = ["cli_fixtures"]
HEAVY = ("kubernetes", "pydantic", "rich", "jinja2", "requests", "urllib3", "cryptography")
ENTRY = "import sys; from canary.cli.main import main; code = main(sys.argv[1:]); "
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
LIMIT_SECONDS = 30


def in_process_of_its_own(*words: str, after: str = "sys.exit(code)", **env: str) -> Said:
    environment = {**{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}, **env}
    command = [sys.executable, "-c", ENTRY + after, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_SECONDS, env=environment, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


def imported(*words: str) -> set[str]:
    said = in_process_of_its_own(*words, after=f"print('@', *({set(HEAVY)!r} & set(sys.modules)))")
    return set(said.out.splitlines()[-1].split()[1:])


def test_help_imports_nothing_heavy():
    assert imported("--help") == set()


def test_the_verbs_that_people_wait_for_import_nothing_heavy(cli: Bed):
    cli.put(rolled_back())
    config = ("--kubeconfig", cli.configs["dana"])
    for words in (("status", "checkout"), ("abort", "checkout"), ("list", "-A"), ("explain", "checkout")):
        assert imported(*words, *config) == set(), words


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: canary {verb}" in capsys.readouterr().out


def test_help_shows_every_verb_in_eighty_columns():
    text = usage()
    assert all(f"  {verb} " in text for verb in VERBS)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert {verb.group for verb in VERBS.values()} == set(GROUPS)


def test_a_verb_that_does_not_exist_is_answered_with_the_nearest(capsys):
    assert main(["abrot"]) == Exit.USAGE
    assert "Did you mean `canary abort`?" in capsys.readouterr().err


def test_a_flag_is_never_guessed_from_its_beginning(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["abort", "--no"])
    assert stop.value.code == Exit.USAGE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("x"), 2),
        (RefusedError("x", code="CAN-1203"), 4),
        (RefusedError("x", code="CAN-5001"), 6),
        (UnavailableError("x"), 1),
        (ConflictError("x"), 1),
        (InvariantError("x"), 70),
    ],
)
def test_each_error_ends_with_its_own_code(error, code):
    assert exit_of_error(error) == code


def test_version_asks_no_cluster_where_it_need_not(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"canary      {__version__}\n"


def test_version_tells_the_cluster(cli: Bed):
    said = cli.canary("version")
    assert said.code == 0
    assert said.out.splitlines()[1] == "controller  not found"
    assert said.out.splitlines()[2].startswith("cluster     v1.")


def test_a_controller_that_runs_outside_of_the_cluster_is_known_by_its_heartbeat(cli: Bed):
    cli.heartbeat(200)
    line = cli.canary("version").out.splitlines()[1]
    assert line == "controller  version not told, last heard of 3 min ago"


def test_crds_come_as_yaml_that_a_server_accepts(capsys):
    import yaml

    assert main(["crd"]) == 0
    kinds = [crd["spec"]["names"]["kind"] for crd in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["CanaryPolicy", "CanaryRun", "CanaryRequest", "SafetyPolicy"]


def test_a_reader_of_verdicts_may_have_read_enough(tmp_path):
    policy, samples = tmp_path / "policy.yaml", tmp_path / "samples.jsonl"
    spec = {"target": {"name": "checkout"}, "analysis": POLICY_SPEC["analysis"]}
    policy.write_text(
        json.dumps(
            {"apiVersion": API_VERSION, "kind": "CanaryPolicy", "metadata": {"name": "x"}, "spec": spec}
        )
    )
    samples.write_text('{"t": 1, "weight_ppm": 10000, "canary": {}, "baseline": {}}\n')
    program = f"{sys.executable} -c {ENTRY + 'sys.exit(code)'!r}"
    command = f"(sleep 0.2; {program} judge {policy} {samples}; echo $? >&2) | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert done.stderr == "0\n"


def test_a_reader_that_has_read_enough_is_no_error():
    command = f"{sys.executable} -c {ENTRY + 'sys.exit(code)'!r} crd | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "---\n", "")


def test_the_reference_is_what_the_program_says():
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "write it anew: make docs"


def test_the_reference_has_every_flag_of_every_verb():
    text = reference()
    for verb in VERBS:
        for action in parser_of(verb, load(verb))._actions:
            assert all(option in text for option in action.option_strings if option not in ("-h", "--help"))


# -- in a terminal ---------------------------------------------------------------------------------------------------


class Screen:
    """A process in a terminal of 80 columns and 24 rows."""

    def __init__(self, *words: str, **env: str) -> None:
        self.text = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", **env})
            os.execv(sys.executable, [sys.executable, "-m", "canary.cli.main", *words])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read_until(self, words: str) -> bool:
        """Read until the words were printed; tell whether they were."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while words not in self.text and time.monotonic() < deadline:
            if not self._read():
                break
        return words in self.text

    def end(self) -> int:
        """Read to the end and return the exit code; a process that does not end is killed."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while self._read() and time.monotonic() < deadline:
            continue
        if time.monotonic() >= deadline:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._fd], [], [], 1.0)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65_536)
        except OSError:  # the other side is gone
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


def test_colour_is_for_terminals_that_want_it(cli: Bed):
    cli.put(rolled_back())
    words = ("status", "checkout", "--kubeconfig", cli.configs["dana"])
    coloured = Screen(*words)
    assert coloured.end() == 0
    assert "\x1b[32mCUSTOMERS SAFE" in coloured.text
    refused = Screen(*words, NO_COLOR="1")
    assert refused.end() == 0
    assert "\x1b[" not in refused.text
    assert "\x1b[" not in in_process_of_its_own(*words, TERM="xterm").out


def test_a_live_status_follows_the_run_to_its_end(cli: Bed):
    cli.put(exposed())
    screen = Screen("status", "-w", "--kubeconfig", cli.configs["dana"])
    assert screen.read_until("WATCHED: 1 % on v2.31.0"), screen.text
    cli.put(rolled_back())
    assert screen.end() == 0
    assert "ROLLED BACK after 15 s at 1 %" in screen.text


def test_a_live_list_goes_on_until_it_is_interrupted(cli: Bed):
    cli.put(exposed())
    screen = Screen("list", "-w", "--kubeconfig", cli.configs["dana"])
    assert screen.read_until("Progressing"), screen.text
    cli.put(rolled_back())
    assert screen.read_until("RolledBack"), screen.text
    screen.interrupt()
    assert screen.end() == Exit.INTERRUPTED
    assert "what runs in the cluster goes on" in screen.text


def test_in_a_pipe_a_watch_prints_each_change_once(cli: Bed):
    cli.put(rolled_back())
    said = cli.canary("status", "checkout", "-w")
    assert said.code == 0
    assert said.out.count("CUSTOMERS SAFE") == 1


def test_a_question_is_asked_on_a_terminal_and_no_is_the_default(cli: Bed):
    cli.put(exposed())
    words = ("promote", "checkout", "--reason", "seen it", "--kubeconfig", cli.configs["dana"])
    screen = Screen(*words)
    assert screen.read_until("Continue? [y/N]"), screen.text
    os.write(screen._fd, b"\n")
    assert screen.end() == Exit.USAGE
    assert "nothing was asked for" in screen.text
    assert cli.requests() == []
