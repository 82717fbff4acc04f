"""A small evaluator of the Common Expression Language, for the rules of our own CRDs.

The text of an `x-kubernetes-validations` rule becomes a closure over its variables (`self`, `oldSelf`). What
the base language says about errors holds: `a || b` is true when either is, whatever the other one raised. A
function that is not known here is refused when the CRD is created, never skipped. Called by `schema.py`;
pure.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

Env = Mapping[str, Any]
Node = Callable[[Env], Any]

MAX_DEPTH = 60  # of nested expressions: a rule is a sentence, not a program


class CelError(Exception):
    """A rule that cannot be read, or cannot be evaluated on this value."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.\d+|\d+u?)|(?P<string>r?'(?:[^'\\]|\\.)*'|r?\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}]))"
)
_LITERALS = {"true": True, "false": False, "null": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@lru_cache(maxsize=512)
def compile_rule(text: str) -> Node:
    """Return the rule as a function of its variables; raise CelError for what is not known here."""
    parser = _Parser(_tokens(text))
    node = parser.expression()
    parser.end()
    return node


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise CelError(f"cannot read {text[at:]!r}")
        kind = found.lastgroup or ""
        tokens.append((kind, found[kind]))
        at = found.end()
    return tokens


def _binary(operator: str, left: Node, right: Node) -> Node:
    function = _OPERATORS[operator]
    return lambda env: function(left(env), right(env))


def _either(left: Node, right: Node, decisive: bool) -> Node:
    """Return `||` (decisive: True) or `&&` (False): one decisive side settles it, even past an error."""

    def evaluate(env: Env) -> bool:
        try:
            if left(env) is decisive:
                return decisive
        except CelError:
            if right(env) is decisive:
                return decisive
            raise
        return right(env)

    return evaluate


class _Parser:
    """Recursive descent, one method a level of precedence."""

    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise CelError(f"unexpected {self._tokens[self._at][1]!r}")

    def _peek(self) -> str:
        if self._at == len(self._tokens) or self._tokens[self._at][0] == "string":
            return ""
        return self._tokens[self._at][1]

    def _take(self, *signs: str) -> str:
        if self._peek() not in signs:
            return ""
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise CelError(f"{sign!r} is missing")

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CelError(f"nested deeper than {MAX_DEPTH}")
        chosen = self._or()
        if self._take("?"):
            test, yes = chosen, self.expression()
            self._need(":")
            no = self.expression()
            chosen = lambda env: yes(env) if test(env) else no(env)  # noqa: E731  a node is a closure
        self._depth -= 1
        return chosen

    def _or(self) -> Node:
        node = self._and()
        while self._take("||"):
            node = _either(node, self._and(), decisive=True)
        return node

    def _and(self) -> Node:
        node = self._level(0)
        while self._take("&&"):
            node = _either(node, self._level(0), decisive=False)
        return node

    def _level(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._level(level + 1)
        while sign := self._take(*_LEVELS[level]):
            node = _binary(sign, node, self._level(level + 1))
        return node

    def _unary(self) -> Node:
        if self._take("!"):
            inner = self._unary()
            return lambda env: not inner(env)
        if self._take("-"):
            inner = self._unary()
            return lambda env: -inner(env)
        return self._member(self._primary())

    def _member(self, node: Node) -> Node:
        while sign := self._take(".", "["):
            if sign == "[":
                node = _binary("[]", node, self.expression())
                self._need("]")
                continue
            name = self._name()
            node = self._call(name, node) if self._take("(") else _select(node, name)
        return node

    def _name(self) -> str:
        if self._at == len(self._tokens) or self._tokens[self._at][0] != "name":
            raise CelError("a name is missing")
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _primary(self) -> Node:
        if self._take("("):
            node = self.expression()
            self._need(")")
            return node
        if self._take("["):
            items = self._arguments("]")
            return lambda env: [item(env) for item in items]
        if self._at == len(self._tokens):
            raise CelError("the rule ends too soon")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            value = float(text) if "." in text else int(text.rstrip("u"))
            return lambda _: value
        if kind == "string":
            unquoted = _unquote(text)
            return lambda _: unquoted
        if kind != "name":
            raise CelError(f"unexpected {text!r}")
        return self._call(text, None) if self._take("(") else _variable(text)

    def _arguments(self, closing: str) -> list[Node]:
        arguments: list[Node] = []
        while not self._take(closing):
            arguments.append(self.expression())
            if not self._take(","):
                self._need(closing)
                break
        return arguments

    def _call(self, name: str, receiver: Node | None) -> Node:
        if name == "has" and receiver is None:
            return self._has()
        if name in _MACROS and receiver is not None:
            variable = self._name()
            self._need(",")
            body = self.expression()
            self._need(")")
            return _macro(_MACROS[name], receiver, variable, body)
        arguments = ([receiver] if receiver is not None else []) + self._arguments(")")
        if name not in _FUNCTIONS:
            raise CelError(f"the function {name} is not known here")
        function = _FUNCTIONS[name]
        return lambda env: _guarded(function, [argument(env) for argument in arguments])

    def _has(self) -> Node:
        """`has(a.b.c)`: the last selection asks whether the field is there; what precedes it must be."""
        start = self._at
        self.expression()
        end = self._at
        self._need(")")
        if end - start < 3 or self._tokens[end - 2][1] != ".":
            raise CelError("has() takes a field selection")
        owner = _Parser(self._tokens[start : end - 2]).expression()
        field = self._tokens[end - 1][1]
        return lambda env: field in _mapping(owner(env))


def _unquote(text: str) -> str:
    if text.startswith("r"):
        return text[2:-1]
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CelError("a field was selected of something that has none")
    return value


def _variable(name: str) -> Node:
    if name in _LITERALS:
        value = _LITERALS[name]
        return lambda _: value

    def evaluate(env: Env) -> Any:
        if name not in env:
            raise CelError(f"undeclared reference to {name!r}")
        return env[name]

    return evaluate


def _select(node: Node, name: str) -> Node:
    name = name.removeprefix("__").removesuffix("__") if name.startswith("__") else name

    def evaluate(env: Env) -> Any:
        owner = _mapping(node(env))
        if name not in owner:
            raise CelError(f"no such key: {name}")
        return owner[name]

    return evaluate


def _macro(
    function: Callable[[list[Any], Callable[[Any], Any]], Any], over: Node, name: str, body: Node
) -> Node:
    return lambda env: function(list(over(env)), lambda item: body({**env, name: item}))


def _guarded(function: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, re.error) as error:
        raise CelError(str(error)) from error


def _index(owner: Any, key: Any) -> Any:
    try:
        return owner[key]
    except (KeyError, IndexError, TypeError) as error:
        raise CelError(f"no such entry: {key}") from error


def _compare(operator: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: _guarded(operator, [left, right])


def _contains(item: Any, container: Any) -> bool:
    return _guarded(lambda: item in container, [])


def _divide(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return int(left / right)  # towards zero, as CEL does
    return left / right


def _duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"not a duration: {text!r}")
    return timedelta(seconds=sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts))


_LEVELS = (("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": _compare(lambda left, right: left < right),
    "<=": _compare(lambda left, right: left <= right),
    ">": _compare(lambda left, right: left > right),
    ">=": _compare(lambda left, right: left >= right),
    "in": _contains,
    "+": lambda left, right: _guarded(lambda: left + right, []),
    "-": lambda left, right: _guarded(lambda: left - right, []),
    "*": lambda left, right: _guarded(lambda: left * right, []),
    "/": lambda left, right: _guarded(_divide, [left, right]),
    "%": lambda left, right: _guarded(lambda: left % right, []),
    "[]": _index,
}
_MACROS: dict[str, Callable[[list[Any], Callable[[Any], Any]], Any]] = {
    "all": lambda items, test: all(test(item) for item in items),
    "exists": lambda items, test: any(test(item) for item in items),
    "exists_one": lambda items, test: sum(bool(test(item)) for item in items) == 1,
    "filter": lambda items, test: [item for item in items if test(item)],
    "map": lambda items, change: [change(item) for item in items],
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "size": len,
    "string": str,
    "int": int,
    "double": float,
    "duration": _duration,
    "timestamp": datetime.fromisoformat,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "startsWith": lambda text, prefix: text.startswith(prefix),
    "endsWith": lambda text, suffix: text.endswith(suffix),
    "contains": lambda text, part: part in text,
    "lowerAscii": lambda text: text.lower(),
    "upperAscii": lambda text: text.upper(),
    "trim": lambda text: text.strip(),
    "split": lambda text, separator: text.split(separator),
    "replace": lambda text, old, new: text.replace(old, new),
    "indexOf": lambda where, what: where.find(what) if isinstance(where, str) else where.index(what),
    "join": lambda parts, separator="": separator.join(parts),
    "sum": sum,
    "min": min,
    "max": max,
    "isSorted": lambda items: all(left <= right for left, right in pairwise(items)),
}
