"""When to look again: soon after a change of weight, at once while the evidence moves, else at the pace of the policy.

Enters: what the last look said. Leaves: seconds. The promise of the verdict holds for looks at any moments that depend
on the past alone (Ville 1939), so a suspicion may ask for the next look as soon as it likes. It is cheap: a healthy run
asks for a few more looks in the minute after a raise, and hardly any later (`make bench` counts them).
"""

from math import inf, log

EARLY_SECONDS = 0.25  # the soonest next look
SUSPICIOUS_NATS = 1.0  # the last look moved the evidence by so much
SUSPICIOUS_LOG = log(0.1)  # or it stands so high; a healthy run sinks far below
ORDERS_A_LOOK = 0.25  # that should come before a suspicion is looked at again: fewer cannot move it
GROWTH = 0.5  # after a change of weight the next look comes when the step is half as old again


def next_look(
    every: float, *, step_seconds: float, gained: float, evidence_log: float, orders_expected: float
) -> float:
    """Return the seconds until the next look, never more than `every`.

    `step_seconds`: since the last change of weight; `orders_expected`: of the canary, by the baseline, in that time.
    `gained`: nats that the last look added to `evidence_log`.
    """
    if gained >= SUSPICIOUS_NATS:
        return min(every, EARLY_SECONDS)
    wait = GROWTH * step_seconds
    if evidence_log >= SUSPICIOUS_LOG:
        wait = min(wait, ORDERS_A_LOOK * step_seconds / orders_expected if orders_expected > 0.0 else inf)
    return min(every, max(EARLY_SECONDS, wait))
