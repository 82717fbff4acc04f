"""`canary rehearse`: the whole controller on simulated time with the user's own policy, many times over.

Enter: a policy manifest and a fault. Leaves: how many orders it would cost, how long it would take, and how often the
same policy stops a healthy version for nothing. No cluster is needed and no clock is waited for. The exit code is 0
where every faulty run was stopped, 1 where one was not.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from canary.api.policy import CanaryPolicySpec
from canary.api.read import parse_policy
from canary.api.reasons import Mode, Origin, Phase, Reason, Verb
from canary.api.types import format_duration
from canary.core.decision import Run
from canary.core.portions import refusal_of_plan
from canary.errors import RefusedError
from canary.lab import manifests
from canary.lab.rehearsal.figures import Rehearsal, Rehearsed
from canary.lab.rehearsal.scenario import Scenario, Setting
from canary.lab.shop.worlds import World
from canary.settings import FaultKind, RehearseOptions

MAX_RUNS, MAX_REPLICAS = 100_000, 200
MAX_PROCESSES = 16
PREPARE_SECONDS = 900.0  # at most, before the first slice
MAX_APPROVALS = 32
ANSWER_SECONDS = 3.0
WAITS_FOR_A_PERSON = frozenset({Phase.PAUSED, Phase.DRAINING})
TAKEN_BACK = frozenset({Phase.ROLLED_BACK, *WAITS_FOR_A_PERSON})


@dataclass(frozen=True, slots=True)
class Task:
    """One run to simulate; small and plain, because it goes to another process."""

    policy: Mapping[str, Any]
    options: RehearseOptions
    fault: FaultKind
    seed: int


def main(policy: Mapping[str, Any], options: RehearseOptions) -> int:
    """Rehearse a CanaryPolicy, print the figures, return the exit code. Raise RefusedError where it cannot be done."""
    spec = parse_policy(policy)
    _refuse_what_cannot_be_rehearsed(spec)
    name = str(policy["metadata"].get("name", "policy"))
    runs, pods = options.runs, options.replicas
    if not (1 <= runs <= MAX_RUNS and 1 <= pods <= MAX_REPLICAS):
        text = (
            f"--runs is {runs} of 1 to {MAX_RUNS}, --replicas {pods} of 1 to {MAX_REPLICAS}: one is too many"
        )
        raise RefusedError(text, code="CAN-2006")
    _refuse_less_than_a_pod(spec, pods)
    tasks = _tasks(options, lab_policy(spec))
    done = list(_shown(_rehearsed(tasks), len(tasks)))
    faulty = [run for task, run in zip(tasks, done, strict=True) if task.fault is not FaultKind.NONE]
    healthy = [run for task, run in zip(tasks, done, strict=True) if task.fault is FaultKind.NONE]
    rehearsal = Rehearsal(options, name, spec.analysis.false_rollback, faulty, healthy)
    text = json.dumps(rehearsal.document()) if options.json else "\n".join(rehearsal.lines())
    sys.stdout.write(text + "\n")
    return 1 if rehearsal.missed else 0


def _tasks(options: RehearseOptions, policy: Mapping[str, Any]) -> list[Task]:
    """Return the runs: with the fault, each with a seed of its own, and then without."""
    first = options.seed
    with_fault = 0 if options.fault is FaultKind.NONE else options.runs
    without = options.runs if options.fault is FaultKind.NONE else options.healthy_runs
    faulty = [Task(policy, options, options.fault, first + number) for number in range(with_fault)]
    return faulty + [Task(policy, options, FaultKind.NONE, first + number) for number in range(without)]


def _rehearsed(tasks: Sequence[Task]) -> Iterator[Rehearsed]:
    """Simulate the runs, on every core that there is; the results come in the order of the tasks."""
    processes = min(len(tasks), os.cpu_count() or 1, MAX_PROCESSES)
    if processes == 1:
        yield from map(rehearse_once, tasks)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(rehearse_once, tasks)


def _shown(runs: Iterator[Rehearsed], count: int) -> Iterator[Rehearsed]:
    """Hand the runs on, and say on a terminal how far we are."""
    for number, run in enumerate(runs, 1):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number} of {count} runs" if number < count else "\r\033[K")
            sys.stderr.flush()
        yield run


# -- the policy ----------------------------------------------------------------------------------------------------


def _refuse_what_cannot_be_rehearsed(spec: CanaryPolicySpec) -> None:
    if spec.mode is Mode.OBSERVE:
        text = "spec.mode: Observe touches nothing, so there is nothing to rehearse; write Enforce in a copy of it"
        raise RefusedError(text, code="CAN-4203")


def _refuse_less_than_a_pod(spec: CanaryPolicySpec, pods: int) -> None:
    refused = spec.route.in_pods and refusal_of_plan(spec.resolved_steps(Origin.AI), Origin.AI, pods)
    if refused:
        raise RefusedError(f"with --replicas {pods}: {refused}", code="CAN-4203")


def lab_policy(spec: CanaryPolicySpec) -> dict[str, Any]:
    """Return the policy for the lab's shop: only the names of objects and ports are the lab's, all else stays."""
    given = spec.source.scrape or spec.source.prometheus
    every = format_duration(given.every if given else timedelta(seconds=1))
    scrape = {"port": manifests.PORT_NAME, "path": "/metrics", "every": every}
    by_pods = spec.route.kind == "EndpointSlice"
    own = {
        "target": {"name": manifests.NAME},
        "service": manifests.NAME,
        "route": {"kind": "EndpointSlice"} if by_pods else {"kind": "HTTPRoute", "name": manifests.NAME},
        "source": {"scrape": scrape},
        "onCall": {"sinks": []},
    }
    return {**spec.wire(), **own}


# -- one run -------------------------------------------------------------------------------------------------------


def rehearse_once(task: Task) -> Rehearsed:
    """Simulate one run, from the push to its end or to the end of the time that was given."""
    options = task.options
    world = World(rate=options.orders_per_second)
    scenario = Scenario(Setting(world=world, policy=task.policy, replicas=options.replicas, seed=task.seed))
    at = options.at_seconds
    bug = {"SHOP_BUG": task.fault.value, "SHOP_BUG_DROP": f"{options.drop:g}", "SHOP_BUG_AFTER": f"{at:g}"}
    scenario.push({} if task.fault is FaultKind.NONE else bug)
    scenario.run_until(lambda: _is_over(scenario) or _met_customers(scenario), PREPARE_SECONDS)
    end = scenario.clock.monotonic() + options.for_seconds
    for _ in range(MAX_APPROVALS):
        left = end - scenario.clock.monotonic()
        if not scenario.run_until(lambda: _is_over(scenario) or _waits(scenario), left) or _is_over(scenario):
            break
        run = scenario.latest_run()
        assert run is not None  # it waits for an approval
        scenario.ask(Verb.APPROVE, digest=run.spec.digest)
        scenario.run_for(ANSWER_SECONDS)
    return _result(scenario, task)


def _status(scenario: Scenario) -> Mapping[str, Any]:
    store = scenario.cluster.store
    runs = store.select(store.kinds.named("CanaryRun"), manifests.NAMESPACE)
    return (runs[0].get("status") or {}) if runs else {}


def _is_over(scenario: Scenario) -> bool:
    phase = _status(scenario).get("phase", Phase.HELD.value)
    return Phase(phase).final or phase in WAITS_FOR_A_PERSON


def _met_customers(scenario: Scenario) -> bool:
    return "exposedAt" in _status(scenario)


def _waits(scenario: Scenario) -> bool:
    return _status(scenario).get("reason") == Reason.APPROVALS_MISSING


def _result(scenario: Scenario, task: Task) -> Rehearsed:
    run = scenario.latest_run()
    if run is None:
        raise RefusedError("the policy started no run in the lab: " + _why_not(scenario), code="CAN-4203")
    new = [truth for truth in scenario.shop.truths if truth.version == run.spec.revision.version]
    met = [truth.first_request_at for truth in new if truth.first_request_at is not None]
    exposed, ended = run.status.exposed_at, run.status.finished_at or scenario.clock.now()
    at = min(met, default=0.0) + task.options.at_seconds
    return Rehearsed(
        seed=task.seed,
        outcome=run.status.phase,
        reason=run.status.timeline[-1].reason if run.status.timeline else "",
        orders_lost=sum(truth.missing for truth in new),
        late_promises=sum(truth.late for truth in new),
        reached_ppm=max((entry.weight_ppm for entry in run.status.timeline), default=0),
        exposed_seconds=(ended - exposed).total_seconds() if exposed else 0.0,
        decision_seconds=_decision_seconds(run, at) if task.fault is not FaultKind.NONE and met else None,
    )


def _decision_seconds(run: Run, fault_at: float) -> float | None:
    """Return how long after the fault the version lost its traffic; None where it did not, or did before."""
    decided = run.status.decided_at
    if decided is None or run.status.phase not in TAKEN_BACK or decided.timestamp() < fault_at:
        return None
    return decided.timestamp() - fault_at


def _why_not(scenario: Scenario) -> str:
    store = scenario.cluster.store
    policies = store.select(store.kinds.named("CanaryPolicy"), manifests.NAMESPACE)
    conditions: list[dict[str, Any]] = (policies[0].get("status") or {}).get("conditions") or []
    return "; ".join(sorted({str(each.get("message", "")) for each in conditions}))
