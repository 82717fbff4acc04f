"""`canary adopt`: what a policy would do to your objects, every reason against it with its remedy, and then the policy.

Enters: a CanaryPolicy manifest. The plan is made by the code that the controller adopts with, from objects read with
the caller's own rights, so what is refused here would be refused there. With `--dry-run` nothing is written; else the
policy is created, and the command waits until the Deployment is held. No pod moves either way.
"""

import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass

from canary.api.marks import side_name
from canary.api.policy import CanaryPolicySpec
from canary.api.read import parse_policy
from canary.cli.arguments import access_of, add_access, add_output, add_patience, add_switch
from canary.cli.documents import titled
from canary.cli.exits import Exit
from canary.cli.manifests import read_manifest
from canary.cli.session import Session
from canary.cli.terminal import Terminal
from canary.core.evidence import Missing
from canary.core.portions import refusal_of
from canary.core.telling.stored import said_by, under
from canary.core.telling.wording import plain
from canary.errors import RefusedError, UnavailableError
from canary.kube import adoption, autoscaler
from canary.kube.client import AlreadyExistsError, Client, Intent
from canary.kube.resources import CANARYPOLICIES, Ref
from canary.traffic.kinds import AnyRouter
from canary.traffic.router import Target

PATIENCE_SECONDS = 30.0  # unless --timeout says otherwise
POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """What would be written, what forbids it, and what to think about."""

    namespace: str
    workload: str
    writes: tuple[str, ...]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the plan for people."""
        verdict = "cannot be adopted" if self.refusals else "can be adopted; no pod moves"
        found = [f"{self.namespace}/{self.workload} {verdict}"]
        for title, texts in (("refused", self.refusals), ("writes", self.writes), ("know", self.warnings)):
            found += [f"  {title}: {text}" for text in texts]
        return found


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.add_argument("policy", metavar="POLICY", help="a CanaryPolicy manifest; - is stdin")
    add_switch(parser, "--dry-run", help="only print the plan")
    add_switch(parser, "--yes", help="do not ask")
    add_patience(parser, PATIENCE_SECONDS)
    add_output(parser, ("table", "json", "yaml"))
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    manifest = read_manifest(given.policy, CANARYPOLICIES.kind)
    spec = parse_policy(manifest)
    name = plain(under(manifest, "metadata", "name"), 253)
    namespace = plain(under(manifest, "metadata", "namespace"), 63) or session.namespace
    with session.asking("get", "deployments", namespace):
        plan = plan_of(session.client, CANARYPOLICIES.at(namespace, name), spec)
    terminal.show(given.output, titled("adoption", **asdict(plan)), plan.lines())
    if plan.refusals:
        raise RefusedError(f"cannot adopt {plan.workload}: {plan.refusals[0]}", code="CAN-4101")
    if given.dry_run:
        terminal.note("dry run: nothing was written")
        return Exit.DONE
    if not given.yes and not terminal.ask("Continue?"):
        terminal.note("nothing was written")
        return Exit.USAGE
    ref = CANARYPOLICIES.at(namespace, name)
    _create(session, ref, manifest)
    _wait(session, ref, given.timeout)
    terminal.lines(
        [f"{namespace}/{plan.workload} is held from now on; every change of it is tried by policy {name}"]
    )
    return Exit.DONE


def plan_of(client: Client, policy: Ref, spec: CanaryPolicySpec) -> AdoptionPlan:
    """Make the plan. Raise RefusedError where there is no such Deployment."""
    wish = adoption.Wish(policy.namespace, spec.target.name, spec.service or "", policy.name)
    facts = adoption.gather(client, wish)
    if isinstance(facts, Missing):
        raise RefusedError(f"{facts.detail}. Correct spec.target.name, or deploy it first", code="CAN-4102")
    writes, refusals, warnings = adoption.writes(facts), adoption.refusals(facts), adoption.warnings(facts)
    for each in autoscaler.autoscalers(client, policy.namespace, spec.target.name):
        what = f"{each['kind']} {each['metadata']['name']}"
        if autoscaler.may_shrink(each):
            writes = (*writes, f"{what}: while customers meet a new version, it may not scale down")
        else:
            warnings = (
                *warnings,
                f"{what} is owned by another controller, or does not scale down: it is left alone",
            )
    if facts.service is not None:
        service = facts.service["metadata"]["name"]
        target = Target(policy.namespace, service, side_name(service), spec.route)
        routed = AnyRouter(client).plan(target)
        writes = (*writes, *(f"at the start of each change: {each}" for each in routed.writes))
        refusals, warnings = (*refusals, *routed.refusals), (*warnings, *routed.warnings)
    if refused := refusal_of(spec):
        refusals = (*refusals, refused)
    return AdoptionPlan(policy.namespace, spec.target.name, writes, refusals, warnings)


def _create(session: Session, ref: Ref, manifest: dict[str, object]) -> None:
    body = {**ref.manifest(), "spec": manifest["spec"]}
    with session.asking("create", "canarypolicies", ref.namespace):
        try:
            session.client.create(CANARYPOLICIES, body, intent=Intent.NEUTRAL)
        except AlreadyExistsError as error:
            text = f"policy {ref.namespace}/{ref.name} exists; `kubectl apply` changes it"
            raise RefusedError(text, code="CAN-4103") from error


def _wait(session: Session, ref: Ref, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        stored = session.client.get(ref)
        if under(stored, "status", "adopted"):
            return
        if time.monotonic() >= deadline:
            told = said_by(stored) or "no controller has looked at it"
            raise UnavailableError(
                f"policy {ref.namespace}/{ref.name} is stored, but: {told}", code="CAN-3002"
            )
        time.sleep(POLL_SECONDS)
