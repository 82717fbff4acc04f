"""Known failure patterns: what has broken shops before, looked for in a change before it gets any traffic.

Enter: a `Proposal` (both templates, the record, what came before), the tier and what rules it. Leave: findings, which
a run pins. A finding refuses the change, waits for a senior who accepts it by its id, or is noted. A check that breaks
is a finding, too. The table makes docs/reference/patterns.md.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from canary.api.safety import Finding, OwnPattern, Strength
from canary.core.rules import change_patterns as facts
from canary.core.rules.effective import Effective
from canary.core.rules.templates import Proposal, quantity, values_at
from canary.core.telling.wording import plain

REFUSE, APPROVE, NOTE = Strength.REFUSE, Strength.APPROVE, Strength.NOTE
MAX_FINDINGS, MAX_CLAUSE = 64, 512
BREAKS = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError)  # of an odd template


@dataclass(frozen=True, slots=True)
class Pattern:
    """One known failure pattern: what it does in tier 1 and elsewhere, and what people are told."""

    id: str
    finds: Callable[[Proposal], str]
    tier_1: Strength
    others: Strength
    why: str
    remedy: str

    @property
    def title(self) -> str:
        return self.finds.__name__.replace("_", " ")


CATALOGUE: tuple[Pattern, ...] = (
    Pattern("KP-101", facts.record_is_missing, REFUSE, NOTE,
            "Nobody can review, or take back at night, what nobody wrote down.",
            "write the annotations what, why and rollback-plan; `canary flag` does in CI"),
    Pattern("KP-102", facts.change_id_was_used, REFUSE, REFUSE,
            "A record that belongs to another change approves nothing that is in this one.",
            "give the change its own change-id and record"),
    Pattern("KP-103", facts.image_has_no_digest, REFUSE, NOTE,
            "A tag that is pushed anew runs bytes that nobody tested, on the next restart.",
            "name images by their digest"),
    Pattern("KP-104", facts.repository_is_new, APPROVE, NOTE,
            "An image from elsewhere is somebody else's build.",
            "check who builds and signs it"),
    Pattern("KP-105", facts.probe_is_gone_or_looser, APPROVE, NOTE,
            "Sick pods then go on serving customers, and a slice looks healthier than it is.",
            "keep the probe, or say in the record why it must be so"),
    Pattern("KP-106", facts.resources_were_cut, APPROVE, NOTE,
            "A slice at night fits into what the morning does not.",
            "cut in a change of its own, after measuring a peak"),
    Pattern("KP-107", facts.replicas_were_cut, APPROVE, NOTE,
            "A version that is judged with fewer pods than served is judged at another load.",
            "scale in a change of its own"),
    Pattern("KP-108", facts.rolls_without_old_pods, REFUSE, APPROVE,
            "The native roll at the end would leave too few pods to serve.",
            "use RollingUpdate with a maxUnavailable of 25% or less"),
    Pattern("KP-109", facts.labels_leave_the_service, REFUSE, REFUSE,
            "At the commit the Service would have no pods left.",
            "keep the labels that the Service selects"),
    Pattern("KP-110", facts.configuration_has_no_hash, REFUSE, NOTE,
            "Configuration of a fixed name changes under running pods, outside of every slice.",
            "name ConfigMaps and Secrets by a hash of their content, as kustomize generators do"),
    Pattern("KP-111", facts.service_account_changed, APPROVE, APPROVE,
            "Rights show on no dashboard until they lack or are abused.",
            "compare the rights of both accounts"),
    Pattern("KP-112", facts.migrates_without_a_way_back, REFUSE, APPROVE,
            "Traffic goes back in a second; a table that was dropped does not.",
            "split it in expand and contract, and write reversible or forward-only into the rollback plan"),
    Pattern("KP-113", facts.gains_power, REFUSE, APPROVE,
            "A pod with power over its node has power over its neighbours.",
            "leave the power out, or isolate the workload first"),
    Pattern("KP-114", facts.ends_in_haste, APPROVE, NOTE,
            "Requests under way are cut at every roll, also at a rollback.",
            "keep the grace period and preStop"),
    Pattern("KP-115", facts.environment_changed, APPROVE, NOTE,
            "On 2 March a value changed, the code did not: 120,000 orders.",
            "say in the record what the value does"),
    Pattern("KP-116", facts.command_changed, APPROVE, NOTE,
            "Another command is another program, whatever the image.",
            "say in the record what it starts"),
    Pattern("KP-117", facts.patience_doubled, APPROVE, NOTE,
            "Retries and long timeouts turn a slow dependency into a storm.",
            "raise in small steps, with a budget for retries"),
    Pattern("KP-118", facts.volume_is_gone_or_alone, REFUSE, APPROVE,
            "Two versions stand beside each other during a run; one volume may not bear that.",
            "move the data out of the pod first"),
    Pattern("KP-119", facts.containers_differ, APPROVE, NOTE,
            "A container more or less takes part in every request.",
            "change it apart from the application"),
    Pattern("KP-120", facts.metrics_port_is_gone, REFUSE, REFUSE,
            "Without counts nobody can judge the change; it would only be paused, blind.",
            "keep the port that the policy's source names, or change the policy first"),
    Pattern("KP-121", facts.spread_is_gone, APPROVE, NOTE,
            "All pods on one node or zone fall together.",
            "keep the constraint"),
    Pattern("KP-122", facts.was_rolled_back_before, REFUSE, REFUSE,
            "It lost orders once, and nothing in it is different.",
            "push a fix, or ask for `canary retry` with a reason"),
    Pattern("KP-123", facts.changes_many_things, APPROVE, NOTE,
            "Where many things change, nobody finds the one that broke it.",
            "split the change"),
    Pattern("KP-124", facts.texts_did_not_change, APPROVE, NOTE,
            "A record that was copied describes another change.",
            "write what this change does"),
)  # fmt: skip


def findings(change: Proposal, tier: int, ruling: Effective | None) -> list[Finding]:
    """Return what the catalogue and the policy's own patterns find, in their order.

    Where no safety policy rules there are no seniors to accept anything: what would wait for one is noted.
    """
    found = [*_of_catalogue(change, tier, ruling), *_own(change, ruling)]
    return found[:MAX_FINDINGS]


def _of_catalogue(change: Proposal, tier: int, ruling: Effective | None) -> Iterator[Finding]:
    for pattern in CATALOGUE:
        strength = _strength(pattern, tier, ruling)
        says, broken = _asked(pattern.finds, change)
        if says or broken:
            text = f"{says or broken}; {pattern.remedy}"
            yield Finding(
                id=pattern.id, strength=_held(strength, ruling) if broken else strength, message=text[:1024]
            )


def _asked(finds: Callable[[Proposal], str], change: Proposal) -> tuple[str, str]:
    """Return what a check says, or that it could not be made."""
    try:
        return plain(finds(change), MAX_CLAUSE), ""
    except BREAKS as error:
        name = finds.__name__.replace("_", " ")
        return "", plain(f"could not check whether {name} ({type(error).__name__}: {error})", MAX_CLAUSE)


def _strength(pattern: Pattern, tier: int, ruling: Effective | None) -> Strength:
    """A policy makes a pattern stricter, never milder."""
    own = pattern.tier_1 if tier == 1 and ruling is not None else pattern.others
    if ruling is None:
        return NOTE if own is APPROVE else own
    rules = ruling.spec.patterns
    if pattern.id in rules.refuse:
        return REFUSE
    return _held(own, ruling) if pattern.id in rules.approve else own


def _held(strength: Strength, ruling: Effective | None) -> Strength:
    return APPROVE if strength is NOTE and ruling is not None else strength


# -- patterns of one's own -----------------------------------------------------------------------------------------


def _own(change: Proposal, ruling: Effective | None) -> Iterator[Finding]:
    for pattern in ruling.spec.patterns.own if ruling is not None else ():
        where = _hits(pattern, change)
        if where:
            text = f"{pattern.says} ({where})"
            yield Finding(id=pattern.id, strength=pattern.strength, message=plain(text, 1024))


def _hits(pattern: OwnPattern, change: Proposal) -> str:
    """Return where the template's spec shows the pattern; "" where it does not."""
    old, new = (values_at(each.get("spec"), pattern.path) for each in (change.old, change.new))
    match pattern.when:
        case "equals":
            hits = (at for at, value in new.items() if _text(value) == pattern.value)
        case "removed":
            hits = (at for at in old if at not in new)
        case "lowered":
            hits = (at for at in old if at in new and _is_lower(new[at], old[at]))
        case _:
            hits = (at for at in {**old, **new} if old.get(at) != new.get(at))
    return next(hits, "")


def _text(value: object) -> str:
    """Return a value as people write it; of a variable of the environment its value."""
    if isinstance(value, dict):
        value = value.get("value")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_lower(new: object, old: object) -> bool:
    after, before = (quantity(_text(each)) for each in (new, old))
    return after is not None and before is not None and after < before
