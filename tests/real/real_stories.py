"""Stories with real processes, played at the same time: each has a stage, customers and a controller of its own.

A story acts and notes what the world looked like; the tests of `test_controller_process.py` read the notes. Stable
pods are watched for 30 s before any slice, so playing the stories one after the other would take minutes.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import yaml
from real_play import (
    DEPLOYMENT,
    END_SECONDS,
    PROGRAM_SECONDS,
    SLICE_SECONDS,
    Done,
    Notes,
    Play,
    fetch,
    playing,
    program,
)

from canary.api.reasons import Phase
from canary.kube.resources import CANARYRUNS, LEASES
from canary.lab import manifests
from canary.lab.apiserver.history import Event
from canary.lab.demo.stage import SYSTEM

UNDISTURBED_SECONDS = 30.0  # more than a heartbeat may be late
COLLAPSE = {"SHOP_BUG": "order-collapse", "SHOP_BUG_DROP": "0.99"}
BUSY, CALM = 60.0, 20.0  # orders a second
FIVE_PERCENT = {"steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}]}
ONE_PERCENT = {"steps": [{"weight": "1%"}, {"weight": "100%", "approval": True}]}


# -- a collapse, watched with kubectl --------------------------------------------------------------------------------


def collapse(seed: int) -> Notes:
    """A change whose orders vanish from its first request on; the controller is never disturbed."""
    with playing(seed, BUSY, FIVE_PERCENT) as play:
        stage = play.stage
        play.keep("before", [stage.admin.get(DEPLOYMENT) or {}])
        stage.push(COLLAPSE)
        play.keep("pushed", [stage.admin.get(DEPLOYMENT) or {}])
        play.reach(Phase.PREPARING)
        with watched(play):
            apply_again(play)
            play.reach_slice()
            play.said["metrics under way"] = metrics_with(play, 'phase="Progressing"')
            play.reach(Phase.ROLLED_BACK)
            play.await_page("CUSTOMERS SAFE")
        ask_kubectl(play)
        for path in ("metrics", "healthz", "readyz"):
            play.said[path] = fetch(f"{play.telemetry()}/{path}")
        code = stage.stop_controller()
        play.said["SIGTERM"] = Done(-1 if code is None else code, play.log(), "")
        play.keep("leases", stage.admin.list(LEASES, SYSTEM))
        return play.notes()


def metrics_with(play: Play, label: str) -> Done:
    """Return the controller's metrics as soon as a series with this label stands there."""
    told: list[Done] = []

    def shown() -> bool:
        told[:] = [fetch(f"{play.telemetry()}/metrics")]
        return label in told[0].out

    play.stage.until(shown, f"the metrics show {label}")
    return told[0]


def kubectl(play: Play, *words: str, user: str = "dana", given: str = "") -> Done:
    found = shutil.which("kubectl")
    if found is None:
        return Done(127, "", "kubectl is not installed")
    return program([found, *words], play.environment(user), given)


@contextmanager
def watched(play: Play) -> Iterator[None]:
    """Follow the run with `kubectl get -w` while it goes on."""
    found = shutil.which("kubectl")
    if found is None:
        yield
        return
    said = play.stage.folder / "watched"
    with said.open("w") as out:
        command = [found, "get", "canaryruns", "-w"]
        watch = subprocess.Popen(command, stdout=out, stderr=out, env=play.environment("dana"))
        try:
            yield
        finally:
            watch.terminate()
            watch.wait(PROGRAM_SECONDS)
    play.said["get -w"] = Done(0, said.read_text(), "")


def apply_again(play: Play) -> None:
    """Apply the pushed manifest once more, as a pipeline does that knows nothing of the hold; then let go of it."""
    stored = play.stage.admin.get(DEPLOYMENT) or {}
    spec = {name: value for name, value in stored["spec"].items() if name != "paused"}
    metadata = {name: stored["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    words = ("apply", "--validate=false", "-f", "-")
    play.said["apply"] = kubectl(play, *words, given=yaml.safe_dump(manifest))
    play.keep("applied", [play.stage.admin.get(DEPLOYMENT) or {}])
    released = {**manifest, "spec": {**spec, "paused": False}}
    play.said["release"] = kubectl(play, *words, given=yaml.safe_dump(released))


def ask_kubectl(play: Play) -> None:
    run = play.stage.latest_run()
    assert run is not None
    play.said["get"] = kubectl(play, "get", "canaryruns")
    play.said["describe"] = kubectl(play, "describe", "canaryrun", run.name)


# -- a controller that is killed -------------------------------------------------------------------------------------


Kill = Callable[[Play], None]


def killed(seed: int, kills: Sequence[Kill]) -> Notes:
    """A collapse whose controller is killed at these moments, each time started again, and then left alone."""
    with playing(seed, BUSY, FIVE_PERCENT) as play:
        play.stage.push(COLLAPSE)
        for kill in kills:
            kill(play)
            play.stage.start_controller()
        play.reach(Phase.ROLLED_BACK)
        play.await_page("CUSTOMERS SAFE")
        return play.notes()


def in_preparing(seed: int) -> Kill:
    pause = Random(seed).uniform(1.0, 15.0)

    def kill(play: Play) -> None:
        play.reach(Phase.PREPARING)
        time.sleep(pause)
        play.stage.kill_controller()

    return kill


def at_write(what: str, holds: Callable[[Play, Event], bool]) -> Kill:
    """Kill in the very write for which this holds: it is stored, and the controller never hears its answer."""

    def kill(play: Play) -> None:
        happened = threading.Event()

        def strike(event: Event) -> None:  # under the store's lock: one write at a time
            if not happened.is_set() and holds(play, event):
                play.stage.kill_controller()
                happened.set()

        play.stage.cluster.store.subscribe(strike)
        play.stage.until(happened.is_set, f"a write to be killed at: {what}", SLICE_SECONDS)

    return kill


def slice_is_raised(play: Play, event: Event) -> bool:
    return event.kind.name == "HTTPRoute" and play.weight_ppm() > 0


def evidence_grew(play: Play, event: Event) -> bool:
    if event.kind.name != "CanaryRun":
        return False
    status = event.obj.get("status") or {}
    evidence = (status.get("analysis") or {}).get("evidenceLog10") or "-inf"
    return status.get("phase") == Phase.PROGRESSING and float(evidence) > 0.3


def route_is_zeroed(play: Play, event: Event) -> bool:
    weights = [write.weight_ppm for write in play.stage.weights]
    return event.kind.name == "HTTPRoute" and any(weights) and weights[-1] == 0


def decision_is_stored(play: Play, event: Event) -> bool:
    return (
        event.kind.name == "CanaryRun" and (event.obj.get("status") or {}).get("phase") == Phase.ROLLING_BACK
    )


# -- a controller that is dead when it is needed ---------------------------------------------------------------------


def aborted(seed: int, user: str, *how: str) -> Notes:
    """A healthy change at 1 % whose controller dies; a person or an agent takes it back; later it lives again."""
    with playing(seed, CALM, ONE_PERCENT) as play:
        play.stage.push({})
        play.reach_slice()
        promote = ("promote", "checkout", "--yes", "--reason", "it looks good to me so far")
        play.said["promote"] = play.canary(user, *promote) if user == "agent" else Done(0, "", "")
        play.stage.kill_controller()
        play.said["abort"] = play.canary(user, "abort", "checkout", "--reason", "no", "-o", "json", *how)
        play.keep("dead", play.stage.admin.list(CANARYRUNS, manifests.NAMESPACE))
        play.stage.start_controller()
        play.reach(Phase.ABORTED)
        return play.notes()


# -- a controller that nobody brings back ----------------------------------------------------------------------------


def guarded(seed: int) -> Notes:
    """A healthy change under a sentinel's eyes; its controller is frozen and wakes up again, and then it is killed."""
    with playing(seed, CALM, FIVE_PERCENT) as play, sentinel(play) as said:
        play.stage.push({})
        play.reach_slice()
        time.sleep(UNDISTURBED_SECONDS)
        play.said["undisturbed"] = Done(0, said.read_text(), "")
        pid = play.stage.controller_pid
        assert pid is not None
        zeroed_within(play, "frozen", lambda: os.kill(pid, signal.SIGSTOP))
        os.kill(pid, signal.SIGCONT)
        play.reach_slice()
        zeroed_within(play, "killed", play.stage.kill_controller)
        play.said["sentinel"] = Done(0, said.read_text(), "")
        return play.notes()


def zeroed_within(play: Play, name: str, deed: Callable[[], None]) -> None:
    """Do something to the controller, and note after how many seconds the slice was gone."""
    began = time.time()
    deed()
    play.stage.until(lambda: play.weight_ppm() == 0, "the sentinel took the slice away", END_SECONDS)
    play.said[name] = Done(0, str(play.stage.weights[-1].at - began), "")


@contextmanager
def sentinel(play: Play) -> Iterator[Path]:
    """Run the sentinel as a process of its own; yields its log."""
    log = play.stage.folder / "sentinel.log"
    command = [
        sys.executable,
        "-m",
        "canary.sentinel",
        "--kubeconfig",
        str(play.stage.kubeconfig("sentinel")),
    ]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield log
        finally:
            process.terminate()
            play.said["sentinel's end"] = Done(process.wait(PROGRAM_SECONDS), log.read_text(), "")


# -- all at once -----------------------------------------------------------------------------------------------------


STORIES: dict[str, Callable[[], Notes]] = {
    "collapse": lambda: collapse(101),
    "killed while preparing, and at the decision": lambda: killed(
        102, (in_preparing(102), at_write("the stored decision", decision_is_stored))
    ),
    "killed at the first slice": lambda: killed(103, (at_write("the first slice", slice_is_raised),)),
    "killed while evidence grows": lambda: killed(104, (at_write("evidence", evidence_grew),)),
    "killed at the rollback write": lambda: killed(105, (at_write("the rollback write", route_is_zeroed),)),
    "aborted by dana": lambda: aborted(106, "dana"),
    "aborted by an agent": lambda: aborted(107, "agent", "--now"),
    "left to the sentinel": lambda: guarded(108),
}


class Playbill:
    """All stories under way; `notes` waits for one."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(len(STORIES), thread_name_prefix="story")
        self._playing: dict[str, Future[Notes]] = {
            name: self._pool.submit(story) for name, story in STORIES.items()
        }

    def notes(self, name: str) -> Notes:
        return self._playing[name].result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
