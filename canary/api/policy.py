"""CanaryPolicy: how one Deployment is canaried. Written by the platform team, read by the controller.

`resolved_steps` is the plan that a run pins at its start; everything else is data. The string under a field is what
`kubectl explain` prints.
"""

import re
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from canary.api.approved import ApprovedText
from canary.api.reasons import PPM, Mode, Origin
from canary.api.types import (
    Condition,
    Count,
    DefaultedPercent,
    Digest,
    Duration,
    MetricName,
    Model,
    Name,
    Percent,
    Sentence,
    Timestamp,
    Word,
    format_duration,
    format_percent,
)

STEPS_CAREFUL_PPM = (5_000, 10_000, 50_000, 100_000, 250_000, 500_000, PPM)
STEPS_HUMAN_PPM = (10_000, 100_000, 500_000, PPM)
MAX_STRANGERS = 16  # that are named
MAX_REJECTED = 20  # remembered template hashes; the newest are kept

LabelMatch = Annotated[
    dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=256)]], Field(max_length=8)
]


def _refuse_broken_patterns(where: dict[str, str]) -> dict[str, str]:
    for label, pattern in where.items():
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"the pattern of {label!r} is not a regular expression: {error}") from error
    return where


def _refuse_odd_pace(every: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= every <= timedelta(minutes=1):
        raise ValueError(f"{format_duration(every)} is not between 1s and 1m")
    return every


LabelPatterns = Annotated[LabelMatch, AfterValidator(_refuse_broken_patterns)]
Pace = Annotated[Duration, AfterValidator(_refuse_odd_pace)]


class Target(Model):
    """The workload that is protected."""

    kind: Literal["Deployment"] = "Deployment"
    """Only Deployments are canaried today."""
    name: Name
    """Its name; it is never renamed, scaled, copied or re-selected."""


class RouteRef(Model):
    """What carries the traffic."""

    kind: Literal["HTTPRoute", "GRPCRoute", "EndpointSlice"] = "HTTPRoute"
    """HTTPRoute and GRPCRoute of the Gateway API, or EndpointSlice where there is no router."""
    name: Name | None = None
    """The route's name; absent: every route that names the target's Service."""

    @property
    def in_pods(self) -> bool:
        """Tell whether shares are whole pods beside the serving ones: half of the traffic at most."""
        return self.kind == "EndpointSlice"


class Step(Model):
    """One slice of traffic."""

    weight: Percent
    """Share of the traffic that the new version gets, for example 0.5%."""
    approval: bool = False
    """Wait for a person's approve or promote before this step begins."""
    min_orders: Count = 0
    """Leave the step no sooner than this many orders were seen on the new version."""
    max_duration: Duration | None = None
    """Pause the run when the step has not passed after this time."""


class Counter(Model):
    """A count, read raw from the pods' metrics."""

    counter: MetricName
    """Name of the counter."""
    where: LabelPatterns = {}
    """Only series whose labels match; each value is a regular expression that must match wholly."""


class Histogram(Model):
    """Requests slower than a bound, read from a histogram's buckets."""

    histogram: MetricName
    """Name of the histogram, without _bucket."""
    above: Duration
    """A request is slow above this; the nearest bucket bound at or above it is used, and named."""
    where: LabelPatterns = {}
    """Only series whose labels match; each value is a regular expression that must match wholly."""


class Extra(Model):
    """A further count that must not rise (or fall) per request."""

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """What people call it, for example late-promises."""
    counter: MetricName
    """Name of the counter."""
    where: LabelPatterns = {}
    """Only series whose labels match."""
    direction: Literal["rise", "drop"] = "rise"
    """The direction that is bad."""
    floor: Percent | None = None
    """For a rise: a share of requests below which a rise is not looked at."""


class Analysis(Model):
    """What is counted, and what is promised about the verdict."""

    false_rollback: Annotated[float, Field(ge=0.000001, le=0.05)] = 0.001
    """Promise for a healthy run: chance of a false rollback, over all metrics and however often we look."""
    settle: Duration = timedelta(0)
    """After a start or a raise: how long orders trail requests, for example with sticky sessions."""
    min_watch: Duration = timedelta(minutes=30)
    """A step of 50 % or more comes no sooner than this after the run's first slice."""
    orders: Counter
    """Orders completed, counted by the pod that served the user."""
    requests: Counter
    """Requests served."""
    errors: Counter | None = None
    """Requests that failed."""
    slow: Histogram | None = None
    """Requests that took too long."""
    extra: Annotated[list[Extra], Field(max_length=8)] = []
    """Further counts per request, at most 8."""

    @model_validator(mode="after")
    def _extras_are_distinct(self) -> Self:
        names = [extra.name for extra in self.extra]
        if len(names) != len(set(names)):
            raise ValueError("two extra monitors have the same name; give each its own")
        return self


class Scrape(Model):
    """Reading the pods' own metrics endpoint: the fast path."""

    port: Annotated[str, Field(min_length=1, max_length=63)] = "metrics"
    """Name or number of the container port."""
    path: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^/")] = "/metrics"
    """Path of the endpoint."""
    every: Pace = timedelta(seconds=1)
    """How often to read while a run is exposed, 1s to 1m."""


class PrometheusSource(Model):
    """Reading from a Prometheus whose address the controller's settings allow."""

    address: Annotated[str, Field(max_length=512, pattern=r"^https?://")]
    """Base URL; it must be one of the addresses in the controller's settings."""
    every: Pace = timedelta(seconds=5)
    """How often to read while a run is exposed, 1s to 1m."""


class Witness(Model):
    """Counts of the new version by somebody who is not its pods: the gateway, the order system."""

    orders: Counter | None = None
    """Orders of the new version; `where` selects its series, for example by the Service NAME-canary."""
    requests: Counter | None = None
    """Requests that the new version got; `where` selects its series."""


class Source(Model):
    """Where counts come from; where both are given, the pods are scraped and Prometheus tells the past."""

    scrape: Scrape | None = None
    """Scrape the pods directly."""
    prometheus: PrometheusSource | None = None
    """Read from Prometheus."""
    witness: Witness | None = None
    """What that Prometheus knows of the new version from others; where the pods' own counts differ, the run is held."""


class Bake(Model):
    """The time at 100 % with the old version whole and warm."""

    duration: Duration = timedelta(minutes=10)
    """How long every request goes to the new version before the change is committed."""
    hold_back: DefaultedPercent = 0
    """Share of traffic left on the old version meanwhile, so that the two can still be compared."""


class OnCall(Model):
    """Who is told."""

    sinks: Annotated[list[Word], Field(max_length=8)] = []
    """Names of sinks in the controller's settings; empty: all of them."""


class CanaryPolicySpec(Model):
    """How one Deployment is canaried."""

    target: Target
    """The Deployment that is protected."""
    service: Name | None = None
    """The Service of the target's pods; absent: the only one that selects them."""
    route: RouteRef = RouteRef()
    """What carries the traffic."""
    mode: Mode = Mode.ENFORCE
    """Enforce: hold, slice, judge, roll back. Observe: judge and report, touch nothing."""
    tier: Annotated[int, Field(ge=1, le=4, json_schema_extra={"format": "int32"})] = 1
    """How much depends on it; 1 is the strictest, and the default."""
    steps: Annotated[list[Step], Field(max_length=20)] = []
    """The slices; absent: a careful plan, or a shorter one for changes proved human in tier 2 and up."""
    analysis: Analysis
    """What is counted, and what is promised about the verdict."""
    source: Source = Source(scrape=Scrape())
    """Where counts come from."""
    bake: Bake = Bake()
    """The time at 100 % before the change is committed."""
    prepare_within: Duration = timedelta(minutes=10)
    """The new version must be ready within this time, or it is rolled back without ever having had traffic."""
    drain: Duration = timedelta(seconds=30)
    """How long the new version's pods stay after the last request could have been sent to them."""
    on_call: OnCall = OnCall()
    """Who is told."""

    @model_validator(mode="after")
    def _plan_is_a_plan(self) -> Self:
        weights = [step.weight for step in self.steps]
        if any(later <= earlier for earlier, later in pairwise(weights)):
            shown = ", ".join(format_percent(weight) for weight in weights)
            raise ValueError(f"steps must rise from each to the next, but are {shown}")
        if weights and weights[0] == 0:
            raise ValueError("steps[0].weight is 0%: a step without traffic gathers no evidence; remove it")
        if self.source.scrape is None and self.source.prometheus is None:
            raise ValueError("source names neither scrape nor prometheus; give one of them")
        if self.source.witness is not None and self.source.prometheus is None:
            raise ValueError("source.witness is asked of source.prometheus: name that, too")
        return self

    def resolved_steps(self, origin: Origin) -> list[Step]:
        """Return the plan: the policy's steps, or the default for this origin and tier; it ends at 100 %
        (or at 100 % less the hold-back), and at 50 % where shares are whole pods."""
        steps = self.steps
        if not steps:
            proved_human = origin is Origin.HUMAN and self.tier >= 2
            steps = [
                Step(weight=weight) for weight in (STEPS_HUMAN_PPM if proved_human else STEPS_CAREFUL_PPM)
            ]
        top = min(PPM - self.bake.hold_back, PPM // 2 if self.route.in_pods else PPM)
        below = [step for step in steps if step.weight < top]
        reached = [step for step in steps if step.weight >= top]
        last = reached[0] if reached else Step(weight=top)
        return [*below, last.model_copy(update={"weight": top})]


class Revision(Model):
    """One version of the workload."""

    template_hash: Digest
    """SHA-256 of the canonical pod template."""
    version: Annotated[str, Field(max_length=128)] = ""
    """What people call it: the label app.kubernetes.io/version, or the image's tag."""
    images: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=16)] = []
    """Images of its containers."""


class RejectedRevision(Model):
    """A version that was taken back; it is not tried again until somebody says retry."""

    template_hash: Digest
    """SHA-256 of its template."""
    run: Name
    """The run that took it back."""
    outcome: Word
    """RolledBack, Aborted or Rejected."""
    reason: Word
    """The fact behind it."""
    at: Timestamp
    """When."""
    attempts: Count = 1
    """How often it was tried."""


class GuardFacts(Model):
    """Facts that the API server's guard policies read as parameters."""

    min_replicas: Count = 1
    """Nobody may scale the target below this."""
    serving_selector: LabelMatch = {}
    """The labels that select the serving pods."""
    service: Annotated[str, Field(max_length=253)] = ""
    """The target's Service."""
    side_labels: LabelMatch = {}
    """The labels of the pods of its side; nothing but the route may lead to them."""
    replica_set: Annotated[str, Field(max_length=253)] = ""
    """The ReplicaSet whose pods serve: it keeps them, and others of the target may only lose theirs."""


class WentRound(Model):
    """A version that came to serve past the hold."""

    revision: Revision
    """The version."""
    since: Timestamp
    """When it was seen first."""


class CanaryPolicyStatus(ApprovedText):
    """What the controller saw of the target."""

    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = 0
    """Generation of the policy that this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=12)] = []
    """Ready, Reconciling, Stalled, Serving."""
    adopted: bool = False
    """The target is held: its changes wait for us."""
    target_uid: Annotated[str, Field(max_length=64)] = ""
    """The uid of the Deployment that was adopted."""
    serving: Revision | None = None
    """The version that serves."""
    good: Revision | None = None
    """The last version that served with a right to: found at adoption, promoted, or accepted by people."""
    good_pods: Count = 0
    """How many pods the target asked for when that was last seen to serve."""
    good_set: Annotated[str, Field(max_length=253)] = ""
    """The ReplicaSet of those pods: an upgrade of Kubernetes may change a template's hash, and not this."""
    went_round: WentRound | None = None
    """A version that serves, and nobody let it through: people review it before anything else begins."""
    active_run: Annotated[str, Field(max_length=253)] = ""
    """The run under way."""
    last_run: Annotated[str, Field(max_length=253)] = ""
    """The newest finished run."""
    last_outcome: Annotated[str, Field(max_length=64)] = ""
    """How it ended."""
    rejected: Annotated[list[RejectedRevision], Field(max_length=MAX_REJECTED)] = []
    """Versions taken back, newest last."""
    refusals: Annotated[list[Sentence], Field(max_length=16)] = []
    """Why the target cannot be adopted, each with its remedy."""
    strangers: Annotated[list[Name], Field(max_length=MAX_STRANGERS)] = []
    """Pods that get the Service's customers and are not the target's own: nobody judges what they do."""
    guard: GuardFacts | None = None
    """Facts for the guard policies."""
