"""Small named changes of kernel functions: the text of the original, patched."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
from collections.abc import Callable, Iterator, Sequence
from textwrap import dedent
from typing import Any

Function = Callable[..., Any]


def changed(function: Function, **names: Any) -> Callable[[Callable[[], None]], Function]:
    """Make a changed kernel function of an empty one, whose name it gets.

    The docstring of that says what is changed, and has the patch: paragraphs in which the lines with "- " are replaced by those
    with "+ "; those with two blanks only tell the place.

    * `function`: the original; a changed function can be changed again;
    * `names`: what stands for these names in it, for example changed helpers. What its new lines use is found in the module of the
      original and in that of the change.

    In traces it has the name of the original, and those who show lines of code find the changed ones.
    Raises ValueError for lines that the original does not have exactly once, SyntaxError where what comes out is no Python.
    """

    def make(named: Callable[[], None]) -> Function:
        original: Any = inspect.unwrap(function)
        old, first = inspect.getsourcelines(original)
        paragraphs = inspect.cleandoc(named.__doc__ or "").split("\n\n")
        patch = [one for one in paragraphs if re.search("^[-+] ", one, re.MULTILINE)]
        if not patch and not names:
            raise ValueError(f"{named.__name__} changes nothing")
        changes = [_docstring(old, "\n\n".join(one for one in paragraphs if one not in patch)), *patch] if patch else []
        new = list(_patched(old, dict(_place(old, change, named.__name__) for change in changes)))
        tree = ast.parse("".join(new))
        assert isinstance(tree.body[0], ast.AsyncFunctionDef)
        tree.body[0].decorator_list.clear()
        ast.increment_lineno(tree, first - 1)
        file = original.__code__.co_filename
        if patch:
            whole = linecache.getlines(file)
            whole = [*whole[: first - 1], *new, *whole[first - 1 + len(old) :]]
            file += f" ({named.__name__})"
            linecache.cache[file] = (sum(map(len, whole)), None, whole, file)
        made: dict[str, Any] = {}
        known = {**getattr(named, "__globals__", {}), **original.__globals__, **names}
        exec(compile(tree, file, "exec"), known, made)
        (result,) = made.values()
        result.__name__, result.__qualname__, result.__module__ = named.__name__, named.__qualname__, named.__module__
        return result  # type: ignore[no-any-return]

    return make


def _docstring(lines: Sequence[str], instead: str) -> str:
    """The patch for another docstring."""
    (function,) = ast.parse("".join(lines)).body
    assert isinstance(function, ast.AsyncFunctionDef)
    was = dedent("".join(lines[function.body[0].lineno - 1 : function.body[0].end_lineno])).splitlines()
    return "\n".join(
        [*(f"- {line}" for line in was), *(f"+ {line}" for line in f'"""{dedent(instead)}"""'.splitlines())]
    )


def _place(lines: Sequence[str], change: str, name: str) -> tuple[int, tuple[int, list[str]]]:
    """At which line a change begins, how many lines it replaces, and what stands there then."""
    parts = [(line[:1], line[2:]) for line in change.splitlines()]
    old = [text for sign, text in parts if sign != "+"]
    begin = len(old[0]) - len(old[0].lstrip())
    found = {}
    for number, line in enumerate(lines):
        indent = line[: len(line) - len(line.lstrip()) - begin]
        if [indent + one if one else one for one in old] == [one.rstrip() for one in lines[number : number + len(old)]]:
            found[number] = indent
    if len(found) != 1:
        raise ValueError(f"{name}: its original has the line {old[0].strip()!r} {len(found)} times, not once")
    ((number, indent),) = found.items()
    return number, (len(old), [f"{indent}{text}\n" if text else "\n" for sign, text in parts if sign != "-"])


def _patched(lines: Sequence[str], changes: dict[int, tuple[int, list[str]]]) -> Iterator[str]:
    number = 0
    while number < len(lines):
        length, instead = changes.get(number, (1, [lines[number]]))
        yield from instead
        number += length
