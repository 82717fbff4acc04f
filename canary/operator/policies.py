"""One look at a policy: adopt its target, keep the lock, start a run for a held change, say how things stand.

Gathers, lets `core.intake` consider, and does the one thing that it names. Runs are looked at by `tick.py`. Who waits
for something that no watch tells of (a Service, a pod that shows its counters) is looked at again soon; the others when
a watch wakes them, or with the sweep.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from canary.alerts.sink import Page
from canary.api.change import ChangeAnnotation, OriginEvidence
from canary.api.marks import TRUE, Mark
from canary.api.read import InvalidObject, parse_approved_policy
from canary.api.reasons import ConditionType, MissingReason, Opening, Reason, Verb
from canary.api.run import CanaryRunSpec
from canary.core.decision import Run
from canary.core.evidence import Directive, Missing
from canary.core.intake import consider, retries_of
from canary.core.policy_look import Desired, Intake, Policy, Seen, Templates
from canary.core.rules.loosening import looser_fields
from canary.core.rules.reviews import Owed, Review
from canary.core.rules.weakening import Weakening, Weaker, digest_of, late, waits, weighed
from canary.core.telling import conditions
from canary.core.telling.stored import under
from canary.core.telling.wording import duration, plain
from canary.errors import RefusedError
from canary.kube import adoption, workload
from canary.kube.client import AlreadyExistsError, Intent
from canary.kube.patches import merge_diff
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, CANARYRUNS, ENDPOINTSLICES, Key
from canary.kube.selectors import matches, of_map, text_of
from canary.kube.side import labels_of_template
from canary.metrics.source import counter_specs
from canary.operator.hands import Hands, answer
from canary.operator.look import or_missing, pod_targets, serving_pods
from canary.operator.objects import Asked, Json, Shelf, directives_for, reviews_of, reviews_of_policy, run_of
from canary.operator.proofs import proof_of
from canary.operator.rulebook import Rulebook
from canary.operator.tell import Teller
from canary.operator.thawing import Thawing
from canary.traffic.router import Target
from canary.traffic.slices import try_out

logger = logging.getLogger(__name__)
BUSY_SECONDS, WAITING_SECONDS, CALM_SECONDS = 2.0, 15.0, 300.0
CALM = frozenset({Reason.IDLE, Reason.RUN_ACTIVE, Reason.REJECTED_BEFORE, Reason.OBSERVING})
MAX_RUN_NAME = 200
MAX_ASKED, ASK_SECONDS = 3, 1.0  # pods that are asked whether they show what is counted, and for how long
NOT_SHOWN = frozenset({MissingReason.ABSENT, MissingReason.UNAUTHORISED})


class PolicyTicker:
    """Looks at policies, one at a time per key."""

    def __init__(self, hands: Hands, rulebook: Rulebook, teller: Teller) -> None:
        self._hands = hands
        self._teller = teller
        self._rulebook = rulebook
        self._thawing = Thawing(hands.client, hands.clock)
        self._kept: dict[str, str] = {}  # policy -> the last good template that is known to be stored
        self._read_runs: Shelf[Run] = Shelf(lambda stored: run_of(stored, hands.limits))

    def tick(self, key: Key) -> float | None:
        """Look once at the policy; return the seconds until the next look, None where it is gone."""
        ref = CANARYPOLICIES.at(key.namespace, key.name)
        stored = self._hands.client.get(ref)
        if stored is None:
            return None
        try:
            policy = self._hands.policies.read(stored)
        except InvalidObject as error:
            self._say(stored, {}, (Reason.POLICY_INVALID, str(error)))
            return CALM_SECONDS
        asked = or_missing(lambda: self._hands.client.list(CANARYREQUESTS, key.namespace))
        requests: Sequence[Json] = [] if isinstance(asked, Missing) else asked
        policy = self._weighed(policy, stored, requests)
        if policy.written is not None and policy.status.effective_digest == digest_of(policy.written):
            self._say(stored, policy.status.wire(), (Reason.POLICY_CHANGED, "a looser text is in force"))
            return BUSY_SECONDS
        facts = self._facts(policy)
        seen = self._thawed(policy, self._seen(policy, facts, requests))
        intake = consider(policy, seen)
        self._do(policy, intake, seen.runs)
        self._keep_good(policy, intake, facts)
        self._call_if_overdue(policy, intake.owed)
        self._say(stored, intake.status.wire(), (intake.reason, intake.message))
        if intake.start or intake.adopt or intake.relock:
            return BUSY_SECONDS
        return CALM_SECONDS if intake.reason in CALM and not seen.frozen_seconds else WAITING_SECONDS

    # -- a looser text ---------------------------------------------------------------------------------------------

    def _weighed(self, policy: Policy, stored: Json, requests: Sequence[Json]) -> Policy:
        """Return the policy with the text that is approved by now, and with what waits; who approves is answered."""
        now, weakening = self._hands.clock.now(), None
        if policy.written is not None:
            weakening = or_missing(lambda: self._weakening(policy, stored, requests))
            if isinstance(weakening, Missing):
                return policy
        status = weighed(policy.status, policy.written or policy.spec, weakening, now)
        if weakening is None:
            return replace(policy, status=status)
        for each in directives_for(requests, Asked(CANARYPOLICIES.kind, policy.uid, policy.name)):
            if each.verb is Verb.APPROVE and each.digest == weakening.electorate.digest:
                answer(self._hands, policy.namespace, weakening.answer(each, now))
        if status.weaker is not None:
            again = f"{status.weaker.digest[7:23]}{late(status.weaker, weakening.electorate.rules, now)}"
            way = f"canary approve {policy.namespace}/policy/{policy.name} --reason ..."
            body = f"{plain(waits(status.weaker))}\ndo this: {way}      or apply the former text again"
            self._call(policy, (Reason.POLICY_WEAKER, again), ("a looser policy waits", body))
        return replace(policy, status=status)

    def _weakening(
        self, policy: Policy, stored: Json, requests: Sequence[Json]
    ) -> Weakening | Missing | None:
        """Return what people said of a looser text; None where no safety policy asks anybody."""
        ruling = self._rulebook.ruling(policy.spec.tier)
        if policy.written is None or ruling is None or isinstance(ruling, Missing):
            return ruling if isinstance(ruling, Missing) else None
        fields = looser_fields(parse_approved_policy(policy.status.effective), policy.written)
        weaker = Weaker(fields, digest_of(policy.written), ruling.spec.approvals)
        asked = Asked(CANARYPOLICIES.kind, policy.uid, policy.name)
        return self._rulebook.weakening(stored, asked, requests, weaker)

    # -- gather ----------------------------------------------------------------------------------------------------

    def _facts(self, policy: Policy) -> adoption.Facts | Missing:
        target = policy.spec.target.name
        wish = adoption.Wish(policy.namespace, target, policy.spec.service or "", policy.name)
        read = adoption.look if policy.status.adopted else adoption.gather
        return or_missing(lambda: read(self._hands.client, wish))

    def _seen(self, policy: Policy, facts: adoption.Facts | Missing, requests: Sequence[Json]) -> Seen:
        runs = self._runs(policy)
        if policy.written is not None:  # who approves a text reviews nothing
            text = digest_of(policy.written)
            requests = [each for each in requests if under(each, "spec", "digest") != text]
        retries, bypasses = _asked(policy, runs, requests)
        now, ruling = self._hands.clock.now(), self._rulebook.ruling(policy.spec.tier)
        return Seen(
            workload=facts if isinstance(facts, Missing) else facts.seen.workload,
            desired=None
            if isinstance(facts, Missing)
            else _desired(facts, proof_of(facts, runs, ruling, now)),
            runs=runs,
            rival="" if isinstance(facts, Missing) else next(iter(facts.writers), ""),
            refusals=() if isinstance(facts, Missing) else self._refusals(policy, facts),
            retries=retries,
            bypasses=bypasses,
            reviews=self._reviews(policy, (runs, requests), facts),
            now=now,
            ruling=ruling,
            uncounted="" if isinstance(facts, Missing) else self._uncounted(policy, facts, runs),
        )

    def _thawed(self, policy: Policy, seen: Seen) -> Seen:
        """Let the target's autoscalers scale down again, if no run is under way and that is due."""
        busy = any(run.status.tidied_at is None for run in seen.runs)
        left = or_missing(lambda: self._thawing.look(policy, busy=busy))
        return replace(seen, frozen_seconds=BUSY_SECONDS if isinstance(left, Missing) else left)

    def _runs(self, policy: Policy) -> list[Run]:
        runs: list[Run] = []
        for stored in self._hands.client.list(CANARYRUNS, policy.namespace):
            try:
                run = self._read_runs.read(stored)
            except InvalidObject as error:
                logger.warning("run %s cannot be read: %s", stored["metadata"]["name"], error)
                continue
            if run.spec.policy_ref.name == policy.name:
                runs.append(run)
        return runs

    def _refusals(self, policy: Policy, facts: adoption.Facts) -> tuple[str, ...]:
        if policy.status.adopted:
            return ()
        of_workload = adoption.refusals(facts)
        service = facts.service
        if service is None:
            return of_workload
        name = service["metadata"]["name"]
        target = Target(policy.namespace, name, f"{name}-canary", policy.spec.route)
        missing = self._missing_right(target) if policy.spec.route.in_pods else ()
        return (*of_workload, *self._hands.router.plan(target).refusals, *missing)

    def _missing_right(self, target: Target) -> tuple[str, ...]:
        """Ask the API server whether a slice could be made: that right is given only where policies split by pods."""
        try:
            self._hands.client.create(ENDPOINTSLICES, try_out(target), intent=Intent.NEUTRAL, dry_run=True)
        except AlreadyExistsError:
            return ()
        except RefusedError as error:
            return (f"canary may make no EndpointSlice; install it with endpointSlices: true. {error}",)
        return ()

    def _uncounted(self, policy: Policy, facts: adoption.Facts, runs: Sequence[Run]) -> str:
        """Say what is counted and no pod shows; asked until the policy as it stands was found ready."""
        service, spec = facts.service, policy.spec
        busy = any(run.status.tidied_at is None for run in runs)
        if service is None or busy or not policy.status.adopted or _was_ready(policy):
            return ""
        place = policy.namespace, service["metadata"]["name"], text_of(facts.deployment["spec"]["selector"])
        pods = or_missing(lambda: serving_pods(self._hands, spec, place))
        if isinstance(pods, Missing):
            return pods.detail if pods.reason in NOT_SHOWN else ""
        targets = pod_targets(spec, policy.namespace, pods.stable[:MAX_ASKED], canary=False)
        specs, source = counter_specs(spec.analysis), self._hands.sources
        read = or_missing(lambda: source.of(spec).read(targets, specs, within_seconds=ASK_SECONDS))
        answers = [read] if isinstance(read, Missing) else list(read.values())
        missing = [each for each in answers if isinstance(each, Missing) and each.reason in NOT_SHOWN]
        return missing[0].detail if missing and len(missing) == len(answers) else ""

    def _reviews(
        self, policy: Policy, known: tuple[Sequence[Run], Sequence[Json]], facts: adoption.Facts | Missing
    ) -> tuple[Review, ...]:
        """Return what was said about bypasses that are over, and about what went round the hold."""
        runs, requests = known
        over = [run for run in runs if run.status.bypass is not None and run.status.phase.final]
        people = self._hands.people()
        said = {} if isinstance(facts, Missing) else workload.annotations_of(facts.deployment)
        writer = said.get(ChangeAnnotation.CHANGED_BY, "")
        of_runs = (review for run in over for review in reviews_of(run, requests, people))
        return (*of_runs, *reviews_of_policy(policy, requests, people, writer))

    # -- act -------------------------------------------------------------------------------------------------------

    def _do(self, policy: Policy, intake: Intake, runs: Sequence[Run]) -> None:
        target = policy.spec.target.name
        if intake.adopt:
            workload.adopt(self._hands.client, policy.namespace, target)
        if intake.relock:
            workload.pause(self._hands.client, policy.namespace, target)
        if intake.release:
            workload.release(self._hands.client, policy.namespace, target, intake.release)
        if intake.start is not None:
            self._record(policy, intake.start, runs)
        for each in intake.answers:
            answer(self._hands, policy.namespace, each)

    def _keep_good(self, policy: Policy, intake: Intake, facts: adoption.Facts | Missing) -> None:
        """Store the last good template while it serves, once for each process: what is deleted can then serve again."""
        good = intake.status.good
        if not intake.status.adopted or good is None:
            self._kept.pop(policy.uid, None)
            return
        serves = not isinstance(facts, Missing) and facts.seen.workload.stable_hash == good.template_hash
        if isinstance(facts, Missing) or not serves or self._kept.get(policy.uid) == good.template_hash:
            return
        workload.keep_last_good(self._hands.client, facts.seen)
        self._kept[policy.uid] = good.template_hash

    def _call_if_overdue(self, policy: Policy, owed: Owed | None) -> None:
        """Call people, once a day, for a review that should have been done."""
        now = self._hands.clock.now()
        past = owed.overdue(now) if owed is not None else timedelta()
        if owed is None or past <= timedelta():
            return
        said = f"review overdue {duration(past.total_seconds())}", "no other change of it begins before"
        again = f"{owed.about[-64:]}/{past.days}"
        self._call(policy, (Reason.BYPASS_USED, again), (said[0], f"{owed.message}\n{said[1]}"))

    def _call(self, policy: Policy, state: tuple[Reason, str], said: tuple[str, str]) -> None:
        """Call people to decide something about the policy; once, as long as the `state` has the same name."""
        (reason, again), (text, body), target = state, said, policy.spec.target.name
        opening = Opening.DECISION_NEEDED
        page = Page(
            id=f"{policy.uid}/{reason.value}/{again}"[:128],
            incident=self._teller.of_policy(policy.namespace, target, policy.uid),
            opening=opening,
            reason=reason.value,
            title=f"{opening.value} - {text}: {policy.namespace}/{target}",
            body=body,
            at=self._hands.clock.now(),
        )
        self._teller.announce(page)

    def _record(self, policy: Policy, spec: CanaryRunSpec, runs: Sequence[Run]) -> None:
        """Create the run; its name is derived from what it tries, so that a second create is the same one."""
        name = run_name(policy.name, spec, {run.name for run in runs})
        labels = {"labels": {Mark.TARGET.value: spec.target.name[:63]}}
        body = CANARYRUNS.at(policy.namespace, name).manifest(labels, spec=spec.wire())
        try:
            self._hands.client.create(CANARYRUNS, body, intent=Intent.NEUTRAL)
        except AlreadyExistsError:
            logger.info("run %s exists already", name)

    # -- say -------------------------------------------------------------------------------------------------------

    def _say(self, stored: Json, status: dict[str, Any], verdict: tuple[Reason, str]) -> None:
        meta, before = stored["metadata"], dict(stored.get("status") or {})
        after = status or before
        now, generation = self._hands.clock.now(), int(meta.get("generation", 0))
        known = _known_conditions(before)
        said = conditions.of_policy(known, verdict, generation, now)
        after = {**after, "conditions": [condition.wire() for condition in said]}
        patch = merge_diff(before, after)
        if not patch:
            return
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": patch}
        ref = CANARYPOLICIES.at(meta["namespace"], meta["name"])
        self._hands.client.merge_patch(ref, body, intent=Intent.NEUTRAL, subresource="status")


def _asked(
    policy: Policy, runs: Sequence[Run], requests: Sequence[Json]
) -> tuple[tuple[Directive, ...], tuple[Directive, ...]]:
    """Return what people ask of the policy: retries of runs that are over, and bypasses."""
    found: list[Directive] = []
    for run in runs:
        if run.status.phase.final:
            found += directives_for(requests, Asked("CanaryRun", run.uid, run.name))
    asked = directives_for(requests, Asked("CanaryPolicy", policy.uid, policy.name))
    return retries_of(found), tuple(each for each in asked if each.verb is Verb.BYPASS)


def _was_ready(policy: Policy) -> bool:
    """Tell whether the policy as it stands was found ready by the last look."""
    ready = next((each for each in policy.status.conditions if each.type == ConditionType.READY), None)
    return ready is not None and ready.status == "True" and ready.observed_generation == policy.generation


def _known_conditions(status: Json) -> list[conditions.Condition]:
    return [conditions.Condition.model_validate(each) for each in status.get("conditions") or []]


def _desired(facts: adoption.Facts, proof: tuple[OriginEvidence, ...]) -> Desired:
    stable = facts.seen.stable
    template = facts.template
    service = facts.service
    metadata = facts.deployment["metadata"]
    return Desired(
        asked=workload.revision_of(template),
        serving=workload.revision_of(stable["spec"]["template"]) if stable is not None else None,
        annotations=workload.annotations_of(facts.deployment),
        service=service["metadata"]["name"] if service is not None else "",
        guarded=(metadata.get("labels") or {}).get(Mark.GUARDED) == TRUE,
        surroundings=adoption.guard_facts(facts),
        templates=_templates(facts) if stable is not None else None,
        strangers=facts.strangers,
        proof=proof,
    )


def _templates(facts: adoption.Facts) -> Templates:
    stable: Json = facts.seen.stable or {}
    template = stable["spec"]["template"]
    labels = labels_of_template(template)
    theirs = [each for each in facts.services if Mark.SIDE not in (each["metadata"].get("labels") or {})]
    selectors = [each["spec"].get("selector") or {} for each in theirs]
    return Templates(
        deployment=facts.deployment["spec"],
        serving=template,
        serving_pods=int((stable.get("status") or {}).get("replicas", 0)),
        selectors=tuple(each for each in selectors if each and matches(of_map(each), labels)),
    )


def run_name(policy: str, spec: CanaryRunSpec, taken: Collection[str]) -> str:
    """Return the run's name: the policy, the digest of the change, and a number where that is taken."""
    name = f"{policy[:MAX_RUN_NAME]}-{spec.digest.removeprefix('sha256:')[:8]}"
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(free for free in (name, *numbered) if free not in taken)
