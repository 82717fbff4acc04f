"""The words of the pages: first whether customers are safe, then what to do, then the numbers.

A call for action always carries a command that works with the controller dead: the abort of the CLI, the patch that
takes the new version out of the route by hand (from the stored coordinates), and the last resort. `pages` decides
what is told; here is how. Pure; every text that people wrote is plain and short before it gets here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from canary.api.reasons import PPM, TARGET_LOST, Opening, Reason
from canary.core.rules.outcome_patterns import outcome_of
from canary.core.telling import wording
from canary.core.telling.explain import change_words, effect_text, evidence_words, lost_words
from canary.core.telling.stored import Measured, Raw, StoredRun, entries, whole
from canary.core.telling.wording import duration, plain, seconds_between, share

MAX_COMMAND = 1_500  # characters: a command that does not fit is left out whole, a half one is dangerous
MAX_ROUTES = 8
_KUBECTL_KINDS = {"httproutes": "httproute"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where this controller runs, and where its texts point to."""

    cluster: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    """Name -> address; `{namespace}`, `{workload}` and `{run}` are filled in."""


@dataclass(frozen=True, slots=True)
class Telling:
    """One thing to tell: how loud, the machine's word, the headline, and what tells it from the last time."""

    opening: Opening
    reason: Reason
    headline: str
    again: str = ""
    detail: str = ""

    @property
    def state(self) -> str:
        return f"{self.reason.value}/{self.again}" if self.again else self.reason.value


def title(telling: Telling) -> str:
    """Return the first line: "CUSTOMERS SAFE - rolled back, nothing to do"."""
    if telling.opening is Opening.NONE:
        return telling.headline
    return f"{telling.opening.value} - {telling.headline}"


def body(run: StoredRun, telling: Telling, place: Place) -> str:
    """Return the other lines."""
    writers = {
        Opening.ACTION_NEEDED: _action,
        Opening.CUSTOMERS_SAFE: _safe,
        Opening.DECISION_NEEDED: _decision,
    }
    lines = [_subject(run, place), *writers.get(telling.opening, _note)(run, telling)]
    return "\n".join([*(line for line in lines if line), _pointers(run, place)])


def _subject(run: StoredRun, place: Place) -> str:
    where = f"{plain(place.cluster, 40)}/{run.namespace}" if place.cluster else run.namespace
    return f"{run.workload} {run.new} ({change_words(run)}) in {where}"


# -- customers safe ------------------------------------------------------------------------------------------------


def _safe(run: StoredRun, telling: Telling) -> Iterator[str]:
    if telling.reason in TARGET_LOST:
        yield f"{run.old} serves 100 % from pods of its own, until a person has decided"
        yield f"why: {run.message}"
        return
    if run.top_ppm == 0:
        yield f"it never had traffic; {run.old} serves 100 %"
        yield f"why: {run.message}"
        return
    yield _what_was_seen(run)
    decided, verified = run.at("decidedAt"), run.at("traffic", "zeroVerifiedAt")
    took = seconds_between(decided, verified)
    how = f", verified in the traffic {duration(took)} after the decision" if took is not None else ""
    loss = f"; {lost_words(run)} lost" if run.figure("lost") is not None else ""
    yield f"all traffic back on {run.old}{how}{loss}"
    yield f"why: {_why(run)}"


def _what_was_seen(run: StoredRun) -> str:
    """The numbers of the verdict: effect, interval, slice, and how long it took."""
    decided = run.at("decidedAt")
    after_start = seconds_between(run.at("exposedAt"), decided)
    after_break = seconds_between(run.at("analysis", "likelyStartAt"), decided)
    where = (
        f"with {share(run.top_ppm)} on {run.new}" if _site_fell(run) else f"in the {share(run.top_ppm)} slice"
    )
    parts = [f"{_effect(run.worst)} {where}"]
    parts += [f"{duration(after_start)} after start"] if after_start is not None else []
    parts += [f"{duration(after_break)} after it broke"] if after_break is not None and _crossed(run) else []
    return ", ".join(parts)


def _effect(worst: Measured | None) -> str:
    if worst is None or worst.point is None:
        return "no effect measured"
    change = wording.change(worst.point, worst.low, worst.high)
    low, high = (end.replace("..", "?") for end in (change.low, change.high))
    name = "the whole site's orders" if worst.name == "site" else worst.name
    return f"{name} {change.text} (95 % CI {low}..{high})"


def _crossed(run: StoredRun) -> bool:
    return run.worst is not None and run.worst.state == "crossed"


def _site_fell(run: StoredRun) -> bool:
    return _crossed(run) and run.worst is not None and run.worst.name == "site"


def _why(run: StoredRun) -> str:
    if not _crossed(run) or _site_fell(run):
        return run.message or "not said"
    worst = run.worst.name if run.worst else ""
    calm = [effect.name for effect in run.measured if effect.state == "clear" and _holds_zero(effect)]
    others = f"; {' and '.join(calm[:3])}: no change" if calm else ""
    pattern = outcome_of(run)
    known = f"; pattern {pattern.id}" if pattern is not None else ""
    return f"{worst}, {evidence_words(run)}{others}{known}"


def _holds_zero(effect: Measured) -> bool:
    """Tell whether the interval holds "no change"; an end that is open holds everything."""
    return (effect.low is None or effect.low <= 0.0) and (effect.high is None or effect.high >= 0.0)


# -- action needed -------------------------------------------------------------------------------------------------


def _action(run: StoredRun, telling: Telling) -> Iterator[str]:
    if telling.reason in TARGET_LOST and run.way_back_ppm == 0 and not run.final:
        yield f"{run.old} gets pods of its own, then all traffic; until then customers meet what is left"
    elif run.half_way_back:
        yield f"{run.old} serves from pods of its own, beside those of {run.workload} that run {run.new}"
    elif run.seen_ppm >= PPM:
        yield f"{run.new} serves everything"
    elif run.seen_ppm > 0 or run.asked_ppm > 0:
        yield f"it receives {share(run.seen_ppm)} (asked {share(run.asked_ppm)}); {run.old} serves the rest"
    else:
        yield f"it receives no traffic; {run.old} serves 100 %"
    yield telling.detail or run.message
    for index, command in enumerate(commands(run, telling.reason)):
        yield f"{'do this:' if index == 0 else 'or:     '} {command}"


def commands(run: StoredRun, reason: Reason) -> list[str]:
    """Return what a person can do, best first; each works with the controller dead."""
    target, kubectl = f"{run.namespace}/{run.workload}", f"kubectl -n {run.namespace}"
    if reason in TARGET_LOST:
        back = f"{kubectl} apply -f <the manifest of {run.old}>      # it gets its traffic back by itself"
        accept = f"canary bypass {target} --reason ...      # takes what was created anew as it stands"
        return [back, accept, f"canary status {target}"]
    if run.half_way_back:
        return [
            f"{kubectl} apply -f <the manifest of {run.old}>      # its pods come back",
            f"canary status {target}",
        ]
    if reason is Reason.GUARD_MISSING:
        return [
            "canary guard | kubectl replace -f -      # what was changed",
            "canary guard | kubectl apply --server-side -f -      # what is missing",
            f"canary abort {target} --now",
        ]
    if reason is Reason.AUDIT_WRITE_FAILED:
        return ["canary audit verify      # with the controller's --audit", f"canary status {target}"]
    if reason is Reason.UNPAUSED_BY_OTHERS:
        hold = f'{kubectl} patch deployment {run.workload} --type=merge -p \'{{"spec":{{"paused":true}}}}\''
        return [hold, f"canary status {target}"]
    if reason is Reason.COMMIT_STALLED or run.way_back_ppm > 0:
        # The old version's pods have begun to leave: weights alone take nothing back.
        return [
            f"{kubectl} describe deployment {run.workload}      # what keeps its pods",
            f"canary status {target}",
        ]
    return _ways_out(run, target, kubectl)


def _ways_out(run: StoredRun, target: str, kubectl: str) -> list[str]:
    """What takes the new version out of the traffic: our brake, the same by hand, and the last resort."""
    by_hand = [command for command in _patches(run) if len(command) <= MAX_COMMAND]
    side = run.text("status", "side", "name", longest=253)
    last = f"{kubectl} scale deployment/{side} --replicas=0      # last resort: its share then gets errors"
    return [f"canary abort {target} --now", *by_hand[:MAX_ROUTES], *([last] if side else [])]


def _patches(run: StoredRun) -> Iterator[str]:
    """One kubectl patch a route: stable gets a weight, the new version's entry goes."""
    routes: dict[tuple[str, str], list[Raw]] = {}
    for spot in entries(run.raw, "status", "traffic", "coordinates"):
        key = plain(spot.get("resource"), 64) or "httproutes", plain(spot.get("name"), 253)
        routes.setdefault(key, []).append(spot)
    side = run.text("status", "side", "name", longest=253)
    for (resource, name), spots in routes.items():
        steps = [step for spot in spots for step in _patch_steps(spot, side)]
        patch = json.dumps(steps, separators=(",", ":"))
        kind = _KUBECTL_KINDS.get(resource, resource)
        yield f"kubectl -n {run.namespace} patch {kind} {name} --type=json -p '{patch}'"


def _patch_steps(spot: Raw, side: str) -> Iterator[dict[str, object]]:
    if plain(spot.get("resource"), 64) == "endpointslices":
        yield {"op": "add", "path": "/endpoints", "value": []}
        return
    refs = f"/spec/rules/{whole(spot.get('rule'))}/backendRefs"
    canary, stable = whole(spot.get("canary")), whole(spot.get("stable"))
    if side:  # a list that was moved since refuses the patch, rather than losing the wrong backend
        yield {"op": "test", "path": f"{refs}/{canary}/name", "value": side}
    yield {"op": "add", "path": f"{refs}/{stable}/weight", "value": 1}
    yield {"op": "remove", "path": f"{refs}/{canary}"}


# -- decision needed, notes ----------------------------------------------------------------------------------------


def _decision(run: StoredRun, telling: Telling) -> Iterator[str]:
    safe = f"it receives {share(run.seen_ppm)}" if run.seen_ppm > 0 else f"{run.old} serves 100 %"
    yield f"{safe}; {run.message}" if run.message else safe
    target = f"{run.namespace}/{run.workload}"
    if telling.reason is Reason.APPROVALS_MISSING:
        wanted = f"{run.approvals} of {run.approvals_wanted} approvals"
        yield f"{wanted}; no machine's counts"
        yield f"do this: canary approve {target} --reason ...      or: canary reject {target} --reason ..."
        return
    goes_on = f"canary resume {target} --reason ..."
    yield f"do this: canary abort {target}" + (
        "" if run.asked_ppm > 0 and not run.held_by else f"      or: {goes_on}"
    )


def _note(run: StoredRun, telling: Telling) -> Iterator[str]:
    yield run.message
    orders = next((effect for effect in run.measured if effect.name == "orders"), None)
    if telling.reason is Reason.PROMOTED and orders is not None:
        counts = f"{wording.count(orders.seen)} orders of {wording.count(orders.expected)} expected"
        yield f"promoted with {counts}, {effect_text(orders)}; {evidence_words(run)}"


def _pointers(run: StoredRun, place: Place) -> str:
    named = [f"{name}: {address}" for name, address in links(run, place).items()]
    head = [f"audit {run.audit_head}"] if run.final and run.audit_head else []
    return "   ".join([f"canary explain {run.namespace}/{run.name}", *named, *head])


def links(run: StoredRun, place: Place) -> dict[str, str]:
    """Return the addresses of this run's report, runbook and so on."""
    filled = {"{namespace}": run.namespace, "{workload}": run.workload, "{run}": run.name}
    found: dict[str, str] = {}
    for name, address in list(place.links.items())[:8]:
        for word, value in filled.items():
            address = address.replace(word, value)
        found[plain(name, 32)] = plain(address, 512)
    return found


def facts(run: StoredRun) -> dict[str, str]:
    """Return the numbers of the text by their names; what is not known is left out."""
    worst = run.worst
    analysis = {
        name: run.figure(name) for name in ("lost", "lostLow", "lostHigh", "evidenceLog10", "limitLog10")
    }
    named: dict[str, object] = {
        "origin": run.origin,
        "revision": run.new,
        "baseline": run.old,
        "phase": run.phase,
        "slicePpm": run.top_ppm,
        "observedPpm": run.seen_ppm,
        "metric": worst.name if worst else None,
        "effect": worst.point if worst else None,
        "effectLow": worst.low if worst else None,
        "effectHigh": worst.high if worst else None,
        **analysis,
    }
    found = {name: plain(str(value), 64) for name, value in named.items() if value is not None}
    return found | ({"auditHead": run.audit_head} if run.audit_head else {})
