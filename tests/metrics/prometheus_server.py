"""A real Prometheus for tests: it scrapes given addresses every second, and is gone afterwards."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 40.0


@contextmanager
def prometheus(program: str, folder: Path, pods: Mapping[str, str]) -> Iterator[str]:
    """Run `program`; `pods` are host:port by pod name, or namespace/name. Yield its URL once every pod was scraped."""
    targets = [{"targets": [address], "labels": _labels(name)} for name, address in pods.items()]
    (folder / "targets.json").write_text(json.dumps(targets), encoding="utf-8")
    config = (
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        f"- {{job_name: pods, file_sd_configs: [{{files: ['{folder}/targets.json']}}]}}\n"
    )
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (folder / "log").open("wb") as log:
        command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
        try:
            _wait(f"http://{address}", len(pods), process, folder / "log")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(folder / "data", ignore_errors=True)


def _labels(name: str) -> dict[str, str]:
    namespace, _, pod = name.rpartition("/")
    return {"namespace": namespace or "shop", "pod": pod}


def _wait(url: str, pods: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while _scraped_twice(url) < pods:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.1)


def _scraped_twice(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/v1/query?query=count_over_time(up[30s])>=2", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except OSError:
        return 0
    return len(found["data"]["result"])
