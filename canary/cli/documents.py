"""What `-o json` and `-o yaml` say, each under a versioned schema that only grows, and the forms made from it.

Enter: stored runs and rows. Leave: plain dictionaries whose first key is `schema`. Times are RFC 3339, weights parts
per million, effects ratios less one. `canary crd --schema NAME` prints the schemas, which stand in `schemas.py`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from canary.api.reasons import GROUP
from canary.cli.terminal import markdown
from canary.core.rules.outcome_patterns import outcome_of
from canary.core.telling.explain import (
    MAX_ATTEMPTS,
    Scene,
    effect_text,
    moments,
    next_actions,
    next_sentence,
    standing,
)
from canary.core.telling.overview import Row
from canary.core.telling.stored import Measured, StoredRun
from canary.core.telling.text import Surface, escaped

Document = dict[str, Any]


def titled(name: str, **fields: Any) -> Document:
    """Return a document of a schema."""
    return {"schema": f"{GROUP}/{name}/v1", **fields}


def status_document(run: StoredRun, scene: Scene) -> Document:
    """Return `canary status -o json`."""
    first = standing(run, scene)
    return titled(
        "status",
        namespace=run.namespace,
        workload=run.workload,
        run=run.name,
        phase=run.phase,
        standing=first.text,
        tone=first.tone.value,
        message=run.message,
        askedPpm=run.asked_ppm,
        seenPpm=run.seen_ppm,
        steps=[{"weightPpm": step.weight_ppm, "approval": step.approval} for step in run.steps],
        stepsBegun=run.begun,
        origin=run.origin,
        heldBy=run.held_by,
        times={name: at.isoformat() for name, at in moments(run)},
        metrics=[metric_document(effect) for effect in run.measured],
        verdict=verdict_document(run),
        next=next_sentence(run, scene),
    )


def verdict_document(run: StoredRun) -> Document:
    """Return the verdict as every machine surface has it."""
    worst = run.worst
    metric = metric_document(worst) if worst is not None else None
    limit, pattern = run.figure("limitLog10"), outcome_of(run)
    return titled(
        "verdict",
        run=run.name,
        outcome=run.phase,
        reason=run.reason,
        evidenceLog10=run.figure("evidenceLog10"),
        limitLog10=limit,
        metric=metric,
        baseline={"revision": run.old, "serving": run.seen_ppm < 1_000_000},
        lost={"orders": run.figure("lost"), "ci": [run.figure("lostLow"), run.figure("lostHigh")]},
        pattern={"id": pattern.id, "title": pattern.title} if pattern is not None else None,
        attempt=run.attempt,
        attemptsLeft=max(0, MAX_ATTEMPTS - run.attempt),
        nextActions=[
            {"verb": action.verb.value, "allowed": action.allowed, "because": action.because}
            for action in next_actions(run)
        ],
    )


def metric_document(effect: Measured) -> Document:
    return {
        "name": effect.name,
        "seen": effect.seen,
        "expected": effect.expected,
        "effect": effect.point,
        "ci": [effect.low, effect.high],
        "evidenceLog10": effect.evidence_log10,
        "state": effect.state,
    }


def list_document(rows: Sequence[Row]) -> Document:
    """Return `canary list -o json`."""
    return titled("list", items=[asdict(row) for row in rows])


def status_markdown(run: StoredRun, scene: Scene) -> list[str]:
    """Return the verdict as Markdown, for a step summary or a comment."""
    header = ("metric", "canary", "expected", "effect (95 %)", "state")
    rows = [
        (effect.name, _figure(effect.seen), _figure(effect.expected), effect_text(effect), effect.state)
        for effect in run.measured
    ]
    head = f"**{escaped(standing(run, scene).text, Surface.MARKDOWN)}**"
    text = f"{run.namespace}/{run.workload}, run {run.name}, {run.new}: {run.message}"
    what = escaped(text, Surface.MARKDOWN)
    return [head, "", what, "", *markdown(header, rows)]


def junit(run: StoredRun) -> list[str]:
    """Return a JUnit report: one case a metric; a metric that crossed is a failure."""
    failed = sum(effect.state == "crossed" for effect in run.measured)
    skipped = sum(effect.state == "missing" for effect in run.measured)
    name = _attribute(f"canary {run.namespace}/{run.workload} {run.name}")
    counts = f'tests="{len(run.measured)}" failures="{failed}" skipped="{skipped}"'
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuite name={name} {counts}>"]
    suite = _attribute(f"canary.{run.namespace}.{run.workload}")
    for effect in run.measured:
        case = f"  <testcase classname={suite} name={_attribute(effect.name)}"
        if effect.state == "crossed":
            message = _attribute(f"{effect_text(effect)}: {run.message}")
            lines.append(f"{case}><failure message={message}/></testcase>")
        else:
            lines.append(f"{case}><skipped/></testcase>" if effect.state == "missing" else f"{case}/>")
    return [*lines, "</testsuite>"]


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"


def run_name(run: str) -> str:
    """Return a run as `-o name` has it, as kubectl writes it; empty: there is none."""
    return f"canaryrun.{GROUP}/{run}" if run else ""


def _attribute(text: str) -> str:
    return f'"{escaped(text, Surface.XML)}"'
