"""Kubernetes Events: what `kubectl describe canaryrun` and `kubectl get events` show of a run, one per transition.

A timeline entry goes in. The Event's name is derived from the run's uid, the reason and the entry's time, so telling
it again after a crash makes no second one. Told last and without a promise: an Event that cannot be written holds
nothing up.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from canary.api.marks import MANAGED_BY
from canary.api.reasons import API_VERSION, Reason
from canary.api.types import format_timestamp
from canary.kube.client import AlreadyExistsError, Client, Intent
from canary.kube.resources import EVENTS

MAX_MESSAGE = 1024  # the API's limit
MAX_NAME = 253
WARNINGS = frozenset(
    {
        Reason.SUSPECT,
        Reason.ROLLBACK_STARTED,
        Reason.ROLLED_BACK,
        Reason.ROLLBACK_UNVERIFIED,
        Reason.ROLLBACK_FAILED,
        Reason.DRAINING,
        Reason.STEP_EXPIRED,
        Reason.PREPARATION_EXPIRED,
        Reason.SHARE_ABOVE_WEIGHT,
        Reason.SIDE_SILENT,
        Reason.COMMIT_STALLED,
        Reason.WORKLOAD_GONE,
        Reason.WORKLOAD_RECREATED,
        Reason.ABORTED,
        Reason.BLIND,
        Reason.DATA_RESTORED,
        Reason.POLICY_INVALID,
        Reason.ADOPTION_REFUSED,
        Reason.WEIGHT_DRIFT,
        Reason.ROUTE_LOST,
        Reason.TWO_WRITERS,
        Reason.UNPAUSED_BY_OTHERS,
        Reason.GUARD_MISSING,
        Reason.AUDIT_WRITE_FAILED,
        Reason.ATTEMPT_LIMIT,
        Reason.UNPAGED,
        Reason.BYPASS_USED,
        Reason.INVARIANT_BROKEN,
    }
)


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about: a run, a policy or a Deployment."""

    kind: str
    namespace: str
    name: str
    uid: str
    api_version: str = API_VERSION


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of a timeline, as stored in the status: its time is the same however often it is told."""

    reason: Reason
    message: str
    at: datetime


def tell(client: Client, subject: Subject, happening: Happening) -> bool:
    """Write the Event; return False where it had been written before."""
    moment = format_timestamp(happening.at)
    seconds = moment[:19] + "Z"  # the older two fields know no fractions
    event = EVENTS.at(subject.namespace, event_name(subject, happening)).manifest() | {
        "involvedObject": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
        "type": "Warning" if happening.reason in WARNINGS else "Normal",
        "reason": happening.reason.value,
        "message": happening.message[:MAX_MESSAGE],
        "action": happening.reason.value,
        "reportingComponent": MANAGED_BY,
        "reportingInstance": MANAGED_BY,
        "source": {"component": MANAGED_BY},
        "eventTime": moment,
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "count": 1,
    }
    try:
        client.create(EVENTS, event, intent=Intent.NEUTRAL)
    except AlreadyExistsError:
        return False
    return True


def event_name(subject: Subject, happening: Happening) -> str:
    """Return the one name of this happening's Event."""
    identity = f"{subject.uid}/{happening.reason.value}/{format_timestamp(happening.at)}"
    mark = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return f"{subject.name[: MAX_NAME - 17]}.{mark}"
