"""Wiring: the controller process, put together by hand in one visible place, and ended in order.

`main` is `canary run`. Nothing here decides anything; what is built here, and nothing else, can touch the cluster.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from canary import __version__
from canary.alerts.sink import Couriers, SinkConfig
from canary.alerts.sinks import open_sinks, subscriptions
from canary.api.people import People
from canary.api.policy import CanaryPolicySpec
from canary.audit.store import Book, Store, open_store
from canary.clock import Clock, WallClock
from canary.core.telling.page_texts import Place
from canary.errors import CanaryError, RefusedError
from canary.guard.fingerprint import READ_SECONDS, Fingerprint
from canary.guard.policy import Settings
from canary.kube import http_transport
from canary.kube.client import Client
from canary.kube.lease import ELECTION_LEASE, HEARTBEAT_LEASE, Elector, Heartbeat, new_identity
from canary.kube.resources import LEASES
from canary.metrics.history import History
from canary.metrics.scrape import Limits as ScrapeLimits
from canary.metrics.scrape import ScrapeSource
from canary.metrics.source import Source, Witness
from canary.operator.auditor import Scribe
from canary.operator.controller import Controller
from canary.operator.hands import Hands
from canary.operator.heads import Heads
from canary.operator.inventory import Inventory
from canary.operator.logs import configure_logs
from canary.operator.people import PeopleFile
from canary.operator.probes import Check, Probes
from canary.operator.schedule import BackgroundSchedule, Job
from canary.operator.telemetry import Telemetry
from canary.operator.tell import Teller
from canary.settings import RunOptions, SinkAddress
from canary.traffic.kinds import AnyBrake, AnyRouter

logger = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 5.0
AUDIT_TOKEN = Path("/etc/canary/audit/token")
PROMETHEUS_SECRET = Path("/etc/canary/prometheus")  # `token` and `ca.crt`, each where it is needed
ELECTOR_LIMITS = http_transport.Limits(connect_seconds=1.0, read_seconds=2.0)


class PolicySources:
    """The pods themselves, or a Prometheus that the settings allow; each is opened once."""

    def __init__(self, scrape: Source, allowed: tuple[str, ...], clock: Clock) -> None:
        self._scrape = scrape
        self._allowed = allowed
        self._clock = clock
        self._opened: dict[tuple[str, float], Source] = {}  # runs that look as often share their queries
        self._histories: dict[str, History] = {}
        self._witnesses: dict[tuple[str, float], Witness] = {}
        self._lock = threading.Lock()

    def of(self, policy: CanaryPolicySpec) -> Source:
        """Return the policy's source. Raise RefusedError for a Prometheus that the settings do not name."""
        wanted = policy.source.prometheus
        if policy.source.scrape is not None or wanted is None:
            return self._scrape
        if wanted.address not in self._allowed:
            known = ", ".join(self._allowed) or "none"
            raise RefusedError(f"{wanted.address} is not an allowed Prometheus (--prometheus: {known})")
        place = wanted.address, wanted.every.total_seconds()
        with self._lock:
            if place not in self._opened:
                self._opened[place] = open_prometheus(*place, self._clock)
            return self._opened[place]

    def history_of(self, policy: CanaryPolicySpec) -> History | None:
        """Return the Prometheus that the policy names, if the settings allow it; pods know no past."""
        wanted = policy.source.prometheus
        if wanted is None or wanted.address not in self._allowed:
            return None
        with self._lock:
            if wanted.address not in self._histories:
                self._histories[wanted.address] = open_history(wanted.address, self._clock)
            return self._histories[wanted.address]

    def witness_of(self, policy: CanaryPolicySpec) -> Witness | None:
        """Return who counts in the Prometheus that the policy names, if the settings allow it."""
        wanted = policy.source.prometheus
        if wanted is None or policy.source.witness is None or wanted.address not in self._allowed:
            return None
        place = wanted.address, wanted.every.total_seconds()
        with self._lock:
            if place not in self._witnesses:
                self._witnesses[place] = open_witness(*place, self._clock)
            return self._witnesses[place]

    def close(self) -> None:
        beside = (*self._histories.values(), *self._witnesses.values())
        for opened in (self._scrape, *self._opened.values(), *beside):
            opened.close()


def open_prometheus(address: str, every_seconds: float, clock: Clock) -> Source:
    """Open a Prometheus; imported only where a policy uses one, for its client is heavy."""
    from canary.metrics.prometheus import PrometheusSettings, PrometheusSource

    return PrometheusSource(PrometheusSettings(address, every_seconds, **_secret_files()), clock)


def open_history(address: str, clock: Clock) -> History:
    """Open the past of a Prometheus, on a connection of its own."""
    from canary.metrics.prometheus import PrometheusSettings
    from canary.metrics.prometheus_history import PrometheusHistory

    return PrometheusHistory(PrometheusSettings(address, 5.0, **_secret_files()), clock)


def open_witness(address: str, every_seconds: float, clock: Clock) -> Witness:
    """Open what a Prometheus knows of the new version, on a connection of its own."""
    from canary.metrics.prometheus import PrometheusSettings
    from canary.metrics.prometheus_witness import PrometheusWitness

    return PrometheusWitness(PrometheusSettings(address, every_seconds, **_secret_files()), clock)


def _secret_files() -> dict[str, str]:
    """Return the paths of what a Prometheus asks for, as far as somebody mounted it."""
    files = {"token_file": PROMETHEUS_SECRET / "token", "ca_file": PROMETHEUS_SECRET / "ca.crt"}
    return {name: str(path) for name, path in files.items() if path.exists()}


def main(options: RunOptions) -> int:
    """Run the controller until SIGTERM or SIGINT; return the exit code of the process."""
    configure_logs(sys.stderr, logging.getLevelNamesMapping()[options.log_level.upper()])
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if options.until_eof:
        threading.Thread(target=_await_eof, args=(stopping,), name="stdin", daemon=True).start()
    with running(options, WallClock()) as (host, port):
        logger.info("serving /metrics, /healthz and /readyz on http://%s:%d", host, port)
        print_address(host, port)
        stopping.wait()
    return 0


def _await_eof(stopping: threading.Event) -> None:
    """Wait until whoever started this process is gone: the system closes standard input even after a SIGKILL."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stopping.set()


def print_address(host: str, port: int) -> None:
    """Say where telemetry is, as one line of JSON on stdout: whoever asked for port 0 needs it."""
    sys.stdout.write(f'{{"telemetry": "http://{host}:{port}"}}\n')
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Wired:
    """The parts of one controller, built and not yet started."""

    controller: Controller
    elector: Elector
    heartbeat: Heartbeat
    telemetry: Telemetry
    schedule: BackgroundSchedule
    audit: Job | None
    fingerprint: Fingerprint | None


@contextmanager
def running(options: RunOptions, clock: Clock) -> Generator[tuple[str, int]]:
    """Build, start, yield the telemetry's address, and end everything in order."""
    with ExitStack() as ending:
        wired = wire(options, clock, ending)
        host, port = options.telemetry.rsplit(":", 1)
        probes = Probes((host, int(port)), _checks(wired), wired.telemetry.exposition)
        ending.callback(probes.stop)
        ending.callback(wired.elector.stop)
        ending.callback(wired.controller.stop)
        ending.callback(wired.schedule.stop)
        probes.start()
        wired.elector.start()
        half = max(1, options.workers // 2)
        wired.controller.start(wired.schedule, quick=half, slow=max(1, options.workers - half))
        wired.schedule.every(HEARTBEAT_SECONDS, lambda: _beat(wired, clock), "heartbeat")
        if wired.audit is not None:
            wired.schedule.every(HEARTBEAT_SECONDS, wired.audit, "audit")
        if wired.fingerprint is not None:
            wired.fingerprint.read()
            wired.schedule.every(READ_SECONDS, wired.fingerprint.read, "guard")
        wired.schedule.start()
        yield probes.address


def wire(options: RunOptions, clock: Clock, ending: ExitStack) -> Wired:
    """Put the parts together; what must be closed is left with `ending`."""
    telemetry = Telemetry(clock, __version__, "")
    transport = http_transport.connect(options.kubeconfig, options.context)
    ending.callback(transport.close)
    calm = http_transport.connect(options.kubeconfig, options.context, ELECTOR_LIMITS)
    ending.callback(calm.close)
    identity = options.identity or new_identity(socket.gethostname())
    namespace = options.controller_namespace
    elector = Elector(Client(calm, clock=clock), LEASES.at(namespace, ELECTION_LEASE), identity, clock=clock)
    client = Client(transport, fence=elector, clock=clock, observe=telemetry.kube_called)
    heartbeat = Heartbeat(client, LEASES.at(namespace, HEARTBEAT_LEASE), identity, clock=clock)
    scrape = ScrapeSource(clock, ScrapeLimits(concurrency=options.scrape_workers))
    sources = PolicySources(scrape, options.prometheus, clock)
    ending.callback(sources.close)
    fingerprint = _fingerprint(options, client, clock)
    hands = Hands(
        client=client,
        router=AnyRouter(client),
        brake=AnyBrake(client),
        system=namespace,
        people=PeopleFile(options.people) if options.people else People,
        sources=sources,
        fence=elector,
        clock=clock,
        scribe=_scribe(options, clock, telemetry, ending),
    )
    if fingerprint is not None:
        hands = replace(hands, guard_trouble=fingerprint.broken)
    teller = _teller(options, hands, ending)
    hands, audit = _audited(options, hands, teller)
    controller = Controller(hands, teller, watcher=telemetry, namespace=options.namespace or None)
    telemetry.watch_leader(elector.leads)
    telemetry.watch_queue(controller.queue)
    telemetry.watch_caches(controller.reflectors)
    schedule = BackgroundSchedule(clock, telemetry.job_troubled)
    return Wired(controller, elector, heartbeat, telemetry, schedule, audit, fingerprint)


def _fingerprint(options: RunOptions, client: Client, clock: Clock) -> Fingerprint | None:
    if not options.guard_required:
        return None
    known = Settings(options.controller_namespace, options.platform_groups, options.gitops_accounts)
    return Fingerprint(client, known, clock)


def _audited(options: RunOptions, hands: Hands, teller: Teller) -> tuple[Hands, Job | None]:
    """Return the hands that ask the audit before a raise, and what is done for it with every heartbeat."""
    if not options.audit:
        return hands, None
    store, cluster = _open_audit(options), options.cluster or "cluster"
    lease = LEASES.at(options.controller_namespace, HEARTBEAT_LEASE)
    heads = Heads(hands, lease, store, teller.announce, cluster)
    inventory = Inventory(hands, store, teller.announce, cluster=cluster, namespace=options.namespace or None)

    def job() -> None:
        heads.beat()
        inventory.sweep_when_due()

    return replace(hands, audit_gates=lambda: heads.closed), job


def _open_audit(options: RunOptions) -> Store:
    return open_store(options.audit, AUDIT_TOKEN if AUDIT_TOKEN.exists() else None)


def _scribe(options: RunOptions, clock: Clock, telemetry: Telemetry, ending: ExitStack) -> Scribe | None:
    if not options.audit:
        return None
    scribe = Scribe(Book(_open_audit(options)), clock, tell=telemetry.recorded)
    ending.callback(scribe.close)
    return scribe


def _teller(options: RunOptions, hands: Hands, ending: ExitStack) -> Teller:
    configs = [_config(each, "webhook") for each in options.webhooks]
    configs += _alertmanagers(options.alertmanagers)
    sinks = open_sinks(configs, hands.clock)
    couriers = Couriers(sinks)
    ending.callback(couriers.close)
    place = Place(options.cluster or "cluster")
    return Teller(hands, couriers, lambda names: subscriptions(sinks, names), place=place)


def _config(sink: SinkAddress, kind: str) -> SinkConfig:
    key = Path(f"/etc/canary/sinks/{sink.name}.key")
    return SinkConfig(sink.name, kind, (sink.url,), secret_file=key if key.exists() else None)


def _alertmanagers(addresses: tuple[SinkAddress, ...]) -> list[SinkConfig]:
    """One sink for each name; the same name given several times names the replicas of one Alertmanager."""
    urls: dict[str, tuple[str, ...]] = {}
    for each in addresses:
        urls[each.name] = (*urls.get(each.name, ()), each.url)
    return [SinkConfig(name, "alertmanager", replicas) for name, replicas in urls.items()]


def _checks(wired: Wired) -> dict[str, Check]:
    def ready() -> str:
        unfilled = wired.controller.unfilled
        return unfilled and f"caches have not been filled yet: {unfilled}"

    def alive() -> str:
        return wired.controller.stuck()

    return {"/healthz": alive, "/readyz": ready}


def _beat(wired: Wired, clock: Clock) -> None:
    """Renew the heartbeat, only while this process leads and its workers get their looks done."""
    if not wired.elector.leads():
        return
    if why := wired.controller.behind():
        logger.error("no heartbeat: %s", why)
        return
    try:
        wired.heartbeat.beat()
    except CanaryError as error:
        logger.warning("the heartbeat was not written: %s", error)
        return
    wired.telemetry.heartbeat(clock.now())
