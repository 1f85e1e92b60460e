"""What a trapped call comes to, and what waits for its end."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ..kernel import Unsupported
from ..machine import Call
from .fuse import FileRequest
from .notices import Notice
from .programs import HostProcess


@dataclass(frozen=True)
class GoOn:
    """The host's kernel does the call."""


@dataclass(frozen=True)
class Give:
    """The call returns a descriptor for a real file, open here under `fd`."""

    fd: int
    close_on_exec: bool


@dataclass
class Made:
    """A call of the simulated kernel, which may have to wait. `then` makes the answer of its result; the host may go on then.
    Bytes answer a request for a file.

    `changed` tells at its end what it has written into its argument; `renumber` writes another number there for a new descriptor,
    of which `numbers` are those that it has written.
    """

    call: Call
    then: Callable[[Any], int | GoOn | bytes] = int
    shown: str = ""
    changed: Callable[[], str] = str
    renumber: Callable[[int, int], None] = lambda number, real: None
    numbers: Callable[[], Iterable[int]] = tuple

    def __post_init__(self) -> None:
        self.shown = self.shown or self.call.shown


Outcome = int | GoOn | Give | Made
GO_ON: Final = GoOn()


@dataclass
class Pending:
    """A call that is under way, and whom it is to be told."""

    notice: Notice | FileRequest
    program: HostProcess
    made: Made

    def opened(self, result: Any) -> set[int]:
        """The simulated descriptors that are of this call, which came to `result`."""
        written: Iterable[int] = ()
        with suppress(OSError):  # no such memory: then nothing was written
            written = [*self.made.numbers()]
        return self.program.table.keys() & {result, *written}


def failed(name: str, error: Exception, fault: int) -> tuple[int, str]:
    """The errno of a call that raises this, and what is to be said of it; `fault` where it is our own, or not modelled."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, Unsupported):
        return error.errno, ""
    what = f": {error.sentence}" if isinstance(error, Unsupported) else f" failed: {type(error).__name__}: {error}"
    return fault, f"{name}{what}; the program is told {errno.errorcode[fault]}"
