"""The Python functions that a trace runs through, each told once."""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

from ..conformance.evidence import recorded_calls
from ..engine import FUNCTIONS
from ..engine.source import lines_of
from ..trace import MicroStep, Step
from ..trace.state import Place
from .glossary import TAG, kernel_link

_Span = tuple[str, int, int]  # a function: its name, its first line and its last one


class Sources:
    """Lines of code by number. The code itself takes a moment to find, so it is looked for when it is asked for."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._new: list[Step | MicroStep] = []  # whose code was not looked for yet
        self._places: list[tuple[int, int, int]] = []
        self._known: dict[str, int] = {}
        self._told: list[dict[str, Any]] = []
        self._texts: dict[str, int] = {}
        self._functions: dict[tuple[str, ...], int] = {}

    def number(self, thing: Step | MicroStep) -> int:
        """The number of the place that a step or micro-step begins at."""
        key = (thing.file, thing.line, thing.function, thing.source, thing.kernel_function)
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._new.append(thing)
        return self._numbers[key]

    def told(self) -> dict[str, list[Any]]:
        """By number, the `places`: a function, a line, and how it is `known`; the `functions`; and the `texts`, their lines."""
        for thing in self._new:
            known = self._known.setdefault(how_known(thing), len(self._known))
            self._places.append((self._function(thing), thing.line, known))
        self._new = []
        parts = {"texts": self._texts, "known": self._known}
        return {"places": self._places, "functions": self._told, **{name: [*part] for name, part in parts.items()}}

    def _function(self, thing: Step | MicroStep) -> int:
        first, text = function_text(thing.file, thing.line, thing.function, thing.source)
        key = (thing.file, thing.function, str(first), thing.kernel_function, text)
        if key not in self._functions:
            self._functions[key] = len(self._told)
            mirrors = not _put_in(thing)
            origin = f"{thing.kernel_file}, {thing.kernel_tag}" if thing.kernel_file and mirrors else ""
            # The same function may run on behalf of several of the kernel's.
            number = self._texts.setdefault(text, len(self._texts))
            made = {"name": thing.function, "file": thing.file, "first": first, "text": number}
            link = kernel_link(thing.kernel_file, thing.kernel_tag) if origin else ""
            self._told.append({**made, "kernel": thing.kernel_function * mirrors, "origin": origin, "link": link})
        return self._functions[key]


def how_known(thing: Place) -> str:
    """How the rule in a line is known: recorded so many times, only read, or no line of the recorded kernel at all."""
    if not thing.kernel_tag or thing.file.startswith(("vfiosim/engine/", "vfiosim/machine/")):
        return "a line of the simulator, not of the kernel"
    if _put_in(thing):
        return f"not Linux {TAG[1:]}: this function was put in the kernel's place"
    if thing.kernel_tag != TAG:
        return f"read in {thing.kernel_tag}, not recorded"
    recorded = recorded_calls(thing)
    if not recorded:
        return "read in the source, not recorded"
    return (
        f"{recorded} recorded calls ran through this line"
        if recorded > 1
        else "one recorded call ran through this line"
    )


def _put_in(thing: Place) -> bool:
    """Is this a line of a function that was put in place of one of the kernel's? A changed one has a name behind its file."""
    file = thing.file
    ours = not file.startswith(("vfiosim/kernel/", "vfiosim/engine/", "vfiosim/machine/")) or not file.endswith(".py")
    return ours or (thing.function in FUNCTIONS and thing.function != thing.kernel_function and thing.kernel_tag != "")


def function_text(file: str, line: int, name: str, source: str) -> tuple[int, str]:
    """The first line and the text of the function `name` that has this line; where it cannot be read, the line alone."""
    for lines in _texts(file):
        if 0 < line <= len(lines) and lines[line - 1].strip() == source:
            inside = [
                (end - first, first, end)
                for called, first, end in _spans_of(file, lines)
                if called == name and first <= line <= end
            ]
            if inside:
                _, first, end = min(inside)
                return first, _dedented("".join(lines[first - 1 : end]))
    return line, source


@lru_cache(maxsize=1024)
def _dedented(text: str) -> str:
    return textwrap.dedent(text).rstrip()


def _texts(file: str) -> list[list[str]]:
    """The lines of a file of a trace; a notebook cell has lost its name, and is looked for among all cells."""
    cells = reversed(linecache.cache) if file == "notebook cell" else ()
    return [linecache.getlines(name) for name in cells if "ipykernel_" in name] or [lines_of(file)]


_READ: dict[str, tuple[list[str], tuple[_Span, ...]]] = {}  # by file, its lines as they were read, and its functions


def _spans_of(file: str, lines: list[str]) -> tuple[_Span, ...]:
    """The functions of a file; of the same lines it need not be asked again."""
    if file not in _READ or _READ[file][0] is not lines:
        _READ[file] = lines, _spans("".join(lines))
    return _READ[file][1]


@cache
def _spans(text: str) -> tuple[_Span, ...]:
    try:
        body = ast.parse(text).body
    except SyntaxError:  # a cell with a line for IPython in it
        return ()
    return tuple(
        (node.name, min([node.lineno, *(one.lineno for one in node.decorator_list)]), node.end_lineno or node.lineno)
        for node in _functions(body)
    )


def _functions(body: Iterable[ast.AST]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions in some statements; to look for them in expressions too, as `ast.walk` does, takes ten times as long."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inside = getattr(node, part, ())
            yield from _functions(inside if isinstance(inside, list) else ())
