"""Which line of kernel code is asking? Answered for every traced effect, so it must be cheap."""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Coroutine
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType, CoroutineType, GeneratorType
from typing import Any, NamedTuple

from .functions import function_of

PACKAGE = Path(__file__).parents[2]
# Where Python keeps its own modules and those that were installed: nobody's own function is there.
LIBRARIES = (os.path.dirname(os.__file__), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), "<frozen ")


@lru_cache(maxsize=4096)
def _number(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


@cache
def _file(name: str) -> str:
    path = Path(name)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else str(path)


def lines_of(file: str) -> list[str]:
    """The lines of a file, as `Line.file` calls it; none where it cannot be read."""
    return linecache.getlines(_path(file)) if file else []


@cache
def _path(file: str) -> str:
    return str(PACKAGE / file)


class Line(NamedTuple):
    """A place in the code: which function, and the offset of the instruction in it. Becomes text only when shown."""

    code: CodeType
    offset: int

    @property
    def number(self) -> int:
        """The line number in `file`."""
        return _number(self.code, self.offset)

    @property
    def file(self) -> str:
        """The file, from the package's folder on: `vfiosim/kernel/vfio/group.py`; a notebook cell keeps its name."""
        return _file(self.code.co_filename)

    @property
    def function(self) -> str:
        """The name of the Python function, which is that of the kernel function that it mirrors."""
        return self.code.co_name

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


class Cursor:
    """Follows the innermost coroutine of a thread; walks the stack only as far as it changed."""

    __slots__ = ("_mirrored", "frame", "inner", "mirrored", "stack")

    def __init__(self, outermost: Coroutine[Any, Any, Any] | None) -> None:
        self.stack: list[Any] = [outermost]
        self.inner: Any = outermost
        self.frame: Any = None
        # The kernel function that runs in the innermost of them, and in each: its own, or that of which it is a helper.
        self.mirrored = function_of(outermost.cr_code) if isinstance(outermost, CoroutineType) else None
        self._mirrored = [self.mirrored]

    def place(self) -> Any:
        """The frame of the kernel function that waits for the pending effect."""
        if type(self.inner.cr_await) is not GeneratorType or self.frame is None:
            stack = self.stack
            while len(stack) > 1 and stack[-1].cr_frame is None:  # it has returned
                stack.pop()
                self._mirrored.pop()
            inner = stack[-1]
            while isinstance(inner.cr_await, CoroutineType):  # it has called
                inner = inner.cr_await
                stack.append(inner)
                self._mirrored.append(function_of(inner.cr_code) or self._mirrored[-1])
            self.inner = inner
            self.frame = inner.cr_frame
            self.mirrored = self._mirrored[-1]
        return self.frame

    def kernel(self) -> str:
        """The innermost mirrored kernel function, with its file and tag; "" outside of them."""
        self.place()
        return str(self.mirrored or "")

    def line(self) -> Line:
        """The line that waits for the pending effect."""
        frame = self.place()
        return Line(frame.f_code, frame.f_lasti)
