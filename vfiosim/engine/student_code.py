"""Functions of a student's own in the place of kernel functions: they neither hang the machine nor hide anything from a search.

Such a function is taken as text, checked against the small language of `grammar.py`, together with the helpers that it calls, and
compiled anew with gates at each loop and call (`gates.py`). Names from outside are looked up once, when it is put into its place.

Whatever is wrong becomes a `PatchError` that names the function and the line. What is wrong with the text is told before anything
runs; anything else ends the call. The process lives on. An oops would leave the locks of its thread locked, as in the kernel; here
they are given back, each as an effect that the trace shows: the mistake is in the exercise and not in the kernel, and the next
attempt should find a machine that works. References that were taken stay taken, and `machine.check()` tells what happened.

Functions of this package (those of puzzles) pass the same check in a test, and run as they are.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
from collections import Counter
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from types import CodeType, CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any

from . import sync
from .awaits import forgotten
from .functions import FUNCTIONS, PatchError, Phase, Wrong, function_of
from .gates import GATES, admitted, is_students
from .grammar import refusals
from .lowering import lowered
from .operations import PERFORM
from .scopes import Function, bound, used
from .source import LIBRARIES, PACKAGE, Line

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

Place = tuple[CodeType, int]  # a function, and the instruction in it
_OURS = str(PACKAGE / "vfiosim")


def checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """What takes the place of a kernel function: one of this package as it is, one of a student's own compiled anew.

    Raises ValueError if no kernel function is named so, TypeError unless it is an `async def`, PatchError for what is refused.
    """
    if name not in FUNCTIONS:
        raise ValueError(f"there is no kernel function named {name!r} to replace")
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise TypeError(f"your {name} must be an `async def`, as every kernel function is")
    if is_students(function) or not _theirs(inspect.unwrap(function).__code__):
        return function
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        raise PatchError(f"your {name} is wrapped by something: write a plain `async def`, without a decorator")
    return _Taking(name).take(function)


def checked_all(functions: Mapping[str, Callable[..., Any]] | None) -> dict[str, Callable[..., Any]]:
    """What takes the place of each of these kernel functions, by name; raises what `checked` raises."""
    return {name: checked(name, function) for name, function in (functions or {}).items()}


def names_used(function: Callable[..., Any]) -> dict[str, Any]:
    """What the names from outside of a function stand for that was compiled here."""
    ours = ("__builtins__", "__name__", *GATES)
    return {name: value for name, value in function.__globals__.items() if name not in ours and value is not function}


def _theirs(code: CodeType) -> bool:
    return not code.co_filename.startswith((_OURS, *LIBRARIES))


# ---- from the text to what is run


def compiled(name: str, node: Function, file: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    """A function from its text, which may use these names. Raises PatchError for what is refused."""
    return _Taking(name).compile(node, file, names)


class _Taking:
    """Takes a function for the kernel function `name`, and the helpers that it calls."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._done: dict[FunctionType, FunctionType] = {}

    def take(self, function: FunctionType) -> FunctionType:
        """The same function, checked and compiled."""
        if function in self._done:
            return self._done[function]
        code = function.__code__
        node = _definition(code.co_filename, "".join(_lines(function)), code.co_name, code.co_firstlineno)
        if node is None:
            raise PatchError(
                f"the text of your function {code.co_name} cannot be found: define it in a cell or in a file, and run that again"
            )
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._admit(node, code.co_filename, default, "a default value")
        taken = self.compile(node, code.co_filename, _names(function), function)
        taken.__defaults__, taken.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
        taken.__module__, taken.__qualname__ = function.__module__, function.__qualname__
        return taken

    def compile(
        self, node: Function, file: str, names: Mapping[str, Any], function: FunctionType | None = None
    ) -> FunctionType:
        """From its text. `function`: what Python has made of it."""
        known = {**vars(builtins), **names}
        local = {one for scope in ast.walk(node) if isinstance(scope, Function) for one in bound(scope)}
        outside = {name: where for name, where in used(node).items() if name not in local}
        for name, where in outside.items():
            if name not in known and name != node.name:
                like = "".join(f", but there is `{one}`" for one in get_close_matches(name, known, 1))
                raise self._refused(node, where, file, f"uses `{name}`, and there is nothing of this name{like}")
        for at, what in refusals(node, known):
            raise self._refused(node, at, file, what)
        space: dict[str, Any] = {"__builtins__": {}, "__name__": str(names.get("__name__", "")), **GATES}
        exec(compile(ast.Module([lowered(node)], []), file, "exec"), space)
        taken: FunctionType = space[node.name]
        if function is not None:
            self._done[function] = taken
        for name, where in outside.items():
            if name != node.name or known.get(name) not in (function, None):
                space[name] = self._outside(known[name], name, node, where, file)
        for forgot, call in forgotten(node, known):
            raise self._refused(node, forgot, file, f"forgets an await before {call}")
        return taken

    def _outside(self, value: Any, name: str, node: Function, where: ast.AST, file: str) -> Any:
        if isinstance(value, FunctionType) and _theirs(value.__code__) and not is_students(value):
            return self.take(value)
        return self._admit(node, file, value, name, where)

    def _admit(self, node: Function, file: str, value: Any, name: str, where: ast.AST | None = None) -> Any:
        try:
            return admitted(value, name)
        except Wrong as wrong:
            raise self._refused(node, where or node, file, str(wrong)) from None

    def _refused(self, node: Function, where: ast.AST, file: str, what: str) -> PatchError:
        line = getattr(where, "lineno", node.lineno)
        return PatchError(f"your function {_called(node.name, self._name)} {what} (line {line}{_in_words(file)})")


def _names(function: FunctionType) -> dict[str, Any]:
    """What the names from outside of a function stand for, now."""
    names = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # it has no value as yet
            names.pop(name, None)
    return names


def _lines(function: FunctionType) -> list[str]:
    linecache.checkcache(function.__code__.co_filename)
    return linecache.getlines(function.__code__.co_filename, function.__globals__)


def _definition(file: str, text: str, name: str, line: int) -> Function | None:
    """Where a function of this name begins on that line: what stands there."""
    for node in _functions(text):
        first = min(one.lineno for one in (node, *node.decorator_list))
        if node.name == name and first == line:
            return node
    return None


@lru_cache(maxsize=64)
def _functions(text: str) -> tuple[Function, ...]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, Function))


# ---- who is to blame, and what becomes of the call


def blame(engine: Engine, thread: Thread, error: BaseException) -> PatchError | None:
    """What a student is told of an exception; None if no function of theirs can be the reason."""
    if isinstance(error, PatchError):
        return error
    wrong = isinstance(error, Wrong)
    what = str(error) if wrong else f"raises {type(error).__name__}" + (f": {error}" if str(error) else "")
    trace, places = error.__traceback__, []
    while trace is not None:
        if is_of_students(trace.tb_frame.f_globals):
            places.append((trace.tb_frame.f_code, trace.tb_lasti))
        trace = trace.tb_next
    if isinstance(error, RecursionError):  # where it began does not depend on how deep the interpreter was
        often = Counter(code for code, _ in places)
        places = [place for place in places if often[place[0]] > 1][:1] or places
    place = places[-1] if places else _waiting(thread)
    own = sorted(name for name, function in engine.patches.items() if is_students(function))
    if place is None:
        said = f"with a function of your own in the place of {', '.join(own)}, the kernel's code {what}"
        return PatchError(said) if own else None
    told = _told_of(engine, place, what)
    told.endless = isinstance(error, Wrong) and error.endless
    return told


def is_of_students(names: Mapping[str, Any]) -> bool:
    """Are these the global names of a function that was compiled here?"""
    return "@call" in names


def _told_of(engine: Engine, place: Place, what: str) -> PatchError:
    """A PatchError about a line of a function."""
    code, line = place[0], Line(*place)
    instead = [name for name, own in engine.patches.items() if inspect.unwrap(own).__code__ is code]
    within = code.co_qualname.partition(".<locals>.<")[0]  # a comprehension is a function of its own, of Python
    called = _called(within.rpartition(".")[2], *instead[:1])
    error = PatchError(f"your function {called} {what} (line {line.number}{_in_words(line.file)})")
    error.place = place
    return error


def _called(name: str, instead: str = "") -> str:
    return f"{name} (for {instead})" if instead not in ("", name) else name


def _in_words(file: str) -> str:
    """Where a line is that has this number; "" for the text of an editor, which is the only one that its reader sees."""
    return "" if file.startswith("<your ") else f" of {'a notebook cell' if 'ipykernel_' in file else file}"


def _waiting(thread: Thread) -> Place | None:
    """The innermost function of a student's own that waits for the effect that its thread has asked for."""
    found = None
    code: Any = thread.code
    while isinstance(code, CoroutineType) and code.cr_frame is not None:
        if is_of_students(code.cr_frame.f_globals):
            found = code.cr_code, code.cr_frame.f_lasti
        code = code.cr_await
    return found


def give_back(engine: Engine, thread: Thread, place: Place | None) -> list[str]:
    """Close the code of a thread that has come to a bad end, and unlock what it held; the names of the locks."""
    if thread.code is not None:
        thread.code.close()
    names = []
    for lock in reversed(thread.locks[:]):
        release = sync.release_shared if lock.readers else sync.release
        start = len(engine.journal) if engine.journal is not None else 0
        PERFORM[release](engine, thread, lock)
        if engine.journal is not None:
            code, offset = place or (thread.begin().cr_code, 0)  # type: ignore[attr-defined]
            said = (Phase.UNWIND, "The function has failed; the simulator gives {} back.", (lock,))
            entry = (thread, (release, lock), None, code, offset, start, len(engine.journal), said)
            engine.micro.append((*entry, function_of(code)))
        names.append(lock.path)
    return names
