"""`canary explain`: a verdict as arithmetic, and on request computed again.

`--recompute` reads the detector's memory in the run's record and judges it anew, with the pinned policy: the verdict,
the evidence and the limit must come out equal. The samples themselves are not in the record; with `--samples FILE`
(the lines that `canary judge` reads) everything from the counts on is computed again.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canary.cli.arguments import access_of, add_access, add_output, add_switch, add_target, add_text, positive
from canary.cli.documents import titled, verdict_document
from canary.cli.exits import Exit
from canary.cli.session import Session
from canary.cli.targets import find
from canary.cli.terminal import Terminal
from canary.core.telling.arithmetic import explanation, timeline
from canary.core.telling.stored import StoredRun
from canary.core.telling.wording import power
from canary.errors import RefusedError

if TYPE_CHECKING:  # the detector and the models are imported only where something is recomputed
    from canary.core.detect.family import Settings

LN10 = 2.302585092994046
TOLERANCE = 1e-4  # the record keeps six digits of a power of ten


def configure(verb: str, parser: ArgumentParser) -> None:
    add_target(parser)
    add_text(parser, "--metric", "NAME", "another monitor than the one with most evidence")
    add_switch(parser, "--timeline", help="what happened when")
    add_switch(parser, "--recompute", help="judge the record anew and compare")
    add_text(parser, "--samples", "FILE", "recompute from these samples (see `canary judge`)")
    parser.add_argument(
        "--at", type=positive, metavar="SECONDS", help="with --samples: the verdict at this time"
    )
    add_output(parser, ("table", "json", "yaml"))
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    session = Session(access_of(given), terminal)
    found = find(session, given.target)
    if found.run is None:
        raise RefusedError(
            f"{found.namespace}/{found.workload} has had no run; nothing to explain", code="CAN-5002"
        )
    run = found.run
    _check_metric(run, given.metric)
    recomputed = _recompute(run, given) if given.recompute or given.samples else None
    entries = [_entry(entry) for entry in run.timeline]
    document = titled("explain", verdict=verdict_document(run), timeline=entries, recomputed=recomputed)
    lines = explanation(run, given.metric)
    lines += ["", *timeline(run)] if given.timeline else []
    lines += ["", *_comparison(recomputed)] if recomputed is not None else []
    terminal.show(given.output, document, lines)
    return Exit.FAILED if recomputed is not None and not recomputed["equal"] else Exit.DONE


def _check_metric(run: StoredRun, metric: str) -> None:
    names = [effect.name for effect in run.measured]
    if metric and metric not in names:
        raise RefusedError(
            f"no monitor {metric!r} in this run; it has: {', '.join(names) or 'none yet'}", code="CAN-2004"
        )


def _entry(entry: Any) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat() if entry.at else None,
        "phase": entry.phase,
        "reason": entry.reason,
        "message": entry.message,
        "weightPpm": entry.weight_ppm,
        "by": entry.by,
    }


def _recompute(run: StoredRun, given: Namespace) -> dict[str, Any]:
    """Return what the record says, what comes out of it now, and whether they agree."""
    computed = _from_samples(run, given) if given.samples else _from_memory(run)
    recorded = {
        "verdict": run.text("status", "analysis", "verdict"),
        "evidenceLog10": run.figure("evidenceLog10"),
        "limitLog10": run.figure("limitLog10"),
    }
    equal = all(_same(recorded[name], computed[name]) for name in recorded)
    return {"equal": equal, "recorded": recorded, "computed": computed}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE * max(1.0, abs(one))
    return one == other


def _settings(run: StoredRun) -> "Settings":
    from canary.api.read import Reading, parse_run
    from canary.core.detect.family import MonitorName
    from canary.core.plan import Floors, settings_of
    from canary.core.site import load

    spec = parse_run(run.raw, Reading.LENIENT)
    analysis = run.raw.get("status", {}).get("analysis", {})
    phi = {name: float(value) for name, value in (analysis.get("phi") or {}).items() if value}
    watched = any(effect.name == MonitorName.SITE for effect in run.measured)
    floors = (load(analysis.get("forecast", "")).floors or Floors()) if watched else None
    return settings_of(spec.policy, spec.steps, phi, site=floors)


def _from_memory(run: StoredRun) -> dict[str, Any]:
    from canary.core.detect.family import judge, load

    state_text = run.raw.get("status", {}).get("analysis", {}).get("state")
    if not state_text:
        raise RefusedError(
            "the record holds no detector memory: nothing had been judged yet", code="CAN-5006"
        )
    try:
        state = load(state_text)
    except ValueError as error:
        raise RefusedError(
            f"the detector's memory in the record cannot be read: {error}", code="CAN-5006"
        ) from error
    step = run.begun
    following = run.steps[step].weight_ppm if step < len(run.steps) else None
    judgement = judge(_settings(run), state, following)
    return _computed(judgement.verdict.value, judgement.evidence_log, judgement.limit_log, judgement.message)


def _from_samples(run: StoredRun, given: Namespace) -> dict[str, Any]:
    import json

    from canary.core.judge import verdicts

    last: dict[str, Any] | None = None
    try:
        with Path(given.samples).open(encoding="utf-8") as lines:
            for line in verdicts(_settings(run), lines):
                entry = json.loads(line)
                if given.at is not None and entry["t"] > given.at:
                    break
                last = entry
    except OSError as error:
        raise RefusedError(f"cannot read {given.samples}: {error.strerror}", code="CAN-2005") from error
    if last is None:
        raise RefusedError(f"{given.samples} holds no sample up to that time", code="CAN-2005")
    return _computed(last["verdict"], last["evidence_log"], last["limit_log"], last["reason"])


def _computed(verdict: str, evidence_log: float | None, limit_log: float, message: str) -> dict[str, Any]:
    evidence = None if evidence_log is None or evidence_log == float("-inf") else evidence_log / LN10
    return {"verdict": verdict, "evidenceLog10": evidence, "limitLog10": limit_log / LN10, "message": message}


def _comparison(recomputed: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for label, name in (("Recorded", "recorded"), ("Recomputed", "computed")):
        side = recomputed[name]
        evidence, limit = power(side["evidenceLog10"]), power(side["limitLog10"])
        lines.append(f"{label:<11}{side['verdict'] or 'no verdict'}, evidence {evidence}, limit {limit}")
    lines.append(
        f"{'':<11}{'equal' if recomputed['equal'] else 'NOT EQUAL: please report it with the record'}"
    )
    lines.append(f"{'':<11}The record keeps the detector's memory, not the samples: give them with --samples")
    return lines
