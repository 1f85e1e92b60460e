"""What a trapped call comes to, and what waits for its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

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

    `changed` tells at its end what it has written into its argument; `renumber` writes another number there for a new descriptor.
    """

    call: Call
    then: Callable[[Any], int | GoOn | bytes] = int
    shown: str = ""
    changed: Callable[[], str] = str
    renumber: Callable[[int, int], None] = lambda number, real: None

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
