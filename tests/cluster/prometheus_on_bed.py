"""A real Prometheus and a real Alertmanager beside a bed, for the pods of one namespace.

Debian's Prometheus cannot ask a Kubernetes API server for pods, so `Discovery` writes them into a file for it.
"""

import json
import threading
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster_bed import HOST, Bed
from conftest import require_program
from servers import Server
from shop_on_bed import POD_PORT

from canary.errors import CanaryError
from canary.kube.resources import PODS

Object = dict[str, Any]
PROMETHEUS_URL, ALERTMANAGER_URL = f"http://{HOST}:29090", f"http://{HOST}:29093"
SOURCE = {"prometheus": {"address": PROMETHEUS_URL, "every": "1s"}}
START_SECONDS = 60.0
DISCOVERY_SECONDS = 0.5
CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- {job_name: pods, file_sd_configs: [{files: ['%s']}]}
"""
ROUTES = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


class Discovery:
    """Keeps a file of the pods of a namespace that have an address, from its making until `close`."""

    def __init__(self, bed: Bed, namespace: str, path: Path) -> None:
        self._client = bed.client("admin")
        self._namespace, self._path = namespace, path
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="discovery", daemon=True)
        self._write([])
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._closing.wait(DISCOVERY_SECONDS):
            with suppress(CanaryError):
                self._write(self._client.list(PODS, self._namespace))

    def _write(self, pods: list[Object]) -> None:
        targets = [
            {
                "targets": [f"{pod['status']['podIP']}:{POD_PORT}"],
                "labels": {"namespace": self._namespace, "pod": pod["metadata"]["name"]},
            }
            for pod in pods
            if (pod.get("status") or {}).get("podIP")
        ]
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(targets))
        draft.rename(self._path)


@contextmanager
def prometheus_open(bed: Bed, namespace: str) -> Generator[Server]:
    """Run a Prometheus that scrapes the pods of a namespace every second."""
    with ExitStack() as ending:
        targets, config = bed.folder / f"targets-{namespace}.json", bed.folder / f"prometheus-{namespace}.yml"
        ending.callback(Discovery(bed, namespace, targets).close)
        config.write_text(CONFIG % targets)
        flags = [f"--config.file={config}", f"--storage.tsdb.path={bed.folder / f'prometheus-{namespace}'}"]
        yield _started(bed, ending, "prometheus", PROMETHEUS_URL, *flags)


@contextmanager
def alertmanager_open(bed: Bed) -> Generator[Server]:
    with ExitStack() as ending:
        config = bed.folder / "alertmanager.yml"
        config.write_text(ROUTES)
        flags = [f"--config.file={config}", f"--storage.path={bed.folder / 'alertmanager'}"]
        name = "prometheus-alertmanager"
        yield _started(bed, ending, name, ALERTMANAGER_URL, *flags, "--cluster.listen-address=")


def _started(bed: Bed, ending: ExitStack, name: str, url: str, *flags: str) -> Server:
    listen = f"--web.listen-address={url.removeprefix('http://')}"
    command = [require_program(name), *flags, listen]
    server = Server(name, command, bed.folder / f"{name}.log", {"HOME": str(bed.folder)})
    ending.callback(server.stop)
    server.wait_until(lambda: _ready(url), START_SECONDS)
    return server


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2.0) as found:
            return found.status == 200
    except OSError:
        return False


def answer(url: str) -> Any:
    """Return the JSON behind a URL."""
    with urllib.request.urlopen(url, timeout=5.0) as found:
        return json.load(found)


def scraped_pods() -> int:
    """Return how many pods Prometheus has scraped twice or more in the last ten seconds."""
    query = "count(count_over_time(up[10s])>=2)"
    found = answer(f"{PROMETHEUS_URL}/api/v1/query?query={query}")["data"]["result"]
    return int(found[0]["value"][1]) if found else 0
