"""Ask the controller for something: one CanaryRequest, and its answer.

Enters: a run and what is asked. Leaves: the request as created, then the answer within a few seconds. The API server
writes or checks who asks; what we fill in is what it says of us. The name is chosen here, so that a repeated creation
after a lost answer finds itself.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from canary.api.reasons import API_VERSION, GROUP, Verb
from canary.cli.session import Session
from canary.core.telling.stored import Raw, StoredRun, under
from canary.core.telling.wording import plain
from canary.errors import CanaryError
from canary.kube.client import AlreadyExistsError, Client, Intent
from canary.kube.resources import CANARYREQUESTS, Resource

ANSWER_SECONDS = 5.0  # unless --timeout says otherwise
POLL_SECONDS = 0.15
MAX_GROUPS = 64
REVIEWS = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False)


@dataclass(frozen=True, slots=True)
class Asking:
    """One directive."""

    verb: Verb
    run: StoredRun
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of the spec: to, digest, accepts."""
    kind: str = "CanaryRun"
    """What it is about; of another kind, `run` holds its metadata."""
    sign: Callable[[str], str] | None = None
    """From the user that the API server knows to the signature of a touched security key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the controller said; an empty outcome is no answer yet."""

    request: str
    outcome: str
    message: str

    @property
    def done(self) -> bool:
        return self.outcome == "Done"


def request_of(client: Client, asking: Asking, otherwise: str = "") -> dict[str, Any]:
    """Return the request, in the name of who the API server says we are; see `identity`."""
    about, (user, groups) = asking.run, identity(client, otherwise)
    spec: dict[str, Any] = {
        "verb": asking.verb.value,
        "subject": {"kind": asking.kind, "name": about.name, "uid": about.uid},
        "requester": user,
        "groups": groups,
        **asking.extra,
    }
    if asking.sign is not None:
        spec["signature"] = asking.sign(user)
    if asking.reason:
        spec["reason"] = asking.reason[:1024]
    owner = {"apiVersion": API_VERSION, "kind": asking.kind, "name": about.name, "uid": about.uid}
    name = f"{about.name[:200]}-{asking.verb}-{secrets.token_hex(3)}"
    # It goes with its subject; the guard asks for the reference.
    return CANARYREQUESTS.at(about.namespace, name).manifest({"ownerReferences": [owner]}, spec=spec)


def create(session: Session, asking: Asking, *, dry_run: bool = False) -> str:
    """Create the request and return its name. With `dry_run` the server only says whether it would."""
    wanted = request_of(session.client, replace(asking, sign=None) if dry_run else asking, session.user)
    lost_answer = suppress(AlreadyExistsError)  # then it is our own creation that is there
    with session.asking(f"{asking.verb}", "canaryruns", asking.run.namespace), lost_answer:
        session.client.create(CANARYREQUESTS, wanted, intent=Intent.NEUTRAL, dry_run=dry_run)
    return wanted["metadata"]["name"]


def request_name(name: str) -> str:
    """Return a request as `-o name` has it; empty: none was made."""
    return f"canaryrequest.{GROUP}/{name}" if name else ""


def identity(client: Client, otherwise: str = "") -> tuple[str, list[str]]:
    """Return who the API server says we are, and our groups; where it does not say, what the kubeconfig says."""
    review = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.kind, "metadata": {}}
    try:
        answer: Raw = client.create(REVIEWS, review, intent=Intent.NEUTRAL)
    except CanaryError:
        return plain(otherwise, 256), []
    info = under(answer, "status", "userInfo")
    groups = under(info, "groups")
    named = [str(group) for group in groups][:MAX_GROUPS] if isinstance(groups, list) else []
    return str(under(info, "username") or "")[:256], named


def answer_of(session: Session, namespace: str, name: str) -> Answer:
    """Look once for the answer of a request."""
    with session.asking("get", "canaryrequests", namespace):
        raw = session.client.get(CANARYREQUESTS.at(namespace, name))
    outcome = plain(under(raw, "status", "outcome"), 16)
    return Answer(name, "" if outcome == "Pending" else outcome, plain(under(raw, "status", "message")))


def wait_for_answer(session: Session, namespace: str, name: str, seconds: float) -> Answer:
    """Wait for the answer, so many seconds at most."""
    deadline = time.monotonic() + seconds
    while True:
        answer = answer_of(session, namespace, name)
        if answer.outcome or time.monotonic() >= deadline:
            return answer
        time.sleep(POLL_SECONDS)
