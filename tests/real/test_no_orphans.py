"""A demo that is killed, and so cannot tidy up, leaves no controller behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import time
from canary.lab.demo.stage import Stage, StageSetting
stage = Stage(StageSetting(orders_per_second=10.0))
stage.start_controller()
print(stage.controller_pid, flush=True)
time.sleep(60)
"""
WAIT_SECONDS = 30.0


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_controller_ends_with_its_parent_even_if_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        controller = int(parent.stdout.readline())
        time.sleep(2.0)
        assert is_alive(controller)
    finally:
        parent.kill()
        parent.wait(WAIT_SECONDS)
        if parent.stdout is not None:
            parent.stdout.close()
    end = time.monotonic() + WAIT_SECONDS
    while is_alive(controller) and time.monotonic() < end:
        time.sleep(0.1)
    still_there = is_alive(controller)
    if still_there:
        os.kill(controller, 9)
    assert not still_there
