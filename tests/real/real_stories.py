"""Stories with real processes, played at the same time: each has a stage, customers and a controller of its own.

A story acts and notes what the world looked like; the tests of `test_controller_process.py` read the notes. Stable
pods are watched for 30 s before any slice, so playing the stories one after the other would take minutes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml

from canary.api.reasons import Phase
from canary.core.decision import Run
from canary.kube.resources import CANARYREQUESTS, CANARYRUNS, DEPLOYMENTS, EVENTS, LEASES
from canary.lab import manifests
from canary.lab.apiserver.history import Event
from canary.lab.contracts.receiver import Received
from canary.lab.demo.stage import SYSTEM, Stage, StageSetting
from canary.lab.shop.server import Truth

ROOT = Path(__file__).resolve().parents[2]
PROGRAM_SECONDS = 30.0
SLICE_SECONDS, END_SECONDS = 60.0, 60.0
UNDISTURBED_SECONDS = 30.0  # more than a heartbeat may be late
COLLAPSE = {"SHOP_BUG": "order-collapse", "SHOP_BUG_DROP": "0.99"}
BUSY, CALM = 60.0, 20.0  # orders a second
FIVE_PERCENT = {"steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}]}
ONE_PERCENT = {"steps": [{"weight": "1%"}, {"weight": "100%", "approval": True}]}
DEPLOYMENT = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What a program answered."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Write:
    """A write of the API server, in order: of what kind, and what the route gave the side from then on."""

    kind: str
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class Notes:
    """What stood in the world when a story was over."""

    run: Run
    truths: list[Truth]
    weights: list[int]
    zeroed_at: float
    pages: list[Received]
    log: str
    stored: dict[str, list[Object]] = field(default_factory=dict[str, list[Object]])
    said: dict[str, Done] = field(default_factory=dict[str, Done])
    writes: list[Write] = field(default_factory=list[Write])

    def new_version(self) -> list[Truth]:
        return [truth for truth in self.truths if truth.version == manifests.NEW]

    def page_bodies(self) -> list[Object]:
        return [json.loads(page.body) for page in self.pages]


class Play:
    """One stage with everything that a story does on it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.said: dict[str, Done] = {}
        self.stored: dict[str, list[Object]] = {}
        self.writes: list[Write] = []
        stage.cluster.store.subscribe(self._note)

    def _note(self, event: Event) -> None:
        weights = self.stage.weights
        self.writes.append(Write(event.kind.name, weights[-1].weight_ppm if weights else 0))

    def phase(self) -> Phase | None:
        run = self.stage.latest_run()
        return run.status.phase if run is not None else None

    def reach(self, phase: Phase, limit_seconds: float = END_SECONDS) -> None:
        self.stage.until(lambda: self.phase() is phase, f"the run is {phase.value}", limit_seconds)

    def reach_slice(self) -> None:
        self.stage.until(lambda: self.weight_ppm() > 0, "the first slice is written", SLICE_SECONDS)

    def weight_ppm(self) -> int:
        return self.stage.weights[-1].weight_ppm if self.stage.weights else 0

    def await_page(self, opening: str) -> None:
        def came() -> bool:
            return any(json.loads(page.body)["data"]["opening"] == opening for page in self._pages())

        self.stage.until(came, f"the page {opening!r} came")

    def _pages(self) -> list[Received]:
        return list(self.stage.pages.received)

    def canary(self, user: str, *words: str) -> Done:
        """Run the command line as its own process, under a user's kubeconfig."""
        return program([sys.executable, "-m", "canary.cli.main", *words], self.environment(user))

    def environment(self, user: str) -> dict[str, str]:
        home = str(self.stage.folder)
        return {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(self.stage.kubeconfig(user))}

    def telemetry(self) -> str:
        """Return where the newest controller said that its telemetry is."""
        told: list[str] = []

        def found() -> bool:
            told[:] = [line for line in self.log().splitlines() if line.startswith('{"telemetry"')]
            return bool(told)

        self.stage.until(found, "the controller says where its telemetry is")
        return json.loads(told[-1])["telemetry"]

    def log(self) -> str:
        return (self.stage.folder / "controller.log").read_text(errors="replace")

    def keep(self, name: str, objects: Sequence[Object]) -> None:
        self.stored[name] = [dict(each) for each in objects]

    def notes(self) -> Notes:
        run = self.stage.latest_run()
        assert run is not None, "a story without a run"
        admin, space = self.stage.admin, manifests.NAMESPACE
        self.keep("deployment", [admin.get(DEPLOYMENT) or {}])
        self.keep("events", admin.list(EVENTS, space))
        self.keep("requests", admin.list(CANARYREQUESTS, space))
        self.keep("runs", admin.list(CANARYRUNS, space))
        written = self.stage.weights
        raised = [index for index, write in enumerate(written) if write.weight_ppm > 0]
        after = [write.at for write in written[raised[-1] :] if write.weight_ppm == 0] if raised else []
        return Notes(
            run=run,
            truths=self.stage.truth(),
            weights=[write.weight_ppm for write in written],
            zeroed_at=after[0] if after else 0.0,
            pages=self._pages(),
            log=self.log(),
            stored=self.stored,
            said=self.said,
            writes=list(self.writes),
        )


@contextmanager
def playing(seed: int, rate: float, policy: Object) -> Iterator[Play]:
    stage = Stage(StageSetting(seed=seed, orders_per_second=rate, policy=policy))
    try:
        play = Play(stage)
        stage.open_shop()
        yield play
    finally:
        stage.close()


def program(command: Sequence[str], environment: dict[str, str], given: str = "") -> Done:
    done = subprocess.run(
        list(command),
        input=given,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def fetch(url: str) -> Done:
    """Get a page; the code is the HTTP status."""
    try:
        with urllib.request.urlopen(url, timeout=PROGRAM_SECONDS) as answer:
            return Done(answer.status, answer.read().decode(), "")
    except urllib.error.HTTPError as error:
        return Done(error.code, "", error.read().decode())


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
