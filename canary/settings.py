"""What a person decides when starting something: one frozen value each for the controller, the demo and a rehearsal.

The command line fills them from its flags; `operator` and `lab` receive them as they stand. Nothing here imports
anything heavy, and secrets are never values: a sink's signing key is the path of a mounted file.
"""

from dataclasses import dataclass
from enum import StrEnum


class Story(StrEnum):
    """What happens in the demo."""

    MARCH_5 = "march-5"  # the silent confirm failure: HTTP 200, no order
    MARCH_2 = "march-2"  # wrong delivery promises, then errors
    DECEMBER = "december"  # an agent deletes and recreates the environment
    HEALTHY = "healthy"  # a good change is promoted


class FaultKind(StrEnum):
    """What is wrong with the new version, in the demo and in a rehearsal."""

    ORDER_COLLAPSE = "order-collapse"  # the confirm call fails silently: HTTP 200 and no order
    LATE_PROMISES = "late-promises"  # orders are taken, with a wrong delivery promise
    ERROR_BURST = "error-burst"  # HTTP 500
    SLOW = "slow"
    MEMORY_LEAK = "memory-leak"  # orders die little by little
    CRASH_LOOP = "crash-loop"  # the process ends again and again
    NONE = "none"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`canary demo`."""

    story: Story = Story.MARCH_5
    headless: bool = False
    json: bool = False
    seed: int = 1
    speed: float | None = None
    """Simulated seconds a second; None: as the story wants it."""
    record: str = ""
    """SVG file to write the screen to; empty: none."""
    orders_per_second: float = 300.0
    break_after_seconds: float = 8.0
    """From the first slice to the fault; 0: broken from the start."""
    drop: float = 0.99
    """Share of the new version's orders that vanish."""


@dataclass(frozen=True, slots=True)
class RehearseOptions:
    """`canary rehearse`."""

    fault: FaultKind = FaultKind.ORDER_COLLAPSE
    drop: float = 0.99
    at_seconds: float = 0.0
    """From the first slice to the fault."""
    orders_per_second: float = 100.0
    for_seconds: float = 3600.0
    replicas: int = 4
    """Pods of the Deployment: where a slice is whole pods, they decide which shares there are."""
    seed: int = 1
    runs: int = 100
    healthy_runs: int = 10
    """Beside the runs with the fault, as many without: each lasts as long as it was given."""
    json: bool = False


@dataclass(frozen=True, slots=True)
class SinkAddress:
    """One place where people are told."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`canary run`: the controller."""

    kubeconfig: str = ""
    """Empty: the pod's service account, else the user's kubeconfig."""
    context: str = ""
    namespace: str = ""
    """The one to watch; empty: all."""
    controller_namespace: str = "canary-system"
    """Where the leases are."""
    cluster: str = ""
    """What people call the cluster, in pages."""
    people: str = ""
    """Path of the identity map: who is behind which login; empty: nobody is known, so that no approval counts."""
    identity: str = ""
    """Name in the lease; empty: host name and a random part."""
    telemetry: str = "0.0.0.0:8080"
    """Address of /metrics, /healthz and /readyz; port 0: any free one."""
    webhooks: tuple[SinkAddress, ...] = ()
    alertmanagers: tuple[SinkAddress, ...] = ()
    audit: str = ""
    """Where every decision goes on record: file:/path or an http(s) URL; empty: in the CanaryRuns alone."""
    prometheus: tuple[str, ...] = ()
    """Prometheus addresses that policies may name."""
    guard_required: bool = False
    """Nothing is raised without the admission policies of the guard."""
    platform_groups: tuple[str, ...] = ()
    """Whom the guard lets change canary itself."""
    gitops_accounts: tuple[str, ...] = ()
    """Machines that the guard lets write policies."""
    workers: int = 8
    """Looks under way at once; half of them are kept for rollbacks."""
    scrape_workers: int = 32
    log_level: str = "info"
    until_eof: bool = False
    """End in order when standard input ends: for whoever starts the controller as a child."""
