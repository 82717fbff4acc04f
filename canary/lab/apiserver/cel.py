"""A small evaluator of the Common Expression Language: as much of it as the rules of our own CRDs speak.

The text of an `x-kubernetes-validations` rule becomes a closure over its variables (`self`, `oldSelf`). Python's own
parser reads it: the two languages differ in the spelling of a few operators, which is put right token by token. What
the language says about errors holds: `a || b` is true when either is, whatever the other one raised. What is not known
here is refused when the CRD is created, never skipped. Called by `schema.py`; pure.
"""

import ast
import keyword
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

Env = Mapping[str, Any]
Node = Callable[[Env], Any]


class CelError(Exception):
    """A rule that cannot be read, or cannot be evaluated on this value."""


_TOKEN = re.compile(
    r"(?P<string>r?'(?:[^'\\]|\\.)*'|r?\"(?:[^\"\\]|\\.)*\")|(?P<name>[A-Za-z_]\w*)|(?P<sign>&&|\|\||!=|!|~)|."
)
_SIGNS = {
    "&&": " and ",
    "||": " or ",
    "!": "~",
    "~": "?",
}  # `~` binds like CEL's `!`, Python's `not` does not
_NAMES = {"true": "True", "false": "False", "null": "None", "in": "in"}

_OPERATORS: dict[type[ast.operator | ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_MACROS: dict[str, Callable[[Sequence[Any], Callable[[Any], bool]], Any]] = {
    "all": lambda items, test: all(map(test, items)),
    "exists": lambda items, test: any(map(test, items)),
    "exists_one": lambda items, test: sum(map(test, items)) == 1,
    "filter": lambda items, test: [item for item in items if test(item)],
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "size": len,
    "double": float,
    "replace": lambda text, old, new: text.replace(old, new),
}


@lru_cache(maxsize=512)
def compile_rule(text: str) -> Node:
    """Return the rule as a function of its variables; raise CelError for what is not known here."""
    try:
        return _node(ast.parse(_TOKEN.sub(_in_python, text).strip(), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise CelError(f"cannot read {text!r}: {error}") from error


def _in_python(token: re.Match[str]) -> str:
    if name := token["name"]:
        # A field may be called like a word of Python: `from` is read as `__from__`, Kubernetes' own way to escape.
        return _NAMES.get(name) or (f"__{name}__" if keyword.iskeyword(name) else name)
    return _SIGNS.get(token[0], token[0])


def _node(tree: ast.expr) -> Node:
    match tree:
        case ast.Constant(value=value):
            return lambda _: value
        case ast.Name(id=name):
            return lambda env: _entry(env, name)
        case ast.Attribute(value=owner, attr=name):
            return _selection(_node(owner), _unescaped(name))
        case ast.Subscript(value=owner, slice=key):
            return _applied(_entry, [_node(owner), _node(key)])
        case ast.List(elts=entries):
            items = [_node(entry) for entry in entries]
            return lambda env: [item(env) for item in items]
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return _applied(operator.not_, [_node(operand)])
        case ast.BoolOp(op=op, values=values):
            return _settled([_node(value) for value in values], decisive=isinstance(op, ast.Or))
        case ast.BinOp(left=left, op=op, right=right):
            return _applied(_operator(op), [_node(left), _node(right)])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            node = _node(left)
            for op, right in zip(ops, comparators, strict=True):
                node = _applied(_operator(op), [node, _node(right)])
            return node
        case ast.Call(func=func, args=args, keywords=[]):
            return _call(func, args)
        case _:
            raise CelError(f"{ast.unparse(tree)!r} is not known here")


def _call(function: ast.expr, arguments: Sequence[ast.expr]) -> Node:
    match function, arguments:
        case ast.Name(id="has"), [ast.Attribute(value=owner, attr=field)]:
            node, name = _node(owner), _unescaped(field)  # what precedes the last selection must be there
            return lambda env: name in _fields(node(env))
        case ast.Attribute(value=over, attr=macro), [ast.Name(id=name), body] if macro in _MACROS:
            return _macro(_MACROS[macro], _node(over), name, _node(body))
        case ast.Attribute(value=receiver, attr=name), _:
            return _function(name, [receiver, *arguments])
        case ast.Name(id=name), _:
            return _function(name, arguments)
        case _:
            raise CelError(f"{ast.unparse(function)!r} is no function")


def _function(name: str, arguments: Sequence[ast.expr]) -> Node:
    nodes = [_node(argument) for argument in arguments]
    if name not in _FUNCTIONS:
        raise CelError(f"the function {name} is not known here")
    return _applied(_FUNCTIONS[name], nodes)


def _operator(op: ast.operator | ast.cmpop) -> Callable[[Any, Any], Any]:
    if type(op) not in _OPERATORS:
        raise CelError(f"the operator {type(op).__name__} is not known here")
    return _OPERATORS[type(op)]


def _applied(function: Callable[..., Any], arguments: Sequence[Node]) -> Node:
    def evaluate(env: Env) -> Any:
        values = [argument(env) for argument in arguments]
        try:
            return function(*values)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise CelError(str(error)) from error

    return evaluate


def _settled(sides: Sequence[Node], decisive: bool) -> Node:
    """Return `||` (decisive: True) or `&&` (False): one decisive side settles it, even past an error."""

    def evaluate(env: Env) -> bool:
        failed: CelError | None = None
        for side in sides:
            try:
                if side(env) is decisive:
                    return decisive
            except CelError as error:
                failed = error
        if failed is not None:
            raise failed
        return not decisive

    return evaluate


def _macro(function: Callable[..., Any], over: Node, name: str, body: Node) -> Node:
    return lambda env: function(list(over(env)), lambda item: body({**env, name: item}))


def _selection(owner: Node, name: str) -> Node:
    return lambda env: _entry(_fields(owner(env)), name)


def _entry(owner: Any, key: Any) -> Any:
    try:
        return owner[key]
    except (LookupError, TypeError) as error:
        raise CelError(f"no such entry: {key}") from error


def _fields(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CelError("a field was selected of something that has none")
    return value


def _unescaped(name: str) -> str:
    return name[2:-2] if name.startswith("__") and name.endswith("__") else name
