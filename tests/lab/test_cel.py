"""The rules of our CRDs: what the evaluator says, checked against the language's own definitions."""

import pytest

from canary.api.crd import crds
from canary.lab.apiserver.cel import CelError, compile_rule
from canary.lab.apiserver.schema import refuse_unknown_rules

SELF = {
    "steps": [{"weight": 1}, {"weight": 5}],
    "name": "checkout",
    "tags": ["a", "b"],
    "limits": {"cpu": 2, "from": 1},
    "flag": True,
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("1 + 2 * 3 == 7", True),
        ("(1 + 2) * 3 == 9", True),
        ("!false || false", True),
        ("!self.flag == false", True),
        ("(1 == 2) == (2 == 1)", True),
        ("1 < 2 == self.flag", True),
        ("self.steps.all(s, s.weight > 0)", True),
        ("self.steps.exists(s, s.weight > 4)", True),
        ("self.steps.exists_one(s, s.weight > 0)", False),
        ("self.steps.filter(s, s.weight > 1).size() == 1", True),
        ("size(self.name) == 8", True),
        ("double('2.5%'.replace('%', '')) == 2.5", True),
        ("'it\\'s' == \"it's\"", True),
        ("'a' in self.tags && !('c' in self.tags)", True),
        ("'cpu' in self.limits", True),
        ("self.limits['cpu'] == 2", True),
        ("self.limits.from < 2", True),
        ("has(self.limits.from) && has(self.limits.cpu) && !has(self.limits.memory)", True),
        ("!has(self.missing) || self.missing.deeper == 1", True),
        ("self.missing == 1 || self.flag", True),
        ("self.flag && self.tags[1] == 'b'", True),
        ("!(self.missing == 1 && !self.flag)", True),
        ("self.steps.all(s, self.steps.exists(t, t.weight >= s.weight))", True),
    ],
)
def test_an_expression_has_its_value(rule: str, expected: bool) -> None:
    assert compile_rule(rule)({"self": SELF}) is expected


@pytest.mark.parametrize(
    "rule",
    [
        "self.missing == 1",
        "self.flag && self.missing == 1",
        "self.tags[9] == 'a'",
        "self.name < 1",
        "self.name + 1 == 1",
        "double(self.name) > 1.0",
    ],
)
def test_what_has_no_value_is_an_error(rule: str) -> None:
    with pytest.raises(CelError):
        compile_rule(rule)({"self": SELF})


@pytest.mark.parametrize(
    "rule",
    [
        *(
            "",
            "self.",
            "(1",
            "1 +",
            "unknown(1)",
            "has(self)",
            "self.steps.all(s)",
            "a b",
            "'open",
            "(" * 300,
        ),
        *(
            "1 if self else 2",
            "not self",
            "~self",
            "2 ** 2 == 4",
            "f'{self}' == ''",
            "(x := 1) == 1",
            "(1, 2) == 1",
        ),
        *("self.name.upper()", "lambda: 1", "size(obj=self)", "1 < 2 is true", "self.flag ? 1 : 2"),
    ],
)
def test_what_cannot_be_read_is_refused_before_it_is_used(rule: str) -> None:
    with pytest.raises(CelError):
        compile_rule(rule)


def test_every_rule_of_our_own_definitions_can_be_evaluated() -> None:
    for definition in crds():
        refuse_unknown_rules(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
