"""The screen of `canary status`: one run in at most 80 columns, the answer first and the arithmetic after it.

Enters: a `StoredRun` and the `Scene`. Leaves: lines with their tones. The sentences come from `explain`; here is only
where they stand. Called by `canary status`, live or not, and by `canary watch`.
"""

import textwrap
from collections.abc import Sequence
from datetime import datetime

from canary.api.reasons import Phase
from canary.core.telling import wording
from canary.core.telling.explain import (
    Line,
    Scene,
    Tone,
    change_words,
    effect_text,
    evidence_words,
    lost_words,
    moments,
    next_sentence,
    phase_words,
    standing,
)
from canary.core.telling.stored import StoredRun
from canary.core.telling.wording import duration, seconds_between, share

COLUMNS = 80
LABEL = 7  # width of the word at the start of a line


def status_lines(run: StoredRun, scene: Scene) -> list[Line]:
    """Return the whole screen of one run."""
    place = f"{run.workload}  {run.namespace}" + (
        f"@{wording.plain(scene.cluster, 24)}" if scene.cluster else ""
    )
    head = Line(_both_ends(place, f"run {run.name}"))
    first = standing(run, scene)
    lines = [head, *(Line(part, first.tone) for part in textwrap.wrap(first.text, COLUMNS))]
    lines += [*_headline(run, scene), *_because(run), *_metrics(run)]
    lines += [*_steps(run), *_times(run), *_lost(run), *_labelled("next", next_sentence(run, scene))]
    return [Line(line.text[:COLUMNS].rstrip(), line.tone) for line in lines]


def _both_ends(left: str, right: str) -> str:
    return left[: COLUMNS - len(right) - 2].ljust(COLUMNS - len(right) - 2) + "  " + right


def _labelled(label: str, text: str, tone: Tone = Tone.PLAIN) -> list[Line]:
    """Return a labelled sentence, wrapped."""
    lead = label.ljust(LABEL) if len(label) < LABEL else f"{label}  "
    parts = textwrap.wrap(text, COLUMNS - len(lead)) or [""]
    return [Line((lead if index == 0 else " " * len(lead)) + part, tone) for index, part in enumerate(parts)]


def _headline(run: StoredRun, scene: Scene) -> list[Line]:
    start = run.at("exposedAt")
    text = f"{run.new} {phase_words(run.phase)}"
    ended = run.at("decidedAt") or run.at("finishedAt") if run.final or run.asked_ppm == 0 else None
    if start is not None:
        weight = run.top_ppm if run.asked_ppm == 0 else run.asked_ppm
        link = "after" if ended is not None else "for"
        text += f" {link} {duration(seconds_between(start, ended or scene.now))} at {share(weight)}"
    change = f"change: {change_words(run)}"
    if len(text) + 5 + len(change) <= COLUMNS:
        return [Line(f"{text}     {change}")]
    return [Line(text), Line(change)]


def _because(run: StoredRun) -> list[Line]:
    worst = run.worst
    if worst is None or worst.state != "crossed" or run.phase in (Phase.ABORTED, Phase.SUPERSEDED):
        return _labelled("because", run.message or "not said")
    since = run.at("analysis", "likelyStartAt")
    text = f"{worst.name} {effect_text(worst)}" + (f" since {since:%H:%M:%S}Z" if since else "")
    return _labelled("because", f"{text}  {evidence_words(run)}", Tone.DANGER)


def _metrics(run: StoredRun) -> list[Line]:
    if not run.measured:
        return []
    wide = min(17, max([8, *(len(effect.name) for effect in run.measured)]))
    effects = max([17, *(len(effect_text(effect)) for effect in run.measured)])
    limit = run.figure("limitLog10")

    def row(cells: Sequence[str]) -> str:
        name, seen, expected, effect, evidence, state = cells
        return f"  {name[:wide]:<{wide}}  {seen:<9} {expected:<9} {effect:<{effects}} {evidence:<12} {state}"

    lines = [Line(row(("metric", "canary", "expected", "effect (95 %)", "evidence", "state")))]
    for effect in run.measured:
        state = effect.state.upper() if effect.state == "crossed" else effect.state
        figures = (wording.count(effect.seen), wording.count(effect.expected), effect_text(effect))
        cells = (effect.name, *figures, wording.bar(effect.evidence_log10, limit), state)
        lines.append(Line(row(cells), _TONES.get(effect.state, Tone.PLAIN)))
    return lines


_TONES = {"crossed": Tone.DANGER, "suspect": Tone.CARE}


def _steps(run: StoredRun) -> list[Line]:
    begun, over = run.begun, run.final or run.phase == Phase.ROLLING_BACK
    words: list[str] = []
    for index, step in enumerate(run.steps):
        mark = ""
        if index < begun - 1 or (index == begun - 1 and run.phase in _PASSED):
            mark = " +"
        elif index == begun - 1:
            mark = " x" if over else " <"
        elif step.approval:
            mark = " ?"
        words.append(share(step.weight_ppm) + mark)
    weights = f"asked {share(run.asked_ppm)}, seen {share(run.seen_ppm)}"
    plan = " | ".join(words)
    if len(plan) + len(weights) + 3 + LABEL <= COLUMNS:
        return [Line(f"{'steps':<{LABEL}}{plan}   {weights}")]
    return [*_labelled("steps", plan), *_labelled("", weights)]


_PASSED = frozenset({Phase.PROMOTED, Phase.COMMITTING, Phase.RETURNING, Phase.BAKING})


def _times(run: StoredRun) -> list[Line]:
    words: list[str] = []
    before: datetime | None = None
    for name, at in moments(run):
        words.append(f"{wording.clock(at, before)} {name}")
        before = at
    return _labelled("time", " ".join(words)) if words else []


def _lost(run: StoredRun) -> list[Line]:
    if run.top_ppm == 0:
        return _labelled("lost", "none: it never had traffic")
    if run.figure("lost") is None:
        return _labelled("lost", "not known")
    return _labelled("lost", f"{lost_words(run)}; losing now: {_losing_now(run)}")


def _losing_now(run: StoredRun) -> str:
    if run.seen_ppm == 0 and run.asked_ppm == 0:
        return "none" if run.at("traffic", "zeroVerifiedAt") or run.final else "none, once verified"
    worst = run.worst
    suspect = worst is not None and worst.state in ("suspect", "crossed")
    return "probably" if suspect else "no sign of it"
