"""The stage of one story with real processes: its customers, what is done there, and notes of what was seen."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canary.api.reasons import Phase
from canary.core.decision import Run
from canary.kube.resources import CANARYREQUESTS, CANARYRUNS, DEPLOYMENTS, EVENTS
from canary.lab import manifests
from canary.lab.apiserver.history import Event
from canary.lab.contracts.receiver import Received
from canary.lab.demo.stage import Stage, StageSetting
from canary.lab.shop.server import Truth

ROOT = Path(__file__).resolve().parents[2]
PROGRAM_SECONDS = 30.0
SLICE_SECONDS, END_SECONDS = 60.0, 60.0
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
