"""The names in the text of a function: which get a value in it, which are asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def used(function: Function) -> dict[str, ast.Name]:
    """The names whose value a function asks for, each with its first use. Those of annotations do not count."""
    found: dict[str, ast.Name] = {}
    for node in evaluated(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.setdefault(node.id, node)
    return found


def bound(function: Function) -> set[str]:
    """The names that a function gives a value, its parameters among them."""
    given = function.args
    names = {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if one}
    for node in evaluated(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler | Function) and node.name:
            names.add(node.name)
    return names


def evaluated(function: Function) -> Iterator[ast.AST]:
    """What is done when a function is called: all but its decorators, its default values and its annotations.

    Default values of a function inside of it are of it.
    """
    todo: list[ast.AST] = list(reversed(function.body))
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, Function):
            todo += [*reversed(node.body), *node.args.defaults, *filter(None, node.args.kw_defaults)]
        else:
            skipped = node.annotation if isinstance(node, ast.AnnAssign) else None
            todo += reversed([child for child in ast.iter_child_nodes(node) if child is not skipped])
