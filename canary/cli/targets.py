"""What the user means by `checkout`, `shop/checkout`, `deploy/checkout`, `run/checkout-7f9c2`, or by nothing.

Enters: the text. Leaves: one workload with its newest run. Several candidates or none are refused with their names; a
name that is not in the context's namespace is looked for everywhere, unless a namespace was given.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from canary.cli.session import Session
from canary.core.telling.overview import newest
from canary.core.telling.stored import Raw, StoredRun, under
from canary.core.telling.wording import plain
from canary.errors import RefusedError

MAX_NAMED = 6
_KINDS = {"deploy": "deploy", "deployment": "deploy", "run": "run", "policy": "policy"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A target as written; an empty kind is any, an empty name the only run under way."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """One workload; without a run its changes have not been tried yet."""

    namespace: str
    workload: str
    run: StoredRun | None
    policy: Raw | None


def parse_target(text: str) -> Asked:
    """Read the text of a target. Raise RefusedError where it names nothing."""
    if not text:
        return Asked("", "", "")
    match text.split("/"):
        case [name]:
            return Asked("", "", name)
        case [kind, name] if kind in _KINDS and name:
            return Asked(_KINDS[kind], "", name)
        case [namespace, name] if namespace and name:
            return Asked("", namespace, name)
        case [namespace, kind, name] if kind in _KINDS and namespace and name:
            return Asked(_KINDS[kind], namespace, name)
        case _:
            raise RefusedError(
                f"{plain(text, 80)!r} names no workload. Write shop/checkout or run/NAME", code="CAN-2002"
            )


def find(session: Session, text: str) -> Found:
    """Return the one workload that is meant."""
    asked = parse_target(text)
    given = asked.namespace or (session.namespace if session.namespace_is_given else "")
    scopes: Sequence[str | None] = [given] if given else [session.namespace, None]
    known: list[Found] = []
    for scope in scopes:
        known = _workloads(session.runs(scope), session.policies(scope))
        found = _matching(asked, known)
        if len(found) > 1:
            raise _ambiguous(asked, found)
        if found:
            return found[0]
    raise _absent(asked, known, given)


def _workloads(runs: Iterable[StoredRun], policies: Iterable[Raw]) -> list[Found]:
    """Return every run as a candidate by its name, the newest of a workload first, and workloads without a run."""
    runs = list(runs)
    by_key = {
        (plain(under(raw, "metadata", "namespace")), plain(under(raw, "spec", "target", "name"))): raw
        for raw in policies
    }
    first = newest(runs)
    ordered = [*first, *(run for run in runs if run not in first)]
    found = [
        Found(run.namespace, run.workload, run, by_key.get((run.namespace, run.workload))) for run in ordered
    ]
    busy = {(run.namespace, run.workload) for run in runs}
    return found + [Found(*key, None, raw) for key, raw in by_key.items() if key not in busy]


def _matching(asked: Asked, known: Sequence[Found]) -> list[Found]:
    named = [item for item in known if _names(asked, item)]
    if asked.kind == "run" or not named:
        return named
    if not asked.name:
        active = [item for item in named if item.run is not None and not item.run.final]
        named = active or named
    firsts: dict[tuple[str, str], Found] = {}
    for item in named:
        firsts.setdefault((item.namespace, item.workload), item)
    return list(firsts.values())


def _names(asked: Asked, item: Found) -> bool:
    if not asked.name:
        return True
    run, policy = item.run, plain(under(item.policy, "metadata", "name"))
    by_run = run is not None and run.name == asked.name
    by_policy = asked.name in (policy, run.policy if run is not None else "")
    by_workload = item.workload == asked.name
    return {"run": by_run, "deploy": by_workload, "policy": by_policy}.get(
        asked.kind, by_run or by_policy or by_workload
    )


def _ambiguous(asked: Asked, found: Sequence[Found]) -> RefusedError:
    names = [f"{item.namespace}/{item.workload}" for item in found]
    shown = ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")
    what = f'"{asked.name}" matches' if asked.name else "no target was named, and there are"
    text = f"{what} {len(names)} workloads: {shown}. Name one: `canary status {names[0]}`"
    return RefusedError(text, code="CAN-2001")


def _absent(asked: Asked, known: Sequence[Found], given: str) -> RefusedError:
    where = f"in {given}" if given else "in any namespace"
    if not asked.name:
        return RefusedError(f"no workload is protected {where}. `canary list -A` shows all", code="CAN-2002")
    close = get_close_matches(asked.name, [item.workload for item in known], 1)
    hint = f"Did you mean {close[0]}?" if close else "`canary list -A` shows what there is"
    return RefusedError(
        f"no policy, Deployment or run is named {asked.name} {where}. {hint}", code="CAN-2002"
    )
