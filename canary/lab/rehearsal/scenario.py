"""The whole product on simulated time: cluster, shop, gateway and controller on one clock, six hours in seconds.

`Scenario` puts them together from the same parts as a real installation, but for the threads: whoever owns the
scenario moves the clock, and the same seed gives the same history. Used by `rehearse`, by `demo --story healthy` and
by the tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from canary.alerts.sink import Couriers
from canary.api.crd import crds
from canary.api.people import People
from canary.api.policy import CanaryPolicySpec
from canary.api.reasons import Verb
from canary.audit.store import Book, open_store
from canary.core.decision import Limits, Run
from canary.core.telling.page_texts import Place
from canary.kube.client import Client, Fence, Intent
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, CANARYRUNS, DEPLOYMENTS
from canary.kube.transport import Transport
from canary.lab import manifests
from canary.lab.apiserver.admission import CONTROLLER, User
from canary.lab.clock import SimClock
from canary.lab.cluster import Cluster, simulated_cluster
from canary.lab.shop.simulated import SimShop
from canary.lab.shop.worlds import World
from canary.metrics.history import History
from canary.metrics.source import Source, Witness
from canary.operator.auditor import Scribe
from canary.operator.controller import Controller
from canary.operator.hands import Hands
from canary.operator.objects import run_of
from canary.operator.tell import Teller
from canary.traffic.kinds import AnyBrake, AnyRouter

PORT = 8080
REPLICAS = 4
DANA = User("dana", ("devs",))
SETTLE_SECONDS = 5.0
STEP_SECONDS = 1.0  # between two questions whether it is done, where nothing else is due


class Alone:
    """The fence of a controller that has no rival: it always leads."""

    def leads(self) -> bool:
        return True

    def may_raise(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class OneSource:
    """The same source, and the same past, for every policy."""

    source: Source
    history: History | None = None
    witness: Witness | None = None

    def of(self, policy: CanaryPolicySpec) -> Source:
        return self.source

    def history_of(self, policy: CanaryPolicySpec) -> History | None:
        return self.history

    def witness_of(self, policy: CanaryPolicySpec) -> Witness | None:
        return self.witness


def _straight(transport: Transport) -> Transport:
    return transport


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scenario starts from."""

    world: World = field(default_factory=World)
    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the policy's spec that differ from the shop's own."""
    replicas: int = REPLICAS
    seed: int = 1
    limits: Limits = Limits()
    people: People = People()
    """Who is who."""
    past: "Callable[[SimShop, Setting], History] | None" = None
    """Makes what knows the orders of past days; None: nothing does."""
    wire: Callable[[Transport], Transport] = _straight
    """What lies between the controller and the API server."""
    audit: str = ""
    """Address of the audit; empty: none is kept."""


class Scenario:
    """One shop on one simulated cluster, with the controller."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.clock = SimClock()
        self.cluster = simulated_cluster(
            self.clock,
            lambda store, timers: SimShop(store, timers, setting.world, seed=setting.seed),
            seed=setting.seed,
        )
        self.cluster.install(crds())
        self.admin = Client(self.cluster.transport(User("admin", ("system:masters",))), clock=self.clock)
        self.restart()
        self._asked = 0
        self._set_up()

    @property
    def shop(self) -> SimShop:
        kubelet = self.cluster.kubelet
        assert isinstance(kubelet, SimShop)
        return kubelet

    def _set_up(self) -> None:
        for resource, obj in manifests.shop(self.setting.replicas, PORT):
            self.admin.create(resource, obj, intent=Intent.NEUTRAL)
        self.run_for(SETTLE_SECONDS)
        self.admin.create(CANARYPOLICIES, manifests.policy(self.setting.policy), intent=Intent.NEUTRAL)
        self.run_for(SETTLE_SECONDS)

    # -- time ------------------------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        """Let simulated time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, done: Callable[[], bool], limit_seconds: float) -> bool:
        """Let time pass until something holds; False where the limit came first."""
        end = self.clock.monotonic() + limit_seconds
        while not done():
            now = self.clock.monotonic()
            if now >= end:
                return False
            self.cluster.controllers.step()
            self.controller.step()
            self.clock.run_until(min(end, self._next(now)))
        return True

    def _next(self, now: float) -> float:
        """Return the next moment at which something is due: a timer, a look, or the next question."""
        moments = [self.clock.next_due(), self.controller.queue.next_due()]
        due = min((moment for moment in moments if moment is not None), default=now + STEP_SECONDS)
        return min(max(due, now + 1e-6), now + STEP_SECONDS)

    # -- what happens ----------------------------------------------------------------------------------------------

    def push(self, env: Mapping[str, str] | None = None, version: str = manifests.NEW) -> None:
        """Change the Deployment as a team would."""
        ref = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
        self.admin.merge_patch(ref, manifests.change(version, PORT, env or {}), intent=Intent.NEUTRAL)

    def ask(self, verb: Verb, user: User = DANA, **fields: Any) -> str:
        """Ask for something about the newest run, as the command line does; return the request's name."""
        run = self.latest_run()
        assert run is not None, "there is a run to ask about"
        self._asked += 1
        ref = CANARYREQUESTS.at(run.namespace, f"{run.name}-{verb.value}-{self._asked}")
        subject = {"kind": "CanaryRun", "name": run.name, "uid": run.uid}
        why = "the screens were read and look well"
        spec = {"verb": verb.value, "subject": subject, "reason": why, **fields}
        client = Client(self.cluster.transport(user), clock=self.clock)
        client.create(CANARYREQUESTS, ref.manifest(spec=spec), intent=Intent.NEUTRAL)
        return ref.name

    def restart(self) -> None:
        """Replace the controller by one that knows nothing but what the API server stores."""
        self.controller = build_controller(self.cluster, self.clock, self.shop, self.setting)

    def latest_run(self) -> Run | None:
        """Return the newest run."""
        stored = self.admin.list(CANARYRUNS, manifests.NAMESPACE)
        runs = [run_of(each, self.setting.limits) for each in stored]
        known = [run for run in runs if run.status.started_at is not None]
        return max(known, key=lambda run: run.status.started_at or self.clock.now(), default=None)


def build_controller(cluster: Cluster, clock: SimClock, shop: SimShop, setting: Setting) -> Controller:
    """Wire the controller to an embedded cluster, as `operator/run.py` wires it to a real one."""
    hands = build_hands(cluster, clock, shop, setting)
    return Controller(hands, Teller(hands, Couriers({}), lambda _: [], place=Place("lab")))


def build_hands(cluster: Cluster, clock: SimClock, shop: SimShop, setting: Setting) -> Hands:
    """Return all that a controller of an embedded cluster may touch."""
    transport = setting.wire(cluster.transport(User(CONTROLLER), follow=False))
    past = setting.past(shop, setting) if setting.past else None
    fence: Fence = Alone()
    client = Client(transport, fence=fence, clock=clock)
    return Hands(
        client=client,
        router=AnyRouter(client),
        brake=AnyBrake(client),
        sources=OneSource(shop, past),
        fence=fence,
        clock=clock,
        limits=setting.limits,
        people=lambda: setting.people,
        scribe=Scribe(Book(open_store(setting.audit)), clock) if setting.audit else None,
    )
