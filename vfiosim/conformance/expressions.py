"""Values in a recording: integers, lists whose values are or-ed, and expressions over variables and constants."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from ..kernel import Unsupported
from .abi import constant

Variables = Mapping[str, int]
Expression = Callable[[Variables], int]

_BINARY: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.LShift: operator.lshift,
}
_UNARY: Final[Mapping[type[ast.unaryop], Callable[[int], int]]] = {ast.Invert: operator.inv, ast.USub: operator.neg}
_VARIABLE = "variable_"


def evaluate(value: Any, variables: Variables) -> int:
    """The number that a recording writes as `value`; a variable that is not set is -1.

    Raises ValueError for what is no value, Unsupported for a name that the ABI tables lack.
    """
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return compiled(value)(variables)
    if not isinstance(value, list):
        raise ValueError(f"not a value: {value!r}")
    result = 0
    for item in value:
        result |= evaluate(item, variables)
    return result


@lru_cache(maxsize=4096)
def compiled(text: str) -> Expression:
    """The expression as a function of the variables."""
    if re.fullmatch(r"\$\w+", text):
        name = text[1:]
        return lambda variables: variables.get(name, -1)
    try:
        tree = ast.parse(re.sub(r"\$(\w+)", rf"{_VARIABLE}\1", text.strip()), mode="eval")
    except SyntaxError:
        raise ValueError(f"not an expression: {text!r}") from None
    return _translate(tree.body, text)


def _translate(node: ast.expr, text: str) -> Expression:
    """A tree of closures; nothing but integers, names and the operators of the format."""
    match node:
        case ast.Constant(value=int(number)):
            return lambda variables: number
        case ast.Name(id=name) if name.startswith(_VARIABLE):
            name = name.removeprefix(_VARIABLE)
            return lambda variables: variables.get(name, -1)
        case ast.Name(id=name):
            known = constant(name)
            if known is None:
                raise Unsupported(f"the constant {name}")
            value = known
            return lambda variables: value
        case ast.UnaryOp(op=sign, operand=inner) if type(sign) in _UNARY:
            change, only = _UNARY[type(sign)], _translate(inner, text)
            return lambda variables: change(only(variables))
        case ast.BinOp(left=first, op=sign, right=second) if type(sign) in _BINARY:
            combine, left, right = _BINARY[type(sign)], _translate(first, text), _translate(second, text)
            return lambda variables: combine(left(variables), right(variables))
        case _:
            raise ValueError(f"not an expression: {text!r}")
