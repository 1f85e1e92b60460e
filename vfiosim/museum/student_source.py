"""A student's version of a kernel function, from its text."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from .. import engine
from ..engine import FUNCTIONS
from ..engine.student_code import compiled
from ..uapi import Errno, KernelError

_NUMBERS = count(1)


@dataclass(frozen=True)
class StudentFunction:
    """A function of one's own that stands for the kernel function `name`."""

    name: str
    function: Callable[..., Any]
    text: str


def function_of_text(
    text: str, originals: Mapping[str, Callable[..., Any]], also: Iterable[Callable[..., Any]] = ()
) -> StudentFunction:
    """The one `async def` in a text, able to use the effects, each kernel function, and what the original or one of `also` can use.

    Raises ValueError if that is not what the text holds, PatchError for what kernel code must not have, each in one sentence.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} is no Python: {error.msg}") from None
    wanted = " or ".join(originals)
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.AsyncFunctionDef):
        raise ValueError(f"write one `async def` and nothing else, that of {wanted}")
    name = tree.body[0].name
    if name not in originals:
        raise ValueError(f"the function must keep its name, {wanted}; this one is called {name}")
    original = inspect.unwrap(originals[name])
    if list(inspect.signature(original).parameters) != [argument.arg for argument in tree.body[0].args.args]:
        raise ValueError(f"{name} takes {', '.join(inspect.signature(original).parameters)}, in this order")
    file = f"<your {name} {next(_NUMBERS)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # for those who show its lines
    # One that stands in another function, as a reader may write it, is no name of its module.
    modules = {name: vars(sys.modules[one.function.__module__]) for name, one in FUNCTIONS.items()}
    names = {name: module[name] for name, module in modules.items() if name in module}
    names |= {name: getattr(engine, name) for name in engine.__all__} | {"Errno": Errno, "KernelError": KernelError}
    for one in (*also, original):
        names |= inspect.unwrap(one).__globals__
    return StudentFunction(name, compiled(name, tree.body[0], file, names), text)
