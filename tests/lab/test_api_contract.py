"""The API contract, against the embedded server: in process, and over HTTPS through the product's own transport."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from timed_kubelet import TimedKubelet

from canary.kube.http_transport import from_kubeconfig
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.serving import HttpServer
from canary.lab.cluster import RealTimeCluster
from canary.lab.contracts.api import API_CHECKS, Api, Check
from canary.lab.contracts.workload import WORKLOAD_CHECKS

ALICE = User("alice", ("devs",))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealTimeCluster]:
    cluster = RealTimeCluster(TimedKubelet)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def in_process(cluster: RealTimeCluster) -> Api:
    return Api(cluster.transport(ALICE), _namespace(cluster, "direct"))


@pytest.fixture(scope="module")
def over_https(cluster: RealTimeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    server = HttpServer(cluster.server, {"secret": ALICE})
    path = server.kubeconfig(Path(tmp_path_factory.mktemp("lab"), "config"), "secret")
    transport = from_kubeconfig(str(path))
    yield Api(transport, _namespace(cluster, "wire"))
    transport.close()
    server.stop()


def _namespace(cluster: RealTimeCluster, name: str) -> str:
    cluster.store.create(cluster.store.kinds.named("Namespace"), {"metadata": {"name": name}})
    return name


@pytest.mark.parametrize("check", API_CHECKS + WORKLOAD_CHECKS, ids=lambda check: check.__name__)
def test_the_embedded_server_keeps_the_contract_in_process(check: Check, in_process: Api) -> None:
    check(in_process)


@pytest.mark.parametrize("check", API_CHECKS + WORKLOAD_CHECKS, ids=lambda check: check.__name__)
def test_the_embedded_server_keeps_the_contract_over_https(check: Check, over_https: Api) -> None:
    check(over_https)
