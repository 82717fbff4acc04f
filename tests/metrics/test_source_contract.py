"""Both built-in sources keep the contract of sources; the Prometheus one against a real Prometheus."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from conftest import require_program
from metrics_fault_server import FaultServer, serving, text
from prometheus_server import prometheus

from canary.clock import WallClock
from canary.core.evidence import Missing
from canary.lab.contracts.source import CASES, violations
from canary.metrics.prometheus import PrometheusSettings, PrometheusSource
from canary.metrics.scrape import ScrapeSource
from canary.metrics.source import PodTarget, Source, Specs


class ScrapedWorld:
    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    def pods(self, expositions: Mapping[str, str]) -> dict[str, FaultServer]:
        return {name: self.stack.enter_context(serving(text(body))) for name, body in expositions.items()}

    def targets(self, pods: Mapping[str, FaultServer]) -> list[PodTarget]:
        return [
            PodTarget(name, name, "shop", "127.0.0.1", pod.port, "/metrics", True, 1000.0)
            for name, pod in pods.items()
        ]

    def serve(self, expositions: Mapping[str, str]) -> tuple[Source, Sequence[PodTarget], float]:
        pods = self.pods(expositions)
        return ScrapeSource(WallClock()), self.targets(pods), time.time()


class PrometheusWorld(ScrapedWorld):
    def __init__(self, stack: ExitStack, program: str, folder: Path) -> None:
        super().__init__(stack)
        self.program = program
        self.folder = folder

    def serve(self, expositions: Mapping[str, str]) -> tuple[Source, Sequence[PodTarget], float]:
        since = time.time()
        pods = self.pods(expositions)
        addresses = {name: f"127.0.0.1:{pod.port}" for name, pod in pods.items()}
        url = self.stack.enter_context(prometheus(self.program, self.folder, addresses))
        return (
            PrometheusSource(PrometheusSettings(url, every_seconds=1.0), WallClock()),
            self.targets(pods),
            since,
        )


def test_the_direct_scrape_keeps_the_contract() -> None:
    with ExitStack() as stack:
        assert violations(ScrapedWorld(stack)) == []


def test_the_prometheus_source_keeps_the_contract_against_a_real_prometheus(tmp_path: Path) -> None:
    program = require_program("prometheus")
    with ExitStack() as stack:
        assert violations(PrometheusWorld(stack, program, tmp_path)) == []


def test_a_source_that_turns_gaps_into_zeros_breaks_the_contract() -> None:
    class Zeros(ScrapeSource):
        def read(
            self, targets: Sequence[PodTarget], specs: Specs, *, within_seconds: float
        ) -> Mapping[str, object]:  # type: ignore[override]
            read = super().read(targets, specs, within_seconds=within_seconds)
            zeros = dict.fromkeys(specs, 0.0)
            return {
                target.uid: target.reading(time.time(), zeros)
                if isinstance(read[target.uid], Missing)
                else read[target.uid]
                for target in targets
            }

    class World(ScrapedWorld):
        def serve(self, expositions: Mapping[str, str]) -> tuple[Source, Sequence[PodTarget], float]:
            return Zeros(WallClock()), self.targets(self.pods(expositions)), time.time()  # type: ignore[return-value]

    with ExitStack() as stack:
        broken = {sentence.split(":")[0] for sentence in violations(World(stack))}
    assert broken == {case.name for case in CASES if case.missing}
