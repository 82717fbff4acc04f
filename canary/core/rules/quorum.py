"""Where approvals meet a run: what the next weight needs, what was given, and what a lost quorum takes away.

Gates for a raise, and one fact that lowers. `approvals` counts; here stands what the count is held against: the terms
that the run pinned and the rules in force, whichever ask more.
"""

from functools import wraps

from canary.api.reasons import PPM, Reason
from canary.api.run import Approval, CanaryRunStatus
from canary.api.safety import Strength
from canary.core.decision import Closed, Gate, Situation, change
from canary.core.rules import limits
from canary.core.rules.approvals import Electorate, Tally, counted, in_time, tally
from canary.core.telling.wording import share


def electorate_of(situation: Situation) -> Electorate | None:
    """Return whose word counts for this run; None where no safety policy asks for any."""
    safety = situation.safety
    if safety is None:
        return None
    return Electorate(
        record=situation.spec.change,
        digest=situation.spec.digest,
        rules=safety.rules.approvals,
        people=safety.people,
        may_approve=safety.may_approve,
    )


def recounted(situation: Situation) -> CanaryRunStatus:
    """Return the status with every approval judged anew: a right, a group or a name may have changed since."""
    electorate = electorate_of(situation)
    if electorate is None:
        return situation.status
    return change(situation.status, approvals=counted(situation.status.approvals, electorate))


def asked(situation: Situation) -> tuple[int, int]:
    """Return how many people must approve, and how many seniors among them."""
    terms = situation.spec.safety
    if situation.safety is None:
        return terms.approvals, terms.seniors
    rules = situation.safety.rules.approvals
    return max(terms.approvals, rules.count), max(terms.seniors, rules.senior)


def bypassed(situation: Situation) -> bool:
    """Tell whether a person broke the glass for this run, and its time is not over."""
    bypass = situation.status.bypass
    return bypass is not None and bypass.at <= situation.now < bypass.expires_at


def unless_bypassed(gate: Gate) -> Gate:
    """Return the gate, open while the run is bypassed."""

    @wraps(gate)
    def asked(situation: Situation) -> Closed | None:
        return None if bypassed(situation) else gate(situation)

    return asked


def cap_ppm(situation: Situation) -> int:
    """Return the largest weight that needs no approval."""
    if asked(situation) == (0, 0) or bypassed(situation):
        return PPM
    terms = situation.spec.safety.unapproved_max_ppm
    return min(terms, situation.safety.rules.exposure.unapproved_max) if situation.safety else terms


def usable(situation: Situation) -> list[Approval]:
    """Return the approvals that a raise may rest on: counted, in time, and their right was asked again."""
    safety = situation.safety
    if safety is None:
        return []
    return [
        each
        for each in situation.status.approvals
        if each.counts
        and in_time(each, safety.rules.approvals, situation.now)
        and safety.may_approve.get(each.requester, False)
    ]


def standing(situation: Situation) -> Tally:
    """Return what was granted and not taken away since, whether or not its time is over."""
    return tally(situation.status.approvals, asked(situation))


def approvals_suffice(situation: Situation) -> Closed | None:
    step, cap = situation.next_step, cap_ppm(situation)
    to_come = step.weight if step is not None else PPM
    if to_come <= cap:
        return None
    found = tally(usable(situation), asked(situation))
    if found.suffices:
        return None
    electorate = electorate_of(situation)
    text = found.missing(electorate) if electorate else "the safety policy that asked for approvals is gone"
    expired = len(standing(situation).given) > len(found.given)
    note = "; what expired, or whose right is being asked again, is not in it" if expired else ""
    return Closed(Reason.APPROVALS_MISSING, f"{share(to_come)} waits for approval: {text}{note}")


def findings_are_accepted(situation: Situation) -> Closed | None:
    """A known failure pattern refuses the change, or waits until a senior who counts accepts it by its id."""
    accepted = {name for each in usable(situation) if each.senior for name in each.accepts}
    findings = situation.spec.findings
    refused = [each for each in findings if each.strength is Strength.REFUSE]
    waiting = [each for each in findings if each.strength is Strength.APPROVE and each.id not in accepted]
    if not refused and not waiting:
        return None
    first, *others = [*refused, *waiting]
    text = f"{first.id}: {first.message}" + (f" (also {', '.join(e.id for e in others)})" if others else "")
    if not refused:
        ids = " ".join(f"--accept {each.id}" for each in waiting)
        text += f". A senior may accept what was found: `canary approve {ids}`"
    return Closed(Reason.PATTERN_REFUSED, text)


def cooled_down(situation: Situation) -> Closed | None:
    """The pause after a rollback is over, or people who know of it approved with a senior among them."""
    found = limits.cooling(situation)
    if found is None:
        return None
    ended_at, text = found
    fresh = tally([each for each in usable(situation) if each.at > ended_at], asked(situation))
    if fresh.given and fresh.suffices and any(each.senior for each in fresh.given):
        return None
    return Closed(Reason.LIMIT_REACHED, f"{text}; a new set of approvals with a senior ends it sooner")


def lost(situation: Situation) -> str:
    """Say whose word is gone on which the present weight rests; empty: none, or the weight needs none."""
    if situation.safety is None or situation.weight_ppm <= cap_ppm(situation):
        return ""
    if standing(situation).suffices:
        return ""
    why = next((each.why_not for each in situation.status.approvals if each.why_not), "an approval is gone")
    return f"{share(situation.weight_ppm)} is more than the approvals allow: {why}"
