"""Known failure patterns in an outcome: what a verdict looks like to people who have seen shops break.

Enters: a run as stored. Leaves: the first pattern that fits, by its number and title, or None. It names a verdict in
`explain`, pages and documents; it decides nothing. Pure, and without pydantic, so that `canary explain` stays quick.
"""

from collections.abc import Callable
from dataclasses import dataclass

from canary.api.reasons import Phase, Reason
from canary.core.telling.stored import Measured, StoredRun
from canary.core.telling.wording import seconds_between

NEARLY_ALL, TWICE = -0.9, 1.0  # as ratios less one
FIRST_MINUTE_SECONDS = 60.0
LARGE_STEP = 3  # a failure from this step on passed the smaller ones
# Any other monitor is one of the policy's own.
OWN = frozenset({"orders", "errors", "slow", "traffic", "site"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pattern of an outcome."""

    id: str
    title: str
    fits: Callable[[StoredRun], bool]
    remedy: str


def _effect(run: StoredRun, name: str) -> Measured | None:
    return next((effect for effect in run.measured if effect.name == name), None)


def _crossed(run: StoredRun, name: str) -> bool:
    effect = _effect(run, name)
    return effect is not None and effect.state == "crossed"


def _reasons(run: StoredRun) -> set[str]:
    return {run.reason, run.text("status", "analysis", "reason"), *(entry.reason for entry in run.timeline)}


def memory_leaks(run: StoredRun) -> bool:
    return any("memory" in effect.name and effect.state == "crossed" for effect in run.measured)


def own_count_worsened(run: StoredRun) -> bool:
    own = any(effect.name not in OWN and effect.state == "crossed" for effect in run.measured)
    return own and not _crossed(run, "orders") and not _crossed(run, "errors")


def retries_storm(run: StoredRun) -> bool:
    traffic = _effect(run, "traffic")
    return traffic is not None and traffic.point is not None and traffic.point >= TWICE


def pods_crash(run: StoredRun) -> bool:
    return Reason.PREPARATION_EXPIRED in _reasons(run) or (
        Reason.SIDE_NOT_READY in _reasons(run) and run.phase in (Phase.PAUSED, Phase.ROLLED_BACK)
    )


def confirmation_never_happens(run: StoredRun) -> bool:
    orders = _effect(run, "orders")
    lost = orders is not None and orders.point is not None and orders.point <= NEARLY_ALL
    return lost and _crossed(run, "orders") and not _crossed(run, "errors")


def first_minute_fails(run: StoredRun) -> bool:
    lived = seconds_between(run.at("exposedAt"), run.at("decidedAt"))
    return _crossed(run, "errors") and lived is not None and lived <= FIRST_MINUTE_SECONDS


def side_is_silent(run: StoredRun) -> bool:
    return Reason.SIDE_SILENT in _reasons(run)


def slice_hurts_the_site(run: StoredRun) -> bool:
    return run.phase == Phase.ROLLED_BACK and Reason.SITE_FELL in _reasons(run)


def both_sides_fall(run: StoredRun) -> bool:
    return run.phase in (Phase.DRAINING, Phase.PAUSED) and Reason.SITE_FELL in _reasons(run)


def large_share_fails(run: StoredRun) -> bool:
    return run.phase == Phase.ROLLED_BACK and run.begun >= LARGE_STEP


OUTCOMES: tuple[Outcome, ...] = (
    Outcome("KP-017", "the new version is silent while it is routed", side_is_silent,
            "see whether it serves at all: its counts stand still while requests go there"),
    Outcome("KP-018", "the old version worsens with the slice", slice_hurts_the_site,
            "look for what both share: a database, a cache, a queue, a limit"),
    Outcome("KP-019", "both versions fall: a cause that they share", both_sides_fall,
            "look at the site first; the change was drained, and may have no part in it"),
    Outcome("KP-013", "crash loop", pods_crash,
            "read the logs of the new version's pods: kubectl logs --previous"),
    Outcome("KP-015", "memory leak", memory_leaks,
            "take a heap profile under load before the next attempt"),
    Outcome("KP-012", "retry storm: twice the requests for the same orders", retries_storm,
            "look for a client that retries: timeouts, a changed status code, a missing back-off"),
    Outcome("KP-014", "requests succeed, confirmation never happens", confirmation_never_happens,
            "follow one order to its end: the answers look well, and nothing is confirmed"),
    Outcome("KP-011", "promises are broken while orders and errors look fine", own_count_worsened,
            "customers will notice later; compare what is promised with the old version"),
    Outcome("KP-016", "errors in a pod's first minute", first_minute_fails,
            "see whether readiness comes before it can serve: caches, connections, migrations"),
    Outcome("KP-020", "fails only above a certain share", large_share_fails,
            "smaller slices passed: look for what fills up, such as pools, caches, quotas"),
)  # fmt: skip
"""In the order in which they are asked: what explains the others stands first."""

JUDGED = frozenset({Phase.ROLLED_BACK, Phase.ROLLING_BACK, Phase.PAUSED, Phase.DRAINING})


def outcome_of(run: StoredRun) -> Outcome | None:
    """Return the pattern of a run that was taken back or stands still; None where none fits or all is well."""
    if run.phase not in JUDGED:
        return None
    return next((each for each in OUTCOMES if each.fits(run)), None)
