"""Writes docs/reference/patterns.md from the tables of the product: what is looked for, what it does, what to do.

`python tests/core/pattern_reference.py > docs/reference/patterns.md`, or `make docs`.
"""

from collections.abc import Iterator

from canary.api.safety import Strength
from canary.core.rules.outcome_patterns import OUTCOMES
from canary.core.rules.patterns import CATALOGUE

WORDS = {
    Strength.REFUSE: "the change does not start",
    Strength.APPROVE: "it waits until a senior accepts it",
    Strength.NOTE: "it is noted",
}
HEAD = """\
# Known failure patterns

Generated from the program. What has broken shops before is looked for in a change before it gets any traffic, and
named in the verdict of one that was taken back.

A finding refuses the change, waits until a senior accepts it (`canary approve --accept KP-112`), or is noted. A
SafetyPolicy makes a pattern stricter (`patterns.refuse`, `patterns.approve`), never milder. Where no SafetyPolicy rules
there is no senior who could accept: what would wait is noted, and what is refused in every tier stays refused. A check
that cannot be made is a finding, too.

## Patterns of your own

A pattern of your own is data in a SafetyPolicy: a path in the pod template's spec, and what may not happen to it
(`changed`, `removed`, `lowered`, `equals`). `[*]` is every entry of a list, `[name]` the entry that is called so.

```yaml
apiVersion: canary-controller.io/v1alpha1
kind: SafetyPolicy
metadata: {name: tax}
spec:
  approvals: {count: 2, senior: 1, approverGroups: [devs], seniorGroups: [seniors]}
  patterns:
    own:
      - {id: TAX-1, path: "containers[*].env[TAX]", when: changed, strength: approve, says: ask the tax team}
```

## In a change
"""


def page() -> str:
    return "\n".join([HEAD, *_changes(), "## In an outcome", "", *_outcomes()])


def _changes() -> Iterator[str]:
    for pattern in CATALOGUE:
        yield from (f"### {pattern.id} {pattern.title}", "", pattern.why, "")
        same = pattern.others is pattern.tier_1
        elsewhere = "" if same else f"; elsewhere {WORDS[pattern.others]}"
        yield from (f"In {'every tier' if same else 'tier 1'} {WORDS[pattern.tier_1]}{elsewhere}.", "")
        yield from (f"What to do: {pattern.remedy}.", "")


def _outcomes() -> Iterator[str]:
    for pattern in sorted(OUTCOMES, key=lambda each: each.id):
        yield from (f"### {pattern.id} {pattern.title}", "", f"What to do: {pattern.remedy}.", "")


if __name__ == "__main__":
    print(page(), end="")
