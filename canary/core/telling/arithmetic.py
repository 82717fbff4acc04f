"""The text of `canary explain`: a verdict as arithmetic that a reader can follow with a pencil.

Enters: a `StoredRun`. Leaves: labelled lines: what was decided, which question the numbers answer, the numbers, what it
was not, and on request what happened when. Pure; only figures of the record are used, none is made up.
"""

import textwrap
from datetime import datetime

from canary.core.rules.outcome_patterns import outcome_of
from canary.core.telling import wording
from canary.core.telling.explain import change_words, effect_text, evidence_words, lost_words, phase_words
from canary.core.telling.stored import Measured, StoredRun, entries, under

COLUMNS = 80
LABEL = 11

_QUESTIONS = {
    "orders": "do requests to {new} become orders as often as on {old}?",
    "orders_by_weight": "does {new} bring the orders that its share of the traffic should?",
    "errors": "do requests to {new} fail more often than on {old}?",
    "slow": "is {new} slow more often than {old}?",
    "traffic": "do as many requests reach {new} as its weight asks?",
    "site": "does the whole shop take the orders that were forecast?",
}


def explanation(run: StoredRun, metric: str = "") -> list[str]:
    """Return the verdict as arithmetic; `metric` chooses another monitor than the one with the most evidence."""
    chosen = next((effect for effect in run.measured if effect.name == metric), _telling(run))
    lines = _labelled("Decision", _decision(run))
    if chosen is not None:
        question = _QUESTIONS.get(chosen.name, f"does {chosen.name} per request get worse with {{new}}?")
        lines += _labelled("Question", question.format(new=run.new, old=run.old))
        lines += _evidence(run, chosen)
        lines += _labelled("Not this", _others(run, chosen))
    else:
        lines += _labelled("Evidence", "none: no look at both versions is on record")
    if run.top_ppm:
        lines += _labelled("Lost", lost_words(run))
    pattern = outcome_of(run)
    if pattern is not None:
        lines += _labelled("Known", f'pattern {pattern.id} "{pattern.title}": {pattern.remedy}')
    if evidence := _origin(run):
        lines += _labelled("Origin", f"{change_words(run)}; {evidence}")
    phi = under(run.raw, "status", "analysis", "phi")
    return lines + (_labelled("Noise", _noise(run, phi)) if isinstance(phi, dict) and phi else [])


def _origin(run: StoredRun) -> str:
    """Return the evidence that decides the origin: the first that says what the whole amounts to."""
    found = [
        each for each in entries(run.raw, "spec", "change", "evidence") if each.get("says") == run.origin
    ]
    texts = (
        [wording.plain(found[0].get(name), 160) for name in ("level", "source", "detail")] if found else []
    )
    return f"{texts[0]}: {texts[1]}, {texts[2]}" if found else ""


def _telling(run: StoredRun) -> Measured | None:
    """Return the monitor with the most evidence; where none speaks against the new version, that of the orders."""
    worst = run.worst
    if worst is not None and (worst.state != "clear" or (worst.evidence_log10 or 0.0) > 0.0):
        return worst
    return next((effect for effect in run.measured if effect.name == "orders"), worst)


def _labelled(label: str, text: str) -> list[str]:
    parts = textwrap.wrap(text, COLUMNS - LABEL) or [""]
    return [(label if index == 0 else "").ljust(LABEL) + part for index, part in enumerate(parts)]


def _decision(run: StoredRun) -> str:
    decided = run.at("decidedAt")
    if decided is not None:
        cause = next((entry for entry in reversed(run.timeline) if entry.phase == run.phase), None)
        reason = cause.reason if cause else run.reason
        return f"{phase_words(run.phase)} at {_time(decided)}, fact {reason}: {run.message}"
    if run.final:
        return f"{phase_words(run.phase)}: {run.message}"
    verdict = run.text("status", "analysis", "verdict") or "none yet"
    said = run.text("status", "analysis", "message") or run.message
    return f"under way ({run.phase}), verdict {verdict}: {said}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 100_000}Z"


def _evidence(run: StoredRun, effect: Measured) -> list[str]:
    seen, expected = wording.count(effect.seen), wording.count(effect.expected)
    whence = "forecast" if effect.name == "site" else f"expected of as many requests on {run.old}"
    lines = _labelled("Evidence", f"{effect.name}: {seen} seen, {expected} {whence}")
    lines += _labelled("", f"effect {effect_text(effect)}, with 95 % limits for this one look")
    since = run.at("analysis", "likelyStartAt")
    if since is not None:
        lines += _labelled("", f"it probably began at {_time(since)}")
    own = wording.power(effect.evidence_log10)
    return lines + _labelled("", f"this monitor {own}; all together {evidence_words(run)}, {_promise(run)}")


def _promise(run: StoredRun) -> str:
    limit = run.figure("limitLog10")
    if limit is None:
        return "no limit on record"
    return f"which is at most 1 false rollback in {10**limit:,.0f} healthy runs"


def _others(run: StoredRun, chosen: Measured) -> str:
    others = [effect for effect in run.measured if effect.name != chosen.name]
    if not others:
        return "nothing else was measured"
    return "; ".join(
        f"{effect.name} {effect_text(effect)} ({effect.state})"
        if effect.state != "missing"
        else f"{effect.name}: no data"
        for effect in others
    )


def _noise(run: StoredRun, phi: dict[str, object]) -> str:
    figures = ", ".join(f"{wording.plain(name, 24)} {wording.plain(value, 8)}" for name, value in phi.items())
    assumed = under(run.raw, "status", "analysis", "phiAssumed") is not False
    return f"variance against chance alone, {'assumed' if assumed else 'measured'}: {figures}"


def timeline(run: StoredRun) -> list[str]:
    """Return what happened, oldest first, a table that is as wide as it has to be."""
    rows = [
        [
            _time(entry.at) if entry.at else "?",
            entry.phase,
            wording.share(entry.weight_ppm),
            entry.reason,
            entry.message + (f" (by {entry.by})" if entry.by else ""),
        ]
        for entry in run.timeline
    ]
    return (
        wording.table([["TIME", "PHASE", "SLICE", "REASON", "WHAT"], *rows])
        if rows
        else ["nothing is on record"]
    )
