"""Where a CanaryPolicy was made looser: decided here for every field of its spec; a test asks that of each new one.

Enter: the text that people approved, and the one as written. Leave: the fields in which the written one judges less,
and the text that rules meanwhile. What is protected and what is counted is not measured: another is looser. Pure.
"""

from collections.abc import Callable
from functools import partial, reduce
from itertools import pairwise
from operator import gt, lt, ne
from typing import Any

from canary.api.policy import CanaryPolicySpec, Step
from canary.api.reasons import Mode, Origin

Looser = Callable[[Any, Any], bool]


def _gone(old: Any, new: Any) -> bool:
    """What was there is not, or is another; what was not there may come."""
    return old is not None and old != new


def _fewer(old: Any, new: Any) -> bool:
    return any(each not in new for each in old)


def _but(field: str, old: Any, new: Any) -> bool:
    """Tell whether more than this changed, or this became larger."""
    if old is None or new is None:
        return _gone(old, new)
    was = getattr(old, field)
    return getattr(new, field) > was or new.model_copy(update={field: was}) != old


def _scraped(old: Any, new: Any) -> bool:
    """A scrape that comes anew takes the counting from who did it before."""
    return (old is None) != (new is None) or _but("every", old, new)


def _untold(old: list[str], new: list[str]) -> bool:
    """Nobody named is everybody told."""
    return bool(new) and (not old or _fewer(old, new))


RULES: dict[str, Looser] = {
    "target": ne,
    "service": ne,
    "route": ne,
    "mode": lambda old, new: old is not new and new is Mode.OBSERVE,
    "tier": lt,
    "analysis.false_rollback": gt,
    "analysis.settle": lt,
    "analysis.min_watch": gt,
    "analysis.orders": ne,
    "analysis.requests": ne,
    "analysis.errors": _gone,
    "analysis.slow": partial(_but, "above"),
    "analysis.extra": _fewer,
    "source.scrape": _scraped,
    "source.prometheus": partial(_but, "every"),
    "source.witness": _gone,
    "bake.duration": gt,
    "bake.hold_back": gt,
    "prepare_within": lambda old, new: False,  # nobody meets the new version meanwhile
    "drain": gt,
    "on_call.sinks": _untold,
}
"""(old, new) -> is the new one looser? Each field, or all that lies in it, but `steps`: the plan is judged."""


def looser_fields(old: CanaryPolicySpec, new: CanaryPolicySpec) -> list[str]:
    """Return the fields, as written in a manifest, in which the new text judges less than the old one."""
    return [_as_written(path) for path in _looser(old, new)]


def _looser(old: CanaryPolicySpec, new: CanaryPolicySpec) -> list[str]:
    found = [path for path, looser in RULES.items() if looser(_at(old, path), _at(new, path))]
    if any(
        _leaps(old.resolved_steps(who), new.resolved_steps(who)) for who in (Origin.UNKNOWN, Origin.HUMAN)
    ):
        found.append("steps")
    return found


def policy_in_force(approved: CanaryPolicySpec | None, written: CanaryPolicySpec) -> CanaryPolicySpec:
    """Return the text that rules: what is written, with every part that is looser as it was approved."""
    looser = [] if approved is None else _looser(approved, written)
    if approved is None or not looser:
        return written
    parts = {path.partition(".")[0] for path in looser}
    mixed = written.model_copy(update={part: getattr(approved, part) for part in parts})
    return approved if _looser(approved, mixed) else mixed


def _leaps(old: list[Step], new: list[Step]) -> bool:
    """Tell whether the new plan rises further at once from anywhere, or asks less of a step than the old one."""
    for before, after in pairwise([0, *(step.weight for step in new)]):
        if after > min((step.weight for step in old if step.weight > before), default=before):
            return True
    kept = {step.weight: step for step in new}
    return any(_asks(step) and _eased(step, kept.get(step.weight)) for step in old)


def _asks(step: Step) -> bool:
    return step != Step(weight=step.weight)


def _eased(old: Step, new: Step | None) -> bool:
    if new is None or (old.approval and not new.approval) or new.min_orders < old.min_orders:
        return True
    within, now = old.max_duration, new.max_duration
    return within is not None and (now is None or now > within)


def _at(spec: CanaryPolicySpec, path: str) -> Any:
    return reduce(getattr, path.split("."), spec)


def _as_written(path: str) -> str:
    head, *rest = path.split("_")
    return head + "".join(word.capitalize() for word in rest)
