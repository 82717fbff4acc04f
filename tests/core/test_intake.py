"""What a policy does between runs: adopt, lock, start, remember what was taken back, and let go."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from canary.api.change import ChangeAnnotation
from canary.api.policy import CanaryPolicySpec, CanaryPolicyStatus, GuardFacts, RejectedRevision, Revision
from canary.api.reasons import PPM, MissingReason, Origin, Phase, Reason, Verb
from canary.api.run import CanaryRunStatus
from canary.core.decision import Run
from canary.core.evidence import Directive, Missing, Workload
from canary.core.intake import consider
from canary.core.policy_look import Desired, Policy, Seen
from canary.core.telling.explain import MAX_ATTEMPTS

NOW = datetime(2026, 3, 5, tzinfo=UTC)
OLD, NEW = ("sha256:" + digit * 64 for digit in "ab")
SPEC: dict[str, Any] = {
    "target": {"name": "shop"},
    "analysis": {"orders": {"counter": "orders"}, "requests": {"counter": "requests"}},
}


def policy(status: CanaryPolicyStatus | None = None, **spec: Any) -> Policy:
    known = status or CanaryPolicyStatus(adopted=True, target_uid="target")
    return Policy("shop", "shop", "policy", 3, CanaryPolicySpec.model_validate({**SPEC, **spec}), known)


def seen(asked: str = OLD, *, retries: tuple[Directive, ...] = (), **workload: Any) -> Seen:
    fields: dict[str, Any] = {
        "uid": "target",
        "template_hash": asked,
        "paused": True,
        "replicas": 4,
        "stable_hash": OLD,
        "stable_ready": 4,
        "current_ready": 4 if asked == OLD else 0,
        "other_pods": 0 if asked == OLD else 4,
        "settled": True,
    }
    desired = Desired(
        asked=Revision(template_hash=asked, version="v2"),
        serving=Revision(template_hash=OLD, version="v1"),
        annotations={ChangeAnnotation.ORIGIN.value: "ai", ChangeAnnotation.WHAT.value: "a change"},
        service="shop",
        guarded=True,
    )
    return Seen(Workload(**{**fields, **workload}), desired, (), (), retries, NOW)


def taken_back(attempts: int = 1) -> CanaryPolicyStatus:
    item = RejectedRevision(
        template_hash=NEW,
        run="shop-1",
        outcome="RolledBack",
        reason="OrdersCollapsed",
        at=NOW,
        attempts=attempts,
    )
    return CanaryPolicyStatus(adopted=True, target_uid="target", rejected=[item])


def retry(*, machine: bool = False) -> Directive:
    return Directive("u", "ask", Verb.RETRY, "dana", reason="flaky probe", machine=machine)


def test_the_guard_is_told_whom_customers_reach_and_how_many_pods_a_run_found() -> None:
    """Until the run is over: then the Deployment may be scaled as before, and never to nothing."""
    facts = GuardFacts(service="shop", serving_selector={"app": "shop"}, side_labels={"app": "shop-canary"})
    idle, running = seen(), seen(NEW)
    known = replace(idle, desired=replace(idle.desired, surroundings=facts))
    busy = replace(
        running, desired=replace(running.desired, surroundings=facts), runs=[a_run(Phase.PROGRESSING)]
    )
    over = replace(busy, runs=[a_run(Phase.ROLLED_BACK)])
    assert consider(policy(), seen()).status.guard is None
    assert consider(policy(), known).status.guard == facts.model_copy(update={"min_replicas": 1})
    assert consider(policy(), busy).status.guard == facts.model_copy(update={"min_replicas": 6})
    assert consider(policy(), over).status.guard == facts.model_copy(update={"min_replicas": 1})


def a_run(phase: Phase) -> Run:
    """Return a run of this policy that found six pods."""
    spec = consider(policy(), seen(NEW)).start
    assert spec is not None
    status = CanaryRunStatus(phase=phase, stable_replicas=6)
    return Run("shop", "shop-1", "run", 1, spec, status)


def test_a_held_change_starts_a_run_that_pins_policy_plan_and_record() -> None:
    intake = consider(policy(steps=[{"weight": "1%"}]), seen(NEW))
    assert intake.start is not None
    assert (intake.start.revision.version, intake.start.baseline.version) == ("v2", "v1")
    assert intake.start.change.origin is Origin.AI
    assert [step.weight for step in intake.start.steps] == [10_000, PPM]
    assert intake.start.attempt == 1


def test_nothing_starts_while_the_deployment_asks_for_what_serves() -> None:
    intake = consider(policy(), seen(OLD))
    assert (intake.start, intake.adopt, intake.relock, intake.reason) == (None, False, False, Reason.IDLE)


def test_a_target_that_was_never_held_is_adopted_and_one_that_cannot_be_is_refused_with_the_remedy() -> None:
    fresh = policy(CanaryPolicyStatus())
    assert consider(fresh, seen(OLD, paused=False)).adopt
    refused = consider(
        fresh, replace(seen(OLD, paused=False), refusals=("strategy is Recreate; use RollingUpdate",))
    )
    assert not refused.adopt
    assert (refused.reason, refused.message) == (
        Reason.ADOPTION_REFUSED,
        "strategy is Recreate; use RollingUpdate",
    )


def test_what_no_pod_counts_is_said_and_starts_nothing_but_the_target_stays_held() -> None:
    hint = "no metric orders_totl; did you mean orders_total?"
    for asked in (OLD, NEW):
        intake = consider(policy(), replace(seen(asked), uncounted=hint))
        assert (intake.start, intake.reason) == (None, Reason.NO_DATA_YET)
        assert hint in intake.message
    assert consider(policy(CanaryPolicyStatus()), replace(seen(OLD, paused=False), uncounted=hint)).adopt
    assert consider(policy(), replace(seen(OLD, paused=False), uncounted=hint)).relock


def test_pods_of_others_behind_the_service_are_named_and_change_nothing_else() -> None:
    known = seen()
    assert known.desired is not None
    met = replace(known, desired=replace(known.desired, strangers=tuple(f"pod-{n}" for n in range(20))))
    alone, named = consider(policy(), known), consider(policy(), met)
    assert alone.status.strangers == []
    assert named.status.strangers == [f"pod-{n}" for n in range(16)]
    assert named.message.startswith(
        f"{alone.message}; the Service's customers also reach pod-0, pod-1, pod-2, ..."
    )
    assert replace(named, status=alone.status, message=alone.message) == alone


def test_an_opened_lock_is_closed_before_anything_starts() -> None:
    intake = consider(policy(), seen(NEW, paused=False))
    assert intake.relock
    assert intake.start is None


def test_a_recreated_target_is_adopted_again() -> None:
    assert consider(policy(), seen(OLD, uid="another")).adopt


def test_a_version_that_was_taken_back_starts_nothing_by_itself() -> None:
    intake = consider(policy(taken_back()), seen(NEW))
    assert intake.start is None
    assert intake.reason is Reason.REJECTED_BEFORE
    assert "customers safe on v1" in intake.message


def test_a_person_may_retry_a_machine_may_not_and_nobody_for_ever() -> None:
    again = consider(policy(taken_back()), seen(NEW, retries=(retry(),)))
    assert again.start is not None
    assert again.start.attempt == 2
    assert again.answers[0].done
    assert consider(policy(taken_back()), seen(NEW, retries=(retry(machine=True),))).start is None
    enough = consider(policy(taken_back(MAX_ATTEMPTS)), seen(NEW, retries=(retry(),)))
    assert enough.start is None
    assert not enough.answers[0].done


def test_slices_of_pods_are_refused_in_tier_1() -> None:
    in_pods = policy(CanaryPolicyStatus(), route={"kind": "EndpointSlice"})
    intake = consider(in_pods, seen(NEW))
    assert (intake.adopt, intake.start, intake.reason) == (False, None, Reason.ADOPTION_REFUSED)
    assert "EndpointSlice is not for tier 1" in intake.message
    assert "set spec.tier to 2 or more" in intake.message


def test_observe_gives_back_what_enforce_took_but_never_lets_a_held_change_go() -> None:
    assert consider(policy(mode="Observe"), seen(OLD)).release
    held = consider(policy(mode="Observe"), seen(NEW))
    assert not held.release
    assert "--accept" in held.message
    assert "--reject" in held.message
    unknown = policy(CanaryPolicyStatus(), mode="Observe")
    assert consider(unknown, seen(OLD)).release, "the policy that held it is gone, its label is not"
    free = seen(OLD, paused=False)
    assert free.desired is not None
    assert not consider(unknown, replace(free, desired=replace(free.desired, guarded=False))).release


def bypass(digest: str = NEW, *, machine: bool = False) -> Directive:
    return Directive("u", "ask", Verb.BYPASS, "dana", reason="tested", digest=digest, machine=machine)


def test_a_person_lets_the_very_change_go_that_was_read() -> None:
    observing = policy(mode="Observe")
    accepted = consider(observing, replace(seen(NEW), bypasses=(bypass(),)))
    assert accepted.release == NEW
    assert accepted.answers[0].done
    assert "dana" in accepted.message
    for asked in (bypass(OLD), bypass(machine=True)):
        refused = consider(observing, replace(seen(NEW), bypasses=(asked,)))
        assert not refused.release
        assert not refused.answers[0].done


def test_a_policy_that_enforces_refuses_every_bypass() -> None:
    intake = consider(policy(), replace(seen(NEW), bypasses=(bypass(),)))
    assert not intake.release
    assert not intake.answers[0].done


def test_a_missing_target_is_said_and_nothing_is_done() -> None:
    gone = replace(seen(OLD), workload=Missing(MissingReason.ABSENT, "there is no Deployment shop/shop"))
    intake = consider(policy(), gone)
    assert (intake.start, intake.adopt, intake.reason) == (None, False, Reason.WORKLOAD_GONE)
    assert "there is no Deployment" in intake.message
