"""One look at the world for one run: what is there, what was counted, what people asked. Never raises for missing data.

Every read that fails becomes `Missing` evidence with its reason; the judge knows what that means. The objects behind
the evidence are handed along in `Gathered`, because the hands need them (the route's version, the templates).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from canary.api.marks import side_name, way_back_name
from canary.api.policy import CanaryPolicySpec
from canary.api.reasons import MissingReason, Mode, Phase, Reason
from canary.core.analysis import Analysed, Looked, analyse
from canary.core.decision import Run
from canary.core.detect.counters import Reading
from canary.core.evidence import Directive, Evidence, Missing, Route, Side
from canary.core.intent import SPLIT
from canary.core.memory import Memory
from canary.core.policy_look import Policy
from canary.core.record import changed_fields, policy_digest
from canary.core.site import Past, question
from canary.core.witness import Gained, Witnessed
from canary.errors import CanaryError, RefusedError, UnavailableError
from canary.kube import autoscaler, workload
from canary.kube.pods import SERVICE_LABEL, Arms, PodRef, Pods, list_pods, ready_addresses
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, ENDPOINTSLICES
from canary.kube.selectors import text_of
from canary.metrics.history import Shop
from canary.metrics.source import PodTarget, counter_specs, witness_specs
from canary.operator.hands import Hands, target_of
from canary.operator.objects import Asked, directives_for
from canary.traffic.router import Seen

T = TypeVar("T")
NOT_JUDGED = frozenset({Phase.HELD, Phase.COMMITTING, Phase.RETURNING})
MAX_TOLD = 8  # pods whose trouble is told
NO_SIDE = Side(exists=False)
NOT_READ = Missing(MissingReason.NOT_READ)
WITNESS_SECONDS = 0.5  # no look waits longer for the witness
HISTORY_SECONDS = 2.0  # for one part of the past; there are fifteen, one a look


@dataclass(frozen=True, slots=True)
class Gathered:
    """The evidence of one look and the objects behind it."""

    evidence: Evidence
    analysed: Analysed | None
    """None where no pod was read: nothing to judge in this phase."""
    deployment: workload.Observed | None
    seen: Seen | None
    pods: Pods | None

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is missing that a later look may take over."""
        stood = (self.evidence.workload, self.evidence.side, self.evidence.may_shrink)
        read = (self.deployment, self.seen, self.pods)
        return bool(self.evidence.policy_digest) and None not in read and not _any_missing(stood)


def _any_missing(parts: Sequence[object]) -> bool:
    return any(isinstance(each, Missing) for each in parts)


def or_missing(read: Callable[[], T | Missing]) -> T | Missing:
    """Return what `read` returns; what is outside and does not answer is missing, not an error."""
    try:
        return read()
    except UnavailableError as error:
        return Missing(MissingReason.UNAVAILABLE, str(error))
    except RefusedError as error:
        return Missing(MissingReason.UNAUTHORISED, str(error))


def gather(hands: Hands, run: Run, memory: Memory) -> Gathered:
    """Look once at everything that a decision about this run may rest on."""
    observed = or_missing(lambda: workload.observe(hands.client, run.namespace, run.spec.target.name))
    policy = or_missing(lambda: _policy(hands, run))
    stood = Evidence(
        workload=observed if isinstance(observed, Missing) else observed.workload,
        side=_side(hands, run),
        way_back=_way_back(hands, run),
        route=NOT_READ,
        finding=NOT_READ,
        share=NOT_READ,
        policy_digest="" if isinstance(policy, Missing) or policy is None else policy_digest(policy.spec),
        record_changes=()
        if isinstance(observed, Missing)
        else tuple(changed_fields(run.spec.change, workload.annotations_of(observed.deployment))),
        may_shrink=_may_shrink(hands, run),
        detaching=policy is None or (not isinstance(policy, Missing) and policy.spec.mode is Mode.OBSERVE),
    )
    return _now(hands, (run, memory), stood, observed, None)


def glance(hands: Hands, run: Run, memory: Memory, known: Gathered) -> Gathered:
    """Look at what moves by itself (route, serving pods, counts, requests); the rest is as it was `known`."""
    assert known.deployment is not None, "only a whole look is taken over"
    return _now(hands, (run, memory), known.evidence, known.deployment, known)


def _now(
    hands: Hands,
    of: tuple[Run, Memory],
    stood: Evidence,
    observed: workload.Observed | Missing,
    known: Gathered | None,
) -> Gathered:
    run, memory = of
    now = hands.clock.now()
    seen = or_missing(lambda: hands.router.read(target_of(run), known.seen if known else None))
    pods = _pods(hands, run, observed, known.pods if known else None)
    analysed = _analysed(hands, run, memory, (now, pods, seen))
    evidence = replace(
        stood,
        side=_with_ready(stood.side, pods),
        route=seen if isinstance(seen, Missing) else _route(seen),
        finding=NOT_READ if analysed is None else analysed.finding,
        share=NOT_READ if analysed is None else analysed.share,
        directives=_directives(hands, run),
        bytes_of_tags=frozenset() if isinstance(pods, Missing) else pods.bytes_of_tags,
        orders_in_step=analysed.orders_in_step if analysed else 0.0,
        baseline_ready=analysed is not None and analysed.baseline_ready,
        may_raise=hands.fence.may_raise(),
        closed_gates=_closed_gates(hands, run, analysed),
    )
    return Gathered(
        evidence=evidence,
        analysed=analysed,
        deployment=None if isinstance(observed, Missing) else observed,
        seen=None if isinstance(seen, Missing) else seen,
        pods=None if isinstance(pods, Missing) else pods,
    )


def _closed_gates(hands: Hands, run: Run, analysed: Analysed | None) -> Mapping[Reason, str]:
    trouble, silent = hands.guard_trouble(run.namespace), analysed.memory.witness.silent if analysed else ""
    gates = {
        Reason.GUARD_MISSING: trouble,
        Reason.SOURCES_DISAGREE: silent and f"the witness is silent: {silent}",
    }
    return {reason: text for reason, text in gates.items() if text}


def _may_shrink(hands: Hands, run: Run) -> bool | Missing:
    """Tell whether an autoscaler could take the old version's pods away; asked while traffic is, or will be, split."""
    if run.status.phase not in SPLIT:
        return False

    def read() -> bool:
        found = autoscaler.autoscalers(hands.client, run.namespace, run.spec.target.name)
        return any(autoscaler.may_shrink(each) for each in found)

    return or_missing(read)


def _route(seen: Seen) -> Route:
    return replace(seen.route, uneven=seen.route.attached and seen.lowest_ppm < seen.route.weight_ppm)


def _policy(hands: Hands, run: Run) -> Policy | None:
    """Return the run's policy as it is now, or None where it is gone (or another one of the same name)."""
    stored = hands.client.get(CANARYPOLICIES.at(run.namespace, run.spec.policy_ref.name))
    if stored is None or stored["metadata"]["uid"] != run.spec.policy_ref.uid:
        return None
    return hands.policies.read(stored)


def _directives(hands: Hands, run: Run) -> tuple[Directive, ...]:
    asked = or_missing(lambda: hands.client.list(CANARYREQUESTS, run.namespace))
    if isinstance(asked, Missing):
        return ()
    directives = directives_for(asked, Asked("CanaryRun", run.uid, run.name))
    return tuple(each for each in directives if each.uid not in run.status.handled)


def _pods(
    hands: Hands, run: Run, observed: workload.Observed | Missing, known: Pods | None
) -> Pods | Missing:
    if isinstance(observed, Missing) and observed.reason is not MissingReason.ABSENT:
        return observed
    selector = "" if isinstance(observed, Missing) else text_of(observed.deployment["spec"]["selector"])
    policy = run.spec.policy
    place = run.namespace, run.spec.service, selector
    return or_missing(lambda: serving_pods(hands, policy, place, known))


def serving_pods(
    hands: Hands, policy: CanaryPolicySpec, place: tuple[str, str, str], known: Pods | None = None
) -> Pods | Missing:
    """Return the serving pods of a policy's target. `place`: namespace, the Service's name, the pods' selector."""
    namespace, service, selector = place
    arms = Arms(
        namespace=namespace,
        selector=selector,
        service=service,
        side=side_name(policy.target.name),
        side_service=side_name(service),
        port=policy.source.scrape.port if policy.source.scrape else "",
    )
    return list_pods(hands.client, arms, known)


def _side(hands: Hands, run: Run) -> Side | Missing:
    """Look at the side's objects; how many of its pods are ready is added by `_with_ready`."""
    if run.status.tidied_at is not None:
        return NO_SIDE
    name = side_name(run.spec.target.name)
    side = or_missing(lambda: workload.observe_side(hands.client, run.namespace, name, ()))
    if run.status.phase.final and side == NO_SIDE:  # what a creation that broke off left is given back, too
        return or_missing(lambda: Side(workload.has_left_overs(hands.client, run.namespace, _side_of(run))))
    return side


def _with_ready(side: Side | Missing, pods: Pods | Missing) -> Side | Missing:
    if isinstance(side, Missing) or not side.template_hash:
        return side
    if isinstance(pods, Missing):
        return Missing(pods.reason, pods.detail)  # there, but nobody knows how many of its pods are ready
    return replace(side, ready=len(pods.side))


def _side_of(run: Run) -> tuple[str, str]:
    return side_name(run.spec.target.name), side_name(run.spec.service)


def _way_back(hands: Hands, run: Run) -> Side | Missing:
    if run.status.way_back.wanted == 0:
        return NO_SIDE
    name, service = way_back_name(run.spec.target.name), way_back_name(run.spec.service)

    def read() -> Side:
        slices = hands.client.list(ENDPOINTSLICES, run.namespace, selector=f"{SERVICE_LABEL}={service}")
        side = workload.observe_side(hands.client, run.namespace, name, ())
        return replace(side, ready=len(ready_addresses(slices, service)))

    return or_missing(read)


def _analysed(
    hands: Hands, run: Run, memory: Memory, look: tuple[datetime, Pods | Missing, Seen | Missing]
) -> Analysed | None:
    now, pods, seen = look
    if run.status.phase in NOT_JUDGED or run.status.phase.final or run.status.started_at is None:
        return None
    zero = run.status.started_at
    at = (now - zero).total_seconds()
    route_ppm, nearest = (
        (None, None) if isinstance(seen, Missing) else (seen.route.weight_ppm, seen.route.nearest_ppm)
    )
    if isinstance(pods, Missing):
        looked = Looked(at, troubles=(pods.detail or pods.reason.value,), route_ppm=route_ppm)
        return analyse(run, memory, looked)
    policy, namespace = run.spec.policy, run.namespace
    targets = pod_targets(policy, namespace, pods.stable, canary=False)
    targets += pod_targets(policy, namespace, pods.side, canary=True)
    read = _read(hands, run, targets)
    readings = [_shifted(each, zero.timestamp()) for each in read.values() if isinstance(each, Reading)]
    live = {target.key: target.canary for target in targets}
    told, unreadable = _troubles(targets, read)
    looked = Looked(at, readings, live, told, route_ppm, _past(hands, run, memory, now), unreadable)
    looked = replace(looked, nearest_ppm=nearest, witnessed=_witnessed(hands, run, memory, at))
    return analyse(run, memory, looked)


def _witnessed(hands: Hands, run: Run, memory: Memory, at: float) -> Witnessed | Missing | None:
    """Ask the witness, at its Prometheus's pace, while customers meet the new version."""
    source, zero = run.spec.policy.source, run.status.started_at
    specs, since = witness_specs(source), memory.witness.since
    if not specs or source.prometheus is None or zero is None or not run.status.traffic.weight_ppm:
        return None
    if at - memory.witness.asked_at < source.prometheus.every.total_seconds() or since > at:
        return None
    witness = hands.sources.witness_of(run.spec.policy)
    if witness is None:
        return Missing(MissingReason.UNAUTHORISED, "the settings do not allow its Prometheus")
    found = witness.gained(specs, zero.timestamp() + since, within_seconds=WITNESS_SECONDS)
    if isinstance(found, Missing):
        return found
    start = zero.timestamp()
    return {name: Gained(each.begin - start, each.end - start, each.count) for name, each in found.items()}


def _troubles(
    targets: Sequence[PodTarget], read: Mapping[str, Reading | Missing]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what could not be read, and of that what canary pods answered that is no exposition."""
    told: list[str] = []
    unreadable: list[str] = []
    for target in targets:
        got = read.get(target.uid)
        if not isinstance(got, Missing):
            continue
        told.append(f"{target.name}: {got.detail or got.reason.value}")
        if target.canary and got.reason is not MissingReason.ABSENT:
            unreadable.append(told[-1])
    return tuple(told[:MAX_TOLD]), tuple(unreadable[:MAX_TOLD])


def _past(hands: Hands, run: Run, memory: Memory, now: datetime) -> Past | None:
    """Ask for a part of the past while nobody meets the new version: a slow answer then delays nothing but the run."""
    if run.status.phase is not Phase.PREPARING or memory.detector is not None:
        return None
    policy, name = run.spec.policy, run.spec.target.name
    history, span = hands.sources.history_of(policy), question(memory.site, now.timestamp())
    if history is None or span is None:
        return None
    names = (name, side_name(name), way_back_name(name))
    shop = Shop(run.namespace, names, counter_specs(policy.analysis)["orders"])
    return Past(span, history.orders_per_minute(shop, span, within_seconds=HISTORY_SECONDS))


def pod_targets(
    policy: CanaryPolicySpec, namespace: str, pods: Sequence[PodRef], *, canary: bool
) -> list[PodTarget]:
    """Return how to read these pods by this policy."""
    scrape = policy.source.scrape
    return [
        PodTarget(
            uid=pod.uid,
            name=pod.name,
            namespace=namespace,
            ip=pod.ip,
            port=pod.port,
            path=scrape.path if scrape else "/metrics",
            canary=canary,
            started=pod.started,
        )
        for pod in pods
    ]


def _read(hands: Hands, run: Run, targets: Sequence[PodTarget]) -> Mapping[str, Reading | Missing]:
    try:
        source = hands.sources.of(run.spec.policy)
        within = interval_seconds(run) / 2
        return source.read(targets, counter_specs(run.spec.policy.analysis), within_seconds=within)
    except CanaryError as error:
        missing = Missing(MissingReason.UNAVAILABLE, str(error))
        return {target.uid: missing for target in targets}


def _shifted(reading: Reading, zero: float) -> Reading:
    """Return the reading on the run's own clock; sources count in Unix seconds."""
    return Reading(reading.pod, reading.canary, reading.at - zero, reading.started - zero, reading.counts)


def interval_seconds(run: Run) -> float:
    """Return how often the policy wants its counts read."""
    source = run.spec.policy.source
    given = source.scrape or source.prometheus
    return max(0.25, given.every.total_seconds()) if given else 1.0
