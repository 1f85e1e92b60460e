"""An await that somebody forgot in a function of their own: found by reading it, before anything runs."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any


def forgotten(function: ast.AST, names: Mapping[str, Any]) -> Iterator[tuple[ast.Call, str]]:
    """Calls of coroutines whose answer nobody awaits, each with its text. `names`: what names from outside stand for."""
    parents = {child: parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)}
    names = {**names, **{one.name: _helper for one in parents if isinstance(one, ast.AsyncFunctionDef)}}
    used = {node.id for node in parents if isinstance(node, ast.Name) and _is_taken(parents[node], node, names)}
    for node in parents:
        if (
            isinstance(node, ast.Call)
            and _is_awaitable(node.func, names)
            and not _is_awaited(node, parents, used, names)
        ):
            yield node, ast.unparse(node)


async def _helper() -> None:
    """Stands for any `async def` inside of a function."""


def _is_awaitable(node: ast.expr, names: Mapping[str, Any]) -> bool:
    target: Any = None
    if isinstance(node, ast.Name):
        target = names.get(node.id)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = names.get(node.value.id)
        target = getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
    if not callable(target) or isinstance(target, type):
        return False
    code = getattr(inspect.unwrap(target), "__code__", None)
    return code is not None and bool(code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE))


def _is_awaited(node: ast.AST, parents: dict[ast.AST, ast.AST], used: set[str], names: Mapping[str, Any]) -> bool:
    """Is it awaited, or handed on to somebody who may do so?"""
    parent = parents[node]
    if isinstance(parent, ast.Assign | ast.NamedExpr):
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        return any(not isinstance(target, ast.Name) or target.id in used for target in targets)
    if isinstance(parent, ast.Return):
        inner = parents[parent]
        while not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = parents[inner]
        return isinstance(inner, ast.FunctionDef)
    return _is_taken(parent, node, names)


def _is_taken(parent: ast.AST, node: ast.AST, names: Mapping[str, Any]) -> bool:
    """Does the code around it do something with it other than to look at it? Built-in functions and the kernel's only look."""
    if isinstance(parent, ast.Call):
        builtin = isinstance(parent.func, ast.Name) and hasattr(builtins, parent.func.id)
        return node is not parent.func and not builtin and not _is_awaitable(parent.func, names)
    return isinstance(parent, ast.Await | ast.keyword | ast.Lambda | ast.Tuple | ast.List | ast.Starred)
