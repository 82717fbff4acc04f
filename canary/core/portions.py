"""Shares in whole pods: what a split by EndpointSlices can give, where no router counts requests. Pure.

Every address behind a Service gets as many requests as the others, so k pods of the new version beside n of the old
one get k/(n+k) of the traffic. The most pods are chosen whose share is not above the one asked for, nor above a half.
A plan therefore consists of shares that n pods allow; what lies below the least of them cannot be had.
"""

from collections.abc import Sequence

from canary.api.policy import CanaryPolicySpec, Step
from canary.api.reasons import PPM, Origin
from canary.core.telling.wording import share

STRICTEST_TIER = 1
MOST_PPM = PPM // 2


def pods_within(ppm: int, stable: int) -> int:
    """Return the most pods whose share beside `stable` others is not above `ppm`, nor above a half."""
    ppm = max(0, min(ppm, MOST_PPM))
    return ppm * max(0, stable) // (PPM - ppm)


def share_ppm(pods: int, stable: int) -> int:
    """Return the share of `pods` beside `stable` others, rounded up: what counts is that they are exposed."""
    return -(-pods * PPM // (pods + stable)) if pods > 0 else 0


def refusal_of(policy: CanaryPolicySpec) -> str:
    """Say why a policy may not be split by pods, and what to do; empty: it may, or is not."""
    if not policy.route.in_pods or policy.tier != STRICTEST_TIER:
        return ""
    return (
        "spec.route.kind EndpointSlice is not for tier 1: its slices are whole pods, and its commit has customers on "
        "the roll; lead the traffic by an HTTPRoute or GRPCRoute, or set spec.tier to 2 or more"
    )


def in_whole_pods(steps: Sequence[Step], stable: int) -> list[Step]:
    """Return the plan in the shares that `stable` pods allow: lower than asked or equal, each once.

    A step below the least slice falls to the next one, with what it asks of people and of evidence.
    """
    plan: list[Step] = []
    owed: list[Step] = []
    for step in steps:
        weight = share_ppm(pods_within(step.weight, stable), stable)
        owed.append(step)
        if weight == 0:
            continue
        asks = {
            "weight": weight,
            "approval": any(each.approval for each in owed),
            "min_orders": max(each.min_orders for each in owed),
        }
        if plan and plan[-1].weight == weight:
            asks["approval"] = asks["approval"] or plan[-1].approval
            asks["min_orders"] = max(asks["min_orders"], plan.pop().min_orders)
        plan.append(step.model_copy(update=asks))
        owed = []
    return plan


def refusal_of_plan(steps: Sequence[Step], origin: Origin, stable: int) -> str:
    """Say why a change may not start by this plan; empty: it may.

    Who is not proved human begins where the plan begins, and not at the least that pods can do.
    """
    least = share_ppm(1, stable) if stable > 0 else PPM
    pods = f"{stable} pod{'' if stable == 1 else 's'}"
    if not in_whole_pods(steps, stable):
        return (
            f"{pods} beside one of the new version give it {share(least)} at least, and no step of the plan asks "
            "for so much; scale the Deployment up, or lead the traffic by an HTTPRoute"
        )
    if origin is Origin.HUMAN or pods_within(steps[0].weight, stable) > 0:
        return ""
    return (
        f"a change of origin {origin.value} begins at {share(steps[0].weight)}, and {pods} beside one of the new "
        f"version give it {share(least)} at least; scale the Deployment up, begin spec.steps at {share(least)}, or "
        "lead the traffic by an HTTPRoute"
    )
