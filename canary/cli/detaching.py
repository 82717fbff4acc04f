"""`canary detach`: give a Deployment back, whatever is under way, and let its policy go.

Enters: one workload, or all. First the policy's mode becomes Observe: the controller takes all traffic back, tidies,
and drops lock and label. A held change would roll out with the lock, so it is refused until a person picks: `--accept`
lets it roll unjudged, `--reject` has the Deployment ask for the serving version again, in the person's own name.
Nothing is written before that choice, and the policy is deleted last: a detach that broke off is taken up by another.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from canary.api.marks import TRUE, Mark
from canary.api.reasons import AFTER_COMMIT, Mode, Verb
from canary.cli.arguments import access_of, add_access, add_patience, add_switch, add_target, add_text
from canary.cli.exits import Exit
from canary.cli.requests import Asking, request_of
from canary.cli.session import Session
from canary.cli.targets import Found, find
from canary.cli.terminal import Terminal
from canary.core.evidence import Missing
from canary.core.telling.explain import HEARTBEAT_STALE_SECONDS
from canary.core.telling.overview import newest
from canary.core.telling.stored import Raw, StoredRun, said_by, under, whole
from canary.core.telling.wording import duration, plain
from canary.errors import RefusedError, UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, CANARYRUNS, DEPLOYMENTS, Ref
from canary.kube.workload import Observed, good_template, observe, put_template

# Unless --timeout says otherwise: a commit under way, a drain, an autoscaler's window.
PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.5


class Choice(StrEnum):
    """What becomes of a held change."""

    NONE = ""
    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Hold:
    """One workload to be given back, as it stood when we looked."""

    namespace: str
    workload: str
    policy: str
    run: StoredRun | None
    """Its run that has not been tidied; None: there is none."""
    seen: Observed | None
    """None: there is no Deployment."""
    manifest: Raw | None = None
    """A policy to be created, since the one that held the Deployment is gone."""

    @property
    def where(self) -> str:
        return f"{self.namespace}/{self.workload}"

    @property
    def ref(self) -> Ref:
        return CANARYPOLICIES.at(self.namespace, self.policy)

    @property
    def came_back(self) -> bool:
        """Tell whether the last good version serves from pods of its own, after a commit that was taken back."""
        return self.run is not None and self.run.whole("status", "wayBack", "wanted") > 0

    @property
    def good_hash(self) -> str:
        """Return the template that serves, or must serve again."""
        if self.run is not None and self.came_back:
            return self.run.text("spec", "baseline", "templateHash")
        return self.seen.workload.stable_hash if self.seen is not None else ""

    @property
    def holds(self) -> bool:
        """Tell whether a change would roll out with the lock. A commit under way ends by itself, well or not."""
        if self.seen is None or (self.run is not None and self.run.phase in AFTER_COMMIT):
            return False
        return self.seen.workload.template_hash != self.good_hash


def configure(verb: str, parser: ArgumentParser) -> None:
    add_target(parser)
    add_switch(parser, "--all", help="every workload, of all namespaces or of -n")
    choice = parser.add_mutually_exclusive_group()
    add_switch(choice, "--accept", help="let a held change roll out at once, unjudged")
    add_switch(choice, "--reject", help="put the serving version's template back")
    add_text(parser, "--reason", "TEXT", "why; stands in the record")
    add_switch(parser, "--yes", help="do not ask")
    add_switch(parser, "--dry-run", help="only say what would happen")
    add_patience(parser, PATIENCE_SECONDS)
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    choice = Choice.ACCEPT if given.accept else Choice.REJECT if given.reject else Choice.NONE
    holds = _all(session) if given.all else [look(session.client, find(session, given.target))]
    refuse_undecided(holds, choice)
    for each in holds:
        terminal.note(f"{each.where}: {effect(each, choice)}")
    if given.dry_run:
        terminal.note("dry run: nothing was written")
        return Exit.DONE
    if holds:
        _need_a_controller(session)
    if holds and not given.yes and not terminal.ask("Continue?"):
        terminal.note("nothing was written")
        return Exit.USAGE
    for each in holds:
        with session.asking("patch", "canarypolicies", each.namespace):
            begin(session.client, each, choice, given.reason.strip())
    deadline = time.monotonic() + given.timeout
    for each in holds:
        _await(session, each, deadline)
    terminal.lines(f"{each.where}: given back; policy {each.policy} is deleted" for each in holds)
    if choice is Choice.REJECT and any(each.holds for each in holds):
        terminal.note(
            "whoever applies the rejected manifest again rolls it out: revert it where it comes from, too"
        )
    return Exit.DONE


def look(client: Client, found: Found) -> Hold:
    """Read how things stand. Raise RefusedError where nothing of ours holds the Deployment."""
    seen = observe(client, found.namespace, found.workload)
    observed = None if isinstance(seen, Missing) else seen
    runs = [StoredRun(raw) for raw in client.list(CANARYRUNS, found.namespace)]
    of_it = [each for each in runs if each.workload == found.workload]
    active = next((each for each in newest(of_it) if each.at("tidiedAt") is None), None)
    if found.policy is not None:
        name = plain(under(found.policy, "metadata", "name"))
        return Hold(found.namespace, found.workload, name, active, observed)
    labels = under(observed.deployment, "metadata", "labels") if observed is not None else None
    if found.run is None or under(labels, Mark.GUARDED.value) != TRUE:
        text = f"no policy holds {found.namespace}/{found.workload}; nothing to detach"
        raise RefusedError(text, code="CAN-5002")
    spec = {**(under(found.run.raw, "spec", "policy") or {}), "mode": Mode.OBSERVE.value}
    manifest = CANARYPOLICIES.at(found.namespace, found.run.policy).manifest(spec=spec)
    return Hold(found.namespace, found.workload, found.run.policy, active, observed, manifest)


def _all(session: Session) -> list[Hold]:
    namespace = session.namespace if session.namespace_is_given else None
    policies = session.policies(namespace)
    places = [
        (plain(under(raw, "metadata", "namespace")), plain(under(raw, "spec", "target", "name")), raw)
        for raw in policies
    ]
    return [look(session.client, Found(home, name, None, raw)) for home, name, raw in places]


def refuse_undecided(holds: Sequence[Hold], choice: Choice) -> None:
    """Raise RefusedError, naming every workload that holds a change nobody has decided about."""
    undecided = [each.where for each in holds if each.holds and choice is Choice.NONE]
    if undecided:
        text = f"{', '.join(undecided)}: a change is held, and would roll out without the lock. Nothing was written. "
        text += (
            "Choose: --accept (it rolls out at once, unjudged) or --reject (the serving version's template "
        )
        raise RefusedError(f"{text}comes back)", code="CAN-5007")
    lost = [each.where for each in holds if each.came_back and choice is Choice.ACCEPT]
    if lost:
        text = f"{', '.join(lost)}: the last good version serves from pods of its own, so only --reject is possible"
        raise RefusedError(text, code="CAN-5007")


def effect(hold: Hold, choice: Choice) -> str:
    """Return what a detach does, as a clause."""
    if hold.seen is None:
        return "there is no Deployment; the policy is deleted"
    ends = ""
    if hold.run is not None:
        after = hold.run.phase in AFTER_COMMIT
        ends = "the commit under way ends first; " if after else "all traffic goes to the old version; "
    if not hold.holds:
        return f"{ends}what is canary's goes, the lock and the policy last; no pod of yours moves"
    if choice is Choice.ACCEPT:
        return f"{ends}the held change rolls out natively at once, unjudged, and the policy goes"
    return f"{ends}the serving version's template comes back, no pod moves, and the policy goes"


def begin(client: Client, hold: Hold, choice: Choice, reason: str = "") -> None:
    """Write the person's part: mode Observe first, since it lowers exposure; then what becomes of a held change."""
    if hold.manifest is not None:
        client.create(CANARYPOLICIES, hold.manifest, intent=Intent.NEUTRAL)
    elif client.merge_patch(hold.ref, {"spec": {"mode": Mode.OBSERVE.value}}, intent=Intent.LOWERING) is None:
        raise RefusedError(f"policy {hold.namespace}/{hold.policy} is gone", code="CAN-5002")
    if not hold.holds or hold.seen is None:
        return
    if choice is Choice.ACCEPT:
        client.create(CANARYREQUESTS, _bypass(client, hold, hold.seen, reason), intent=Intent.NEUTRAL)
        return
    template = good_template(client, hold.seen, hold.good_hash)
    if template is None:
        text = f"{hold.where}: the serving version's template is not kept anywhere; apply its manifest, then detach"
        raise RefusedError(text, code="CAN-5008")
    put_template(client, hold.seen, template)


def _bypass(client: Client, hold: Hold, seen: Observed, reason: str) -> dict[str, Any]:
    about = StoredRun(client.get(hold.ref) or hold.ref.manifest())
    digest = {"digest": seen.workload.template_hash}
    why = reason or "accepted by canary detach --accept"
    return request_of(client, Asking(Verb.BYPASS, about, why, digest, kind=CANARYPOLICIES.kind))


def is_done(client: Client, hold: Hold) -> bool:
    """Tell whether the controller has given everything back."""
    policy = client.get(hold.ref) or {}
    seen = whole(under(policy, "status", "observedGeneration"))
    if seen < whole(under(policy, "metadata", "generation")) or under(policy, "status", "adopted"):
        return False
    runs = [StoredRun(raw) for raw in client.list(CANARYRUNS, hold.namespace)]
    if any(each.policy == hold.policy and each.at("tidiedAt") is None for each in runs):
        return False
    deployment = client.get(DEPLOYMENTS.at(hold.namespace, hold.workload))
    return under(deployment, "metadata", "labels", Mark.GUARDED.value) != TRUE


def finish(client: Client, hold: Hold) -> None:
    """Delete the policy: nothing hangs on it any more."""
    policy = client.get(hold.ref)
    if policy is not None:
        client.delete(hold.ref, uid=policy["metadata"]["uid"], intent=Intent.NEUTRAL)


def _await(session: Session, hold: Hold, deadline: float) -> None:
    """Wait until the controller has given all back, then delete the policy."""
    while not is_done(session.client, hold):
        if time.monotonic() >= deadline:
            said = said_by(session.client.get(hold.ref)) or "the controller has not looked at it"
            raise UnavailableError(
                f"{hold.where} is not given back yet: {said}. The policy stays, in mode "
                f"Observe; the same command goes on. See `canary status {hold.where}`",
                code="CAN-3005",
            )
        time.sleep(POLL_SECONDS)
    with session.asking("delete", "canarypolicies", hold.namespace):
        finish(session.client, hold)


def _need_a_controller(session: Session) -> None:
    """Refuse where nobody would give anything back."""
    age = session.heartbeat_seconds()
    if age is not None and age > HEARTBEAT_STALE_SECONDS:
        text = f"no controller for {duration(age)}, so nobody gives anything back; nothing was written. Traffic: "
        raise UnavailableError(
            f"{text}`canary abort --now`; the rest: docs/how-to/by-hand.md", code="CAN-3001"
        )
