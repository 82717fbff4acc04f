"""A run of dana's under a safety policy, with everything that a raise needs but what the policy asks.

What the tests of approvals and limits start from; `after` lets the judge look once.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from machine_world import SPEC

from canary.api.change import ChangeRecord
from canary.api.people import People
from canary.api.reasons import Phase, Reason, Verb, Verdict
from canary.api.run import Approval, CanaryRunStatus, TrafficStatus
from canary.api.safety import SafetyPolicySpec
from canary.core import machine
from canary.core.decision import Run, Situation
from canary.core.evidence import Acceptance, Evidence, Finding, Route, Safety, Share, Side, Workload
from canary.core.rules.effective import Effective, terms_of

NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)
DIGEST = SPEC.digest
OTHER = "sha256:" + "0" * 64
PEOPLE = People.model_validate(
    {
        "people": [
            {
                "name": "dana",
                "usernames": ["dana", "dana-admin"],
                "mails": ["dana@shop.example"],
                "logins": ["dana-gh"],
            },
            {"name": "sam", "usernames": ["sam", "sam@oidc"], "mails": ["sam@shop.example"]},
            {"name": "priya", "usernames": ["priya"], "logins": ["priya-gh"]},
            {"name": "lee", "usernames": ["lee"]},
        ],
        "nobody": ["renovate[bot]", "system:serviceaccount:cd:x", "ci-bot@oidc"],
    }
)
WIRE: dict[str, Any] = {
    "approvals": {
        "count": 2,
        "senior": 1,
        "approverGroups": ["devs"],
        "seniorGroups": ["seniors"],
        "deniedGroups": ["automation"],
    },
    "exposure": {"unapprovedMax": "1%"},
}
RULES = SafetyPolicySpec.model_validate(WIRE)
GROUPS = {
    "priya": ["devs", "seniors"],
    "robo": ["devs", "automation"],
    "root": ["devs", "system:masters"],
    "guest": ["visitors"],
}


def given(who: str = "sam", **fields: Any) -> Approval:
    wire = {"request": "ask", "verb": Verb.APPROVE, "requester": who, "groups": GROUPS.get(who, ["devs"])}
    return Approval.model_validate({**wire, "digest": DIGEST, "at": NOW - timedelta(minutes=5), **fields})


RIGHTS = dict.fromkeys(("sam", "priya", "lee", "dana", "sam@oidc", "dana-admin"), True)


def safety(rules: SafetyPolicySpec = RULES, **fields: Any) -> Safety:
    ruling = Effective(("reset",), rules)
    return Safety(
        ("reset",),
        rules,
        terms_of(ruling).digest or "",
        **{"people": PEOPLE, "may_approve": RIGHTS, **fields},
    )


def situation(
    *approvals: Approval,
    ppm: int = 10_000,
    step: int = 0,
    phase: Phase = Phase.PROGRESSING,
    evidence: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
) -> Situation:
    """A run of dana's at 1 %, with all that a raise to 50 % needs but what the safety policy asks."""
    rules = (evidence or {}).get("safety", safety())
    terms = terms_of(Effective(rules.names, rules.rules)) if isinstance(rules, Safety) else terms_of(None)
    plan = [each.model_copy(update={"approval": False}) for each in SPEC.steps]
    update = {"change": ChangeRecord(authors=["dana"]), "safety": terms, "steps": plan, **(spec or {})}
    traffic = TrafficStatus(
        weight_ppm=ppm, epoch=1, attached=True, brake_tested=True, written_at=NOW, verified_at=NOW
    )
    status = CanaryRunStatus(
        phase=phase,
        step=step,
        traffic=traffic,
        stable_replicas=4,
        approvals=list(approvals),
        exposed_at=NOW,
        phase_started_at=NOW - timedelta(hours=9),
        step_started_at=NOW - timedelta(minutes=9),
    )
    seen: dict[str, Any] = {
        "workload": Workload(
            "target", SPEC.revision.template_hash, True, 4, SPEC.baseline.template_hash, 4, 0, 4, True
        ),
        "side": Side(True, SPEC.revision.template_hash, 4, 4),
        "way_back": Side(exists=False),
        "route": Route(
            attached=True, weight_ppm=ppm, version="1", acceptance=Acceptance.ACCEPTED, epoch=1, last_epoch=1
        ),
        "finding": Finding(Verdict.ADVANCE, Reason.EVIDENCE_SUFFICES, "enough"),
        "share": Share.AS_ASKED,
        "policy_digest": SPEC.policy_digest,
        "safety": rules,
    }
    run = Run("shop", "shop-1", "uid", 1, SPEC.model_copy(update=update), status)
    return Situation(run, Evidence(**{**seen, **(evidence or {})}), NOW)


def after(start: Situation) -> CanaryRunStatus:
    return machine.decide(start).status
