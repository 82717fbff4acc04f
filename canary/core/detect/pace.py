"""When to look again: soon after a change of weight, at once while the evidence moves, else at the pace of the policy.

Enters: what the last look said. Leaves: seconds. The promise of the verdict holds for looks at any moments that depend
on the past alone (Ville 1939), so a suspicion may ask for the next look as soon as it likes. It is cheap: a healthy run
asks for a few more looks in the minute after a raise, and hardly any later (`make bench` counts them).
"""

from math import log

EARLY_SECONDS = 0.25  # the soonest next look
SUSPICIOUS_NATS = 1.0  # the last look moved the evidence by so much
SUSPICIOUS_LOG = log(0.1)  # or it stands so high; a healthy run sinks far below
GROWTH = 0.5  # after a change of weight the next look comes when the step is half as old again


def next_look(every: float, *, step_seconds: float, gained: float, evidence_log: float) -> float:
    """Return the seconds until the next look, never more than `every`.

    `step_seconds`: since the last change of weight. `gained`: nats that the last look added to `evidence_log`.
    """
    if gained >= SUSPICIOUS_NATS or evidence_log >= SUSPICIOUS_LOG:
        return min(every, EARLY_SECONDS)
    return min(every, max(EARLY_SECONDS, GROWTH * step_seconds))
