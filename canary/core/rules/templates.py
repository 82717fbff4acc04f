"""Two pod templates side by side, read with care: containers by name, quantities, environments, paths of one's own.

Enter: raw objects as the API server stores them. Leaves: plain values to compare. Nothing here judges; what is absent
is empty. `change_patterns` and the patterns of one's own read changes through this.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from canary.api.change import ChangeRecord
from canary.core.telling.stored import entries, under

Json = Mapping[str, Any]
MAX_NESTING = 32
_NOT_ASKED = frozenset({"pod-template-hash"})  # what the cluster's controllers add
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)
}
_QUANTITY = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)([mkMGTPE]|[KMGTPE]i)?")
_STEP = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier change of the same workload."""

    template_hash: str
    change_id: str
    what: str
    why: str
    promoted: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change before it has any traffic, with what it is compared with."""

    new: Json
    """The pod template that is asked for."""
    old: Json
    """The one that serves."""
    deployment: Json = field(default_factory=dict[str, Any])
    """The Deployment's spec."""
    serving_pods: int = 0
    selectors: Sequence[Mapping[str, str]] = ()
    """Of the Services that send customers to it."""
    record: ChangeRecord = ChangeRecord()
    required: Sequence[str] = ("what", "why", "rollbackPlan")
    """Texts that the record must have."""
    metrics_port: str = ""
    template_hash: str = ""
    serving_hash: str = ""
    earlier: Sequence[Earlier] = ()
    taken_back: frozenset[str] = frozenset()
    """Hashes of templates that were taken back, less one that somebody asks to try again."""


def containers(template: Json, *, also_init: bool = True) -> dict[str, Json]:
    """Return the containers by their names; init containers, too, unless they are left out."""
    found = entries(template, "spec", "containers")
    init = entries(template, "spec", "initContainers") if also_init else ()
    return {str(each.get("name")): each for each in (*init, *found)}


def pairs(proposal: Proposal) -> Iterator[tuple[str, Json, Json]]:
    """Yield each container that is in both templates: its name, as it was, as it will be."""
    old, new = containers(proposal.old), containers(proposal.new)
    yield from ((name, old[name], new[name]) for name in old if name in new)


def repository(image: object) -> str:
    """Return an image's name without its tag and digest."""
    name = str(image or "").partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def quantity(value: object) -> float | None:
    """Read a quantity: 500m, 2Gi, 1.5; None where it is none."""
    found = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    return float(found[1]) * _SUFFIXES[found[2] or ""] if found else None


def environment(container: Json) -> dict[str, Any]:
    """Return the variables of a container: name -> its value, or where the value comes from."""
    return {
        str(each.get("name")): each.get("value", each.get("valueFrom", ""))
        for each in entries(container, "env")
    }


def names(found: Iterable[str], most: int = 4) -> str:
    """List some names in a sentence."""
    ordered = sorted(set(found))
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def values_at(root: object, path: str) -> dict[str, Any]:
    """Return what lies at a path such as containers[*].env[TAX].value, by its full path.

    `[*]` is every entry of a list, `[name]` the entry that is called so, `[0]` the first.
    """
    found: dict[str, Any] = {"": root}
    for key, inside in _STEP.findall(path):
        found = {
            f"{at}{step}": value
            for at, holder in found.items()
            for step, value in (_of_list(holder, inside) if not key else _of_map(holder, key))
        }
    return {at.removeprefix("."): value for at, value in found.items()}


def _of_map(holder: object, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(holder, Mapping) and key in holder:
        yield f".{key}", holder[key]


def _of_list(holder: object, inside: str) -> Iterator[tuple[str, Any]]:
    for index, each in enumerate(holder if isinstance(holder, list) else []):
        name = str(under(each, "name") or index)
        if inside in ("*", name, str(index)):
            yield f"[{name}]", each


def differences(old: Json, new: Json) -> list[str]:
    """Return the paths at which two templates differ, in order; never a value, as one may be secret."""
    before, after = Counter(_leaves(old)), Counter(_leaves(new))
    return sorted({path for path, _ in (*(before - after), *(after - before))})


def _leaves(value: Any, path: str = "", nesting: int = 0) -> Iterator[tuple[str, str]]:
    """Walk a JSON value; an entry of a list is called by its name, where it has one."""
    if nesting < MAX_NESTING and value and isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _NOT_ASKED:
                plain = key.isidentifier()
                yield from _leaves(
                    inner, f"{path}.{key}".lstrip(".") if plain else f"{path}[{key}]", nesting + 1
                )
    elif nesting < MAX_NESTING and value and isinstance(value, list):
        for index, inner in enumerate(value):
            name = inner.get("name", index) if isinstance(inner, Mapping) else index
            yield from _leaves(inner, f"{path}[{name}]", nesting + 1)
    elif value not in (None, {}, []):
        yield path, repr(value)
