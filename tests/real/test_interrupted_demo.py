"""Ctrl-C in the middle of the demo: everything that it started has ended when it has."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 30.0
MARK = "CANARY_TEST_MARK"


def processes_marked(mark: str) -> list[str]:
    """Return the command lines of living processes that inherited the mark."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:
            continue  # ended meanwhile, or not ours to read
        if f"{MARK}={mark}".encode() in environment.split(b"\0"):
            found.append(command.replace(b"\0", b" ").decode())
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to see processes")
def test_an_interrupted_demo_leaves_no_process_behind() -> None:
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "canary.cli.main", "demo", "--headless", "--rate", "20"]
    demo = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, MARK: mark}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert demo.stdout is not None
        assert any(b"change arrives" in line for line in demo.stdout), "the change never arrived"
        assert (
            len(processes_marked(mark)) >= 5
        )  # the demo, the shop, the gateway, the customers, the controller
        demo.send_signal(signal.SIGINT)
        rest = demo.communicate(timeout=LIMIT_SECONDS)[0]
        assert demo.returncode == 130
        assert b"Traceback" not in rest
        assert processes_marked(mark) == []
    finally:
        demo.kill()
        demo.wait()
