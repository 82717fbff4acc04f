"""`canary lint FILE...`: what would be refused, wait for a senior or be noted, and why, before anything runs.

Enter: manifests of policies, safety policies and Deployments with their change records; with --against the ones that
serve. Leaves: a complaint a line, by the same functions that the controller asks. Nothing is asked of a cluster, so
what only a cluster knows (earlier runs, other objects) is not complained of. Exit 1 where anything would be refused.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from canary.api.policy import CanaryPolicySpec
from canary.api.read import InvalidObject, parse_policy, parse_safety, problems
from canary.api.reasons import Origin
from canary.api.safety import RecordRules, SafetyPolicySpec, UnknownOrigin
from canary.cli.arguments import add_output, add_texts
from canary.cli.documents import titled
from canary.cli.exits import Exit
from canary.cli.manifests import read_manifests, template_of
from canary.cli.terminal import Terminal
from canary.core.intake import MAX_STEPS
from canary.core.portions import refusal_of
from canary.core.record import record_of
from canary.core.rules.effective import Effective, effective, fitted
from canary.core.rules.patterns import findings
from canary.core.rules.templates import Proposal
from canary.core.telling.wording import plain
from canary.errors import RefusedError
from canary.kube import adoption
from canary.kube.selectors import matches, of_map
from canary.kube.side import labels_of_template
from canary.kube.workload import annotations_of, observed

REFUSED, WAITS, NOTED = "refused", "waits", "noted"
ODD = (TypeError, KeyError, AttributeError, ValueError)  # of a manifest that no API server has checked
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing about one object: what it leads to, where, and what to do."""

    object: str
    outcome: str
    says: str


@dataclass(frozen=True, slots=True)
class Desk:
    """All that was given, read as far as it can be."""

    manifests: Sequence[Json]
    serving: Sequence[Json]
    policies: Mapping[tuple[str, str], CanaryPolicySpec]
    """By namespace and name."""
    safety: Mapping[str, SafetyPolicySpec]
    now: datetime

    def policy_of(self, deployment: Json) -> CanaryPolicySpec | None:
        """Return the policy that targets a Deployment."""
        wanted, namespace = deployment["metadata"]["name"], _namespace(deployment)
        found = (
            spec
            for (where, _), spec in self.policies.items()
            if where == namespace and spec.target.name == wanted
        )
        return next(found, None)

    def ruling(self, tier: int) -> Effective | None:
        return effective(self.safety, tier, self.now)

    def of_kind(self, kind: str, namespace: str) -> list[Any]:
        return [each for each in self.manifests if each.get("kind") == kind and _namespace(each) == namespace]


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="manifests in YAML; - is stdin")
    add_texts(parser, "--against", "FILE", "manifests that serve, to compare with")
    add_output(parser, ("table", "json", "yaml"))


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    manifests = [each for path in given.files for each in read_manifests(path)]
    serving = [each for path in given.against for each in read_manifests(path)]
    found = lint(manifests, serving, datetime.now(UTC))
    refused = sum(each.outcome == REFUSED for each in found)
    document = titled("lint", complaints=[asdict(each) for each in found])
    terminal.show(given.output, document, (f"{each.outcome:<8} {each.object}: {each.says}" for each in found))
    if given.output == "table":
        waiting = sum(each.outcome == WAITS for each in found)
        terminal.note(f"{len(manifests)} objects: {refused} refusals, {waiting} wait for a senior")
    return Exit.FAILED if refused else Exit.DONE


def lint(manifests: Sequence[Any], serving: Sequence[Any], now: datetime) -> list[Complaint]:
    """Return everything that is to be said of the manifests, in their order."""
    objects = [each for each in manifests if isinstance(each, Mapping)]
    desk = Desk(objects, [each for each in serving if isinstance(each, Mapping)], *_read(objects), now)
    found = [_refused("a document", "it is no object") for each in manifests if not isinstance(each, Mapping)]
    for each in objects:
        for rule in _RULES.get(str(each.get("kind")), ()):
            found += _checked(rule, each, desk)
    return found


def _read(
    manifests: Sequence[Json],
) -> tuple[dict[tuple[str, str], CanaryPolicySpec], dict[str, SafetyPolicySpec]]:
    """Return the policies and the safety policies that are valid; `_schema` says what is wrong with the others."""
    policies: dict[tuple[str, str], CanaryPolicySpec] = {}
    safety: dict[str, SafetyPolicySpec] = {}
    for each in manifests:
        try:
            if each.get("kind") == "CanaryPolicy":
                policies[_namespace(each), each["metadata"]["name"]] = parse_policy(each)
            elif each.get("kind") == "SafetyPolicy":
                safety[each["metadata"]["name"]] = parse_safety(each)
        except (InvalidObject, *ODD):
            continue
    return policies, safety


def _checked(rule: "Rule", manifest: Json, desk: Desk) -> list[Complaint]:
    try:
        return list(rule(manifest, desk))
    except (RefusedError, *ODD) as error:
        return [_refused(_title(manifest), f"it cannot be checked: {error}")]


# -- rules ----------------------------------------------------------------------------------------------------------


def _schema(manifest: Json, desk: Desk) -> Iterator[Complaint]:
    """Our own kinds: every wrong or unknown field, with the name that was probably meant."""
    yield from (_refused(_title(manifest), str(problem)) for problem in problems(manifest))


def _plan(manifest: Json, desk: Desk) -> Iterator[Complaint]:
    """A policy's steps, within what the safety policies let a change have that is not proved human."""
    spec = desk.policies.get((_namespace(manifest), manifest["metadata"]["name"]))
    if spec is None:
        return
    if refused := refusal_of(spec):
        yield _refused(_title(manifest), refused)
    steps = spec.resolved_steps(Origin.UNKNOWN)
    plan = fitted(steps, Origin.UNKNOWN, desk.ruling(spec.tier))
    if len(plan) > MAX_STEPS:
        text = (
            f"within the safety policy the plan has {len(plan)} steps, {MAX_STEPS} are the most: remove some"
        )
        yield _refused(_title(manifest), text)
    elif len(plan) > len(steps):
        text = f"a change not proved human gets {len(plan)} steps, not {len(steps)}: the safety policy bounds them"
        yield Complaint(_title(manifest), NOTED, text)


def _end(manifest: Json, desk: Desk) -> Iterator[Complaint]:
    """What follows a safety policy must be there when it ends."""
    spec = desk.safety.get(manifest["metadata"]["name"])
    follower = spec.on_expiry.fallback if spec is not None and spec.on_expiry is not None else ""
    if follower and follower not in desk.safety:
        text = f"spec.onExpiry.fallback {follower} is not among these files; if there is none, this one stays in force"
        yield Complaint(_title(manifest), NOTED, text)


def _keys(manifest: Json, desk: Desk) -> Iterator[Complaint]:
    """A key that cannot be read would leave every statement unproved."""
    spec = desk.safety.get(manifest["metadata"]["name"])
    if spec is None or not spec.trusted_keys:
        return
    from canary.audit.attest import public_key  # and `cryptography`: where there is a key

    for key in spec.trusted_keys:
        try:
            public_key(key.public_key)
        except RefusedError as error:
            yield _refused(_title(manifest), f"spec.trustedKeys, {key.id}: {error}")


def _workload(manifest: Json, desk: Desk) -> Iterator[Complaint]:
    """A Deployment that a policy targets: can it be held, and stand twice?"""
    template_of(manifest)
    policy, namespace = desk.policy_of(manifest), _namespace(manifest)
    if policy is None:
        return
    if manifest["spec"].get("paused") is False:
        text = "spec.paused: false would release held changes at each apply; remove the line"
        yield _refused(_title(manifest), text)
    stored = {**manifest, "metadata": {"uid": "", "generation": 0, **manifest["metadata"]}}
    facts = adoption.Facts(
        adoption.Wish(namespace, manifest["metadata"]["name"], policy.service or ""),
        observed(stored, ()),
        services=tuple(desk.of_kind("Service", namespace)),
        budgets=tuple(desk.of_kind("PodDisruptionBudget", namespace)),
        network_policies=tuple(desk.of_kind("NetworkPolicy", namespace)),
    )
    rules = adoption.OF_THE_WORKLOAD + (adoption.OF_THE_SERVICE if facts.services else ())
    yield from (_refused(_title(manifest), text) for rule in rules for text in rule(facts))


def _change(manifest: Json, desk: Desk) -> Iterator[Complaint]:
    """The change itself: its record, its origin, and known failure patterns."""
    policy, namespace = desk.policy_of(manifest), _namespace(manifest)
    tier = policy.tier if policy is not None else 1
    ruling, record = desk.ruling(tier), record_of(annotations_of(manifest))
    old = next((each for each in desk.serving if _title(each) == _title(manifest)), manifest)
    labels = labels_of_template(template_of(old))
    selectors = [each["spec"].get("selector") or {} for each in desk.of_kind("Service", namespace)]
    scrape = policy.source.scrape if policy is not None else None
    proposal = Proposal(
        new=template_of(manifest),
        old=template_of(old),
        deployment=manifest["spec"],
        serving_pods=int(old["spec"].get("replicas", 1)),
        selectors=[each for each in selectors if each and matches(of_map(each), labels)],
        record=record,
        required=ruling.spec.record.require if ruling is not None else RecordRules().require,
        metrics_port=scrape.port if scrape is not None else "",
    )
    if (
        ruling is not None
        and record.origin is Origin.UNKNOWN
        and ruling.spec.record.unknown is UnknownOrigin.BLOCK
    ):
        text = "nobody knows who wrote it, and the safety policy lets no such change start: `canary flag` it in CI"
        yield _refused(_title(manifest), text)
    for found in findings(proposal, tier, ruling):
        yield Complaint(_title(manifest), _OUTCOMES[found.strength.value], f"{found.id} {found.message}")


Rule = Callable[[Json, Desk], Iterator[Complaint]]
_OUTCOMES = {"refuse": REFUSED, "approve": WAITS, "note": NOTED}
_RULES: Mapping[str, tuple[Rule, ...]] = {
    "CanaryPolicy": (_schema, _plan),
    "SafetyPolicy": (_schema, _end, _keys),
    "CanaryRun": (_schema,),
    "CanaryRequest": (_schema,),
    "Deployment": (_workload, _change),
}


def _refused(title: str, says: str) -> Complaint:
    return Complaint(title, REFUSED, plain(says))


def _title(manifest: Json) -> str:
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else ""
    return plain(f"{manifest.get('kind')} {_namespace(manifest)}/{name}".replace(" /", " "), 128)


def _namespace(manifest: Json) -> str:
    metadata = manifest.get("metadata")
    found = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    return str(found or "")
