"""Everything that the operator may touch, in one frozen value, wired by hand in `run.py` (and in the lab).

Nobody else holds a client: `look.py` reads through it, `act.py` writes through it, so what the controller can do to a
cluster is what this value can do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from canary.api.marks import side_name
from canary.api.people import People
from canary.api.policy import CanaryPolicySpec, RouteRef
from canary.api.reasons import AFTER_COMMIT, Reason
from canary.api.types import format_timestamp
from canary.clock import Clock
from canary.core.decision import Answer, Limits, Run
from canary.core.policy_look import Policy
from canary.kube.client import Client, Fence, Intent
from canary.kube.resources import CANARYREQUESTS
from canary.metrics.history import History
from canary.metrics.source import Source, Witness
from canary.operator.auditor import Scribe
from canary.operator.objects import Shelf, policy_of
from canary.traffic.router import Brake, Router, Target


class Sources(Protocol):
    """Chooses where the counts of a policy are read, now and of the past."""

    def of(self, policy: CanaryPolicySpec) -> Source:
        """Return the source. Raise RefusedError where the settings do not allow it."""
        ...

    def history_of(self, policy: CanaryPolicySpec) -> History | None:
        """Return what knows the orders of past days, or None where nothing does."""
        ...

    def witness_of(self, policy: CanaryPolicySpec) -> Witness | None:
        """Return who counts what the new version does beside its own pods, or None where the policy names nobody."""
        ...


@dataclass(frozen=True, slots=True)
class Hands:
    """What the operator works with."""

    client: Client
    router: Router
    brake: Brake
    sources: Sources
    fence: Fence
    clock: Clock
    limits: Limits = Limits()
    scribe: Scribe | None = None
    """Writes the audit; None: there is none."""
    audit_gates: Callable[[], Mapping[Reason, str]] = lambda: {}
    """Gates that are closed because audit and cluster disagree."""
    policies: Shelf[Policy] = field(default_factory=lambda: Shelf(policy_of))
    """Policies as last read."""
    system: str = "canary-system"
    """The controller's own namespace: what is asked of a safety policy is asked there."""
    people: Callable[[], People] = People
    """Returns who is who."""
    guard_trouble: Callable[[str], str] = lambda namespace: ""
    """Says why the guard forbids raises in a namespace; empty: it is in place, or not asked for."""


def target_of(run: Run) -> Target:
    """Return whose traffic a run splits, and between which Services."""
    route = run.spec.policy.route
    return Target(
        namespace=run.namespace,
        service=run.spec.service,
        side_service=side_name(run.spec.service),
        route=RouteRef(kind=route.kind, name=route.name),
        run=run.name,
        armed=run.status.phase not in AFTER_COMMIT,
    )


def answer(hands: Hands, namespace: str, reply: Answer) -> None:
    """Write into a request what was done, or why not; idempotent, and no harm where it is gone."""
    status: dict[str, Any] = {
        "outcome": "Done" if reply.done else "Refused",
        "reason": (Reason.REQUEST_DONE if reply.done else Reason.REQUEST_REFUSED).value,
        "message": reply.message[:1024],
        "handledAt": format_timestamp(hands.clock.now()),
    }
    ref = CANARYREQUESTS.at(namespace, reply.name)
    hands.client.merge_patch(ref, {"status": status}, intent=Intent.LOWERING, subresource="status")
