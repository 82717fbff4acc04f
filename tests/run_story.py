"""The seeded demo as a stored CanaryRun, moment by moment: v2.31.0 of checkout loses every order at 1 %.

Written by hand in the form that the API server stores, so that what reads runs is tested without what writes them.
"""

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from canary.api.reasons import API_VERSION

DIGEST = "sha256:" + "a" * 64
NOW = datetime(2026, 3, 5, 3, 12, 40, tzinfo=UTC)
START = datetime(2026, 3, 5, 3, 12, 4, tzinfo=UTC)
Json = dict[str, Any]


def at(seconds: float) -> str:
    """A time of the story, counted from the first slice."""
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def effect(name: str, counts: tuple[str, str], change: tuple[str, str, str], log10: str, state: str) -> Json:
    point, low, high = change
    return {
        "name": name,
        "seen": counts[0],
        "expected": counts[1],
        "point": point,
        "low": low,
        "high": high,
        "evidenceLog10": log10,
        "state": state,
    }


EFFECTS = [
    effect("orders", ("0", "19.9"), ("-1", "-1", "-0.81"), "3.87", "crossed"),
    effect("errors", ("0", "0.4"), ("-1", "-1", "8.2"), "-0.1", "clear"),
    effect("slow", ("2", "1.8"), ("0.11", "-0.87", "3.01"), "-0.2", "clear"),
    effect("traffic", ("180", "178.9"), ("0.006", "-0.14", ""), "-0.1", "clear"),
]
ANALYSIS = {
    "verdict": "RollBack",
    "reason": "OrdersCollapsed",
    "message": "orders -100 % [-100,-81]",
    "worst": "orders",
    "evidenceLog10": "3.87",
    "limitLog10": "3",
    "effects": EFFECTS,
    "orders": "31",
    "lost": "22",
    "lostLow": "13",
    "lostHigh": "31",
    "likelyStartAt": at(8),
}
POLICY_SPEC = {
    "target": {"kind": "Deployment", "name": "checkout"},
    "analysis": {
        "orders": {"counter": "orders_completed_total"},
        "requests": {"counter": "http_requests_total"},
    },
}
STEPS = ["1%", "5%", "10%", "25%", "50%", "100%"]


def a_run(name: str = "checkout-7f9c2", namespace: str = "shop", *, workload: str = "checkout") -> Json:
    """A run that was just recorded: held, no traffic."""
    policy = deepcopy(POLICY_SPEC)
    policy["target"]["name"] = workload
    return {
        "apiVersion": API_VERSION,
        "kind": "CanaryRun",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "creationTimestamp": at(-30),
        },
        "spec": {
            "policyRef": {"kind": "CanaryPolicy", "name": workload},
            "policy": policy,
            "policyDigest": DIGEST,
            "target": {"kind": "Deployment", "name": workload, "uid": "u1"},
            "service": workload,
            "revision": {
                "templateHash": "sha256:" + "b" * 64,
                "version": "v2.31.0",
                "images": ["shop/checkout@sha256:" + "c" * 64],
            },
            "baseline": {"templateHash": "sha256:" + "d" * 64, "version": "v2.30.4"},
            "change": {
                "what": "moves the confirm call behind a flag",
                "why": "latency",
                "rollbackPlan": "re-apply v2.30.4",
                "origin": "ai",
                "agents": ["kiro"],
                "authors": ["dana"],
                "changeId": "PR-4711",
                "sourceRange": "4be2f1d..9f3c1d2aa01",
            },
            "digest": DIGEST,
            "steps": [{"weight": weight} for weight in STEPS],
        },
        "status": {
            "phase": "Held",
            "reason": "RunStarted",
            "message": "a change is held",
            "startedAt": at(-30),
        },
    }


def entry(seconds: float, phase: str, reason: str, message: str, ppm: int = 0) -> Json:
    return {"at": at(seconds), "phase": phase, "reason": reason, "message": message, "weightPpm": ppm}


def exposed(run: Json | None = None, ppm: int = 10_000) -> Json:
    """The run at its first slice, nothing suspect."""
    run = run or a_run()
    clear = [{**each, "evidenceLog10": "-0.3", "state": "clear"} for each in EFFECTS]
    analysis = {**ANALYSIS, "verdict": "Continue", "reason": "EvidenceGrowing", "effects": clear}
    analysis |= {"evidenceLog10": "-0.3", "lost": "0", "lostLow": "0", "lostHigh": "2", "moreSeconds": "120"}
    analysis |= {"message": "31 of about 350 orders of evidence"}
    del analysis["likelyStartAt"]
    place = {"resource": "httproutes", "name": "checkout", "rule": 0, "canary": 1, "stable": 0}
    run["status"] = {
        "phase": "Progressing",
        "reason": "EvidenceGrowing",
        "message": "31 of about 350 orders of evidence",
        "step": 0,
        "startedAt": at(-30),
        "exposedAt": at(0),
        "traffic": {
            "weightPpm": ppm,
            "observedPpm": ppm,
            "attached": True,
            "coordinates": [place],
            "writtenAt": at(0),
        },
        "analysis": analysis,
        "timeline": [entry(0, "Progressing", "StepStarted", "step 1 of 6: 1 % of the traffic", ppm)],
    }
    return run


def rolled_back(run: Json | None = None) -> Json:
    """The end of the story: all traffic back, seen in the traffic."""
    run = exposed(run)
    told = entry(15.0, "RollingBack", "OrdersCollapsed", "orders -100 % [-100,-81]")
    run["status"] |= {
        "phase": "RolledBack",
        "reason": "OrdersCollapsed",
        "message": "orders -100 % [-100,-81]",
        "step": -1,
        "decidedAt": at(15.0),
        "finishedAt": at(17.1),
        "traffic": {"weightPpm": 0, "observedPpm": 0, "writtenAt": at(15.2), "zeroVerifiedAt": at(17.1)},
        "analysis": deepcopy(ANALYSIS),
        "timeline": [*run["status"]["timeline"], told, {**told, "phase": "RolledBack", "at": at(17.1)}],
    }
    return run
